"""Confidence: a calibrated probability that a photo shows a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run

from clipsearch.errors import BadRequest
from clipsearch.indexing.update import Options, update_index
from clipsearch.search.confidence import FITTED, Calibration, Weights, prompts
from clipsearch.search.embed import Embedder
from clipsearch.search.find import Searcher
from clipsearch.search.question import CUT, STRICT, Limits, Term, image_term
from clipsearch.store.catalogue import Store
from clipsearch.store.catalogue import Store as Catalogue


def test_confidence_falls_with_the_score(drawn_index: Path) -> None:
    with Store.open(drawn_index) as store:
        for text in [*(scene.captions[0] for scene in SCENES[:8]), "a dog", "x", "a photo of people at a wedding"]:
            hits = Searcher(store).query([Term(text, 2.0)], Limits(40, min_confidence=0.0))
            both = [(hit.score, hit.confidence) for hit in hits]
            assert len(both) == 40
            assert both == sorted(both, reverse=True)
            assert both[0][1] > both[-1][1]


def test_general_texts_and_those_that_suit_the_photos_need_less_of_a_score() -> None:
    score = np.array([2.0], np.float32)
    (usual,) = FITTED.confidence(score, 0.0, 0.0)
    assert FITTED.confidence(score, 0.5, 0.0)[0] > usual < FITTED.confidence(score, 0.0, 1.0)[0]
    assert FITTED.confidence(score + 1, 0.0, 0.0)[0] > usual
    assert Weights(1, 1, 1, 0).confidence(np.array([-1000.0, 1000.0]), 0, 0) == pytest.approx([0, 1])


def test_its_units_fit_any_model(drawn_index: Path) -> None:
    """Another modality gap and temperature give the same z-scores; shifted cosines stand for another model."""

    class Shifted(Embedder):
        def texts(self, texts: Sequence[str], *, always_cache: bool = False) -> np.ndarray:
            return np.pad(0.3 * super().texts(texts, always_cache=always_cache), ((0, 0), (0, 1)), constant_values=0.2)

    class WithGap(Catalogue):
        def unit_rows_of(self, ids: Iterable[int]) -> np.ndarray:
            return np.pad(super().unit_rows_of(ids), ((0, 0), (0, 1)), constant_values=1.0)

    with Store.open(drawn_index) as store:
        embedder, photos = Embedder(store), store.unit_rows_of(store.sample(20))
        text = embedder.texts(["a red circle"])[0]
        usual = Calibration(embedder).z_scores(text, photos @ text)
        store.__class__ = WithGap
        other = Shifted(store)
        text = other.texts(["a red circle"])[0]
        found = Calibration(other).z_scores(text, store.unit_rows_of(store.sample(20)) @ text)
    for one, another in zip(usual, found, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-3)


def test_it_comes_from_a_sample_that_does_not_depend_on_the_order_of_indexing(
    drawn: Path, drawn_index: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in drawn.glob("*.png"))
    for folder, part in (("b", names[:20]), ("a", names[20:])):
        (tmp_path / folder).mkdir()
        for name in part:
            (tmp_path / folder / name).write_bytes((drawn / name).read_bytes())
    update_index(tmp_path / "index", [tmp_path / "b"], Options(model="mini"))
    update_index(tmp_path / "index", [tmp_path / "a"], Options(model="mini"))
    with Store.open(drawn_index) as one, Store.open(tmp_path / "index") as other:
        np.testing.assert_array_equal(one.unit_rows_of(one.sample(7)), other.unit_rows_of(other.sample(7)))
        assert len(one.sample(1000)) == len(names)


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
        assert both == pytest.approx({path: min(first[path], second[path]) for path in both}, rel=1e-2)
        assert of(one, Term("a dog", -1.0)) == pytest.approx(first, rel=1e-2)


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


def test_strict_is_a_higher_cut(clipsearch: Run, drawn_index: Path) -> None:
    text = SCENES[5].captions[0]
    hits = json.loads(clipsearch("query", text, "-k", "40", "--format", "json", index=drawn_index).out)
    for option, least in (("--cut", CUT), ("--strict", STRICT)):
        kept = clipsearch("query", text, option, "-k", "40", index=drawn_index)
        assert kept.lines == [hit["path"] for hit in hits if hit["confidence"] >= least]
    assert CUT < STRICT
    refused = clipsearch("query", "--image", "-", "--strict", index=drawn_index, stdin=b"x")
    assert refused.err.startswith("clipsearch: --strict needs a text to look for")
