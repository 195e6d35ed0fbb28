"""What a photo must be besides near to a query, and how people write it: dates, sizes, places, kinds of file."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images.kinds import TYPES

ORIENTATIONS = ("landscape", "portrait", "square")
KM_AROUND = 10.0

_UNITS = {"b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_ALSO = {"jpeg2000": "jp2", "jpeg 2000": "jp2"}
_MOST = 2**63 - 1  # the largest number that SQLite has
_DATE = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})(?:\2(\d{1,2})(?:[t ](.+))?)?)?")
_AGO = re.compile(r"(\d{1,6}|an?|one) *(s|second|min|minute|h|hour|d|day|w|week|mo|month|y|year)s?(?: ago)?")
_PERIOD = re.compile(r"(this|last|next) (week|month|year)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Circle(NamedTuple):
    """A place on the earth: degrees, and the kilometres around it."""

    latitude: float
    longitude: float
    km: float = KM_AROUND


class _Conditions(NamedTuple):
    under: tuple[str, ...]
    after: datetime | None
    before: datetime | None
    camera: tuple[str, ...]
    near: tuple[Circle, ...]
    at_least: int | None
    at_most: int | None
    orientation: tuple[str, ...]
    types: tuple[str, ...]
    files: tuple[bytes, ...] | None
    name: tuple[str, ...]
    reads: tuple[str, ...]
    keywords: tuple[str, ...]


class Filter(_Conditions):
    """Conditions that all must hold; one that is None or an empty tuple holds for every photo.

    Where a condition has several values, one of them must hold: a photo is in any of the folders `under`, by any
    `camera`, in any circle of `near`. Only `keywords` must all be there. One value may be given without a tuple.

    `after` is the first moment that counts, `before` the first that does not, in local time. A photo's date is when it
    was taken or, if it does not say, when its file was changed. `camera` is a part of its name, `name` has words that
    are all in its path below the indexed folder, `reads` words that are all written in it, each in any case; `keywords`
    are those that other programs gave it; sizes are in bytes; `types` are suffixes such as ".jpg"; `files` are paths.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917  # as a tuple is made
        cls,
        under: str | Iterable[str] | None = (),
        after: datetime | None = None,
        before: datetime | None = None,
        camera: str | Iterable[str] | None = (),
        near: Circle | Iterable[Circle] | None = (),
        at_least: int | None = None,
        at_most: int | None = None,
        orientation: str | Iterable[str] | None = (),
        types: str | Iterable[str] | None = (),
        files: Iterable[bytes] | None = None,
        name: str | Iterable[str] | None = (),
        reads: str | Iterable[str] | None = (),
        keywords: str | Iterable[str] | None = (),
    ) -> Filter:
        """Make tuples of what may be one value or several."""
        return super().__new__(
            cls,
            several(under),
            after,
            before,
            several(camera),
            _circles(near),
            at_least,
            at_most,
            several(orientation),
            several(types),
            None if files is None else several(files),
            several(name),
            several(reads),
            several(keywords),
        )

    def checked(self) -> Filter:
        """The same, if a program has filled it in as it should. Raises `BadArgument`."""
        where = Filter(*self)
        if not all(isinstance(folder, str) and folder and "\0" not in folder for folder in where.under):
            raise BadArgument("under", "must be the path of a folder")
        wrong = next((one for one in where.orientation if one not in ORIENTATIONS), None)
        if wrong is not None:
            raise BadArgument("orientation", f"must be one of {', '.join(ORIENTATIONS)}, not {wrong!r}")
        for name, moment in (("after", where.after), ("before", where.before)):
            if moment is not None and not (isinstance(moment, datetime) and moment.tzinfo is None):
                raise BadArgument(name, "must be a datetime in local time, without a time zone")
        for name, size in (("at_least", where.at_least), ("at_most", where.at_most)):
            if size is not None and not (isinstance(size, int) and abs(size) <= _MOST):
                raise BadArgument(name, f"must be a whole number of bytes, not {size!r}")
        if not all(isinstance(suffix, str) and suffix.startswith(".") for suffix in where.types):
            raise BadArgument("types", "must be suffixes, such as .jpg and .jpeg")
        if where.files is not None and not all(isinstance(path, bytes) for path in where.files):
            raise BadArgument("files", "must be paths as bytes; os.fsencode makes them")
        for name in ("camera", "name", "reads", "keywords"):
            if not all(isinstance(words, str) and words.split() for words in getattr(where, name)):
                raise BadArgument(name, "must be one or several texts that are not empty")
        return where._replace(near=tuple(_circle(circle) for circle in where.near))


def several(value: Any) -> tuple[Any, ...]:
    """One value, several, or none of them (None) as a tuple."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


def _circles(value: Any) -> tuple[Any, ...]:
    """The same, where one value has several numbers."""
    values = several(value)
    return (value,) if values and not any(isinstance(one, tuple | list) for one in values) else values


EVERYTHING = Filter()


def words_of(name: str) -> Iterator[set[str]]:
    """Each word of a name, in the ways that a path may have it: cases, and accents apart from their letters or not."""
    for word in name.split():
        cases = {word, word.lower(), word.upper(), word.title()}
        yield {folded(unicodedata.normalize(form, one)) for one in cases for form in ("NFC", "NFD")}


def folded(text: str) -> str:
    """Small letters, as SQLite makes them: of ASCII alone."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


# Conditions as people write them.
WRITTEN = ("under", "after", "before", "camera", "near", "size", "orientation", "type", "name", "reads", "keyword")


def written(**conditions: str | Iterable[str] | None) -> Filter:
    """The filter of conditions as people write them, each of `WRITTEN` once or several times. Raises `BadRequest`.

    Of several dates and sizes, all hold: the latest `after`, the earliest `before`. For the others see `Filter`.
    """
    texts: dict[str, tuple[str, ...]] = {name: several(conditions.pop(name, None)) for name in WRITTEN}
    if conditions:
        raise TypeError(f"no condition is called {', '.join(conditions)}")
    for name in ("under", "camera", "name", "reads", "keyword"):
        if not all(text.strip() for text in texts[name]):
            raise BadArgument(name, "was given an empty name")
    sizes = [parse_size(text) for text in texts["size"]]
    return Filter(
        under=texts["under"],
        after=max(map(parse_date, texts["after"]), default=None),
        before=min(map(parse_date, texts["before"]), default=None),
        camera=texts["camera"],
        near=map(parse_circle, texts["near"]),
        at_least=max((least for least, _ in sizes if least is not None), default=None),
        at_most=min((most for _, most in sizes if most is not None), default=None),
        orientation=map(parse_orientation, texts["orientation"]),
        types=(suffix for kind in texts["type"] for suffix in parse_type(kind)),
        name=texts["name"],
        reads=texts["reads"],
        keywords=(word.strip() for word in texts["keyword"]),
    )


# ------------------------------------------------------------------------------------------ dates


def parse_date(text: str, now: datetime | None = None) -> datetime:
    """The moment that a text means, in local time: the first of a year, a month, a week or a day.

    `2023`, `2023-06`, `2023/06/14`, `2023-06-14 18:03`, `2023-06-14T16:03:00Z`; `tomorrow`, `last week`, which began on
    a Monday, `monday`, which was in the last seven days, `3 months ago`, `2w`; `14 June 2023`. Raises `BadRequest` for
    what has no one meaning: `6/7/2023`.
    """
    words = " ".join(text.lower().split())
    try:
        if match := _DATE.fullmatch(words):
            return _iso(match[1], match[3] or "1", match[4] or "1", match[5] or "00")
        return _relative(words, now or datetime.now()) or _free(words)
    # The last three are what the parser may raise for texts that nobody would take for a date.
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
        return _start_of(match[2], {"last": -1, "this": 0, "next": 1}[match[1]], today)
    if (day := words.removeprefix("last ")) in _WEEKDAYS:
        return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(day) - 1) % 7 + 1)
    return today + timedelta(days=_DAYS[words]) if words in _DAYS else None


def _start_of(unit: str, count: int, today: datetime) -> datetime:
    """The first day of a week, a month or a year, so many after this one."""
    if unit == "week":
        return today + timedelta(days=7 * count - today.weekday())
    first = today.replace(day=1) if unit == "month" else today.replace(month=1, day=1)
    return _months_later(first, count * (1 if unit == "month" else 12))


def _ago(now: datetime, count: int, unit: str) -> datetime:
    if unit in ("mo", "month", "y", "year"):
        return _months_later(now, -count * (12 if unit[0] == "y" else 1))
    short = unit if unit in _SECONDS else "min" if unit == "minute" else unit[0]
    return now - timedelta(seconds=count * _SECONDS[short])


def _months_later(moment: datetime, count: int) -> datetime:
    """The same day of another month, or the last day of a month that is too short."""
    import calendar  # with which comes locale

    year, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))


def _iso(year: str, month: str, day: str, time: str) -> datetime:
    """A date in numbers with a time, which may name its distance from UTC."""
    return _local(datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}T{time.upper()}"))


def _local(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone().replace(tzinfo=None)


def _free(words: str) -> datetime:
    """A date with words in it. It must name its year and have one reading: 6/7/2023 is in June or in July."""
    from dateutil import parser  # 20 ms, which the other forms do without

    readings = {
        parser.parse(words.upper(), default=datetime(year, 1, 1), dayfirst=day_first, tzinfos=_zone)
        for year in (2000, 2004)  # leap years; a text without a year has one reading in each
        for day_first in (False, True)
    }
    if len(readings) != 1:
        raise ValueError(words)
    moment: datetime = readings.pop()
    return _local(moment)


def _zone(name: str | None, offset: int | None) -> int | None:
    if name is not None and offset is None:  # "CET": dateutil would take the time for a local one
        raise ValueError(name)
    return offset


# ------------------------------------------------------------------------------------------ sizes, places, kinds


def parse_size(text: str) -> tuple[int | None, int | None]:
    """Least and most bytes of `+1.5M` (at least), `-500k` (at most) or `10ki` (exactly), as fd has them."""
    match = re.fullmatch(r"([+-]?)(\d{1,12})(\.\d{1,9})? ?([a-z]*)", text.strip().lower())
    if not match or (match[4] or "b") not in _UNITS:
        raise BadRequest(
            f"{text!r} is not a valid size; write +2M for at least two megabytes, -500k for at most 500 kilobytes"
        )
    unit = _UNITS[match[4] or "b"]
    size = min(int(match[2]) * unit + round(float(match[3] or 0) * unit), _MOST)
    return None if match[1] == "-" else size, None if match[1] == "+" else size


def parse_circle(text: str) -> Circle:
    """`48.85,2.35`, `48.85 2.35` or `48.85,2.35,5km`: latitude and longitude in degrees, kilometres around."""
    parts = re.split(r"\s*,\s*|\s+", re.sub(r"\s*km$", "", text.strip().lower()))
    try:
        return _circle(tuple(float(part) for part in parts))
    except (ValueError, BadArgument):
        raise BadRequest(
            f"{text!r} is not a valid place; write LATITUDE,LONGITUDE in degrees, or LATITUDE,LONGITUDE,KM"
        ) from None


def _circle(values: tuple[float, ...]) -> Circle:
    """A circle of numbers that can be one. Raises `BadArgument`."""
    try:
        circle = Circle(*(float(value) for value in values))
        if abs(circle.latitude) <= 90 and abs(circle.longitude) <= 180 and 0 <= circle.km < math.inf:
            return circle
    except (TypeError, ValueError):
        pass
    raise BadArgument("near", "must be latitude, longitude (degrees) and kilometres")


def parse_type(text: str) -> tuple[str, ...]:
    """The suffixes of a kind of file: `jpeg`, `jpg` and `.jpg` are all of JPEG's."""
    name = text.strip().lower().removeprefix(".")
    for kind, suffixes in TYPES.items():
        if _ALSO.get(name, name) == kind or f".{name}" in suffixes:
            return suffixes
    raise BadRequest(f"unknown type {text!r}; choose from {', '.join(TYPES)}")


def parse_orientation(text: str) -> str:
    """One of `ORIENTATIONS`, which may be cut short."""
    found = [name for name in ORIENTATIONS if text and name.startswith(text.strip().lower())]
    if len(found) != 1:
        raise BadRequest(f"unknown orientation {text!r}; choose from {', '.join(ORIENTATIONS)}")
    return found[0]
