"""Files that belong to a photo: its sidecars with their facts, and other files of the same shot.

Sidecars are XMP (Lightroom, darktable, digiKam), AAE (edits on iPhones) and JSON (Google Takeout).
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Self

from clipsearch.errors import SidecarUnusable, first_line, reason
from clipsearch.images.facts import Facts, combined
from clipsearch.images.kinds import kind_of
from clipsearch.images.read import nonblocking_opener
from clipsearch.images.takeout import TakeoutNames, is_json_name, shared_start, takeout_facts
from clipsearch.images.xmp_document import MAX_BYTES, TOO_LONG
from clipsearch.paths import join

STALE_TOKEN = 0  # a token that never matches, so that the next scan reads the sidecars again

_XMP = b".xmp"
_SIDECARS = (_XMP, b".aae", b".json")


def is_xmp_name(path: bytes) -> bool:
    """Whether the suffix is that of an XMP sidecar, in any case."""
    return path[-len(_XMP) :].lower() == _XMP


def is_sidecar_name(name: bytes) -> bool:
    """Whether a file may be a sidecar: XMP or JSON."""
    return is_xmp_name(name) or is_json_name(name)


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


class SidecarNames:
    """Assigns the XMP and Google Takeout sidecars in a folder to photos."""

    def __init__(self, sidecars: Collection[bytes], others: Iterable[bytes]) -> None:
        """`sidecars` are the names for which `is_sidecar_name` holds, `others` all other names in the folder."""
        self._xmp = XmpNames(filter(is_xmp_name, sidecars), others)
        self._takeout = TakeoutNames(sidecars)

    def of(self, photo: bytes) -> tuple[bytes, ...]:
        """The sidecars of a photo, XMP first."""
        return *self._xmp.of(photo), *self._takeout.of(photo)


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
        stem = _stem(name)
        near = self._starting_with(folder, shared_start(name))
        others = [other for other in near if other != name and not other.lower().endswith(_SIDECARS)]
        xmp = XmpNames(filter(is_xmp_name, near), [name, *others])
        if stem in map(_stem, others):
            found = list(xmp.with_full_name(name))
        else:
            found = [*xmp.of(name), *(other for other in near if _after(other, stem) == b".aae")]
            takeout = TakeoutNames(near)
            shared = {json for other in others for json in takeout.of(other)}
            found += [json for json in takeout.of(name) if json not in shared and _stem(json) != stem]  # any program's
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


class SidecarFacts(NamedTuple):
    """The facts in a photo's XMP and Google Takeout, and the sidecars that could not be used: path, reason.

    XMP corrects the photo; Takeout completes it. `unread` marks a disk error, which may be gone in the next run.
    """

    facts: Facts = Facts()
    takeout: Facts = Facts()
    ignored: tuple[tuple[bytes, str], ...] = ()
    unread: bool = False


def sidecar_facts(photo: bytes, names: Iterable[bytes]) -> SidecarFacts:
    """Read the sidecars of a photo; `names` are theirs."""
    from clipsearch.images.xmp_facts import facts_of

    found: list[Facts] = []
    takeout: list[Facts] = []
    ignored: list[tuple[bytes, str]] = []
    unread = False
    for name in names:
        path = os.path.join(os.path.dirname(photo), name)
        try:
            document = read_sidecar(path)
            if not is_json_name(name):
                found.append(facts_of(document, is_sidecar=True))
            elif (facts := takeout_facts(document)) is not None:
                takeout.append(facts)
        except FileNotFoundError:  # deleted since the scan; the next one will notice
            continue
        except OSError as error:
            ignored.append((path, reason(error)))
            unread = True
        except SidecarUnusable as error:
            ignored.append((path, str(error)))
        except Exception as error:  # a hostile file costs only itself
            ignored.append((path, f"it cannot be parsed: {first_line(error)}"))
    return SidecarFacts(combined(found), combined(takeout), tuple(ignored), unread)


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
        kinds = (None, kind_of(path))
        return [other for other in self._shots.get(shot_of(path), ()) if kind_of(other) not in kinds]
