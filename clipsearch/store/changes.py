"""What a catalogue has for those who keep a copy of it in step: all photos by id, and what changed since a number."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Ids, parts
from clipsearch.images.metadata import Metadata
from clipsearch.store import schema
from clipsearch.store.catalogue import Store
from clipsearch.store.tables import Rows

_COLUMNS = (
    "photos.id, photos.root, photos.path, size, mtime_ns, ctime_ns, content, vector, hash,"
    " width, height, taken, camera, latitude, longitude, NULL, duration"
)
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


def identity(store: Store) -> str | None:
    """The name of a catalogue whose changes are written down, which no other has; None if they are not."""
    name = store.meta("identity")
    return None if name is None else str(name)


def start(store: Store) -> None:
    """Write down the changes of a catalogue that is open for writing, from now on."""
    store.commit()
    with schema.explained(store.folder):
        schema.record_changes(store.database, uuid.uuid4().hex)


def last(store: Store) -> int:
    """The number of the last change; 0 before there was one."""
    row = store.database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(row[0]) if row else 0


def all_after(store: Store, photo: int, count: int) -> list[Row]:
    """So many photos with an id above this, in order of id."""
    query = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE photos.id > ? ORDER BY photos.id LIMIT ?"
    return list(_rows(store, query, (photo, count)))


def changed_after(store: Store, number: int, count: int) -> tuple[int, Ids]:
    """The ids of so many photos that were changed after a number, and the number of the last of these changes."""
    query = "SELECT number, photo FROM changes WHERE number > ? ORDER BY number LIMIT ?"
    found = store.database.execute(query, (number, count)).fetchall()
    return (found[-1][0] if found else number), np.array([photo for _, photo in found], np.int64)


def count_changed(store: Store, number: int) -> int:
    """How many photos were changed after a number."""
    return int(store.database.execute("SELECT count(*) FROM changes WHERE number > ?", (number,)).fetchone()[0])


def count_after(store: Store, photo: int) -> int:
    """How many photos have an id above this."""
    query = "SELECT count(*) FROM photos WHERE id > ? AND image IS NOT NULL"
    return int(store.database.execute(query, (photo,)).fetchone()[0])


def of_ids(store: Store, ids: Ids) -> list[Row]:
    """The photos of these ids that there are."""
    out: list[Row] = []
    for part in parts(ids):
        places = ",".join("?" * len(part))
        out += _rows(store, f"SELECT {_COLUMNS} FROM {_TABLES} WHERE photos.id IN ({places})", tuple(part))
    return out


def _rows(store: Store, query: str, values: tuple[Any, ...]) -> Iterator[Row]:
    found = store.database.execute(query, values)
    for photo, root, path, size, mtime, ctime, content, vector, phash, *metadata in found:
        if not isinstance(path, bytes) or len(vector) != 2 * store.dim:
            raise store.damaged()
        row = np.frombuffer(vector, "<f2").astype(np.float16, copy=False)
        yield Row(photo, root, path, size, mtime, ctime, content, row, phash, Metadata(*metadata))
