"""A file that a scan found, and whether a file has changed."""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

_CTIME_IS_CHANGE = os.name != "nt"  # on Windows it is the creation time
MAX_SQLITE_INTEGER = 2**63 - 1  # some file systems have times beyond the year 2262


class FoundFile(NamedTuple):
    """A file that looks like a photo. `error` says why it cannot be one, if that is already clear.

    `sidecars` are the names of its XMP files; `sidecar_token` changes when they do. `device` is that of its folder. For
    a link to a file, `target` is the folder of the linked file, and `device` is that folder's.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    error: str | None = None
    sidecar_token: int | None = None
    sidecars: tuple[bytes, ...] = ()
    device: int = 0
    target: bytes | None = None


class OnDisk(Protocol):
    """Size and times of a file, from the disk or the catalogue."""

    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...


def has_changed(now: OnDisk, before: OnDisk) -> bool:
    """Whether the contents of a file may have changed, by its size and times."""
    return not same_times(now, before) or (_CTIME_IS_CHANGE and now.ctime_ns != before.ctime_ns)


def is_modified(status: os.stat_result, before: OnDisk) -> bool:
    """As `has_changed`, for a file's current status."""
    return has_changed(found_file(b"", status), before)


def same_times(now: OnDisk, before: OnDisk) -> bool:
    """Whether size and modification time are equal."""
    return (now.size, now.mtime_ns) == (before.size, before.mtime_ns)


def found_file(path: bytes, status: os.stat_result, error: str | None = None) -> FoundFile:
    """Describe a file by its path below the root and its status."""
    mtime_ns, ctime_ns = (
        max(-MAX_SQLITE_INTEGER, min(time, MAX_SQLITE_INTEGER)) for time in (status.st_mtime_ns, status.st_ctime_ns)
    )
    return FoundFile(path, status.st_size, mtime_ns, ctime_ns, error)
