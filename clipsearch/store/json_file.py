"""Files beside a catalogue with what only people know: concepts, saved searches, names of faces.

A change locks the file, reads it, and replaces it atomically. The rest of an index cannot restore such a file, so a
`CheckedFile` has a checksum and a backup.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clipsearch.errors import IndexUnusable, reason
from clipsearch.paths import replacing

_LOCK_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file. Raises `IndexUnusable`, also for an `OSError` in the block."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_SECONDS, mode=0o600):
            yield
    except Timeout:
        raise IndexUnusable(f"another process is changing {path}; try again") from None
    except OSError as error:
        raise IndexUnusable(f"{path} cannot be written: {reason(error)}") from None


def write_private(path: Path, data: bytes) -> None:
    """Replace a file that only its owner can read. Raises `OSError`."""
    with replacing(path, private=True) as temporary:
        temporary.write_bytes(data)


class CheckedFile:
    """A JSON value in a file with a checksum, and its backup, written second, so that one of the two is always intact.

    The file is `{"checksum": ..., key: value}`; `key` is the file's stem, and `key.kept.json` its backup.
    """

    def __init__(self, folder: Path, key: str, damaged: type[IndexUnusable]) -> None:
        """`damaged` is raised by `read` and `restore` if the file is not as it was written."""
        self.path, self.backup = folder / f"{key}.json", folder / f"{key}.kept.json"
        self._key, self._damaged = key, damaged

    def read(self) -> Any:
        """The value; None without a file. Raises `IndexUnusable`."""
        return self._read(self.path)

    def write(self, value: Any) -> None:
        """Write the file, then its backup, and delete what killed writers left. Raises `OSError`."""
        data = json.dumps({"checksum": checksum(value), self._key: value}, indent=1).encode()
        write_private(self.path, data)
        write_private(self.backup, data)
        for leftover in self.path.parent.glob(f".{self.path.stem}*.tmp"):
            leftover.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Replace a damaged file by its backup; returns whether it did. Raises an error if both are damaged."""
        try:
            self._read(self.path)
        except self._damaged:
            if not self.backup.is_file():
                raise
            self._read(self.backup)
            write_private(self.path, self.backup.read_bytes())
            return True
        return False

    def recover(self) -> bool:
        """Replace a missing file by its backup; returns whether there is a file now. Raises `OSError`."""
        if not self.path.exists() and self.backup.exists():
            write_private(self.path, self.backup.read_bytes())
        return self.path.exists()

    def damaged(self) -> IndexUnusable:
        """What to raise for a value that makes no sense."""
        return self._damaged(f"{self.path} is damaged")

    def _read(self, path: Path) -> Any:
        try:
            if not path.exists():
                return None
            stored = json.loads(path.read_bytes())
            if checksum(stored[self._key]) != stored["checksum"]:
                raise ValueError
            return stored[self._key]
        except OSError as error:
            raise IndexUnusable(f"{path} cannot be read: {reason(error)}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._damaged(f"{path} is damaged") from None


def checksum(value: Any) -> int:
    """The checksum of a JSON value."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
