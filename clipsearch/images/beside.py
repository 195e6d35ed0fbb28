"""The XMP sidecars of a photo: which files they are, when they have changed, and the keywords in them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from clipsearch.errors import SidecarUnusable, reason
from clipsearch.images.read import open_at_once

_ENDING = b".xmp"
LOOK_AGAIN = 0  # a token that no sidecars have, so that the next scan finds them changed


def is_sidecar_name(path: bytes) -> bool:
    """Whether a file's name is that of a sidecar, in any case."""
    return path[-len(_ENDING) :].lower() == _ENDING


def long_name(photo: bytes) -> bytes:
    """The sidecar name that no other photo can share: `IMG_1.jpg.xmp`, as darktable and digiKam write it."""
    return photo + _ENDING


class SidecarNames:
    """The sidecars in one folder, by photo.

    `IMG_1.jpg.xmp` and `IMG_1.xmp` (Lightroom) both belong to `IMG_1.jpg`. So do `IMG_1.JPG.XMP` and `img_1.Xmp`,
    unless the folder has a file that is spelled that way itself: `IMG_1.JPG`, `img_1.png`.
    """

    def __init__(self, sidecars: Iterable[bytes], others: Iterable[bytes]) -> None:
        """The names of all files in the folder."""
        spelled = {spelling for name in others for spelling in (name, _stem(name))}
        self._exact: dict[bytes, list[bytes]] = {}
        self._any_case: dict[bytes, list[bytes]] = {}
        for name in sorted(sidecars, key=lambda name: (not name.endswith(_ENDING), name)):
            base = name[: -len(_ENDING)]
            if base in spelled:
                self._exact.setdefault(base, []).append(name)
            else:
                self._any_case.setdefault(base.lower(), []).append(name)

    def of(self, photo: bytes) -> tuple[bytes, ...]:
        """The sidecars of a photo, those with its whole name first."""
        return (*self.with_whole_name(photo), *(self._of(_stem(photo)) if _stem(photo) != photo else ()))

    def with_whole_name(self, photo: bytes) -> tuple[bytes, ...]:
        """Those of its sidecars that belong to this photo alone, as `IMG_1.jpg.xmp`."""
        return tuple(self._of(photo))

    def _of(self, base: bytes) -> Iterator[bytes]:
        yield from self._exact.get(base, ())
        yield from self._any_case.get(base.lower(), ())


def _stem(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def token(sidecars: Iterable[tuple[bytes, os.stat_result]]) -> int | None:
    """A number that changes when one of a photo's sidecars is added, changed or removed; None for no sidecar."""
    facts = [(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in sidecars]
    if not facts:
        return None
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or LOOK_AGAIN + 1


class Beside(NamedTuple):
    """The keywords in a photo's sidecars, and those that could not be used: path, reason.

    `unread`: whether that was for an error of the disk, which another run may not have.
    """

    keywords: tuple[str, ...] = ()
    ignored: tuple[tuple[bytes, str], ...] = ()
    unread: bool = False


def keywords_beside(photo: bytes, names: Iterable[bytes]) -> Beside:
    """What the sidecars of a photo have, given by their names."""
    from clipsearch.images.xmp import keywords

    found: dict[str, None] = {}
    ignored: list[tuple[bytes, str]] = []
    unread = False
    for name in names:
        path = os.path.join(os.path.dirname(photo), name)
        try:
            found.update(dict.fromkeys(keywords(read_sidecar(path))))
        except FileNotFoundError:  # it went away since the scan: the next one sees that
            continue
        except OSError as error:
            ignored.append((path, reason(error)))
            unread = True
        except SidecarUnusable as error:
            ignored.append((path, str(error)))
    return Beside(tuple(found), tuple(ignored), unread)


def read_sidecar(path: bytes | str | os.PathLike[str]) -> bytes:
    """The bytes of a sidecar. Raises `OSError`, and `SidecarUnusable` for what is no file or too large."""
    from clipsearch.images.xmp import LONGEST, TOO_LONG

    with open(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SidecarUnusable("it is not a regular file")
        if status.st_size > LONGEST:
            raise SidecarUnusable(TOO_LONG)
        return file.read()
