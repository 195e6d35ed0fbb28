"""Keep an index up to date while its folders change.

File system events (`watchfiles`) say where something changed. Once they have settled, `update_index` compares these
folders with the index, so duplicate events cost nothing; where events may have been lost, everything is compared.
Folders without events, such as those on network drives, are polled.
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
from clipsearch.images.siblings import is_sidecar_name
from clipsearch.indexing.options import EncoderCache, Options
from clipsearch.indexing.report import OnNote, OnProgress, Report
from clipsearch.indexing.roots import Directory
from clipsearch.indexing.update import update_index
from clipsearch.paths import absolute, relative_to
from clipsearch.store.catalogue import CATALOGUE, Offline, Root, Store
from clipsearch.store.drives import place_of
from clipsearch.store.mounts import mount_points

POLL_SECONDS = 30.0
_TICK = 1.0  # seconds between checks for what has no event, such as the end of a burst or a mounted drive
_STEP = 0.5  # seconds between checks for signals
_LONGEST_BURST = 60.0  # seconds after which changes are handled even if more keep coming
_ENCODER_SECONDS = 60.0  # how long an unused encoder stays loaded
_MANY_PATHS, _MANY_FOLDERS = 1_000, 16  # with more, compare whole folders: the kernel drops events without notice
_NETWORK = {"9p", "afs", "ceph", "cifs", "drvfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"}


class _Change(NamedTuple):
    path: bytes
    is_deletion: bool


class _Unwatchable(Exception):
    """Some folders have no events; the message is the reason."""

    def __init__(self, reason: str, folders: Iterable[bytes]) -> None:
        super().__init__(reason)
        self.folders = set(folders)


class _Burst:
    """Changed paths that are handled together."""

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
        return bool(self.paths) and (now - self._last >= settle or now - self._first >= _LONGEST_BURST)


@dataclass(slots=True)
class Watch:
    """Updates an index once, and again whenever its folders change.

    `directories`: all indexed folders if empty. `settle`: seconds without a change before an update. `poll`: poll every
    folder at this interval in seconds; by default only folders without events, every `POLL_SECONDS`. `options` and
    `on_progress` apply to the first update only.
    """

    folder: Path
    directories: Sequence[Directory] = ()
    options: Options = field(default_factory=Options)
    settle: float = 2.0
    poll: float | None = None
    on_progress: OnProgress | None = None
    on_note: OnNote = lambda note: None

    _encoders: EncoderCache = field(init=False, default_factory=EncoderCache)
    _embedded_at: float = field(init=False, default=0.0)
    _is_locked: bool = field(init=False, default=False)
    _offline: set[tuple[bytes, Offline]] = field(init=False, default_factory=set)
    _unwatchable: set[bytes] = field(init=False, default_factory=set)
    _missing: set[bytes] = field(init=False, default_factory=set)
    _chosen: list[bytes] = field(init=False)
    _store: Store = field(init=False)

    def reports(self) -> Iterator[Report]:
        """Yield the report of the first update, then of each later one that changed something; never ends.

        Waits while another process writes to the index. Raises what `update_index` raises.
        """
        self.options = replace(self.options, encoders=self._encoders)
        while (first := self._update(self.directories)) is None:
            time.sleep(_TICK)
        self._offline = set(first.offline)
        yield first
        self.options, self.on_progress = Options(encoders=self._encoders), None  # the index remembers the rest
        self._chosen = [absolute(directory) for directory in self.directories]
        with Store.open(self.folder) as self._store:
            while True:
                yield from self._watch()

    def _watch(self) -> Iterator[Report]:
        """Watch until the set of folders changes. Begins with an update of all of them."""
        version = self._store.version()
        roots, drives = self._indexed()
        folders = _Folders(roots, self._chosen, self._is_polled, drives)
        self._note_missing(folders)
        due, burst, polled_at = set(folders.all), _Burst(), time.monotonic()
        try:
            for changes in _events(folders.watched):
                if folders.are_stale(changes):
                    return
                if version != (version := self._store.version()) and self._indexed()[0] != folders.roots:
                    return
                burst.add({change.path for change in changes})
                if burst.is_over(self.settle):
                    due |= self._affected(burst.paths, folders)
                    burst = _Burst()
                if folders.polled and time.monotonic() - polled_at >= (self.poll or POLL_SECONDS):
                    if not all(map(self._is_polled, folders.polled)):
                        return
                    due |= folders.polled
                    polled_at = time.monotonic()
                if due:
                    yield from self._update_due(due, folders)
                if time.monotonic() - self._embedded_at >= _ENCODER_SECONDS:
                    self._encoders.release()
        except _Unwatchable as found:
            self._unwatchable |= found.folders
            names = ", ".join(os.fsdecode(path) for path in sorted(found.folders))
            self.on_note(f"polling {names} every {self.poll or POLL_SECONDS:g} s: {found}")

    def _note_missing(self, folders: _Folders) -> None:
        """Note chosen folders that are missing; the report of the next update names others."""
        missing = folders.all - folders.polled - folders.watched if self._chosen else set()
        for path in sorted(missing - self._missing):
            self.on_note(f"{os.fsdecode(path)} is missing; watching it resumes when it is back")
        self._missing = missing

    def _indexed(self) -> tuple[list[Root], set[bytes]]:
        """The roots, and the mount points of the drives inside them."""
        self._store.refresh()
        roots = self._store.roots()
        drives = {place_of(root, drive) for root in roots for drive in self._store.drives.of(root)}
        self._store.end_snapshot()
        return roots, drives - {root.path for root in roots}

    def _is_polled(self, path: bytes) -> bool:
        is_chosen = self.poll is not None or path in self._unwatchable
        return is_chosen or not _is_utf8(path) or not _is_resolved(path) or _is_on_network(path)

    def _affected(self, paths: set[bytes], folders: _Folders) -> set[bytes]:
        """The folders to update for some changed paths."""
        if len(paths) > _MANY_PATHS:
            return {folder for path in paths if (folder := folders.around(path)) is not None}
        exclusions = {root: Exclusions(root.rules, root.path) for root in folders.roots}
        affected: set[bytes] = set()
        self._store.refresh()
        for path in paths:
            folder, root = folders.around(path), folders.root_of(path)
            if folder is not None and root is not None and self._is_relevant(path, root, exclusions[root]):
                affected.add(_nearest_folder(path, folder))
        self._store.end_snapshot()
        return affected if len(affected) <= _MANY_FOLDERS else {f for p in affected if (f := folders.around(p))}

    def _is_relevant(self, path: bytes, root: Root, exclusions: Exclusions) -> bool:
        """Whether a scan of the root would reach a path, or the index has photos below it."""
        if not root.rules.follow_links and not _is_resolved(os.path.dirname(path)):
            return False
        below = relative_to(path, root.path) or b""
        is_folder = os.path.isdir(path) and (root.rules.follow_links or not os.path.islink(path))
        is_scanned = is_folder or may_be_a_photo(path, root.rules) or is_sidecar_name(path)
        if is_scanned and not exclusions.rule_for(below + b"/" * is_folder):
            return True
        return next(self._store.photos.known(root, below), None) is not None

    def _update_due(self, due: set[bytes], folders: _Folders) -> Iterator[Report]:
        """Update the folders that are due, and yield the report if anything changed. If locked, they stay due."""
        # A link in the place of a folder would be indexed under the name of its target.
        there = [os.fsdecode(path) for path in due if os.path.isdir(path) and _is_resolved(path)]
        everything = not self._chosen and (len(there) < len(due) or due >= folders.all)
        if not everything and not there:
            due.clear()
            return
        if not (self.folder / CATALOGUE).is_file():  # an update with folders would create a new index
            raise NoIndex(f"the index at {self.folder} was deleted")
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
        """Update the index; None while another process is writing to it."""
        try:
            report = update_index(self.folder, directories, self.options, self.on_progress, self.on_note)
        except IndexLocked as error:
            if not self._is_locked:
                self.on_note(f"{error}; waiting for it to finish")
            self._is_locked = True
            return None
        self._is_locked = False
        if report.embedded:
            self._embedded_at = time.monotonic()
        return report

    def _is_news(self, report: Report, updated: set[bytes]) -> bool:
        before = self._offline
        self._offline = {known for known in before if not _is_in(known[0], updated)}.union(report.offline)
        changed = report.added or report.updated or report.moved or report.removed
        return bool(changed or report.skipped or report.sidecars_ignored) or self._offline != before


class _Folders:
    """The folders to watch: `polled` ones have no usable events, `watched` ones do; missing ones are in neither.

    `drives` are the mount points inside them that the index knows.
    """

    def __init__(
        self, roots: list[Root], chosen: Sequence[bytes], is_polled: Callable[[bytes], bool], drives: set[bytes]
    ) -> None:
        self.roots = roots
        # A chosen folder may have been removed from the index.
        self.all = {path for path in chosen if self.root_of(path)} if chosen else {root.path for root in roots}
        self._identities = {path: _identity(path) for path in self.all}
        there = {path for path, identity in self._identities.items() if identity is not None}
        self._drives = {path: _identity(path) for path in drives}
        self._mounts = self._mounts_inside()
        self.polled = {path for path in there if is_polled(path)}
        self.watched = there - self.polled

    def are_stale(self, changes: set[_Change]) -> bool:
        """Whether a folder appeared, disappeared or was replaced, for instance by mounting a drive."""
        if any(change.is_deletion and change.path in self.watched for change in changes):
            return True
        if any(_identity(path) != self._identities[path] for path in self.all - self.polled):
            return True
        # Mounting a drive causes no event, nor do changes on it.
        return any(_identity(path) != known for path, known in self._drives.items()) or (
            self._mounts_inside() != self._mounts
        )

    def _mounts_inside(self) -> set[bytes]:
        return {point for point in mount_points() if _is_in(point, self.all)}

    def root_of(self, path: bytes) -> Root | None:
        return next((root for root in self.roots if relative_to(path, root.path) is not None), None)

    def around(self, path: bytes) -> bytes | None:
        """The folder of `all` that contains a path."""
        return next((folder for folder in self.all if relative_to(path, folder) is not None), None)


# ------------------------------------------------------------------------------------------ the system


def _events(folders: set[bytes]) -> Iterator[set[_Change]]:
    """Yield the changes in folders, at least once per tick; ends when a folder is deleted. Raises `_Unwatchable`."""
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
            ignore_permission_denied=False,  # True would also stop watching the folders after the forbidden one
        ):
            yield {_Change(_path(name), change is Change.deleted) for change, name in changes}
    except FileNotFoundError:
        time.sleep(_TICK)
    except (OSError, RuntimeError) as error:
        raise _unwatchable(str(error), folders) from None


def _unwatchable(message: str, folders: set[bytes]) -> _Unwatchable:
    if "limit" in message:
        return _Unwatchable("more folders than the system can watch (fs.inotify.max_user_watches)", folders)
    named = {path for path in folders if f'"{os.fsdecode(path)}/' in message} or folders
    if "decode" in message:
        return _Unwatchable("it has file names that are not UTF-8", named)
    if "denied" in message:
        return _Unwatchable("a folder in it cannot be read (permission denied)", named)
    return _Unwatchable(f"it cannot be watched ({message})", named)


def _path(name: str) -> bytes:
    return os.fsencode(name.replace("\\", "/") if os.name == "nt" else name)


def _is_in(path: bytes, folders: Iterable[bytes]) -> bool:
    return any(relative_to(path, folder) is not None for folder in folders)


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_resolved(folder: bytes) -> bool:
    """Whether no part of a path is a link."""
    return absolute(os.fsdecode(folder)) == folder


def _identity(path: bytes) -> tuple[int, int] | None:
    """Device and inode of a folder; None if there is no folder."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _nearest_folder(path: bytes, top: bytes) -> bytes:
    """The nearest folder at or above `path`, up to `top`, that exists and is not behind a link."""
    while path != top and not (os.path.isdir(path) and _is_resolved(path)):
        path = os.path.dirname(path)
    return path


def _is_on_network(path: bytes) -> bool:
    """Whether other machines may change a folder, which causes no events here."""
    points = mount_points()
    around = max((point for point in points if relative_to(path, point) is not None), key=len, default=b"")
    kind = points.get(around, b"")
    return kind.decode() in _NETWORK or kind.startswith(b"fuse.")
