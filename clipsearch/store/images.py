"""The distinct contents of photos: their metadata and embeddings.

Frames of videos and parts of panoramas are images too.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids, Rows, parts, unit_rows
from clipsearch.images.facts import Facts
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import frame_hash
from clipsearch.store.database import Database, connect
from clipsearch.store.schema import OF_CONTENTS, OF_FRAME, mark

BESIDE = "SELECT image FROM frames WHERE image != whole ORDER BY image"
LARGEST_ID = 2**63 - 1  # SQLite's largest integer


class Images:
    """The images of a catalogue. `dim`, the length of their embeddings, is set by the store that has them."""

    dim: int

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lookup: sqlite3.Connection | None = None
        self._lookup_guard = threading.Lock()

    # -------------------------------------------------------------------------------- writing

    def add(self, content: bytes, metadata: Metadata, vector: Array, phash: int | None = None) -> int:
        """Record contents by their hash, with a unit row (dim,) and a perceptual hash; returns the id."""
        self._database.begin()
        row = vector.astype("<f2").tobytes()
        facts = None if metadata.facts == Facts() else json.dumps(metadata.facts)
        about = (content, *(getattr(metadata, name) for name in OF_CONTENTS), facts, phash)
        values = (*about, mark(*about, row))
        statement = f"INSERT INTO images VALUES (NULL{', ?' * len(values)})"
        image_id = int(self._database.execute(statement, values).lastrowid or 0)
        self._database.execute("INSERT INTO embeddings VALUES (?, ?)", (image_id, row))
        return image_id

    def add_frames(self, video: int, metadata: Metadata, frames: Iterable[tuple[float, bytes, Array]]) -> None:
        """Record frames of a video: seconds from its start, a content hash, and a unit row (dim,) each.

        The first one, the image `video`, represents the video.
        """
        for number, (time, content, row) in enumerate(frames):
            image_id = self.add(content, metadata.with_facts(Facts()), row) if number else video
            self._add_frame(image_id, video, float(time), None)

    def add_parts(self, photo: int, content: bytes, metadata: Metadata, rows: Iterable[Array]) -> None:
        """Record parts of a photo, given its content hash, by their unit rows (dim,). Part 0 is the whole: `photo`."""
        self._add_frame(photo, photo, None, 0)
        beside = metadata.with_facts(Facts())
        for part, row in enumerate(rows, 1):
            self._add_frame(self.add(frame_hash(content, part), beside, row), photo, None, part)

    def _add_frame(self, image_id: int, whole: int, time: float | None, part: int | None) -> None:
        values = (image_id, whole, time, part)
        self._database.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?)", (*values, mark(*values)))

    def prune(self) -> None:
        """Forget contents that no photo has any more. Damaged frames are left to `verify`."""
        self._database.begin()
        self._database.execute(
            "DELETE FROM images WHERE id IN (SELECT image FROM loose)"
            " AND NOT EXISTS (SELECT 1 FROM photos WHERE photos.image = images.id)"
        )
        self._database.execute("DELETE FROM loose")
        sound = f"frames.mark = mark({OF_FRAME})"
        gone = f"SELECT image FROM frames WHERE whole NOT IN (SELECT id FROM images) AND {sound}"
        self._database.execute(f"DELETE FROM images WHERE id IN ({gone})")
        self._database.execute(f"DELETE FROM frames WHERE image NOT IN (SELECT id FROM images) AND {sound}")

    # -------------------------------------------------------------------------------- contents

    def find(self, content: bytes) -> int | None:
        """The id of the image with a content hash."""
        row = self._database.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
        return None if row is None else int(row[0])

    def is_known(self, content: bytes) -> bool:
        """Whether contents are embedded and committed; may be called from any thread."""
        with self._lookup_guard:
            if self._lookup is None:
                self._lookup = connect(self._database.path, "ro", any_thread=True)
            return self._lookup.execute("SELECT 1 FROM images WHERE content = ?", (content,)).fetchone() is not None

    def close_lookup(self) -> None:
        """Close the connection of `is_known`."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    def facts_of(self, image_id: int | None) -> Facts:
        """The facts in a file itself, without its sidecars and its name. Raises `IndexDamaged`."""
        row = self._database.execute("SELECT facts FROM images WHERE id = ?", (image_id,)).fetchone()
        if row is None or row[0] is None:
            return Facts()
        try:
            return Facts(*json.loads(row[0]))
        except (ValueError, TypeError):
            raise self._database.damaged() from None

    def contents(self) -> NDArray[np.uint64]:
        """All content hashes (n, 2): the two halves of each, sorted."""
        rows = b"".join(row[0] for row in self._database.execute("SELECT content FROM images ORDER BY content"))
        return np.frombuffer(rows, ">u8").reshape(-1, 2).astype(np.uint64)

    def sample(self, count: int) -> Ids:
        """The images of up to `count` files with the lowest content hashes."""
        beside = "SELECT 1 FROM frames WHERE image = images.id AND image != whole"
        query = f"SELECT id FROM images WHERE NOT EXISTS ({beside}) ORDER BY content LIMIT ?"
        rows = self._database.execute(query, (count,))
        return np.array([row[0] for row in rows], np.int64)

    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        """The ids (n,) of the images with a perceptual hash, and the hashes (n,)."""
        rows = self._database.execute("SELECT id, hash FROM images WHERE hash IS NOT NULL").fetchall()
        both = np.array(rows, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1].astype(np.uint64)

    def has_frames(self) -> bool:
        """Whether some files have several images."""
        return self._database.execute("SELECT 1 FROM frames LIMIT 1").fetchone() is not None

    def beside(self) -> Ids:
        """The images that do not represent a file: other frames of videos, and parts of panoramas."""
        return np.array([row[0] for row in self._database.execute(BESIDE)], np.int64)

    def check_frames(self) -> None:
        """Raise `IndexDamaged` if a frame is not what was written: it may belong to another file."""
        if self._database.execute(f"SELECT 1 FROM frames WHERE mark != mark({OF_FRAME}) LIMIT 1").fetchone():
            raise self._database.damaged()

    # -------------------------------------------------------------------------------- embeddings

    def is_empty(self) -> bool:
        return self._database.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is None

    def count(self, after: int = 0) -> int:
        """The number of images with an id above `after`."""
        return int(self._database.execute("SELECT count(*) FROM images WHERE id > ?", (after,)).fetchone()[0])

    def count_distinct(self) -> int:
        """The number of different contents: a file counts once, however many images it has."""
        self.check_frames()
        return self.count() - len(self.beside())

    def embeddings(self, after: int = 0, last: int | None = None, *, block: int = 16384) -> Iterator[tuple[Ids, Rows]]:
        """Blocks of image ids (n,) above `after`, up to `last`, with their rows (n, dim) float16, in order of id."""
        bounds = (after, LARGEST_ID if last is None else last)
        statement = "SELECT image, vector FROM embeddings WHERE image > ? AND image <= ? ORDER BY image"
        cursor = self._database.execute(statement, bounds)
        while rows := cursor.fetchmany(block):
            yield self._as_arrays(rows)

    def embeddings_of(self, ids: Iterable[int]) -> tuple[Ids, Rows]:
        """Those of some image ids that have an embedding (n,), and their rows (n, dim) float16."""
        rows: list[tuple[int, bytes]] = []
        for part in parts(ids):
            query = f"SELECT image, vector FROM embeddings WHERE image IN ({','.join('?' * len(part))})"
            rows += self._database.execute(query, part).fetchall()
        return self._as_arrays(rows)

    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        """The unit rows (n, dim) float32 of image ids, in their order. Raises `IndexDamaged` if one has none."""
        wanted = [int(image_id) for image_id in ids]
        out, done = np.empty((len(wanted), self.dim), np.float32), 0
        for part in parts(wanted):  # written in place: two copies of everything may not fit into memory
            found, rows = self.embeddings_of(part)
            place = {image_id: number for number, image_id in enumerate(found.tolist())}
            if not place.keys() >= set(part):
                raise self._database.damaged()
            out[done : done + len(part)] = unit_rows(rows[[place[image_id] for image_id in part]])
            done += len(part)
        return out

    def _as_arrays(self, rows: list[tuple[int, bytes]]) -> tuple[Ids, Rows]:
        ids = np.array([row[0] for row in rows], np.int64)
        if not all(isinstance(row[1], bytes) and len(row[1]) == 2 * self.dim for row in rows):
            raise self._database.damaged()
        blob = b"".join(row[1] for row in rows)
        return ids, np.frombuffer(blob, "<f2").reshape(len(rows), self.dim).astype(np.float16, copy=False)
