"""A text finds photos by their look, the text in them, their tags and their names; each hit says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stores import DIM, METADATA

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images.facts import Facts
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.search.evidence import Match, Strength, in_tags, in_text
from clipsearch.search.find import Searcher
from clipsearch.search.hit import Hit
from clipsearch.search.question import CUT, Limits, Term, text_terms
from clipsearch.store.catalogue import Root, Store
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Line, Photo
from clipsearch.store.verify import verify
from clipsearch.store.words import words_of

STRONG, GOOD, WEAK = Strength.STRONG, Strength.GOOD, Strength.WEAK
WHOLE = (0.0, 0.0, 1.0, 1.0)


# ------------------------------------------------------------------------------------------ what is evidence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A photo of the dog on a beach", [("dog",), ("beach",)]),
        ("the", []),
        ("Wi-Fi  passwords, WI-FI", [("wi", "fi"), ("password",)]),
        ("Anna's birthday", [("anna",), ("birthday",)]),
        ("Straße glass 2019 s", [("strasse",), ("glass",), ("2019",), ("s",)]),
        ("北京", [("北京",)]),
    ],
)
def test_the_words_that_matter(text: str, words: list[tuple[str, ...]]) -> None:
    assert [word.parts for word in words_of(text)] == words


@pytest.mark.parametrize(
    ("query", "lines", "strength"),
    [
        ("wifi password", ["Guests", "WiFi Password: hunter2"], STRONG),
        ("wifi password", ["WIFI", "PASSWORD"], STRONG),  # a phrase may go on in the next line
        ("wifi password", ["wifipassword"], STRONG),  # OCR drops spaces
        ("date birth", ["date of birth"], STRONG),
        ("password wifi", ["wifi password"], STRONG),  # together in a short line
        ("red car", ["red", "big", "car"], WEAK),
        ("red car", ["the man in the red scarf drove to the car park"], WEAK),
        ("red car", ["red"], None),
        ("dog", ["hot dog 3.50"], GOOD),
        ("dogs", ["a dog"], GOOD),
        ("cat", ["education", "delicate"], None),  # a part of another word
        ("rechnung", ["Rechnungsnummer 7"], GOOD),  # of six letters or more, such parts count
        ("天气", ["今天天气"], GOOD),
        ("3.50", ["Total 3.50"], GOOD),
    ],
)
def test_evidence_in_text(query: str, lines: list[str], strength: Strength | None) -> None:
    match = in_text([Line(text, *WHOLE) for text in lines], words_of(query))
    assert (match and match.strength) == strength


@pytest.mark.parametrize(
    ("query", "path", "facts", "strength", "kinds"),
    [
        ("dog", b"1.jpg", Facts(keywords="beach\nDogs"), STRONG, ["keyword"]),
        ("a dog on the beach", b"1.jpg", Facts(keywords="beach\ndog"), STRONG, ["keyword", "keyword"]),
        ("anna beach", b"1.jpg", Facts(people="Anna", title="On the beach"), STRONG, ["person", "title"]),
        ("paris", b"1.jpg", Facts(location="Montmartre, Paris, France"), STRONG, ["place"]),
        ("dog", b"1.jpg", Facts(caption="My dog and a cat"), GOOD, ["caption"]),
        ("cafe", "Café.jpg".encode(), Facts(keywords="Cafe\N{COMBINING ACUTE ACCENT}"), STRONG, ["keyword"]),
        ("summer trip", b"Summer Trip 2019/1.jpg", Facts(), GOOD, ["name"]),
        ("dog 2019", b"2019/1.jpg", Facts(keywords="dog"), GOOD, ["keyword", "name"]),
        ("dog", b"dog/1.jpg", Facts(), WEAK, ["name"]),
        ("dog", b"dogshow/hotdog_doggy.jpg", Facts(keywords="dogma"), None, []),
        ("dog cat", b"1.jpg", Facts(keywords="dog"), None, []),
    ],
)
def test_evidence_in_tags(query: str, path: bytes, facts: Facts, strength: Strength | None, kinds: list[str]) -> None:
    photo = Photo(1, b"/photos/" + path, 1, 1, b"", METADATA.with_facts(facts))
    match = in_tags(photo, path, words_of(query))
    assert (match and match.strength) == strength
    assert [reason.kind for reason in (match or Match(WEAK, ())).reasons] == kinds


# ------------------------------------------------------------------------------------------ searching


class Album:
    """Photos on the disk and in an index. `like` says how much a photo looks like any text, 0 to 1."""

    def __init__(self, store: Store, root: Root) -> None:
        self.store, self.root = store, root

    def add(self, name: str, like: float, text: tuple[str, ...] = (), **facts: str) -> None:
        path = Path(self.root.path.decode()) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        row = np.array([like, np.sqrt(1 - like**2), 0, 0], np.float32)
        known = Facts(**facts)
        image = self.store.images.add(content_hash(name.encode()), Metadata(1, 1).with_facts(known), row)
        self.store.photos.put(self.root, FoundFile(name.encode(), len(name), 1), image, None)
        if text:
            self.store.ocr_text.enable(True)
            self.store.ocr_text.put(image, [Line(line, *WHOLE) for line in text])
        self.store.commit()

    def query(self, *texts: str, where: Filter | None = None, **limits: object) -> list[Hit]:
        terms = [term for text in texts for term in text_terms(text)]
        return Searcher(self.store, where or Filter(), Embedder()).query(terms, Limits(**{"k": 100, **limits}))

    def names(self, *texts: str, **limits: object) -> list[str]:
        return [hit.path.name for hit in self.query(*texts, **limits)]


class Embedder:
    """Every text is the same; a photo shows it with a confidence of its score."""

    def texts(self, texts: list[str], **_: object) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[[0] * len(texts)]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Album]:
    class Calibration:
        def __init__(self, _: object) -> None: ...

        def confidence(self, _: np.ndarray, cosines: np.ndarray) -> np.ndarray:
            return cosines

    monkeypatch.setattr("clipsearch.search.confidence.Calibration", Calibration)
    (tmp_path / "photos").mkdir()
    with Store.create(tmp_path / "index", "{}", DIM) as store:
        yield Album(store, store.folders.add(bytes((tmp_path / "photos").resolve()), Rules()))


def test_writing_comes_first_and_says_why(album: Album) -> None:
    album.add("polaroid.jpg", 0.3)
    album.add("router.jpg", 0.1, text=("Guests", "WIFI PASSWORD: hunter2"))
    first, second = album.query("wifi password")
    assert (first.path.name, first.rank, second.rank) == ("router.jpg", 1, 2)
    assert first.why == (("text", "WIFI PASSWORD: hunter2"),)
    assert second.why == (("look", ""),)
    assert first.score == pytest.approx(0.1, abs=1e-3)  # the score is that of the look
    assert album.names("wifi password", only="look") == ["polaroid.jpg", "router.jpg"]
    assert album.names("wifi password", only="text") == ["router.jpg"]
    assert album.names("wifi password", only="tags") == []
    assert album.names("wifi password", "dog") == ["polaroid.jpg", "router.jpg"]  # nothing says "dog"


def test_look_comes_first_where_it_is_sure(album: Album) -> None:
    for number in range(7):
        album.add(f"{number}.jpg", 0.99 - number / 100)
    album.add("unsure.jpg", CUT - 0.1)
    album.add("receipt.jpg", 0.1, text=("hot dog 3.50",))
    for number in range(20):
        album.add(f"dog/{number:02d}.png", 0.2 - number / 100)
    found = album.query("a dog")
    names = [hit.path.name for hit in found]
    assert names[:4] == ["0.jpg", "1.jpg", "2.jpg", "receipt.jpg"]
    assert names[4:10] == ["3.jpg", "4.jpg", "5.jpg", "6.jpg", "00.png", "unsure.jpg"]
    assert [hit.rank for hit in found] == list(range(1, 30))
    assert found[3].why == (("text", "hot dog 3.50"),)
    assert found[8].why == (("name", "dog"), ("look", ""))  # where its look alone puts it
    assert len(set(names)) == 29
    album.add("another.jpg", CUT - 0.2)
    album.add("a third.jpg", CUT - 0.3)
    assert album.names("a dog")[8:13] == ["00.png", "unsure.jpg", "another.jpg", "01.png", "a third.jpg"]
    names = album.names("a dog")
    for k in (1, 5, 12):  # the first results do not depend on how many are asked for
        assert album.names("a dog", k=k) == names[:k]


def test_tags_are_searched_and_survive_a_strict_cut(album: Album) -> None:
    album.add("look.jpg", 0.9)
    album.add("tagged.jpg", 0.1, keywords="Golden Retriever")
    album.add("captioned.jpg", 0.2, caption="Our retriever at last")
    album.add("retriever/named.jpg", 0.3)
    assert album.names("golden retriever")[0] == "tagged.jpg"
    assert album.names("retriever", min_confidence=CUT) == ["look.jpg", "captioned.jpg", "tagged.jpg"]
    assert album.names("retriever", only="tags") == ["captioned.jpg", "tagged.jpg", "named.jpg"]
    assert album.names("retriever", min_score=0.15) == ["look.jpg", "captioned.jpg", "named.jpg"]
    assert album.names("golden retriever", where=Filter(name="look")) == ["look.jpg"]
    assert album.names("retriever -0.5:cat", only="tags") == ["captioned.jpg", "tagged.jpg", "named.jpg"]
    both = album.query("retriever", sort="name")
    assert [hit.path.name for hit in both] == ["captioned.jpg", "look.jpg", "named.jpg", "tagged.jpg"]


@pytest.mark.parametrize(
    "text",
    ['"', "a\0 b", "dog OR NOT* (cat)", "path:dog", "NEAR(dog, 3)", "-", "dog-" * 400, "words " * 9, "wörd " * 999],
)
def test_any_text_may_be_asked_for(album: Album, text: str) -> None:
    album.add("a.jpg", 0.5, text=("some words",), title="some words")
    assert len(album.query(text, only="look")) == 1
    assert [hit.path.name for hit in album.query(text)] == ["a.jpg"]
    many = " ".join(f"word{number}" for number in range(2000))
    assert album.names(many, only="tags") == []


def test_only_needs_a_text_and_ocr(album: Album) -> None:
    album.add("a.jpg", 0.5)
    for only in ("text", "tags", "captions"):
        with pytest.raises(BadArgument, match=f"{only} needs a text"):
            Limits(only=only).check([Term(b"", kind="image")])
    with pytest.raises(BadArgument, match="must be look, text, tags or captions, not 'ocr'"):
        album.names("dog", only="ocr")
    with pytest.raises(BadRequest, match="no text has been read yet"):
        album.names("dog", only="text")


def test_the_full_text_index_follows_the_photos(album: Album) -> None:
    album.add("a.jpg", 0.5, title="A lighthouse")
    album.add("Strand/Düne.jpg", 0.4)
    album.add("Strand/Du\N{COMBINING DIAERESIS}ne 2.jpg", 0.3)
    assert album.names("Düne", only="tags") == ["Düne.jpg", "Du\N{COMBINING DIAERESIS}ne 2.jpg"]
    assert album.names("lighthouse", only="tags") == ["a.jpg"]
    image = album.store.image_of(album.root, b"a.jpg")
    album.store.photos.put(album.root, FoundFile(b"a.jpg", 1, 2), image, None, Facts(title="A windmill"))
    assert album.names("lighthouse", only="tags") == []
    assert album.names("windmill", only="tags") == ["a.jpg"]
    album.store.photos.remove(album.root, [b"a.jpg"])
    assert album.names("windmill", only="tags") == []
    album.store.commit()
    assert verify(album.store).repairs == ()
    album.store.database.execute("INSERT INTO tags (tags) VALUES ('delete-all')")
    assert album.names("Düne", only="tags") == []
    assert [str(one.damage) for one in verify(album.store).repairs] == ["damaged full-text index"]
    assert len(album.names("Düne", only="tags")) == 2
