"""The files in the indexed folders: photos, and files that could not be read as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Ids, parts
from clipsearch.images.facts import Facts, combined
from clipsearch.images.found_file import FoundFile
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.paths import bounds, join
from clipsearch.store.database import Database
from clipsearch.store.drives import UNKNOWN
from clipsearch.store.folders import Folders
from clipsearch.store.images import BESIDE, Images
from clipsearch.store.order import Order
from clipsearch.store.photo import KNOWN, NO_MONTH, Known, Listing, Months, Photo, Positions, Root
from clipsearch.store.schema import FACTS, IS_SOUND, METADATA, OF_FRAME, mark
from clipsearch.store.selection import BY_IMAGE, BY_PHOTO, Selection, all_of

_COLUMNS = (
    f"photos.root, {IS_SOUND}, photos.image, photos.path, size, mtime_ns, content, ctime_ns,"
    f" time, hash, named, captions.text, {METADATA}"
)
_JOINED = "LEFT JOIN frames ON frames.image = photos.image LEFT JOIN captions ON captions.image = photos.image"
_WRITTEN = ", ".join(
    ("root", "path", "size", "mtime_ns", "ctime_ns", "image", "error", "sidecar_token", "drive", *FACTS, "mark")
)
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN.split(", ")[2:])
_REPLACED += ", named = CASE WHEN image IS excluded.image THEN named END"


# Conditions, each with the sort key of the photos for which it holds, in order; without a key, by path. The date
# defaults to that of the file. Seconds are rounded down, as in `local_time`.
_ORDERS = {
    "date": [
        ("taken IS NOT NULL", "taken"),
        ("taken IS NULL", "(mtime_ns - 999999999 * (mtime_ns < 0)) / 1000000000"),
    ],
    "name": [("1", "natural_name(photos.path)")],
    "path": [("1", "")],
    "size": [("1", "size")],
}


class _Frame(NamedTuple):
    """The image that represents the file and, for a video, seconds from the start and the frame's content hash."""

    whole: int
    time: float | None
    content: bytes


class Photos:
    """The files of a catalogue."""

    def __init__(self, database: Database, folders: Folders, images: Images) -> None:
        self._database, self._folders, self._images = database, folders, images

    # -------------------------------------------------------------------------------- files

    def put(
        self,
        root: Root,
        file: FoundFile,
        image_id: int | None,
        error: str | None,
        sidecar: Facts = Facts(),  # noqa: B008  # immutable
        drive: int = UNKNOWN,
        others: Facts = Facts(),  # noqa: B008
    ) -> None:
        """Record a new or changed file: it has an image, or the error that says why not.

        Its facts are those of its sidecar, then of the file itself, then of other sources.
        """
        self._database.begin()
        facts = combined([sidecar, self._images.facts_of(image_id), others])
        about = (file.size, file.mtime_ns, file.ctime_ns, image_id, error, file.sidecar_token, drive)
        values = (root.id, file.path, *about, *facts)
        self._database.execute(
            f"INSERT INTO photos ({_WRITTEN}) VALUES (?{', ?' * len(values)})"
            f" ON CONFLICT (root, path) DO UPDATE SET {_REPLACED}",
            (*values, mark(*values)),
        )

    def remove(self, root: Root, paths: Iterable[bytes]) -> None:
        self._database.begin()
        rows = ((root.id, path) for path in paths)
        self._database.executemany("DELETE FROM photos WHERE root = ? AND path = ?", rows)

    def known(self, root: Root, under: bytes = b"") -> Iterator[Known]:
        """The files of a root, or of a folder in it, in bytewise order of their paths."""
        query = f"SELECT {KNOWN} FROM photos WHERE root = ? AND path >= ? AND path < ? ORDER BY path"
        for row in self._database.execute(query, (root.id, *bounds(under))):
            yield Known(*row)

    def known_file(self, root: Root, path: bytes) -> Known | None:
        query = f"SELECT {KNOWN} FROM photos WHERE root = ? AND path = ?"
        row = self._database.execute(query, (root.id, path)).fetchone()
        return Known(*row) if row else None

    def image_of(self, root: Root, path: bytes) -> int | None:
        """The image of a file, if it has one."""
        query = "SELECT image FROM photos WHERE root = ? AND path = ?"
        row = self._database.execute(query, (root.id, path)).fetchone()
        return None if row is None else row[0]

    def skipped(self) -> list[tuple[bytes, str]]:
        """The absolute path of every file that could not be read as an image, and why."""
        rows = self._database.execute(
            "SELECT roots.path, photos.path, error FROM photos JOIN roots ON roots.id = photos.root"
            " WHERE error IS NOT NULL ORDER BY roots.path, photos.path"
        )
        return [(join(root, path), error) for root, path, error in rows]

    # -------------------------------------------------------------------------------- faces

    def with_regions(self) -> Iterator[tuple[int, Metadata]]:
        """The images with named face regions, and the metadata of a photo of each."""
        query = f"SELECT photos.image, {METADATA} FROM {BY_PHOTO} WHERE regions IS NOT NULL ORDER BY photos.id"
        for image, *metadata in self._database.execute(query).fetchall():
            yield image, Metadata(*metadata)

    def set_names(self, names: Mapping[int, str]) -> None:
        """Record the names of recognised faces, one per line, by image; the photos of other images have none."""
        self._database.begin()
        query = "SELECT DISTINCT image FROM photos WHERE named IS NOT NULL"
        gone = [image for (image,) in self._database.execute(query) if image not in names]
        rows = [*names.items(), *((image, None) for image in gone)]
        statement = "UPDATE photos SET named = ?2 WHERE image IS ?1 AND named IS NOT ?2"
        self._database.executemany(statement, rows)

    # -------------------------------------------------------------------------------- the photos of a selection

    def images_in(self, chosen: Selection, *, frames: bool = True) -> Ids:
        """The ids of the images of a selection's photos, sorted, each once; without `frames`, one for each file."""
        sql, values = chosen.candidates
        if not frames:
            sql = f"SELECT * FROM ({sql}) EXCEPT SELECT * FROM ({BESIDE})"
        rows = self._database.execute(sql, values)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64))

    def of_images(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        """The photos of images; only those of a selection, if one is given."""
        roots = chosen.roots if chosen else {root.id: root for root in self._folders.all()}
        holds = chosen.holds if chosen else all_of(())
        out: list[Photo] = []
        for part in parts(ids):
            frames = self._frames(part)
            images = list({frames[image].whole if image in frames else image for image in part})
            condition = f"images.id IN ({_placeholders(images)}) AND {holds.sql}"
            found = list(self._select(roots, condition, (*images, *holds.values), BY_IMAGE))
            self._check_owners({image for image in part if image not in frames} - {photo.image_id for photo in found})
            out += _with_frames(found, frames) if frames else found
        return out

    def _check_owners(self, images: set[int]) -> None:
        """Raise `IndexDamaged` for an image without a photo, such as a frame whose record names another image."""
        for part in parts(sorted(images)):
            query = (
                f"SELECT 1 FROM images WHERE id IN ({_placeholders(part)}) AND id NOT IN (SELECT image FROM loose)"
                " AND NOT EXISTS (SELECT 1 FROM photos WHERE photos.image = images.id) LIMIT 1"
            )
            if self._database.execute(query, part).fetchone():
                raise self._database.damaged()

    def _frames(self, images: list[int]) -> dict[int, _Frame]:
        """Those of some images that are frames of videos or parts of photos."""
        rows = self._database.execute(
            f"SELECT frames.mark = mark({OF_FRAME}), image, whole, time, content"
            f" FROM frames JOIN images ON images.id = image WHERE image IN ({_placeholders(images)})",
            images,
        ).fetchall()
        if not all(row[0] for row in rows):
            raise self._database.damaged()
        return {image: _Frame(whole, time, content) for _, image, whole, time, content in rows}

    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        """The photos of a selection by path; with `copied`, those whose contents several photos have."""
        several = (
            "photos.image IN (SELECT image FROM photos GROUP BY image HAVING count(image) > 1) AND " if copied else ""
        )
        condition = f"{several}photos.root = ? AND {chosen.holds.sql} ORDER BY photos.path"
        for root in _by_path(chosen.roots):
            yield from self._select(chosen.roots, condition, (root.id, *chosen.holds.values))

    def first(self, chosen: Selection, order: Order, count: int) -> list[Photo]:
        """The first photos of a selection in an order."""
        found: list[Photo] = []
        for clause in _in_order(chosen, order):
            if len(found) < count:
                values = (*chosen.holds.values, min(count - len(found), 2**62))
                found += self._select(chosen.roots, f"{clause} LIMIT ?", values)
        return order.sorted(found, lambda photo: photo)

    def listing(self, chosen: Selection, order: Order) -> Listing:
        """All photos of a selection in an order."""
        columns = "photos.id, photos.image, CAST(width AS INTEGER), CAST(height AS INTEGER), taken"
        queries = (f"SELECT {columns} FROM {BY_PHOTO} WHERE {clause}" for clause in _in_order(chosen, order))
        return Listing.of(row for query in queries for row in self._database.execute(query, chosen.holds.values))

    def of_keys(self, keys: Iterable[int]) -> dict[int, Photo]:
        """Photos by their keys in a `Listing`; those that are gone are left out."""
        roots = {root.id: root for root in self._folders.all()}
        found: dict[int, Photo] = {}
        for part in parts(keys):
            query = f"SELECT photos.id, {_COLUMNS} FROM {BY_PHOTO} {_JOINED} WHERE photos.id IN ({_placeholders(part)})"
            for key, root, *columns in self._database.execute(query, part):
                photo = to_photo(self._database, columns)
                found[key] = photo._replace(file=join(roots[root].path, photo.file))
        return found

    def months(self, chosen: Selection) -> Months:
        """The number of photos of a selection in each month."""
        changed = "strftime('%Y-%m', mtime_ns / 1000000000, 'unixepoch', 'localtime')"
        query = (
            f"SELECT taken IS NOT NULL AS is_dated, coalesce(substr(taken, 1, 7), {changed}, '{NO_MONTH}') AS month,"
            f" count(*) FROM {BY_PHOTO} WHERE {chosen.holds.sql} GROUP BY is_dated, month ORDER BY month"
        )
        found = Months({}, {})
        for is_dated, month, count in self._database.execute(query, chosen.holds.values):
            (found.taken if is_dated else found.changed)[month] = count
        return found

    def columns(self, chosen: Selection, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """The values of some columns for each photo of a selection."""
        query = f"SELECT {', '.join(names)} FROM {BY_PHOTO} WHERE {chosen.holds.sql}"
        return iter(self._database.execute(query, chosen.holds.values))

    def positions(self, chosen: Selection) -> Positions:
        """Where the photos of a selection were taken, of those whose place is known."""
        are_sound = "typeof(latitude) = 'real' AND typeof(longitude) = 'real'"
        query = f"SELECT photos.image, latitude, longitude FROM {BY_PHOTO} WHERE {are_sound} AND {chosen.holds.sql}"
        return Positions.of_rows(self._database.execute(query, chosen.holds.values))

    def _select(
        self, roots: dict[int, Root], condition: str, values: tuple[Any, ...], tables: str = BY_PHOTO
    ) -> Iterator[Photo]:
        query = f"SELECT {_COLUMNS} FROM {tables} {_JOINED} WHERE {condition}"
        for root, *columns in self._database.execute(query, values):
            photo = to_photo(self._database, columns)
            yield photo._replace(file=join(roots[root].path, photo.file))


def _in_order(chosen: Selection, order: Order) -> Iterator[str]:
    """Clauses that list the photos of a selection in an order, the photos of one after those of the other."""
    direction = "DESC" if order.descending else "ASC"
    numbers = " ".join(f"WHEN {root.id} THEN {n}" for n, root in enumerate(_by_path(chosen.roots)))
    by_root = f"CASE photos.root {numbers} END" if numbers else "1"
    for condition, key in _ORDERS[order.field]:
        by_path = f"{by_root}, photos.path" if key else f"{by_root} {direction}, photos.path {direction}"
        keys = f"{key} {direction}, {by_path}" if key else by_path
        yield f"{chosen.holds.sql} AND {condition} ORDER BY {keys}"


def _by_path(roots: dict[int, Root]) -> list[Root]:
    return sorted(roots.values(), key=lambda root: join(root.path, b""))


def to_photo(database: Database, columns: Sequence[Any]) -> Photo:
    """A photo from its columns: whether its rows are sound, and the fields of `Photo`, those of `Metadata` last.

    Raises `IndexDamaged` where the columns make no sense.
    """
    is_sound, image, path, size, mtime_ns, content, ctime_ns, time, phash, named, caption, *others = columns
    if not is_sound or not isinstance(path, bytes) or (time is None and is_video_name(path)):
        raise database.damaged()
    metadata = Metadata(*others)
    return Photo(image, path, size, mtime_ns, content, metadata, ctime_ns, time, phash, named, caption or None)


def _with_frames(photos: list[Photo], frames: dict[int, _Frame]) -> Iterator[Photo]:
    """The photos, and a file once for each of its frames or parts that were asked for."""
    of_file: dict[int, list[tuple[int, _Frame]]] = {}
    for image, frame in frames.items():
        of_file.setdefault(frame.whole, []).append((image, frame))
    for photo in photos:
        if photo.image_id not in of_file:
            yield photo
        for image, frame in of_file.get(photo.image_id, ()):
            content = photo.content if frame.time is None else frame.content
            yield photo._replace(image_id=image, content=content, time=frame.time)


def _placeholders(values: list[int]) -> str:
    return ",".join("?" * len(values))
