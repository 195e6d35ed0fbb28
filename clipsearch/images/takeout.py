"""Google Takeout: the JSON files beside photos, which alone have their dates, places and people."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from clipsearch.errors import SidecarUnusable
from clipsearch.images.dates import unix_time
from clipsearch.images.facts import Facts, dated, lines, one_line, position
from clipsearch.images.kinds import is_video_name

_MAX_BYTES = 1 << 20  # real ones have a few KB; parsing takes up to 25 times as much memory
_TAKEN = b"photoTakenTime"  # what no other program writes
_SUFFIX = b"supplemental-metadata"
_LONGEST = 46  # UTF-16 units of a name that Takeout keeps before ".json"
_NUMBERED = re.compile(rb"(?s)(.*?)(?:\((\d{1,4})\))?")
_EDITED = re.compile(r"(.+)-[^\W\d_]+", re.DOTALL)  # the word is in the account's language


def is_json_name(name: bytes) -> bool:
    """Whether the suffix is that of a JSON file, in any case."""
    return name[-5:].lower() == b".json"


def shared_start(photo: bytes) -> bytes:
    """How the names begin of all files that may share the JSON of a photo."""
    stem = _numbered(os.path.splitext(photo)[0])[0]
    return (_unedited(stem) or stem)[:_LONGEST]  # as many bytes are never more units


class TakeoutNames:
    """The JSON files in a folder by the photo that they describe.

    Takeout names that of `IMG_1.jpg` `IMG_1.jpg.json` or `IMG_1.jpg.supplemental-metadata.json`, cuts names anywhere
    when they get long, and writes the number of a second `IMG_1.jpg`, `IMG_1(1).jpg`, before `.json`. An edited photo,
    `IMG_1-edited.jpg`, and the video of a motion photo, `IMG_1.MP4` or (of `IMG_1.MP.jpg`) `IMG_1.MP`, have none of
    their own. If the photo was uploaded without a suffix, Takeout adds one to the photo alone: `IMG_1.json`.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names: dict[tuple[bytes, bytes], list[bytes]] = {}
        for name in sorted(filter(is_json_name, names)):
            for key in _keys(name):
                self._names.setdefault(key, []).append(name)
        self._stems = {(os.path.splitext(title)[0], number): found for (title, number), found in self._names.items()}

    def of(self, photo: bytes) -> tuple[bytes, ...]:
        """The names of the JSON files that describe a photo: usually one or none."""
        if not self._names:
            return ()
        stem, suffix = os.path.splitext(photo)
        plain, number = _numbered(stem)
        stems = [(stem, b""), (plain, number)]
        if (unedited := _unedited(plain)) is not None:
            stems.append((unedited, number))
        ways = [self._named(one + suffix, of) for one, of in stems]
        if is_video_name(photo):
            ways += [self._stems.get((one.lower(), of)) for one, of in ((photo, b""), *stems[:2])]
        found = next(filter(None, (*ways, *(self._named(one, of) for one, of in stems))), [])
        return tuple(found)

    def _named(self, photo: bytes, number: bytes) -> list[bytes] | None:
        return self._names.get((photo.lower(), number)) or self._names.get((_cut(photo).lower(), number))


def _keys(name: bytes) -> Iterable[tuple[bytes, bytes]]:
    """The photo that a JSON file may be about: its name in lower case, maybe cut short, and its number."""
    title, number = _numbered(name[:-5])
    yield title.lower(), number
    photo, dot, rest = title.rpartition(b".")
    if dot and _SUFFIX.startswith(rest.lower()):
        yield photo.lower(), number


def _cut(name: bytes) -> bytes:
    if len(name) <= _LONGEST:
        return name
    units = os.fsdecode(name).encode("utf-16-le", "surrogatepass")[: 2 * _LONGEST]
    return os.fsencode(units.decode("utf-16-le", "ignore"))


def _numbered(stem: bytes) -> tuple[bytes, bytes]:
    match = _NUMBERED.fullmatch(stem)
    assert match
    return match[1], match[2] or b""


def _unedited(stem: bytes) -> bytes | None:
    match = _EDITED.fullmatch(os.fsdecode(stem))
    return os.fsencode(match[1]) if match else None


def takeout_facts(document: bytes) -> Facts | None:
    """What Google Photos knew of a photo; None if the JSON is not Takeout's. Raises `SidecarUnusable` if it is damaged.

    Takeout has dates in UTC; they are converted to the time zone of this machine.
    """
    if len(document) > _MAX_BYTES:
        if _TAKEN not in document:
            return None
        raise SidecarUnusable(f"it is larger than {_MAX_BYTES >> 20} MB")
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise SidecarUnusable("it is not valid JSON") from None
    if not isinstance(found, dict) or not isinstance(moment := found.get(_TAKEN.decode()), dict):
        return None
    people = found.get("people")
    names = (one.get("name") for one in (people if isinstance(people, list) else ()) if isinstance(one, dict))
    places = (_place(found.get(key)) for key in ("geoData", "geoDataExif"))
    latitude, longitude = next((place for place in places if place[0] is not None), (None, None))
    return dated(unix_time(moment.get("timestamp")), "takeout")._replace(
        latitude=latitude,
        longitude=longitude,
        people=lines(text for name in names if (text := one_line(name))),
        caption=one_line(found.get("description")),
    )


def _place(data: Any) -> tuple[float, float] | tuple[None, None]:
    try:
        return position(float(data["latitude"]), float(data["longitude"]))
    except (TypeError, KeyError, ValueError, OverflowError):
        return None, None
