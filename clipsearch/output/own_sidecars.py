"""Which files beside a photo belong to it alone: metadata of Lightroom, darktable, iPhones and Google Takeout."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import re
import stat

from clipsearch.paths import join

_WITH_STEM = (b".xmp", b".aae")  # of Lightroom, of iPhones
_SIDECARS = (*_WITH_STEM, b".json")
_TAKEOUT = b".supplemental-metadata"  # how Google Takeout goes on, as far as it has room, before ".json"
_NUMBERED = re.compile(rb"(?s)(.*?)(\(\d+\))?")  # "x(1).jpg" has "x.jpg(1).json"
_EDITED = re.compile(r"-[^\W\d_]+")  # "x-edited.jpg", in the language of the account, shares the JSON of "x.jpg"


class OwnSidecars:
    """The files beside photos, as they were at the first look. `gone` are those that were moved since."""

    def __init__(self) -> None:
        self.gone: set[bytes] = set()
        self._names_in = functools.lru_cache(maxsize=16)(_names_in)

    def of(self, photo: bytes) -> list[bytes]:
        """The sidecars that belong to a photo alone; what other photos may need stays."""
        folder, name = os.path.split(photo)
        stem, ending = os.path.splitext(name)
        base, number = _parts_of(stem)
        near = self._near(folder, base)
        others = (other for other in near if other != name and not other.lower().endswith(_SIDECARS))
        stems = [os.path.splitext(other)[0] for other in others]
        is_alone = stem not in stems
        has_json = is_alone and not any(_is_edit(other, base, number) for other in stems)
        found = [
            other
            for other in near
            if _rest(other, name) == b".xmp"
            or (is_alone and _rest(other, stem) in _WITH_STEM)
            or (has_json and (_is_takeout(other, name) or _is_takeout(other, base + ending, number)))
        ]
        return [path for path in (join(folder, other) for other in found) if _is_plain(path)]

    def _near(self, folder: bytes, start: bytes) -> list[bytes]:
        """The names in a folder that begin so."""
        names = self._names_in(folder)
        first = bisect.bisect_left(names, start)
        those = itertools.takewhile(lambda name: name.startswith(start), itertools.islice(names, first, None))
        return [name for name in those if join(folder, name) not in self.gone]


def _names_in(folder: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _parts_of(stem: bytes) -> tuple[bytes, bytes]:
    match = _NUMBERED.fullmatch(stem)
    assert match is not None
    return match[1], match[2] or b""


def _rest(name: bytes, start: bytes) -> bytes | None:
    return name[len(start) :].lower() if name.startswith(start) else None


def _is_edit(stem: bytes, base: bytes, number: bytes) -> bool:
    middle = stem[len(base) : len(stem) - len(number)] if stem.endswith(number) else b""
    return _EDITED.fullmatch(os.fsdecode(middle)) is not None


def _is_takeout(name: bytes, photo: bytes, number: bytes = b"") -> bool:
    rest = _rest(name, photo)
    return (
        rest is not None
        and rest.endswith(number + b".json")
        and _TAKEOUT.startswith(rest.removesuffix(number + b".json"))
    )


def _is_plain(path: bytes) -> bool:
    """Whether it is a file with this name alone."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
