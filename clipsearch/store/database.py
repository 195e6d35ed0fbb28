"""A connection to a catalogue: opening it, transactions, settings, and SQLite's errors translated."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipsearch.errors import CatalogueDamaged, IndexDamaged, IndexOutdated, IndexTooNew, IndexUnusable
from clipsearch.paths import private_file
from clipsearch.store.conditions import has_line, kilometres
from clipsearch.store.order import natural_name
from clipsearch.store.schema import FORMAT, OF_META, mark, mark_of_schema

SQLITE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter when SQLite quotes a damaged name

# Settings that `verify` can restore.
_REPAIRABLE = {"vectors", "generation", "groups", "people", "reads", "faces", "captions", "identity", "left_out"}


class _Unsound(sqlite3.DatabaseError):
    """A row of `meta` is not what was written."""


class Database:
    """An open catalogue, which several classes share: each reads and writes its own tables.

    `folder` is the index, `path` the catalogue's file.
    """

    def __init__(self, folder: Path, path: Path, mode: str) -> None:
        """`mode` is "ro", "rw", or "rwc" to create the file. Raises SQLite's errors; `explained` translates them."""
        self.folder, self.path = folder, path
        self._connection = connect(path, mode)
        self.execute = self._connection.execute

    def close(self) -> None:
        """Uncommitted changes are lost."""
        self._connection.close()

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(statement, rows)

    def run(self, script: str) -> None:
        self._connection.executescript(script)

    # -------------------------------------------------------------------------------- transactions

    def begin(self) -> None:
        """Start a write transaction, unless one is open."""
        if not self._connection.in_transaction:
            with explained(self.folder):
                self.execute("BEGIN IMMEDIATE")

    def begin_snapshot(self) -> None:
        """Start a read transaction: until `commit`, the changes of others are invisible."""
        with explained(self.folder):
            self.execute("BEGIN")

    def commit(self) -> None:
        """End the transaction, if one is open."""
        if self._connection.in_transaction:
            with explained(self.folder):
                self.execute("COMMIT")

    def empty_journal(self) -> bool:
        """Move everything from the write-ahead log to the catalogue; returns false if a reader prevents it."""
        with explained(self.folder):
            busy, *_ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def copy_to(self, other: Database) -> None:
        """Replace everything in another catalogue, in one transaction."""
        self._connection.backup(other._connection)

    # -------------------------------------------------------------------------------- settings

    def check_format(self) -> None:
        """Raise `IndexOutdated`, `IndexTooNew` or `IndexUnusable` unless this version knows the format."""
        found = self._format()
        if found is None:
            raise IndexUnusable(f"the index at {self.folder} has no known format")
        if found > FORMAT:
            raise IndexTooNew(
                f"the index at {self.folder} has format {found} of a newer clipsearch; this one knows {FORMAT}"
            )
        if found < FORMAT:
            message = f"the index at {self.folder} has format {found} of an older clipsearch; this one knows {FORMAT}"
            raise IndexOutdated(message, self.folders())
        if self._meta("schema") != mark_of_schema(self._connection):
            raise sqlite3.DatabaseError("its tables are not those that were made")

    def _format(self) -> int | None:
        """Raises `_Unsound`: one flipped bit makes a format an older one, which a rebuild would replace."""
        columns = {name for (name,) in self.execute("SELECT name FROM pragma_table_info('meta')")}
        if "mark" in columns:
            found = self._meta("format")
        else:  # before format 6 this table had no marks
            row = self.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
            found = row[0] if row else None
        return found if isinstance(found, int) else None

    def folders(self) -> list[bytes]:
        """The paths of the indexed folders, in an index of any older format."""
        with contextlib.suppress(*SQLITE_ERRORS):
            found = self.execute("SELECT path FROM roots ORDER BY path")
            return [path for (path,) in found if isinstance(path, bytes)]
        return []

    def meta(self, key: str) -> Any:
        """A setting; None if it is missing. Raises `IndexDamaged`, or `CatalogueDamaged` if it cannot be restored."""
        try:
            return self._meta(key)
        except _Unsound as error:
            if key in _REPAIRABLE:
                raise self.damaged() from None
            raise CatalogueDamaged(f"the catalogue of {self.folder} is damaged ({error})") from None

    def _meta(self, key: str) -> Any:
        row = self.execute(f"SELECT value, mark = mark({OF_META}) FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None and not self.damaged_keys():
            return None
        if row is None or not row[1]:  # if it is missing, its key may be what is damaged
            raise _Unsound(f"the value of {key} is not the one that was written")
        return row[0]

    def damaged_keys(self) -> list[str]:
        """The settings that are not what was written, by the keys that they have now."""
        return [key for (key,) in self.execute(f"SELECT key FROM meta WHERE mark != mark({OF_META})")]

    def number(self, key: str) -> int:
        """A setting that must be an integer. Raises `IndexDamaged`."""
        value = self.meta(key)
        if not isinstance(value, int):
            raise self.damaged()
        return value

    def set_meta(self, key: str, value: Any) -> None:
        self.begin()
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, mark(key, value)))

    def seal_schema(self) -> None:
        """Record a checksum of the tables, which `check_format` compares."""
        self.set_meta("schema", mark_of_schema(self._connection))

    def damaged(self) -> IndexDamaged:
        """What to raise when a row is not what was written."""
        return IndexDamaged(f"the index at {self.folder} is damaged")


# ------------------------------------------------------------------------------------------ connecting


def connect(path: Path, mode: str, *, any_thread: bool = False) -> sqlite3.Connection:
    """Open a database to read ("ro"), to write ("rw"), or to create and write ("rwc")."""
    if mode == "ro":
        return _connect_to_read(path, any_thread)
    if mode == "rwc":
        with contextlib.suppress(OSError):  # SQLite will say what is wrong
            private_file(path)  # the journals get the same mode
    database = _connect(path, f"mode={mode}", any_thread)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA secure_delete = ON")  # overwrite deleted rows: they may be those of faces
    return database


def _connect_to_read(path: Path, any_thread: bool) -> sqlite3.Connection:
    try:
        return _connect(path, "mode=ro", any_thread)
    except sqlite3.OperationalError as error:
        # SQLite cannot create the files through which readers and the writer coordinate. A folder that cannot be
        # written to has no writer either. On a full disk a reader needs no such files while it is alone.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return _connect(path, "immutable=1", any_thread)
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL):
            return _connect(path, "mode=rw", any_thread, "PRAGMA locking_mode = EXCLUSIVE")
        raise


def _connect(path: Path, query: str, any_thread: bool, first: str = "") -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{query}"
    database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=not any_thread)
    database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for name, count, function in _FUNCTIONS:
        database.create_function(name, count, _interruptible(function), deterministic=True)
    try:
        database.execute(first)
        database.execute("PRAGMA schema_version").fetchone()  # the first statement that reads the file
    except BaseException:
        database.close()
        raise
    return database


def unlink_database(path: Path) -> None:
    """Delete a database and its journals, if they exist."""
    path.unlink(missing_ok=True)
    unlink_journals(path)


def unlink_journals(path: Path) -> None:
    """SQLite would apply the journals of a database to the next one of the same name."""
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


_FUNCTIONS: tuple[tuple[str, int, Callable[..., Any]], ...] = (
    ("mark", -1, mark),
    ("km", 4, kilometres),
    ("has_line", 2, has_line),
    ("natural_name", 1, natural_name),
)
_interruptions: list[KeyboardInterrupt] = []  # for which SQLite has raised an error of its own


def _interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember Ctrl-C in a function that SQLite calls: all errors there become one and the same `OperationalError`."""

    def called(*values: Any) -> Any:
        try:
            return function(*values)
        except KeyboardInterrupt as interruption:
            _interruptions.append(interruption)
            raise

    return called


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into `IndexUnusable` and `CatalogueDamaged`, or into the `KeyboardInterrupt` behind them."""
    try:
        yield
    except SQLITE_ERRORS as error:
        if _interruptions:
            raise _interruptions.pop() from None
        # A missing table or column is damage: the format says they exist.
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
            raise IndexUnusable(f"the index at {folder} cannot be used: {error}") from error
        raise CatalogueDamaged(f"the catalogue of {folder} is damaged ({error})") from error
