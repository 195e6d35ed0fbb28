"""What can be computed again but need not be: embeddings of earlier texts, hashes of weights files.

It lies in the user's cache folder, apart from any index, and may be deleted at any time. Nothing here raises: a cache
that cannot be read or written is an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.paths import cache_folder

TEXTS_KEPT = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (model TEXT, text TEXT, vector BLOB NOT NULL, PRIMARY KEY (model, text));
CREATE TABLE IF NOT EXISTS weights
    (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL);
"""


def text_embedding(model: str, text: str) -> NDArray[np.float32] | None:
    """The unit row (dim,) kept for a text under a model's fingerprint, or None."""
    rows = _run("SELECT vector FROM texts WHERE model = ? AND text = ?", (model, text))
    return np.frombuffer(rows[0][0], np.float32).copy() if rows else None


def keep_text_embedding(model: str, text: str, vector: NDArray[np.float32]) -> None:
    """Keep the unit row (dim,) of a text. The oldest are dropped when there are many."""
    _run("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", (model, text, vector.astype(np.float32).tobytes()))
    _run("DELETE FROM texts WHERE rowid <= (SELECT max(rowid) FROM texts) - ?", (TEXTS_KEPT,))


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hex; kept by size and modification time, for weights are large. Raises OSError."""
    status = os.stat(path)
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    rows = _run("SELECT sha256 FROM weights WHERE path = ? AND size = ? AND mtime_ns = ?", key)
    if rows:
        return str(rows[0][0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _run("INSERT OR REPLACE INTO weights VALUES (?, ?, ?, ?)", (*key, digest))
    return digest


def _run(statement: str, values: tuple[Any, ...]) -> list[Any]:
    """The rows of a statement on the cache file; none when anything goes wrong."""
    path = cache_folder() / "cache.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(_SCHEMA)
            with database:
                return database.execute(statement, values).fetchall()
    except (OSError, UnicodeError):  # SQLite takes no text, and no name of a file, that is not Unicode
        return []
    except sqlite3.Error as error:
        if type(error) is sqlite3.DatabaseError:  # damaged, or no database at all: the next use makes a new one
            with contextlib.suppress(OSError):
                path.unlink()
        return []
