"""Google Takeout: the JSON files beside photos, which alone have their dates, places and people."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from clipsearch.images.dates import unix_time

_SUFFIX = b"supplemental-metadata"
_LONGEST = 46  # characters of a name that Takeout keeps before ".json"
_NUMBER = re.compile(rb"\((\d{1,4})\)$")


class TakeoutNames:
    """The JSON files of a folder by the photo that they describe.

    Takeout names the one of `IMG_1.jpg` `IMG_1.jpg.json` or `IMG_1.jpg.supplemental-metadata.json`, cuts long names
    anywhere, and puts the number of a second `IMG_1.jpg`, `IMG_1(1).jpg`, before `.json`.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names = {_key(name): name for name in names if is_json_name(name)}

    def of(self, photo: bytes) -> bytes | None:
        """The name of the file that describes a photo, given by its name; None if there is none."""
        stem, suffix = os.path.splitext(photo)
        number = _NUMBER.search(stem)
        plain = stem[: number.start()] if number else stem
        plain = plain.removesuffix(b"-edited")  # Google's editor writes a second file
        keys = [(photo, b""), (plain + suffix, number[1] if number else b"")]
        for name, count in keys:
            for key in ((name.lower(), count), (name[:_LONGEST].lower(), count)):
                if key in self._names:
                    return self._names[key]
        return None


def is_json_name(name: bytes) -> bool:
    """Whether a file may be one of Takeout's, by its name."""
    return name[-5:].lower() == b".json"


def _key(name: bytes) -> tuple[bytes, bytes]:
    """The photo's name, in lower case and maybe cut short, and its number."""
    name = name[:-5]
    number = _NUMBER.search(name)
    if number:
        name = name[: number.start()]
    title, dot, rest = name.rpartition(b".")
    if dot and _SUFFIX.startswith(rest) and b"." in title:
        name = title
    return name.lower(), number[1] if number else b""


class Takeout(NamedTuple):
    """What Google Photos knew of a photo; `taken` in the local time of this machine, as Takeout has only UTC."""

    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    people: tuple[str, ...] = ()
    caption: str | None = None


def takeout_of(document: bytes) -> Takeout | None:
    """Parse a JSON file; None if it is not one of Takeout's."""
    try:
        found = json.loads(document)
        if "photoTakenTime" not in found:
            return None
        taken = unix_time(found["photoTakenTime"].get("timestamp"))
        people = tuple(name for one in found.get("people") or () if (name := _text(one.get("name"))))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    for key in ("geoData", "geoDataExif"):
        place = _place(found.get(key))
        if place is not None:
            return Takeout(taken, *place, people, _text(found.get("description")))
    return Takeout(taken, None, None, people, _text(found.get("description")))


def _place(data: Any) -> tuple[float, float] | None:
    """Latitude and longitude; 0, 0 stands for none."""
    try:
        latitude, longitude = float(data["latitude"]), float(data["longitude"])
    except (TypeError, KeyError, ValueError):
        return None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude) else None


def _text(value: Any) -> str | None:
    return (" ".join(value.split()) or None) if isinstance(value, str) else None
