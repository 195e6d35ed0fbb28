"""The index: a catalogue in SQLite, which is the truth, and the segments of vectors that are derived from it.

A store is one open catalogue. One process writes, any number read; a reader sees one moment of the catalogue from its
first statement to its last. FORMAT.md, beside this file, describes the tables.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.arrays import Array, Ids
from clipsearch.errors import IndexOutdated, IndexUnusable, NoIndex, reason
from clipsearch.paths import CATALOGUE, close_to_others, private_folder
from clipsearch.store import schema, texts
from clipsearch.store.drives import Offline
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Known, Line, Photo, Root, RootCounts, Segment
from clipsearch.store.schema import REBUILT, SQLITE_ERRORS, explained
from clipsearch.store.select import select
from clipsearch.store.selection import Selection
from clipsearch.store.tables import SEGMENT_FILE, Tables

if TYPE_CHECKING:
    from clipsearch.store.lock import WriterLock

__all__ = ["CATALOGUE", "Known", "Offline", "Photo", "Root", "RootCounts", "Segment", "Selection", "Store"]

_OURS = re.compile(
    rf"{SEGMENT_FILE.pattern}|(catalogue|rebuilt)\.sqlite(-wal|-shm|-journal)?|writer\.(lock|pid)"
    r"|concepts\.lock|\.?concepts(\.kept)?\.json((\.[0-9a-f]+){1,2}\.tmp)?"
)


class Store(Tables):
    """An open index: its tables, the folder that they lie in, and the folders that the photos lie in."""

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: WriterLock | None) -> None:
        super().__init__(folder, database)
        self._lock = lock
        self._lookup: sqlite3.Connection | None = None
        self._lookup_guard = threading.Lock()
        self._path = Path(database.execute("PRAGMA database_list").fetchone()[2])
        self._last_chosen: tuple[Selection, Ids] | None = None

    # -------------------------------------------------------------------------------- opening and closing

    @staticmethod
    def create(folder: Path, model: str, dim: int, *, anew: bool = False) -> Store:
        """Make an empty index for embeddings of length `dim`, or open for writing the one that is there.

        `anew` puts an empty index in the place of one that has the format of an older clipsearch. Raises
        `IndexUnusable`, `IndexLocked` and, without `anew`, `IndexOutdated`.
        """
        try:
            if not folder.is_dir():
                private_folder(folder)
        except OSError as error:
            raise IndexUnusable(f"the index folder {folder} cannot be made: {reason(error)}") from None
        with _locked(folder) as lock:
            if not (folder / CATALOGUE).is_file():
                schema.make_catalogue(folder, model, dim)
            try:
                return Store(folder, _open(folder, "rw"), lock)
            except IndexOutdated:
                if not anew:
                    raise
            schema.make_catalogue(folder, model, dim)
            return Store(folder, _open(folder, "rw"), lock)

    @staticmethod
    def open(folder: Path, *, write: bool = False) -> Store:
        """Open an index. Raises `NoIndex`, `IndexUnusable`, `IndexOutdated`, and for writing `IndexLocked`."""
        if not (folder / CATALOGUE).is_file():
            raise NoIndex(f"there is no index at {folder} yet")
        if write:
            with _locked(folder) as lock:
                return Store(folder, _open(folder, "rw"), lock)
        with explained(folder):
            database = _open(folder, "ro")
            database.execute("BEGIN")  # one moment of the catalogue until the end
            return Store(folder, database, None)

    def close(self) -> None:
        """Let go of the files and the lock. What was not committed is forgotten."""
        self.close_lookup()
        self.database.close()
        if self._lock is not None:
            self._lock.release()

    def renew(self) -> None:
        """Of a store that is open for reading: see the catalogue as it is at this moment, its model included."""
        self.commit()
        self._last_chosen = None
        with explained(self.folder):
            self.database.execute("BEGIN")
            self.model, self.dim = str(self.meta("model")), self.number("dim")

    def rest(self) -> None:
        """A moment of the catalogue that is held keeps a writer's log growing."""
        self.commit()

    def version(self) -> int:
        """A number that is another one after each change that another process has made to the catalogue."""
        with explained(self.folder):
            return int(self.database.execute("PRAGMA data_version").fetchone()[0])

    def close_lookup(self) -> None:
        """Close what `has_image` opened."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def discard(self) -> None:
        """Delete an index that was made and never filled."""
        self.close()
        schema.unlink_database(self.folder / CATALOGUE)
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
        """A second, empty catalogue beside this one, with the same roots.

        It takes this one's place, in one transaction, when the block ends without an exception; until then this one
        answers as before.
        """
        path = self.folder / REBUILT
        schema.unlink_database(path)
        with explained(self.folder):
            database = schema.connect(path, "rwc")
            try:
                schema.initialise(database, model, dim)
                self._copy_roots(database)
                rebuilt = Store(self.folder, database, None)
                try:
                    yield rebuilt
                finally:
                    rebuilt.close_lookup()
                rebuilt.commit()
                database.backup(self.database)
                self.model, self.dim = model, dim
            finally:
                database.close()
                schema.unlink_database(path)

    def _copy_roots(self, database: sqlite3.Connection) -> None:
        """To a catalogue that will take this one's place. Generations go on: no segment's name has two meanings."""
        for key in ("generation", "reads"):
            schema.set_meta(database, key, self.number(key))
        self.roots()  # raises where one of them is not what was written
        for row in self.database.execute("SELECT * FROM roots"):
            database.execute(f"INSERT INTO roots VALUES ({', '.join('?' * len(row))})", row)

    # -------------------------------------------------------------------------------- looking things up

    def select(self, where: Filter = EVERYTHING) -> Selection:
        """As `Searchable` says."""
        return select(self, where)

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        """As `Searchable` says."""
        return texts.of_images(self, ids)

    def read_counts(self) -> tuple[int, int]:
        """As `Searchable` says."""
        return texts.counts(self)

    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        """As `Searchable` says; `vectors` does it."""
        from clipsearch.store import vectors

        if chosen.everything:
            return vectors.top_k(self, query, k, exact=exact)
        if self._last_chosen is None or self._last_chosen[0] is not chosen:
            self._last_chosen = chosen, self.images_in(chosen)
        return vectors.top_k(self, query, k, self._last_chosen[1], exact=exact)

    def read_ahead(self) -> None:
        """As `Searchable` says."""
        from clipsearch.store import vectors

        vectors.read_ahead(self)

    def has_image(self, content: bytes) -> bool:
        """Whether contents were embedded and committed; may be called from any thread."""
        with self._lookup_guard:
            if self._lookup is None:
                self._lookup = schema.connect(self._path, "ro", any_thread=True)
            return self._lookup.execute("SELECT 1 FROM images WHERE content = ?", (content,)).fetchone() is not None

    # -------------------------------------------------------------------------------- the files

    def size_on_disk(self) -> int:
        """Bytes of all files of the index."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def method(self) -> str:
        """The candidates of a scan of codes are compared by their true rows, which finds what all rows would give."""
        return "exact"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[WriterLock]:
    """The writer's lock, which is let go of if the block fails; SQLite's failures are explained."""
    from clipsearch.store.lock import WriterLock  # which a reader does not need

    _keep_private(folder)
    lock = WriterLock(folder)
    try:
        with explained(folder):
            yield lock
    except BaseException:
        lock.release()
        raise


def _keep_private(folder: Path) -> None:
    """Close the index to other users. A folder that the user keeps other files in stays as it is."""
    with contextlib.suppress(OSError):  # the lock will say what is wrong
        paths = list(folder.iterdir())
        ours = [path for path in paths if _OURS.fullmatch(path.name)]
        if ours == paths:
            private_folder(folder)
        for path in ours:
            close_to_others(path)


def _open(folder: Path, mode: str) -> sqlite3.Connection:
    database = schema.connect(folder / CATALOGUE, mode)
    try:
        schema.check_format(database, folder)
    except BaseException:
        database.close()
        raise
    return database
