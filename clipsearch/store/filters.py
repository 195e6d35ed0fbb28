"""What a photo must be besides near to a query, and how people write it: dates, sizes, places, kinds of file."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.images.scan import TYPES

ORIENTATIONS = ("landscape", "portrait", "square")
KM_AROUND = 10.0
KM_OF_A_DEGREE = 111.19  # of latitude, no more than it is on the sphere that distances are measured on

_UNITS = {"b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_DATES = (("%Y", 4), ("%Y-%m", 7), ("%Y-%m-%d", 10), ("%Y-%m-%dT%H:%M", 16), ("%Y-%m-%dT%H:%M:%S", 19))
_AGO = re.compile(r"(\d{1,6}) *(s|second|min|minute|h|hour|d|day|w|week|month|y|year)s?(?: ago)?")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Circle(NamedTuple):
    """A place on the earth: degrees, and the kilometres around it."""

    latitude: float
    longitude: float
    km: float = KM_AROUND


class Filter(NamedTuple):
    """Conditions that all must hold; one that is None or empty holds for every photo.

    `after` is the first moment that counts, `before` the first that does not, in local time. A photo's date is when it
    was taken or, if it does not say, when its file was changed. `camera` is a part of its name, in any case; sizes are
    in bytes; `types` are suffixes such as ".jpg"; `under` is a folder; `files` are paths.
    """

    under: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    camera: str | None = None
    near: Circle | None = None
    at_least: int | None = None
    at_most: int | None = None
    orientation: str | None = None
    types: tuple[str, ...] = ()
    files: tuple[bytes, ...] | None = None

    def checked(self) -> Filter:
        """The same, if a program has filled it in as it should. Raises `BadRequest`."""
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise BadRequest(f"no orientation is called {self.orientation!r}; there are {', '.join(ORIENTATIONS)}")
        for name, moment in (("after", self.after), ("before", self.before)):
            if moment is not None and not (isinstance(moment, datetime) and moment.tzinfo is None):
                raise BadRequest(f"{name} is to be a datetime in local time, without a time zone")
        if isinstance(self.types, str) or not all(suffix.startswith(".") for suffix in self.types):
            raise BadRequest("types are to be suffixes in a tuple, such as ('.jpg', '.jpeg')")
        if self.files is not None and not all(isinstance(path, bytes) for path in self.files):
            raise BadRequest("files are to be paths as bytes; os.fsencode makes them")
        return self if self.near is None else self._replace(near=parse_circle(",".join(map(str, self.near))))


EVERYTHING = Filter()


def parse_date(text: str, now: datetime | None = None) -> datetime:
    """The first moment of `2023`, `2023-06`, `2023-06-14` or `2023-06-14T18:03`; or `today`, `3 months ago`, `2w`."""
    now = now or datetime.now()
    words = text.strip().lower()
    for pattern, length in _DATES:
        if len(words) == length:
            try:
                return datetime.strptime(words.upper().replace(" ", "T"), pattern)
            except ValueError:
                break
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": 0, "yesterday": 1}
    if words in days:
        return today - timedelta(days=days[words])
    match = _AGO.fullmatch(words)
    try:
        if match:
            return _ago(now, int(match[1]), match[2])
    except (ValueError, OverflowError):  # before the year 1
        pass
    raise BadRequest(f"{text!r} is no date; write 2023, 2023-06, 2023-06-14, yesterday or '3 months ago'")


def _ago(now: datetime, count: int, unit: str) -> datetime:
    if unit in ("month", "y", "year"):
        import calendar  # with which comes locale

        months = now.year * 12 + now.month - 1 - count * (1 if unit == "month" else 12)
        year, month = months // 12, months % 12 + 1
        return now.replace(year=year, month=month, day=min(now.day, calendar.monthrange(year, month)[1]))
    short = unit if unit in _SECONDS else "min" if unit == "minute" else unit[0]
    return now - timedelta(seconds=count * _SECONDS[short])


def parse_size(text: str) -> tuple[int | None, int | None]:
    """Least and most bytes of `+2M` (at least), `-500k` (at most) or `10ki` (exactly), as fd has them."""
    match = re.fullmatch(r"([+-]?)(\d{1,12})([a-z]*)", text.strip().lower())
    if not match or (match[3] or "b") not in _UNITS:
        raise BadRequest(f"{text!r} is no size; write +2M for at least two megabytes, -500k for at most 500 kilobytes")
    size = int(match[2]) * _UNITS[match[3] or "b"]
    return None if match[1] == "-" else size, None if match[1] == "+" else size


def parse_circle(text: str) -> Circle:
    """`48.85,2.35` or `48.85,2.35,5`: latitude and longitude in degrees, kilometres around."""
    try:
        circle = Circle(*(float(part) for part in text.split(",")))
    except (ValueError, TypeError):
        circle = Circle(91, 0)
    if not (abs(circle.latitude) <= 90 and abs(circle.longitude) <= 180 and 0 <= circle.km < float("inf")):
        raise BadRequest(f"{text!r} is no place; write LATITUDE,LONGITUDE in degrees, or LATITUDE,LONGITUDE,KM")
    return circle


def parse_type(text: str) -> tuple[str, ...]:
    """The suffixes of a kind of file: `jpeg`, `jpg` and `.jpg` are all of JPEG's."""
    name = text.strip().lower().removeprefix(".")
    for kind, suffixes in TYPES.items():
        if name == kind or f".{name}" in suffixes:
            return suffixes
    raise BadRequest(f"no type is called {text!r}; there are {', '.join(TYPES)}")


def parse_orientation(text: str) -> str:
    """One of `ORIENTATIONS`, which may be cut short."""
    found = [name for name in ORIENTATIONS if text and name.startswith(text.strip().lower())]
    if len(found) != 1:
        raise BadRequest(f"no orientation is called {text!r}; there are {', '.join(ORIENTATIONS)}")
    return found[0]
