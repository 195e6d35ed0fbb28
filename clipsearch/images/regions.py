"""Face regions: the names and boxes of faces, as photo programs write them into XMP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from clipsearch.images.box import Box
from clipsearch.images.facts import items
from clipsearch.images.metadata import Metadata

_Turn = Callable[[float, float], tuple[float, float]]

# Where a point of the file's pixels is in the upright picture, by EXIF's orientation.
_TURNS: dict[int, _Turn] = {
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
_DECIMALS = 5  # of a fraction: a tenth of a pixel in 10,000
SAME_PLACE = 0.3  # overlap of two boxes of the same face; some programs draw larger ones
_BACK = {6: 8, 8: 6}  # the other orientations are their own inverse


class Region(NamedTuple):
    """A face with a name. `box` has fractions of the file's pixels, which need not be upright.

    `width` and `height` are the size of the picture that the box was drawn on, in pixels; 0 if unknown.
    """

    name: str
    box: Box
    width: int = 0
    height: int = 0

    def as_line(self) -> str:
        """A line of `Facts.regions`."""
        numbers = [round(edge, _DECIMALS) for edge in self.box]
        return json.dumps([self.name, *numbers, self.width, self.height], ensure_ascii=False, separators=(",", ":"))


def regions_in(text: str | None) -> Iterator[Region]:
    """The regions in `Facts.regions`. Raises `ValueError` or `TypeError` for anything else."""
    for line in items(text):
        name, left, top, right, bottom, width, height = json.loads(line)
        yield Region(name, Box(left, top, right, bottom), width, height)


def upright(region: Region, of: Metadata) -> Box:
    """Where a region is in the upright photo."""
    return _turned(region.box, _turn(region.width, region.height, of))


def as_stored(name: str, box: Box, of: Metadata, size: tuple[int, int] | None = None) -> Region:
    """The region of a face, given its box in the upright photo: the inverse of `upright`.

    `size` is that of the picture that other regions in the same document were drawn on, if known.
    """
    if size is None:
        size = (of.height, of.width) if (of.exif_orientation or 1) >= 5 else (of.width, of.height)
    turn = _turn(*size, of)
    return Region(name, _turned(box, _BACK.get(turn, turn)), *size)


def _turn(width: int, height: int, of: Metadata) -> int:
    """The orientation, as in EXIF, to rotate boxes by.

    Boxes refer to the file's pixels, unless the size that they were drawn on is that of the rotated picture.
    """
    turn = of.exif_orientation or 1
    is_rotated = turn >= 5 and of.width != of.height and width > 0
    return 1 if is_rotated and (width > height) == (of.width > of.height) else turn


def clipped(left: float, top: float, width: float, height: float) -> Box | None:
    """Clip a box to the picture; None if it lies outside."""
    edges = [left, top, left + width, top + height]
    if not all(map(math.isfinite, edges)):
        return None
    box = Box(*(round(min(1.0, max(0.0, edge)), _DECIMALS) for edge in edges))
    return box if box.area > 0 else None


def _turned(box: Box, orientation: int) -> Box:
    turn = _TURNS.get(orientation)
    if turn is None:
        return box
    (x, y), (x2, y2) = turn(box.left, box.top), turn(box.right, box.bottom)
    return Box(min(x, x2), min(y, y2), max(x, x2), max(y, y2))
