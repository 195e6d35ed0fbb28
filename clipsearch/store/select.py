"""From a filter to the photos that pass it: the places to search, and the SQL that chooses in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store import texts
from clipsearch.store.drives import Offline, why_unreadable
from clipsearch.store.filters import EVERYTHING, Circle, Filter, words_of
from clipsearch.store.photo import Root
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import (
    BY_PHOTO,
    Box,
    Clause,
    Place,
    Selection,
    all_of,
    any_of,
    bounds,
    box_of,
    nanoseconds,
)
from clipsearch.store.tables import Tables

_FROM_PHOTO = "photos CROSS JOIN images ON images.id = photos.image"


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


def select(store: Tables, where: Filter = EVERYTHING) -> Selection:
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


def searched_places(
    store: Searchable, roots: list[Root], under: Sequence[str]
) -> tuple[list[Place], dict[Root, Offline]]:
    """Where photos are looked for, in all roots or in some folders, and what of it cannot be. Raises `NotIndexed`."""
    chosen = {place for folder in under for place in _places_in(store, roots, folder)}
    outermost = [one for one in chosen if not any(one != other and one.lies_in(other) for other in chosen)]
    places = sorted(outermost, key=lambda place: (place.root.path, place.below))
    return _without_offline(store, places if under else [Place(root) for root in roots])


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
    searched: list[Place] = []
    offline: dict[Root, Offline] = {}
    for place in places:
        root, below, _ = place
        folder = join(root.path, below) if below else root.path
        presence = store.presence(root)
        if presence.whole or (below and why_unreadable(folder) is Offline.UNREADABLE):
            offline[root._replace(path=folder)] = presence.whole or Offline.UNREADABLE
            continue
        drives = store.drives_below(root, below) if presence.away else set()
        away = [one for one in presence.away if one.drives & drives]
        without = frozenset[int]().union(*(one.drives for one in away))
        for one in away:
            inside = relative_to(one.place, folder) is not None
            offline[root._replace(path=one.place if inside else folder)] = one.why
        if not drives or drives - without:
            searched.append(place._replace(without=without))
    return searched, offline


# ------------------------------------------------------------------------------------------ conditions


def _lies_in(places: list[Place]) -> Clause:
    one = "photos.root = ? AND photos.path >= ? AND photos.path < ?"

    def clause(place: Place) -> Clause:
        values = (place.root.id, *bounds(place.below), *place.without)
        drives = f" AND photos.drive NOT IN ({', '.join('?' * len(place.without))})" if place.without else ""
        return Clause(one + drives, values)

    return any_of(map(clause, places))


def _choose_files(store: Tables, roots: list[Root], files: Iterable[bytes]) -> list[bytes]:
    """Fill a table with the listed photos, which SQLite looks up in no time; returns those that are not indexed."""
    store.database.execute("DROP TABLE IF EXISTS temp.chosen")
    columns = "root INTEGER, path BLOB, PRIMARY KEY (root, path)"
    store.database.execute(f"CREATE TEMP TABLE chosen ({columns}) WITHOUT ROWID")
    missing = []
    for file in files:
        place = store.locate(file, roots)
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


def _candidates(conditions: _Conditions) -> Clause:
    of_photo, of_image, dates = conditions
    if not of_photo:
        return _candidates_by_image(of_image, dates)
    holds = all_of([*of_photo, *of_image, *(date.of_both for date in dates)])
    if of_image or dates:
        return Clause(f"SELECT DISTINCT image FROM {BY_PHOTO} WHERE {holds.sql}", holds.values)
    return Clause(f"SELECT DISTINCT image FROM photos WHERE image IS NOT NULL AND {holds.sql}", holds.values)


def _with_frames(store: Tables, candidates: Clause) -> Clause:
    """The same and, where there are videos, all their frames."""
    if not store.has_frames():
        return candidates
    store.check_frames()
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
