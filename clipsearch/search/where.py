"""Where in a photo something is: a heat map, and a box around its hottest part.

Needs no other model: the image tower embeds each part of a photo (`parts`), to compare with a text. The constants were
measured with `scripts/measure_where.py` and mini.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels
from clipsearch.images.box import Box
from clipsearch.images.preprocess import parts_of, visible_part
from clipsearch.images.sandbox import Decoders
from clipsearch.search.embed import Embedder
from clipsearch.search.hit import Where, hottest

if TYPE_CHECKING:
    from clipsearch.images.metadata import Metadata

CELLS = 64  # of a heat map, along the long side

# Standard deviation of the blur, as a fraction of the input. The network sees a thing in all parts around it, and its
# outline better than its inside; with the blur, the hottest point is on it in 95% of drawings instead of 90%.
_BLUR = 0.06
_INSIDE = 0.6  # minimum heat inside the box; this one has the highest IoU with the true box


class View:
    """A photo with its parts embedded, for any number of queries."""

    def __init__(self, embedder: Embedder, pixels: Pixels, width: int, height: int, shown: Box | None = None) -> None:
        """`pixels` is the input that `embedder.for_parts` makes of a photo of `width` x `height`, or of a part `shown`.

        Raises `BadRequest` if the model cannot embed parts.
        """
        self._embedder, self._pixels = embedder, pixels
        self._shown = shown or visible_part(embedder.for_parts, width, height)
        parts = embedder.parts(pixels)
        self._embeddings = parts.embeddings
        rows, columns = (max(1, round(CELLS * side / max(width, height))) for side in (height, width))
        self._down = _weights(rows, self._shown.top, self._shown.bottom, parts.ys)
        self._across = _weights(columns, self._shown.left, self._shown.right, parts.xs)

    def where(self, about: str | Array) -> Where:
        """Locate a text, or what a unit row (dim,) represents."""
        row = self._embedder.texts([about])[0] if isinstance(about, str) else about
        heat = self._down @ (self._embeddings @ row) @ self._across.T
        heat = _from_0_to_1(heat, np.outer(self._down.any(1), self._across.any(1)))
        box = _box(heat)
        cut = _cut(self._pixels, box, self._shown, self._embedder.model.preprocess.size)
        return Where(heat, box, float(self._embedder.prepared(cut) @ row))


class Finder:
    """Locates things in photos, which it decodes in another process."""

    def __init__(self, embedder: Embedder) -> None:
        """Raises `BadRequest` as `View` does."""
        self._embedder, self._decoders = embedder, Decoders(1, embedder.for_parts)

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.close()

    def where(self, about: str | Array, data: bytes) -> tuple[Where, Metadata]:
        """Locate a text or unit row (dim,) in an image file; also returns its metadata. Raises `ImageUnusable`.

        In a panorama, only the whole or the best matching part is searched.
        """
        prepared = self._decoders.decode(data)
        of = prepared.metadata
        row = self._embedder.texts([about])[0] if isinstance(about, str) else about
        places = [None, *parts_of(self._embedder.for_parts, of.width, of.height)]
        best = 0 if len(places) == 1 else int(np.argmax([self._score(one, row) for one in prepared.pixels]))
        return View(self._embedder, prepared.pixels[best], of.width, of.height, places[best]).where(row), of

    def _score(self, pixels: Pixels, row: Array) -> float:
        everything = Box(0, 0, 1, 1)
        cut = _cut(pixels, everything, everything, self._embedder.model.preprocess.size)
        return float(self._embedder.prepared(cut) @ row)


def _weights(cells: int, start: float, end: float, middles: Array) -> Array:
    """The weight of each part, given its middle along the input, for each cell along the photo: (cells, parts).

    The input shows the photo from `start` to `end`. A cell's weights add up to 1, or to 0 outside the input.
    """
    places = ((np.arange(cells) + 0.5) / cells - start) / (end - start)
    blur = max(_BLUR, 0.5 * float(np.diff(middles).max(initial=0)))
    distances = ((places[:, None] - middles) / blur) ** 2
    weights = np.exp(-0.5 * (distances - distances.min(1, keepdims=True)))
    inside = (places >= 0) & (places <= 1)
    out: Array = (weights / weights.sum(1, keepdims=True) * inside[:, None]).astype(np.float32)
    return out


def _from_0_to_1(heat: Array, shown: NDArray[np.bool_]) -> Array:
    """Scale heat so that its median is 0 and its maximum 1; 0 outside the input."""
    inside = heat[shown]
    middle, top = np.median(inside), inside.max()
    out: Array = np.where(shown, ((heat - middle) / max(top - middle, 1e-12)).clip(0, 1), 0).astype(np.float32)
    out[np.unravel_index(np.where(shown, heat, -np.inf).argmax(), heat.shape)] = 1  # also if the heat is uniform
    return out


def _box(heat: Array) -> Box:
    """The bounding box of the hot area that contains the hottest cell."""
    hot = np.pad(heat >= _INSIDE, 1)
    part = np.zeros_like(hot)
    y, x = hottest(heat)
    part[y + 1, x + 1] = True
    grown, before = 1, 0
    while grown != before:
        for axis in (0, 1):
            part |= (np.roll(part, 1, axis) | np.roll(part, -1, axis)) & hot
        before, grown = grown, int(part.sum())
    ys, xs = (np.flatnonzero(part[1:-1, 1:-1].any(axis)) for axis in (1, 0))
    rows, columns = heat.shape
    return Box(xs[0] / columns, ys[0] / rows, (xs[-1] + 1) / columns, (ys[-1] + 1) / rows)


def _cut(pixels: Pixels, box: Box, shown: Box, size: tuple[int, int]) -> Pixels:
    """Crop the box from an input that shows the part `shown` of the photo, scaled to `size` (height, width)."""
    from PIL import Image

    height, width = pixels.shape[:2]
    across, down = width / (shown.right - shown.left), height / (shown.bottom - shown.top)
    edges = (
        max(0.0, (box.left - shown.left) * across),
        max(0.0, (box.top - shown.top) * down),
        min(float(width), (box.right - shown.left) * across),
        min(float(height), (box.bottom - shown.top) * down),
    )
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, edges))
