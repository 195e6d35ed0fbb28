"""Parsing dates, sizes and places, and the photos that each filter selects."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path

import pytest
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import BadRequest
from clipsearch.images.kinds import SUFFIXES, TYPES
from clipsearch.store.conditions import Circle, GeoBox
from clipsearch.store.dates import parse_date
from clipsearch.store.filters import (
    EVERYTHING,
    FILTERS,
    OPTIONS,
    UNRATED,
    Filter,
    Size,
    Stars,
    parse_box,
    parse_circle,
    parse_orientation,
    parse_size,
    parse_stars,
    parse_type,
)

NOW = datetime(2024, 3, 31, 15, 4, 5)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023", datetime(2023, 1, 1)),
        ("2023-06", datetime(2023, 6, 1)),
        ("2023-06-14", datetime(2023, 6, 14)),
        ("2023-06-14T18:03", datetime(2023, 6, 14, 18, 3)),
        ("2023-06-14 18:03:07", datetime(2023, 6, 14, 18, 3, 7)),
        ("today", datetime(2024, 3, 31)),
        ("Yesterday", datetime(2024, 3, 30)),
        ("1 month ago", datetime(2024, 2, 29, 15, 4, 5)),  # which has no 31st
        ("3 months ago", datetime(2023, 12, 31, 15, 4, 5)),
        ("2 years ago", datetime(2022, 3, 31, 15, 4, 5)),
        ("1y", datetime(2023, 3, 31, 15, 4, 5)),
        ("2 weeks ago", datetime(2024, 3, 17, 15, 4, 5)),
        ("2w", datetime(2024, 3, 17, 15, 4, 5)),
        ("10 days ago", datetime(2024, 3, 21, 15, 4, 5)),
        ("90min", datetime(2024, 3, 31, 13, 34, 5)),
        ("5 seconds ago", datetime(2024, 3, 31, 15, 4)),
        ("4h", datetime(2024, 3, 31, 11, 4, 5)),
        ("2023-6", datetime(2023, 6, 1)),
        ("2023/06/14", datetime(2023, 6, 14)),
        ("2023.6.7", datetime(2023, 6, 7)),
        ("2023/6/7 18:03", datetime(2023, 6, 7, 18, 3)),
        (" 2023-06-14  18:03 ", datetime(2023, 6, 14, 18, 3)),
        ("tomorrow", datetime(2024, 4, 1)),
        ("now", NOW),
        ("a year ago", datetime(2023, 3, 31, 15, 4, 5)),
        ("an hour ago", datetime(2024, 3, 31, 14, 4, 5)),
        ("1mo", datetime(2024, 2, 29, 15, 4, 5)),
        ("monday", datetime(2024, 3, 25)),
        ("last Saturday", datetime(2024, 3, 30)),
        ("sunday", datetime(2024, 3, 24)),  # NOW is one
        ("last week", datetime(2024, 3, 18)),  # NOW is a Sunday: this week began on the 25th
        ("this week", datetime(2024, 3, 25)),
        ("last month", datetime(2024, 2, 1)),
        ("this month", datetime(2024, 3, 1)),
        ("Last Year", datetime(2023, 1, 1)),
        ("next year", datetime(2025, 1, 1)),
        ("14 June 2023", datetime(2023, 6, 14)),
        ("June 2023", datetime(2023, 6, 1)),
        ("jun 7, 2023 6pm", datetime(2023, 6, 7, 18)),
        ("14.6.2023", datetime(2023, 6, 14)),
    ],
)
def test_a_date(text: str, moment: datetime) -> None:
    assert parse_date(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "2023-13", "2023-02-30", "23", "soon", "5000 years ago", "3 fortnights ago", "-1d", "0000"),
        *(
            "6/7/2023",
            "06.07.2023",
            "next monday",
            "june",
            "18:03",
            "14 june",
            "last summer",
            "14 June 2023 18:03 CEST",
        ),
        *("2023-06-14 25:00", "2023-06-14T18:03:00+99:00", "2023-06-14 soon", "nan", "inf 2023"),
    ],
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(BadRequest, match=r"is not a valid date; write .*18:03.*ago'$"):
        parse_date(text, NOW)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system's time zone cannot be changed")
@pytest.mark.parametrize(
    "text", ["2023-06-14T16:03:00Z", "2023-06-14t16:03z", "2023-06-14 18:03+02:00", "14 June 2023 16:03 UTC"]
)
def test_a_time_with_a_zone_is_a_local_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5")  # five hours east of Greenwich
    time.tzset()
    try:
        assert parse_date(text, NOW) == datetime(2023, 6, 14, 21, 3)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_dates_that_programs_write_need_no_library() -> None:
    code = (
        "import sys; from clipsearch.store.dates import parse_date\n"
        "for text in ('2023', '2023-6', '2023/06/14', '2023-06-14T18:03:00Z', '2w', 'last week'): parse_date(text)\n"
        "print('dateutil' in sys.modules); parse_date('14 June 2023'); print('dateutil' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("+2M", 2_000_000, None),
        ("-500k", None, 500_000),
        ("10ki", 10_240, 10_240),
        ("0", 0, 0),
        ("+1GiB", 1 << 30, None),
        ("7b", 7, 7),
        ("1kb", 1000, 1000),
        ("+1.5M", 1_500_000, None),
        ("2.3k", 2300, 2300),
        ("-0.5 GiB", None, 1 << 29),
        ("+999999999999t", 2**63 - 1, None),  # no file is larger than SQLite's numbers
    ],
)
def test_a_size_is_as_in_fd(text: str, least: int | None, most: int | None) -> None:
    assert parse_size(text) == (least, most)


@pytest.mark.parametrize("text", ["", "M", "2.5.5M", ".5M", "nan", "inf", "2X", "++2", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a valid size"):
        parse_size(text)


def test_a_place() -> None:
    assert parse_circle("48.85,2.35") == Circle(48.85, 2.35, 10)
    assert parse_circle("-33.9, 18.4,1.5") == Circle(-33.9, 18.4, 1.5)
    assert parse_circle("48.85 2.35") == parse_circle(" 48.85 , 2.35 ") == Circle(48.85, 2.35, 10)
    assert parse_circle("1,2,5km") == parse_circle("1 2 5 KM") == Circle(1, 2, 5)
    for wrong in (
        *("", "48.85", "91,0", "0,181", "0,0,-1", "a,b", "1,2,3,4", "nan,0", "0,0,inf", "0,0,nan", "48,85 2,35"),
        *("1,,2", "km"),
    ):
        with pytest.raises(BadRequest, match="is not a valid place"):
            parse_circle(wrong)


def test_a_box() -> None:
    assert parse_box("48.8,2.2,48.9,2.5") == parse_box(" 48.8 2.2, 48.9 2.5 ") == GeoBox(48.8, 2.2, 48.9, 2.5)
    assert parse_box("-20,177,-16,-178") == GeoBox(-20, 177, -16, -178)  # across the antimeridian
    for wrong in ("", "1,2,3", "1,2,3,4,5", "3,2,1,4", "-91,0,0,0", "0,-181,1,0", "0,0,nan,1", "0,0,1,inf", "a,b,c,d"):
        with pytest.raises(BadRequest, match="is not a valid box; write SOUTH,WEST,NORTH,EAST"):
            parse_box(wrong)


def test_a_type_goes_by_its_name_and_its_suffixes() -> None:
    assert parse_type("JPG") == parse_type("jpeg") == parse_type(".jpg") == "jpeg"
    with pytest.raises(BadRequest, match="choose from jpeg, png"):
        parse_type("docx")
    assert {suffix.encode() for suffixes in TYPES.values() for suffix in suffixes} == SUFFIXES


def test_an_orientation_may_be_cut_short() -> None:
    assert [parse_orientation(text) for text in ("landscape", "PORTRAIT", "sq")] == ["landscape", "portrait", "square"]
    for wrong in ("", "wide"):
        with pytest.raises(BadRequest, match="unknown orientation"):
            parse_orientation(wrong)


@pytest.mark.parametrize("text", ["6", "4++", "3-2", "", "-2", "many", "1.5", "+4"])
def test_a_rating_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a valid rating; write 4\\+ for at least four stars"):
        parse_stars(text)


def test_filters_are_made_of_text_and_spelled_as_text() -> None:
    text = (
        "under=a under=b not_under=a/c after=2023 after=2021 before=2024-02 camera=canon near=1,2 near=3,4,5.5 size=+1k"
        " size=-9k size=0 within=-1,2,3.5,-4 orientation=sq type=png type=JPG keyword=x keyword=y name=two reads=total"
        " caption=sea person=Ann person=Ben without_person=Carl rating=4+ rating=2-3 rating=5 rating=none"
        " rating=rejected color_label=red"
    )
    where = Filter.parse((option, value) for option, _, value in (pair.partition("=") for pair in text.split()))
    assert where == Filter(
        under=("a", "b"),
        not_under="a/c",
        after=(datetime(2023, 1, 1), date(2021, 1, 1)),
        before="2024-02-01",
        camera=["canon"],
        near=(Circle(1, 2), (3, 4, 5.5)),
        within=(-1, 2, 3.5, -4),
        size=(Size(least=1000), Size(most=9000), Size(0, 0)),
        orientation={"square"},
        types=("png", "jpeg"),
        keywords=("x", "y"),
        name="two",
        reads="total",
        caption="sea",
        people=("Ann", "Ben"),
        without_people="Carl",
        rating=("4+", Stars(2, 3), 5, UNRATED, -1),
        color_label="red",
    )
    assert Filter.parse(where.spelled()) == where
    assert {option for option, _ in where.spelled()} == set(OPTIONS)
    with pytest.raises(BadRequest, match="camera must not be empty"):
        Filter.parse([("camera", "canon"), ("camera", " ")])
    with pytest.raises(KeyError, match="lens"):
        Filter.parse([("lens", "50mm")])


@given(st.datetimes(datetime(1900, 1, 1)), st.tuples(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 1e9)))
def test_what_is_spelled_is_read_as_the_same(moment: datetime, circle: tuple[float, float, float]) -> None:
    where = Filter(after=moment.replace(microsecond=0), near=circle)
    assert Filter.parse(where.spelled()) == where


def test_one_value_and_several_make_the_same_filter() -> None:
    one = Filter(under="a", camera="b", near=Circle(1, 2), orientation="square", types=".png", name="c", reads="d")
    assert one == Filter(
        under=Path("a"), camera=["b"], near=[(1, 2)], orientation=["square"], types=("png",), name=["c"], reads=["d"]
    )
    assert Filter(under=None, near=None, files=None, keywords=()) == EVERYTHING
    assert Filter(files=["a", b"b", Path("c")]).files == (b"a", b"b", b"c")
    assert copy.copy(one) == one
    assert hash(one) == hash(copy.copy(one))


def test_every_filter_of_the_table_has_what_its_users_show() -> None:
    assert len(FILTERS) == 18
    for entry in FILTERS:
        assert entry.help.endswith("."), entry.option
        assert len(entry.metavar) <= 12, entry.option
        assert entry.choices == tuple(map(entry.parse, entry.choices))


@given(st.text())
@examples(100)
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (parse_date, parse_size, parse_circle, parse_box, parse_type, parse_orientation, parse_stars):
        with contextlib.suppress(BadRequest):
            parse(text)
