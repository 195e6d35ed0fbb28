"""Conditions on photos as a small tree, which each kind of store renders in its own query language."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

KM_AROUND = 10.0
_KM_OF_A_DEGREE = 111.19  # of latitude; not more than on the sphere that distances are measured on
_SLACK = 1e-6  # degrees that a box is wider than its circle, for rounding


class Circle(NamedTuple):
    """A place on the earth: degrees, and the radius in kilometres."""

    latitude: float
    longitude: float
    km: float = KM_AROUND


class Compare(NamedTuple):
    """A field against a value, with `=`, `<`, `<=`, `>` or `>=`.

    Fields are those of `Metadata`, and `size` (bytes), `type` (suffix), `orientation`, and `date` (a datetime: when the
    photo was taken or, if unknown, when its file changed).
    """

    field: str
    operator: str
    value: Any


class Contains(NamedTuple):
    """A field of `Metadata` that contains a text, in any case; or the `path` below the indexed folder."""

    field: str
    text: str


class Near(NamedTuple):
    """Taken inside a circle."""

    circle: Circle


class GeoBox(NamedTuple):
    """An area between two parallels and two meridians, edges included, in degrees.

    `west` is more than `east` where the box crosses the antimeridian.
    """

    south: float
    west: float
    north: float
    east: float


class Within(NamedTuple):
    """Taken inside a box."""

    box: GeoBox


class HasLine(NamedTuple):
    """`keywords`, `people` or `named` have this one, in any case."""

    field: str
    line: str


class IsMissing(NamedTuple):
    """A field of `Facts` is not known."""

    field: str


class HasText(NamedTuple):
    """OCR found all words of a text."""

    text: str


class Not(NamedTuple):
    """The condition does not hold; true if its field is unknown."""

    condition: Condition


class AllOf(NamedTuple):
    """Every condition holds."""

    conditions: tuple[Condition, ...]


class AnyOf(NamedTuple):
    """At least one condition holds."""

    conditions: tuple[Condition, ...]


Leaf = Compare | Contains | Near | Within | HasLine | IsMissing | HasText
Condition = Leaf | Not | AllOf | AnyOf


def all_of(conditions: Iterable[Condition]) -> Condition:
    """A single condition stays as it is."""
    every = tuple(conditions)
    return every[0] if len(every) == 1 else AllOf(every)


def any_of(conditions: Iterable[Condition]) -> Condition:
    """A single condition stays as it is."""
    every = tuple(conditions)
    return every[0] if len(every) == 1 else AnyOf(every)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The comparisons in a tree."""
    if isinstance(condition, AllOf | AnyOf):
        for one in condition.conditions:
            yield from leaves(one)
    elif isinstance(condition, Not):
        yield from leaves(condition.condition)
    else:
        yield condition


def alternatives(text: str) -> list[str]:
    """The texts in `dog OR cat`."""
    return re.split(r"\s+OR\s+", text)


def box_of(circle: Circle) -> GeoBox:
    """The bounding box of a circle, and a little more: few distances need to be computed."""
    height = circle.km / _KM_OF_A_DEGREE
    south, north = circle.latitude - height - _SLACK, circle.latitude + height + _SLACK
    if abs(circle.latitude) + height >= 89.9:  # a pole is on every meridian
        return GeoBox(south, -180.0, north, 180.0)
    ratio = math.sin(math.radians(height)) / math.cos(math.radians(circle.latitude))
    width = math.degrees(math.asin(min(1.0, ratio))) + _SLACK
    west, east = circle.longitude - width, circle.longitude + width
    return GeoBox(south, west + 360 if west < -180 else west, north, east - 360 if east > 180 else east)


def kilometres(latitude: Any, longitude: Any, latitude_2: float, longitude_2: float) -> float | None:
    """The distance between two places in degrees, on a sphere (the haversine formula); None if one is no place."""
    try:
        a, b = math.radians(latitude), math.radians(latitude_2)
        # In -180 to 180: 180 degrees east and west are one meridian, and the sine of a whole turn is not exactly 0.
        east = math.radians((longitude_2 - longitude + 180) % 360 - 180)
    except TypeError:
        return None
    chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(chord)))


def has_line(text: Any, wanted: str) -> bool:
    """Whether one of the lines of a text is the wanted one, as `fold_line` makes it."""
    return isinstance(text, str) and wanted in fold_line(text).split("\n")


def is_unicode(text: str) -> bool:
    """False if the text has bytes of another encoding, which Python represents as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def fold_line(text: str) -> str:
    """Text as it is compared: without case, and with accents composed, as Macs write them decomposed."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def fold(text: str) -> str:
    """A text for comparison: lower case, no accents, full-width letters as narrow ones, single spaces."""
    if not text.isascii():
        letters = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(text.casefold().split())
