"""The cache of text embeddings, hashes of weights, benchmark results and tokenizer tables.

It lies in the user's cache folder, separate from any index, and may be deleted at any time. A cache that cannot be read
or written counts as empty; nothing is raised. Every value has a checksum; a damaged one is a miss and is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
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

_VERSION = 2
_TABLES = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS texts;
DROP TABLE IF EXISTS weights;
DROP TABLE IF EXISTS rates;
CREATE TABLE texts (model TEXT, text TEXT, vector BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (model, text));
CREATE TABLE weights (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE rates (machine TEXT PRIMARY KEY, rates TEXT NOT NULL, crc INTEGER NOT NULL);
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


def rates(machine: str) -> dict[str, float] | None:
    """The benchmark results (images/s by precision) of a machine, if cached."""
    for (text,) in _run("SELECT rates FROM rates WHERE machine = ? AND crc = crc(machine, rates)", [(machine,)]):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            return {str(name): float(rate) for name, rate in json.loads(text).items()}
    return None


def keep_rates(machine: str, measured: Mapping[str, float]) -> None:
    """Cache benchmark results (images/s by precision) of a machine."""
    _run("INSERT OR REPLACE INTO rates VALUES (?1, ?2, crc(?1, ?2))", [(machine, json.dumps(measured))])


def array(name: str) -> NDArray[Any] | None:
    """A cached array by its file name, memory-mapped; None if it is missing or damaged."""
    path = cache_folder() / name
    try:
        file = np.memmap(path, np.uint8, "r")
        whole, crc = file[:-_CRC_BYTES], file[-_CRC_BYTES:].tobytes()
        if zlib.crc32(whole.data) != int.from_bytes(crc, "little"):  # 3 ms for 13 MB, the largest so far
            return None
        found: NDArray[Any] = np.load(path, mmap_mode="r")
        return found
    except (OSError, ValueError, EOFError):
        return None


def keep_array(name: str, values: NDArray[Any]) -> None:
    """Cache an array under a file name that ends in .npy."""
    file = io.BytesIO()
    np.save(file, values)
    whole = file.getvalue()
    with contextlib.suppress(OSError):
        private_folder(cache_folder())
        with replacing(cache_folder() / name, private=True) as temporary:
            temporary.write_bytes(whole + zlib.crc32(whole).to_bytes(_CRC_BYTES, "little"))


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
