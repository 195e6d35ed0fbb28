"""The cache of text embeddings, hashes of weights, measured speeds, tokenizer tables and quantised models.

It lies in the user's cache folder, separate from any index, and may be deleted at any time. A cache that cannot be read
or written counts as empty; nothing is raised. Every value has a checksum; a damaged one is a miss and is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.paths import cache_folder, private_file, private_folder, replacing

MAX_TEXTS = 20_000
_MAX_PARAMETERS = 500  # per statement, on any SQLite

_VERSION = 3
_TABLES = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS texts;
DROP TABLE IF EXISTS weights;
DROP TABLE IF EXISTS rates;
DROP TABLE IF EXISTS measurements;
CREATE TABLE texts (model TEXT, text TEXT, vector BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (model, text));
CREATE TABLE weights (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE measurements (subject TEXT PRIMARY KEY, result TEXT NOT NULL, crc INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_CRC_BYTES = 4  # at the end of an array's file


def text_embeddings(model: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The cached unit rows (dim,) of texts, for the model with this fingerprint."""
    found: dict[str, NDArray[np.float32]] = {}
    for first in range(0, len(texts), _MAX_PARAMETERS):
        part = texts[first : first + _MAX_PARAMETERS]
        marks = ",".join("?" * len(part))
        rows = _run(
            f"SELECT text, vector FROM texts WHERE model = ? AND text IN ({marks}) AND crc = crc(model, text, vector)",
            [(model, *part)],
        )
        found |= {text: np.frombuffer(vector, np.float32).copy() for text, vector in rows}
    return found


def keep_text_embeddings(model: str, rows: Mapping[str, NDArray[np.float32]]) -> None:
    """Cache the unit rows (dim,) of texts. Drops the oldest beyond `MAX_TEXTS`."""
    values = [(model, text, row.astype(np.float32).tobytes()) for text, row in rows.items()]
    _run("INSERT OR REPLACE INTO texts VALUES (?1, ?2, ?3, crc(?1, ?2, ?3))", values)
    _run("DELETE FROM texts WHERE rowid <= (SELECT max(rowid) FROM texts) - ?", [(MAX_TEXTS,)])


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hex, cached by path, size and modification time. Raises `OSError`."""
    status = os.stat(path)
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    of_file = "path = ? AND size = ? AND mtime_ns = ?"
    rows = _run(f"SELECT sha256 FROM weights WHERE {of_file} AND crc = crc(path, size, mtime_ns, sha256)", [key])
    if rows:
        return str(rows[0][0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _run("INSERT OR REPLACE INTO weights VALUES (?1, ?2, ?3, ?4, crc(?1, ?2, ?3, ?4))", [(*key, digest)])
    return digest


def measurement(subject: str) -> str | None:
    """What `keep_measurement` kept about a subject, if anything."""
    rows = _run("SELECT result FROM measurements WHERE subject = ? AND crc = crc(subject, result)", [(subject,)])
    return str(rows[0][0]) if rows else None


def keep_measurement(subject: str, result: str) -> None:
    """Keep the result of a measurement on this machine."""
    _run("INSERT OR REPLACE INTO measurements VALUES (?1, ?2, crc(?1, ?2))", [(subject, result)])


def forget_measurement(subject: str) -> None:
    """Forget a result, so that it is measured again."""
    _run("DELETE FROM measurements WHERE subject = ?", [(subject,)])


def array(name: str) -> NDArray[Any] | None:
    """A cached array by its file name, memory-mapped; None if it is missing or damaged."""
    try:
        found: NDArray[Any] | None = None if data(name) is None else np.load(cache_folder() / name, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return found


def keep_array(name: str, values: NDArray[Any]) -> None:
    """Cache an array under a file name that ends in .npy."""
    file = io.BytesIO()
    np.save(file, values)
    keep_data(name, file.getvalue())


def data(name: str) -> memoryview | None:
    """The cached contents of a file, memory-mapped; None if it is missing or damaged."""
    try:
        file = np.memmap(cache_folder() / name, np.uint8, "r")
    except (OSError, ValueError):
        return None
    whole, crc = file[:-_CRC_BYTES].data, file[-_CRC_BYTES:].tobytes()
    return whole if zlib.crc32(whole) == int.from_bytes(crc, "little") else None  # 3 ms for 13 MB


def keep_data(name: str, contents: bytes, *, most: int | None = None) -> None:
    """Cache contents under a file name. Keeps the `most` newest of the files with the same ending."""
    folder = cache_folder()
    with contextlib.suppress(OSError):
        private_folder(folder)
        with replacing(folder / name, private=True) as temporary, open(temporary, "wb") as file:
            file.write(contents)
            file.write(zlib.crc32(contents).to_bytes(_CRC_BYTES, "little"))
        kept = sorted(folder.glob(f"*{Path(name).suffix}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in kept[most:] if most else ():
            path.unlink()


def _run(statement: str, runs: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Execute a statement with each set of values and return all rows; none on any error."""
    path = cache_folder() / "cache.sqlite"
    try:
        private_folder(path.parent)
        private_file(path)
        with contextlib.closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA synchronous = OFF")
            if database.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                database.executescript(_TABLES)
            database.create_function("crc", -1, _crc, deterministic=True)
            with database:
                return [row for values in runs for row in database.execute(statement, values).fetchall()]
    except (OSError, UnicodeError):  # SQLite accepts only Unicode in texts and file names
        return []
    except sqlite3.Error as error:
        if type(error) is sqlite3.DatabaseError:  # damaged or not a database: the next use creates a new one
            with contextlib.suppress(OSError):
                path.unlink()
        return []


def _crc(*values: Any) -> int:
    """The CRC-32 of a row, including its key: a damaged key must not return another key's value."""
    return zlib.crc32(b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in values))
