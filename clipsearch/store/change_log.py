"""The change log of a catalogue: which photos changed since when, for copies of the index that are kept in step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Ids, Rows, parts
from clipsearch.store.database import Database, explained
from clipsearch.store.images import Images
from clipsearch.store.ocr_text import lines_from
from clipsearch.store.photo import Line, Photo
from clipsearch.store.photos import to_photo
from clipsearch.store.schema import IS_SOUND, METADATA

# A photo has one number, that of its last change; it may be gone.
_LOG = "DELETE FROM changes WHERE photo = {0}.id; INSERT INTO changes (photo) VALUES ({0}.id);"
_LOG_IMAGE = (
    "DELETE FROM changes WHERE photo IN (SELECT id FROM photos WHERE image = {0}.image);"
    " INSERT INTO changes (photo) SELECT id FROM photos WHERE image = {0}.image;"
)
_TRIGGERS = {
    "photo_added": ("INSERT ON photos", _LOG.format("new")),
    "photo_updated": ("UPDATE ON photos", _LOG.format("new")),
    "photo_removed": ("DELETE ON photos", _LOG.format("old")),
    "text_logged": ("INSERT ON texts", _LOG_IMAGE.format("new")),
    "text_unlogged": ("DELETE ON texts", _LOG_IMAGE.format("old")),
    "caption_logged": ("INSERT ON captions", _LOG_IMAGE.format("new")),
    "caption_unlogged": ("DELETE ON captions", _LOG_IMAGE.format("old")),
}
CHANGES = (
    "DROP TABLE IF EXISTS changes;"
    "CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, photo INTEGER NOT NULL UNIQUE);"
) + "".join(
    f"DROP TRIGGER IF EXISTS {name}; CREATE TRIGGER {name} AFTER {event} BEGIN {statement} END;"
    for name, (event, statement) in _TRIGGERS.items()
)

_COLUMNS = (
    f"photos.id, photos.root, vector, lines, folded, images.id = photos.image, {IS_SOUND},"
    " images.id, photos.path, size, mtime_ns, CASE WHEN time IS NULL THEN main.content ELSE images.content END,"
    f" ctime_ns, time, main.hash, named, captions.text, {METADATA}"
)
_TABLES = (
    "photos LEFT JOIN frames ON frames.whole = photos.image"
    " JOIN images ON images.id = coalesce(frames.image, photos.image)"
    " JOIN images AS main ON main.id = photos.image"
    " JOIN embeddings ON embeddings.image = images.id"
    " LEFT JOIN texts ON texts.image = photos.image"
    " LEFT JOIN captions ON captions.image = photos.image"
)


class Row(NamedTuple):
    """An image of a photo, to be published: a photo has one, a video or panorama several.

    `number` counts the rows of a photo from 0. `photo.file` is below the root. `stands`: the image represents the
    file. `vector` is (dim,) float16. `lines` is None before OCR; `folded` is the text for searches.
    """

    photo_id: int
    number: int
    root: int
    photo: Photo
    stands: bool
    vector: Rows
    lines: list[Line] | None
    folded: str | None


class ChangeLog:
    """The numbered changes of a catalogue, and its photos as rows to publish."""

    def __init__(self, database: Database, images: Images) -> None:
        self._database, self._images = database, images

    def identity(self) -> str | None:
        """A name that no other catalogue has; None if changes are not logged, or not all of them."""
        name = self._database.meta("identity")
        triggers = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        return None if name is None or not triggers >= _TRIGGERS.keys() else str(name)

    def start(self) -> None:
        """Log changes from now on, under a new identity."""
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

    def photos_after(self, photo: int, count: int) -> Ids:
        """The ids of the first photos with an id above this."""
        query = "SELECT id FROM photos WHERE id > ? AND image IS NOT NULL ORDER BY id LIMIT ?"
        return np.array([row[0] for row in self._database.execute(query, (photo, count))], np.int64)

    def count_after(self, photo: int) -> int:
        """The number of photos with an id above this."""
        query = "SELECT count(*) FROM photos WHERE id > ? AND image IS NOT NULL"
        return int(self._database.execute(query, (photo,)).fetchone()[0])

    def row_counts(self, photos: Iterable[int]) -> dict[int, int]:
        """How many rows photos have, as far as they exist."""
        found: dict[int, int] = {}
        for part in parts(photos):
            query = (
                "SELECT photos.id, max(1, count(frames.image)) FROM photos"
                " LEFT JOIN frames ON frames.whole = photos.image"
                f" WHERE photos.image IS NOT NULL AND photos.id IN ({','.join('?' * len(part))}) GROUP BY photos.id"
            )
            found.update(self._database.execute(query, part))
        return found

    def rows_of(self, photos: Iterable[int]) -> Iterator[Row]:
        """The rows of photos, as far as they exist."""
        for part in parts(photos):
            where = f"photos.id IN ({','.join('?' * len(part))}) ORDER BY photos.id, images.id"
            yield from self._rows(f"SELECT {_COLUMNS} FROM {_TABLES} WHERE {where}", part)

    def _rows(self, query: str, values: list[int]) -> Iterator[Row]:
        before, number = None, 0
        for photo_id, root, vector, lines, folded, stands, *columns in self._database.execute(query, values):
            number = number + 1 if photo_id == before else 0
            before = photo_id
            if len(vector) != 2 * self._images.dim:
                raise self._database.damaged()
            row = np.frombuffer(vector, "<f2").astype(np.float16, copy=False)
            try:
                text = None if lines is None else lines_from(lines)
            except (ValueError, TypeError):
                raise self._database.damaged() from None
            photo = to_photo(self._database, columns)
            yield Row(photo_id, number, root, photo, bool(stands), row, text, folded)
