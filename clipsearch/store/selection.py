"""From a filter to the SQL that chooses its photos."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.paths import absolute, join, relative_to, spellings
from clipsearch.store import texts
from clipsearch.store.filters import EVERYTHING, Circle, Filter, words_of

if TYPE_CHECKING:
    from clipsearch.store.catalogue import Store
    from clipsearch.store.photo import Root
    from clipsearch.store.searchable import Offline, Searchable

# Photos with their images. Left to itself, SQLite would go through all photos of a root to find those of a few images.
BY_PHOTO = "photos JOIN images ON images.id = photos.image"
BY_IMAGE = "images CROSS JOIN photos INDEXED BY photos_image ON photos.image = images.id"
_FROM_PHOTO = "photos CROSS JOIN images ON images.id = photos.image"

_KM_OF_A_DEGREE = 111.19  # of latitude; not more than on the sphere that distances are measured on
_SLACK = 1e-6  # degrees that a box is wider than its circle, for rounding


class Clause(NamedTuple):
    """A condition in SQL with its values."""

    sql: str
    values: tuple[Any, ...] = ()


class Selection(NamedTuple):
    """Some photos of a store.

    `roots` are the roots that they are in, by id; `offline` the roots, or parts of roots, that cannot be looked at now
    and are not searched; `missing` the listed files that are not indexed. `holds` is true for the photos;
    `candidates` is a query for the ids of their images, and maybe of others. `everything` says that no photo of the
    store is left out. Clauses are in the language of the store: SQL, or an expression of a collection.
    """

    roots: dict[int, Root]
    offline: dict[Root, Offline]
    missing: list[bytes]
    holds: Clause
    candidates: Clause
    everything: bool


class Place(NamedTuple):
    """A root, or a folder in it by its path below the root."""

    root: Root
    below: bytes = b""

    def lies_in(self, other: Place) -> bool:
        """Whether all its photos are those of another place too."""
        return self.root == other.root and (not other.below or relative_to(self.below, other.below) is not None)


class _Date(NamedTuple):
    """A condition on when a photo was taken, and the same on its file's time, for photos that do not say."""

    taken: Clause
    changed: Clause

    @property
    def of_both(self) -> Clause:
        sql = f"CASE WHEN taken IS NULL THEN {self.changed.sql} ELSE {self.taken.sql} END"
        return Clause(sql, self.changed.values + self.taken.values)


class _Conditions(NamedTuple):
    """What a filter says of photos, of their images, and of their dates."""

    of_photo: list[Clause]
    of_image: list[Clause]
    dates: list[_Date]


def select(store: Store, where: Filter = EVERYTHING) -> Selection:
    """The photos that pass a filter and are in folders that can be looked at.

    Raises `BadArgument` for a filter that makes no sense, `NotIndexed` when nothing below `where.under` was indexed,
    `BadRequest` for words in photos that nobody has read.
    """
    where = where.checked()
    if where.reads and not texts.is_read(store):
        raise BadRequest("no text has been read yet. Run: clipsearch index --ocr")
    roots = store.roots()
    searched, offline = searched_places(store, roots, where.under)
    conditions = _Conditions(_of_photo(where), _of_image(where), _dates(where))
    everywhere = searched == [Place(root) for root in roots]
    if not everywhere:
        conditions.of_photo.append(_lies_in(searched))
    missing: list[bytes] = []
    if where.files is not None:
        missing = _choose_files(store, roots, where.files)
        conditions.of_photo.append(Clause("(photos.root, photos.path) IN (SELECT root, path FROM chosen)"))
    return Selection(
        {place.root.id: place.root for place in searched},
        offline,
        missing,
        all_of([*conditions.of_photo, *conditions.of_image, *(date.of_both for date in conditions.dates)]),
        _with_frames(store, _candidates(conditions)),
        everywhere and not any(conditions),
    )


def all_of(clauses: Iterable[Clause]) -> Clause:
    """What holds when each of the clauses does."""
    every = list(clauses)
    return Clause(" AND ".join(f"({c.sql})" for c in every) or "1", tuple(v for c in every for v in c.values))


def any_of(clauses: Iterable[Clause]) -> Clause:
    """What holds when one of the clauses does."""
    every = list(clauses)
    return Clause(" OR ".join(f"({c.sql})" for c in every) or "0", tuple(v for c in every for v in c.values))


def bounds(under: bytes) -> tuple[bytes, bytes]:
    """The bounds, low <= path < high, of the paths in a folder of a root; of all paths for an empty one."""
    return (under + b"/", under + b"0") if under else (b"", b"\xff" * 256)  # "0" follows "/"


def searched_places(
    store: Searchable, roots: list[Root], under: Sequence[str]
) -> tuple[list[Place], dict[Root, Offline]]:
    """Where photos are looked for, in all roots or in some folders, and what of it cannot be. Raises `NotIndexed`."""
    chosen = {place for folder in under for place in _places_in(store, roots, folder)}
    outermost = [one for one in chosen if not any(one != other and one.lies_in(other) for other in chosen)]
    places = sorted(outermost, key=lambda place: (place.root.path, place.below))
    return _without_offline(store, places if under else [Place(root) for root in roots])


def locate(store: Searchable, path: bytes, roots: Sequence[Root]) -> tuple[Root, bytes] | None:
    """The root of a photo and its path below it: as it is spelt, or with links to its folder or to it resolved."""
    if b"\0" in path:  # which is in no name
        return None
    return next((found for spelt in spellings(path) if (found := _indexed(store, spelt, roots))), None)


def _indexed(store: Searchable, path: bytes, roots: Sequence[Root]) -> tuple[Root, bytes] | None:
    for root in roots:
        below = relative_to(path, root.path)
        if below is not None and store.image_of(root, below) is not None:
            return root, below
    return None


# ------------------------------------------------------------------------------------------ places


def _places_in(store: Searchable, roots: list[Root], under: str) -> list[Place]:
    """What to search below a folder: as it is spelt first, since a folder behind a link may be indexed by its name."""
    places: list[Place] = []
    for folder in (os.path.abspath(os.fsencode(under)), absolute(under)):
        places = _places(roots, folder)
        if any(store.has_photos(place.root, place.below) for place in places):
            return places
    if places and os.path.isdir(under):
        return places
    raise NotIndexed(f"nothing in {under} was indexed")


def _places(roots: list[Root], folder: bytes) -> list[Place]:
    """The roots that lie in a folder, whole, and the one that it lies in, with the part of it that is the folder."""
    places = []
    for root in roots:
        below = relative_to(folder, root.path)
        if below is not None:
            places.append(Place(root, below))
        elif relative_to(root.path, folder) is not None:
            places.append(Place(root))
    return places


def _without_offline(store: Searchable, places: list[Place]) -> tuple[list[Place], dict[Root, Offline]]:
    searched, offline = [], {}
    for place in places:
        why = store.offline(place.root, place.below)
        if why is None:
            searched.append(place)
        else:
            path = join(place.root.path, place.below) if place.below else place.root.path
            offline[place.root._replace(path=path)] = why
    return searched, offline


# ------------------------------------------------------------------------------------------ conditions


def _lies_in(places: list[Place]) -> Clause:
    one = "photos.root = ? AND photos.path >= ? AND photos.path < ?"
    return any_of(Clause(one, (place.root.id, *bounds(place.below))) for place in places)


def _choose_files(store: Store, roots: list[Root], files: Iterable[bytes]) -> list[bytes]:
    """Fill a table with the listed photos, which SQLite looks up in no time; returns those that are not indexed."""
    store.database.execute("DROP TABLE IF EXISTS temp.chosen")
    columns = "root INTEGER, path BLOB, PRIMARY KEY (root, path)"
    store.database.execute(f"CREATE TEMP TABLE chosen ({columns}) WITHOUT ROWID")
    missing = []
    for file in files:
        place = locate(store, file, roots)
        if place is None:
            missing.append(file)
        else:
            store.database.execute("INSERT OR IGNORE INTO chosen VALUES (?, ?)", (place[0].id, place[1]))
    return missing


def _of_photo(where: Filter) -> list[Clause]:
    clauses = []
    if where.at_least is not None:
        clauses.append(Clause("size >= ?", (where.at_least,)))
    if where.at_most is not None:
        clauses.append(Clause("size <= ?", (where.at_most,)))
    if where.types:
        clauses.append(any_of(Clause("CAST(photos.path AS TEXT) LIKE ?", (f"%{suffix}",)) for suffix in where.types))
    for keyword in where.keywords:
        clauses.append(Clause("has_keyword(photos.keywords, ?)", (keyword.casefold(),)))
    if where.name:
        clauses.append(any_of(all_of(map(_has_word, words_of(name))) for name in where.name))
    return clauses


def _has_word(ways: Iterable[str]) -> Clause:
    sql = "instr(CAST(lower(CAST(photos.path AS TEXT)) AS BLOB), ?)"
    return any_of(Clause(sql, (os.fsencode(way),)) for way in sorted(ways))


def _of_image(where: Filter) -> list[Clause]:
    clauses = []
    if where.camera:
        # What the catalogue has was folded when it was read from the photo.
        names = (" ".join(camera.split()) for camera in where.camera)
        clauses.append(any_of(Clause("instr(lower(camera), lower(?))", (name,)) for name in names))
    if where.near:
        clauses.append(any_of(map(_in_circle, where.near)))
    if where.orientation:
        signs = {"landscape": ">", "portrait": "<", "square": "="}
        clauses.append(any_of(Clause(f"width {signs[one]} height") for one in where.orientation))
    if where.reads:
        clauses.append(any_of(map(_is_written, where.reads)))
    return clauses


def _is_written(reads: str) -> Clause:
    return all_of(Clause(sql, (value,)) for sql, value in texts.conditions(reads))


def _in_circle(circle: Circle) -> Clause:
    return all_of([*_in_box(box_of(circle)), Clause("km(latitude, longitude, ?, ?) <= ?", tuple(circle))])


class Box(NamedTuple):
    """A box around a circle, in degrees, which is quick to compare with and leaves few places to measure.

    `west` is more than `east` where it crosses the date line, and both are None where it goes all around.
    """

    south: float
    north: float
    west: float | None
    east: float | None


def box_of(circle: Circle) -> Box:
    """The smallest box, and a little more."""
    height = circle.km / _KM_OF_A_DEGREE
    south, north = circle.latitude - height - _SLACK, circle.latitude + height + _SLACK
    if abs(circle.latitude) + height >= 89.9:  # a pole is on every meridian
        return Box(south, north, None, None)
    ratio = math.sin(math.radians(height)) / math.cos(math.radians(circle.latitude))
    width = math.degrees(math.asin(min(1.0, ratio))) + _SLACK
    west, east = circle.longitude - width, circle.longitude + width
    return Box(south, north, west + 360 if west < -180 else west, east - 360 if east > 180 else east)


def _in_box(box: Box) -> list[Clause]:
    clauses = [Clause("latitude BETWEEN ? AND ?", (box.south, box.north))]
    if box.west is None or box.east is None:
        return clauses
    sql = "longitude BETWEEN ? AND ?" if box.west <= box.east else "longitude >= ? OR longitude <= ?"
    return [*clauses, Clause(sql, (box.west, box.east))]


def _dates(where: Filter) -> list[_Date]:
    dates = []
    for sign, moment in ((">=", where.after), ("<", where.before)):
        if moment is not None:
            taken = Clause(f"taken {sign} ?", (moment.isoformat(timespec="seconds"),))
            dates.append(_Date(taken, Clause(f"mtime_ns {sign} ?", (nanoseconds(moment),))))
    return dates


def nanoseconds(moment: datetime) -> int:
    """A moment as the catalogue has the times of files."""
    try:
        return max(-(2**63), min(int(moment.timestamp()) * 10**9, 2**63 - 1))  # as SQLite takes them
    except (OverflowError, ValueError, OSError):  # beyond what the system's clock can say
        return -(2**63) if moment.year < 1970 else 2**63 - 1


def _candidates(conditions: _Conditions) -> Clause:
    of_photo, of_image, dates = conditions
    if not of_photo:
        return _candidates_by_image(of_image, dates)
    holds = all_of([*of_photo, *of_image, *(date.of_both for date in dates)])
    if of_image or dates:
        return Clause(f"SELECT DISTINCT image FROM {BY_PHOTO} WHERE {holds.sql}", holds.values)
    return Clause(f"SELECT DISTINCT image FROM photos WHERE image IS NOT NULL AND {holds.sql}", holds.values)


def _with_frames(store: Store, candidates: Clause) -> Clause:
    """The same and, where there are videos, all their frames."""
    if not store.has_frames():
        return candidates
    frames = "SELECT image FROM frames WHERE video IN (SELECT id FROM chosen_images)"
    sql = f"WITH chosen_images (id) AS ({candidates.sql}) SELECT id FROM chosen_images UNION {frames}"
    return Clause(sql, candidates.values)


def _candidates_by_image(of_image: list[Clause], dates: list[_Date]) -> Clause:
    """Going through the table of images alone takes half the time of going through both."""
    taken = all_of([*of_image, *(date.taken for date in dates)])
    by_image = Clause(f"SELECT id FROM images WHERE {taken.sql}", taken.values)
    if not dates:
        return by_image
    changed = all_of([*(date.changed for date in dates), Clause("taken IS NULL"), *of_image])
    sql = f"{by_image.sql} UNION SELECT image FROM {_FROM_PHOTO} WHERE {changed.sql}"
    return Clause(sql, by_image.values + changed.values)
