"""What a text that is being typed could mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.index import Index, open_index
from clipsearch.models.model import mini
from clipsearch.search.question import parse
from clipsearch.store.catalogue import Store

NOW = datetime(2024, 2, 14)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, places_table: Path) -> Iterator[Index]:
    """Sixty photos of two years, near Paris, with people, keywords and cameras."""
    folder, model = tmp_path_factory.mktemp("suggest").resolve(), mini()
    rows = np.random.default_rng(0).normal(size=(60, model.dim)).astype(np.float32)
    with Store.create(folder / "index", model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(folder / "photos"), Rules())
        for number, row in enumerate(rows / np.linalg.norm(rows, axis=1, keepdims=True)):
            path = folder / "photos" / ("Summer House" if number % 3 else "2019-05 Rome") / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            about = Metadata(3, 2, f"{2019 + number % 2}-0{5 + number % 3}-01T10:00:00", "Canon EOS 5D", 48.86, 2.35)
            people, keywords = ("Anna Smith", "Anna Smith\nbeach") if number % 2 else ("Ännchen Müller", "red wine")
            image = store.images.add(b"%016d" % number, about._replace(people=people, keywords=keywords), row)
            store.photos.put(root, FoundFile(os.fsencode(path.relative_to(folder / "photos")), 1, 1), image, None)
        store.commit()
    with open_index(folder / "index") as opened:
        yield opened


def offered(index: Index, text: str, concepts: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """The parameters of each suggestion, and the text that is left."""
    found = index._suggester().suggestions(text, lambda: concepts, NOW)
    return [(" ".join(f"{name}={value}" for name, value in one.pairs), one.rest) for one in found]


@pytest.mark.parametrize(
    ("text", "pairs", "rest"),
    [
        ("dog july 2020", "after=2020-07 before=2020-08", "dog"),
        ("a dog in summer 2019 on grass", "after=2019-06 before=2019-09", "a dog on grass"),
        ("2019", "after=2019 before=2020", ""),
        ("dog may", "after=2019-05 before=2019-06", "dog"),  # no photo is of May 2020
        ("last ye", "after=2023 before=2024", ""),
        ("anna", "person=Anna Smith", ""),
        ("a dog with Anna Sm", "person=Anna Smith", "a dog"),
        ("smith", "person=Anna Smith", ""),
        ("annchen muller, dog", "person=Ännchen Müller", "dog"),
        ("bea", "keyword=beach", ""),
        ("sunset canon eos", "camera=Canon EOS 5D", "sunset"),
        ("sunset in paris", "near=Paris, France", "sunset"),
        ("pari", "near=Paris, France", ""),
        ("landsc", "orientation=landscape", ""),
        ("a red car -peop", "not=peop", "a red car"),
    ],
)
def test_a_part_of_a_text_is_offered_as_a_filter(index: Index, text: str, pairs: str, rest: str) -> None:
    assert (pairs, rest) in offered(index, text)


@pytest.mark.parametrize(
    "text", ["", " ", "a", "a red car", "red wine bottle", "rome trip", "xyz", "-", "@", "2:", "\0"]
)
def test_nothing_is_offered_for_other_texts(index: Index, text: str) -> None:
    """A part of a name counts only at the end, where the rest may follow."""
    assert [pairs for pairs, _ in offered(index, text) if pairs != "keyword=red wine"] == []


def test_folders_are_offered_by_their_own_names(index: Index) -> None:
    root = os.fsdecode(index.facets().roots[0])
    assert (f"under={root}/Summer House", "dogs") in offered(index, "dogs summer hou")
    assert (f"under={root}/2019-05 Rome", "") in offered(index, "rome")
    assert not any("under" in pairs for pairs, _ in offered(index, os.path.dirname(root).split("/")[1]))


def test_concepts_are_completed(index: Index) -> None:
    known = ("grandma", "grandpa", "house")
    assert offered(index, "beach @gra", known) == [("text=@grandma", "beach"), ("text=@grandpa", "beach")]
    assert offered(index, "-@hou", known) == [("not=@house", "")]
    assert offered(index, "beach @x", known) == []


def test_a_name_that_is_a_person_and_a_keyword_is_offered_once(index: Index) -> None:
    assert [pairs for pairs, _ in offered(index, "anna smith")] == ["person=Anna Smith"]


def test_each_can_be_asked_and_says_how_many_photos_pass(index: Index) -> None:
    texts = ("anna", "july 2020", "paris", "canon", "2019", "wine", "summer house", "landscape", "christmas 2019")
    for text in texts:
        found = index.suggestions(text)
        assert found, text
        for one in found:
            photos = index.months(parse(one.pairs).filter).total
            assert one.photos in (photos, None), (text, one)
    assert index.suggestions("christmas 2019")[0].photos is None


def test_a_change_of_the_index_is_seen(index: Index) -> None:
    before = index.facets()
    assert index.facets() is before
    with Store.open(index.folder, write=True) as store:
        root, row = store.roots()[0], np.eye(1, store.dim, dtype=np.float32)[0]
        image = store.images.add(b"n" * 16, Metadata(3, 2, camera="Leica M3"), row)
        store.photos.put(root, FoundFile(b"Summer House/new.jpg", 1, 1), image, None)
        store.commit()
    assert index.facets().values["camera"]["Leica M3"] == 1
    assert ("camera=Leica M3", "") in offered(index, "leica")
