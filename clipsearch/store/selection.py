"""Some photos of an index, and the clauses that choose them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from clipsearch.store.drives import Offline
from clipsearch.store.photo import Root

# Photos joined to their images. For a few images, SQLite must be told not to read all photos of a root.
BY_PHOTO = "photos JOIN images ON images.id = photos.image"
BY_IMAGE = "images CROSS JOIN photos INDEXED BY photos_image ON photos.image = images.id"


class Clause(NamedTuple):
    """A condition in SQL with its values."""

    sql: str
    values: tuple[Any, ...] = ()


class Selection(NamedTuple):
    """Some photos of an index.

    `roots` are the searched roots by id; `offline` the roots, or parts of roots, that are not searched because they are
    offline; `missing` the listed files that are not indexed. `holds` is true for the photos; `candidates` is a query
    for the ids of their images, and maybe of others. `everything`: no photo is left out. Clauses are in the language
    of the store: SQL, or an expression of a Milvus collection.
    """

    roots: dict[int, Root]
    offline: dict[Root, Offline]
    missing: list[bytes]
    holds: Clause
    candidates: Clause
    everything: bool


def all_of(clauses: Iterable[Clause]) -> Clause:
    """True if every clause is."""
    every = list(clauses)
    return Clause(" AND ".join(f"({c.sql})" for c in every) or "1", tuple(v for c in every for v in c.values))


def any_of(clauses: Iterable[Clause]) -> Clause:
    """True if a clause is."""
    every = list(clauses)
    return Clause(" OR ".join(f"({c.sql})" for c in every) or "0", tuple(v for c in every for v in c.values))


def nanoseconds(moment: datetime) -> int:
    """A moment as the catalogue has file times."""
    try:
        return max(-(2**63), min(int(moment.timestamp()) * 10**9, 2**63 - 1))  # SQLite's range
    except (OverflowError, ValueError, OSError):  # outside the range of the system's clock
        return -(2**63) if moment.year < 1970 else 2**63 - 1
