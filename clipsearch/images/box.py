"""A part of a picture."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A part of an upright picture, as fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in a picture of this size."""
        left, right = (round(edge * width) for edge in (self.left, self.right))
        top, bottom = (round(edge * height) for edge in (self.top, self.bottom))
        return left, top, right, bottom
