"""`Detection`: a thing that an open-vocabulary detector found in a photo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from clipsearch.images.box import Box, overlap

_OVERLAP = 0.5  # IoU above which two boxes show the same thing


class Detection(NamedTuple):
    """Where a thing is, and how sure the detector is, 0 to 1."""

    box: Box
    score: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box as left, top, right and bottom in pixels, for a photo of this size."""
        return self.box.pixels(width, height)


def distinct(found: Iterable[Detection]) -> list[Detection]:
    """Detections without those that overlap a better one (non-maximum suppression), best first."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(overlap(one.box, other.box) <= _OVERLAP for other in kept):
            kept.append(one)
    return kept
