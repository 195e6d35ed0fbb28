"""The faces in photos: where they are, their embeddings, and the cluster and person that each belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids, Rows, parts
from clipsearch.images.box import Box
from clipsearch.store.database import Database
from clipsearch.store.pending import Pending, pending
from clipsearch.store.people import KnownFace
from clipsearch.store.schema import OF_FACE, OF_FACE_SCAN, mark

Landmarks = tuple[tuple[float, float], ...]  # x and y of five points, as fractions of the upright photo

_COLUMNS = "id, image, box, landmarks, quality, cluster, person"
_SOUND = f"mark = mark({OF_FACE})"
_DECIMALS = 4  # of a fraction: a tenth of a pixel in a photo of 1,000


class NewFace(NamedTuple):
    """A face to record: its `quality` from 0 to 1, and its unit row (dim,)."""

    box: Box
    landmarks: Landmarks
    quality: float
    row: Array


@dataclass(frozen=True, slots=True)
class Face:
    """A face in an image. `cluster` is None until it was clustered, `person` unless it has a name."""

    id: int
    image: int
    box: Box
    landmarks: Landmarks
    quality: float
    cluster: int | None
    person: str | None


class ClusterCounts(NamedTuple):
    """A cluster: how many faces it has, in how many photos and videos, and the id of the best face."""

    number: int
    faces: int
    photos: int
    best: int


class Faces:
    """The faces of a catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def model(self) -> str | None:
        """The record of the model with which updates look for faces; None if they do not."""
        found = self._database.meta("faces")
        return None if found is None else str(found)

    def enable(self, model: str | None) -> None:
        """Record with which model updates look for faces. Deletes the faces of another model; with None, all faces."""
        if model != self.model():
            self.clear()
            self._database.set_meta("faces", model)

    def clear(self) -> None:
        """Delete all faces, and with them what is known about which images have none."""
        self._database.begin()
        self._database.execute("DELETE FROM faces")
        self._database.execute("DELETE FROM face_scans")

    def counts(self) -> tuple[int, int]:
        """The number of images that were searched for faces, and of faces."""
        row = self._database.execute("SELECT count(*), coalesce(sum(faces), 0) FROM face_scans").fetchone()
        return int(row[0]), int(row[1])

    def group_counts(self) -> tuple[int, int]:
        """The number of named people with faces, and of other groups of faces."""
        query = "SELECT (SELECT count(DISTINCT person) FROM faces), (SELECT count(DISTINCT cluster) FROM faces)"
        named, groups = self._database.execute(query).fetchone()
        return int(named), int(groups - named)

    def unseen(self) -> list[Pending]:
        """The images of photos, and frames of videos, that were not searched for faces."""
        return pending(self._database, "face_scans", frames=True)

    def put(self, image_id: int, faces: Sequence[NewFace]) -> None:
        """Record the faces in an image; there may be none."""
        self._database.begin()
        self._database.execute("DELETE FROM faces WHERE image = ?", (image_id,))
        for face in faces:
            where = _json(face.box), _json(face.landmarks)
            self._insert(None, image_id, *where, float(face.quality), face.row.astype("<f2").tobytes(), None, None)
        self._count(image_id, len(faces))

    def of(self, image_id: int) -> list[Face]:
        """The faces in an image, in the order in which they were recorded."""
        return list(self._faces("image = ?", (image_id,)))

    def get(self, ids: Iterable[int]) -> dict[int, Face]:
        """Faces by their ids; those that are gone are left out."""
        found = (self._faces(f"id IN ({','.join('?' * len(part))})", part) for part in parts(ids))
        return {face.id: face for faces in found for face in faces}

    def all(self) -> Iterator[Face]:
        """All faces, by id."""
        return self._faces("true", ())

    def embeddings(self, after: int = 0) -> tuple[Ids, Rows]:
        """The ids (n,) of all faces with an id above `after`, sorted, and their unit rows (n, dim) float16."""
        query = f"SELECT id, vector FROM faces WHERE id > ? AND {_SOUND} ORDER BY id"
        rows = self._database.execute(query, (after,)).fetchall()
        vectors = np.frombuffer(b"".join(row for _, row in rows), "<f2").astype(np.float16, copy=False)
        return np.array([face for face, _ in rows], np.int64), vectors.reshape(len(rows), -1 if rows else 0)

    def assign(self, faces: Iterable[tuple[int, int | None, str | None]]) -> None:
        """Record the cluster and the person of faces: (id, cluster, person) each."""
        self._database.begin()
        before = OF_FACE.partition(", cluster")[0]
        self._database.executemany(
            "UPDATE faces SET cluster = ?2, person = ?3,"
            f" mark = mark({before}, ?2, CAST(?3 AS BLOB)) WHERE id = ?1 AND {_SOUND}",
            faces,
        )

    def copy_to(self, other: Database) -> None:
        """Copy the faces of contents that another catalogue has, too; they keep their ids."""
        copied = Faces(other)
        copied.enable(self.model())
        images: dict[int, int] = {}
        query = (
            "SELECT image, content, faces FROM face_scans JOIN images ON images.id = face_scans.image"
            f" WHERE face_scans.mark = mark({OF_FACE_SCAN})"
            " AND NOT EXISTS"
            f" (SELECT 1 FROM faces WHERE faces.image = face_scans.image AND faces.mark != mark({OF_FACE}))"
        )
        for image, content, count in self._database.execute(query):
            row = other.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
            if row is not None:
                images[image] = row[0]
                copied._count(row[0], count)
        of_face = "id, image, box, landmarks, quality, vector, cluster, person"
        for face, image, *values in self._database.execute(f"SELECT {of_face} FROM faces ORDER BY id"):
            if image in images:
                copied._insert(face, images[image], *values)

    def model_key(self) -> str:
        """A hash of the record of the model: rows of different models cannot be compared."""
        return blake2b((self.model() or "").encode(), digest_size=8).hexdigest()

    def in_cluster(self, number: int) -> list[Face]:
        """The faces with this cluster's number, by id."""
        return list(self._faces("cluster = ?", (number,)))

    def clusters(self) -> list[ClusterCounts]:
        rows = self._database.execute(
            "SELECT cluster, count(*), count(DISTINCT coalesce(whole, faces.image)), id, max(quality) FROM faces"
            " LEFT JOIN frames ON frames.image = faces.image WHERE cluster IS NOT NULL GROUP BY cluster"
        )  # SQLite takes `id` from the row with the maximum
        return [ClusterCounts(*row[:4]) for row in rows]

    def known(self, ids: Iterable[int]) -> dict[int, KnownFace]:
        """Faces as `people.json` records them, by their ids; those that are gone are left out."""
        model, out = self.model_key(), dict[int, KnownFace]()
        for part in parts(ids):
            query = (
                "SELECT faces.id, content, box, vector FROM faces JOIN images ON images.id = faces.image"
                f" WHERE faces.id IN ({','.join('?' * len(part))}) ORDER BY faces.id"
            )
            for face, content, box, row in self._database.execute(query, part):
                out[face] = KnownFace(content, Box(*json.loads(box)), model, row)
        return out

    def names(self) -> dict[int, str]:
        """The names of the faces in each photo or video, one per line, by the image that represents it."""
        query = (
            "SELECT DISTINCT coalesce(whole, faces.image), person FROM faces"
            " LEFT JOIN frames ON frames.image = faces.image WHERE person IS NOT NULL"
        )
        names: dict[int, set[str]] = {}
        for image, name in self._database.execute(query):
            names.setdefault(image, set()).add(name)
        return {image: "\n".join(sorted(found)) for image, found in names.items()}

    def largest_cluster(self) -> int:
        """The largest number of a cluster; 0 without clusters."""
        return int(self._database.execute("SELECT coalesce(max(cluster), 0) FROM faces").fetchone()[0])

    # -------------------------------------------------------------------------------- rows

    def _faces(self, condition: str, values: Sequence[Any]) -> Iterator[Face]:
        query = f"SELECT {_SOUND}, {_COLUMNS} FROM faces WHERE {condition} ORDER BY id"
        for is_sound, face, image, box, landmarks, *others in self._database.execute(query, values):
            if not is_sound:
                raise self._database.damaged()
            points = tuple((x, y) for x, y in json.loads(landmarks))
            yield Face(face, image, Box(*json.loads(box)), points, *others)

    def _insert(self, face_id: int | None, *values: Any) -> None:
        """Insert a row. Its mark needs its id, which SQLite may choose."""
        statement = f"INSERT INTO faces VALUES (?{', ?' * len(values)}, 0)"
        new = self._database.execute(statement, (face_id, *values)).lastrowid
        self._database.execute("UPDATE faces SET mark = ? WHERE id = ?", (mark(new, *values), new))

    def _count(self, image_id: int, faces: int) -> None:
        values = (image_id, faces)
        self._database.execute("INSERT OR REPLACE INTO face_scans VALUES (?, ?, ?)", (*values, mark(*values)))


def _json(fractions: Box | Landmarks) -> str:
    return json.dumps(np.round(fractions, _DECIMALS).tolist(), separators=(",", ":"))
