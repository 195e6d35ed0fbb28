"""What can be found again but need not be: embeddings of texts, hashes of weights, rates of precisions, tables.

It lies in the user's cache folder, apart from any index, and may be deleted at any time. Nothing here raises: a cache
that cannot be read or written is an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.paths import cache_folder, replacing

TEXTS_KEPT = 20_000
_AT_ONCE = 500  # values that a statement takes, on any SQLite

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (model TEXT, text TEXT, vector BLOB NOT NULL, PRIMARY KEY (model, text));
CREATE TABLE IF NOT EXISTS weights
    (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rates (machine TEXT PRIMARY KEY, rates TEXT NOT NULL);
"""


def text_embeddings(model: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The unit rows (dim,) that are kept for texts under a model's fingerprint."""
    found: dict[str, NDArray[np.float32]] = {}
    for first in range(0, len(texts), _AT_ONCE):
        part = texts[first : first + _AT_ONCE]
        marks = ",".join("?" * len(part))
        rows = _run(f"SELECT text, vector FROM texts WHERE model = ? AND text IN ({marks})", [(model, *part)])
        found |= {text: np.frombuffer(vector, np.float32).copy() for text, vector in rows}
    return found


def keep_text_embeddings(model: str, rows: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep the unit rows (dim,) of texts. The oldest are dropped when there are many."""
    values = [(model, text, row.astype(np.float32).tobytes()) for text, row in rows.items()]
    _run("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", values)
    _run("DELETE FROM texts WHERE rowid <= (SELECT max(rowid) FROM texts) - ?", [(TEXTS_KEPT,)])


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hex; kept by size and modification time, for weights are large. Raises OSError."""
    status = os.stat(path)
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    rows = _run("SELECT sha256 FROM weights WHERE path = ? AND size = ? AND mtime_ns = ?", [key])
    if rows:
        return str(rows[0][0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _run("INSERT OR REPLACE INTO weights VALUES (?, ?, ?, ?)", [(*key, digest)])
    return digest


def rates(machine: str) -> dict[str, float] | None:
    """Images a second by precision, if they were measured on a machine."""
    for (text,) in _run("SELECT rates FROM rates WHERE machine = ?", [(machine,)]):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            return {str(name): float(rate) for name, rate in json.loads(text).items()}
    return None


def keep_rates(machine: str, measured: Mapping[str, float]) -> None:
    """Keep images a second by precision for a machine."""
    _run("INSERT OR REPLACE INTO rates VALUES (?, ?)", [(machine, json.dumps(measured))])


def array(name: str) -> NDArray[Any] | None:
    """An array that is kept under a file name, mapped; None if there is none, or if it is damaged."""
    try:
        found: NDArray[Any] = np.load(cache_folder() / name, mmap_mode="r")
        return found
    except (OSError, ValueError, EOFError):
        return None


def keep_array(name: str, values: NDArray[Any]) -> None:
    """Keep an array under a file name that ends in .npy."""
    with contextlib.suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with replacing(cache_folder() / name) as temporary, open(temporary, "wb") as file:
            np.save(file, values)


def _run(statement: str, runs: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The rows of a statement, run with each of the values on the cache file; none when anything goes wrong."""
    path = cache_folder() / "cache.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(_SCHEMA)
            with database:
                return [row for values in runs for row in database.execute(statement, values).fetchall()]
    except (OSError, UnicodeError):  # SQLite takes no text, and no name of a file, that is not Unicode
        return []
    except sqlite3.Error as error:
        if type(error) is sqlite3.DatabaseError:  # damaged, or no database at all: the next use makes a new one
            with contextlib.suppress(OSError):
                path.unlink()
        return []
