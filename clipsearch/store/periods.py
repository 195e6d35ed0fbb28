"""Periods as people write them: months, years, seasons and days, such as "July 2023" or "last summer"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from clipsearch.store.dates import months_later, start_of

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
# Parts of a year: first month and day, and how long they last, in months or days. Seasons are those of the north.
_PARTS = {
    **{name: (month, 1, 1, 0) for month, name in enumerate(_MONTHS, 1)},
    "spring": (3, 1, 3, 0),
    "summer": (6, 1, 3, 0),
    "autumn": (9, 1, 3, 0),
    "fall": (9, 1, 3, 0),
    "winter": (12, 1, 3, 0),
    "christmas": (12, 24, 0, 3),
    "halloween": (10, 31, 0, 1),
}
_UNITS = ("week", "month", "year")
_SHORTEST = 3  # letters of an abbreviation

_YEAR = r"(?P<year>(?:19|20)\d\d)"
_ISO = re.compile(_YEAR + r"(?:[-/.](?P<month>\d\d?)(?:[-/.](?P<day>\d\d?))?)?")
_DECADE = re.compile(r"(?P<decade>(?:19|20)\d)0s")
_PART = re.compile(rf"(?P<part>[a-z]+)\.? {_YEAR}|{_YEAR.replace('year', 'first')} (?P<last>[a-z]+)")
_PART_OF = re.compile(r"(?P<part>[a-z]+)\.? (?P<start>\d{1,3})")  # of an incomplete year
_DAY = re.compile(
    rf"(?P<day>\d\d?)(?:st|nd|rd|th)?\.? (?P<month>[a-z]+)\.?,? {_YEAR}"
    rf"|(?P<month_2>[a-z]+)\.? (?P<day_2>\d\d?)(?:st|nd|rd|th)?,? {_YEAR.replace('year', 'year_2')}"
)
_RELATIVE = re.compile(r"(?P<which>last|this)(?: (?P<what>[a-z]*))?")


class Period(NamedTuple):
    """A named period; the end is exclusive."""

    title: str
    start: datetime
    end: datetime

    @property
    def detail(self) -> str:
        """The first and the last day, unless the title says the same."""
        last = self.end - timedelta(days=1)
        if self.title in (_title_of_month(self.start), _title_of_day(self.start), str(self.start.year)):
            return ""
        if self.start.day == self.end.day == 1:
            first, final = _title_of_month(self.start), _title_of_month(last)
            return first if first == final else f"{first} to {final}"
        return _title_of_day(self.start) + ("" if last == self.start else f" to {_title_of_day(last)}")


def periods(words: str, now: datetime, years: Sequence[int], *, typing: bool = False) -> list[Period]:
    """The periods that a text can mean; none if it is no date.

    A part of a year without the year, such as "July", is that of each of `years`. `typing`: the last word or year may
    be incomplete.
    """
    text = " ".join(words.lower().replace(",", " ").split())
    try:
        return list(_periods(text, now, years, typing=typing))
    except (ValueError, OverflowError):  # 31 June, the year 0
        return []


def _periods(text: str, now: datetime, years: Sequence[int], *, typing: bool) -> Iterator[Period]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if match := _ISO.fullmatch(text):
        yield _iso(int(match["year"]), match["month"], match["day"])
    elif match := _DECADE.fullmatch(text):
        start = datetime(int(match["decade"]) * 10, 1, 1)
        yield Period(f"{start:%Y}s", start, start.replace(year=start.year + 10))
    elif match := _DAY.fullmatch(text):
        month = _part_named(match["month"] or match["month_2"])
        if month in _MONTHS:
            year, day = int(match["year"] or match["year_2"]), match["day"] or match["day_2"]
            yield _iso(year, str(_MONTHS.index(month) + 1), day)
    elif match := _PART.fullmatch(text):
        if part := _part_named(match["part"] or match["last"]):
            yield _of_year(part, int(match["year"] or match["first"]))
    elif typing and (match := _PART_OF.fullmatch(text)):
        if part := _part_named(match["part"]):
            yield from (_of_year(part, year) for year in years if str(year).startswith(match["start"]))
    elif text in ("today", "yesterday"):
        start = today - timedelta(days=text == "yesterday")
        yield Period(text.capitalize(), start, start + timedelta(days=1))
    elif match := _RELATIVE.fullmatch(text):
        yield from _relative(match["which"], match["what"] or "", today, typing=typing)
    elif part := _part_named(text):
        for year in years:
            yield _of_year(part, year)


def _iso(year: int, month: str | None, day: str | None) -> Period:
    start = datetime(year, int(month or 1), int(day or 1))
    if day:
        return Period(_title_of_day(start), start, start + timedelta(days=1))
    if month:
        return Period(_title_of_month(start), start, months_later(start, 1))
    return Period(f"{start:%Y}", start, months_later(start, 12))


def _relative(which: str, what: str, today: datetime, *, typing: bool) -> Iterator[Period]:
    names = _UNITS if not what else (*_UNITS, *_PARTS)
    for name in names:
        if name != what and not (typing and name.startswith(what)):
            continue
        if name in _UNITS:
            start = start_of(name, -1 if which == "last" else 0, today)
            yield Period(f"{which} {name}".capitalize(), start, start_of(name, 0 if which == "last" else 1, today))
        elif which == "this":
            yield _of_year(name, today.year)._replace(title=f"This {_titled(name)}")
        else:
            past = (_of_year(name, today.year - back) for back in range(3))
            yield next(one for one in past if one.end <= today)._replace(title=f"Last {_titled(name)}")


def _of_year(part: str, year: int) -> Period:
    month, day, months, days = _PARTS[part]
    start = datetime(year, month, day)
    return Period(f"{part.capitalize()} {year}", start, months_later(start, months) + timedelta(days=days))


def _part_named(word: str) -> str | None:
    """The part of a year that a word is, or abbreviates."""
    found = [name for name in _PARTS if name == word or (len(word) >= _SHORTEST and name.startswith(word))]
    return word if word in found else found[0] if len(found) == 1 else "september" if word == "sept" else None


def _titled(part: str) -> str:
    return part.capitalize() if part in _MONTHS or part in ("christmas", "halloween") else part


def _title_of_month(moment: datetime) -> str:
    return f"{_MONTHS[moment.month - 1].capitalize()} {moment.year}"


def _title_of_day(moment: datetime) -> str:
    return f"{moment.day} {_title_of_month(moment)}"
