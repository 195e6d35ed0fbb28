"""Parsing what people type into a `Question`, and writing a `Question` as a command."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.search.question import (
    CONCEPT,
    CUT,
    IMAGE,
    OPTIONS,
    PHOTO,
    STRICT,
    Filter,
    Limits,
    Question,
    Term,
    image_term,
    parse,
    split_weight,
    text_terms,
)

ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "weight", "words"),
    [
        ("a dog", 1.0, "a dog"),
        ("2:a dog", 2.0, "a dog"),
        ("0.5:a dog", 0.5, "a dog"),
        (".5:a dog", 0.5, "a dog"),
        ("2.:a dog", 2.0, "a dog"),
        ("2: a\ndog", 2.0, " a\ndog"),
        ("10:30 on a clock", 1.0, "10:30 on a clock"),
        ("16:9", 1.0, "16:9"),
        ("10: 30 stations", 10.0, " 30 stations"),
        ("a 2:1 photo", 1.0, "a 2:1 photo"),
        ("1e3:a dog", 1.0, "1e3:a dog"),
        (":a dog", 1.0, ":a dog"),
        ("3:", 3.0, ""),
        ("", 1.0, ""),
    ],
)
def test_a_number_before_a_text_is_its_weight(text: str, weight: float, words: str) -> None:
    assert split_weight(text) == (weight, words)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("people", [Term("people")]),
        (" a dog ", [Term("a dog")]),
        ("16:9 tv", [Term("16:9 tv")]),
        ("-people", [Term("people", -1.0)]),
        ("beach -people", [Term("beach"), Term("people", -1.0)]),
        ("a beach -wet people -2:cars", [Term("a beach"), Term("wet people", -1.0), Term("cars", -2.0)]),
        ("-2:a dog", [Term("a dog", -2.0)]),
        ("x-ray of a t-shirt - front", [Term("x-ray of a t-shirt - front")]),
        ("a thermometer at -5", [Term("a thermometer at -5")]),
        ("@grandma", [Term("grandma", 1.0, CONCEPT)]),
        ("@grandma on a beach", [Term("grandma", 1.0, CONCEPT), Term("on a beach")]),
        ("2:@grandma  by the sea ", [Term("grandma", 2.0, CONCEPT), Term("by the sea", 2.0)]),
        ("beach -@grandma", [Term("beach"), Term("grandma", -1.0, CONCEPT)]),
        ("a dog @home", [Term("a dog @home")]),
    ],
)
def test_a_text_has_these_terms(text: str, terms: list[Term]) -> None:
    assert text_terms(text) == terms
    assert text_terms(text, negative=True) == [term._replace(weight=-abs(term.weight)) for term in terms]


@given(st.text())
@example("9" * 400 + ":a")
@example("1.:")
@example("@ x")
@example("- -a")
def test_any_text_has_terms_or_is_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        terms = text_terms(text)
        assert terms
        for term in terms:
            assert 0 < abs(term.weight) < 1e9
            assert term.content in text


@given(st.binary(max_size=60))
def test_any_bytes_of_a_command_line_have_terms_or_are_refused(raw: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert all(term.content.encode() in raw for term in text_terms(os.fsdecode(raw)))


@pytest.mark.parametrize("text", ["", " \t\n", "2:", "2:  "])
def test_a_text_with_nothing_in_it_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="the query is empty"):
        text_terms(text)


@pytest.mark.parametrize("text", ["0:dog", "0.0:dog", "9999999999:dog", "-0:dog"])
def test_a_weight_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="the weight of 'dog' must be more than 0"):
        text_terms(text)


def test_the_path_of_an_image_is_that_image_only_where_files_may_be_read(tmp_path: Path) -> None:
    photo, notes = tmp_path / "beach.jpg", tmp_path / "notes.txt"
    for path in (photo, notes):
        path.touch()
    assert text_terms(str(photo), files=True) == [Term(str(photo), 1.0, IMAGE)]
    assert text_terms(str(photo)) == [Term(str(photo))]
    for text in ("http://localhost/a", "https://example.org/a.jpg", str(tmp_path / "gone.jpg"), "./gone.HEIC"):
        assert text_terms(text, files=True) == [Term(text, 1.0, IMAGE)]
        assert text_terms(text, files=True, negative=True) == [Term(text, -1.0, IMAGE)]
        assert text_terms(text) == [Term(text)]
    for text in (str(notes), str(tmp_path), "beach.jpg", "either/or", "dog.", "a.jpg\0"):
        assert text_terms(text, files=True) == [Term(text)]


def test_an_image_may_have_a_weight_unless_it_is_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert image_term("2:beach.jpg") == Term("beach.jpg", 2.0, IMAGE)
    assert image_term("2:beach.jpg", negative=True) == Term("beach.jpg", -2.0, IMAGE)
    (tmp_path / "2:beach.jpg").touch()
    assert image_term("2:beach.jpg") == Term("2:beach.jpg", 1.0, IMAGE)
    with pytest.raises(BadArgument, match="unlike needs a name"):
        image_term("", negative=True)


# ------------------------------------------------------------------------------------------ addresses and commands


def test_an_address_is_read_as_a_question() -> None:
    pairs = [("text", "2:dog -people"), ("not", "cars"), ("like", ID), ("unlike", f"2:{ID}"), ("after", "2023-06")]
    pairs += [("type", "jpg"), ("cut", "1"), ("unique", "1"), ("tab", "7"), ("camera", " ")]
    question = parse(pairs)
    assert question.terms == (
        *(Term("dog", 2.0), Term("people", -1.0), Term("cars", -1.0)),
        *(Term(ID, 1.0, PHOTO), Term(ID, -2.0, PHOTO)),
    )
    assert question.filter == Filter(after="2023-06", types="jpeg")
    assert question.limits == Limits(min_confidence=CUT, unique=True)
    assert parse([("like", ID), ("cut", "1")]).limits.min_confidence is None  # images have no confidence
    strict = parse([("text", "dog"), ("cut", "strict")])
    assert strict.limits.min_confidence == STRICT
    assert strict.arguments() == (["dog"], ["--strict", "-k", "10"])
    assert parse([("text", "dog"), ("cut", "0.3")]).limits.min_confidence == 0.3
    assert hash(question) == hash(parse(pairs))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("text", "x" * 2001)], "at most 2,000 characters"),
        ([("text", "x")] * 33, "at most 32 terms"),
        ([("like", "../../etc/passwd")], "invalid photo id"),
        ([("text", "a"), ("cut", "7")], "cut must be 1, strict or a confidence"),
        ([("after", "soon")], "not a valid date"),
        ([("sort", "colour")], "sort must be score, date"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse(pairs)


def test_a_question_is_spelled_as_the_command_that_asks_it() -> None:
    question = parse(
        [
            *(("text", "2:@grandma on a beach -people"), ("like", f"2:{ID}"), ("unlike", ID), ("size", "-500k")),
            *(("near", "48.85,2.35,5"), ("after", "2023-06-14 18:03"), ("unique", "1"), ("cut", "1")),
            *(("not_under", "-odd"), ("sort", "-date")),
        ]
    )
    texts, options = question.arguments(lambda photo: f"/photos/{photo[:4]}.jpg")
    assert texts == ["2:@grandma", "2:on a beach"]
    assert options == [
        *("--not", "people", "--like", "2:/photos/0123.jpg", "--unlike", "/photos/0123.jpg"),
        *("--not-under=-odd", "--after", "2023-06-14 18:03", "--near", "48.85,2.35,5", "--size=-500000"),
        *("--cut", "--unique", "--sort=-date", "-k", "10"),
    ]


words = st.from_regex(r"[a-z@]?[a-z 0-9:]{1,12}", fullmatch=True)
pairs = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["text", "not"]), words),
        st.sampled_from(
            [("camera", "canon"), ("size", "+2M"), ("near", "1.5,2"), ("type", "heic"), ("keyword", "a OR b")]
        ),
    ),
    max_size=6,
)


@given(pairs, st.booleans())
def test_what_is_spelled_asks_the_same(asked: list[tuple[str, str]], unique: bool) -> None:
    with contextlib.suppress(BadRequest):
        question = parse([*asked, ("unique", str(int(unique)))])
        texts, options = question.arguments()
        again = [term for text in texts for term in text_terms(text)]
        named: list[tuple[str, str]] = []
        waiting = iter(options)
        for word in waiting:
            if word == "--not":
                again += text_terms(next(waiting), negative=True)
            elif word.removeprefix("--") in OPTIONS:
                named.append((word[2:], next(waiting)))
        key = lambda term: (term.weight < 0, str(term))  # noqa: E731  # the order of terms makes no difference
        assert sorted(again, key=key) == sorted(question.terms, key=key)
        assert Filter.parse(named) == question.filter
        assert ("--unique" in options) == unique


def test_limits_are_checked() -> None:
    for limits, words in ((Limits(0), "k must be"), (Limits(similarity=0.9), "similarity has no effect")):
        with pytest.raises(BadArgument, match=words):
            limits.check(Question().terms)
    with pytest.raises(BadArgument, match="min_confidence needs a text"):
        Limits(min_confidence=0.5).check([Term(ID, 1.0, PHOTO), Term("people", -1.0)])
