"""On which drives the files of a root lie, as a scan finds them."""

from __future__ import annotations

import os
from typing import NamedTuple

from clipsearch.images.scan import FoundFile
from clipsearch.paths import join
from clipsearch.store.catalogue import Known, Root, Store
from clipsearch.store.drives import Drive
from clipsearch.store.mounts import Mounts


class Place(NamedTuple):
    """A mount point and the device that is mounted there."""

    mount: bytes
    device: int


class Places:
    """Compares where the files of a root are with where they were, and records the difference when a scan is done."""

    def __init__(self, store: Store, root: Root) -> None:
        self._store, self._root, self._mounts = store, root, Mounts()
        self._recorded = {drive.id: drive for drive in store.drives.of(root)}
        self._other_device: dict[int, int] = {}
        self._elsewhere: dict[Place, list[bytes]] = {}
        self._chosen: dict[bytes, Drive] = {}

    def of(self, found: FoundFile) -> Place | None:
        """Where a file is; None when its drive has gone away since it was found."""
        folder = found.target or os.path.dirname(join(self._root.path, found.path))
        mount = self._mounts.above(folder, found.device)
        return None if mount is None else Place(mount, found.device)

    def confirm(self, known: Known, place: Place) -> None:
        """Take note of where a file is that has not changed."""
        drive = self._recorded.get(known.drive)
        if drive is None or drive.mount != place.mount:
            self._elsewhere.setdefault(place, []).append(known.path)
        elif drive.device != place.device:
            self._other_device[drive.id] = place.device

    def record(self) -> None:
        """Write down what was found to be different."""
        for number, device in self._other_device.items():
            self._recorded[number] = self._recorded[number]._replace(device=device)
            self._store.drives.update(self._root, self._recorded[number])
        seen = self._store.presence(self._root).seen
        for drive in list(self._recorded.values()):
            # Without photos it stands for nothing that could be lost.
            if drive.id in seen or not self._store.drives.has_photos(self._root, drive):
                first = self._chosen.setdefault(drive.mount, drive)
                if first is not drive:  # since a folder took in another root
                    self._store.drives.unite(first, [drive])
        for place, paths in self._elsewhere.items():
            self._store.drives.assign(self._root, self.drive_at(place), paths)

    def drive_at(self, place: Place) -> Drive:
        """The drive that is mounted somewhere now: a new one where another was, of which nothing is found."""
        drive = self._chosen.get(place.mount)
        if drive is None:
            drive = self._store.drives.add(self._root, *place)
        elif drive.device != place.device:
            drive = drive._replace(device=place.device)
            self._store.drives.update(self._root, drive)
        self._chosen[place.mount] = drive
        return drive
