"""The lock that lets one process at a time write to an index."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from clipsearch.errors import IndexLocked, IndexUnusable, reason
from clipsearch.paths import private_file

LOCK, OWNER = "writer.lock", "writer.pid"


def writer(folder: Path) -> int | None:
    """The id of the process that is writing to the index in a folder, if any. Does not touch the lock itself."""
    try:
        pid = int((folder / OWNER).read_bytes())
    except (OSError, ValueError):
        return None
    return pid if lives(pid) else None


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
    """The lock on `writer.lock`, which the system releases when its owner dies. `writer.pid` names the owner.

    They are two files because a process that asks for the lock may empty it, and Windows lets nobody read a locked one.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `IndexLocked` if another process has it, `IndexUnusable` if the folder cannot be written to."""
        self._owner = folder / OWNER
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
                self._owner.write_text(f"{os.getpid()}\n")
        except BaseException:
            self._lock.release()
            raise

    def _who(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return f"process {int(self._owner.read_bytes())}"
        return "another process"

    def release(self) -> None:
        """Let another process write. A second call does nothing."""
        if self._lock.is_locked:
            try:
                with contextlib.suppress(OSError):
                    self._owner.unlink(missing_ok=True)
            finally:
                self._lock.release()
