"""Periods as people write them."""

from __future__ import annotations

from datetime import datetime

import pytest

from clipsearch.store.dates import parse_date, spell_date
from clipsearch.store.periods import periods

NOW = datetime(2024, 2, 14, 18, 30)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "title", "after", "before"),
    [
        ("2019", "2019", "2019", "2020"),
        ("1990s", "1990s", "1990", "2000"),
        ("July 2023", "July 2023", "2023-07", "2023-08"),
        ("dec. 2023", "December 2023", "2023-12", "2024"),
        ("sept 2023", "September 2023", "2023-09", "2023-10"),
        ("2023 july", "July 2023", "2023-07", "2023-08"),
        ("2023-07", "July 2023", "2023-07", "2023-08"),
        ("2023/7/4", "4 July 2023", "2023-07-04", "2023-07-05"),
        ("4 July 2023", "4 July 2023", "2023-07-04", "2023-07-05"),
        ("July 4th, 2023", "4 July 2023", "2023-07-04", "2023-07-05"),
        ("summer 2023", "Summer 2023", "2023-06", "2023-09"),
        ("winter 2023", "Winter 2023", "2023-12", "2024-03"),
        ("last summer", "Last summer", "2023-06", "2023-09"),
        ("last winter", "Last winter", "2022-12", "2023-03"),  # this one goes on until the end of February
        ("last february", "Last February", "2023-02", "2023-03"),
        ("this summer", "This summer", "2024-06", "2024-09"),
        ("christmas 2021", "Christmas 2021", "2021-12-24", "2021-12-27"),
        ("last week", "Last week", "2024-02-05", "2024-02-12"),
        ("this month", "This month", "2024-02", "2024-03"),
        ("last year", "Last year", "2023", "2024"),
        ("yesterday", "Yesterday", "2024-02-13", "2024-02-14"),
    ],
)
def test_a_period(text: str, title: str, after: str, before: str) -> None:
    (found,) = periods(text, NOW, [])
    assert (found.title, spell_date(found.start), spell_date(found.end)) == (title, after, before)
    assert parse_date(after) == found.start
    assert parse_date(before) == found.end


@pytest.mark.parametrize("text", ["", "dog", "31 June 2023", "13 2023", "2023-13", "1", "the last supper", "ju"])
def test_what_is_no_period(text: str) -> None:
    assert periods(text, NOW, [2023], typing=True) == []


def test_a_part_of_a_year_is_that_of_each_year() -> None:
    assert [one.title for one in periods("july", NOW, [2023, 2019])] == ["July 2023", "July 2019"]
    assert [one.title for one in periods("chr", NOW, [2023])] == ["Christmas 2023"]


def test_a_word_that_is_being_typed_is_completed() -> None:
    assert [one.title for one in periods("last", NOW, [], typing=True)] == ["Last week", "Last month", "Last year"]
    assert "Last summer" in [one.title for one in periods("last s", NOW, [], typing=True)]
    assert periods("last s", NOW, []) == []
    assert [one.title for one in periods("july 20", NOW, [2023, 1999], typing=True)] == ["July 2023"]
    assert periods("july 20", NOW, [2023]) == []


def test_the_days_are_named_unless_the_title_does() -> None:
    details = {"July 2023": "", "2019": "", "last summer": "June 2023 to August 2023", "last month": "January 2024"}
    details |= {"christmas 2021": "24 December 2021 to 26 December 2021", "yesterday": "13 February 2024"}
    assert {text: periods(text, NOW, [])[0].detail for text in details} == details
