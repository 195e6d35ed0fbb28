"""Photos with a place as clusters on a map in the Mercator projection."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import BadRequest
from clipsearch.store.conditions import GeoBox
from clipsearch.store.photo import Positions

__all__ = ["Cluster", "GeoBox", "Positions", "bounds", "clusters"]  # `web` must not import the store

MAX_COLUMNS = 1 << 24  # cells of 2.4 m at the equator
MAX_CELLS = 4096  # in one answer
_EDGE = 85.0511  # degrees north and south where the map is a square; what lies beyond is drawn at the edge


class Cluster(NamedTuple):
    """The photos in one cell: their number, their median latitude and longitude, their bounding box, and the image of
    the photo nearest the medians, which are where most photos are; a mean would be between two cities.
    """

    photos: int
    latitude: float
    longitude: float
    box: GeoBox
    image: int


def clusters(positions: Positions, box: GeoBox, columns: int) -> list[Cluster]:
    """The photos in the cells of a grid that touch a box, largest cluster first.

    `columns` cells go around the earth, as many rows from one edge of the map to the other. Each photo is in one cell,
    so the boxes of clusters do not overlap. Raises `BadRequest` for too fine a grid.
    """
    if not 1 <= columns <= MAX_COLUMNS:
        raise BadRequest(f"columns must be 1 to {MAX_COLUMNS}")
    column, row = _cell(positions.latitudes, positions.longitudes, columns)
    (west, east), (south, north) = _cell(np.array([box.south, box.north]), np.array([box.west, box.east]), columns)
    width = east - west + 1 + (columns if box.west > box.east else 0)
    if min(width, columns) * (south - north + 1) > MAX_CELLS:
        raise BadRequest("the box is too large for so many columns")
    inside = (row >= north) & (row <= south) & ((column - west) % columns < width)
    chosen = Positions(*(values[inside] for values in positions))
    return _grouped(chosen, (row * columns + column)[inside])


def bounds(positions: Positions) -> GeoBox | None:
    """The smallest box around all photos, maybe across the antimeridian; None without any."""
    longitudes = np.unique(positions.longitudes)
    if not len(longitudes):
        return None
    widest = int(np.argmax(np.diff(longitudes, append=longitudes[0] + 360)))  # the gap that the box leaves out
    west, east = longitudes[(widest + 1) % len(longitudes)], longitudes[widest]
    return GeoBox(float(positions.latitudes.min()), float(west), float(positions.latitudes.max()), float(east))


def _cell(latitudes: NDArray[Any], longitudes: NDArray[Any], columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The column and row of positions, from the antimeridian and from the north."""
    x = longitudes / 360 + 0.5
    y = 0.5 - np.arctanh(np.sin(np.radians(np.clip(latitudes, -_EDGE, _EDGE)))) / (2 * np.pi)
    first, last = 0, columns - 1
    column, row = (np.floor(at * columns).astype(np.int64) for at in (x, y))
    return np.clip(column, first, last), np.clip(row, first, last)


def _grouped(positions: Positions, cell: NDArray[Any]) -> list[Cluster]:
    if not len(cell):
        return []
    from_south, from_west = (np.lexsort((degrees, cell)) for degrees in positions[1:])
    _, starts, counts = np.unique(cell[from_south], return_index=True, return_counts=True)
    middle, last = starts + counts // 2, starts + counts - 1
    images, latitudes, longitudes = (values[from_south] for values in positions)
    sorted_longitudes = positions.longitudes[from_west]
    north, east = latitudes[middle], sorted_longitudes[middle]
    away = np.hypot(latitudes - np.repeat(north, counts), longitudes - np.repeat(east, counts))
    closest = np.flatnonzero(away == np.repeat(np.minimum.reduceat(away, starts), counts))
    image = images[closest[np.searchsorted(closest, starts)]]
    edges = latitudes[starts], sorted_longitudes[starts], latitudes[last], sorted_longitudes[last]
    columns = (values.tolist() for values in (counts, north, east, image, *edges))
    found = [
        Cluster(photos, latitude, longitude, GeoBox(*box), one)
        for photos, latitude, longitude, one, *box in zip(*columns, strict=True)
    ]
    return sorted(found, key=lambda cluster: -cluster.photos)
