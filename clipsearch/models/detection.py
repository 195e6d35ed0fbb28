"""`Detection`: a thing that an open-vocabulary detector or segmenter found in a photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clipsearch.images.box import Box

if TYPE_CHECKING:  # printing results needs the class but not NumPy
    from clipsearch.arrays import Array

_INSIDE = 0.5  # minimum probability of a mask's cells


class Detection(NamedTuple):
    """Where a thing is, and how sure the model is, 0 to 1.

    A segmenter adds `heat` (rows, columns): for each cell of a grid over the photo, the probability that it shows the
    thing. Cells from 0.5 on are the mask, whose mean is `score`.
    """

    box: Box
    score: float
    heat: Array | None = None

    @property
    def area(self) -> float | None:
        """The share of the photo that the mask covers; None without a mask."""
        return None if self.heat is None else float((self.heat >= _INSIDE).mean())

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box as left, top, right and bottom in pixels, for a photo of this size."""
        return self.box.pixels(width, height)


def segment(heat: Array) -> Detection | None:
    """The mask in a segmenter's probabilities (rows, columns); None if it is empty."""
    import numpy as np

    inside = heat >= _INSIDE
    if not inside.any():
        return None
    rows, columns = inside.shape
    ys, xs = (np.flatnonzero(inside.any(axis)).tolist() for axis in (1, 0))
    box = Box(xs[0] / columns, ys[0] / rows, (xs[-1] + 1) / columns, (ys[-1] + 1) / rows)
    return Detection(box, float(heat[inside].mean()), heat)
