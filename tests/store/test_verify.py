"""Detecting and repairing a damaged index."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from conftest import Run, damage
from stores import DIM, METADATA, image_ids, paths, put, row

from clipsearch.errors import CatalogueDamaged, IndexDamaged, IndexUnusable
from clipsearch.images.facts import Facts
from clipsearch.images.found_file import FoundFile
from clipsearch.images.read import content_hash, frame_hash
from clipsearch.images.rules import Rules
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Line
from clipsearch.store.verify import Damage, Repair, Verified, repair, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.create(folder, "a model", DIM) as made:
        yield made


def flips(value: object) -> list[object]:
    """A value with one bit changed, each bit in turn; numbers in their low bits and their sign."""
    if isinstance(value, int):
        return [value ^ 1 << bit for bit in (0, 3, 40)]
    if isinstance(value, float):
        return [value * 2, value + 1, -value]
    raw = value.encode() if isinstance(value, str) else bytes(value or b"")
    changed = [raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in (0, 3, 6)]
    return [one.decode("latin-1") if isinstance(value, str) else one for one in changed]


@pytest.fixture
def film(folder: Path) -> Path:
    """An index of two photos, two panoramas of three parts and two videos of three frames; two roots, three drives."""
    with Store.create(folder, "a model", DIM) as made:
        for name in (b"films", b"photos"):
            place = folder.parent.resolve() / name.decode()
            place.mkdir()
            root = made.folders.add(os.fsencode(place), Rules(exclude=("*.gif",)))
            drive = made.drives.add(root, b"/", place.stat().st_dev)
            for file in ("v.mp4", "p.jpg", "wide.jpg"):
                (place / file).touch()
            put(made, root, b"p.jpg", b"a photo of " + name)
            video = made.images.add(content_hash(name), METADATA, row(1))
            times = (0.0, 1.5, 3.0)
            frames = (
                (at, content_hash(name) if not at else frame_hash(content_hash(name), at), row(2)) for at in times
            )
            made.images.add_frames(video, METADATA, frames)
            made.photos.put(root, FoundFile(b"v.mp4", 1, 1), video, None, Facts(), drive.id)
            wide = made.images.add(content_hash(b"wide" + name), METADATA, row(3))
            made.images.add_parts(wide, content_hash(b"wide" + name), METADATA, [row(4), row(5)])
            made.photos.put(root, FoundFile(b"wide.jpg", 1, 1), wide, None, Facts(), drive.id)
        made.drives.add(root, b"/media/usb", 6)
        made.commit()
        made.vectors.update()
    return folder


def answers(folder: Path) -> object:
    """All that a reader may ask for of roots, drives, videos and what the catalogue says of itself."""
    with Store.open(folder) as store:
        roots = store.roots()
        everything = range(1, 15)
        chosen = store.select(Filter(after=datetime(2000, 1, 1)))
        return (
            store.model,
            store.dim,
            store.ocr_text.enabled(),
            roots,
            [[drive[1:] for drive in store.drives.of(root)] for root in roots],
            sorted(photo[1:] for photo in store.photos_of(everything)),
            store.images_in(chosen).tolist(),
            [photo[1:] for photo in store.by_path(chosen)],
            store.images.count_distinct(),
        )


@pytest.mark.parametrize("table", ["meta", "roots", "drives", "frames"])
def test_no_changed_bit_of_a_row_gives_a_wrong_answer(film: Path, tmp_path: Path, table: str) -> None:
    """It is refused, or makes no difference; verify names and mends it, or says in a sentence what to do."""
    right = answers(film)
    with contextlib.closing(sqlite3.connect(film / CATALOGUE)) as database:
        key = "key" if table == "meta" else "rowid"
        names = [name for (name,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        rows = database.execute(f"SELECT {key}, * FROM {table}").fetchall()
    tried = refused = mended = 0
    for where, *values in rows:
        for name, value in zip(names, values, strict=True):
            for changed in flips(value)[:: 1 + len(flips(value)) // 3]:
                if changed == value:  # twice zero
                    continue
                copy = tmp_path / "copy"
                shutil.copytree(film, copy)
                with contextlib.closing(sqlite3.connect(copy / CATALOGUE)) as database:
                    try:
                        database.execute(f"UPDATE {table} SET {name} = ? WHERE {key} = ?", (changed, where))
                    except sqlite3.IntegrityError:  # two rows with one key, which a page cannot hold in this order
                        shutil.rmtree(copy)
                        continue
                    database.commit()
                tried += 1
                try:
                    assert answers(copy) == right, (where, name, value, changed)
                except IndexUnusable:
                    refused += 1
                mended += _mends(copy, (where, name, value, changed))
                shutil.rmtree(copy)
    assert tried > 25
    assert refused > tried // 3
    assert mended == 0 if table == "roots" else mended > tried // 3


def _mends(folder: Path, what: object) -> bool:
    """Whether verify names and mends the damage; else it has to refuse the index."""
    try:
        with Store.open(folder, write=True) as store:
            assert repair(store), what
    except CatalogueDamaged:
        return False
    with Store.open(folder, write=True) as store:
        assert repair(store) == [], what
        files = [known for root in store.roots() for known in store.photos.known(root) if known.path != b"p.jpg"]
        assert len(files) == 4
        whole = sum(known.error is None for known in files)
        assert store.database.execute("SELECT count(*) FROM frames").fetchone() == (3 * whole,), what
        assert store.images.count() == 2 + 3 * whole, what
        assert all(known.mtime_ns == -1 for known in files if known.error)
    answers(folder)
    return True


def test_a_damaged_root_is_named_with_what_to_do(clipsearch: Run, film: Path) -> None:
    damage(film, "UPDATE roots SET hidden = 1 WHERE id = 1")
    for command in (("status",), ("query", "x"), ("index",), ("verify",)):
        refused = clipsearch(*command, index=film)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
    name = film.parent.resolve() / "films"
    assert f"the record of the indexed folder {name} is damaged; delete catalogue.sqlite" in refused.err


def test_a_damaged_frame_has_its_video_embedded_again(film: Path) -> None:
    damage(film, "UPDATE frames SET time = 9.0 WHERE time = 1.5 AND whole = 2")
    with Store.open(film, write=True) as store:
        assert repair(store)[0] == Repair(Damage.FRAME, 1)
        films, photos = store.roots()
        assert [known.error for known in store.photos.known(films)] == [None, "to be embedded again", None]
        assert [known.error for known in store.photos.known(photos)] == [None, None, None]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE photos SET taken = '1999-01-01T00:00:00'",
        "UPDATE photos SET root = 9",
        "UPDATE captions SET text = 'a cat'",
        "UPDATE texts SET lines = '[]'",
    ],
)
def test_a_damaged_row_is_neither_shown_nor_taken_into_a_rebuild(store: Store, statement: str) -> None:
    root = store.folders.add(b"/photos", Rules())
    image = put(store, root, b"a.jpg")
    store.ocr_text.put(image, [Line("wifi", 0.0, 0.0, 1.0, 1.0)])
    store.captions.put(image, "a dog", "a model")
    store.commit()
    store.database.execute(statement)
    with pytest.raises(IndexDamaged):
        store.photos_of([image]) and store.lines_of([image])
    with store.rebuilding("a model", DIM) as rebuilt:
        put(rebuilt, root, b"a.jpg")
        store.ocr_text.copy_to(rebuilt.database)
        store.captions.copy_to(rebuilt.database)
        count = rebuilt.ocr_text.counts()[0] + rebuilt.captions.count()
    assert count == (2 if "photos" in statement else 1)


UNSOUND = [(Damage.NO_EMBEDDING, 1), (Damage.EMBEDDING, 1)]


@pytest.mark.parametrize(
    ("statements", "damages", "left"),
    [
        ("DELETE FROM embeddings WHERE image = 1", UNSOUND, 2),
        ("UPDATE embeddings SET vector = x'0000' WHERE image < 3", [(what, 2) for what, _ in UNSOUND], 1),
        ("UPDATE embeddings SET vector = 'abcdefgh' WHERE image = 2", UNSOUND, 2),
        ("UPDATE embeddings SET vector = 7 WHERE image = 2", UNSOUND, 2),
        ("UPDATE embeddings SET vector = zeroblob(8) WHERE image = 2", UNSOUND, 2),
        ("UPDATE images SET content = x'00' WHERE id = 2", UNSOUND, 2),
        ("UPDATE images SET camera = 'other' WHERE id = 2", UNSOUND, 2),
        ("UPDATE photos SET path = x'2f' WHERE image = 2", [(Damage.RECORD, 1), (Damage.NO_PHOTO, 1)], 2),
        ("UPDATE photos SET image = 1 WHERE image = 2", [(Damage.RECORD, 1)], 2),
        ("UPDATE photos SET mtime_ns = 7 WHERE image = 2", [(Damage.RECORD, 1), (Damage.NO_PHOTO, 1)], 2),
        ("UPDATE photos SET path = 'text' WHERE image = 2", [(Damage.NAME, 1), (Damage.NO_PHOTO, 1)], 2),
        ("UPDATE images SET camera = CAST(x'43e16e' AS TEXT) WHERE id = 2", UNSOUND, 2),
        ("DELETE FROM images WHERE id = 3", [(Damage.NO_EMBEDDING, 1)], 2),
        ("UPDATE photos SET image = 99 WHERE image = 3", [(Damage.RECORD, 1)], 2),
        ("INSERT INTO embeddings VALUES (99, x'0000000000000000')", [(Damage.NO_IMAGE, 1)], 3),
        ("DELETE FROM photos WHERE image = 1; DELETE FROM loose", [(Damage.NO_PHOTO, 1)], 2),
        ("DELETE FROM roots", [(Damage.NO_FOLDER, 3), (Damage.NO_PHOTO, 3)], 0),
    ],
)
def test_each_kind_of_damage_is_found_and_mended(
    store: Store, statements: str, damages: list[tuple[Damage, int]], left: int
) -> None:
    root = store.folders.add(b"/photos", Rules())
    for name in (b"a.jpg", b"b.jpg", b"c.jpg"):
        put(store, root, name)
    store.commit()
    store.close()
    damage(store.folder, statements)
    with Store.open(store.folder, write=True) as damaged:
        assert [(repaired.damage, repaired.count) for repaired in repair(damaged)] == damages
    with Store.open(store.folder, write=True) as mended:
        assert repair(mended) == []
        assert len(image_ids(mended)) == mended.images.count() == len(paths(mended)) == left
        again = [known for known in mended.photos.known(root) if known.error]
        # A modification time that no file has makes the next run embed it again.
        assert all(known.mtime_ns == -1 for known in again)
        assert len(again) == sum(count for what, count in damages if what in (Damage.RECORD, Damage.NO_EMBEDDING))


def test_a_sound_catalogue_needs_no_repair(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg")
    put(store, root, b"b.jpg", b"a.jpg")
    store.photos.put(root, FoundFile(b"bad.jpg", 1, 1), None, "empty file")
    store.commit()
    assert repair(store) == []
    assert paths(store) == [b"/photos/a.jpg", b"/photos/b.jpg"]


def test_an_embedding_of_the_wrong_length_is_not_used(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg")
    store.commit()
    damage(store.folder, "UPDATE embeddings SET vector = x'0000'")
    with pytest.raises(IndexDamaged, match=r"is damaged$"):
        list(store.images.embeddings())


def test_damage_that_sqlite_finds_itself_cannot_be_mended(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    for n in range(900):
        put(store, root, b"%04d" % n)
    store.commit()
    store.close()
    path = store.folder / CATALOGUE
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 8192] = b"\xa5" * 8192
    path.write_bytes(whole)
    found = pytest.raises(CatalogueDamaged, match=r"the catalogue of .* is damaged")
    with found, Store.open(store.folder, write=True) as damaged:
        repair(damaged)

    def read() -> None:
        with Store.open(store.folder) as reader:
            paths(reader)

    with pytest.raises(CatalogueDamaged, match=r"the catalogue of .* is damaged"):
        read()


def test_a_full_disk_is_explained_and_costs_only_what_was_not_committed(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    put(store, root, b"a.jpg")
    store.commit()
    pages = store.database.execute("PRAGMA page_count").fetchone()[0]
    store.database.execute(f"PRAGMA max_page_count = {pages + 1}")

    def write() -> None:
        with store:
            for n in range(1000):
                put(store, root, b"%04d" % n)

    with pytest.raises(IndexUnusable, match="full"):
        write()
    with Store.open(store.folder, write=True) as again:
        assert paths(again) == [b"/photos/a.jpg"]
        assert repair(again) == []


def test_a_verification_mends_the_catalogue_and_then_the_segments(store: Store) -> None:
    root = store.folders.add(b"/photos", Rules())
    for name in (b"a.jpg", b"b.jpg", b"c.jpg"):
        put(store, root, name)
    put(store, root, b"copy.jpg", b"a.jpg")
    store.commit()
    store.vectors.update()
    assert verify(store) == Verified(4, 3, ())
    [segment] = store.vectors.segments() or []
    (store.folder / segment.file).write_bytes(b"x")
    store.database.execute("DELETE FROM embeddings WHERE image = 3")
    expected = (Repair(Damage.NO_EMBEDDING, 1), Repair(Damage.EMBEDDING, 1), Repair(Damage.VECTORS, 1))
    assert verify(store) == Verified(3, 2, expected)
    assert store.vectors.damaged() == []
    assert verify(store) == Verified(3, 2, ())
