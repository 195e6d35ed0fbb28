"""Confidence: a probability per photo and text that does not depend on the rest of the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run

from clipsearch.arrays import unit_rows
from clipsearch.errors import BadRequest
from clipsearch.search import confidence
from clipsearch.search.confidence import Background, prompts
from clipsearch.search.embed import Embedder
from clipsearch.search.find import Searcher
from clipsearch.search.question import Limits, Term, image_term
from clipsearch.store.catalogue import Store


class StubEmbedder:
    """Texts as given rows, with a scale."""

    logit_scale = 10.0

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def texts(self, texts: list[str], *, always_cache: bool = False) -> np.ndarray:
        return self._rows[: len(texts)]


def test_it_is_the_softmax_over_the_query_and_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    others, photos, text = (unit_rows(rng.normal(size=(n, 16))) for n in (40, 5, 1))
    monkeypatch.setattr(confidence, "prompts", lambda: ["x"] * 40)
    monkeypatch.setattr(confidence, "_SYNONYM", 100.0)  # all of them compete
    found = Background(StubEmbedder(others)).confidence(text[0], photos)
    for photo, value in zip(photos, found, strict=True):
        odds = np.exp(0.7 * 10 * np.array([photo @ text[0], *(others @ photo)], np.float64))
        assert value == pytest.approx(odds[0] / odds.sum(), rel=1e-5)


def test_texts_that_mean_the_same_do_not_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    text = unit_rows(rng.normal(size=(1, 16)))[0]
    others = unit_rows(rng.normal(size=(40, 16)))
    monkeypatch.setattr(confidence, "prompts", lambda: ["x"] * len(others))
    without = Background(StubEmbedder(others[1:]))
    monkeypatch.setattr(confidence, "prompts", lambda: ["x"] * 40)
    others[0] = unit_rows((text + 0.1 * others[0])[None])[0]
    with_it = Background(StubEmbedder(others))
    np.testing.assert_allclose(with_it.confidence(text, others), without.confidence(text, others), rtol=1e-5)


def test_the_background_are_texts_each_once() -> None:
    assert len(prompts()) == len(set(prompts())) > 100
    assert all(text == text.strip() and text for text in prompts())


def test_it_does_not_depend_on_how_much_is_looked_at(drawn_index: Path) -> None:
    text = Term(SCENES[5].captions[0])
    with Store.open(drawn_index) as store:
        many = {hit.path: hit.confidence for hit in Searcher(store).query([text], Limits(40, min_confidence=0.0))}
        few = Searcher(store).query([text], Limits(1, min_confidence=0.0))
    assert few[0].confidence == pytest.approx(many[few[0].path], rel=1e-4)
    assert len(many) == 40
    assert all(0 <= value <= 1 for value in many.values())


def test_what_is_shown_is_likelier_than_what_is_not(drawn_index: Path) -> None:
    with Store.open(drawn_index) as store:
        searcher = Searcher(store)
        shown = [
            searcher.query([Term(s.captions[0])], Limits(1, min_confidence=0.0))[0].confidence for s in SCENES[:12]
        ]
        words = ["a receipt", "a lobster", "people at a wedding", "a laptop", "a plate of sushi", "a saxophone"]
        absent = [searcher.query([Term(text)], Limits(1, min_confidence=0.0))[0].confidence for text in words]
    assert np.median(shown) > np.median(absent)


def test_photos_that_are_not_likely_enough_are_no_hits(drawn_index: Path) -> None:
    term = Term(SCENES[5].captions[0])
    with Store.open(drawn_index) as store:
        searcher = Searcher(store)
        every = searcher.query([term], Limits(40, min_confidence=0.0))
        threshold = sorted(hit.confidence for hit in every)[30]
        some = searcher.query([term], Limits(40, min_confidence=threshold))
        assert [hit.path for hit in some] == [hit.path for hit in every if hit.confidence >= threshold]
        assert [hit.rank for hit in some] == list(range(1, len(some) + 1))
        assert searcher.query([term], Limits(40, min_confidence=1.0)) == []


def test_of_several_texts_the_least_likely_counts(drawn_index: Path) -> None:
    one, two = Term(SCENES[5].captions[0]), Term("people at a wedding")
    with Store.open(drawn_index) as store:
        searcher = Searcher(store)

        def of(*terms) -> dict[str, float]:
            return {hit.path: hit.confidence for hit in searcher.query(list(terms), Limits(40, min_confidence=0.0))}

        both, first, second = of(one, two), of(one), of(two)
        assert both == pytest.approx({path: min(first[path], second[path]) for path in both}, rel=1e-4)
        assert of(one, Term("a dog", -1.0)) == pytest.approx(first)


def test_images_have_none(drawn: Path, drawn_index: Path) -> None:
    with Store.open(drawn_index) as store:
        searcher = Searcher(store)
        with pytest.raises(BadRequest, match="confidence needs a text"):
            searcher.query([image_term(drawn / "00.png")], Limits(1, min_confidence=0.1))
        [hit] = searcher.query([image_term(drawn / "00.png")], Limits(1))
        assert searcher.with_confidence([hit], [image_term(drawn / "00.png")]) == [hit]
        assert Embedder(store).logit_scale > 1


def test_cut_may_leave_nothing(clipsearch: Run, drawn_index: Path) -> None:
    nothing = clipsearch("query", "people at a wedding", "--cut", index=drawn_index)
    assert (nothing.status, nothing.out, nothing.err) == (1, b"", "")
    least = clipsearch("query", "people at a wedding", "--min-confidence", "0", "--format", "table", index=drawn_index)
    assert len(least.lines) == 11
    assert all("%" in line for line in least.lines[1:])
    refused = clipsearch("query", "--image", "-", "--cut", index=drawn_index, stdin=b"x")
    assert refused.status == 2
    wrong = clipsearch("query", "a dog", "--min-confidence", "40", index=drawn_index)
    assert wrong.err == "clipsearch: --min-confidence must be a probability, 0 to 1, not 40.0\n"
