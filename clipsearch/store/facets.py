"""Facets: the values of each filter that photos have, with the number of photos that each value passes."""

from __future__ import annotations

import functools
import os
from collections import Counter
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.paths import join, relative_to
from clipsearch.store.conditions import Circle
from clipsearch.store.filters import FILTERS, Facet
from clipsearch.store.searchable import Searchable

_COLUMNS = tuple(dict.fromkeys(column for entry in FILTERS if entry.facet for column in entry.facet.columns))
_STORED = ("root", "path", "latitude", "longitude", *(column for column in _COLUMNS if column != "suffix"))
_AT_ONCE = 10_000  # photos in memory
_EARTH_KM = 6371.0


class Folder(NamedTuple):
    """A folder: its absolute path, the photos in it and below, and the folders directly in it."""

    path: bytes
    photos: int
    folders: tuple[bytes, ...]


class Facets(NamedTuple):
    """What all online photos have.

    `values`: by the option of a filter, its values with the number of photos that each passes, most first. `folders`
    are by absolute path; `roots` are the indexed ones. `months`: photos per month, "2023-06", by the date that filters
    use. `positions`: (n, 2) degrees, latitude and longitude, sorted.
    """

    values: dict[str, dict[str, int]]
    roots: tuple[bytes, ...]
    folders: dict[bytes, Folder]
    months: dict[str, int]
    positions: NDArray[np.float64]

    def folders_in(self, parent: bytes | None = None) -> list[Folder]:
        """The folders directly in a folder, or the indexed ones, by path."""
        paths = self.roots if parent is None else self.folders[parent].folders if parent in self.folders else ()
        return [self.folders[path] for path in paths if path in self.folders]

    def photos_near(self, circle: Circle) -> int:
        """The number of photos that were taken in a circle."""
        latitudes = self.positions[:, 0]
        height = np.degrees(circle.km / _EARTH_KM) + 1e-6
        first, last = np.searchsorted(latitudes, [circle.latitude - height, circle.latitude + height])
        a, b = np.radians(self.positions[first:last]).T
        c, d = np.radians(circle[:2])
        chord = np.sin((a - c) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((b - d) / 2) ** 2
        return int(np.count_nonzero(2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(1, chord))) <= circle.km))


def facets_of(index: Searchable) -> Facets:
    """The facets of an index."""
    chosen = index.select()
    combinations = {entry.option: Counter[tuple[object, ...]]() for entry in FILTERS if entry.facet}
    folders: Counter[tuple[int, bytes]] = Counter()
    positions = [np.empty((0, 2))]
    rows = iter(index.columns(chosen, _STORED))
    while part := list(islice(rows, _AT_ONCE)):
        columns = dict(zip(_STORED, zip(*part, strict=True), strict=True))
        columns["suffix"] = tuple(map(_suffix, columns["path"]))
        folders.update(zip(columns["root"], map(_folder, columns["path"]), strict=True))
        places = [place for place in map(itemgetter(2, 3), part) if None not in place]
        positions.append(np.array(places, np.float64).reshape(-1, 2))
        for entry in FILTERS:
            if entry.facet:
                combinations[entry.option].update(
                    zip(*(columns[column] for column in entry.facet.columns), strict=True)
                )
    values = {entry.option: _count(entry.facet, combinations[entry.option]) for entry in FILTERS if entry.facet}
    months: Counter[str] = Counter()
    for found in index.months(chosen):
        months.update(found)
    roots = {root.id: root.path for root in chosen.roots.values()}
    return Facets(
        values,
        tuple(sorted(roots.values())),
        _tree(folders, roots),
        dict(sorted(months.items())),
        _sorted(np.concatenate(positions)),
    )


def _sorted(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return positions[np.lexsort(positions.T[::-1])]


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _suffix(path: bytes) -> str:
    return path.rpartition(b".")[2].decode("ascii", "replace").lower()


def _count(facet: Facet, combinations: Counter[tuple[object, ...]]) -> dict[str, int]:
    """The number of photos that each value passes. Of several spellings of a value, the most frequent one stands."""
    fold = functools.cache(facet.folds)
    photos: Counter[str] = Counter()
    spellings: Counter[tuple[str, str]] = Counter()
    for columns, count in combinations.items():
        found = {fold(value): value for value in facet.values(*columns)}
        for key, value in found.items():
            photos[key] += count
            spellings[key, value] += count
    if facet.within:
        photos = Counter({key: sum(n for other, n in photos.items() if key in other) for key in photos})
    best = dict(key_and_value for key_and_value, _ in sorted(spellings.items(), key=lambda item: (item[1], item[0])))
    named = {best[key]: count for key, count in photos.items()}
    return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


def _tree(folders: Counter[tuple[int, bytes]], roots: dict[int, bytes]) -> dict[bytes, Folder]:
    """The folders of photos and those around them, up to the roots, by absolute path."""
    photos: Counter[bytes] = Counter()
    inside: dict[bytes, set[bytes]] = {}
    for (root, below), count in folders.items():
        folder, child = join(roots[root], below) if below else roots[root], None
        while folder != child and any(relative_to(folder, path) is not None for path in roots.values()):
            photos[folder] += count
            inside.setdefault(folder, set())
            if child is not None:
                inside[folder].add(child)
            folder, child = os.path.dirname(folder), folder
    return {path: Folder(path, count, tuple(sorted(inside[path]))) for path, count in photos.items()}
