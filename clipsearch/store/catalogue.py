"""An index in a folder: a catalogue in SQLite, which is the truth, and segments of vectors derived from it.

One process writes, any number read; a reader sees one snapshot of the catalogue. FORMAT.md, beside this file, describes
the tables. Each part of the catalogue is a class of its own; a `Store` has one of each, opens and closes them
together, and answers what `Searchable` asks.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids
from clipsearch.errors import IndexOutdated, IndexUnusable, NoIndex, reason
from clipsearch.paths import CATALOGUE, make_private, private_folder
from clipsearch.store import schema
from clipsearch.store.captions import Captions
from clipsearch.store.change_log import ChangeLog
from clipsearch.store.database import SQLITE_ERRORS, Database, explained, unlink_database, unlink_journals
from clipsearch.store.drives import Drives, Offline, Presence
from clipsearch.store.faces import Faces
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.folders import Folders
from clipsearch.store.images import Images
from clipsearch.store.mentions import Mentions
from clipsearch.store.ocr_text import OcrText
from clipsearch.store.order import Order
from clipsearch.store.outdated import SETTINGS, Outdated
from clipsearch.store.people import People
from clipsearch.store.photo import (
    SEGMENT_FILE,
    Known,
    Line,
    Listing,
    Months,
    Photo,
    Positions,
    Root,
    RootCounts,
    Segment,
)
from clipsearch.store.photos import Photos
from clipsearch.store.searchable import Part, Searchable, Summary
from clipsearch.store.select import select
from clipsearch.store.selection import Selection
from clipsearch.store.words import Word

if TYPE_CHECKING:
    from clipsearch.store.lock import WriterLock
    from clipsearch.store.vectors import Vectors

__all__ = ["CATALOGUE", "Known", "Offline", "Photo", "Root", "RootCounts", "Segment", "Selection", "Store"]

_REBUILT = "rebuilt.sqlite"  # a catalogue that is being created
_OURS = re.compile(
    rf"{SEGMENT_FILE.pattern}|(catalogue|rebuilt)\.sqlite(-wal|-shm|-journal)?|writer\.(lock|pid)"
    r"|(concepts|people|saved)\.lock|\.?(concepts|people|saved)(\.kept)?\.json((\.[0-9a-f]+){1,2}\.tmp)?"
)


class Store(Searchable):
    """An open index in a folder."""

    folder: Path

    def __init__(self, database: Database, lock: WriterLock | None) -> None:
        """Raises `IndexDamaged` if the model's settings are damaged."""
        self.folder, self.place = database.folder, str(database.folder)
        self.database = database
        self.drives = Drives(database)
        self.folders = Folders(database, self.drives)
        self.images = Images(database)
        self.photos = Photos(database, self.folders, self.images)
        self.ocr_text = OcrText(database)
        self.faces = Faces(database)
        self.captions = Captions(database)
        self.mentions = Mentions(database)
        self.change_log = ChangeLog(database, self.images)
        self._read_settings()
        self._vectors: Vectors | None = None
        self._lock = lock
        self._last_chosen: tuple[Selection, Ids] | None = None

    @property
    def vectors(self) -> Vectors:
        """The segments of vectors. Their libraries are loaded when they are first needed."""
        if self._vectors is None:
            from clipsearch.store.vectors import Vectors

            self._vectors = Vectors(self.database, self.images)
        return self._vectors

    # -------------------------------------------------------------------------------- opening and closing

    @staticmethod
    def create(folder: Path, model: str, dim: int, *, replace: Outdated | None = None) -> Store:
        """Create an empty index for embeddings of length `dim`, or open an existing one for writing.

        `replace` replaces an index of an older format with an empty one that has its folders and settings. Raises
        `IndexUnusable`, `IndexLocked` and, without `replace`, `IndexOutdated`.
        """
        try:
            if not folder.is_dir():
                private_folder(folder)
        except OSError as error:
            raise IndexUnusable(f"the index folder {folder} cannot be created: {reason(error)}") from None
        with _locked(folder) as lock:
            if not (folder / CATALOGUE).is_file():
                _make_catalogue(folder, model, dim)
            try:
                return Store(_open(folder, "rw"), lock)
            except IndexOutdated:
                if replace is None:
                    raise
            _make_catalogue(folder, model, dim, replace)
            return Store(_open(folder, "rw"), lock)

    @staticmethod
    def open(folder: Path, *, write: bool = False) -> Store:
        """Open an index. Raises `NoIndex`, `IndexUnusable`, `IndexOutdated`, and for writing `IndexLocked`."""
        if not (folder / CATALOGUE).is_file():
            raise NoIndex(f"there is no index at {folder} yet")
        if write:
            with _locked(folder) as lock:
                return Store(_open(folder, "rw"), lock)
        with explained(folder):
            database = _open(folder, "ro")
            database.begin_snapshot()
            return Store(database, None)

    def close(self) -> None:
        """Release the files and the lock. Uncommitted changes are lost."""
        self.images.close_lookup()
        self.database.close()
        if self._lock is not None:
            self._lock.release()

    def show_progress(self, done: int, total: int) -> None:
        """Show readers how far this writer is."""
        if self._lock is not None:
            self._lock.show_progress(done, total)

    def discard(self) -> None:
        """Delete an index that was made and never filled."""
        self.close()
        unlink_database(self.folder / CATALOGUE)
        with contextlib.suppress(OSError):
            (self.folder / "writer.lock").unlink(missing_ok=True)
            self.folder.rmdir()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, SQLITE_ERRORS):  # a full disk, a damaged page: whatever the block was doing
            with explained(self.folder):
                raise error

    @contextlib.contextmanager
    def rebuilding(self, model: str, dim: int) -> Iterator[Store]:
        """A second, empty catalogue with the same roots.

        It replaces this one in one transaction when the block ends without an exception; until then this one is
        unchanged.
        """
        path = self.folder / _REBUILT
        unlink_database(path)
        with explained(self.folder):
            database = Database(self.folder, path, "rwc")
            try:
                _initialise(database, model, dim)
                for key in SETTINGS:
                    database.set_meta(key, self.database.meta(key))
                self.folders.copy_to(database)
                rebuilt = Store(database, None)
                try:
                    yield rebuilt
                finally:
                    rebuilt.images.close_lookup()
                rebuilt.commit()
                database.copy_to(self.database)
                self._read_settings()
            finally:
                database.close()
                unlink_database(path)

    # -------------------------------------------------------------------------------- transactions

    def commit(self) -> None:
        """Make what was written since the last commit durable."""
        self.database.commit()

    def delete_faces(self) -> None:
        """Stop looking for faces, and delete their embeddings from all files of the index, `people.json` included.

        Raises `PeopleDamaged` if that cannot be read, or `IndexUnusable`.
        """
        people = People(self.folder)
        people.delete_rows()  # first: after a kill, the catalogue still says that there are faces
        self.faces.enable(None)
        self.photos.set_names({})
        self.commit()
        people.delete_rows()  # again: another process may have recorded some before the commit
        if not self.erase():
            raise IndexUnusable(
                f"the faces are deleted, but another process reads the index at {self.folder}, so embeddings remain in"
                " its journal; stop that process, then delete the faces again"
            )

    def erase(self) -> bool:
        """Overwrite what the files of the index still have of deleted photos; false if a reader prevents some of it.

        Full-text indexes and segments drop deleted entries only when they are merged.
        """
        for table in schema.FULL_TEXT:
            self.database.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
        self.commit()
        self.vectors.update(self.vectors.with_gone_rows())
        return self.database.empty_journal()

    def refresh(self) -> None:
        self.commit()
        self._last_chosen = None
        self.database.begin_snapshot()
        with explained(self.folder):
            self._read_settings()

    def _read_settings(self) -> None:
        self.model = str(self.database.meta("model"))
        self.dim = self.images.dim = self.database.number("dim")

    def end_snapshot(self) -> None:
        self.commit()

    def version(self) -> int:
        with explained(self.folder):
            return int(self.database.execute("PRAGMA data_version").fetchone()[0])

    def prune(self) -> None:
        """Forget contents that no photo has any more, and drives without files."""
        self.images.prune()
        self.drives.prune()

    # -------------------------------------------------------------------------------- answers

    def summary(self) -> Summary:
        return Summary(
            self.images.count(),
            self.images.count_distinct(),
            sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file()),
            "exact",  # the true rows of the candidates decide
            self.photos.skipped(),
            [part for root in self.roots() for part in self.drives.offline_parts(root)],
            *self.ocr_text.counts(),
            self.captions.count(),
            self.folders.left_out(),
            *self.faces.counts(),
            *self.faces.group_counts(),
        )

    def roots(self) -> list[Root]:
        return self.folders.all()

    def counts(self) -> list[RootCounts]:
        return self.folders.counts()

    def presence(self, root: Root, folder: bytes = b"", *, certain: bool = False) -> Presence:
        return self.drives.presence(root, folder, certain=certain)

    def files_of(self, root: Root, folder: bytes = b"") -> Iterator[bytes]:
        return (known.path for known in self.photos.known(root, folder) if known.error is None)

    def image_of(self, root: Root, path: bytes) -> int | None:
        return self.photos.image_of(root, path)

    def find_image(self, content: bytes) -> int | None:
        return self.images.find(content)

    def is_empty(self) -> bool:
        return self.images.is_empty()

    def select(self, where: Filter = EVERYTHING) -> Selection:
        self._check_text(where)
        return select(self, self.database, self.images, where)

    def images_in(self, chosen: Selection, *, frames: bool = True) -> Ids:
        return self.photos.images_in(chosen, frames=frames)

    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        return self.photos.of_images(ids, chosen)

    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        return self.photos.by_path(chosen, copied=copied)

    def first(self, chosen: Selection, order: Order, count: int) -> list[Photo]:
        return self.photos.first(chosen, order, count)

    def listing(self, chosen: Selection, order: Order) -> Listing:
        return self.photos.listing(chosen, order)

    def photos_by_key(self, keys: Iterable[int]) -> dict[int, Photo]:
        return self.photos.of_keys(keys)

    def months(self, chosen: Selection) -> Months:
        return self.photos.months(chosen)

    def columns(self, chosen: Selection, names: tuple[str, ...]) -> Iterable[tuple[Any, ...]]:
        return self.photos.columns(chosen, names)

    def positions(self, chosen: Selection) -> Positions:
        return self.photos.positions(chosen)

    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        return self.images.hashes()

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        return self.ocr_text.lines_of(ids)

    def has_ocr(self) -> bool:
        return self.ocr_text.enabled()

    def mentioning(self, words: tuple[Word, ...], chosen: Selection, most: int, part: Part) -> list[int]:
        if part == "tags":
            return self.mentions.in_tags(words, chosen, most)
        if part == "captions":
            return self.mentions.in_captions(words, chosen, most)
        return self.mentions.in_text(words, chosen, most) if self.has_ocr() else []

    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        return self.images.unit_rows_of(ids)

    def scores_of(self, ids: Iterable[int], query: Array) -> dict[int, float]:
        return self.vectors.scores_of(ids, query)

    def sample(self, count: int) -> Ids:
        return self.images.sample(count)

    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        if chosen.everything:
            return self.vectors.nearest(query, k, exact=exact)
        if self._last_chosen is None or self._last_chosen[0] is not chosen:
            self._last_chosen = chosen, self.images_in(chosen)
        return self.vectors.nearest(query, k, self._last_chosen[1], exact=exact)

    def read_ahead(self) -> None:
        self.vectors.read_ahead()


# ------------------------------------------------------------------------------------------ files


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[WriterLock]:
    """The writer's lock, released if the block fails; SQLite's errors are translated."""
    from clipsearch.store.lock import WriterLock  # readers do not need it

    _keep_private(folder)
    lock = WriterLock(folder)
    try:
        with contextlib.suppress(OSError):
            unlink_database(folder / _REBUILT)  # of a rebuild that was killed
        with explained(folder):
            yield lock
    except BaseException:
        lock.release()
        raise


def _keep_private(folder: Path) -> None:
    """Close the index to other users, but not a folder with files of the user's own."""
    with contextlib.suppress(OSError):  # the lock will say what is wrong
        paths = list(folder.iterdir())
        ours = [path for path in paths if _OURS.fullmatch(path.name)]
        if ours == paths:
            private_folder(folder)
        for path in ours:
            make_private(path)


def _open(folder: Path, mode: str) -> Database:
    database = Database(folder, folder / CATALOGUE, mode)
    try:
        database.check_format()
    except BaseException:
        database.close()
        raise
    return database


def _make_catalogue(folder: Path, model: str, dim: int, old: Outdated | None = None) -> None:
    """Create an empty catalogue under a temporary name, then rename it, so that it never exists in part."""
    path = folder / _REBUILT
    unlink_database(path)
    try:
        with contextlib.closing(Database(folder, path, "rwc")) as database:
            _initialise(database, model, dim)
            if old is not None:
                old.copy_to(database)
                database.commit()
        unlink_journals(folder / CATALOGUE)
        os.replace(path, folder / CATALOGUE)
    finally:
        unlink_database(path)


def _initialise(database: Database, model: str, dim: int) -> None:
    database.run("BEGIN IMMEDIATE;" + schema.SCHEMA + schema.TRIGGERS)
    numbers = {"generation": 0, "groups": 0, "reads": 0}
    unset = {"vectors": None, "faces": None, "people": 0, "left_out": None, "captions": None}
    settings = {"format": schema.FORMAT, "model": model, "dim": dim, **numbers, **unset}
    for key, value in settings.items():
        database.set_meta(key, value)
    database.seal_schema()
    database.commit()
