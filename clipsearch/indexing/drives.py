"""Drives during a run: on which one each file lies, and whether a missing file was deleted or its drive is offline."""

from __future__ import annotations

import os
from typing import NamedTuple

from clipsearch.images.found_file import FoundFile
from clipsearch.images.kinds import is_unsupported
from clipsearch.images.scan import Exclusions, Overlooked
from clipsearch.paths import join
from clipsearch.store.catalogue import Known, Root, Store
from clipsearch.store.drives import UNKNOWN, Away, Drive, Offline, Presence
from clipsearch.store.mounts import Mounts


class Mount(NamedTuple):
    """A mount point and the device that is mounted there."""

    point: bytes
    device: int


class DriveRecorder:
    """Compares the drives of scanned files with the recorded ones; `save` records what differs, after the scan."""

    def __init__(self, store: Store, root: Root) -> None:
        self._store, self._root, self._mounts = store, root, Mounts()
        self._recorded = {drive.id: drive for drive in store.drives.of(root)}
        self._new_devices: dict[int, int] = {}
        self._moved: dict[Mount, list[bytes]] = {}
        self._drives: dict[bytes, Drive] = {}  # by mount point

    def mount_of(self, found: FoundFile) -> Mount | None:
        """Where the file's drive is mounted; None if it was unmounted since the scan."""
        folder = found.target or os.path.dirname(join(self._root.path, found.path))
        point = self._mounts.above(folder, found.device)
        return None if point is None else Mount(point, found.device)

    def confirm(self, known: Known, mount: Mount) -> None:
        """Note the mount of a file that is unchanged."""
        drive = self._recorded.get(known.drive)
        if drive is None or drive.mount != mount.point:
            self._moved.setdefault(mount, []).append(known.path)
        elif drive.device != mount.device:
            self._new_devices[drive.id] = mount.device

    def save(self) -> None:
        for drive_id, device in self._new_devices.items():
            self._recorded[drive_id] = self._recorded[drive_id]._replace(device=device)
            self._store.drives.update(self._root, self._recorded[drive_id])
        seen = self._store.presence(self._root, certain=True).seen
        for drive in list(self._recorded.values()):
            # An offline drive with photos may be another one at the same mount point.
            if drive.id in seen or not self._store.drives.has_photos(self._root, drive):
                first = self._drives.setdefault(drive.mount, drive)
                if first is not drive:  # both were recorded before a new root took in an older one
                    self._store.drives.unite(first, [drive])
        for mount, paths in self._moved.items():
            self._store.drives.assign(self._root, self.drive_at(mount), paths)

    def drive_at(self, mount: Mount) -> Drive:
        """The drive at a mount point; a new one if the recorded one is offline."""
        drive = self._drives.get(mount.point)
        if drive is None:
            drive = self._store.drives.add(self._root, *mount)
        elif drive.device != mount.device:
            drive = drive._replace(device=mount.device)
            self._store.drives.update(self._root, drive)
        self._drives[mount.point] = drive
        return drive


def prunable_drives(presence: Presence) -> frozenset[int]:
    """The drives that are visibly missing before the run; one that goes away during it is not pruned."""
    return frozenset[int]().union(*(one.drives for one in presence.away if one.why.can_be_pruned))


class DeletionCheck:
    """Decides whether missing files of a root were deleted. When in doubt, they were not.

    Looks again for each file, as late as possible: a drive may go away during a scan. Photos on the `pruned` drives
    count as deleted even if the drive is merely offline. `offline` lists the remaining offline drives.
    """

    def __init__(self, store: Store, root: Root, pruned: frozenset[int]) -> None:
        self._store, self._root, self._pruned = store, root, pruned
        self._overlooked, self._exclusions = Overlooked(root.path, root.rules), Exclusions(root.rules, root.path)
        self._refresh()

    def _refresh(self) -> None:
        presence = self._store.presence(self._root, certain=True)
        self._recorded = {UNKNOWN, *(drive.id for drive in self._store.drives.of(self._root))}
        self._witnesses = {UNKNOWN: self._root.path, **presence.seen}
        self._reasons: dict[int, Offline] = {}
        self.offline: list[Away] = []
        for away in presence.away:
            drives = away.drives - self._pruned if away.why.can_be_pruned else away.drives
            if drives or not away.drives:
                self._reasons |= dict.fromkeys(drives, away.why)
                self.offline.append(away)

    def elsewhere(self, path: bytes) -> bytes | None:
        """The path under which scans find the same file, if it differs, because links lead to its folder."""
        return self._overlooked.elsewhere(path)

    def is_deleted(self, path: bytes, drive: int, *, moved: bool = False) -> bool:
        """Whether a file was deleted, or scans leave out its path. `moved`: another file has its contents."""
        whole = join(self._root.path, path)
        if is_unsupported(path) and self._exclusions.rule_for(path) is None:
            return False  # scans cannot find videos
        try:
            os.stat(whole)
        except (FileNotFoundError, NotADirectoryError):
            return self._counts_as_deleted(drive, moved)
        except OSError:
            return False
        try:
            if (other := self.elsewhere(path)) is not None:  # keep it until it is indexed under its other path
                return moved or self._store.photos.known_file(self._root, other) is not None or self._overlooked(other)
            return self._overlooked(path)
        except OSError:
            return False

    def may_be_deleted(self, drive: int) -> bool:
        """Whether a file of this drive that the scan did not find may have been deleted or moved."""
        return self._reasons.get(drive) in (None, Offline.EMPTY)

    def _counts_as_deleted(self, drive: int, moved: bool) -> bool:
        if drive not in self._recorded:
            raise self._store.database.damaged()
        why = self._reasons.get(drive)
        if why is not None:
            return moved and why is Offline.EMPTY
        try:
            os.stat(self._witnesses.get(drive, self._root.path))
        except OSError:  # the drive has just gone away, and the next files with it
            self._refresh()
            return False
        return True
