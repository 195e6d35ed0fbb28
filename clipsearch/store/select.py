"""From a filter to the photos that pass it: the places to search, and the SQL that chooses in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store import texts
from clipsearch.store.conditions import (
    AllOf,
    AnyOf,
    Box,
    Compare,
    Condition,
    Contains,
    HasKeyword,
    HasText,
    Leaf,
    Near,
    box_of,
    leaves,
)
from clipsearch.store.drives import Offline, why_unreadable
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Root
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import (
    BY_PHOTO,
    Clause,
    Place,
    Selection,
    all_of,
    any_of,
    bounds,
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
    """A filter's conditions by the table that has their columns. Dates need both: the file's time is a fallback."""

    of_photo: list[Clause]
    of_image: list[Clause]
    dates: list[_Date]
    of_both: list[Clause]

    def holds(self) -> Clause:
        """True for the photos that pass the filter."""
        return all_of([*self.of_photo, *self.of_image, *self.of_both, *(date.of_both for date in self.dates)])


def select(store: Tables, where: Filter = EVERYTHING) -> Selection:
    """The photos that pass a filter, in folders that are online.

    Raises `NotIndexed` if nothing below `where.under` is indexed, `BadRequest` for `where.reads` before any OCR.
    """
    if where.reads and not texts.is_read(store):
        raise BadRequest("no text has been read yet. Run: clipsearch index --ocr")
    roots = store.roots()
    searched, offline = searched_places(store, roots, where.under)
    conditions = _sorted(where.conditions())
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
        conditions.holds(),
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


# The SQL of each field; others are columns of `images`. What is read from a photo was folded when it was indexed.
_FIELDS = {
    "size": "size",
    "path": "CAST(lower(CAST(photos.path AS TEXT)) AS BLOB)",
    "camera": "lower(camera)",
    "orientation": "CASE WHEN width > height THEN 'landscape' WHEN width < height THEN 'portrait' ELSE 'square' END",
}
_PHOTO_FIELDS = {"size", "path", "type"}


def _sorted(conditions: Iterable[Condition]) -> _Conditions:
    """The SQL of conditions, by table."""
    out = _Conditions([], [], [], [])
    for condition in conditions:
        every = condition.conditions if isinstance(condition, AllOf) else (condition,)
        for one in every:
            tables = set(map(_table_of, leaves(one)))
            if isinstance(one, Compare) and one.field == "date":
                out.dates.append(_date(one))
            elif tables == {"photos"}:
                out.of_photo.append(_clause(one))
            elif tables == {"images"}:
                out.of_image.append(_clause(one))
            else:
                out.of_both.append(_clause(one))
    return out


def _table_of(leaf: Leaf) -> str:
    if isinstance(leaf, HasKeyword):
        return "photos"
    if isinstance(leaf, Compare | Contains):
        return "photos" if leaf.field in _PHOTO_FIELDS else "both" if leaf.field == "date" else "images"
    return "images"


def _clause(condition: Condition) -> Clause:  # noqa: PLR0911  # a return for each kind
    match condition:
        case AllOf(conditions):
            return all_of(map(_clause, conditions))
        case AnyOf(conditions):
            return any_of(map(_clause, conditions))
        case HasKeyword(keyword):
            return Clause("has_keyword(photos.keywords, ?)", (keyword.casefold(),))
        case HasText(text):
            return all_of(Clause(sql, (value,)) for sql, value in texts.conditions(text))
        case Near(circle):
            return all_of([*_in_box(box_of(circle)), Clause("km(latitude, longitude, ?, ?) <= ?", tuple(circle))])
        case Contains("path", text):
            return Clause(f"instr({_FIELDS['path']}, ?)", (os.fsencode(text),))
        case Contains(field, text):
            return Clause(f"instr({_FIELDS.get(field, field)}, lower(?))", (text,))
        case Compare("type", _, suffix):
            return Clause("CAST(photos.path AS TEXT) LIKE ?", (f"%{suffix}",))
        case Compare("date"):
            return _date(condition).of_both
        case Compare(field, operator, value):
            return Clause(f"{_FIELDS.get(field, field)} {operator} ?", (value,))
    raise TypeError(condition)


def _in_box(box: Box) -> list[Clause]:
    clauses = [Clause("latitude BETWEEN ? AND ?", (box.south, box.north))]
    if box.west is None or box.east is None:
        return clauses
    sql = "longitude BETWEEN ? AND ?" if box.west <= box.east else "longitude >= ? OR longitude <= ?"
    return [*clauses, Clause(sql, (box.west, box.east))]


def _date(condition: Compare) -> _Date:
    _, operator, moment = condition
    taken = Clause(f"taken {operator} ?", (moment.isoformat(timespec="seconds"),))
    return _Date(taken, Clause(f"mtime_ns {operator} ?", (nanoseconds(moment),)))


def _candidates(conditions: _Conditions) -> Clause:
    of_photo, of_image, dates, of_both = conditions
    if not of_photo and not of_both:
        return _candidates_by_image(of_image, dates)
    holds = conditions.holds()
    if of_image or dates or of_both:
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
