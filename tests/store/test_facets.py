"""The counts of facets are those of the filters: each is compared with what the filter selects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from odd_photos import DIM, PLACES, fill
from stores import row

from clipsearch.images.facts import Facts
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.store.catalogue import Store
from clipsearch.store.conditions import Circle
from clipsearch.store.facets import Facets, facets_of
from clipsearch.store.filters import FILTERS, Filter
from clipsearch.store.photo import Root

SPELLINGS = [
    ("Canon", "RED", "Animals|Dog"),
    ("canon eos 80d", "Red wine", "Animals/Dog\nanna"),
    ("CANON", "red", "DOG"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Odd photos, and some with values in several spellings."""
    place = tmp_path_factory.mktemp("facets").resolve()
    fill(place / "index", place / "photos", 200)
    with Store.open(place / "index", write=True) as opened:
        root: Root = opened.roots()[0]
        for number, (camera, label, keywords) in enumerate(SPELLINGS * 2):
            facts = Facts(color_label=label, keywords=keywords, rating=number or None)
            image = opened.images.add(b"%016d" % number, Metadata(3, 2, camera=camera), row(number, DIM))
            opened.photos.put(root, FoundFile(b"a/b/deep/er/%d.JPE" % number, 1, 1), image, None, facts)
        opened.commit()
        yield opened


@pytest.fixture(scope="module")
def facets(store: Store) -> Facets:
    return facets_of(store)


def passing(store: Store, **where: str) -> int:
    return store.months(store.select(Filter(**where))).total


@pytest.mark.parametrize("option", [entry.option for entry in FILTERS if entry.facet])
def test_each_value_passes_as_many_photos_as_it_says(store: Store, facets: Facets, option: str) -> None:
    field = next(entry.field for entry in FILTERS if entry.option == option)
    counts = facets.values[option]
    assert len(counts) >= 3
    assert {value: passing(store, **{field: value}) for value in counts} == counts
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_spellings_of_one_value_are_counted_together(facets: Facets) -> None:
    cameras, labels, keywords = (facets.values[option] for option in ("camera", "color_label", "keyword"))
    assert len([camera for camera in cameras if camera.lower() == "canon"]) == 1
    assert len([label for label in labels if label.lower() == "red"]) == 1
    assert "Animals|Dog" not in keywords
    assert keywords["Animals/Dog"] == 4


def test_folders_count_what_is_below_them(store: Store, facets: Facets) -> None:
    assert facets.folders_in() == [facets.folders[path] for path in facets.roots]
    named = [folder for folder in facets.folders.values() if folder.path.isascii()]
    assert any(folder.path.endswith(b"/a/b/deep") for folder in named)  # has no photos of its own
    for folder in named:
        assert folder.photos == passing(store, under=os.fsdecode(folder.path))
    below_a = {os.path.basename(folder.path) for folder in facets.folders_in(facets.roots[0] + b"/a")}
    assert below_a == {b"b"}
    assert facets.folders_in(b"/nowhere") == []


def test_months_and_places(store: Store, facets: Facets) -> None:
    assert sum(facets.months.values()) == sum(folder.photos for folder in facets.folders_in()) == passing(store)
    for latitude, longitude in PLACES:
        if latitude is not None and longitude is not None:
            circle = Circle(latitude, longitude, 20)
            assert facets.photos_near(circle) == store.months(store.select(Filter(near=circle))).total > 0


def test_what_is_offline_is_not_counted(tmp_path: Path) -> None:
    fill(tmp_path / "index", tmp_path / "photos", 8)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with Store.open(tmp_path / "index") as opened:
        facets = facets_of(opened)
    assert (facets.folders, facets.months, facets.values["camera"]) == ({}, {}, {})
    assert facets.folders_in() == []
