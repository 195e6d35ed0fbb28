"""What a query is made of."""

from __future__ import annotations

from typing import NamedTuple

from clipsearch.arrays import Array


class Term(NamedTuple):
    """One part of a query: a text, the bytes of an image and its name for messages, or a unit row (dim,).

    A negative weight leads away.
    """

    content: str | bytes | Array
    weight: float = 1.0
    name: str = ""

    @property
    def asks_for_text(self) -> bool:
        """Whether it is a text that photos are to show, so that there is a confidence that they do."""
        return isinstance(self.content, str) and self.weight > 0
