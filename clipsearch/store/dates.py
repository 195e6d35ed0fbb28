"""Dates as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from clipsearch.errors import BadRequest

_DATE = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})(?:\2(\d{1,2})(?:[t ](.+))?)?)?")
_AGO = re.compile(r"(\d{1,6}|an?|one) *(s|second|min|minute|h|hour|d|day|w|week|mo|month|y|year)s?(?: ago)?")
_PERIOD = re.compile(r"(this|last|next) (week|month|year)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def parse_date(text: str, now: datetime | None = None) -> datetime:
    """The start of the period that a text names, in local time.

    Understands `2023`, `2023-06`, `2023/06/14`, `2023-06-14 18:03`, `2023-06-14T16:03:00Z`, `tomorrow`, `last week`
    (weeks start on Monday), `monday` (within the last seven days), `3 months ago`, `2w` and `14 June 2023`. Raises
    `BadRequest` for anything else, and for ambiguous dates such as `6/7/2023`.
    """
    words = " ".join(text.lower().split())
    try:
        if match := _DATE.fullmatch(words):
            return _iso(match[1], match[3] or "1", match[4] or "1", match[5] or "00")
        return _relative(words, now or datetime.now()) or _free(words)
    # dateutil raises the last three for text that is nothing like a date.
    except (ValueError, OverflowError, OSError, TypeError, AttributeError, ArithmeticError):
        raise BadRequest(
            f"{text!r} is not a valid date; write 2023, 2023-06, 2023-06-14, '2023-06-14 18:03', yesterday,"
            " 'last week' or '3 months ago'"
        ) from None


def _relative(words: str, now: datetime) -> datetime | None:
    if words == "now":
        return now
    if match := _AGO.fullmatch(words):
        return _ago(now, int(match[1]) if match[1].isdecimal() else 1, match[2])
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if match := _PERIOD.fullmatch(words):
        return start_of(match[2], {"last": -1, "this": 0, "next": 1}[match[1]], today)
    if (day := words.removeprefix("last ")) in _WEEKDAYS:
        return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(day) - 1) % 7 + 1)
    return today + timedelta(days=_DAYS[words]) if words in _DAYS else None


def start_of(unit: str, count: int, today: datetime) -> datetime:
    """The first day of the week, month or year that is `count` after this one."""
    if unit == "week":
        return today + timedelta(days=7 * count - today.weekday())
    first = today.replace(day=1) if unit == "month" else today.replace(month=1, day=1)
    return months_later(first, count * (1 if unit == "month" else 12))


def _ago(now: datetime, count: int, unit: str) -> datetime:
    if unit in ("mo", "month", "y", "year"):
        return months_later(now, -count * (12 if unit[0] == "y" else 1))
    short = unit if unit in _SECONDS else "min" if unit == "minute" else unit[0]
    return now - timedelta(seconds=count * _SECONDS[short])


def months_later(moment: datetime, count: int) -> datetime:
    """The same day `count` months later, or the last day of a shorter month."""
    import calendar  # imports locale

    year, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))


def _iso(year: str, month: str, day: str, time: str) -> datetime:
    """A numeric date and time, with or without a UTC offset."""
    return to_local(datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}T{time.upper()}"))


def to_local(moment: datetime) -> datetime:
    """A naive datetime in local time, which is what photos are compared by."""
    return moment if moment.tzinfo is None else moment.astimezone().replace(tzinfo=None)


def _free(words: str) -> datetime:
    """A date in words. It must have a year and a single reading: 6/7/2023 could be June or July."""
    from dateutil import parser  # costs 20 ms; the other forms do without it

    readings = {
        parser.parse(words.upper(), default=datetime(year, 1, 1), dayfirst=day_first, tzinfos=_zone)
        for year in (2000, 2004)  # leap years; text without a year reads differently in each
        for day_first in (False, True)
    }
    if len(readings) != 1:
        raise ValueError(words)
    moment: datetime = readings.pop()
    return to_local(moment)


def _zone(name: str | None, offset: int | None) -> int | None:
    if name is not None and offset is None:  # dateutil would treat "CET" as local time
        raise ValueError(name)
    return offset


def spell_date(moment: datetime) -> str:
    """The shortest text that `parse_date` reads as this moment, to the second."""
    if moment.microsecond or moment.second:
        return moment.isoformat(" ", "seconds")
    text = moment.isoformat(" ", "minutes").removesuffix(" 00:00")
    return text.removesuffix("-01").removesuffix("-01") if len(text) == len("2023-06-14") else text
