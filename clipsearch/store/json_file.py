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

    def __init__(self, folder: Path, key: str, damaged: type[IndexUnusable], *, unchecked: bool = False) -> None:
        """`damaged` is raised by `read` and `restore` if the file is not as it was written.

        `unchecked`: older versions wrote the value alone, without a checksum.
        """
        self.path, self.backup = folder / f"{key}.json", folder / f"{key}.kept.json"
        self._key, self._damaged, self._unchecked = key, damaged, unchecked

    def read(self) -> Any:
        """The value, from the backup if only that exists; None without a file. Raises `IndexUnusable`."""
        return self._read(self.path if self.path.exists() else self.backup)

    def write(self, value: Any) -> None:
        """Write the file, then its backup, and delete what killed writers left. Raises `OSError`."""
        data = json.dumps({"checksum": checksum(value), self._key: value}, indent=1).encode()
        write_private(self.path, data)
        write_private(self.backup, data)
        for leftover in self.path.parent.glob(f".{self.path.stem}*.tmp"):
            leftover.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Replace a damaged or missing file by its backup, or a damaged backup by the file; returns whether it did.

        Raises `IndexUnusable` if both are damaged.
        """
        files = [self.path, self.backup]
        sound = [path for path in files if path.is_file() and self._is_sound(path)]
        if not sound and self.exists():
            names = f"{self.path} and its backup {self.backup.name}"
            raise IndexUnusable(f"{names} are damaged; replace one by a copy that you have, or delete both")
        lost = [path for path in files if sound and path not in sound]
        for path in lost:
            write_private(path, sound[0].read_bytes())
        return bool(lost)

    def exists(self) -> bool:
        """Whether there is the file or its backup."""
        return self.path.exists() or self.backup.exists()

    def damaged(self) -> IndexUnusable:
        """What to raise for a value that makes no sense."""
        return self._damaged(f"{self.path} is damaged")

    def _is_sound(self, path: Path) -> bool:
        try:
            self._read(path)
        except self._damaged:
            return False
        return True

    def _read(self, path: Path) -> Any:
        try:
            if not path.exists():
                return None
            stored = json.loads(path.read_bytes())
            if self._unchecked and isinstance(stored, dict) and "checksum" not in stored:
                return stored
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
