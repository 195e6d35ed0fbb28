"""Photos with a place as clusters on a map in the Mercator projection."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import BadRequest
from clipsearch.store.conditions import Box
from clipsearch.store.positions import Positions

__all__ = ["Box", "Cluster", "Positions", "bounds", "clusters"]

MAX_COLUMNS = 1 << 24  # cells of 2.4 m at the equator
MAX_CELLS = 4096  # in one answer
_EDGE = 85.0511  # degrees north and south where the map is a square; what lies beyond is drawn at the edge


class Cluster(NamedTuple):
    """The photos in one cell: their number, mean position, bounding box, and the image of the one nearest the mean."""

    count: int
    latitude: float
    longitude: float
    box: Box
    image: int


def clusters(positions: Positions, box: Box, columns: int) -> list[Cluster]:
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


def bounds(positions: Positions) -> Box | None:
    """The smallest box around all photos, maybe across the antimeridian; None without any."""
    longitudes = np.unique(positions.longitudes)
    if not len(longitudes):
        return None
    widest = int(np.argmax(np.diff(longitudes, append=longitudes[0] + 360)))  # the gap that the box leaves out
    west, east = longitudes[(widest + 1) % len(longitudes)], longitudes[widest]
    return Box(float(positions.latitudes.min()), float(west), float(positions.latitudes.max()), float(east))


def _cell(latitudes: NDArray[Any], longitudes: NDArray[Any], columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The column and row of positions, from the antimeridian and from the north."""
    x = longitudes / 360 + 0.5
    y = 0.5 - np.arctanh(np.sin(np.radians(np.clip(latitudes, -_EDGE, _EDGE)))) / (2 * np.pi)
    first, last = 0, columns - 1
    return np.clip(np.int64(x * columns), first, last), np.clip(np.int64(y * columns), first, last)


def _grouped(positions: Positions, cell: NDArray[Any]) -> list[Cluster]:
    if not len(cell):
        return []
    order = np.argsort(cell, kind="stable")
    images, latitudes, longitudes = (values[order] for values in positions)
    _, starts, counts = np.unique(cell[order], return_index=True, return_counts=True)
    north, east = np.add.reduceat(latitudes, starts) / counts, np.add.reduceat(longitudes, starts) / counts
    away = np.hypot(latitudes - np.repeat(north, counts), longitudes - np.repeat(east, counts))
    nearest = np.lexsort((away, np.repeat(np.arange(len(starts)), counts)))[starts]
    edges = [
        at.reduceat(degrees, starts) for at in (np.minimum, np.maximum) for degrees in (latitudes, longitudes)
    ]  # south, west, north, east
    found = [
        Cluster(int(counts[n]), float(north[n]), float(east[n]), Box(*(float(edge[n]) for edge in edges)), int(image))
        for n, image in enumerate(images[nearest])
    ]
    return sorted(found, key=lambda cluster: -cluster.count)
