"""The rows of a catalogue: folders that were indexed, the photos in them, their distinct images, and embeddings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids, parts, unit_rows
from clipsearch.errors import CatalogueDamaged, IndexDamaged
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import FoundFile, Rules
from clipsearch.paths import join, relative_to
from clipsearch.store import schema
from clipsearch.store.drives import UNKNOWN, Drive, Mounts, device_of, witness_among
from clipsearch.store.photo import Known, Photo, Root, RootCounts, Segment
from clipsearch.store.schema import OF_DRIVE, OF_FRAME, OF_PHOTO, OF_ROOT, explained
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import BY_IMAGE, BY_PHOTO, Selection, all_of, bounds

Rows = NDArray[np.float16]
LARGEST_ID = 2**63 - 1  # that SQLite can have
SEGMENT_FILE = re.compile(r"\.?vectors-\d+\.faiss(\.[0-9a-f]+){0,2}(\.tmp)?")  # also one that a kill left half written
_KNOWN = "path, size, mtime_ns, ctime_ns, error, sidecar_token, drive"
RULES = ", ".join(Rules._fields)  # which `roots` has as columns
_MENDABLE = {"vectors", "generation", "reads", "identity"}  # values in `meta` that `verify` can find again


class _Frame(NamedTuple):
    """The image that stands for its video, its seconds from the start, its contents."""

    video: int
    time: float
    content: bytes


class Tables(Searchable):
    """The tables of one open catalogue.

    `folder` is where the index lies, `model` the record of the model that made its embeddings (`Model.to_json`), `dim`
    their length, `database` the connection for the other modules of this folder.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        """Raises `IndexDamaged` when what the catalogue says of itself cannot be."""
        self.folder: Path = folder
        self.place, self.database = str(folder), database
        self.model = str(self.meta("model"))
        self.dim = self.number("dim")

    def commit(self) -> None:
        """Make what was written since the last commit last."""
        if self.database.in_transaction:
            with explained(self.folder):
                self.database.execute("COMMIT")

    def begin(self) -> None:
        """Start a transaction, if none is open."""
        if not self.database.in_transaction:
            with explained(self.folder):
                self.database.execute("BEGIN IMMEDIATE")

    def meta(self, key: str) -> Any:
        """A value that the catalogue has of itself. Raises `IndexDamaged` or `CatalogueDamaged`."""
        try:
            return schema.meta(self.database, key)
        except schema.Unsound as error:
            if key in _MENDABLE:
                raise self.damaged() from None
            raise CatalogueDamaged(f"the catalogue of {self.folder} is damaged ({error})") from None

    def set_meta(self, key: str, value: Any) -> None:
        """Record a value that the catalogue has of itself."""
        self.begin()
        schema.set_meta(self.database, key, value)

    def number(self, key: str) -> int:
        """A value that must be a whole number. Raises `IndexDamaged`."""
        value = self.meta(key)
        if not isinstance(value, int):
            raise self.damaged()
        return value

    def damaged(self) -> IndexDamaged:
        """What to raise where a row is not what was written."""
        return IndexDamaged(f"the index at {self.folder} is damaged")

    # -------------------------------------------------------------------------------- roots

    def roots(self) -> list[Root]:
        """The indexed folders, by path. Raises `CatalogueDamaged`: nothing else says which photos they had."""
        query = f"SELECT mark = mark({OF_ROOT}), id, path, {RULES} FROM roots ORDER BY path"
        roots = []
        for is_sound, root_id, path, *columns in self.database.execute(query):
            if not is_sound:
                name = os.fsdecode(path) if isinstance(path, bytes) else str(path)
                raise CatalogueDamaged(f"the record of the indexed folder {name} is damaged")
            roots.append(Root(root_id, path, _rules(columns)))
        return roots

    def add_root(self, path: bytes, rules: Rules) -> Root:
        """Record a folder. Roots that lie inside it become part of it and keep their photos."""
        self.begin()
        statement = f"INSERT INTO roots (path, {RULES}, mark) VALUES (?, {', '.join('?' * len(rules))}, 0)"
        root = Root(int(self.database.execute(statement, (path, *_columns(rules))).lastrowid or 0), path, rules)
        self._mark_root(root)
        for inner in self.roots():
            below = relative_to(inner.path, path)
            if below:
                self.database.execute(
                    "UPDATE photos SET root = ?, path = CAST(? || path AS BLOB) WHERE root = ?",
                    (root.id, below + b"/", inner.id),
                )
                self.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE root = ?", (root.id,))
                self.database.execute("UPDATE drives SET root = ? WHERE root = ?", (root.id, inner.id))
                self.database.execute(f"UPDATE drives SET mark = mark({OF_DRIVE}) WHERE root = ?", (root.id,))
                self.database.execute("DELETE FROM roots WHERE id = ?", (inner.id,))
        return root

    def _mark_root(self, root: Root) -> None:
        self.database.execute(f"UPDATE roots SET mark = mark({OF_ROOT}) WHERE id = ?", (root.id,))

    def set_rules(self, root: Root, rules: Rules) -> Root:
        """Record what later scans of a root leave out."""
        if rules == root.rules:
            return root
        self.begin()
        columns = ", ".join(f"{name} = ?" for name in Rules._fields)
        self.database.execute(f"UPDATE roots SET {columns} WHERE id = ?", (*_columns(rules), root.id))
        self._mark_root(root)
        return root._replace(rules=rules)

    def move_root(self, root: Root, path: bytes) -> None:
        """Record that a folder is somewhere else now, with all that is in it."""
        self.begin()
        self.database.execute("UPDATE roots SET path = ? WHERE id = ?", (path, root.id))
        self._mark_root(root)
        here = device_of(path) or 0
        for drive in self.drives(root):
            below = relative_to(drive.mount, root.path)
            if below:  # mounted in the folder, as it may be again
                self.set_drive(root, drive._replace(mount=join(path, below)))
            elif relative_to(root.path, drive.mount) is not None:
                self.set_drive(root, Drive(drive.id, Mounts().above(path, here) or path, here))

    def remove_root(self, root: Root) -> int:
        """Forget a folder and its photos; returns how many files it had."""
        self.begin()
        count = self.database.execute("DELETE FROM photos WHERE root = ?", (root.id,)).rowcount
        self.database.execute("DELETE FROM drives WHERE root = ?", (root.id,))
        self.database.execute("DELETE FROM roots WHERE id = ?", (root.id,))
        return count

    def counts(self) -> list[RootCounts]:
        """Photos and skipped files of each root."""
        rows = self.database.execute("SELECT root, count(image), count(error) FROM photos GROUP BY root")
        of = {root: (photos, skipped) for root, photos, skipped in rows}
        return [RootCounts(root, *of.get(root.id, (0, 0))) for root in self.roots()]

    # -------------------------------------------------------------------------------- drives

    def drives(self, root: Root) -> list[Drive]:
        """The drives that files of a root lie on. Raises `IndexDamaged`."""
        query = f"SELECT mark = mark({OF_DRIVE}), root, id, mount, device FROM drives ORDER BY id"
        rows = self.database.execute(query).fetchall()
        if not all(row[0] for row in rows):
            raise self.damaged()
        drives = [Drive(*row[2:]) for row in rows if row[1] == root.id]
        return [Drive(UNKNOWN), *drives] if self.has_photos_on(root, Drive(UNKNOWN)) else drives

    def add_drive(self, root: Root, mount: bytes, device: int) -> Drive:
        """Record a drive."""
        self.begin()
        statement = "INSERT INTO drives (root, mount, device, mark) VALUES (?, ?, ?, 0)"
        drive = Drive(int(self.database.execute(statement, (root.id, mount, device)).lastrowid or 0), mount, device)
        self.set_drive(root, drive)
        return drive

    def set_drive(self, root: Root, drive: Drive) -> None:
        """Record where a drive is now."""
        self.begin()
        values = (drive.mount, drive.device, schema.mark(drive.id, root.id, drive.mount, drive.device), drive.id)
        self.database.execute("UPDATE drives SET mount = ?, device = ?, mark = ? WHERE id = ?", values)

    def lie_on(self, root: Root, drive: Drive, paths: Iterable[bytes]) -> None:
        """Record that files of a root lie on another drive than before."""
        self.begin()
        where = "WHERE root = ? AND path = ?"
        for path in paths:
            self.database.execute(f"UPDATE photos SET drive = ? {where}", (drive.id, root.id, path))
            self.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) {where}", (root.id, path))

    def unite_drives(self, drive: Drive, others: Iterable[Drive]) -> None:
        """Record that others are the same drive."""
        self.begin()
        for other in others:
            self.database.execute("UPDATE photos SET drive = ? WHERE drive = ?", (drive.id, other.id))
            self.database.execute("DELETE FROM drives WHERE id = ?", (other.id,))
        self.database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE drive = ?", (drive.id,))

    def remove_drives(self, ids: Iterable[int]) -> int:
        """Forget drives and their photos; returns how many files they had."""
        self.begin()
        return sum(self.database.execute("DELETE FROM photos WHERE drive = ?", (n,)).rowcount for n in ids)

    def has_photos_on(self, root: Root, drive: Drive) -> bool:
        """Whether photos of a root lie on a drive."""
        query = (
            "SELECT 1 FROM photos INDEXED BY photos_drive WHERE drive = ? AND root = ? AND image IS NOT NULL LIMIT 1"
        )
        return self.database.execute(query, (drive.id, root.id)).fetchone() is not None

    def count_on(self, root: Root, drive: int) -> int:
        """As `Searchable` says."""
        query = "SELECT count(image) FROM photos WHERE drive = ? AND root = ?"
        return int(self.database.execute(query, (drive, root.id)).fetchone()[0])

    def witness(self, root: Root, drive: Drive) -> bytes | None:
        """As `Searchable` says."""
        query = f"SELECT {_KNOWN} FROM photos INDEXED BY photos_drive WHERE drive = ? AND root = ?"
        return witness_among(root, drive, (Known(*row) for row in self.database.execute(query, (drive.id, root.id))))

    def has_moved(self, drive: Drive, to: Iterable[int]) -> bool:
        """As `Searchable` says."""
        others = list(to)
        moved = (
            "EXISTS (SELECT 1 FROM photos AS other WHERE other.image = photos.image"
            f" AND other.drive IN ({_placeholders(others)}))"
        )
        query = f"SELECT count(*), sum({moved}) FROM photos WHERE drive = ? AND image IS NOT NULL"
        every, found = self.database.execute(query, (*others, drive.id)).fetchone()
        return bool(every) and 2 * found >= every

    def drives_below(self, root: Root, below: bytes) -> set[int]:
        """As `Searchable` says."""
        query = "SELECT DISTINCT drive FROM photos WHERE root = ? AND path >= ? AND path < ? AND image IS NOT NULL"
        return {drive for (drive,) in self.database.execute(query, (root.id, *bounds(below)))}

    # -------------------------------------------------------------------------------- photos and images

    def known(self, root: Root, under: bytes = b"") -> Iterator[Known]:
        """The files of a root, or of a folder in it, in bytewise order of their paths."""
        query = f"SELECT {_KNOWN} FROM photos WHERE root = ? AND path >= ? AND path < ? ORDER BY path"
        for row in self.database.execute(query, (root.id, *bounds(under))):
            yield Known(*row)

    def has_photos(self, root: Root, below: bytes = b"") -> bool:
        """Whether a root, or a folder of it, has photos."""
        query = "SELECT 1 FROM photos WHERE root = ? AND path >= ? AND path < ? AND image IS NOT NULL LIMIT 1"
        return self.database.execute(query, (root.id, *bounds(below))).fetchone() is not None

    def files_of(self, root: Root) -> Iterator[bytes]:
        """The paths below a root of the files that are photos, in bytewise order."""
        return (known.path for known in self.known(root) if known.error is None)

    def known_file(self, root: Root, path: bytes) -> Known | None:
        """What the catalogue says of one file of a root."""
        query = f"SELECT {_KNOWN} FROM photos WHERE root = ? AND path = ?"
        row = self.database.execute(query, (root.id, path)).fetchone()
        return Known(*row) if row else None

    def put_photo(
        self,
        root: Root,
        file: FoundFile,
        image_id: int | None,
        error: str | None,
        keywords: Iterable[str] = (),
        drive: int = UNKNOWN,
    ) -> None:
        """Record a file, new or changed: it has an image, or the error that says why not.

        `keywords` are those beside it; those in it are added. `drive` is the id of the one that it lies on.
        """
        self.begin()
        every = "\n".join(dict.fromkeys([*self._keywords_in(image_id), *keywords])) or None
        about = (file.size, file.mtime_ns, file.ctime_ns, image_id, error, file.sidecar_token, every, drive)
        values = (root.id, file.path, *about)
        self.database.execute(
            "INSERT INTO photos"
            " (root, path, size, mtime_ns, ctime_ns, image, error, sidecar_token, keywords, drive, mark)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (root, path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,"
            " ctime_ns = excluded.ctime_ns, image = excluded.image, error = excluded.error,"
            " sidecar_token = excluded.sidecar_token, keywords = excluded.keywords, drive = excluded.drive,"
            " mark = excluded.mark",
            (*values, schema.mark(*values)),
        )

    def _keywords_in(self, image_id: int | None) -> list[str]:
        row = self.database.execute("SELECT keywords FROM images WHERE id = ?", (image_id,)).fetchone()
        return row[0].split("\n") if row and row[0] else []

    def remove_photos(self, root: Root, paths: Iterable[bytes]) -> None:
        """Forget files of a root."""
        self.begin()
        rows = ((root.id, path) for path in paths)
        self.database.executemany("DELETE FROM photos WHERE root = ? AND path = ?", rows)

    def add_image(self, content: bytes, metadata: Metadata, vector: Array, phash: int | None = None) -> int:
        """Record contents by their hash, with a unit row (dim,) kept in fp16 and a perceptual hash; returns the id."""
        self.begin()
        row = vector.astype("<f2").tobytes()
        values = (content, *metadata, phash, schema.mark(content, *metadata, phash, row))
        statement = "INSERT INTO images VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        image_id = int(self.database.execute(statement, values).lastrowid or 0)
        self.database.execute("INSERT INTO embeddings VALUES (?, ?)", (image_id, row))
        return image_id

    def add_frames(self, video: int, metadata: Metadata, frames: Iterable[tuple[float, bytes, Array]]) -> None:
        """Record frames of a video: seconds from its start, a hash, and the unit row of each.

        The first stands for the video, and is the image `video` already.
        """
        for number, (time, content, row) in enumerate(frames):
            image_id = self.add_image(content, metadata, row) if number else video
            values = (image_id, video, float(time))
            self.database.execute("INSERT INTO frames VALUES (?, ?, ?, ?)", (*values, schema.mark(*values)))

    def has_frames(self) -> bool:
        """Whether there are videos."""
        return self.database.execute("SELECT 1 FROM frames LIMIT 1").fetchone() is not None

    def check_frames(self) -> None:
        """Raise `IndexDamaged` where a frame is not what was written: it may belong to another video."""
        if self.database.execute(f"SELECT 1 FROM frames WHERE mark != mark({OF_FRAME}) LIMIT 1").fetchone():
            raise self.damaged()

    def prune(self) -> None:
        """Forget the contents that no photo has any more, and drives without files. Damaged frames are for `verify`."""
        self.begin()
        self.database.execute(
            "DELETE FROM images WHERE id IN (SELECT image FROM loose)"
            " AND NOT EXISTS (SELECT 1 FROM photos WHERE photos.image = images.id)"
        )
        self.database.execute("DELETE FROM loose")
        sound = f"frames.mark = mark({OF_FRAME})"
        gone = f"SELECT image FROM frames WHERE video NOT IN (SELECT id FROM images) AND {sound}"
        self.database.execute(f"DELETE FROM images WHERE id IN ({gone})")
        self.database.execute(f"DELETE FROM frames WHERE image NOT IN (SELECT id FROM images) AND {sound}")
        self.database.execute(
            "DELETE FROM drives WHERE NOT EXISTS (SELECT 1 FROM photos WHERE drive = drives.id)"
            f" AND mark = mark({OF_DRIVE})"
        )

    def find_image(self, content: bytes) -> int | None:
        """The id of the image with this content hash."""
        row = self.database.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
        return None if row is None else int(row[0])

    def contents(self) -> NDArray[np.uint64]:
        """The hashes of all images, (n, 2): the two halves of each, sorted."""
        rows = b"".join(row[0] for row in self.database.execute("SELECT content FROM images ORDER BY content"))
        return np.frombuffer(rows, ">u8").reshape(-1, 2).astype(np.uint64)

    def image_of(self, root: Root, path: bytes) -> int | None:
        """The image of a file, if it has one."""
        row = self.database.execute("SELECT image FROM photos WHERE root = ? AND path = ?", (root.id, path)).fetchone()
        return None if row is None else row[0]

    def skipped(self) -> list[tuple[bytes, str]]:
        """Absolute path and reason of every file that could not be read as an image."""
        rows = self.database.execute(
            "SELECT roots.path, photos.path, error FROM photos JOIN roots ON roots.id = photos.root"
            " WHERE error IS NOT NULL ORDER BY roots.path, photos.path"
        )
        return [(join(root, path), error) for root, path, error in rows]

    # -------------------------------------------------------------------------------- the photos of a selection

    def images_in(self, chosen: Selection) -> Ids:
        """Ids, in order and each once, of the images of a selection's photos; photos without an image have none."""
        rows = self.database.execute(*chosen.candidates)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64))

    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        """The photos of images; of a selection, if one is given."""
        roots = chosen.roots if chosen else {root.id: root for root in self.roots()}
        holds = chosen.holds if chosen else all_of(())
        out: list[Photo] = []
        for part in parts(ids):
            frames = self._frames(part)
            images = list({frames[image].video if image in frames else image for image in part})
            condition = f"images.id IN ({_placeholders(images)}) AND {holds.sql}"
            found = list(self._photos(roots, condition, (*images, *holds.values), BY_IMAGE))
            self._check_owners({image for image in part if image not in frames} - {photo.image_id for photo in found})
            out += _with_frames(found, frames) if frames else found
        return out

    def _check_owners(self, images: set[int]) -> None:
        """Raise `IndexDamaged` for an image of no photo, such as a frame whose record names another image."""
        for part in parts(sorted(images)):
            query = (
                f"SELECT 1 FROM images WHERE id IN ({_placeholders(part)}) AND id NOT IN (SELECT image FROM loose)"
                " AND NOT EXISTS (SELECT 1 FROM photos WHERE photos.image = images.id) LIMIT 1"
            )
            if self.database.execute(query, part).fetchone():
                raise self.damaged()

    def _frames(self, images: list[int]) -> dict[int, _Frame]:
        """Those of some images that are frames of videos."""
        rows = self.database.execute(
            f"SELECT frames.mark = mark({OF_FRAME}), image, video, time, content"
            f" FROM frames JOIN images ON images.id = image WHERE image IN ({_placeholders(images)})",
            images,
        ).fetchall()
        if not all(row[0] for row in rows):
            raise self.damaged()
        return {image: _Frame(video, time, content) for _, image, video, time, content in rows}

    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        """As `Searchable` says."""
        several = (
            "photos.image IN (SELECT image FROM photos GROUP BY image HAVING count(image) > 1) AND " if copied else ""
        )
        condition = f"{several}photos.root = ? AND {chosen.holds.sql} ORDER BY photos.path"
        for root in sorted(chosen.roots.values(), key=lambda root: join(root.path, b"")):
            yield from self._photos(chosen.roots, condition, (root.id, *chosen.holds.values))

    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        """As `Searchable` says."""
        rows = self.database.execute("SELECT id, hash FROM images WHERE hash IS NOT NULL").fetchall()
        both = np.array(rows, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1].astype(np.uint64)

    def newest(self, chosen: Selection, count: int) -> list[Photo]:
        """So many photos of a selection, the newest first: by when they were taken, or else changed."""
        found: list[Photo] = []
        for condition, order in (("taken IS NOT NULL", "taken"), ("taken IS NULL", "mtime_ns")):  # fast with a limit
            clause = f"{chosen.holds.sql} AND {condition} ORDER BY {order} DESC, photos.root, photos.path LIMIT ?"
            found += self._photos(chosen.roots, clause, (*chosen.holds.values, min(count, 2**62)))
        return sorted(found, key=lambda photo: photo.date, reverse=True)[:count]

    def months(self, chosen: Selection) -> dict[str, int]:
        """How many photos of a selection are of each month, "2023-06", in order; by when taken, or else changed."""
        changed = "strftime('%Y-%m', mtime_ns / 1000000000, 'unixepoch', 'localtime')"
        query = (
            f"SELECT coalesce(substr(taken, 1, 7), {changed}) AS month, count(*)"
            f" FROM {BY_PHOTO} WHERE {chosen.holds.sql} GROUP BY month ORDER BY month"
        )
        return {month: count for month, count in self.database.execute(query, chosen.holds.values) if month}

    def cameras(self) -> list[str]:
        """The names of all cameras, those with the most photos first."""
        query = "SELECT camera FROM images WHERE camera IS NOT NULL GROUP BY camera ORDER BY count(*) DESC, camera"
        return [str(row[0]) for row in self.database.execute(query)]

    def _photos(
        self, roots: dict[int, Root], condition: str, values: tuple[Any, ...], tables: str = BY_PHOTO
    ) -> Iterator[Photo]:
        rows = self.database.execute(
            "SELECT photos.root, photos.path, size, mtime_ns, ctime_ns, photos.image, photos.keywords, time, content,"
            f" hash, frames.image IS NULL OR frames.mark = mark({OF_FRAME}),"
            " width, height, taken, camera, latitude, longitude, images.keywords, duration"
            f" FROM {tables} LEFT JOIN frames ON frames.image = photos.image WHERE {condition}",
            values,
        )
        for root, path, size, mtime_ns, ctime_ns, image_id, keywords, time, content, phash, is_sound, *metadata in rows:
            if not is_sound or not isinstance(path, bytes) or (time is None and is_video_name(path)):
                raise self.damaged()
            whole = join(roots[root].path, path)
            of = Metadata(*metadata)
            yield Photo(image_id, whole, size, mtime_ns, content, of, ctime_ns, tuple_of(keywords), time, phash)

    # -------------------------------------------------------------------------------- embeddings

    def is_empty(self) -> bool:
        """Whether no photo could be embedded yet."""
        return self.database.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is None

    def embeddings(self, after: int = 0, last: int | None = None, *, block: int = 16384) -> Iterator[tuple[Ids, Rows]]:
        """Image ids (n,) above `after` and their rows (n, dim) float16, in order of id, in blocks.

        `last`: the largest id to go to, if there is one.
        """
        bounds = (after, LARGEST_ID if last is None else last)
        statement = "SELECT image, vector FROM embeddings WHERE image > ? AND image <= ? ORDER BY image"
        cursor = self.database.execute(statement, bounds)
        while rows := cursor.fetchmany(block):
            yield self._as_arrays(rows)

    def embeddings_of(self, ids: Iterable[int]) -> tuple[Ids, Rows]:
        """The given image ids that have an embedding, (n,), and their rows (n, dim) float16."""
        rows: list[tuple[int, bytes]] = []
        for part in parts(ids):
            query = f"SELECT image, vector FROM embeddings WHERE image IN ({_placeholders(part)})"
            rows += self.database.execute(query, part).fetchall()
        return self._as_arrays(rows)

    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        """The unit rows (n, dim) float32 of image ids, in their order. Raises `IndexDamaged` when one has none."""
        wanted = [int(image_id) for image_id in ids]
        out, done = np.empty((len(wanted), self.dim), np.float32), 0
        for part in parts(wanted):  # each at its place at once: all of them twice may not fit into memory
            found, rows = self.embeddings_of(part)
            place = {image_id: number for number, image_id in enumerate(found.tolist())}
            if not place.keys() >= set(part):
                raise self.damaged()
            out[done : done + len(part)] = unit_rows(rows[[place[image_id] for image_id in part]])
            done += len(part)
        return out

    def count_embeddings(self, after: int = 0) -> int:
        """How many images have an id above `after`."""
        return int(self.database.execute("SELECT count(*) FROM images WHERE id > ?", (after,)).fetchone()[0])

    def count_distinct(self) -> int:
        """As `Searchable` says."""
        self.check_frames()
        frames = self.database.execute("SELECT count(*) FROM frames WHERE image != video").fetchone()[0]
        return self.count_embeddings() - int(frames)

    def _as_arrays(self, rows: list[tuple[int, bytes]]) -> tuple[Ids, Rows]:
        ids = np.array([row[0] for row in rows], np.int64)
        if not all(isinstance(row[1], bytes) and len(row[1]) == 2 * self.dim for row in rows):
            raise self.damaged()
        blob = b"".join(row[1] for row in rows)
        return ids, np.frombuffer(blob, "<f2").reshape(len(rows), self.dim).astype(np.float16, copy=False)

    # -------------------------------------------------------------------------------- the segments of vectors

    def segments(self) -> list[Segment] | None:
        """What the catalogue says of the segments of vectors, in order of their images; None if none was made yet."""
        try:
            record = self.meta("vectors")
            return [_checked(Segment(*values)) for values in json.loads(record)] if record else None
        except (ValueError, TypeError, IndexDamaged):
            return None  # they can be made again

    def new_segment_name(self) -> str:
        """A name for a segment that no other had or will have."""
        self.set_meta("generation", self.number("generation") + 1)
        return f"vectors-{self.number('generation')}.faiss"

    def adopt_segments(self, segments: list[Segment], after: int, last: int | None) -> None:
        """Name the segments that are in use from now on, in one transaction.

        Those of images with an id above `after`, and up to `last` if that is a number, have none that is gone.
        """
        self.set_meta("vectors", json.dumps(segments))
        self.database.execute(
            "DELETE FROM dropped WHERE image > ? AND image <= ?", (after, LARGEST_ID if last is None else last)
        )
        self.commit()

    def dropped(self) -> Ids:
        """Ids, in order, that segments may still hold though their images are gone."""
        rows = self.database.execute("SELECT image FROM dropped ORDER BY image")
        return np.fromiter((row[0] for row in rows), np.int64)

    def sweep(self) -> None:
        """Delete what is not in use: segments, also of older formats, and what a rebuild left."""
        schema.unlink_database(self.folder / schema.REBUILT)
        in_use = {segment.file for segment in self.segments() or []}
        for path in self.folder.iterdir():
            if path.name not in in_use and SEGMENT_FILE.fullmatch(path.name):
                with contextlib.suppress(OSError):  # on Windows a reader may still hold it; the next time, then
                    path.unlink()


def _with_frames(photos: list[Photo], frames: dict[int, _Frame]) -> Iterator[Photo]:
    """The photos, and a video once for each of its frames that are asked for."""
    of_video: dict[int, list[tuple[int, _Frame]]] = {}
    for image, frame in frames.items():
        of_video.setdefault(frame.video, []).append((image, frame))
    for photo in photos:
        if photo.image_id not in of_video:
            yield photo
        for image, frame in of_video.get(photo.image_id, ()):
            yield photo._replace(image_id=image, content=frame.content, time=frame.time)


def tuple_of(keywords: str | None) -> tuple[str, ...]:
    """Keywords as the catalogue has them, each on a line."""
    return tuple(keywords.split("\n")) if keywords else ()


def _columns(rules: Rules) -> tuple[Any, ...]:
    return tuple(json.dumps(value) if isinstance(value, tuple) else value for value in rules)


def _rules(columns: Sequence[Any]) -> Rules:
    hidden, follow_links, exclude, any_name, raw, video = columns
    flags = (bool(any_name), bool(raw), bool(video))
    return Rules(bool(hidden), bool(follow_links), tuple(json.loads(exclude)), *flags)


def _placeholders(values: list[int]) -> str:
    return ",".join("?" * len(values))


def _checked(segment: Segment) -> Segment:
    """Raises `TypeError` where a value is not of its kind."""
    kinds = (str, int, int, int, str, int)
    if not all(map(isinstance, segment, kinds)):
        raise TypeError
    return segment
