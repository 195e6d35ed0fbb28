"""From a filter to the photos that pass it, in SQL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from clipsearch.paths import bounds
from clipsearch.store import ocr_text
from clipsearch.store.conditions import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Contains,
    GeoBox,
    HasLine,
    HasText,
    IsMissing,
    Leaf,
    Near,
    Not,
    Within,
    box_of,
    fold_line,
    leaves,
)
from clipsearch.store.database import Database
from clipsearch.store.filters import Filter
from clipsearch.store.images import Images
from clipsearch.store.photo import Root
from clipsearch.store.schema import FACTS
from clipsearch.store.searchable import Searchable
from clipsearch.store.searched import SearchedFolder, searched_folders
from clipsearch.store.selection import BY_PHOTO, Clause, Selection, all_of, any_of, nanoseconds


class _Conditions(NamedTuple):
    """A filter's conditions by the table that has their columns; `of_both` need a join."""

    of_photo: list[Clause]
    of_image: list[Clause]
    of_both: list[Clause]

    def holds(self) -> Clause:
        """True for the photos that pass the filter."""
        return all_of([*self.of_photo, *self.of_image, *self.of_both])


def select(index: Searchable, database: Database, images: Images, where: Filter) -> Selection:
    """The photos that pass a filter, in folders that are online. Raises `NotIndexed`."""
    roots = index.roots()
    searched, offline = searched_folders(index, roots, where.under, where.not_under)
    conditions = _sorted(where.conditions())
    everywhere = searched == [SearchedFolder(root) for root in roots]
    if not everywhere:
        conditions.of_photo.append(_lies_in(searched))
    missing: list[bytes] = []
    if where.files is not None:
        missing = _choose_files(index, database, roots, where.files)
        conditions.of_photo.append(Clause("(photos.root, photos.path) IN (SELECT root, path FROM chosen)"))
    return Selection(
        {folder.root.id: folder.root for folder in searched},
        offline,
        missing,
        conditions.holds(),
        _with_frames(images, _candidates(conditions)),
        everywhere and not any(conditions),
    )


# ------------------------------------------------------------------------------------------ conditions


def _lies_in(folders: list[SearchedFolder]) -> Clause:
    one = "photos.root = ? AND photos.path >= ? AND photos.path < ?"

    def clause(folder: SearchedFolder) -> Clause:
        drives = f" AND photos.drive NOT IN ({', '.join('?' * len(folder.without))})" if folder.without else ""
        others = " AND NOT (photos.path >= ? AND photos.path < ?)" * len(folder.excluded)
        ends = [end for excluded in folder.excluded for end in bounds(excluded)]
        return Clause(one + drives + others, (folder.root.id, *bounds(folder.below), *folder.without, *ends))

    return any_of(map(clause, folders))


def _choose_files(index: Searchable, database: Database, roots: list[Root], files: Iterable[bytes]) -> list[bytes]:
    """Fill a temporary table with the listed photos; returns those that are not indexed."""
    database.execute("DROP TABLE IF EXISTS temp.chosen")
    columns = "root INTEGER, path BLOB, PRIMARY KEY (root, path)"
    database.execute(f"CREATE TEMP TABLE chosen ({columns}) WITHOUT ROWID")
    missing = []
    for file in files:
        place = index.locate(file, roots)
        if place is None:
            missing.append(file)
        else:
            database.execute("INSERT OR IGNORE INTO chosen VALUES (?, ?)", (place[0].id, place[1]))
    return missing


# The SQL of each field; the others are columns of `images`.
_FIELDS = {
    "size": "size",
    "path": "CAST(lower(CAST(photos.path AS TEXT)) AS BLOB)",
    "orientation": "CASE WHEN width > height THEN 'landscape' WHEN width < height THEN 'portrait' ELSE 'square' END",
}
_PHOTO_FIELDS = {"size", "path", "type", "date", "named", *FACTS}


def _sorted(conditions: Iterable[Condition]) -> _Conditions:
    """The SQL of conditions, by table."""
    out = _Conditions([], [], [])
    for condition in conditions:
        every = condition.conditions if isinstance(condition, AllOf) else (condition,)
        for one in every:
            tables = set(map(_table_of, leaves(one)))
            {"photos": out.of_photo, "images": out.of_image}.get(
                tables.pop() if len(tables) == 1 else "both", out.of_both
            ).append(_clause(one))
    return out


def _table_of(leaf: Leaf) -> str:
    if isinstance(leaf, HasText):
        return "images"
    return "photos" if isinstance(leaf, Near | Within) or leaf.field in _PHOTO_FIELDS else "images"


def _clause(condition: Condition) -> Clause:  # noqa: PLR0911, PLR0912  # a return for each kind
    match condition:
        case AllOf(conditions):
            return all_of(map(_clause, conditions))
        case AnyOf(conditions):
            return any_of(map(_clause, conditions))
        case Not(inner):
            clause = _clause(inner)
            return Clause(f"({clause.sql}) IS NOT TRUE", clause.values)
        case HasLine(field, line):
            return Clause(f"photos.{field} IS NOT NULL AND has_line(photos.{field}, ?)", (fold_line(line),))
        case IsMissing(field):
            return Clause(f"{field} IS NULL")
        case HasText(text):
            return all_of(Clause(sql, (value,)) for sql, value in ocr_text.conditions(text))
        case Near(circle):
            return all_of([*_in_box(box_of(circle)), Clause("km(latitude, longitude, ?, ?) <= ?", tuple(circle))])
        case Within(box):
            return all_of(_in_box(box))
        case Contains("path", text):
            return Clause(f"instr({_FIELDS['path']}, ?)", (os.fsencode(text),))
        case Contains(field, text):
            return Clause(f"instr(lower({field}), lower(?))", (text,))
        case Compare("type", _, suffix):
            return Clause("CAST(photos.path AS TEXT) LIKE ?", (f"%{suffix}",))
        case Compare("date", operator, moment):
            sql = f"CASE WHEN taken IS NULL THEN mtime_ns {operator} ? ELSE taken {operator} ? END"
            return Clause(sql, (nanoseconds(moment), moment.isoformat(timespec="seconds")))
        case Compare(field, operator, value):
            return Clause(f"{_FIELDS.get(field, field)} {operator} ?", (value,))
    raise TypeError(condition)


def _in_box(box: GeoBox) -> list[Clause]:
    sql = "longitude BETWEEN ? AND ?" if box.west <= box.east else "longitude >= ? OR longitude <= ?"
    return [Clause("latitude BETWEEN ? AND ?", (box.south, box.north)), Clause(sql, (box.west, box.east))]


def _candidates(conditions: _Conditions) -> Clause:
    """Reading one table takes half the time of joining both."""
    holds = conditions.holds()
    if conditions.of_both or (conditions.of_photo and conditions.of_image):
        return Clause(f"SELECT DISTINCT image FROM {BY_PHOTO} WHERE {holds.sql}", holds.values)
    if conditions.of_photo:
        return Clause(f"SELECT DISTINCT image FROM photos WHERE image IS NOT NULL AND {holds.sql}", holds.values)
    return Clause(f"SELECT id FROM images WHERE {holds.sql}", holds.values)


def _with_frames(images: Images, candidates: Clause) -> Clause:
    """Add all frames of videos and parts of photos, if there are any."""
    if not images.has_frames():
        return candidates
    images.check_frames()
    frames = "SELECT image FROM frames WHERE whole IN (SELECT id FROM chosen_images)"
    sql = f"WITH chosen_images (id) AS ({candidates.sql}) SELECT id FROM chosen_images UNION {frames}"
    return Clause(sql, candidates.values)
