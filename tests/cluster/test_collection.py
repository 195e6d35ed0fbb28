"""An index folder and the collection published from it give the same answers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_photos import DAY, FOLDERS, KEYWORDS, NAMES, PEOPLE, PLACES, fill, new_collection

from clipsearch.cluster.collection import open_collection
from clipsearch.cluster.publish import publish
from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.search.copies import find_copies
from clipsearch.search.evidence import Evidence
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.find import Searcher
from clipsearch.search.question import Limits, Term
from clipsearch.store.catalogue import Store
from clipsearch.store.conditions import Circle, GeoBox
from clipsearch.store.facets import facets_of
from clipsearch.store.filters import EVERYTHING, FILTERS, ORIENTATIONS, Filter, Size
from clipsearch.store.order import ORDERS, Order
from clipsearch.store.searchable import Searchable

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


class Both(NamedTuple):
    folder: Store
    collection: Searchable
    photos: Path
    rows: np.ndarray


@pytest.fixture(scope="module", params=[280, pytest.param(20_000, marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = tmp_path_factory.mktemp("both")
    rows = fill(place / "index", place / "photos", request.param)
    published = new_collection(place)
    publish(place / "index", published)
    with Store.open(place / "index") as folder, open_collection(published) as collection:
        yield Both(folder, collection, place / "photos", rows)


def values_of(photos: str) -> dict[str, list[Any]]:
    """Values of every filter in the table: some hold for many photos, some for few, some for none."""
    centres = [(latitude or 0.0, longitude or 0.0) for latitude, longitude in PLACES]
    moments = [DAY + timedelta(hours=hours) for hours in (-2, 0, 1, 13, 30, 52)]
    return {
        "under": [photos, *(f"{photos}/{os.fsdecode(folder)}" for folder in FOLDERS)],
        "not_under": [f"{photos}/{os.fsdecode(folder)}" for folder in FOLDERS],
        "after": moments,
        "before": moments,
        "camera": [
            "canon",
            "0%",
            "_",
            "\\",
            "x\x01\x7f",
            "can\ton\n\r0",
            "ümlaut",
            "Ümlaut",
            "un d",
            "x",
            "x OR 0% OR _",
        ],
        "near": [Circle(*centre, km) for centre in centres for km in (0.0, 5.0, 2e4)],
        "within": [
            GeoBox(-90, -180, 0, 180),
            GeoBox(48, 2.36, 90, 100),
            GeoBox(-37, 179.99, 0, -179.99),
            GeoBox(0, 0, 0, 0),
        ],
        "size": [Size(2, None), Size(None, 3), Size(0, 2), Size(4, 4), Size(9, None)],
        "orientation": list(ORIENTATIONS),
        "types": ["jpeg", "png", "gif", "video"],
        "name": [
            "plain",
            "QUOTE",
            "two words",
            "ÜMLÄUT",
            "u\u0308ml",
            "%",
            "\\",
            "b/ jpg",
            "nowhere",
            "film",
            "QUOTE OR b/ jpg",
        ],
        "reads": [
            "coffee",
            "3",
            "夏",
            "日本の",
            '100% "sure"',
            "ÜBER_ALLES",
            "\\",
            "gate total",
            "nowhere",
            "😀",
            "gate total OR 夏",
        ],
        "keywords": [*KEYWORDS, "ÉTÉ À LA MER", "été", "nowhere", f"nowhere OR {KEYWORDS[1]} OR {KEYWORDS[3]}"],
        "caption": ["beach", "À LA", "mer quote", "100%_ aix", "provence", "\\", "_", "nowhere", "nowhere OR beach"],
        "people": [*PEOPLE, "anna", "ann", "GROSSMUTTER", "o'neil", "Anna OR nobody", "ZOË"],
        "without_people": [*PEOPLE, "zoë", "nobody", "Anna OR Zoë"],
        "rating": ["4+", "2-3", "5", "1-3", "rejected", "none"],
        "color_label": ["red", "grün", "Grün", "%", "_", "nowhere"],
    }


def filters(photos: str) -> st.SearchStrategy[Filter]:
    names = [*(b"a/" + name for name in NAMES), b"a/b/1 UPPER.JPG", b"nowhere.jpg"]
    listed = st.lists(st.sampled_from([os.fsencode(f"{photos}/") + name for name in names]), max_size=9)
    several = {
        field: st.just([]) | st.just([]) | st.lists(st.sampled_from(values), max_size=3)
        for field, values in values_of(photos).items()
    }
    return st.builds(Filter, **several, files=st.none() | st.none() | listed)


def answer(store: Searchable, where: Filter, terms: list[Term], limits: Limits) -> object:
    try:
        searcher = Searcher(store, where)
    except NotIndexed as error:
        return str(error)
    hits = searcher.query(terms, limits)
    return (
        searcher.selection.missing,
        [(hit.photo, None if hit.score is None else round(hit.score, 6)) for hit in hits],
        [sorted(photo.file for photo in hit.similar) for hit in hits],
        store.lines_of(hit.photo.image_id for hit in hits),
    )  # fmt: skip


def test_there_are_values_of_every_filter() -> None:
    assert values_of("").keys() == {entry.field for entry in FILTERS}


@pytest.mark.parametrize("field", [entry.field for entry in FILTERS])
def test_every_filter_of_the_table(both: Both, field: str) -> None:
    whole, counts = len(list(both.folder.by_path(both.folder.select()))), set()
    values = values_of(str(both.photos))[field]
    for value in [*((one,) for one in values), *itertools.pairwise(values)]:
        where = Filter(**{field: value})
        chosen, theirs = both.folder.select(where), both.collection.select(where)
        expected = list(both.folder.by_path(chosen))
        assert list(both.collection.by_path(theirs)) == expected, value
        assert both.collection.images_in(theirs).tolist() == both.folder.images_in(chosen).tolist(), value
        counts.add(len(expected))
    assert len(counts) > 1
    assert any(0 < count < whole for count in counts)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_the_same_question_has_the_same_answer(both: Both, data: st.DataObject) -> None:
    where = data.draw(st.one_of(st.just(EVERYTHING), filters(str(both.photos))))
    rows = st.integers(0, len(both.rows) - 1).map(lambda number: both.rows[number])
    terms = [Term(row) for row in data.draw(st.lists(rows, max_size=2))]
    terms += [Term(row, -0.3) for row in data.draw(st.lists(rows, max_size=bool(terms)))]
    limits = Limits(
        data.draw(st.sampled_from([1, 3, 10, 50, 10_000])),
        data.draw(st.sampled_from([None, None, 0.05])) if terms else None,
        None,
        *data.draw(st.sampled_from([(False, None), (True, None), (True, 0.98)])),
        frames=data.draw(st.booleans()),
        sort=data.draw(st.sampled_from(["score", "score", "date", "-name", "path", "-size"])),
    )
    try:
        expected = answer(both.folder, where, terms, limits)
    except BadRequest as error:  # terms that cancel each other out
        with pytest.raises(BadRequest, match=str(error)):
            answer(both.collection, where, terms, limits)
    else:
        assert answer(both.collection, where, terms, limits) == expected


@pytest.mark.parametrize(
    "text",
    [
        "coffee total",
        "夏",
        "日本の夏",
        "100% sure",
        "über alles",
        "été mer",
        "Grossmutter",
        "anna beach",
        "O'Neil Bo",
        "beaches",
        "back slash",
        "ümläut",
        "film",
        "cafe terrace",
        "aix provence",
        "gate",
        "nowhere",
        "the",
    ],
)
def test_the_same_evidence(both: Both, text: str) -> None:
    for where in (EVERYTHING, Filter(keywords="beach"), Filter(name="a/ OR film"), Filter(reads="coffee OR 夏")):
        found = []
        for store in (both.folder, both.collection):
            every = Evidence(store, store.select(where), None, 10).of([text])
            found.append(sorted(every, key=lambda one: (one[0].file, one[0].image_id)))
        assert found[0] == found[1]
        if where == EVERYTHING:
            assert bool(found[0]) == (text not in ("nowhere", "the"))


def test_wildcards_are_letters_beside_a_filter_that_milvus_lite_evaluates_elsewhere(both: Both) -> None:
    """Milvus Lite evaluates an expression with arrays row by row, where it knows no escaped wildcards."""
    for text in ("0%", "_", "\\"):
        for field in ("camera", "name", "reads"):
            where = Filter(**{field: text, "keywords": "beach"})
            expected = list(both.folder.by_path(both.folder.select(where)))
            assert list(both.collection.by_path(both.collection.select(where))) == expected, where


def test_more_are_wanted_than_the_engine_gives_at_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.cluster.collection.MOST", 20)
    terms, limits = [Term(both.rows[3])], Limits(50)
    assert answer(both.collection, EVERYTHING, terms, limits) == answer(both.folder, EVERYTHING, terms, limits)


@pytest.mark.parametrize("count", [10, 40, 1_000_000])  # of a part of the collection, and of all of it
def test_confidence_has_the_same_sample(both: Both, count: int) -> None:
    ours = both.folder.sample(count)
    assert both.collection.sample(count).tolist() == ours.tolist()
    assert len(ours) == min(count, both.folder.images.count_distinct())


def test_copies_are_found_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many rows as are wanted, two may have the same image."""
    monkeypatch.setattr("clipsearch.cluster.collection._MARGIN", 0)
    for number in (7, 16):
        found = [store.nearest(both.rows[number], 10, store.select()) for store in (both.folder, both.collection)]
        assert found[1][0].tolist() == found[0][0].tolist()
        np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-6)


def test_what_the_page_asks(both: Both) -> None:
    folder, collection = both.folder, both.collection
    assert collection.months(collection.select()) == folder.months(folder.select())
    found, expected = facets_of(collection), facets_of(folder)
    assert found[:-1] == expected[:-1]
    assert found.positions.tolist() == expected.positions.tolist()
    for ours, theirs in zip(collection.positions(collection.select()), folder.positions(folder.select()), strict=True):
        assert sorted(ours) == sorted(theirs)
    assert [(c.root.path, c.photos) for c in collection.counts()] == [(c.root.path, c.photos) for c in folder.counts()]
    for photo in list(folder.by_path(folder.select(Filter(types="video"))))[:3]:
        frames = [frame for frame in range(photo.image_id, photo.image_id + 4) if folder.photos_of([frame])]
        assert sorted(collection.photos_of(frames)) == sorted(folder.photos_of(frames))
        assert collection.find_image(photo.content) == photo.image_id
        assert collection.unit_rows_of(frames).tolist() == folder.unit_rows_of(frames).tolist()
    assert collection.find_image(b"0" * 16) is None


def test_every_order(both: Both) -> None:
    every = list(both.folder.by_path(both.folder.select()))
    for order in (Order(field, descending) for field in ORDERS for descending in (False, True)):
        expected = order.sorted(every, lambda photo: photo)
        for store, count in itertools.product((both.folder, both.collection), (1, 50, 10_000)):
            assert store.first(store.select(), order, count) == expected[:count], (order, count)


def test_every_photo_by_path(both: Both) -> None:
    expected = list(both.folder.by_path(both.folder.select()))
    assert list(both.collection.by_path(both.collection.select())) == expected
    assert {photo.time for photo in expected} == {None, 0.5}
    assert {len(photo.keywords) for photo in expected} == {0, 1, 2, 3}
    copied = [list(store.by_path(store.select(), copied=True)) for store in (both.folder, both.collection)]
    assert copied[0] == copied[1] != []
    files = [sorted(store.files_of(store.roots()[0])) for store in (both.folder, both.collection)]
    assert files[0] == files[1]


def test_the_same_copies(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilesOnDisk, "read_again", lambda _, photo: photo.content)  # the files have other contents
    found = [
        [
            [copy.photo.file for copy in group]
            for group in find_copies(store, store.select(), FilesOnDisk(), identical=True)
        ]
        for store in (both.folder, both.collection)
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 20


def test_the_same_hashes_text_and_numbers(both: Both) -> None:
    folder, collection = both.folder, both.collection
    hashes = [dict(zip(*(column.tolist() for column in store.hashes()), strict=True)) for store in (folder, collection)]
    assert hashes[0] == hashes[1] != {}
    images = folder.images_in(folder.select()).tolist()
    assert collection.lines_of(images) == folder.lines_of(images) != {}
    ours, theirs = folder.summary(), collection.summary()
    assert ours.read > ours.with_text > 0
    assert ours.embeddings > ours.distinct > 0
    assert ours.left_out
    for field in ("embeddings", "distinct", "read", "with_text", "offline", "left_out"):
        assert getattr(theirs, field) == getattr(ours, field), field


def test_text_needs_ocr_here_too(both: Both, tmp_path: Path) -> None:
    fill(tmp_path / "index", tmp_path / "photos", 9)
    with Store.open(tmp_path / "index", write=True) as store:
        store.ocr_text.enable(False)
        store.commit()
    published = new_collection(tmp_path)
    publish(tmp_path / "index", published)
    with open_collection(published) as collection, pytest.raises(BadRequest, match="no text has been read yet"):
        collection.select(Filter(reads="coffee"))
