"""`clipsearch-moved.jsonl`: the journal of a folder of moved files, from which every step can be undone.

The first line names the format. A `move` or `restore` line is on disk before its file is touched. After the step, a
line says where the file is: `moved` (in the folder) or `back` (in its original place). An entry without that line is
open: the process was killed in between, and both places have to be checked.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from filelock import FileLock, Timeout

from clipsearch.errors import BadRequest, ClipsearchError, reason
from clipsearch.images.discarded import MOVED_COPIES
from clipsearch.output.records import as_json, path_fields, path_of
from clipsearch.paths import join, relative_to, sync_folder

FORMAT = 1
MANIFEST, LOCK = MOVED_COPIES, b"clipsearch-moved.lock"
MOVE, RESTORE, MOVED, BACK = "move", "restore", "moved", "back"

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HEAD = b'{"clipsearch": "moved files", '  # the start of the first line


class Entry(NamedTuple):
    """One file: its original path, its path in the folder, and what is needed to restore it.

    `best` is the copy that was kept. `drive` is the mount point of `source`.
    """

    source: bytes
    target: bytes
    best: bytes
    size: int
    sha256: str
    mtime_ns: int
    mode: int
    drive: bytes
    step: str = MOVE

    @property
    def original(self) -> tuple[int, int]:
        """The mode and modification time to restore."""
        return self.mode, self.mtime_ns

    @property
    def is_open(self) -> bool:
        """Whether its last step may be incomplete."""
        return self.step != MOVED

    def to_json(self) -> dict[str, Any]:
        """The line for the start of a step."""
        return {
            "step": self.step,
            **path_fields(self.source, "from"),
            **path_fields(self.target, "to"),
            **path_fields(self.best, "best"),
            "size": self.size,
            "sha256": self.sha256,
            "mtime_ns": self.mtime_ns,
            "mode": self.mode,
            **path_fields(self.drive, "drive"),
        }

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`. Raises what `path_of` raises."""
        source, target, best, drive = (path_of(line, name) for name in ("from", "to", "best", "drive"))
        size, mtime_ns, mode = (int(line[name]) for name in ("size", "mtime_ns", "mode"))
        return cls(source, target, best, size, str(line["sha256"]), mtime_ns, mode, drive, str(line["step"]))


class Manifest:
    """The journal of one folder. Only `begin` and `end` write anything.

    `entries` are the files in the folder by `target`, the latest last; `folders` are those that files were moved into;
    `damaged` are the numbers of unreadable lines.
    """

    def __init__(self, folder: bytes) -> None:
        """Raises `BadRequest` for a journal that is unreadable, not ours, or of a newer format."""
        self.folder = folder
        self.path = join(folder, MANIFEST)
        self.entries: dict[bytes, Entry] = {}
        self.folders: set[bytes] = set()
        self.damaged: list[int] = []
        self._id = secrets.token_hex(8)
        self._file: int | None = None
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise BadRequest(f"{os.fsdecode(self.path)} cannot be read: {reason(error)}") from None
        self._end = data.rfind(b"\n") + 1  # a torn last line: the process was killed while writing it
        self._check_head(data)
        for number, line in enumerate(data[: self._end].split(b"\n")[1:-1], 2):
            try:
                self._apply(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self.damaged.append(number)

    def _check_head(self, data: bytes) -> None:
        name = os.fsdecode(self.path)
        if not data[: self._end]:
            if not (_HEAD.startswith(data) or data.startswith(_HEAD)):
                raise BadRequest(f"{name} was not written by clipsearch")
            return
        try:
            head = json.loads(data[: data.index(b"\n")])
            self._id, number = str(head["id"]), int(head["format"])
            is_ours = data.startswith(_HEAD) and self._id.isalnum()
        except (ValueError, TypeError, KeyError):
            is_ours = False
        if not is_ours:
            raise BadRequest(f"{name} was not written by clipsearch, or is damaged")
        if number > FORMAT:
            raise BadRequest(f"{name} was written by a newer clipsearch")

    def _apply(self, line: Mapping[str, Any]) -> None:
        step, target = line["step"], path_of(line, "to")
        entry = Entry.of_json(line) if step in (MOVE, RESTORE) else self.entries[target]._replace(step=step)
        if step not in (MOVE, RESTORE, MOVED, BACK) or not (os.path.isabs(entry.source) and os.path.isabs(target)):
            raise ValueError(step)
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        self.entries.pop(entry.target, None)
        if entry.step != BACK:
            self.entries[entry.target] = entry
        self.folders.add(os.path.dirname(entry.target))

    def temporary(self, beside: bytes) -> bytes:
        """A name, unique to this journal, for an incomplete copy in the folder of a file."""
        return join(os.path.dirname(beside), f".clipsearch-{self._id}.tmp".encode())

    def begin(self, entry: Entry) -> None:
        """Record a step before it is taken. If this raises `ClipsearchError`, do not take it.

        On a full disk, files are put back without a record, since that makes room: a kill can then leave a file in both
        places.
        """
        try:
            self._append(entry.to_json())
            assert self._file is not None
            os.fsync(self._file)
        except OSError as error:
            if entry.step == RESTORE and error.errno in _FULL:
                return
            raise ClipsearchError(f"{os.fsdecode(self.path)} cannot be written: {reason(error)}") from None
        self._take(entry)

    def end(self, entry: Entry, step: str) -> None:
        """Record where a file is after a step. If writing fails, the entry stays open, which loses nothing."""
        self._take(entry._replace(step=step))
        with contextlib.suppress(OSError):
            self._append({"step": step, **path_fields(entry.target, "to")})

    def _append(self, line: Mapping[str, Any]) -> None:
        """Append a complete line or nothing. Raises `OSError`."""
        if self._file is None:
            self._file = os.open(self.path, _APPEND, 0o600)
        data = as_json(line)
        if not self._end:
            data = _HEAD + as_json({"format": FORMAT, "id": self._id})[1:] + data
        os.ftruncate(self._file, self._end)
        written = 0
        while written < len(data):
            written += os.write(self._file, data[written:])
        if not self._end:
            sync_folder(self.folder)
        self._end += len(data)

    def close(self) -> None:
        """Close the file. Deletes the journal if nothing is left to undo, and removes empty folders.

        Reads the file again: an interrupt may have come between writing a line and updating `entries`.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None
        left = Manifest(self.folder)
        if not left.entries and not left.damaged:
            for folder in sorted(left.folders, key=len, reverse=True):
                remove_empty(folder, self.folder)
            with contextlib.suppress(OSError):
                os.unlink(self.path)


@contextlib.contextmanager
def journal(folder: bytes) -> Iterator[Manifest]:
    """Open or create the journal of a folder for writing, locked against other processes.

    Raises `BadRequest` if the folder cannot be written to, and `ClipsearchError` if another process is using it.
    """
    name = os.fsdecode(folder)
    lock = FileLock(os.fsdecode(join(folder, LOCK)), timeout=0, mode=0o600, thread_local=False)
    try:
        make_folders(folder)
        lock.acquire()
        while not os.path.exists(lock.lock_file):  # deleted just now by a process that has undone everything
            lock.release()
            lock.acquire()
    except Timeout:
        raise ClipsearchError(f"another process is moving files into or out of {name}") from None
    except OSError as error:
        raise BadRequest(f"{name} cannot be written to: {reason(error)}") from None
    try:
        manifest = Manifest(folder)
        try:
            yield manifest
        finally:
            manifest.close()
            if not os.path.lexists(manifest.path):
                with contextlib.suppress(OSError):  # Windows cannot delete an open file
                    os.unlink(lock.lock_file)
    finally:
        lock.release()


def make_folders(folder: bytes) -> None:
    """Create a folder and its parents, readable only by their owner: moved files may be private. Raises `OSError`."""
    above = os.path.dirname(folder)
    if above != folder and not os.path.isdir(folder):
        make_folders(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def remove_empty(folder: bytes, top: bytes) -> None:
    """Remove a folder and its parents below `top`, as long as they are empty."""
    with contextlib.suppress(OSError):
        while relative_to(folder, top):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)
            folder = os.path.dirname(folder)
