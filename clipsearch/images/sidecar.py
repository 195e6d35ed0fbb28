"""Reads the XMP sidecars of a photo and detects changes to them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from clipsearch.errors import SidecarUnusable, reason
from clipsearch.images.read import nonblocking_opener
from clipsearch.images.xmp_document import MAX_BYTES, TOO_LONG

STALE = 0  # a token that never matches, so that the next scan reads the sidecars again


def token(sidecars: Iterable[tuple[bytes, os.stat_result]]) -> int | None:
    """A number that changes when a sidecar of a photo is added, modified or removed; None without sidecars."""
    facts = [(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in sidecars]
    if not facts:
        return None
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or STALE + 1


class SidecarKeywords(NamedTuple):
    """The keywords in a photo's sidecars, and the sidecars that could not be used: path, reason.

    `unread` marks a disk error, which may be gone in the next run.
    """

    keywords: tuple[str, ...] = ()
    ignored: tuple[tuple[bytes, str], ...] = ()
    unread: bool = False


def sidecar_keywords(photo: bytes, names: Iterable[bytes]) -> SidecarKeywords:
    """Read the keywords in the sidecars of a photo; `names` are theirs."""
    from clipsearch.images.xmp import keywords

    found: dict[str, None] = {}
    ignored: list[tuple[bytes, str]] = []
    unread = False
    for name in names:
        path = os.path.join(os.path.dirname(photo), name)
        try:
            found.update(dict.fromkeys(keywords(read_sidecar(path))))
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
