"""The index on disk: one writer, many readers, damage and repair."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import damage, forbid
from stores import DIM, METADATA, image_ids, paths, put, row

from clipsearch.errors import CatalogueDamaged, IndexDamaged, IndexOutdated, IndexTooNew, IndexUnusable, NoIndex
from clipsearch.images.found_file import FoundFile
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store import catalogue, database, schema
from clipsearch.store.catalogue import CATALOGUE, Offline, Store
from clipsearch.store.outdated import read_outdated
from clipsearch.store.verify import repair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.create(folder, "a model", DIM) as made:
        yield made


# ------------------------------------------------------------------------------------------ opening


def test_what_was_written_is_read_again(folder: Path) -> None:
    rules = Rules(hidden=True, follow_links=True, any_name=True, exclude=("*.tmp", "ä\udcff"), raw=False, video=False)
    with Store.create(folder, "a model", DIM) as store:
        root = store.folders.add(b"/photos", rules)
        image_id = store.images.add(content_hash(b"one"), METADATA, row(1))
        store.photos.put(root, FoundFile(b"a/one.jpg", 3, 12345678901234567), image_id, None)
        store.photos.put(root, FoundFile(b"bad.jpg", 5, 6), None, "not an image")
        store.commit()
    with Store.open(folder) as store:
        assert (store.model, store.dim) == ("a model", DIM)
        assert store.roots() == [root]
        [photo] = store.photos_of([image_id])
        assert (photo.file, photo.size, photo.mtime_ns) == (b"/photos/a/one.jpg", 3, 12345678901234567)
        assert (photo.content, photo.metadata) == (content_hash(b"one"), METADATA)
        ids, rows = store.images.embeddings_of([image_id])
        assert ids.tolist() == [image_id]
        assert np.array_equal(rows[0], row(1).astype(np.float16))
        assert store.photos.skipped() == [(b"/photos/bad.jpg", "not an image")]
        [counts] = store.counts()
        assert (counts.photos, counts.skipped) == (1, 1)
        assert store.images.is_known(content_hash(b"one"))
        assert not store.images.is_known(content_hash(b"two"))


def test_creating_an_index_that_exists_opens_it(folder: Path) -> None:
    with Store.create(folder, "a model", DIM) as store:
        store.folders.add(b"/photos", Rules())
        store.commit()
    with Store.create(folder, "another model", 9) as store:
        assert (store.model, store.dim) == ("a model", DIM)
        assert [root.path for root in store.roots()] == [b"/photos"]


@pytest.mark.parametrize("write", [False, True])
def test_where_there_is_no_index_the_message_says_how_to_make_one(folder: Path, write: bool) -> None:
    with pytest.raises(NoIndex, match=r"there is no index at .* yet$"):
        Store.open(folder, write=write)
    assert not folder.exists()


@pytest.mark.parametrize("write", [False, True])
def test_a_newer_format_is_refused_by_name(folder: Path, write: bool) -> None:
    Store.create(folder, "a model", DIM).close()
    damage(folder, "UPDATE meta SET value = 77, mark = mark('format', 77) WHERE key = 'format'")
    with pytest.raises(IndexTooNew, match=r"format 77.*newer clipsearch"):
        Store.open(folder, write=write)


@pytest.mark.parametrize("write", [False, True])
def test_an_older_format_is_refused_by_name_and_says_which_folders_it_had(folder: Path, write: bool) -> None:
    older(folder)
    message = rf"format 1 of an older clipsearch; this one knows {schema.FORMAT}$"
    with pytest.raises(IndexOutdated, match=message) as refused:
        Store.open(folder, write=write)
    assert refused.value.folders == [b"/media/\xff", b"/photos"]
    with pytest.raises(IndexOutdated):
        Store.create(folder, "another model", 9)


def test_an_older_format_without_a_list_of_folders_is_refused_too(folder: Path) -> None:
    older(folder)
    damage(folder, "DROP TABLE roots")
    with pytest.raises(IndexOutdated) as refused:
        Store.open(folder)
    assert refused.value.folders == []


def test_an_older_index_is_replaced_when_that_is_asked_for(folder: Path) -> None:
    older(folder)
    journal = folder / f"{CATALOGUE}-wal"
    journal.write_bytes(b"of the older catalogue")
    old = read_outdated(folder)
    with Store.create(folder, "another model", 9, replace=old) as store:
        paths = [root.path for root in store.roots()]
        assert (store.model, store.dim, paths) == ("another model", 9, [b"/media/\xff", b"/photos"])
        store.folders.remove(store.roots()[0])
        store.commit()
    with Store.create(folder, "a third", 5, replace=old) as again:  # which is not outdated, and stays
        assert (again.model, len(again.roots())) == ("another model", 1)


def older(folder: Path) -> None:
    """An index as the first clipsearch made it, as far as anybody looks at it."""
    Store.create(folder, "a model", DIM).close()
    damage(
        folder,
        "DROP TABLE roots; CREATE TABLE roots (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);"
        "INSERT INTO roots VALUES (1, CAST('/photos' AS BLOB)), (2, x'2f6d656469612fff');"
        "UPDATE meta SET value = 1, mark = mark('format', 1) WHERE key = 'format'",
    )


def test_photos_that_lose_one_image_at_a_time_do_not_collide(folder: Path) -> None:
    """SQLite fails on a conflict within a trigger of an upsert, whatever the trigger says."""
    with Store.create(folder, "a model", DIM) as store:
        root = store.folders.add(b"/photos", Rules())
        put(store, root, b"a.jpg")
        put(store, root, b"b.jpg", b"a.jpg")
        for name in (b"a.jpg", b"b.jpg"):
            put(store, root, name, b"changed " + name)
        store.prune()
        assert repair(store) == []
        assert len(image_ids(store)) == 2


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM meta WHERE key = 'format'", "UPDATE meta SET value = 'old', mark = mark(CAST(key AS BLOB), 'old')"],
)
def test_an_unknown_format_is_refused(folder: Path, statement: str) -> None:
    Store.create(folder, "a model", DIM).close()
    damage(folder, statement)
    with pytest.raises(IndexUnusable, match="has no known format"):
        Store.open(folder)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("kind", ["garbage", "empty", "cut in half", "one page short", "another database"])
def test_a_damaged_catalogue_is_refused_and_left_as_it_is(folder: Path, kind: str, write: bool) -> None:
    Store.create(folder, "a model", DIM).close()
    path = folder / CATALOGUE
    whole = path.read_bytes()
    if kind == "another database":
        path.unlink()
        damage(folder, "CREATE TABLE notes (text)")
    else:
        half, short = whole[: len(whole) // 2], whole[:-4096]
        path.write_bytes(
            {"garbage": b"garbage" * 999, "empty": b"", "cut in half": half, "one page short": short}[kind]
        )
    with pytest.raises(CatalogueDamaged, match=r"the catalogue of .* is damaged"):
        Store.open(folder, write=write)
    assert path.is_file()


def test_a_failed_opening_lets_go_of_the_lock(folder: Path) -> None:
    Store.create(folder, "a model", DIM).close()
    whole = (folder / CATALOGUE).read_bytes()
    (folder / CATALOGUE).write_bytes(b"garbage" * 999)
    with pytest.raises(IndexUnusable):
        Store.open(folder, write=True)
    (folder / CATALOGUE).write_bytes(whole)
    Store.open(folder, write=True).close()


def test_a_creation_that_was_cut_short_leaves_no_catalogue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "_initialise", fail)
        with pytest.raises(KeyboardInterrupt):
            Store.create(folder, "a model", DIM)
    with pytest.raises(NoIndex):
        Store.open(folder)
    with Store.create(folder, "a model", DIM) as store:
        assert store.model == "a model"


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
def test_only_the_owner_can_look_into_an_index(store: Store) -> None:
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="modes")
@pytest.mark.parametrize("umask", [0o000, 0o022])
@pytest.mark.parametrize("holds", ["nothing", "other files"])
def test_only_its_owner_can_read_an_index_in_a_folder_that_existed(tmp_path: Path, umask: int, holds: str) -> None:
    folder = tmp_path / "index"
    folder.mkdir(mode=0o755)
    others = [folder / "notes.txt", folder / "concepts.txt"] if holds == "other files" else []
    for path in others:
        path.write_text("the user's own")
        path.chmod(0o644)
    before = os.umask(umask)
    try:
        with Store.create(folder, "a model", DIM) as store:
            put(store, store.folders.add(absolute(tmp_path), Rules()), b"a.png")
            store.commit()
            store.vectors.update(store.vectors.segments() or ())
            with store.rebuilding("a model", DIM) as rebuilt:
                put(rebuilt, rebuilt.roots()[0], b"b.png")
                assert_private(folder, others)
            assert_private(folder, others)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == (0o755 if others else 0o700)


def assert_private(folder: Path, others: list[Path]) -> None:
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path in others else 0o600), path.name


@pytest.mark.skipif(os.name == "nt", reason="modes")
def test_an_index_that_was_open_to_others_is_closed_when_it_is_written_to(store: Store) -> None:
    store.close()
    for path in (store.folder, *store.folder.iterdir()):
        path.chmod(0o755)
    Store.open(store.folder, write=True).close()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (store.folder, *store.folder.iterdir())] == [0o700] * 3


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IndexUnusable, match="cannot be created"):
        Store.create(tmp_path / "file" / "index", "a model", DIM)


def test_closing_twice_is_harmless(folder: Path) -> None:
    store = Store.create(folder, "a model", DIM)
    store.close()
    store.close()


def test_a_discarded_index_leaves_nothing(folder: Path) -> None:
    with Store.create(folder, "a model", DIM) as store:
        store.images.is_known(b"")
        store.discard()
    assert not folder.exists()


def test_an_index_in_a_folder_that_cannot_be_written_to_is_read(folder: Path, tmp_path: Path) -> None:
    with Store.create(folder, "a model", DIM) as store:
        put(store, store.folders.add(b"/photos", Rules()), b"a.jpg")
        store.commit()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    copy.chmod(0o500)
    try:
        with Store.open(copy) as store:
            assert paths(store) == [b"/photos/a.jpg"]
    finally:
        copy.chmod(0o700)


def test_where_sqlite_cannot_make_its_files_the_catalogue_is_read_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, store.folders.add(b"/photos", Rules()), b"a.jpg")
    store.commit()
    store.close()
    modes = []

    def connect(place: str, **options: Any) -> sqlite3.Connection:
        modes.append(place.partition("?")[2])
        if "mode=ro" in place:  # as root, no permission would make it fail
            raise sqlite3.OperationalError("unable to open database file")
        return real(place, **options)

    real = sqlite3.connect
    monkeypatch.setattr(database.sqlite3, "connect", connect)
    with Store.open(store.folder) as reader:
        assert paths(reader) == [b"/photos/a.jpg"]
    assert modes == ["mode=ro", "immutable=1"]


# ------------------------------------------------------------------------------------------ writers and readers


def test_a_reader_sees_one_moment_while_a_writer_commits(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg")
    store.commit()
    with Store.open(store.folder) as first, Store.open(store.folder) as second:
        put(store, root, b"b.jpg")
        store.photos.remove(root, [b"a.jpg"])
        store.prune()
        store.commit()
        assert paths(first) == paths(second) == [b"/photos/a.jpg"]
        with Store.open(store.folder) as third:
            assert paths(third) == [b"/photos/b.jpg"]
        assert paths(first) == [b"/photos/a.jpg"]


def test_a_lookup_sees_what_is_committed_and_no_more(store: Store) -> None:
    store.images.add(content_hash(b"one"), METADATA, row(1))
    assert not store.images.is_known(content_hash(b"one"))
    store.commit()
    assert store.images.is_known(content_hash(b"one"))


def test_what_was_not_committed_is_forgotten_on_closing(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg")
    store.commit()
    put(store, root, b"b.jpg")
    store.photos.remove(root, [b"a.jpg"])
    store.close()
    with Store.open(store.folder) as reader:
        assert paths(reader) == [b"/photos/a.jpg"]
        assert len(image_ids(reader)) == 1


# ------------------------------------------------------------------------------------------ photos and images


def test_equal_contents_share_an_image_and_keep_every_path(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    ids = {put(store, root, path, b"same") for path in (b"a.jpg", b"b.jpg", b"c/d.jpg")}
    assert len(ids) == 1
    assert image_ids(store) == list(ids)
    assert paths(store) == [b"/photos/a.jpg", b"/photos/b.jpg", b"/photos/c/d.jpg"]


def test_an_image_goes_with_its_last_photo(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg", b"same")
    put(store, root, b"b.jpg", b"same")
    other = put(store, root, b"c.jpg")
    store.photos.remove(root, [b"a.jpg"])
    store.prune()
    assert len(image_ids(store)) == 2
    store.photos.remove(root, [b"b.jpg"])
    store.prune()
    assert image_ids(store) == [other]
    assert store.find_image(content_hash(b"same")) is None
    assert store.images.count() == 1


def test_an_image_that_lost_a_photo_and_gained_another_stays(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    kept = put(store, root, b"a.jpg", b"same")
    store.photos.remove(root, [b"a.jpg"])
    put(store, root, b"renamed.jpg", b"same")
    store.prune()
    assert image_ids(store) == [kept]
    assert paths(store) == [b"/photos/renamed.jpg"]
    assert store.vectors._dropped().tolist() == []


def test_contents_that_swap_names_are_kept(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    a, b = put(store, root, b"a.jpg", b"A"), put(store, root, b"b.jpg", b"B")
    assert (put(store, root, b"a.jpg", b"B"), put(store, root, b"b.jpg", b"A")) == (b, a)
    store.prune()
    assert (store.image_of(root, b"a.jpg"), store.image_of(root, b"b.jpg")) == (b, a)
    assert image_ids(store) == [a, b]


def test_a_photo_that_becomes_unreadable_lets_its_image_go(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    gone = put(store, root, b"a.jpg")
    store.photos.put(root, FoundFile(b"a.jpg", 1, 2), None, "not an image")
    store.prune()
    assert image_ids(store) == []
    assert store.vectors._dropped().tolist() == [gone]
    assert store.image_of(root, b"a.jpg") is None


def test_ids_are_never_used_again(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    used = [put(store, root, name) for name in (b"a", b"b", b"c")]
    store.photos.remove(root, [b"a", b"b", b"c"])
    store.prune()
    store.commit()
    store.close()
    with Store.open(store.folder, write=True) as again:
        assert put(again, root, b"d") > max(used)
        assert again.vectors._dropped().tolist() == used


def test_a_removed_root_takes_its_photos_along(store: Store) -> None:
    here, there = store.folders.add(b"/here", Rules()), store.folders.add(b"/there", Rules())
    put(store, here, b"a.jpg", b"same")
    put(store, here, b"b.jpg")
    put(store, there, b"a.jpg", b"same")
    assert store.folders.remove(here) == 2
    store.prune()
    assert store.roots() == [there]
    assert paths(store) == [b"/there/a.jpg"]
    assert len(image_ids(store)) == 1


def test_known_files_come_in_bytewise_order(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    names = [b"b.jpg", b"a/z.jpg", b"a.jpg", b"a/b/c.jpg", b"a-b.jpg", b"\xff\xfe.jpg", b"Z.jpg", "ä.jpg".encode()]
    for name in names:
        put(store, root, name)
    assert [known.path for known in store.photos.known(root)] == sorted(names)


def test_known_files_under_a_folder_are_those_in_it(store: Store) -> None:
    root, other = store.folders.add(b"/photos", Rules()), store.folders.add(b"/other", Rules())
    for name in (b"a", b"a.jpg", b"a-b/x", b"a/x", b"a/y/z", b"a0", b"a0/x", b"\xff/x"):
        put(store, root, name)
    put(store, other, b"a/x")
    put(store, other, b"a/elsewhere")
    assert [known.path for known in store.photos.known(root, b"a")] == [b"a/x", b"a/y/z"]
    assert [known.path for known in store.photos.known(root, b"\xff")] == [b"\xff/x"]


def test_known_files_tell_what_was_skipped_and_why(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    store.photos.put(root, FoundFile(b"bad.jpg", 7, 8), None, "empty file")
    [known] = store.photos.known(root)
    assert (known.path, known.size, known.mtime_ns, known.error) == (b"bad.jpg", 7, 8, "empty file")


def test_many_images_are_looked_up_at_once(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    ids = [put(store, root, b"%04d" % n) for n in range(1203)]
    found, rows = store.images.embeddings_of(ids)
    assert sorted(found.tolist()) == ids
    assert rows.shape == (1203, DIM)
    assert len(store.photos_of(ids)) == 1203
    blocks = list(store.images.embeddings(after=ids[2], block=500))
    assert [len(block) for block, _ in blocks] == [500, 500, 200]


# ------------------------------------------------------------------------------------------ roots and paths


def test_a_new_root_absorbs_the_roots_in_it(store: Store) -> None:
    name = b"\xff\xfe/caf\xe9 \n.jpg"
    inner = store.folders.add(b"/media/\xe9/photos", Rules(hidden=True))
    beside = store.folders.add(b"/media2", Rules())
    put(store, inner, name)
    put(store, inner, b"a.jpg")
    put(store, beside, b"b.jpg")
    outer = store.folders.add(b"/media", Rules())
    assert store.roots() == [outer, beside]
    assert [known.path for known in store.photos.known(outer)] == [b"\xe9/photos/a.jpg", b"\xe9/photos/" + name]
    assert paths(store) == [b"/media/\xe9/photos/a.jpg", b"/media/\xe9/photos/" + name, b"/media2/b.jpg"]
    store.photos.remove(outer, [b"\xe9/photos/" + name])  # found only if it is still a blob
    assert len(paths(store)) == 2


def test_the_root_of_all_files_can_be_a_root(store: Store) -> None:
    inner = store.folders.add(b"/photos", Rules())
    put(store, inner, b"a.jpg")
    everything = store.folders.add(b"/", Rules())
    assert store.roots() == [everything]
    assert [known.path for known in store.photos.known(everything)] == [b"photos/a.jpg"]
    assert paths(store) == [b"/photos/a.jpg"]


def test_rules_are_replaced(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules(hidden=True))
    for rules in (Rules(exclude=("x",), any_name=True), Rules(raw=False), Rules(video=False), Rules()):
        root = store.folders.set_rules(root, rules)
        assert store.roots() == [root]
        assert root.rules == rules


@pytest.mark.parametrize(
    ("path", "folder", "rest"),
    [
        (b"/a/b/c", b"/a", b"b/c"),
        (b"/a", b"/a", b""),
        (b"/ab", b"/a", None),
        (b"/a", b"/a/b", None),
        (b"/a/b", b"/", b"a/b"),
        (b"/", b"/", b""),
    ],
)
def test_what_remains_below_a_folder(path: bytes, folder: bytes, rest: bytes | None) -> None:
    assert relative_to(path, folder) == rest
    if rest:
        assert join(folder, rest) == path


def test_an_absolute_path_has_links_resolved_and_raw_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path.resolve() / os.fsdecode(b"caf\xe9")
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert absolute(tmp_path / "link" / ".." / "link") == os.fsencode(real)
    monkeypatch.chdir(real)
    assert absolute(".") == os.fsencode(real)
    monkeypatch.setenv("HOME", str(real))
    assert absolute("~/x") == os.fsencode(real / "x")


# ------------------------------------------------------------------------------------------ rebuilding


def test_a_rebuild_takes_its_place_only_when_it_ends(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules(hidden=True, exclude=("x",), video=False))
    put(store, root, b"old.jpg")
    store.commit()
    before = Store.open(store.folder)
    with store.rebuilding("another model", 2) as rebuilt:
        assert rebuilt.roots() == [root]
        assert rebuilt.is_empty()
        image_id = rebuilt.images.add(content_hash(b"new"), METADATA, np.ones(2, np.float32))
        rebuilt.photos.put(root, FoundFile(b"new.jpg", 1, 1), image_id, None)
        rebuilt.commit()
        assert rebuilt.images.is_known(content_hash(b"new"))
        with Store.open(store.folder) as reader:
            assert (reader.model, reader.dim, paths(reader)) == ("a model", DIM, [b"/photos/old.jpg"])
    assert (store.model, store.dim, paths(store)) == ("another model", 2, [b"/photos/new.jpg"])
    assert paths(before) == [b"/photos/old.jpg"]
    before.close()
    with Store.open(store.folder) as reader:
        assert (reader.model, reader.dim, paths(reader)) == ("another model", 2, [b"/photos/new.jpg"])
        assert reader.roots() == [root]
    assert not list(store.folder.glob("rebuilt*"))


def test_a_rebuild_that_fails_leaves_the_old_index_and_no_file(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"old.jpg")
    store.commit()
    listing = sorted(path.name for path in store.folder.iterdir())

    def rebuild() -> None:
        with store.rebuilding("another model", 2) as rebuilt:
            put(rebuilt, root, b"new.jpg")
            rebuilt.commit()
            assert rebuilt.images.is_known(content_hash(b"new.jpg"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rebuild()
    assert sorted(path.name for path in store.folder.iterdir()) == listing
    assert (store.model, store.dim, paths(store)) == ("a model", DIM, [b"/photos/old.jpg"])
    with Store.open(store.folder) as reader:
        assert (reader.model, paths(reader)) == ("a model", [b"/photos/old.jpg"])


def test_what_a_killed_rebuild_left_does_not_disturb_the_next(store: Store) -> None:
    (store.folder / "rebuilt.sqlite").write_bytes(b"half a catalogue")
    (store.folder / "rebuilt.sqlite-wal").write_bytes(b"and half a log")
    with store.rebuilding("another model", 2):
        pass
    assert store.model == "another model"
    assert not list(store.folder.glob("rebuilt*"))


# ------------------------------------------------------------------------------------------ offline


def test_what_keeps_a_root_from_being_looked_at(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path.resolve() / "photos"
    root = store.folders.add(os.fsencode(folder), Rules())
    put(store, root, b"a.jpg")
    assert store.presence(root).whole is Offline.MISSING
    folder.write_text("a file in the place of the folder")
    assert store.presence(root).whole is Offline.MISSING
    folder.unlink()
    folder.mkdir()
    assert store.presence(root).whole is Offline.EMPTY
    (folder / "a.jpg").touch()
    assert store.presence(root).whole is None
    with monkeypatch.context() as patch:
        forbid(patch, folder)
        assert store.presence(root).whole is Offline.UNREADABLE
    store.photos.remove(root, [b"a.jpg"])
    (folder / "a.jpg").unlink()
    assert store.presence(root).whole is None  # a folder that never had photos may be empty


@pytest.mark.skipif(not hasattr(os, "fork"), reason="user ids")
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o700])
def test_a_folder_without_permissions_is_unreadable_and_not_missing(tmp_path: Path, mode: int) -> None:
    """In a process that is not root, which may look at everything."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    above = Path(tempfile.mkdtemp())
    photos = above / "photos"
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        put(store, store.folders.add(os.fsencode(photos), Rules()), b"a.jpg")
        store.commit()
        photos.mkdir()
        (photos / "a.jpg").touch()
        above.chmod(0o755 if mode != 0o700 else 0o700)  # the last: a folder above it that cannot be entered
        photos.chmod(mode)
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                os._exit(list(Offline).index(store.presence(store.roots()[0]).whole))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
    shutil.rmtree(above)
    assert list(Offline)[os.waitstatus_to_exitcode(status)] is Offline.UNREADABLE


def test_unit_rows_come_in_the_order_that_was_asked_for(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    ids = [put(store, root, b"%d" % n) for n in range(3)]
    asked = [ids[2], ids[0], ids[2]]
    rows = store.unit_rows_of(asked)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [row(sum(b"%d" % n)) for n in (2, 0, 2)], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert store.unit_rows_of([]).shape == (0, DIM)
    with pytest.raises(IndexDamaged):
        store.unit_rows_of([99])


def test_months_of_photos_with_and_without_a_date(store: Store, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/0.jpg").touch()  # an empty folder would be offline
    root = store.folders.add(os.fsencode(tmp_path / "photos"), Rules())
    for number, taken in enumerate(("2019-05-01T10:00:00", "2019-05-31T23:59:59", "2021-01-01T00:00:00", None)):
        image = store.images.add(bytes([number] * 16), METADATA._replace(taken=taken), row(number))
        store.photos.put(root, FoundFile(b"%d.jpg" % number, 1, 40 * 86_400 * 10**9), image, None)
    store.commit()
    months = store.months(store.select())
    assert months == ({"2019-05": 2, "2021-01": 1}, {"1970-02": 1})
    assert months.total == 4


def test_ctrl_c_in_a_function_of_sqlite_is_no_damage(drawn_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "_FUNCTIONS", (("mark", -1, interrupted), *database._FUNCTIONS[1:]))
    with pytest.raises(KeyboardInterrupt), Store.open(drawn_index):
        pass
