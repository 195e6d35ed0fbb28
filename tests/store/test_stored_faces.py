"""Faces in the catalogue: they come back as they were recorded, go with their image, and damage is noticed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from stores import DIM, put

from clipsearch.errors import IndexDamaged
from clipsearch.images.box import Box
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace
from clipsearch.store.verify import Damage, verify

POINTS = ((0.2, 0.2), (0.4, 0.2), (0.3, 0.3), (0.25, 0.4), (0.35, 0.4))


def face(left: float, seed: int = 0) -> NewFace:
    row = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    return NewFace(Box(left, 0.1, left + 0.2, 0.5), POINTS, 0.75, row / np.linalg.norm(row))


@pytest.fixture
def store(tmp_path: Path):
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        root = store.folders.add(b"/photos", Rules())
        for name in (b"a.jpg", b"b.jpg"):
            put(store, root, name)
        store.faces.enable("a face model")
        store.vectors.update()
        yield store


def image(store: Store, path: bytes) -> int:
    return store.find_image(content_hash(path))


def test_faces_come_back_as_they_were_recorded(store: Store) -> None:
    a, b = image(store, b"a.jpg"), image(store, b"b.jpg")
    assert [one.image_id for one in store.faces.unseen()] == [a, b]
    store.faces.put(a, [face(0.1, 1), face(0.6, 2)])
    store.faces.put(b, [])
    assert (store.faces.unseen(), store.faces.counts()) == ([], (2, 2))
    first, second = store.faces.of(a)
    assert (first.box, first.landmarks, first.quality) == (Box(0.1, 0.1, 0.3, 0.5), POINTS, 0.75)
    assert (first.cluster, first.person) == (None, None)
    store.faces.assign([(first.id, 3, "Zoë"), (second.id, 4, None)])
    assert store.faces.get([first.id, 999])[first.id].person == "Zoë"
    assert [(one.cluster, one.person) for one in store.faces.all()] == [(3, "Zoë"), (4, None)]
    ids, rows = store.faces.embeddings()
    assert ids.tolist() == [first.id, second.id]
    np.testing.assert_allclose(rows, np.stack([face(0, 1).row, face(0, 2).row]), atol=1e-3)
    assert store.faces.embeddings(after=second.id)[1].shape == (0, 0)
    assert verify(store).repairs == ()


def test_ids_are_not_used_twice_and_faces_go_with_their_image(store: Store) -> None:
    a = image(store, b"a.jpg")
    store.faces.put(a, [face(0.1), face(0.6)])
    before = [one.id for one in store.faces.all()]
    store.faces.put(a, [face(0.1)])
    assert [one.id > max(before) for one in store.faces.all()] == [True]
    store.database.execute("DELETE FROM photos WHERE path = ?", (b"a.jpg",))
    store.prune()
    assert (list(store.faces.all()), store.faces.counts()) == ([], (0, 0))


def test_another_model_makes_the_next_update_look_again(store: Store) -> None:
    store.faces.put(image(store, b"a.jpg"), [face(0.1)])
    store.faces.enable("a face model")
    assert store.faces.counts() == (1, 1)
    store.faces.enable("another")
    assert (store.faces.counts(), len(store.faces.unseen())) == ((0, 0), 2)
    store.faces.enable(None)
    assert store.faces.model() is None


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        ("UPDATE faces SET person = 'Ben' WHERE id = 1", 3),  # the face, the record of its image, and the other face
        ("UPDATE faces SET vector = zeroblob(256) WHERE id = 1", 3),
        ("UPDATE face_scans SET faces = 3", 3),
        ("DELETE FROM face_scans", 2),
        ("DELETE FROM faces", 1),
    ],
)
def test_damaged_faces_are_dropped_and_looked_for_again(store: Store, damage: str, count: int) -> None:
    store.faces.put(image(store, b"a.jpg"), [face(0.1), face(0.6)])
    store.database.execute(damage)
    with contextlib.suppress(IndexDamaged):
        assert [one.person for one in store.faces.all()].count("Ben") == 0
    assert [(one.damage, one.count) for one in verify(store).repairs] == [(Damage.FACE, count)]
    assert (list(store.faces.all()), len(store.faces.unseen())) == ([], 2)
    assert verify(store).repairs == ()


def test_damaged_names_in_photos_are_restored_from_their_faces(store: Store) -> None:
    store.faces.put(image(store, b"a.jpg"), [face(0.1)])
    store.faces.assign([(1, 1, "Anna")])
    store.photos.set_names(store.faces.names())
    store.database.execute("UPDATE photos SET named = 'Ben' WHERE named = 'Anna'")
    assert [(one.damage, one.count) for one in verify(store).repairs] == [(Damage.PERSON, 1)]
    assert [photo.named for photo in store.photos_of([1])] == ["Anna"]
    assert verify(store).repairs == ()


def test_a_damaged_setting_makes_the_next_update_look_again(store: Store) -> None:
    store.faces.put(image(store, b"a.jpg"), [])
    store.database.execute("UPDATE meta SET value = 'another' WHERE key = 'faces'")
    assert [one.damage for one in verify(store).repairs] == [Damage.SETTING]
    assert store.faces.model() == "{}"
