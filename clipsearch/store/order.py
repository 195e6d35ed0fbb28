"""The orders in which photos can be listed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from clipsearch.errors import BadArgument

if TYPE_CHECKING:
    from clipsearch.store.photo import Photo

T = TypeVar("T")

BY_SCORE = "score"
ORDERS = ("date", "name", "path", "size")

_NUMBERS = re.compile("0*([0-9]+)")


class Order(NamedTuple):
    """By date, name, path or size, ascending or descending. Ties are broken by path, ascending.

    Photos without a date come after all others, by the date of their file. Names are compared as file managers do: in
    any case, and numbers by value. Paths are compared bytewise.
    """

    field: str
    descending: bool = False

    def sorted(self, things: Iterable[T], photo_of: Callable[[T], Photo]) -> list[T]:
        """Things in the order of their photos; frames of one video by time."""
        by_path = sorted(things, key=lambda one: (photo_of(one).file, photo_of(one).time or 0.0))
        in_order = sorted(by_path, key=lambda one: self._key(photo_of(one)), reverse=self.descending)
        if self.field == "date":
            in_order.sort(key=lambda one: photo_of(one).metadata.taken is None)
        return in_order

    def _key(self, photo: Photo) -> Any:
        if self.field == "name":
            return natural_name(photo.file)
        return {"date": photo.date, "path": photo.file, "size": photo.size}[self.field]


NEWEST = Order("date", descending=True)


def parse_order(text: Any) -> Order | None:
    """`date`, `-date` and so on; None for `score`. Raises `BadArgument`."""
    if text == BY_SCORE:
        return None
    field = text.removeprefix("-") if isinstance(text, str) else text
    if field not in ORDERS:
        orders = f"{BY_SCORE}, {', '.join(ORDERS[:-1])} or {ORDERS[-1]}"
        raise BadArgument("sort", f"must be {orders}, or reversed like -date, not {text!r}")
    return Order(field, descending=field != text)


def natural_name(path: Any) -> bytes:
    """A key for the name of a file, so that `IMG_2.jpg` comes before `img_10.jpg`. Empty if `path` is damaged."""
    if not isinstance(path, bytes):
        return b""
    parts = _NUMBERS.split(path.rpartition(b"/")[2].decode("utf-8", "surrogateescape").casefold())
    parts[1::2] = [f"{len(digits):03}{digits}" for digits in parts[1::2]]
    return "".join(parts).encode("utf-8", "surrogateescape")
