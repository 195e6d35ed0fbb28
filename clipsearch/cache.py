"""What can be computed again but need not be: embeddings of earlier texts, hashes of weights files.

It lies in the user's cache folder, apart from any index, and may be deleted at any time. Nothing here raises: a cache
that cannot be read or written is an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

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
    with _database() as database:
        row = database.execute("SELECT vector FROM texts WHERE model = ? AND text = ?", (model, text)).fetchone()
        return np.frombuffer(row[0], np.float32).copy() if row else None
    return None


def keep_text_embedding(model: str, text: str, vector: NDArray[np.float32]) -> None:
    """Keep the unit row (dim,) of a text. The oldest are dropped when there are many."""
    with _database() as database:
        row = (model, text, vector.astype(np.float32).tobytes())
        cursor = database.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", row)
        database.execute("DELETE FROM texts WHERE rowid <= ?", ((cursor.lastrowid or 0) - TEXTS_KEPT,))


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hex; kept by size and modification time, for weights are large. Raises OSError."""
    status = os.stat(path)
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    with _database() as database:
        query = "SELECT sha256 FROM weights WHERE path = ? AND size = ? AND mtime_ns = ?"
        row = database.execute(query, key).fetchone()
        if row:
            return str(row[0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with _database() as database:
        database.execute("INSERT OR REPLACE INTO weights VALUES (?, ?, ?, ?)", (*key, digest))
    return digest


@contextlib.contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """A transaction on the cache file; whatever goes wrong in it is forgotten."""
    with contextlib.suppress(sqlite3.Error, OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(folder / "cache.sqlite", timeout=1)
        try:
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(_SCHEMA)
            with database:
                yield database
        finally:
            database.close()
