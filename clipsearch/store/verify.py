"""Check an index for damage, and repair what can be repaired."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from clipsearch.errors import CatalogueDamaged
from clipsearch.images.kinds import is_video_name
from clipsearch.images.read import frame_hash
from clipsearch.store.catalogue import Store
from clipsearch.store.database import SQLITE_ERRORS, explained
from clipsearch.store.drives import UNKNOWN
from clipsearch.store.schema import (
    FACTS_AS_BYTES,
    FULL_TEXT,
    OF_CAPTION,
    OF_DRIVE,
    OF_FACE,
    OF_FACE_SCAN,
    OF_FRAME,
    OF_IMAGE,
    OF_META,
    OF_PHOTO,
    OF_TEXT,
)


class Damage(StrEnum):
    """What was wrong, and what the repair does."""

    SETTING = "damaged setting"  # restored from the rest of the index
    FRAME = "damaged frame"  # its file is embedded again by the next update
    DRIVE = "damaged drive"  # deleted; the next update sees where the photos are
    NAME = "damaged name"  # files are deleted, and found again by the next update
    NO_FOLDER = "no folder"  # files in no indexed folder; deleted
    RECORD = "damaged record"  # files; the next update reads them again
    NO_EMBEDDING = "no embedding"  # files without a sound embedding; the next update embeds them again
    EMBEDDING = "damaged embedding"  # deleted
    NO_IMAGE = "no image"  # embeddings without an image; deleted
    NO_PHOTO = "no photo"  # images without a photo; deleted
    TEXT = "damaged text"  # deleted; the next update reads the photos again
    FACE = "damaged face"  # faces, or records of images that were searched; the next update searches again
    PERSON = "damaged name of a person"  # in photos; restored from their faces
    CAPTION = "damaged caption"  # deleted; the next update captions the photos again
    FULL_TEXT = "damaged full-text index"  # made again
    VECTORS = "damaged vectors"  # segments; written again


@dataclass(frozen=True, slots=True)
class Repair:
    """A kind of damage that was repaired, and the number of files, images, embeddings or segments that had it."""

    damage: Damage
    count: int


class Verified(NamedTuple):
    """A sound index: its photos, its distinct embeddings, and what was repaired."""

    photos: int
    embeddings: int
    repairs: tuple[Repair, ...]


# No file has this time, so the next update reads it again.
_AGAIN = (
    f"image = NULL, error = 'to be embedded again', mtime_ns = -1, drive = {UNKNOWN},"
    " mark = mark(root, path, size, -1, ctime_ns, NULL, CAST('to be embedded again' AS BLOB), sidecar_token,"
    f" {UNKNOWN}, {FACTS_AS_BYTES})"
)
_REPAIRS = {  # in this order: what one deletes leaves others without their owner
    Damage.NAME: "DELETE FROM photos WHERE typeof(path) != 'blob'",
    Damage.NO_FOLDER: "DELETE FROM photos WHERE root NOT IN (SELECT id FROM roots)",
    Damage.RECORD: f"UPDATE photos SET {_AGAIN} WHERE mark({OF_PHOTO}) != mark",
    Damage.NO_EMBEDDING: (
        f"UPDATE photos SET {_AGAIN} WHERE image IN unsound"
        " OR (image IS NOT NULL AND image NOT IN (SELECT id FROM images))"
    ),
    Damage.EMBEDDING: "DELETE FROM images WHERE id IN unsound",
    Damage.NO_IMAGE: "DELETE FROM embeddings WHERE image NOT IN (SELECT id FROM images)",
    Damage.NO_PHOTO: (
        "DELETE FROM images WHERE id NOT IN (SELECT image FROM photos WHERE image IS NOT NULL)"
        " AND id NOT IN (SELECT frames.image FROM frames JOIN photos ON photos.image = frames.whole)"
    ),
    Damage.TEXT: f"DELETE FROM texts WHERE mark({OF_TEXT}) != mark OR image NOT IN (SELECT id FROM images)",
    Damage.FACE: f"DELETE FROM faces WHERE mark({OF_FACE}) != mark OR image NOT IN (SELECT id FROM images)",
    Damage.CAPTION: f"DELETE FROM captions WHERE mark({OF_CAPTION}) != mark OR image NOT IN (SELECT id FROM images)",
}
# The images whose faces are not those that were found, and the faces of images that are not recorded as searched.
_FACES_LOST = (
    f"DELETE FROM face_scans WHERE mark({OF_FACE_SCAN}) != mark OR image NOT IN (SELECT id FROM images)"
    " OR faces != (SELECT count(*) FROM faces WHERE faces.image = face_scans.image)",
    "DELETE FROM faces WHERE image NOT IN (SELECT image FROM face_scans)",
)


def verify(store: Store) -> Verified:
    """Repair the catalogue, then the segments. Raises `CatalogueDamaged` if SQLite cannot read the file."""
    repairs = repair(store)
    damaged = store.vectors.damaged()
    if damaged or any(one.damage is Damage.SETTING for one in repairs):
        store.vectors.update(rewrite=damaged)
    if damaged:
        repairs.append(Repair(Damage.VECTORS, len(damaged)))
    return Verified(sum(of.photos for of in store.counts()), store.images.count(), tuple(repairs))


def repair(store: Store) -> list[Repair]:
    """Repair the catalogue alone, and commit.

    Raises `CatalogueDamaged` if SQLite cannot read the file, or the record of an indexed folder is damaged.
    """
    with explained(store.folder):
        store.database.begin()
        full_text = _repair_full_text(store)
        _check_file(store)
        store.roots()
        counts = {
            Damage.FULL_TEXT: full_text,
            Damage.SETTING: _repair_settings(store),
            Damage.DRIVE: _repair_drives(store),
            Damage.FRAME: _repair_frames(store),
        }
        store.prune()  # what an interrupted run left behind is not damage
        _list_unsound(store)
        counts |= {damage: store.database.execute(statement).rowcount for damage, statement in _REPAIRS.items()}
        for statement in _FACES_LOST:
            counts[Damage.FACE] += store.database.execute(statement).rowcount
        counts[Damage.PERSON] = _repair_names(store)
        store.database.execute("DROP TABLE unsound")
        store.database.execute("DELETE FROM loose")
        store.commit()
    return [Repair(damage, count) for damage, count in counts.items() if count]


def _repair_full_text(store: Store) -> int:
    count = 0
    for table in FULL_TEXT:
        try:
            store.database.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except SQLITE_ERRORS:
            store.database.execute(f"INSERT INTO {table} ({table}) VALUES ('rebuild')")
            count += 1
    return count


def _check_file(store: Store) -> None:
    state = store.database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if state != "ok":
        raise CatalogueDamaged(f"the catalogue of {store.folder} is damaged ({state.splitlines()[0]})")


def _repair_settings(store: Store) -> int:
    """Restore settings. Model, dimension and format are nowhere else; opening an index checks them."""
    unsound = store.database.damaged_keys()
    if not unsound:
        return 0
    store.database.execute(f"DELETE FROM meta WHERE mark != mark({OF_META})")
    names = (re.fullmatch(r"vectors-(\d+)\.faiss", path.name) for path in store.folder.iterdir())
    tables = {name for (name,) in store.database.execute("SELECT name FROM sqlite_master")}
    again = {
        "generation": 1 + max((int(name[1]) for name in names if name), default=0),
        "groups": store.faces.largest_cluster(),
        "people": None,  # until the next update
        "vectors": None,
        "left_out": None,  # until the next scan
        "captions": None,  # until somebody asks for captions again; those that exist stay
        "reads": store.database.execute("SELECT count(*) > 0 FROM texts").fetchone()[0],
        "faces": "{}" if store.faces.counts()[0] else None,  # of no model: the next update looks for faces again
        **({"identity": uuid.uuid4().hex} if "changes" in tables else {}),
    }
    there = {key for (key,) in store.database.execute("SELECT key FROM meta")}
    for key, value in again.items():
        if key not in there:
            store.database.set_meta(key, value)
    return len(unsound)


def _repair_names(store: Store) -> int:
    names = store.faces.names()
    named = store.database.execute("SELECT image, named FROM photos WHERE named IS NOT NULL").fetchall()
    store.photos.set_names(names)
    # A file that an interrupted run added has no names yet, and those of deleted faces are not damage of their own.
    return sum(name != names[image] for image, name in named if image in names)


def _repair_drives(store: Store) -> int:
    count = store.database.execute(f"DELETE FROM drives WHERE mark != mark({OF_DRIVE})").rowcount
    if count:
        lost = f"drive != {UNKNOWN} AND NOT EXISTS (SELECT 1 FROM drives WHERE drives.id = drive)"
        sound = f"mark = mark({OF_PHOTO})"
        for (photo,) in store.database.execute(f"SELECT id FROM photos WHERE {lost} AND {sound}").fetchall():
            store.database.execute(f"UPDATE photos SET drive = {UNKNOWN} WHERE id = ?", (photo,))
            store.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE id = ?", (photo,))
    return count


def _repair_frames(store: Store) -> int:
    """Delete files with a damaged frame or part: nothing says which of its numbers is wrong."""
    columns = "image, whole, coalesce(time, part)"
    rows = store.database.execute(f"SELECT {columns} FROM frames WHERE mark != mark({OF_FRAME})").fetchall()
    if not rows:
        return 0
    contents = dict(store.database.execute("SELECT id, content FROM images").fetchall())
    names: dict[int, bytes] = dict(store.database.execute("SELECT image, path FROM photos WHERE image IS NOT NULL"))
    files = {image for image, path in names.items() if isinstance(path, bytes) and is_video_name(path)}
    sound = f"SELECT whole FROM frames WHERE mark = mark({OF_FRAME})"
    files |= names.keys() & {whole for (whole,) in store.database.execute(sound)}
    stands = {image for (image,) in store.database.execute("SELECT image FROM frames WHERE image = whole")}
    concerned = files - stands
    for image, whole, place in rows:
        store.database.execute("DELETE FROM frames WHERE image = ?", (image,))
        concerned |= files & {image, whole}
        if isinstance(place, float | int):
            concerned |= {one for one in files if frame_hash(contents[one], place) == contents.get(image)}
    for file in concerned:
        store.database.execute(f"UPDATE photos SET {_AGAIN} WHERE image = ?", (file,))
        store.database.execute(
            "DELETE FROM images WHERE id = ? OR id IN (SELECT image FROM frames WHERE whole = ?)", (file, file)
        )
    return len(rows)


def _list_unsound(store: Store) -> None:
    """Fill a table with the images that are not what was written, or have no sound embedding.

    A damaged frame makes its whole file unsound: the next update would not read a file that it knows.
    """
    store.database.execute(
        "CREATE TEMP TABLE unsound AS"
        " SELECT images.id FROM images LEFT JOIN embeddings ON embeddings.image = images.id"
        f" WHERE vector IS NULL OR typeof(vector) != 'blob' OR length(vector) != {2 * store.dim}"
        f" OR mark({OF_IMAGE}, vector) != images.mark"
    )
    files = "SELECT whole FROM frames WHERE image IN unsound"
    store.database.execute(
        f"INSERT INTO unsound SELECT image FROM frames WHERE whole IN ({files}) AND image NOT IN unsound"
    )
