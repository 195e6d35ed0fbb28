"""The change log of a catalogue: which photos changed since when, for copies of the index that are kept in step."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Ids, Rows, parts
from clipsearch.images.metadata import Metadata
from clipsearch.store.database import Database, explained
from clipsearch.store.images import Images
from clipsearch.store.schema import METADATA

# Made when an index is first published. A photo has one number, that of its last change; it may be gone.
CHANGES = """
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, photo INTEGER NOT NULL UNIQUE);
CREATE TRIGGER photo_added AFTER INSERT ON photos
    BEGIN DELETE FROM changes WHERE photo = new.id; INSERT INTO changes (photo) VALUES (new.id); END;
CREATE TRIGGER photo_updated AFTER UPDATE ON photos
    BEGIN DELETE FROM changes WHERE photo = new.id; INSERT INTO changes (photo) VALUES (new.id); END;
CREATE TRIGGER photo_removed AFTER DELETE ON photos
    BEGIN DELETE FROM changes WHERE photo = old.id; INSERT INTO changes (photo) VALUES (old.id); END;
"""

_COLUMNS = f"photos.id, photos.root, photos.path, size, mtime_ns, ctime_ns, content, vector, hash, {METADATA}"
_TABLES = "photos JOIN images ON images.id = photos.image JOIN embeddings ON embeddings.image = photos.image"


class Row(NamedTuple):
    """A photo with its embedding, (dim,) float16. `path` is below its root."""

    id: int
    root: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    content: bytes
    row: Rows
    hash: int | None
    metadata: Metadata


class ChangeLog:
    """The numbered changes of a catalogue, and its photos as rows to publish."""

    def __init__(self, database: Database, images: Images) -> None:
        self._database, self._images = database, images

    def identity(self) -> str | None:
        """A name that no other catalogue has; None if changes are not logged."""
        name = self._database.meta("identity")
        return None if name is None else str(name)

    def start(self) -> None:
        """Log changes from now on."""
        self._database.commit()
        with explained(self._database.folder):
            self._database.run("BEGIN IMMEDIATE;" + CHANGES)
            self._database.set_meta("identity", uuid.uuid4().hex)
            self._database.seal_schema()
            self._database.commit()

    def last(self) -> int:
        """The number of the last change; 0 if there was none."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
        return int(row[0]) if row else 0

    def changed_after(self, number: int, count: int) -> tuple[int, Ids]:
        """The ids of the first photos that changed after a number, and the number of the last of these changes."""
        query = "SELECT number, photo FROM changes WHERE number > ? ORDER BY number LIMIT ?"
        found = self._database.execute(query, (number, count)).fetchall()
        return (found[-1][0] if found else number), np.array([photo for _, photo in found], np.int64)

    def count_changed(self, number: int) -> int:
        """The number of photos that changed after a number."""
        return int(self._database.execute("SELECT count(*) FROM changes WHERE number > ?", (number,)).fetchone()[0])

    def count_after(self, photo: int) -> int:
        """The number of photos with an id above this."""
        query = "SELECT count(*) FROM photos WHERE id > ? AND image IS NOT NULL"
        return int(self._database.execute(query, (photo,)).fetchone()[0])

    def rows_after(self, photo: int, count: int) -> list[Row]:
        """The first photos with an id above this."""
        query = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE photos.id > ? ORDER BY photos.id LIMIT ?"
        return list(self._rows(query, (photo, count)))

    def rows_of(self, ids: Ids) -> list[Row]:
        """The photos of some ids, as far as they exist."""
        out: list[Row] = []
        for part in parts(ids):
            places = ",".join("?" * len(part))
            out += self._rows(f"SELECT {_COLUMNS} FROM {_TABLES} WHERE photos.id IN ({places})", tuple(part))
        return out

    def _rows(self, query: str, values: tuple[Any, ...]) -> Iterator[Row]:
        found = self._database.execute(query, values)
        for photo, root, path, size, mtime, ctime, content, vector, phash, *metadata in found:
            if not isinstance(path, bytes) or len(vector) != 2 * self._images.dim:
                raise self._database.damaged()
            row = np.frombuffer(vector, "<f2").astype(np.float16, copy=False)
            yield Row(photo, root, path, size, mtime, ctime, content, row, phash, Metadata(*metadata))
