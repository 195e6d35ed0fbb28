"""Whether files that a scan did not come to are really gone. What is not certain stays in the index."""

from __future__ import annotations

import os

from clipsearch.images.kinds import can_read_videos, is_video_name
from clipsearch.images.scan import Overlooked
from clipsearch.paths import join
from clipsearch.store.catalogue import Root, Store
from clipsearch.store.drives import UNKNOWN, Away, Offline, Presence


def prunable(presence: Presence) -> frozenset[int]:
    """The drives that a person can see are not there. One that goes away during a run is not among them."""
    return frozenset[int]().union(*(one.drives for one in presence.away if one.why.can_be_pruned))


class Gone:
    """Looks once more at files of a root: as late as possible, since a drive may go away during a scan.

    Photos on the drives `pruned` count as gone though they may be offline. `away` is what else is offline.
    """

    def __init__(self, store: Store, root: Root, pruned: frozenset[int]) -> None:
        self._store, self._root, self._pruned = store, root, pruned
        self._overlooked = Overlooked(root.path, root.rules)
        self.away: list[Away] = []
        self._look()

    def _look(self) -> None:
        """Find what is offline now, and what has to be seen beside a file that is gone, by drive."""
        presence = self._store.presence(self._root)
        self._recorded = {UNKNOWN, *(drive.id for drive in self._store.drives.of(self._root))}
        self._witnesses = {UNKNOWN: self._root.path, **presence.seen}
        self._away: dict[int, Offline] = {}
        self.away = []
        for one in presence.away:
            kept = one.drives - self._pruned if one.why.can_be_pruned else one.drives
            if kept or not one.drives:
                self._away |= dict.fromkeys(kept, one.why)
                self.away.append(one)

    def __call__(self, path: bytes, drive: int, *, moved: bool = False) -> bool:
        """Whether a file is gone, or left out by now. `moved`: its contents are in another file of this root."""
        whole = join(self._root.path, path)
        if is_video_name(path) and not can_read_videos():
            return False  # no scan looks for them
        try:
            os.stat(whole)
        except (FileNotFoundError, NotADirectoryError):
            return self._is_gone(drive, moved)
        except OSError:
            return False
        try:
            return self._overlooked(path)
        except OSError:
            return False

    def may_be(self, drive: int) -> bool:
        """Whether a file of a drive that a scan did not find may be gone, or have moved."""
        return self._away.get(drive) in (None, Offline.EMPTY)

    def _is_gone(self, drive: int, moved: bool) -> bool:
        """Whether a file that is not there has been on a drive that is."""
        if drive not in self._recorded:
            raise self._store.database.damaged()
        why = self._away.get(drive)
        if why is not None:
            return moved and why is Offline.EMPTY
        try:
            os.stat(self._witnesses.get(drive, self._root.path))
        except OSError:  # the drive went away a moment ago, and takes all files that come next with it
            self._look()
            return False
        return True
