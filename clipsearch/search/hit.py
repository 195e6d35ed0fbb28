"""A search result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Box
from clipsearch.store.photo import Photo

if TYPE_CHECKING:
    from clipsearch.store.photo import Line

__all__ = ["Hit", "Photo", "Where", "hottest"]


class Where(NamedTuple):
    """Where in an upright photo something is.

    `heat` (rows, columns) is 1 at the hottest place and 0 where a place is no hotter than most; its cells are square.
    `box` is around what is hot and joined to the hottest place. `score` is the cosine between what was asked for and
    the box, cut out: as a query has it, and usually higher than that of the whole photo when the thing is there.
    """

    heat: Array
    box: Box
    score: float

    @property
    def point(self) -> tuple[float, float]:
        """The hottest place, (x, y) in shares of the photo's width and height."""
        y, x = hottest(self.heat)
        return (x + 0.5) / self.heat.shape[1], (y + 0.5) / self.heat.shape[0]

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box as left, top, right and bottom in a photo of this size."""
        return self.box.pixels(width, height)


class Hit(NamedTuple):
    """A photo that was found.

    `score` is the cosine between its embedding and the query's, -1 to 1, or None without a query. `confidence` is the
    probability, 0 to 1, that it shows the query's texts, if that was asked for. `similar` are the photos folded into
    this one, `same_file` other paths of its file. `where` is the part that the query is about, and `lines` the lines of
    text that matched, if they were asked for.
    """

    rank: int
    score: float | None
    photo: Photo
    confidence: float | None = None
    similar: tuple[Photo, ...] = ()
    same_file: tuple[bytes, ...] = ()
    where: Where | None = None
    lines: tuple[Line, ...] | None = None

    @property
    def path(self) -> Path:
        """Absolute path; bytes that are not text are surrogates, as in Python's own file names."""
        return Path(os.fsdecode(self.photo.file))

    @property
    def metadata(self) -> Metadata:
        """Size in pixels, time, camera and place."""
        return self.photo.metadata


def hottest(heat: Array) -> tuple[int, int]:
    """The row and column of the largest value."""
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(y), int(x)
