"""Facts about a photo (date, place, keywords, people, rating, texts), and how those of several sources are combined."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# The sources of a date, the most reliable first. A sidecar's is a correction by a person; "modified" is EXIF's DateTime
# or PNG's tIME, which programs write when they edit a photo.
SOURCES = ("sidecar", "exif", "xmp", "iptc", "png", "takeout", "name", "gps", "video", "modified")
_EPOCHS = ("1904-01-01T00:00:00", "1970-01-01T00:00:00")  # of a clock that was not set
_MIDNIGHT = "T00:00:00"
_LONGEST = 1 << 20  # characters of a text
_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")


class Facts(NamedTuple):
    """`taken` in the camera's local time, ISO 8601, and its source in `taken_from`; coordinates in degrees.

    `keywords` and `people` have one name per line, `regions` one face per line (see `images.regions`). `rating` is 1 to
    5, or -1 for rejected. `location` is the place as somebody wrote it, the smallest part first.
    """

    taken: str | None = None
    taken_from: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    location: str | None = None
    keywords: str | None = None
    people: str | None = None
    rating: int | None = None
    color_label: str | None = None
    title: str | None = None
    caption: str | None = None
    regions: str | None = None


def combined(sources: Iterable[Facts]) -> Facts:
    """The best of several sources: dates by `SOURCES`, lists joined, everything else from the first that has it."""
    every = list(sources)
    place = next((one for one in every if one.latitude is not None and one.longitude is not None), Facts())
    best = Facts(
        *_best_date(every),
        place.latitude,
        place.longitude,
        *(
            next((value for one in every if (value := getattr(one, name)) is not None), None)
            for name in Facts._fields[4:]
        ),
    )
    return best._replace(
        keywords=lines(item for one in every for item in items(one.keywords)),
        people=lines(item for one in every for item in items(one.people)),
        regions=lines(item for one in every for item in items(one.regions)),
    )


def _best_date(every: Iterable[Facts]) -> tuple[str | None, str | None]:
    dates = sorted((_rank(one), one.taken, one.taken_from) for one in every if one.taken)
    if not dates:
        return None, None
    _, taken, source = dates[0]
    if source == "name" and taken.endswith(_MIDNIGHT):  # only a day; another source may know the time
        same_day = (found for found in dates[1:] if found[1][:10] == taken[:10])
        _, taken, source = next(same_day, dates[0])
    return taken, source


def _rank(date: Facts) -> int:
    is_known = date.taken_from in SOURCES and (date.taken_from != "exif" or date.taken not in _EPOCHS)
    return SOURCES.index(date.taken_from) if is_known else len(SOURCES)


def dated(taken: str | None, source: str) -> Facts:
    """Facts that are a date alone, or nothing."""
    return Facts(taken, source) if taken else Facts()


def position(latitude: float | None, longitude: float | None) -> tuple[float, float] | tuple[None, None]:
    """Both coordinates, or None for both if one is missing or out of range. 0, 0 means unknown, too."""
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        return None, None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else (None, None)


def decoded(text: bytes) -> str:
    """A text in UTF-8 or, as older programs wrote it, in Windows-1252."""
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return text.decode(encoding)
    return text.decode("latin-1")


def one_line(text: Any) -> str | None:
    """A text with single spaces; None if it is empty, no text, or longer than any that a person wrote.

    JSON may have halves of surrogate pairs, which have no UTF-8.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    return " ".join(_NO_CHARACTER.sub(" ", text).split()) or None


def lines(texts: Iterable[str]) -> str | None:
    """Distinct texts, one per line."""
    return "\n".join(text for text in dict.fromkeys(texts) if text) or None


def items(text: str | None) -> tuple[str, ...]:
    """The lines of a text."""
    return tuple(text.split("\n")) if text else ()
