"""`Hit`, a search result; `Where` and `Found`, the parts of a photo that match."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.images.box import Box
from clipsearch.images.metadata import Metadata
from clipsearch.search.reason import GENERATED_CAPTION, LOOK, NAME, Reason
from clipsearch.store.photo import Line, Photo

if TYPE_CHECKING:
    from clipsearch.models.detection import Detection
    from clipsearch.models.generated_text import Answer

__all__ = ["Found", "Hit", "Line", "Photo", "Reason", "Where", "hottest"]


class Where(NamedTuple):
    """The part of an upright photo that matches a query.

    `heat` (rows, columns) is a heat map with square cells, from 0 (the median or less) to 1 (the maximum). `box`
    encloses the hot region around the maximum. `score` is the cosine between the query and the cropped box; if the
    photo shows the thing, it is usually higher than that of the whole photo.
    """

    heat: Array
    box: Box
    score: float

    @property
    def point(self) -> tuple[float, float]:
        """The maximum of the heat map, as (x, y) in fractions of the photo's width and height."""
        y, x = hottest(self.heat)
        return (x + 0.5) / self.heat.shape[1], (y + 0.5) / self.heat.shape[0]

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box as left, top, right and bottom in pixels, for a photo of this size."""
        return self.box.pixels(width, height)


class Found(NamedTuple):
    """A result for a text and a photo, whose upright size is in pixels: the best part, or one that a detector found."""

    path: bytes
    text: str
    width: int
    height: int
    there: Where | Detection


class Hit(NamedTuple):
    """A search result.

    `score` is the cosine between the photo and the query, -1 to 1, or None without terms. `confidence` is the
    probability, 0 to 1, that the photo shows the texts of the query. `similar` has the photos that `unique` grouped
    with this one, `same_file` the other paths of its file. `where` is the part that matches, `detections` what a
    detector or segmenter found, `lines` the matching OCR lines. `confidence` and these three are None unless requested.
    `image_id` is the image that has the score, such as a part of a panorama. `why` says why it matches; the rank
    depends on all of that, the score only on the look. `answer` is that of a vision-language model, if one was asked.
    """

    rank: int
    score: float | None
    photo: Photo
    confidence: float | None = None
    similar: tuple[Photo, ...] = ()
    same_file: tuple[bytes, ...] = ()
    where: Where | None = None
    lines: tuple[Line, ...] | None = None
    image_id: int | None = None
    why: tuple[Reason, ...] = ()
    answer: Answer | None = None
    detections: tuple[Found, ...] | None = None

    @property
    def marks(self) -> list[Where | Detection]:
        """The parts to mark in a picture of the photo."""
        return [self.where] if self.where else [found.there for found in self.detections or ()]

    @property
    def key(self) -> tuple[bytes, float | None]:
        """Its file and, for a frame of a video, the time."""
        return self.photo.file, self.photo.time

    @property
    def is_literal(self) -> bool:
        """Whether the words of the query are in its text or tags, not only in its path or in what a model wrote."""
        return any(reason.kind not in (LOOK, NAME, GENERATED_CAPTION) for reason in self.why)

    @property
    def path(self) -> Path:
        """The absolute path, decoded with `os.fsdecode`."""
        return self.photo.path

    @property
    def metadata(self) -> Metadata:
        """Size in pixels, date, camera and location."""
        return self.photo.metadata


def hottest(heat: Array) -> tuple[int, int]:
    """The row and column of the largest value."""
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(y), int(x)
