"""Files that belong to a photo: its sidecars, with the keywords in them, and other files of the same shot.

Sidecars are XMP (Lightroom, darktable, digiKam), AAE (edits on iPhones) and JSON (Google Takeout).
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from clipsearch.errors import SidecarUnusable, reason
from clipsearch.images.kinds import kind_of
from clipsearch.images.read import nonblocking_opener
from clipsearch.images.xmp_document import MAX_BYTES, TOO_LONG
from clipsearch.paths import join

STALE_TOKEN = 0  # a token that never matches, so that the next scan reads the sidecars again

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


# ------------------------------------------------------------------------------------------ contents of XMP sidecars


def sidecar_token(sidecars: Iterable[tuple[bytes, os.stat_result]]) -> int | None:
    """A number that changes when a sidecar of a photo is added, modified or removed; None without sidecars."""
    facts = [(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in sidecars]
    if not facts:
        return None
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or STALE_TOKEN + 1


class SidecarKeywords(NamedTuple):
    """The keywords in a photo's sidecars, and the sidecars that could not be used: path, reason.

    `unread` marks a disk error, which may be gone in the next run.
    """

    keywords: tuple[str, ...] = ()
    ignored: tuple[tuple[bytes, str], ...] = ()
    unread: bool = False


def sidecar_keywords(photo: bytes, names: Iterable[bytes]) -> SidecarKeywords:
    """Read the keywords in the sidecars of a photo; `names` are theirs."""
    from clipsearch.images.xmp_facts import facts_of

    found: dict[str, None] = {}
    ignored: list[tuple[bytes, str]] = []
    unread = False
    for name in names:
        path = os.path.join(os.path.dirname(photo), name)
        try:
            facts = facts_of(read_sidecar(path))
            found.update(dict.fromkeys((*facts.keywords, *facts.people)))
        except FileNotFoundError:  # deleted since the scan; the next one will notice
            continue
        except OSError as error:
            ignored.append((path, reason(error)))
            unread = True
        except SidecarUnusable as error:
            ignored.append((path, str(error)))
    return SidecarKeywords(tuple(found), tuple(ignored), unread)


def read_sidecar(path: bytes | str | os.PathLike[str]) -> bytes:
    """The bytes of a sidecar. Raises `OSError`, or `SidecarUnusable` for a file that is not regular or too large."""
    with open(path, "rb", opener=nonblocking_opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SidecarUnusable("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise SidecarUnusable(TOO_LONG)
        return file.read()


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
