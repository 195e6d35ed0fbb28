"""One process at a time writes to an index."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from clipsearch.errors import IndexLocked, IndexUnusable, reason
from clipsearch.paths import private_file

LOCK, OWNER = "writer.lock", "writer.pid"


def writer(folder: Path) -> int | None:
    """The process that is writing to the index in a folder, if one is. The lock itself is not touched."""
    try:
        pid = int((folder / OWNER).read_bytes())
    except (OSError, ValueError):
        return None
    return pid if lives(pid) else None


def lives(pid: int) -> bool:
    """Whether a process of this machine has this number; on Windows, where asking would end it, True."""
    if os.name == "nt":  # a writer that ends as it should leaves no name
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


class WriterLock:
    """The lock on `writer.lock`, which the system drops when its owner dies. `writer.pid` says which process that is.

    The two are not one file: a process that asks for the lock may empty it, and Windows lets nobody read it.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `IndexLocked` when another process has it, `IndexUnusable` when the folder cannot be written to."""
        self._owner = folder / OWNER
        self._lock = FileLock(folder / LOCK, timeout=0, mode=0o600, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise IndexLocked(f"{self._who()} is writing to the index at {folder}") from None
        except OSError as error:
            raise IndexUnusable(f"the index at {folder} cannot be written to: {reason(error)}") from None
        try:
            with contextlib.suppress(OSError):  # the disk is full; the lock holds without a name
                self._owner.unlink(missing_ok=True)
                private_file(self._owner)
                self._owner.write_text(f"{os.getpid()}\n")
        except BaseException:
            self._lock.release()
            raise

    def _who(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return f"process {int(self._owner.read_bytes())}"
        return "another process"

    def release(self) -> None:
        """Let the next process write. A second call does nothing."""
        if self._lock.is_locked:
            try:
                with contextlib.suppress(OSError):
                    self._owner.unlink(missing_ok=True)
            finally:
                self._lock.release()
