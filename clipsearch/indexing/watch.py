"""Keep an index up to date while its folders change.

The system says which files change (`watchfiles`); when nothing has changed for a moment, the folders that they lie in
are updated as `update_index` does it, which compares them with the catalogue. So what is said twice costs nothing, and
wherever something may not have been said, all is looked at again. Folders that nothing is said of, as those on network
drives, are looked at now and then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import BadRequest, IndexLocked, NoIndex
from clipsearch.images.scan import Exclusions, may_be_a_photo
from clipsearch.images.siblings import is_xmp_name
from clipsearch.indexing.kept import KeptEncoder
from clipsearch.indexing.options import Options
from clipsearch.indexing.report import OnNote, OnProgress, Report
from clipsearch.indexing.roots import Directory
from clipsearch.indexing.update import update_index
from clipsearch.paths import absolute, relative_to
from clipsearch.store.catalogue import CATALOGUE, Offline, Root, Store
from clipsearch.store.drives import place_of
from clipsearch.store.mounts import mount_points

POLL_SECONDS = 30.0
_TICK = 1.0  # seconds after which what is no event is looked at: is a burst over, is a folder another one
_STEP = 0.5  # seconds after which signals are seen
_LONGEST = 60.0  # seconds after which a burst is dealt with though it goes on
_KEEP = 60.0  # seconds that an encoder is kept
_MANY_PATHS, _MANY_FOLDERS = 1_000, 16  # beyond, all is looked at: what the kernel drops of many events, nobody tells
_NETWORK = {"9p", "afs", "ceph", "cifs", "drvfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}


class _Change(NamedTuple):
    path: bytes
    is_gone: bool


class _Unwatchable(Exception):
    """The system does not say what changes in some folders; the message is the reason."""

    def __init__(self, reason: str, folders: Iterable[bytes]) -> None:
        super().__init__(reason)
        self.folders = set(folders)


class _Burst:
    """Changes that are dealt with at once."""

    def __init__(self) -> None:
        self.paths: set[bytes] = set()
        self._first = self._last = 0.0

    def add(self, paths: set[bytes]) -> None:
        if paths:
            self._last = time.monotonic()
            self._first = self._first if self.paths else self._last
            self.paths |= paths

    def is_over(self, settle: float) -> bool:
        now = time.monotonic()
        return bool(self.paths) and (now - self._last >= settle or now - self._first >= _LONGEST)


@dataclass(slots=True)
class Watch:
    """Brings directories, or all indexed folders, up to date, and again whenever they change.

    Changes are dealt with when there was none for `settle` seconds. With `poll`, all folders are looked at every so
    many seconds; without, those of which the system does not say what changes, every `POLL_SECONDS`. `options` and
    `on_progress` are for the first update.
    """

    folder: Path
    directories: Sequence[Directory] = ()
    options: Options = field(default_factory=Options)
    settle: float = 2.0
    poll: float | None = None
    on_progress: OnProgress | None = None
    on_note: OnNote = lambda note: None

    _kept: KeptEncoder = field(init=False, default_factory=KeptEncoder)
    _used: float = field(init=False, default=0.0)
    _waits: bool = field(init=False, default=False)
    _offline: set[tuple[bytes, Offline]] = field(init=False, default_factory=set)
    _unwatchable: set[bytes] = field(init=False, default_factory=set)
    _missing: set[bytes] = field(init=False, default_factory=set)
    _chosen: list[bytes] = field(init=False)
    _store: Store = field(init=False)

    def reports(self) -> Iterator[Report]:
        """The report of the first update, and of each later one that has found something, for ever.

        Waits while another process writes to the index. Raises what `update_index` raises.
        """
        self.options = replace(self.options, kept=self._kept)
        while (first := self._update(self.directories)) is None:
            time.sleep(_TICK)
        self._offline = set(first.offline)
        yield first
        self.options, self.on_progress = Options(kept=self._kept), None  # from now on all is as the index has it
        self._chosen = [absolute(directory) for directory in self.directories]
        with Store.open(self.folder) as self._store:
            while True:
                yield from self._session()

    def _session(self) -> Iterator[Report]:
        """What happens until the folders have to be watched anew. All of them are looked at first."""
        version = self._store.version()
        roots, drives = self._indexed()
        places = _Places(roots, self._chosen, self._is_polled, drives)
        self._say_missing(places)
        due, burst, polled_at = set(places.all), _Burst(), time.monotonic()
        try:
            for changes in _events(places.followed):
                if places.are_stale(changes):
                    return
                if version != (version := self._store.version()) and self._indexed()[0] != places.roots:
                    return
                burst.add({change.path for change in changes})
                if burst.is_over(self.settle):
                    due |= self._concerned(burst.paths, places)
                    burst = _Burst()
                if places.polled and time.monotonic() - polled_at >= (self.poll or POLL_SECONDS):
                    if not all(map(self._is_polled, places.polled)):
                        return
                    due |= places.polled
                    polled_at = time.monotonic()
                if due:
                    yield from self._look_at(due, places)
                if time.monotonic() - self._used >= _KEEP:
                    self._kept.release()
        except _Unwatchable as found:
            self._unwatchable |= found.folders
            names = ", ".join(os.fsdecode(path) for path in sorted(found.folders))
            self.on_note(f"{names} is looked at every {self.poll or POLL_SECONDS:g} s: {found}")

    def _say_missing(self, places: _Places) -> None:
        """Of folders that were asked for; of the others the report of the next update says it."""
        missing = places.all - places.polled - places.followed if self._chosen else set()
        for path in sorted(missing - self._missing):
            self.on_note(f"{os.fsdecode(path)} is not there; when it is back, it is watched again")
        self._missing = missing

    def _indexed(self) -> tuple[list[Root], set[bytes]]:
        """The roots, and the mount points of the drives below them."""
        self._store.refresh()
        roots = self._store.roots()
        drives = {place_of(root, drive) for root in roots for drive in self._store.drives.of(root)}
        self._store.end_snapshot()
        return roots, drives - {root.path for root in roots}

    def _is_polled(self, path: bytes) -> bool:
        """Whether the system does not say what changes in a folder that is there."""
        chosen = self.poll is not None or path in self._unwatchable
        return chosen or not _is_text(path) or not _is_itself(path) or _is_on_network(path)

    # -------------------------------------------------------------------------------- what to look at

    def _concerned(self, paths: set[bytes], places: _Places) -> set[bytes]:
        """The folders in which files have changed that are in the index, or may come into it."""
        if len(paths) > _MANY_PATHS:
            return {place for path in paths if (place := places.around(path)) is not None}
        exclusions = {root: Exclusions(root.rules) for root in places.roots}
        found: set[bytes] = set()
        self._store.refresh()
        for path in paths:
            place, root = places.around(path), places.root_of(path)
            if place is not None and root is not None and self._matters(path, root, exclusions[root]):
                found.add(_nearest_folder(path, place))
        self._store.end_snapshot()
        return found if len(found) <= _MANY_FOLDERS else {place for p in found if (place := places.around(p))}

    def _matters(self, path: bytes, root: Root, exclusions: Exclusions) -> bool:
        """Whether a scan of the root would come to a path, or the index has photos below it."""
        above = os.path.dirname(path)
        if not root.rules.follow_links and not _is_itself(above):
            return False
        below = relative_to(path, root.path) or b""
        is_folder = os.path.isdir(path) and (root.rules.follow_links or not os.path.islink(path))
        may_count = is_folder or may_be_a_photo(path, root.rules) or is_xmp_name(path)
        if may_count and not exclusions.rule_for(below + b"/" * is_folder):
            return True
        return next(self._store.photos.known(root, below), None) is not None

    # -------------------------------------------------------------------------------- updates

    def _look_at(self, due: set[bytes], places: _Places) -> Iterator[Report]:
        """Update the folders that are due, and yield the report if it is news. While that cannot be, they stay due."""
        # A link in the place of a folder would be updated as the folder that it leads to.
        there = [os.fsdecode(path) for path in due if os.path.isdir(path) and _is_itself(path)]
        everything = not self._chosen and (len(there) < len(due) or due >= places.all)
        if not everything and not there:
            due.clear()
            return
        if not (self.folder / CATALOGUE).is_file():  # with folders, an update would make another one
            raise NoIndex(f"the index at {self.folder} is gone")
        try:
            report = self._update([] if everything else there)
        except BadRequest:
            if everything or all(map(os.path.isdir, there)):
                raise
            return
        if report is not None:
            if self._is_news(report, due):
                yield report
            due.clear()

    def _update(self, directories: Sequence[Directory]) -> Report | None:
        """One ordinary update; None while another process writes to the index."""
        try:
            report = update_index(self.folder, directories, self.options, self.on_progress, self.on_note)
        except IndexLocked as error:
            if not self._waits:
                self.on_note(f"{error}; this waits until it has ended")
            self._waits = True
            return None
        self._waits = False
        if report.embedded:
            self._used = time.monotonic()
        return report

    def _is_news(self, report: Report, looked_at: set[bytes]) -> bool:
        before = self._offline
        self._offline = {known for known in before if not _is_in(known[0], looked_at)}.union(report.offline)
        changed = report.added or report.updated or report.moved or report.removed
        return bool(changed or report.skipped or report.sidecars_ignored) or self._offline != before


class _Places:
    """The folders that are watched: those in `polled` by looking, those in `followed` by what the system says.

    `drives` are the mount points of what was seen in them.
    """

    def __init__(
        self, roots: list[Root], chosen: Sequence[bytes], is_polled: Callable[[bytes], bool], drives: set[bytes]
    ) -> None:
        self.roots = roots
        # A folder that was chosen may have left the index.
        self.all = {path for path in chosen if self.root_of(path)} if chosen else {root.path for root in roots}
        self._identities = {path: _identity(path) for path in self.all}
        there = {path for path, identity in self._identities.items() if identity is not None}
        self._drives = {path: _identity(path) for path in drives}
        self._mounts = self._mounts_below()
        self.polled = {path for path in there if is_polled(path)}
        self.followed = there - self.polled

    def are_stale(self, changes: set[_Change]) -> bool:
        """Whether a folder went away, came, or has another one in its place, such as a drive that was mounted."""
        if any(change.is_gone and change.path in self.followed for change in changes):
            return True
        if any(_identity(path) != self._identities[path] for path in self.all - self.polled):
            return True
        # The system's events do not say that something was mounted, and do not follow what is in it.
        return any(_identity(path) != known for path, known in self._drives.items()) or (
            self._mounts_below() != self._mounts
        )

    def _mounts_below(self) -> set[bytes]:
        return {point for point in mount_points() if _is_in(point, self.all)}

    def root_of(self, path: bytes) -> Root | None:
        """The root that a path is in."""
        return next((root for root in self.roots if relative_to(path, root.path) is not None), None)

    def around(self, path: bytes) -> bytes | None:
        """The watched folder that a path is in."""
        return next((place for place in self.all if relative_to(path, place) is not None), None)


# ------------------------------------------------------------------------------------------ the system


def _events(folders: set[bytes]) -> Iterator[set[_Change]]:
    """What changes in folders, at least once a tick; ends when one of them went away. Raises `_Unwatchable`."""
    while not folders:
        time.sleep(_TICK)
        yield set()
    from watchfiles import Change, watch

    names = [os.fsdecode(path) for path in folders]
    tick, step = int(1000 * _TICK), int(1000 * _STEP)
    try:
        for changes in watch(
            *names,
            watch_filter=None,
            debounce=tick,
            step=step,
            rust_timeout=tick,
            yield_on_timeout=True,
            force_polling=False,
            ignore_permission_denied=False,  # with it, what follows after such a folder would not be watched either
        ):
            yield {_Change(_path(name), change is Change.deleted) for change, name in changes}
    except FileNotFoundError:
        time.sleep(_TICK)
    except (OSError, RuntimeError) as error:
        raise _unwatchable(str(error), folders) from None


def _unwatchable(message: str, folders: set[bytes]) -> _Unwatchable:
    if "limit" in message:
        return _Unwatchable("there are more folders than the system watches (fs.inotify.max_user_watches)", folders)
    named = {path for path in folders if f'"{os.fsdecode(path)}/' in message} or folders
    if "decode" in message:
        return _Unwatchable("it has names that are not UTF-8, of which the system's events cannot be read", named)
    if "denied" in message:
        return _Unwatchable("a folder in it may not be read", named)
    return _Unwatchable(f"it cannot be watched ({message})", named)


def _path(name: str) -> bytes:
    return os.fsencode(name.replace("\\", "/") if os.name == "nt" else name)


def _is_in(path: bytes, folders: Iterable[bytes]) -> bool:
    return any(relative_to(path, folder) is not None for folder in folders)


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_itself(folder: bytes) -> bool:
    """Whether no part of a folder's path is a link."""
    return absolute(os.fsdecode(folder)) == folder


def _identity(path: bytes) -> tuple[int, int] | None:
    """What tells a folder from another one in its place; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _nearest_folder(path: bytes, place: bytes) -> bytes:
    """The folder in a place that a path is, or is in; where that is gone or behind a link, one above it."""
    while path != place and not (os.path.isdir(path) and _is_itself(path)):
        path = os.path.dirname(path)
    return path


def _is_on_network(path: bytes) -> bool:
    """Whether other machines may change a folder, of which this system says nothing."""
    points = mount_points()
    around = max((point for point in points if relative_to(path, point) is not None), key=len, default=b"")
    kind = points.get(around, b"")
    return kind.decode() in _NETWORK or kind.startswith(b"fuse.")
