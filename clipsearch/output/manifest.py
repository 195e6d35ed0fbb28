"""`clipsearch-moved.jsonl`: the journal of a folder of moved files, from which every step can be undone.

The first line names the format. A `move` or `restore` line is on the disk before its file is touched. Once the step is
over, a line says where the file is: `moved` (in the folder) or `back` (in its original place). An entry without that
line is open: the process was killed in between, and both places have to be looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from filelock import FileLock, Timeout

from clipsearch.errors import BadRequest, ClipsearchError, reason
from clipsearch.output.records import as_json, path_fields, path_of
from clipsearch.paths import join, relative_to, sync_folder

FORMAT = 1
MANIFEST, LOCK = b"clipsearch-moved.jsonl", b"clipsearch-moved.lock"
MOVE, RESTORE, MOVED, BACK = "move", "restore", "moved", "back"

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_HEAD = b'{"clipsearch": "moved files", '  # how every first line begins


class Entry(NamedTuple):
    """One file: where it came from, where it is in the folder, and what is needed to put it back as it was.

    `best` is the copy that was kept. `drive` is the mount point that `source` was below.
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
        """Whether its last step may be half done."""
        return self.step != MOVED

    def to_json(self) -> dict[str, Any]:
        """The line that begins its step."""
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
        """The opposite. Raises what `path_of` raises."""
        source, target, best, drive = (path_of(line, name) for name in ("from", "to", "best", "drive"))
        size, mtime_ns, mode = (int(line[name]) for name in ("size", "mtime_ns", "mode"))
        return cls(source, target, best, size, str(line["sha256"]), mtime_ns, mode, drive, str(line["step"]))


class Manifest:
    """The journal of one folder. Without `begin` and `end` nothing is written, not even the folder.

    `entries` are the files in the folder by `target`, the latest last; `folders` are all that files were moved into;
    `damaged` are the numbers of lines that cannot be read.
    """

    def __init__(self, folder: bytes) -> None:
        """Raises `BadRequest` for a journal that is not ours or has a newer format, and when it cannot be read."""
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
        self._end = data.rfind(b"\n") + 1  # what follows was being written when the process was killed
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
        """A name for an unfinished copy in the folder of a file. No other journal has it."""
        return join(os.path.dirname(beside), f".clipsearch-{self._id}.tmp".encode())

    def begin(self, entry: Entry) -> None:
        """Record a step before it is taken. Raises `ClipsearchError` when that fails; then it must not be taken."""
        try:
            self._append(entry.to_json())
            assert self._file is not None
            os.fsync(self._file)
        except OSError as error:
            raise ClipsearchError(f"{os.fsdecode(self.path)} cannot be written: {reason(error)}") from None
        self._take(entry)

    def end(self, entry: Entry, step: str) -> None:
        """Record where a file is after a step. Should that fail, the entry stays open, which loses nothing."""
        self._take(entry._replace(step=step))
        with contextlib.suppress(OSError):
            self._append({"step": step, **path_fields(entry.target, "to")})

    def _append(self, line: Mapping[str, Any]) -> None:
        """Add a whole line or nothing. Raises `OSError`."""
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
        """Close the file. A journal that has nothing left to undo is deleted, with the empty folders.

        What is on the disk decides: an interrupt may have come between a line and what is known of it here.
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
    """The journal of a folder, to write to; made if need be, and locked against other processes.

    Raises `BadRequest` when the folder cannot be written to, and `ClipsearchError` when another process is using it.
    """
    name = os.fsdecode(folder)
    lock = FileLock(os.fsdecode(join(folder, LOCK)), timeout=0, mode=0o600, thread_local=False)
    try:
        make_folders(folder)
        lock.acquire()
        while not os.path.exists(lock.lock_file):  # a process that has undone everything deleted it just before
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
                with contextlib.suppress(OSError):  # Windows lets nobody delete it while it is open
                    os.unlink(lock.lock_file)
    finally:
        lock.release()


def make_folders(folder: bytes) -> None:
    """Make a folder and those above it, for their owner alone: what is moved there may be private. Raises `OSError`."""
    above = os.path.dirname(folder)
    if above != folder and not os.path.isdir(folder):
        make_folders(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def remove_empty(folder: bytes, top: bytes) -> None:
    """Remove a folder and those above it, below `top`, as far as they are empty."""
    with contextlib.suppress(OSError):
        while relative_to(folder, top):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)
            folder = os.path.dirname(folder)
