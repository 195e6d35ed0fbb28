"""The tables of a catalogue, and the checksums of their rows. FORMAT.md, beside this file, is the contract.

The columns that describe a photo are the fields of `Metadata`; whatever reads them uses `METADATA`. `images` has those
that depend only on the contents, and the facts in the file itself; `photos` has the facts from all sources.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, get_type_hints

from clipsearch.images.facts import Facts
from clipsearch.images.metadata import Metadata

FORMAT = 8

# The columns of photos that have words to search.
TAGS = ("path", "keywords", "people", "named", "title", "caption", "location")
FULL_TEXT = ("words", "caption_words", "tags")  # tables
_SQL_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT"}
TYPES = {name: kind if isinstance(kind, type) else kind.__args__[0] for name, kind in get_type_hints(Metadata).items()}
FACTS = Facts._fields
OF_CONTENTS = tuple(name for name in Metadata._fields if name not in FACTS)
METADATA = ", ".join(f"{'photos' if name in FACTS else 'images'}.{name}" for name in Metadata._fields)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_SQL_TYPES[TYPES[name]]}" for name in names)


def _as_bytes(names: Iterable[str]) -> str:
    return ", ".join(f"CAST({name} AS BLOB)" if TYPES[name] is str else name for name in names)


SCHEMA = f"""
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
    {_columns(OF_CONTENTS)}, facts TEXT,
    hash INTEGER, mark INTEGER NOT NULL
);
CREATE INDEX images_hash ON images (hash);
CREATE TABLE embeddings (image INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE frames (
    image INTEGER PRIMARY KEY, whole INTEGER NOT NULL, time REAL, part INTEGER, mark INTEGER NOT NULL,
    CHECK ((time IS NULL) != (part IS NULL))
);
CREATE INDEX frames_whole ON frames (whole);
CREATE TABLE texts (image INTEGER PRIMARY KEY, lines TEXT NOT NULL, folded TEXT NOT NULL, mark INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
    folded, content = 'texts', content_rowid = 'image', tokenize = 'trigram case_sensitive 1'
);
CREATE TABLE faces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, image INTEGER NOT NULL, box TEXT NOT NULL, landmarks TEXT NOT NULL,
    quality REAL NOT NULL, vector BLOB NOT NULL, cluster INTEGER, person TEXT, mark INTEGER NOT NULL
);
CREATE INDEX faces_image ON faces (image);
CREATE INDEX faces_cluster ON faces (cluster);
CREATE INDEX faces_person ON faces (person);
CREATE TABLE face_scans (image INTEGER PRIMARY KEY, faces INTEGER NOT NULL, mark INTEGER NOT NULL);
CREATE TABLE captions (
    image INTEGER PRIMARY KEY, text TEXT NOT NULL, captioner TEXT NOT NULL, mark INTEGER NOT NULL
);
CREATE VIRTUAL TABLE caption_words USING fts5 (
    text, content = 'captions', content_rowid = 'image',
    detail = none, columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE photos (
    id INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES roots, path BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    image INTEGER REFERENCES images, error TEXT, sidecar_token INTEGER, drive INTEGER NOT NULL,
    {_columns(FACTS)}, named TEXT,
    mark INTEGER NOT NULL, UNIQUE (root, path), CHECK ((image IS NULL) != (error IS NULL))
);
CREATE INDEX photos_image ON photos (image);
CREATE INDEX photos_drive ON photos (drive);
CREATE INDEX photos_latitude ON photos (latitude);
CREATE INDEX photos_named ON photos (image) WHERE named IS NOT NULL;
CREATE VIRTUAL TABLE tags USING fts5 (
    {", ".join(TAGS)}, content = 'photos', content_rowid = 'id',
    detail = column, columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE loose (image INTEGER PRIMARY KEY);
CREATE TABLE dropped (image INTEGER PRIMARY KEY);
"""

_OLD, _NEW = (", ".join(f"{row}.{name}" for name in ("id", *TAGS)) for row in ("old", "new"))
# Not INSERT OR IGNORE: within an upsert of a photo, SQLite resolves conflicts as the upsert does, which is to fail.
TRIGGERS = f"""
CREATE TRIGGER photo_deleted AFTER DELETE ON photos
    WHEN old.image IS NOT NULL AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER photo_changed AFTER UPDATE OF image ON photos
    WHEN old.image IS NOT NULL AND old.image IS NOT new.image AND old.image NOT IN (SELECT image FROM loose)
    BEGIN INSERT INTO loose VALUES (old.image); END;
CREATE TRIGGER image_deleted AFTER DELETE ON images
    BEGIN
        DELETE FROM embeddings WHERE image = old.id; DELETE FROM texts WHERE image = old.id;
        DELETE FROM faces WHERE image = old.id; DELETE FROM face_scans WHERE image = old.id;
        DELETE FROM captions WHERE image = old.id;
        INSERT INTO dropped VALUES (old.id);
    END;
CREATE TRIGGER text_added AFTER INSERT ON texts
    BEGIN INSERT INTO words (rowid, folded) VALUES (new.image, new.folded); END;
CREATE TRIGGER text_deleted AFTER DELETE ON texts
    BEGIN INSERT INTO words (words, rowid, folded) VALUES ('delete', old.image, old.folded); END;
CREATE TRIGGER caption_added AFTER INSERT ON captions
    BEGIN INSERT INTO caption_words (rowid, text) VALUES (new.image, new.text); END;
CREATE TRIGGER caption_deleted AFTER DELETE ON captions
    BEGIN INSERT INTO caption_words (caption_words, rowid, text) VALUES ('delete', old.image, old.text); END;
CREATE TRIGGER tags_added AFTER INSERT ON photos
    BEGIN INSERT INTO tags (rowid, {", ".join(TAGS)}) VALUES ({_NEW}); END;
CREATE TRIGGER tags_changed AFTER UPDATE OF {", ".join(TAGS)} ON photos
    BEGIN
        INSERT INTO tags (tags, rowid, {", ".join(TAGS)}) VALUES ('delete', {_OLD});
        INSERT INTO tags (rowid, {", ".join(TAGS)}) VALUES ({_NEW});
    END;
CREATE TRIGGER tags_deleted AFTER DELETE ON photos
    BEGIN INSERT INTO tags (tags, rowid, {", ".join(TAGS)}) VALUES ('delete', {_OLD}); END;
"""

# The columns whose checksum is a row's mark.
OF_META = "CAST(key AS BLOB), CASE typeof(value) WHEN 'text' THEN CAST(value AS BLOB) ELSE value END"
OF_ROOT = "id, path, hidden, follow_links, CAST(exclude AS BLOB), any_name, raw, video"
OF_DRIVE = "id, root, mount, device"
OF_FRAME = "frames.image, frames.whole, frames.time, frames.part"
FACTS_AS_BYTES = _as_bytes(FACTS)
OF_PHOTO = (
    "photos.root, photos.path, photos.size, photos.mtime_ns, photos.ctime_ns, photos.image, CAST(photos.error AS BLOB),"
    f" photos.sidecar_token, photos.drive, {FACTS_AS_BYTES}"
)
OF_IMAGE = f"content, {_as_bytes(OF_CONTENTS)}, CAST(facts AS BLOB), hash"
OF_TEXT = "texts.image, CAST(lines AS BLOB), CAST(folded AS BLOB)"
OF_FACE = "id, image, CAST(box AS BLOB), CAST(landmarks AS BLOB), quality, vector, cluster, CAST(person AS BLOB)"
OF_FACE_SCAN = "image, faces"
OF_CAPTION = "captions.image, CAST(text AS BLOB), CAST(captioner AS BLOB)"
# Of a photo, joined to its frame and its caption, if it has them.
IS_SOUND = (
    f"photos.mark = mark({OF_PHOTO}) AND (frames.image IS NULL OR frames.mark = mark({OF_FRAME}))"
    f" AND (captions.image IS NULL OR captions.mark = mark({OF_CAPTION}))"
)


def mark(*values: Any) -> int:
    """A checksum of the values of a row. Text counts as bytes: SQLite passes no damaged text to functions."""
    return zlib.crc32(repr([v.encode("utf-8") if isinstance(v, str) else v for v in values]).encode("ascii"))


def mark_of_schema(connection: sqlite3.Connection) -> int:
    """A checksum of all tables, indexes and triggers."""
    rows = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rowid").fetchall()
    return zlib.crc32(repr(rows).encode("utf-8", "surrogateescape"))
