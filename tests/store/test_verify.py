"""A damaged index, found and mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import damage
from stores import DIM, image_ids, paths, put

from clipsearch.errors import CatalogueDamaged, IndexDamaged, IndexUnusable
from clipsearch.images.scan import FoundFile, Rules
from clipsearch.store import vectors
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.verify import Damage, Repair, Verified, repair, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.create(folder, "a model", DIM) as made:
        yield made


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
    root = store.add_root(b"/photos", Rules())
    for name in (b"a.jpg", b"b.jpg", b"c.jpg"):
        put(store, root, name)
    store.commit()
    store.close()
    damage(store.folder, statements)
    with Store.open(store.folder, write=True) as damaged:
        assert [(repaired.damage, repaired.count) for repaired in repair(damaged)] == damages
    with Store.open(store.folder, write=True) as mended:
        assert repair(mended) == []
        assert len(image_ids(mended)) == mended.count_embeddings() == len(paths(mended)) == left
        again = [known for known in mended.known(root) if known.error]
        # A modification time that no file has makes the next run embed it again.
        assert all(known.mtime_ns == -1 for known in again)
        assert len(again) == sum(count for what, count in damages if what in (Damage.RECORD, Damage.NO_EMBEDDING))


def test_a_sound_catalogue_needs_no_repair(store: Store) -> None:
    root = store.add_root(b"/photos", Rules())
    put(store, root, b"a.jpg")
    put(store, root, b"b.jpg", b"a.jpg")
    store.put_photo(root, FoundFile(b"bad.jpg", 1, 1), None, "empty file")
    store.commit()
    assert repair(store) == []
    assert paths(store) == [b"/photos/a.jpg", b"/photos/b.jpg"]


def test_an_embedding_of_the_wrong_length_is_not_used(store: Store) -> None:
    root = store.add_root(b"/photos", Rules())
    put(store, root, b"a.jpg")
    store.commit()
    damage(store.folder, "UPDATE embeddings SET vector = x'0000'")
    with pytest.raises(IndexDamaged, match=r"is damaged$"):
        list(store.embeddings())


def test_damage_that_sqlite_finds_itself_cannot_be_mended(store: Store) -> None:
    root = store.add_root(b"/photos", Rules())
    for n in range(300):
        put(store, root, b"%04d" % n)
    store.commit()
    store.close()
    path = store.folder / CATALOGUE
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 8192] = b"\xa5" * 8192
    path.write_bytes(whole)
    found = pytest.raises(CatalogueDamaged, match=r"the catalogue of .* is damaged")
    with Store.open(store.folder, write=True) as damaged, found:
        repair(damaged)

    def read() -> None:
        with Store.open(store.folder) as reader:
            paths(reader)

    with pytest.raises(CatalogueDamaged, match=r"the catalogue of .* is damaged"):
        read()


def test_a_full_disk_is_explained_and_costs_only_what_was_not_committed(store: Store) -> None:
    root = store.add_root(b"/photos", Rules())
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
    root = store.add_root(b"/photos", Rules())
    for name in (b"a.jpg", b"b.jpg", b"c.jpg"):
        put(store, root, name)
    put(store, root, b"copy.jpg", b"a.jpg")
    store.commit()
    vectors.refresh(store)
    assert verify(store) == Verified(4, 3, ())
    [segment] = store.segments() or []
    (store.folder / segment.file).write_bytes(b"x")
    store.database.execute("DELETE FROM embeddings WHERE image = 3")
    expected = (Repair(Damage.NO_EMBEDDING, 1), Repair(Damage.EMBEDDING, 1), Repair(Damage.VECTORS, 1))
    assert verify(store) == Verified(3, 2, expected)
    assert vectors.damaged(store) == []
    assert verify(store) == Verified(3, 2, ())
