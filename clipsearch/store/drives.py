"""Which drives the photos of a root lie on, and which of them are offline. Nothing else decides that.

An unmounted drive looks like a folder whose photos were deleted. So each photo records its drive: the mount point and
the device that was mounted there. A device gets another number after a reboot, and two cards in one reader get the
same, so numbers alone prove nothing: a drive is online when one of its files is found on it. Before anything is
removed that file must be unchanged, as two cards may have files of the same names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from clipsearch.images.found_file import found_file, same_times
from clipsearch.paths import bounds, join, list_folder, relative_to
from clipsearch.store import mounts
from clipsearch.store.database import Database
from clipsearch.store.photo import KNOWN, Known, Root
from clipsearch.store.schema import OF_DRIVE, OF_PHOTO, mark

UNKNOWN = 0  # the drive of photos whose drive was not recorded, or whose record was damaged


class Offline(StrEnum):
    """Why the state of some photos is unknown. They are kept until they are found again."""

    MISSING = "is not there"
    UNMOUNTED = "is not mounted"
    EMPTY = "has none of its photos any more"
    UNREADABLE = "cannot be read"

    @property
    def can_be_pruned(self) -> bool:
        """Whether a user can confirm that the photos are gone (`prune`)."""
        return self in (Offline.UNMOUNTED, Offline.EMPTY)


class Drive(NamedTuple):
    """A file system with photos of a root: the absolute path of its mount point, and its device number when last seen.

    `UNKNOWN` has nothing but an id.
    """

    id: int
    mount: bytes = b""
    device: int = 0


class Away(NamedTuple):
    """Photos that are offline: the folder to name them by, why, and the ids of their drives."""

    place: bytes
    why: Offline
    drives: frozenset[int]


class OfflinePart(NamedTuple):
    """A folder in a root that is offline, and the number of its photos."""

    path: bytes
    photos: int
    why: Offline


class Presence(NamedTuple):
    """Which parts of a root, or of a folder in it, are online.

    `seen` has the drives of the root that are online, by id, each with the absolute path of a file on it. `whole` says
    why the root as a whole is offline, if it is. `online`: whether anything is.
    """

    seen: dict[int, bytes]
    away: list[Away]
    whole: Offline | None
    online: bool

    @property
    def offline_drives(self) -> frozenset[int]:
        """The ids of the drives that are away."""
        return frozenset[int]().union(*(one.drives for one in self.away))


class Drives:
    """The drives of the indexed folders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -------------------------------------------------------------------------------- what is recorded

    def of(self, root: Root) -> list[Drive]:
        """The drives with files of a root. Raises `IndexDamaged`."""
        query = f"SELECT mark = mark({OF_DRIVE}), root, id, mount, device FROM drives ORDER BY id"
        rows = self._database.execute(query).fetchall()
        if not all(row[0] for row in rows):
            raise self._database.damaged()
        drives = [Drive(*row[2:]) for row in rows if row[1] == root.id]
        return [Drive(UNKNOWN), *drives] if self.has_photos(root, Drive(UNKNOWN)) else drives

    def add(self, root: Root, mount: bytes, device: int) -> Drive:
        self._database.begin()
        statement = "INSERT INTO drives (root, mount, device, mark) VALUES (?, ?, ?, 0)"
        added = self._database.execute(statement, (root.id, mount, device))
        drive = Drive(int(added.lastrowid or 0), mount, device)
        self.update(root, drive)
        return drive

    def update(self, root: Root, drive: Drive) -> None:
        """Record where a drive is mounted now."""
        self._database.begin()
        values = (drive.mount, drive.device, mark(drive.id, root.id, drive.mount, drive.device), drive.id)
        self._database.execute("UPDATE drives SET mount = ?, device = ?, mark = ? WHERE id = ?", values)

    def assign(self, root: Root, drive: Drive, paths: Iterable[bytes]) -> None:
        self._database.begin()
        where = "WHERE root = ? AND path = ?"
        for path in paths:
            self._database.execute(f"UPDATE photos SET drive = ? {where}", (drive.id, root.id, path))
            self._database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) {where}", (root.id, path))

    def unite(self, drive: Drive, others: Iterable[Drive]) -> None:
        self._database.begin()
        for other in others:
            self._database.execute("UPDATE photos SET drive = ? WHERE drive = ?", (drive.id, other.id))
            self._database.execute("DELETE FROM drives WHERE id = ?", (other.id,))
        self._database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE drive = ?", (drive.id,))

    def remove(self, ids: Iterable[int]) -> int:
        """Forget drives and their photos; returns the number of files."""
        self._database.begin()
        return sum(self._database.execute("DELETE FROM photos WHERE drive = ?", (n,)).rowcount for n in ids)

    def prune(self) -> None:
        """Forget drives without files. Damaged records are left to `verify`."""
        self._database.begin()
        self._database.execute(
            "DELETE FROM drives WHERE NOT EXISTS (SELECT 1 FROM photos WHERE drive = drives.id)"
            f" AND mark = mark({OF_DRIVE})"
        )

    def has_photos(self, root: Root, drive: Drive) -> bool:
        """Whether photos of a root lie on a drive."""
        query = (
            "SELECT 1 FROM photos INDEXED BY photos_drive WHERE drive = ? AND root = ? AND image IS NOT NULL LIMIT 1"
        )
        return self._database.execute(query, (drive.id, root.id)).fetchone() is not None

    def below(self, root: Root, folder: bytes) -> set[int]:
        """The ids of the drives with photos in a folder of a root."""
        query = "SELECT DISTINCT drive FROM photos WHERE root = ? AND path >= ? AND path < ? AND image IS NOT NULL"
        return {drive for (drive,) in self._database.execute(query, (root.id, *bounds(folder)))}

    def _files(self, root: Root, drive: Drive) -> Iterator[Known]:
        query = f"SELECT {KNOWN} FROM photos INDEXED BY photos_drive WHERE drive = ? AND root = ?"
        return (Known(*row) for row in self._database.execute(query, (drive.id, root.id)))

    def _count(self, root: Root, drives: Iterable[int]) -> int:
        query = "SELECT count(image) FROM photos WHERE drive = ? AND root = ?"
        return sum(self._database.execute(query, (drive, root.id)).fetchone()[0] for drive in drives)

    # -------------------------------------------------------------------------------- what is online

    def presence(self, root: Root, folder: bytes = b"", *, certain: bool = False) -> Presence:
        """What of a root, or of a folder in it, is online.

        `certain`: a drive that may have been swapped is only online if one of its files is unchanged.
        """
        drives = self.of(root)
        if (unreachable := why_unreachable(root.path)) is not None:
            away = Away(root.path, unreachable, frozenset(drive.id for drive in drives))
            return Presence({}, [away], unreachable, online=False)
        seen = {
            drive.id: found
            for drive in drives
            if (found := _witness(root, drive, self._files(root, drive), certain and not self._has_index(drive)))
        }
        for drive in drives:
            if drive.id not in seen and (found := self._outlived(root, drive, drives, seen)) is not None:
                seen[drive.id] = found
        missing: dict[tuple[bytes, Offline], set[int]] = {}
        for drive in drives:
            if drive.id not in seen and self.has_photos(root, drive):
                missing.setdefault((place_of(root, drive), _reason(drive)), set()).add(drive.id)
        offline = [Away(place, why, frozenset(ids)) for (place, why), ids in sorted(missing.items())]
        whole = None if seen else next((one.why for one in offline if one.place == root.path), None)
        if not offline:
            return Presence(seen, [], None, online=True)
        concerned = self.below(root, folder)
        here = Presence(seen, [one for one in offline if one.drives & concerned], whole, online=True)
        return here._replace(online=whole is None and (not concerned or bool(concerned - here.offline_drives)))

    def offline_parts(self, root: Root) -> list[OfflinePart]:
        """The offline drives of a root that is otherwise online."""
        presence = self.presence(root)
        away = presence.away if presence.whole is None else []
        return [OfflinePart(one.place, self._count(root, one.drives), one.why) for one in away]

    def _outlived(self, root: Root, drive: Drive, drives: Collection[Drive], seen: dict[int, bytes]) -> bytes | None:
        """What shows that a drive is online although all of its photos are gone."""
        if drive.id == UNKNOWN or _reason(drive) is not Offline.EMPTY:
            return None
        here = mounts.device_of(root.path)
        below = (other for other in drives if other.id in seen and place_of(root, other) != root.path)
        if place_of(root, drive) == root.path and here == drive.device and any(below):
            return root.path  # its own folders are empty, but drives are mounted in them
        same = [other for other in drives if other.mount == drive.mount and other.id in seen]
        for other in same:
            if drive.device == other.device and self._has_index(drive):
                return seen[other.id]
        return seen[same[0].id] if same and self._has_moved(drive, [other.id for other in same]) else None

    def _has_index(self, drive: Drive) -> bool:
        """Whether the index lies on a drive, which then cannot have been swapped for another."""
        return mounts.device_of(os.fsencode(self._database.folder)) == drive.device

    def _has_moved(self, drive: Drive, others: list[int]) -> bool:
        """Whether at least half of a drive's photos are on other drives, too."""
        moved = (
            "EXISTS (SELECT 1 FROM photos AS other WHERE other.image = photos.image"
            f" AND other.drive IN ({','.join('?' * len(others))}))"
        )
        query = f"SELECT count(*), sum({moved}) FROM photos WHERE drive = ? AND image IS NOT NULL"
        every, found = self._database.execute(query, (*others, drive.id)).fetchone()
        return bool(every) and 2 * found >= every


def place_of(root: Root, drive: Drive) -> bytes:
    """The folder to name a drive by: its mount point, or the root if all of that lies on the drive."""
    return root.path if not drive.mount or relative_to(root.path, drive.mount) is not None else drive.mount


def why_unreachable(folder: bytes) -> Offline | None:
    """Why the files in a folder cannot be looked at; None if they can."""
    try:
        with list_folder(folder):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return Offline.MISSING
    except OSError:
        return Offline.UNREADABLE


def _witness(root: Root, drive: Drive, files: Iterable[Known], unchanged: bool) -> bytes | None:
    """The path of one of a drive's files that exists; on another device, or with `unchanged`, it must be unchanged."""
    there: dict[bytes, bool] = {}
    for known in files:
        path = join(root.path, known.path)
        folder = os.path.dirname(path)
        if folder not in there:  # a deleted album costs one look
            there[folder] = os.path.isdir(folder)
        if there[folder] and _is_witness(path, drive, known, unchanged):
            return path
    return None


def _is_witness(path: bytes, drive: Drive, known: Known, unchanged: bool) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    same_drive = drive.id == UNKNOWN or drive.device == mounts.device_of(os.path.dirname(os.path.realpath(path)))
    return (same_drive and not unchanged) or same_times(found_file(b"", status), known)


def _reason(drive: Drive) -> Offline:
    if not drive.mount:
        return Offline.EMPTY
    if mounts.device_of(drive.mount) is None:
        return Offline.MISSING
    return Offline.EMPTY if mounts.is_mount(drive.mount) else Offline.UNMOUNTED
