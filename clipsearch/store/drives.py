"""Which drives the photos of a root lie on, and which of them are offline. Nothing else decides that.

An unmounted drive looks like a folder whose photos were deleted. So each photo records its drive: the mount point that
it was seen under and the device that was mounted there. A device has another number after a reboot, and two cards in
one reader have the same, so numbers alone prove nothing. A drive is online when one of its photos is found on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from clipsearch.paths import join, list_folder, relative_to
from clipsearch.store.photo import Known, Root

UNKNOWN = 0  # the drive of photos whose drive was not recorded, or whose record was damaged
_MOUNTS = Path("/proc/self/mounts")  # of Linux; on other systems a mount point is where the device changes
_SQLITE_INTEGER = 2**63 - 1


class Offline(StrEnum):
    """Why nothing can be said of some photos now. They are kept until they are found again."""

    MISSING = "is not there"
    UNMOUNTED = "is not mounted"
    EMPTY = "has none of its photos any more"
    UNREADABLE = "cannot be read"

    @property
    def can_be_pruned(self) -> bool:
        """Whether a person can see that the photos are not there, and may say that they are gone."""
        return self in (Offline.UNMOUNTED, Offline.EMPTY)


class Drive(NamedTuple):
    """Where some photos of a root lie: the absolute path of the mount point, and its device (`st_dev`) when last seen.

    Only an id for `UNKNOWN`.
    """

    id: int
    mount: bytes = b""
    device: int = 0


class Away(NamedTuple):
    """Photos that are offline: the folder to name them by, why, and the ids of their drives."""

    place: bytes
    why: Offline
    drives: frozenset[int]


class Presence(NamedTuple):
    """What of a root can be looked at now.

    `seen` has for each drive that is online, by id, the absolute path of a file on it. `whole` says why the root as a
    whole is offline, if it is.
    """

    seen: dict[int, bytes]
    away: list[Away]
    whole: Offline | None


class KnowsDrives(Protocol):
    """What an index has recorded of drives; see `Searchable`."""

    folder: Path | None

    def drives(self, root: Root) -> list[Drive]: ...

    def witness(self, root: Root, drive: Drive) -> bytes | None: ...

    def has_photos_on(self, root: Root, drive: Drive) -> bool: ...

    def has_moved(self, drive: Drive, to: Iterable[int]) -> bool: ...


def presence_of(store: KnowsDrives, root: Root) -> Presence:
    """Which drives of a root are online."""
    drives = store.drives(root)
    why = why_unreadable(root.path)
    if why is not None:
        return Presence({}, [Away(root.path, why, frozenset(drive.id for drive in drives))], why)
    seen = {drive.id: found for drive in drives if (found := store.witness(root, drive)) is not None}
    for drive in drives:
        if drive.id not in seen and (witness := _outlived(store, root, drive, drives, seen)) is not None:
            seen[drive.id] = witness
    away: dict[tuple[bytes, Offline], set[int]] = {}
    for drive in drives:
        if drive.id not in seen and store.has_photos_on(root, drive):
            away.setdefault((place_of(root, drive), _reason(drive)), set()).add(drive.id)
    offline = [Away(place, why, frozenset(ids)) for (place, why), ids in sorted(away.items())]
    whole = None if seen else next((one.why for one in offline if one.place == root.path), None)
    return Presence(seen, offline, whole)


def place_of(root: Root, drive: Drive) -> bytes:
    """The folder to name a drive by: its mount point, or the root where that lies on the drive as a whole."""
    return root.path if not drive.mount or relative_to(root.path, drive.mount) is not None else drive.mount


def witness_among(root: Root, drive: Drive, files: Iterable[Known]) -> bytes | None:
    """The path of one of some files that is there, if one is; on another device, it has to be unchanged."""
    there: dict[bytes, bool] = {}
    for known in files:
        path = join(root.path, known.path)
        folder = os.path.dirname(path)
        if folder not in there:  # an album that was deleted costs one look
            there[folder] = os.path.isdir(folder)
        if there[folder] and _is_witness(path, drive, known):
            return path
    return None


def _is_witness(path: bytes, drive: Drive, known: Known) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    same_drive = drive.id == UNKNOWN or drive.device == device_of(os.path.dirname(os.path.realpath(path)))
    return same_drive or (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)


def _outlived(
    store: KnowsDrives, root: Root, drive: Drive, drives: Collection[Drive], seen: dict[int, bytes]
) -> bytes | None:
    """What shows that a drive is online though all of its photos are gone."""
    if drive.id == UNKNOWN or _reason(drive) is not Offline.EMPTY:
        return None
    here = device_of(root.path)
    below = (other for other in drives if other.id in seen and place_of(root, other) != root.path)
    if place_of(root, drive) == root.path and here == drive.device and any(below):
        return root.path  # nothing is left in its own folders, but in what is mounted there
    same = [other for other in drives if other.mount == drive.mount and other.id in seen]
    for other in same:
        # The drive that the index lies on cannot have been swapped for another.
        if drive.device == other.device and store.folder and device_of(os.fsencode(store.folder)) == drive.device:
            return seen[other.id]
    return seen[same[0].id] if same and store.has_moved(drive, [other.id for other in same]) else None


def why_unreadable(folder: bytes) -> Offline | None:
    """Why the photos in a folder cannot be looked at; None if they can."""
    try:
        with list_folder(folder):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return Offline.MISSING
    except OSError:
        return Offline.UNREADABLE


def _reason(drive: Drive) -> Offline:
    if not drive.mount:
        return Offline.EMPTY
    if device_of(drive.mount) is None:
        return Offline.MISSING
    return Offline.EMPTY if is_mount(drive.mount) else Offline.UNMOUNTED


# ------------------------------------------------------------------------------------------ mount points


def device_of(path: bytes) -> int | None:
    """The device that a file or folder lies on (`st_dev`), links followed; None where there is none."""
    try:
        return os.stat(path).st_dev & _SQLITE_INTEGER
    except OSError:
        return None


def mount_points() -> dict[bytes, bytes]:
    """The mount points of this system, as far as it lists them, each with the kind of its file system."""
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
    """Whether another file system begins at a folder, or at what a link leads to."""
    above = os.path.dirname(folder)
    return above == folder or device_of(above) != device_of(folder) or folder in mount_points()


class Mounts:
    """Finds the mount points of files, with one look at each folder."""

    def __init__(self, points: Callable[[], Collection[bytes]] = mount_points) -> None:
        self._points = points()
        self._found: dict[tuple[bytes, int], bytes | None] = {}

    def above(self, folder: bytes, device: int) -> bytes | None:
        """The mount point that a folder lies under; None when it is not on this device any more."""
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
