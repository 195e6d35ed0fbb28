"""A part of a picture."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A part of an upright picture, as fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Its share of the picture."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in a picture of this size."""
        left, right = (round(edge * width) for edge in (self.left, self.right))
        top, bottom = (round(edge * height) for edge in (self.top, self.bottom))
        return left, top, right, bottom


def overlap(one: Box, other: Box) -> float:
    """The intersection of two boxes divided by their union (IoU)."""
    both = Box(
        max(one.left, other.left), max(one.top, other.top), min(one.right, other.right), min(one.bottom, other.bottom)
    ).area
    either = one.area + other.area - both
    return both / either if either > 0 else 0.0
