"""The lock that lets one process at a time write to an index."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from clipsearch.errors import IndexLocked, IndexUnusable, reason
from clipsearch.paths import private_file

LOCK, OWNER = "writer.lock", "writer.pid"
_SHOW_SECONDS = 0.5  # between two reports of the progress


class Writer(NamedTuple):
    """The process that is writing to an index, and how many of `total` files it has done; 0 before it knows."""

    pid: int
    done: int = 0
    total: int = 0


def writer(folder: Path) -> Writer | None:
    """The process that is writing to the index in a folder, if any. Does not touch the lock itself."""
    try:
        found = Writer(*map(int, (folder / OWNER).read_bytes().split()))
    except (OSError, ValueError, TypeError):
        return None
    return found if lives(found.pid) else None


def lives(pid: int) -> bool:
    """Whether a process of this machine has this id; on Windows, where asking would end it, True."""
    if os.name == "nt":  # a writer that ends normally removes the file
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


class WriterLock:
    """The lock on `writer.lock`, which the system releases when its owner dies.

    `writer.pid` has the owner's process id and progress.
    These are two files because taking the lock may empty its file, and Windows does not allow reading a locked file.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `IndexLocked` if another process has it, `IndexUnusable` if the folder cannot be written to."""
        self._owner, self._shown = folder / OWNER, 0.0
        self._lock = FileLock(folder / LOCK, timeout=0, mode=0o600, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise IndexLocked(f"{self._who()} is writing to the index at {folder}") from None
        except OSError as error:
            raise IndexUnusable(f"the index at {folder} cannot be written to: {reason(error)}") from None
        try:
            with contextlib.suppress(OSError):  # the disk is full; the lock works without a name
                self._owner.unlink(missing_ok=True)
                private_file(self._owner)
                self._write(0, 0)
        except BaseException:
            self._lock.release()
            raise

    def show_progress(self, done: int, total: int) -> None:
        """Let readers know how many files are done, at most twice a second."""
        now = time.monotonic()
        if now - self._shown >= _SHOW_SECONDS:
            self._shown = now
            with contextlib.suppress(OSError):
                self._write(done, total)

    def _write(self, done: int, total: int) -> None:
        """Always as many bytes, over the ones before, so that readers never see a part."""
        with open(os.open(self._owner, os.O_WRONLY), "wb", buffering=0) as file:
            file.write(b"%d %12d %12d\n" % (os.getpid(), done, total))

    def _who(self) -> str:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return f"process {int(self._owner.read_bytes().split()[0])}"
        return "another process"

    def release(self) -> None:
        """Let another process write. A second call does nothing."""
        if self._lock.is_locked:
            try:
                with contextlib.suppress(OSError):
                    self._owner.unlink(missing_ok=True)
            finally:
                self._lock.release()
