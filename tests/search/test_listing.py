"""Lists of all photos: any part, identical files as one entry, and files that come and go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.search.listing import PhotoList
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import Filter
from clipsearch.store.order import NEWEST


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Forty files on ten days, the newest first; every tenth is a copy of the one before it, and two have no date."""
    with Store.create(tmp_path / "index", "{}", 4) as store:
        root = store.folders.add(os.fsencode(tmp_path), Rules())
        row = np.array([1, 0, 0, 0], np.float32)
        for n in range(40):
            path, content = tmp_path / f"{n:02}.jpg", (n - (n % 10 == 9)).to_bytes(16, "big")
            path.touch()
            taken = f"2023-07-{20 - n // 4:02}T{23 - n % 4}:00:00" if n < 38 else None
            image = store.find_image(content)
            if image is None:
                image = store.images.add(content, Metadata(300, (200, 400)[n % 2], taken), row)
            store.photos.put(root, FoundFile(os.fsencode(path.name), 0, 10**9), image, None)
        store.commit()
        yield store


def names(photos: PhotoList, store: Store, first: int = 0, count: int = 99) -> list[str]:
    return [hit.photo.path.stem for hit in photos.part(store, first, count)]


def test_any_part_of_a_list_and_what_it_says_of_all(store: Store) -> None:
    photos = PhotoList(store, Filter(), NEWEST)
    assert names(photos, store) == [f"{n:02}" for n in range(40)]
    assert names(photos, store, 17, 5) == ["17", "18", "19", "20", "21"]
    assert names(photos, store, 38, 5) == ["38", "39"]
    assert names(photos, store, 40, 5) == []
    days = list(photos.days())
    assert days[:2] == [("2023-07-20", 4), ("2023-07-19", 4)]
    assert days[-2:] == [("2023-07-11", 2), ("", 2)]
    assert photos.shapes[:3] == [150, 75, 150]


def test_identical_files_are_one_entry(store: Store) -> None:
    photos = PhotoList(store, Filter(), NEWEST, fold=True)
    assert (len(photos), photos.copies) == (36, 4)
    (hit,) = photos.part(store, 8, 1)
    assert (hit.photo.path.stem, [copy.path.stem for copy in hit.similar]) == ("08", ["09"])
    assert photos.position(store, hit.similar[0].url_name) == photos.position(store, hit.photo.url_name) == 8
    assert photos.position(store, f"{'0' * 31}1.{'0' * 16}") is None
    assert photos.position(store, "nonsense") is None


def test_deleted_files_leave_the_list_and_may_come_back(store: Store, tmp_path: Path) -> None:
    photos = PhotoList(store, Filter(), NEWEST, fold=True)
    for name in ("08", "20", "21"):
        (tmp_path / f"{name}.jpg").unlink()
    assert names(photos, store, 0, 10) == ["00", "01", "02", "03", "04", "05", "06", "07", "09", "10"]
    assert names(photos, store, 16, 3) == ["17", "18", "22"]
    assert (len(photos), sum(n for _, n in photos.days()), len(photos.shapes)) == (34, 34, 34)
    (tmp_path / "20.jpg").touch()
    assert len(photos) == 34
    photos.recheck(store)
    assert names(photos, store, 16, 3) == ["17", "18", "20"]
