"""A part of a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar


class Box(NamedTuple):
    """A part of an upright picture, as fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """The share of the picture."""
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


class _Scored(Protocol):
    @property
    def box(self) -> Box: ...
    @property
    def score(self) -> float: ...


Scored = TypeVar("Scored", bound=_Scored)


def distinct(found: Iterable[Scored], most: float = 0.5) -> list[Scored]:
    """Non-maximum suppression: drop what overlaps something with a higher score by more than `most`. Best first."""
    kept: list[Scored] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(overlap(one.box, other.box) <= most for other in kept):
            kept.append(one)
    return kept
