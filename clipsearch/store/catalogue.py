"""The index on disk: a catalogue in SQLite, which is the truth, and a file of vectors derived from it.

A folder holds `catalogue.sqlite`, at most one `vectors-N.faiss` that the catalogue names (see `search`), and
`writer.lock`. One process writes, any number read; a reader sees one moment of the catalogue from its first statement
to its last.

Tables: `roots` are folders that were indexed; `photos` are the files in them, by path; `images` are their distinct
contents, by hash, and `embeddings` hold one unit row for each. Photos with equal contents share an image. A photo
that could not be read has an `error` and no image. Image ids grow and are never used again, so what is newer than the
file of vectors has an id above its last, and what it holds too much is listed in `dropped`. `loose` lists images that
have lost a photo, until `prune` has looked whether another is left. `mark` is a checksum of what else was written of a
photo or an image, embedding included: SQLite does not notice when a disk changes a byte of a row.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sqlite3
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexLocked, IndexUnusable, NoIndex
from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import FoundFile, Rules
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store.filters import EVERYTHING, KM_OF_A_DEGREE, Filter

FORMAT = 3
CATALOGUE = "catalogue.sqlite"
_REBUILT = "rebuilt.sqlite"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE roots (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE,
    hidden INTEGER NOT NULL, follow_links INTEGER NOT NULL, exclude TEXT NOT NULL
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL UNIQUE,
    width INTEGER, height INTEGER, taken TEXT, camera TEXT, latitude REAL, longitude REAL, mark INTEGER NOT NULL
);
CREATE TABLE embeddings (image INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE photos (
    id INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots, path BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    image INTEGER REFERENCES images, error TEXT, mark INTEGER NOT NULL,
    UNIQUE (root, path), CHECK ((image IS NULL) != (error IS NULL))
);
CREATE INDEX photos_image ON photos (image);
CREATE TABLE loose (image INTEGER PRIMARY KEY);
CREATE TABLE dropped (image INTEGER PRIMARY KEY);
"""

# Not INSERT OR IGNORE: within an upsert of a photo, SQLite takes the upsert's way with conflicts, which is to fail.
_TRIGGERS = """
CREATE TRIGGER photo_deleted AFTER DELETE ON photos
    WHEN old.image IS NOT NULL AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER photo_changed AFTER UPDATE OF image ON photos
    WHEN old.image IS NOT NULL AND old.image IS NOT new.image AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER image_deleted AFTER DELETE ON images
    BEGIN DELETE FROM embeddings WHERE image = old.id; INSERT INTO dropped VALUES (old.id); END;
"""


_FROM_SQLITE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter when it quotes a damaged name

# What the marks of a photo and an image are made of, in SQL.
_OF_PHOTO = "path, size, mtime_ns, ctime_ns, image, CAST(error AS BLOB)"
_OF_IMAGE = "content, width, height, CAST(taken AS BLOB), CAST(camera AS BLOB), latitude, longitude"
# Photos with their images. SQLite would go through all photos of a root to find those of a few images.
_BY_PHOTO = "photos JOIN images ON images.id = photos.image"
_BY_IMAGE = "images CROSS JOIN photos INDEXED BY photos_image ON photos.image = images.id"
_AGAIN = (  # no file has this time, so that the next `index` looks at it
    "image = NULL, error = 'to be embedded again', mtime_ns = -1,"
    " mark = mark(path, size, -1, ctime_ns, NULL, CAST('to be embedded again' AS BLOB))"
)


class Root(NamedTuple):
    """A folder that was indexed, with what its scans leave out."""

    id: int
    path: bytes
    rules: Rules


class Offline(StrEnum):
    """Why nothing can be said of the photos in an indexed folder now. They are kept until it is back."""

    MISSING = "is not there"
    EMPTY = "has nothing in it any more"  # where photos were: most often a mount point
    UNREADABLE = "cannot be read"


class Known(NamedTuple):
    """What the catalogue says of a file: enough to see whether it has changed, and whether it was skipped."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    error: str | None


class Photo(NamedTuple):
    """A photo as the catalogue has it: its absolute path, its size in bytes, the hash of its contents, its metadata."""

    image_id: int
    path: bytes
    size: int
    mtime_ns: int
    content: bytes
    metadata: Metadata

    @property
    def date(self) -> str:
        """When it was taken or, if it does not say, its file was changed: local time in ISO 8601."""
        if self.metadata.taken:
            return self.metadata.taken
        try:
            return datetime.fromtimestamp(self.mtime_ns // 10**9).isoformat()
        except (OverflowError, ValueError, OSError):  # beyond what the calendar can say
            return "0000-00-00T00:00:00"


class Vectors(NamedTuple):
    """The derived file of vectors: its name, its rows, the last image in it, and its length in bytes.

    `structure` is a hash of all that is in it besides rows and ids.
    """

    file: str
    rows: int
    last: int
    bytes: int
    structure: str = ""


class Clause(NamedTuple):
    """A condition in SQL with its values."""

    sql: str
    values: tuple[Any, ...] = ()

    @staticmethod
    def all_of(clauses: Iterable[Clause]) -> Clause:
        """What holds when each of them does."""
        every = list(clauses)
        return Clause(" AND ".join(f"({c.sql})" for c in every) or "1", tuple(v for c in every for v in c.values))


class Selection(NamedTuple):
    """Some photos of a store: their roots by id, what holds for them, and paths that were asked for in vain.

    `candidates` is a query for the ids of their images, and maybe of others.
    """

    roots: dict[int, Root]
    holds: Clause
    candidates: Clause
    missing: list[bytes]


class RootCounts(NamedTuple):
    """How much of a root is in the catalogue."""

    root: Root
    photos: int
    skipped: int


class Store:
    """An open index. `model` is the record of the model whose embeddings it holds (`models.Model.to_json`)."""

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: _WriterLock | None) -> None:
        self.folder = folder
        self._db = database
        self._lock = lock
        self._lookup: sqlite3.Connection | None = None
        self._lookup_guard = threading.Lock()
        self._path = Path(database.execute("PRAGMA database_list").fetchone()[2])
        self.model = str(self._meta("model"))
        self.dim = self._number("dim")

    # -------------------------------------------------------------------------------- opening and closing

    @staticmethod
    def create(folder: Path, model: str, dim: int) -> Store:
        """Make an empty index for embeddings of length `dim`, or open for writing the one that is there."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise IndexUnusable(f"the index folder {folder} cannot be made: {error.strerror}") from None
        lock = _WriterLock(folder)
        try:
            with _explained(folder):
                if not (folder / CATALOGUE).is_file():
                    _make_catalogue(folder, model, dim)
                database = _connect(folder / CATALOGUE, "rw")
                _check_format(database, folder)
            return Store(folder, database, lock)
        except BaseException:
            lock.release()
            raise

    @staticmethod
    def open(folder: Path, *, write: bool = False) -> Store:
        """Open an index. Raises `NoIndex`, `IndexUnusable`, and for writing `IndexLocked`."""
        if not (folder / CATALOGUE).is_file():
            raise NoIndex(f"there is no index at {folder} yet; make one with: clipsearch index DIR")
        lock = _WriterLock(folder) if write else None
        try:
            with _explained(folder):
                database = _connect(folder / CATALOGUE, "rw" if write else "ro")
                _check_format(database, folder)
                if not write:
                    database.execute("BEGIN")  # one moment of the catalogue until the end
                return Store(folder, database, lock)
        except BaseException:
            if lock:
                lock.release()
            raise

    def close(self) -> None:
        """Let go of the files and the lock. What was not committed is forgotten."""
        self.close_lookup()
        self._db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close_lookup(self) -> None:
        """Close what `has_image` opened."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def discard(self) -> None:
        """Delete an index that was made and never filled."""
        self.close()
        _unlink_database(self.folder / CATALOGUE)
        with contextlib.suppress(OSError):
            (self.folder / "writer.lock").unlink()
            self.folder.rmdir()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, _FROM_SQLITE):  # a full disk, a damaged page: whatever the block was doing
            with _explained(self.folder):
                raise error

    @contextlib.contextmanager
    def rebuilding(self, model: str, dim: int) -> Iterator[Store]:
        """A second, empty catalogue beside this one, with the same roots. It takes this one's place, in one
        transaction, when the block ends without an exception; until then this one answers as before.
        """
        path = self.folder / _REBUILT
        _unlink_database(path)
        with _explained(self.folder):
            database = _connect(path, "rwc")
            try:
                _initialise(database, model, dim)
                generation = self._number("generation")
                database.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (generation,))
                rows = self._db.execute("SELECT id, path, hidden, follow_links, exclude FROM roots").fetchall()
                database.executemany("INSERT INTO roots VALUES (?, ?, ?, ?, ?)", rows)
                rebuilt = Store(self.folder, database, None)
                try:
                    yield rebuilt
                finally:
                    rebuilt.close_lookup()
                rebuilt.commit()
                database.backup(self._db)
                self.model, self.dim = model, dim
            finally:
                database.close()
                _unlink_database(path)

    # -------------------------------------------------------------------------------- roots

    def roots(self) -> list[Root]:
        """The indexed folders, by path."""
        rows = self._db.execute("SELECT id, path, hidden, follow_links, exclude FROM roots ORDER BY path")
        try:
            return [Root(i, path, Rules(bool(h), bool(f), tuple(json.loads(e)))) for i, path, h, f, e in rows]
        except (ValueError, TypeError):
            raise self._damaged() from None

    def offline(self, root: Root) -> Offline | None:
        """Why a root cannot be looked at now; None when it can. This is the one place that decides it."""
        if not os.path.isdir(root.path):
            return Offline.MISSING
        try:
            with os.scandir(root.path) as entries:
                is_empty = next(entries, None) is None
        except OSError:
            return Offline.UNREADABLE
        return Offline.EMPTY if is_empty and next(self.known(root), None) is not None else None

    def add_root(self, path: bytes, rules: Rules) -> Root:
        """Record a folder. Roots that lie inside it become part of it and keep their photos."""
        self._begin()
        values = (path, rules.hidden, rules.follow_links, json.dumps(rules.exclude))
        statement = "INSERT INTO roots (path, hidden, follow_links, exclude) VALUES (?, ?, ?, ?)"
        root = Root(int(self._db.execute(statement, values).lastrowid or 0), path, rules)
        for inner in self.roots():
            below = relative_to(inner.path, path)
            if below:
                self._db.execute(
                    "UPDATE photos SET root = ?, path = CAST(? || path AS BLOB) WHERE root = ?",
                    (root.id, below + b"/", inner.id),
                )
                self._db.execute(f"UPDATE photos SET mark = mark({_OF_PHOTO}) WHERE root = ?", (root.id,))
                self._db.execute("DELETE FROM roots WHERE id = ?", (inner.id,))
        return root

    def set_rules(self, root: Root, rules: Rules) -> Root:
        """Record what later scans of a root leave out."""
        if rules == root.rules:
            return root
        self._begin()
        values = (rules.hidden, rules.follow_links, json.dumps(rules.exclude), root.id)
        self._db.execute("UPDATE roots SET hidden = ?, follow_links = ?, exclude = ? WHERE id = ?", values)
        return Root(root.id, root.path, rules)

    def move_root(self, root: Root, path: bytes) -> None:
        """Record that a folder is somewhere else now, with all that is in it."""
        self._begin()
        self._db.execute("UPDATE roots SET path = ? WHERE id = ?", (path, root.id))

    def remove_root(self, root: Root) -> int:
        """Forget a folder and its photos; returns how many photos it had."""
        self._begin()
        count = self._db.execute("DELETE FROM photos WHERE root = ?", (root.id,)).rowcount
        self._db.execute("DELETE FROM roots WHERE id = ?", (root.id,))
        return count

    # -------------------------------------------------------------------------------- photos

    def known(self, root: Root, under: bytes = b"") -> Iterator[Known]:
        """The files of a root, or of a folder in it, in bytewise order of their paths."""
        low, high = _below(under)
        columns, condition = "path, size, mtime_ns, ctime_ns, error", "root = ? AND path >= ? AND path < ?"
        query = f"SELECT {columns} FROM photos WHERE {condition} ORDER BY path"
        for row in self._db.execute(query, (root.id, low, high)):
            yield Known(*row)

    def find_image(self, content: bytes) -> int | None:
        """The id of the image with this content hash."""
        row = self._db.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
        return None if row is None else int(row[0])

    def has_image(self, content: bytes) -> bool:
        """Whether contents were embedded and committed; may be called from any thread."""
        with self._lookup_guard:
            if self._lookup is None:
                self._lookup = _connect(self._path, "ro", any_thread=True)
            return self._lookup.execute("SELECT 1 FROM images WHERE content = ?", (content,)).fetchone() is not None

    def add_image(self, content: bytes, metadata: Metadata, vector: NDArray[np.float32]) -> int:
        """Record contents by their hash with their unit row (dim,), kept in fp16; returns the id."""
        self._begin()
        row = vector.astype("<f2").tobytes()
        statement = "INSERT INTO images VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
        image_id = int(self._db.execute(statement, (content, *metadata, _mark(content, *metadata, row))).lastrowid or 0)
        self._db.execute("INSERT INTO embeddings VALUES (?, ?)", (image_id, row))
        return image_id

    def put_photo(self, root: Root, file: FoundFile, image_id: int | None, error: str | None) -> None:
        """Record a file, new or changed: it has an image, or the error that says why not."""
        self._begin()
        values = (file.path, file.size, file.mtime_ns, file.ctime_ns, image_id, error)
        self._db.execute(
            "INSERT INTO photos (root, path, size, mtime_ns, ctime_ns, image, error, mark)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (root, path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,"
            " ctime_ns = excluded.ctime_ns,"
            " image = excluded.image, error = excluded.error, mark = excluded.mark",
            (root.id, *values, _mark(*values)),
        )

    def image_of(self, root: Root, path: bytes) -> int | None:
        """The image of a file, if it has one."""
        row = self._db.execute("SELECT image FROM photos WHERE root = ? AND path = ?", (root.id, path)).fetchone()
        return None if row is None else row[0]

    def remove_photos(self, root: Root, paths: Iterable[bytes]) -> None:
        """Forget files of a root."""
        self._begin()
        self._db.executemany("DELETE FROM photos WHERE root = ? AND path = ?", ((root.id, path) for path in paths))

    def prune(self) -> None:
        """Forget the contents that no photo has any more."""
        self._begin()
        self._db.execute(
            "DELETE FROM images WHERE id IN (SELECT image FROM loose)"
            " AND NOT EXISTS (SELECT 1 FROM photos WHERE photos.image = images.id)"
        )
        self._db.execute("DELETE FROM loose")

    def commit(self) -> None:
        """Make what was written since the last commit last."""
        if self._db.in_transaction:
            with _explained(self.folder):
                self._db.execute("COMMIT")

    def _begin(self) -> None:
        if not self._db.in_transaction:
            with _explained(self.folder):
                self._db.execute("BEGIN IMMEDIATE")

    # -------------------------------------------------------------------------------- embeddings

    def vectors(self) -> Vectors | None:
        """What the catalogue says of the file of vectors."""
        record = self._meta("vectors")
        try:
            return Vectors(**json.loads(record)) if record else None
        except (ValueError, TypeError):
            return None  # it can be made again

    def new_vectors_name(self) -> str:
        """The name of the next file of vectors; no two generations have the same."""
        return f"vectors-{self._number('generation') + 1}.faiss"

    def adopt_vectors(self, vectors: Vectors) -> None:
        """Name the file of vectors that is in use from now on, in one transaction."""
        self._begin()
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'vectors'", (json.dumps(vectors._asdict()),))
        self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        self._db.execute("DELETE FROM dropped")
        self.commit()

    def sweep(self) -> None:
        """Delete what is not in use: files of vectors of other generations, and what was left by a rebuild."""
        _unlink_database(self.folder / _REBUILT)
        vectors = self.vectors()
        for path in self.folder.iterdir():
            if re.fullmatch(r"vectors-\d+\.faiss(\.tmp)?", path.name) and (not vectors or path.name != vectors.file):
                with contextlib.suppress(OSError):  # on Windows a reader may still hold it; the next time, then
                    path.unlink()

    def embeddings(self, after: int = 0, block: int = 16384) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Image ids (n,) above `after` and their rows (n, dim), in order of id, in blocks."""
        cursor = self._db.execute("SELECT image, vector FROM embeddings WHERE image > ? ORDER BY image", (after,))
        while rows := cursor.fetchmany(block):
            yield self._as_arrays(rows)

    def embeddings_of(self, ids: Iterable[int]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """The given image ids that have an embedding, (n,), and their rows (n, dim)."""
        rows: list[tuple[int, bytes]] = []
        for part in _parts(ids):
            query = f"SELECT image, vector FROM embeddings WHERE image IN ({_marks(part)})"
            rows += self._db.execute(query, part).fetchall()
        return self._as_arrays(rows)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """The rows (n, dim) of image ids (n,), in their order. Raises `IndexUnusable` when one has none."""
        found, rows = self.embeddings_of(ids.tolist())
        place = {image_id: number for number, image_id in enumerate(found.tolist())}
        if not place.keys() >= set(ids.tolist()):
            raise self._damaged()
        return rows[[place[image_id] for image_id in ids.tolist()]]

    def _as_arrays(self, rows: list[tuple[int, bytes]]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        ids = np.array([row[0] for row in rows], np.int64)
        if not all(isinstance(row[1], bytes) for row in rows):
            raise self._damaged()
        blob = b"".join(row[1] for row in rows)
        if len(blob) != 2 * self.dim * len(rows):
            raise self._damaged()
        return ids, np.frombuffer(blob, "<f2").reshape(len(rows), self.dim).astype(np.float16, copy=False)

    def _damaged(self) -> IndexUnusable:
        return IndexUnusable(f"the index at {self.folder} is damaged; repair it with: clipsearch verify")

    def is_empty(self) -> bool:
        """Whether no photo could be embedded yet."""
        return self._db.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is None

    def require_photos(self) -> None:
        """Raise `NoIndex` where there is nothing to ask for."""
        if self.is_empty():
            raise NoIndex("the index is empty; fill it with: clipsearch index DIR")

    def count_embeddings(self, after: int = 0) -> int:
        """How many images have an id above `after`."""
        return int(self._db.execute("SELECT count(*) FROM images WHERE id > ?", (after,)).fetchone()[0])

    def dropped(self) -> NDArray[np.int64]:
        """Ids that the file of vectors may still hold though their images are gone."""
        return np.array([row[0] for row in self._db.execute("SELECT image FROM dropped")], np.int64)

    # -------------------------------------------------------------------------------- looking things up

    def select(self, places: list[tuple[Root, bytes]], where: Filter = EVERYTHING) -> Selection:
        """The photos below one of the places (root, folder) that pass a filter; a store has one with `files`."""
        roots = self.roots()
        of_photo, of_image, dates = _conditions(where)
        if places != [(root, b"") for root in roots]:
            one = Clause("photos.root = ? AND photos.path >= ? AND photos.path < ?")
            bounds = [value for root, under in places for value in (root.id, *_below(under))]
            of_photo.append(Clause(" OR ".join(f"({one.sql})" for _ in places) or "0", tuple(bounds)))
        missing: list[bytes] = []
        if where.files is not None:
            self._db.execute("DROP TABLE IF EXISTS temp.chosen")
            self._db.execute(
                "CREATE TEMP TABLE chosen (root INTEGER, path BLOB, PRIMARY KEY (root, path)) WITHOUT ROWID"
            )
            for file in where.files:
                place = self.locate(file, roots)
                if place is None:
                    missing.append(file)
                else:
                    self._db.execute("INSERT OR IGNORE INTO chosen VALUES (?, ?)", (place[0].id, place[1]))
            of_photo.append(Clause("(photos.root, photos.path) IN (SELECT root, path FROM chosen)"))
        holds = Clause.all_of([*of_photo, *of_image, *(date.of_both for date in dates)])
        if not of_photo:  # going through one table takes half the time of going through both
            taken = Clause.all_of([*of_image, *(date.taken for date in dates)])
            candidates = Clause(f"SELECT id FROM images WHERE {taken.sql}", taken.values)
            if dates:
                changed = Clause.all_of([*(date.changed for date in dates), Clause("taken IS NULL"), *of_image])
                tables = "photos CROSS JOIN images ON images.id = photos.image"
                sql = f"{candidates.sql} UNION SELECT image FROM {tables} WHERE {changed.sql}"
                candidates = Clause(sql, candidates.values + changed.values)
        elif of_image or dates:
            candidates = Clause(f"SELECT DISTINCT image FROM {_BY_PHOTO} WHERE {holds.sql}", holds.values)
        else:
            sql = f"SELECT DISTINCT image FROM photos WHERE image IS NOT NULL AND {holds.sql}"
            candidates = Clause(sql, holds.values)
        return Selection({root.id: root for root, _ in places}, holds, candidates, missing)

    def locate(self, path: bytes, roots: list[Root]) -> tuple[Root, bytes] | None:
        """The root of a photo and its path below it: as it is spelt, or with links to its folder or to it resolved."""
        if b"\0" in path:  # which is in no name
            return None
        spelt = self._locate(os.path.abspath(path), roots)
        if spelt is not None:
            return spelt
        folder, name = os.path.split(path)
        by_folder = self._locate(join(absolute(os.fsdecode(folder)), name), roots)
        return by_folder or self._locate(absolute(os.fsdecode(path)), roots)

    def _locate(self, path: bytes, roots: list[Root]) -> tuple[Root, bytes] | None:
        for root in roots:
            below = relative_to(path, root.path)
            if below is not None and self.image_of(root, below) is not None:
                return root, below
        return None

    def images_in(self, selection: Selection) -> NDArray[np.int64]:
        """Ids, in order and each once, of the images of a selection's photos; photos without an image have none."""
        rows = self._db.execute(*selection.candidates)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64))

    def photos_of(self, ids: Iterable[int], selection: Selection | None = None) -> list[Photo]:
        """The photos of images; of a selection, if one is given."""
        selection = selection or self.select([(root, b"") for root in self.roots()])
        out: list[Photo] = []
        for part in _parts(ids):
            condition = f"images.id IN ({_marks(part)}) AND {selection.holds.sql}"
            out += self._photos(selection.roots, condition, (*part, *selection.holds.values), _BY_IMAGE)
        return out

    def by_path(self, selection: Selection) -> Iterator[Photo]:
        """The photos of a selection by root and path."""
        order = f"{selection.holds.sql} ORDER BY photos.root, photos.path"
        return self._photos(selection.roots, order, selection.holds.values)

    def newest(self, selection: Selection, count: int) -> list[Photo]:
        """So many photos of a selection, the newest first: by when they were taken, or else changed."""
        found: list[Photo] = []
        for condition, order in (("taken IS NOT NULL", "taken"), ("taken IS NULL", "mtime_ns")):  # fast with a limit
            clause = f"{selection.holds.sql} AND {condition} ORDER BY {order} DESC, photos.root, photos.path LIMIT ?"
            found += self._photos(selection.roots, clause, (*selection.holds.values, min(count, 2**62)))
        return sorted(found, key=lambda photo: photo.date, reverse=True)[:count]

    def _photos(
        self, roots: dict[int, Root], condition: str, values: tuple[Any, ...], tables: str = _BY_PHOTO
    ) -> Iterator[Photo]:
        rows = self._db.execute(
            "SELECT photos.root, photos.path, size, mtime_ns, image, content, width, height, taken, camera,"
            f" latitude, longitude FROM {tables} WHERE {condition}",
            values,
        )
        for root, path, size, mtime_ns, image_id, content, *metadata in rows:
            if not isinstance(path, bytes):
                raise self._damaged()
            yield Photo(image_id, join(roots[root].path, path), size, mtime_ns, content, Metadata(*metadata))

    def counts(self) -> list[RootCounts]:
        """Photos and skipped files of each root."""
        rows = self._db.execute("SELECT root, count(image), count(error) FROM photos GROUP BY root").fetchall()
        of = {root: (photos, skipped) for root, photos, skipped in rows}
        return [RootCounts(root, *of.get(root.id, (0, 0))) for root in self.roots()]

    def skipped(self) -> list[tuple[bytes, str]]:
        """Absolute path and reason of every file that could not be read as an image."""
        rows = self._db.execute(
            "SELECT roots.path, photos.path, error FROM photos JOIN roots ON roots.id = photos.root"
            " WHERE error IS NOT NULL ORDER BY roots.path, photos.path"
        )
        return [(join(root, path), error) for root, path, error in rows]

    def size_on_disk(self) -> int:
        """Bytes of all files of the index."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    # -------------------------------------------------------------------------------- verification

    def repair(self) -> list[str]:
        """Check the catalogue against itself and mend what can be; returns what was wrong, a sentence each.

        Contents without a sound embedding are forgotten and their files marked as changed, so that the next
        `index` embeds them again. Raises `IndexUnusable` when SQLite itself finds the file damaged.
        """
        with _explained(self.folder):
            state = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if state != "ok":
                raise IndexUnusable(
                    f"the catalogue of {self.folder} is damaged ({state.splitlines()[0]});"
                    f" make it anew: delete {CATALOGUE} there and index your folders again"
                )
            self.prune()  # what an interrupted run had still to do is no damage
            self._db.execute(
                "CREATE TEMP TABLE unsound AS"
                " SELECT images.id FROM images LEFT JOIN embeddings ON embeddings.image = images.id"
                f" WHERE vector IS NULL OR typeof(vector) != 'blob' OR length(vector) != {2 * self.dim}"
                f" OR mark({_OF_IMAGE}, vector) != images.mark"
            )
            repairs = {
                "{} files had a damaged name": "DELETE FROM photos WHERE typeof(path) != 'blob'",
                "{} files belonged to no indexed folder": "DELETE FROM photos WHERE root NOT IN (SELECT id FROM roots)",
                "{} files were not as they had been recorded; the next index looks at them again": (
                    f"UPDATE photos SET {_AGAIN} WHERE mark({_OF_PHOTO}) != mark"
                ),
                "{} files had contents without a sound embedding; the next index embeds them again": (
                    f"UPDATE photos SET {_AGAIN} WHERE image IN unsound"
                    " OR (image IS NOT NULL AND image NOT IN (SELECT id FROM images))"
                ),
                "{} unsound embeddings were dropped": "DELETE FROM images WHERE id IN unsound",
                "{} embeddings belonged to no image": (
                    "DELETE FROM embeddings WHERE image NOT IN (SELECT id FROM images)"
                ),
                "{} images belonged to no photo": (
                    "DELETE FROM images WHERE id NOT IN (SELECT image FROM photos WHERE image IS NOT NULL)"
                ),
            }
            found = []
            for sentence, statement in repairs.items():
                count = self._db.execute(statement).rowcount
                if count:
                    found.append(sentence.format(count))
            self._db.execute("DROP TABLE unsound")
            self._db.execute("DELETE FROM loose")
            self.commit()
            return found

    def _meta(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _number(self, key: str) -> int:
        value = self._meta(key)
        if not isinstance(value, int):
            raise self._damaged()
        return value


class _Date(NamedTuple):
    """A condition on when a photo was taken, and the same on when its file was changed, for those that do not say."""

    taken: Clause
    changed: Clause

    @property
    def of_both(self) -> Clause:
        sql = f"CASE WHEN taken IS NULL THEN {self.changed.sql} ELSE {self.taken.sql} END"
        return Clause(sql, self.changed.values + self.taken.values)


def _conditions(where: Filter) -> tuple[list[Clause], list[Clause], list[_Date]]:
    """What a filter says of photos, of their images, and of their dates."""
    of_photo, of_image, dates = [], [], []
    for sign, moment in ((">=", where.after), ("<", where.before)):
        if moment is not None:
            taken = Clause(f"taken {sign} ?", (moment.isoformat(timespec="seconds"),))
            dates.append(_Date(taken, Clause(f"mtime_ns {sign} ?", (_nanoseconds(moment),))))
    if where.camera:
        of_image.append(Clause("instr(lower(camera), lower(?))", (where.camera,)))
    if where.near:
        latitude, longitude, km = where.near
        height = km / KM_OF_A_DEGREE
        of_image += [  # the first, which is quick, leaves few for the second
            Clause("latitude BETWEEN ? AND ?", (latitude - height, latitude + height)),
            Clause("km(latitude, longitude, ?, ?) <= ?", (latitude, longitude, km)),
        ]
    if where.orientation:
        sign = {"landscape": ">", "portrait": "<", "square": "="}[where.orientation]
        of_image.append(Clause(f"width {sign} height"))
    if where.at_least is not None:
        of_photo.append(Clause("size >= ?", (where.at_least,)))
    if where.at_most is not None:
        of_photo.append(Clause("size <= ?", (where.at_most,)))
    if where.types:
        sql = " OR ".join("CAST(photos.path AS TEXT) LIKE ?" for _ in where.types)
        of_photo.append(Clause(sql, tuple(f"%{suffix}" for suffix in where.types)))
    return of_photo, of_image, dates


def _nanoseconds(moment: datetime) -> int:
    try:
        return max(-(2**63), min(int(moment.timestamp()) * 10**9, 2**63 - 1))  # as SQLite takes them
    except (OverflowError, ValueError, OSError):  # beyond what the system's clock can say
        return -(2**63) if moment.year < 1970 else 2**63 - 1


def _km(latitude: Any, longitude: Any, latitude_2: float, longitude_2: float) -> float | None:
    """Kilometres between two places in degrees, on a sphere (the haversine formula)."""
    try:
        a, b = math.radians(latitude), math.radians(latitude_2)
        east = math.radians(longitude_2 - longitude)
    except TypeError:
        return None
    chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(chord)))


def _below(under: bytes) -> tuple[bytes, bytes]:
    """The bounds, low <= path < high, of the paths in a folder; of all paths for an empty one."""
    return (under + b"/", under + b"0") if under else (b"", b"\xff" * 256)  # "0" follows "/"


# ------------------------------------------------------------------------------------------ SQLite


def _connect(path: Path, mode: str, *, any_thread: bool = False) -> sqlite3.Connection:
    def connect(query: str, *, alone: bool = False) -> sqlite3.Connection:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?{query}",
            uri=True,
            isolation_level=None,
            timeout=30,
            check_same_thread=not any_thread,
        )
        database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        database.create_function("mark", -1, _mark, deterministic=True)
        database.create_function("km", 4, _km, deterministic=True)
        try:
            if alone:
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA schema_version").fetchone()
        except BaseException:
            database.close()
            raise
        return database

    if mode == "ro":
        try:
            return connect("mode=ro")
        except sqlite3.OperationalError as error:
            # SQLite cannot make the files through which readers and the writer meet. In a folder that cannot be written
            # to there is no writer either; on a full disk a reader can do without them while it is alone.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                return connect("immutable=1")
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL):
                return connect("mode=rw", alone=True)
            raise
    database = connect(f"mode={mode}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _make_catalogue(folder: Path, model: str, dim: int) -> None:
    """Under another name first, so that there is a whole catalogue or none."""
    path = folder / _REBUILT
    _unlink_database(path)
    try:
        database = _connect(path, "rwc")
        try:
            _initialise(database, model, dim)
        finally:
            database.close()
        os.replace(path, folder / CATALOGUE)
    finally:
        _unlink_database(path)


def _initialise(database: sqlite3.Connection, model: str, dim: int) -> None:
    database.executescript("BEGIN IMMEDIATE;" + _SCHEMA + _TRIGGERS)
    rows = {"format": FORMAT, "model": model, "dim": dim, "generation": 0, "vectors": None}
    database.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
    database.execute("INSERT INTO meta VALUES ('schema', ?)", (_mark_of_schema(database),))
    database.execute("COMMIT")


def _check_format(database: sqlite3.Connection, folder: Path) -> None:
    row = database.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    found = row[0] if row else None
    if found == FORMAT:
        recorded = database.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if recorded != (_mark_of_schema(database),):
            raise sqlite3.DatabaseError("its tables are not those that were made")
        return
    if isinstance(found, int) and found > FORMAT:
        raise IndexUnusable(
            f"the index at {folder} has format {found}, this clipsearch knows {FORMAT}; use a newer clipsearch"
        )
    if isinstance(found, int):
        raise IndexUnusable(
            f"the index at {folder} has format {found} of an older clipsearch, this one knows {FORMAT};"
            " make it anew: delete that folder and index your folders again"
        )
    raise IndexUnusable(f"the index at {folder} has no format that is known; make it anew in another --index folder")


def _mark_of_schema(database: sqlite3.Connection) -> int:
    rows = database.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rowid").fetchall()
    return zlib.crc32(repr(rows).encode("utf-8", "surrogateescape"))


def _mark(*values: Any) -> int:
    """A checksum of the values of a row. Texts count as bytes: SQLite hands damaged ones to no function."""
    return zlib.crc32(repr([v.encode("utf-8") if isinstance(v, str) else v for v in values]).encode("ascii"))


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except _FROM_SQLITE as error:
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):  # tables and columns are ours
            raise IndexUnusable(f"the index at {folder} cannot be used: {error}") from error
        raise IndexUnusable(
            f"the catalogue of {folder} is damaged ({error});"
            f" make it anew: delete {CATALOGUE} there and index your folders again"
        ) from error


def _unlink_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _parts(ids: Iterable[int], size: int = 500) -> Iterator[list[int]]:
    everything = [int(i) for i in ids]
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _marks(values: list[int]) -> str:
    return ",".join("?" * len(values))


# ------------------------------------------------------------------------------------------ the lock


class _WriterLock:
    """A lock on `writer.lock`, which holds the owner's process id. The system drops it when the owner dies."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise IndexUnusable(f"the index at {folder} cannot be written to: {error.strerror}") from None
        try:
            _lock(self._file)
        except OSError:
            owner = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() if hasattr(os, "pread") else ""
            os.close(self._file)
            who = f"process {owner}" if owner else "another process"
            raise IndexLocked(f"{who} is writing to the index at {folder}; try again when it has finished") from None
        with contextlib.suppress(OSError):  # the disk is full; the lock holds without a name
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # a byte beyond the text, so that others can read it
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
