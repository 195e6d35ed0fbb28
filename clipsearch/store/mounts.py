"""Mount points: where file systems begin, and which one a file lies on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")  # Linux; on other systems a mount point is where the device number changes
_SQLITE_INTEGER = 2**63 - 1


def device_of(path: bytes) -> int | None:
    """The device number (`st_dev`) of a file or folder, with links followed; None if it does not exist."""
    try:
        return os.stat(path).st_dev & _SQLITE_INTEGER
    except OSError:
        return None


def mount_points() -> dict[bytes, bytes]:
    """The mount points that the system lists, each with the type of its file system."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return {}
    points = {}
    for line in lines:
        _, quoted, kind, *_ = line.split(b" ")
        points[re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), quoted)] = kind
    return points


def is_mount(folder: bytes) -> bool:
    """Whether a file system begins at a folder, or at the target of a link."""
    above = os.path.dirname(folder)
    return above == folder or device_of(above) != device_of(folder) or folder in mount_points()


class Mounts:
    """Finds the mount points of files, looking at each folder once."""

    def __init__(self, points: Callable[[], Collection[bytes]] = mount_points) -> None:
        self._points = points()
        self._found: dict[tuple[bytes, int], bytes | None] = {}

    def above(self, folder: bytes, device: int) -> bytes | None:
        """The mount point of a folder; None if the folder is not on this device any more."""
        key = folder, device
        if key not in self._found:
            self._found[key] = self._look(folder, device)
        return self._found[key]

    def _look(self, folder: bytes, device: int) -> bytes | None:
        if device_of(folder) != device:
            return None
        above = os.path.dirname(folder)
        if above == folder or folder in self._points or device_of(above) != device:
            return folder
        return self.above(above, device)
