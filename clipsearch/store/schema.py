"""The catalogue's file: its tables, how it is opened, and what its failures are called.

FORMAT.md, beside this file, is the format as a contract.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipsearch.errors import CatalogueDamaged, IndexOutdated, IndexTooNew, IndexUnusable
from clipsearch.paths import CATALOGUE, private_file

FORMAT = 6
REBUILT = "rebuilt.sqlite"  # a catalogue in the making, until it takes the other's place

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value, mark INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE,
    hidden INTEGER NOT NULL, follow_links INTEGER NOT NULL, exclude TEXT NOT NULL, any_name INTEGER NOT NULL,
    raw INTEGER NOT NULL, video INTEGER NOT NULL, mark INTEGER NOT NULL
);
CREATE TABLE drives (
    id INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots, mount BLOB NOT NULL,
    device INTEGER NOT NULL, mark INTEGER NOT NULL
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL UNIQUE,
    width INTEGER, height INTEGER, taken TEXT, camera TEXT, latitude REAL, longitude REAL, keywords TEXT,
    duration REAL, hash INTEGER, mark INTEGER NOT NULL
);
CREATE INDEX images_hash ON images (hash);
CREATE TABLE embeddings (image INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE frames (
    image INTEGER PRIMARY KEY, video INTEGER NOT NULL, time REAL NOT NULL, mark INTEGER NOT NULL
);
CREATE INDEX frames_video ON frames (video);
CREATE TABLE texts (image INTEGER PRIMARY KEY, lines TEXT NOT NULL, folded TEXT NOT NULL, mark INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
    folded, content = 'texts', content_rowid = 'image', tokenize = 'trigram case_sensitive 1'
);
CREATE TABLE photos (
    id INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots, path BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    image INTEGER REFERENCES images, error TEXT, sidecar_token INTEGER, keywords TEXT, drive INTEGER NOT NULL,
    mark INTEGER NOT NULL, UNIQUE (root, path), CHECK ((image IS NULL) != (error IS NULL))
);
CREATE INDEX photos_image ON photos (image);
CREATE INDEX photos_drive ON photos (drive);
CREATE TABLE loose (image INTEGER PRIMARY KEY);
CREATE TABLE dropped (image INTEGER PRIMARY KEY);
"""

# Not INSERT OR IGNORE: within an upsert of a photo, SQLite resolves conflicts as the upsert does, which is to fail.
TRIGGERS = """
CREATE TRIGGER photo_deleted AFTER DELETE ON photos
    WHEN old.image IS NOT NULL AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER photo_changed AFTER UPDATE OF image ON photos
    WHEN old.image IS NOT NULL AND old.image IS NOT new.image AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER image_deleted AFTER DELETE ON images
    BEGIN
        DELETE FROM embeddings WHERE image = old.id; DELETE FROM texts WHERE image = old.id;
        INSERT INTO dropped VALUES (old.id);
    END;
CREATE TRIGGER text_added AFTER INSERT ON texts
    BEGIN INSERT INTO words (rowid, folded) VALUES (new.image, new.folded); END;
CREATE TRIGGER text_deleted AFTER DELETE ON texts
    BEGIN INSERT INTO words (words, rowid, folded) VALUES ('delete', old.image, old.folded); END;
"""

# What was changed since when, for places that an index is published to: made when it first is. A photo has one number,
# that of its last change; it may be gone.
CHANGES = """
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, photo INTEGER NOT NULL UNIQUE);
CREATE TRIGGER photo_added AFTER INSERT ON photos
    BEGIN DELETE FROM changes WHERE photo = new.id; INSERT INTO changes (photo) VALUES (new.id); END;
CREATE TRIGGER photo_updated AFTER UPDATE ON photos
    BEGIN DELETE FROM changes WHERE photo = new.id; INSERT INTO changes (photo) VALUES (new.id); END;
CREATE TRIGGER photo_removed AFTER DELETE ON photos
    BEGIN DELETE FROM changes WHERE photo = old.id; INSERT INTO changes (photo) VALUES (old.id); END;
"""

# The columns that the mark of a row is made from.
OF_META = "CAST(key AS BLOB), CASE typeof(value) WHEN 'text' THEN CAST(value AS BLOB) ELSE value END"
OF_ROOT = "id, path, hidden, follow_links, CAST(exclude AS BLOB), any_name, raw, video"
OF_DRIVE = "id, root, mount, device"
OF_FRAME = "frames.image, frames.video, frames.time"
OF_PHOTO = (
    "root, path, size, mtime_ns, ctime_ns, image, CAST(error AS BLOB), sidecar_token, CAST(keywords AS BLOB), drive"
)
OF_IMAGE = (
    "content, width, height, CAST(taken AS BLOB), CAST(camera AS BLOB), latitude, longitude, CAST(keywords AS BLOB),"
    " duration, hash"
)
OF_TEXT = "image, CAST(lines AS BLOB), CAST(folded AS BLOB)"

SQLITE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter when SQLite quotes a damaged name


# ------------------------------------------------------------------------------------------ opening


def connect(path: Path, mode: str, *, any_thread: bool = False) -> sqlite3.Connection:
    """Open a database to read ("ro"), to write ("rw"), or to make and write ("rwc")."""
    if mode == "ro":
        return _connect_to_read(path, any_thread)
    if mode == "rwc":
        with contextlib.suppress(OSError):  # SQLite will say what is wrong
            private_file(path)  # whose mode the journals take
    database = _connect(path, f"mode={mode}", any_thread)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _connect_to_read(path: Path, any_thread: bool) -> sqlite3.Connection:
    try:
        return _connect(path, "mode=ro", any_thread)
    except sqlite3.OperationalError as error:
        # SQLite cannot make the files through which readers and the writer meet. A folder that cannot be written to has
        # no writer either. On a full disk a reader can do without these files while it is alone.
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
    database.create_function("mark", -1, mark, deterministic=True)
    database.create_function("km", 4, kilometres, deterministic=True)
    database.create_function("has_keyword", 2, has_keyword, deterministic=True)
    try:
        database.execute(first)
        database.execute("PRAGMA schema_version").fetchone()  # until here nothing was read
    except BaseException:
        database.close()
        raise
    return database


def check_format(database: sqlite3.Connection, folder: Path) -> None:
    """Raise `IndexOutdated`, `IndexTooNew` or `IndexUnusable` unless the format is the one that is known here."""
    found = _format(database)
    if found is None:
        raise IndexUnusable(f"the index at {folder} has no format that is known")
    if found > FORMAT:
        raise IndexTooNew(f"the index at {folder} has format {found} of a newer clipsearch; this one knows {FORMAT}")
    if found < FORMAT:
        message = f"the index at {folder} has format {found} of an older clipsearch; this one knows {FORMAT}"
        raise IndexOutdated(message, _folders(database))
    if meta(database, "schema") != _mark_of_schema(database):
        raise sqlite3.DatabaseError("its tables are not those that were made")


def _format(database: sqlite3.Connection) -> int | None:
    """The number of the format. Raises `Unsound`: one bit makes it an older one, which a rebuild replaces."""
    columns = {name for (name,) in database.execute("SELECT name FROM pragma_table_info('meta')")}
    if "mark" in columns:
        found = meta(database, "format")
    else:  # before format 6 nothing in this table had a mark
        row = database.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        found = row[0] if row else None
    return found if isinstance(found, int) else None


class Unsound(sqlite3.DatabaseError):
    """A row of `meta` is not what was written."""


def meta(database: sqlite3.Connection, key: str) -> Any:
    """A value that a catalogue has of itself; None if it has none. Raises `Unsound`."""
    row = database.execute(f"SELECT value, mark = mark({OF_META}) FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None and not unsound_keys(database):
        return None
    if row is None or not row[1]:  # where it is missing, the name may be what is damaged
        raise Unsound(f"the value of {key} is not the one that was written")
    return row[0]


def unsound_keys(database: sqlite3.Connection) -> list[str]:
    """The keys, as they read now, of rows of `meta` that are not what was written."""
    return [key for (key,) in database.execute(f"SELECT key FROM meta WHERE mark != mark({OF_META})")]


def set_meta(database: sqlite3.Connection, key: str, value: Any) -> None:
    """Record a value that a catalogue has of itself."""
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, mark(key, value)))


def _folders(database: sqlite3.Connection) -> list[bytes]:
    """The paths of the indexed folders, whatever else an older format has in that table."""
    with contextlib.suppress(*SQLITE_ERRORS):
        return [path for (path,) in database.execute("SELECT path FROM roots ORDER BY path") if isinstance(path, bytes)]
    return []


# ------------------------------------------------------------------------------------------ making


def make_catalogue(folder: Path, model: str, dim: int) -> None:
    """Make an empty catalogue under another name first, so that there is a whole one or none."""
    path = folder / REBUILT
    unlink_database(path)
    try:
        with contextlib.closing(connect(path, "rwc")) as database:
            initialise(database, model, dim)
        _remove_journals(folder / CATALOGUE)
        os.replace(path, folder / CATALOGUE)
    finally:
        unlink_database(path)


def initialise(database: sqlite3.Connection, model: str, dim: int) -> None:
    """Make the tables of an empty catalogue for embeddings of length `dim`."""
    database.executescript("BEGIN IMMEDIATE;" + SCHEMA + TRIGGERS)
    rows = {"format": FORMAT, "model": model, "dim": dim, "generation": 0, "vectors": None, "reads": 0}
    for key, value in rows.items():
        set_meta(database, key, value)
    set_meta(database, "schema", _mark_of_schema(database))
    database.execute("COMMIT")


def record_changes(database: sqlite3.Connection, identity: str) -> None:
    """From now on, write down what changes, under a name for this catalogue that no other has."""
    database.executescript("BEGIN IMMEDIATE;" + CHANGES)
    set_meta(database, "identity", identity)
    set_meta(database, "schema", _mark_of_schema(database))
    database.execute("COMMIT")


def unlink_database(path: Path) -> None:
    """Delete a database with its journals, as far as it is there."""
    path.unlink(missing_ok=True)
    _remove_journals(path)


def _remove_journals(path: Path) -> None:
    """SQLite would apply the journal of one catalogue to the next one of the same name."""
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------ what SQL calls


def mark(*values: Any) -> int:
    """A checksum of the values of a row. Texts count as bytes: SQLite hands damaged ones to no function."""
    return zlib.crc32(repr([v.encode("utf-8") if isinstance(v, str) else v for v in values]).encode("ascii"))


def _mark_of_schema(database: sqlite3.Connection) -> int:
    rows = database.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rowid").fetchall()
    return zlib.crc32(repr(rows).encode("utf-8", "surrogateescape"))


def has_keyword(keywords: Any, wanted: str) -> bool:
    """Whether one of some keywords, each on a line, is the wanted one, whose case is folded."""
    return isinstance(keywords, str) and wanted in keywords.casefold().split("\n")


def kilometres(latitude: Any, longitude: Any, latitude_2: float, longitude_2: float) -> float | None:
    """The distance between two places in degrees, on a sphere (the haversine formula); None for what is no place."""
    try:
        a, b = math.radians(latitude), math.radians(latitude_2)
        # In -180 to 180: 180 degrees east and west are one meridian, and the sine of a whole turn is not exactly 0.
        east = math.radians((longitude_2 - longitude + 180) % 360 - 180)
    except TypeError:
        return None
    chord = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(east / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(chord)))


# ------------------------------------------------------------------------------------------ failures


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into `IndexUnusable` and `CatalogueDamaged`."""
    try:
        yield
    except SQLITE_ERRORS as error:
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):  # tables and columns are ours
            raise IndexUnusable(f"the index at {folder} cannot be used: {error}") from error
        raise CatalogueDamaged(f"the catalogue of {folder} is damaged ({error})") from error
