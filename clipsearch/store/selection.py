"""Which photos of an index are meant, and the parts that conditions on them are made of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from clipsearch.paths import relative_to
from clipsearch.store.drives import Offline
from clipsearch.store.photo import Root

# Photos with their images. Left to itself, SQLite would go through all photos of a root to find those of a few images.
BY_PHOTO = "photos JOIN images ON images.id = photos.image"
BY_IMAGE = "images CROSS JOIN photos INDEXED BY photos_image ON photos.image = images.id"


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
    """A root, or a folder in it by its path below the root; without the photos on the drives that are offline."""

    root: Root
    below: bytes = b""
    without: frozenset[int] = frozenset()

    def lies_in(self, other: Place) -> bool:
        """Whether all its photos are those of another place too."""
        return self.root == other.root and (not other.below or relative_to(self.below, other.below) is not None)


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


def nanoseconds(moment: datetime) -> int:
    """A moment as the catalogue has the times of files."""
    try:
        return max(-(2**63), min(int(moment.timestamp()) * 10**9, 2**63 - 1))  # as SQLite takes them
    except (OverflowError, ValueError, OSError):  # beyond what the system's clock can say
        return -(2**63) if moment.year < 1970 else 2**63 - 1
