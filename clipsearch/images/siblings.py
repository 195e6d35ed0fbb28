"""Which files in a folder belong together, by name: a photo, its sidecars, and other files of the same shot.

Sidecars are XMP (Lightroom, darktable, digiKam), AAE (edits on iPhones) and JSON (Google Takeout).
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Self

from clipsearch.images.kinds import kind_of
from clipsearch.paths import join

_XMP = b".xmp"
_SIDECARS = (_XMP, b".aae", b".json")
_TAKEOUT = b".supplemental-metadata"  # Google Takeout puts it before ".json", cut off where the name gets too long
_NUMBERED = re.compile(rb"(?s)(.*?)(\(\d+\))?")  # Takeout: "x(1).jpg" has "x.jpg(1).json"
_EDITED = re.compile(r"-[^\W\d_]+")  # Takeout: "x-edited.jpg", in the account's language, shares the JSON of "x.jpg"


def is_xmp_name(path: bytes) -> bool:
    """Whether the suffix is that of an XMP sidecar, in any case."""
    return path[-len(_XMP) :].lower() == _XMP


def unambiguous_sidecar(photo: bytes) -> bytes:
    """The XMP sidecar that no other photo can share: `IMG_1.jpg.xmp`, as darktable and digiKam name it."""
    return photo + _XMP


# ------------------------------------------------------------------------------------------ sidecars


class XmpNames:
    """Assigns the XMP sidecars in a folder to photos.

    `IMG_1.jpg.xmp` and `IMG_1.xmp` (Lightroom) both belong to `IMG_1.jpg`. So do `IMG_1.JPG.XMP` and `img_1.Xmp`,
    unless the folder has a file with exactly that spelling: `IMG_1.JPG`, `img_1.png`.
    """

    def __init__(self, sidecars: Iterable[bytes], others: Iterable[bytes]) -> None:
        """`sidecars` are the names of the XMP files in the folder, `others` all other names."""
        spelled = {spelling for name in others for spelling in (name, _stem(name))}
        self._exact: dict[bytes, list[bytes]] = {}
        self._any_case: dict[bytes, list[bytes]] = {}
        for name in sorted(sidecars, key=lambda name: (not name.endswith(_XMP), name)):
            base = name[: -len(_XMP)]
            if base in spelled:
                self._exact.setdefault(base, []).append(name)
            else:
                self._any_case.setdefault(base.lower(), []).append(name)

    def of(self, photo: bytes) -> tuple[bytes, ...]:
        """All sidecars of a photo, those with its full name first."""
        return (*self.with_full_name(photo), *(self._of(_stem(photo)) if _stem(photo) != photo else ()))

    def with_full_name(self, photo: bytes) -> tuple[bytes, ...]:
        """The sidecars that no other photo can share, such as `IMG_1.jpg.xmp`."""
        return tuple(self._of(photo))

    def _of(self, base: bytes) -> Iterator[bytes]:
        yield from self._exact.get(base, ())
        yield from self._any_case.get(base.lower(), ())


class OwnSidecars:
    """Finds the sidecars to move along with a photo: those that belong to no other file. Lists each folder once.

    Add files that have been moved to `gone`; they no longer count.
    """

    def __init__(self) -> None:
        self.gone: set[bytes] = set()
        self._names_in = functools.lru_cache(maxsize=16)(_sorted_names)

    def of(self, photo: bytes) -> list[bytes]:
        """Paths of a photo's own sidecars, without links."""
        folder, name = os.path.split(photo)
        stem, suffix = os.path.splitext(name)
        match = _NUMBERED.fullmatch(stem)
        assert match
        base, number = match[1], match[2] or b""
        near = self._starting_with(folder, base)
        others = [other for other in near if other != name and not other.lower().endswith(_SIDECARS)]
        stems = list(map(_stem, others))
        xmp = XmpNames(filter(is_xmp_name, near), [name, *others])
        if stem in stems:
            found = list(xmp.with_full_name(name))
        else:
            found = [*xmp.of(name), *(other for other in near if _after(other, stem) == b".aae")]
            if not any(_is_edit(other, base, number) for other in stems):
                takeout = ((name, b""), (base + suffix, number))
                found += [other for other in near if any(_is_takeout(other, *parts) for parts in takeout)]
        return [path for path in (join(folder, other) for other in found) if _has_one_name(path)]

    def _starting_with(self, folder: bytes, start: bytes) -> list[bytes]:
        names = self._names_in(folder)
        first = bisect.bisect_left(names, start)
        found = itertools.takewhile(lambda name: name.startswith(start), itertools.islice(names, first, None))
        return [name for name in found if join(folder, name) not in self.gone]


def _sorted_names(folder: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _stem(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def _after(name: bytes, start: bytes) -> bytes | None:
    """What follows `start` in a name, in lower case."""
    return name[len(start) :].lower() if name.startswith(start) else None


def _is_edit(stem: bytes, base: bytes, number: bytes) -> bool:
    middle = stem[len(base) : len(stem) - len(number)] if stem.endswith(number) else b""
    return _EDITED.fullmatch(os.fsdecode(middle)) is not None


def _is_takeout(name: bytes, photo: bytes, number: bytes) -> bool:
    end, rest = number + b".json", _after(name, photo)
    return rest is not None and rest.endswith(end) and _TAKEOUT.startswith(rest.removesuffix(end))


def _has_one_name(path: bytes) -> bool:
    """Whether this is a regular file, not a symbolic link and without hard links."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


# ------------------------------------------------------------------------------------------ one shot


def shot_of(path: bytes) -> bytes:
    """A key shared by files in one folder with the same stem, in any case: the files of one shot."""
    folder, name = os.path.split(path)
    return os.path.join(folder, _stem(name).lower())


class Partners:
    """Pairs files of one shot that differ in kind: RAW + JPEG, or the still and the video of a Live Photo."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._shots: dict[bytes, list[bytes]] = {}
        for path in paths:
            self._shots.setdefault(shot_of(path), []).append(path)

    @classmethod
    def in_folder(cls, folder: bytes) -> Self:
        """Pairs the files of a folder; none if it cannot be listed."""
        paths: list[bytes] = []
        with contextlib.suppress(OSError):
            paths = [os.path.join(folder, name) for name in os.listdir(folder)]
        return cls(paths)

    def of(self, path: bytes) -> list[bytes]:
        """The partners of a file."""
        kinds = (None, kind_of(path))
        return [other for other in self._shots.get(shot_of(path), ()) if kind_of(other) not in kinds]
