"""An index folder and the collection published from it give the same answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_photos import DAY, FOLDERS, NAMES, PLACES, fill, new_collection

from clipsearch.cluster.publish import publish
from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.search.copies import find_copies
from clipsearch.search.find import Searcher
from clipsearch.search.question import Limits, Term
from clipsearch.store.catalogue import Store
from clipsearch.store.conditions import Circle
from clipsearch.store.filters import EVERYTHING, Filter, Size
from clipsearch.store.opening import open_index
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
    with Store.open(place / "index") as folder, open_index(published) as collection:
        yield Both(folder, collection, place / "photos", rows)


def filters(photos: str) -> st.SearchStrategy[Filter]:
    moments = st.one_of(st.none(), st.integers(-2, 52).map(lambda hours: DAY + timedelta(hours=hours)))
    centres = st.sampled_from([(latitude or 0.0, longitude or 0.0) for latitude, longitude in PLACES])
    circles = st.builds(lambda centre, km: Circle(*centre, km), centres, st.sampled_from([0.0, 1.3, 5.0, 300.0, 2e4]))
    listed = st.lists(
        st.sampled_from([*(b"a/" + name for name in NAMES), b"a/b/1 UPPER.JPG", b"nowhere.jpg"]), max_size=9
    )

    def several(*values: object) -> st.SearchStrategy[tuple[object, ...]]:
        return st.just(()) | st.lists(st.sampled_from(values), max_size=3).map(tuple)

    return st.builds(
        Filter,
        under=several(photos, *(f"{photos}/{os.fsdecode(folder)}" for folder in FOLDERS)),
        after=moments,
        before=moments,
        camera=several("canon", "0%", "_", "\\", "ümlaut", "Ümlaut", "un d", "x"),
        near=st.just(()) | st.lists(circles, max_size=3).map(tuple),
        size=several(*(Size(least, most) for least in (None, 0, 2, 4) for most in (None, 0, 2, 4))),
        orientation=several("landscape", "portrait", "square"),
        name=several("plain", "QUOTE", "two words", "ÜMLÄUT", "u\u0308ml", "%", "\\", "b/ jpg", "nowhere"),
        reads=st.none(),
        keywords=st.just(()),
        types=st.sampled_from([(), (), "jpeg", "png", ("gif", "png")]),
        files=st.one_of(
            st.none(), st.none(), listed.map(lambda names: tuple(os.fsencode(f"{photos}/") + name for name in names))
        ),
    )


def answer(store: Searchable, where: Filter, terms: list[Term], limits: Limits) -> object:
    try:
        searcher = Searcher(store, where)
    except NotIndexed as error:
        return str(error)
    hits = searcher.query(terms, limits)
    return (
        searcher.selection.missing,
        [(hit.photo._replace(image_id=0), None if hit.score is None else round(hit.score, 6)) for hit in hits],
        [sorted(photo.path for photo in hit.similar) for hit in hits],
    )  # fmt: skip


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
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
    )
    try:
        expected = answer(both.folder, where, terms, limits)
    except BadRequest as error:  # terms that cancel each other out
        with pytest.raises(BadRequest, match=str(error)):
            answer(both.collection, where, terms, limits)
    else:
        assert answer(both.collection, where, terms, limits) == expected


def test_more_are_wanted_than_the_engine_gives_at_once(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.cluster.collection.MOST", 20)
    terms, limits = [Term(both.rows[3])], Limits(50)
    assert answer(both.collection, EVERYTHING, terms, limits) == answer(both.folder, EVERYTHING, terms, limits)


def test_what_the_page_asks(both: Both) -> None:
    folder, collection = both.folder, both.collection
    assert collection.months(collection.select()) == folder.months(folder.select())
    assert collection.cameras() == folder.cameras() or set(collection.cameras()) == set(folder.cameras())
    assert [(c.root.path, c.photos) for c in collection.counts()] == [(c.root.path, c.photos) for c in folder.counts()]
    photo = next(folder.by_path(folder.select()))
    (found,) = {collection.find_image(photo.content)}
    assert found is not None
    assert {p.path for p in collection.photos_of([found])} == {p.path for p in folder.photos_of([photo.image_id])}
    assert collection.find_image(b"0" * 16) is None


def test_every_photo_by_path(both: Both) -> None:
    paths = [[photo.path for photo in store.by_path(store.select())] for store in (both.folder, both.collection)]
    assert paths[0] == paths[1]
    files = [sorted(store.files_of(store.roots()[0])) for store in (both.folder, both.collection)]
    assert files[0] == files[1]


def test_the_same_copies(both: Both) -> None:
    found = [
        [[copy.photo.path for copy in group] for group in find_copies(store, store.select(), identical=True)]
        for store in (both.folder, both.collection)
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 20
