"""From a filter to the expression of Milvus that chooses its photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from clipsearch.cluster.collection_rows import escaped
from clipsearch.cluster.milvus import quoted
from clipsearch.errors import BadRequest
from clipsearch.store.conditions import (
    AllOf,
    AnyOf,
    Box,
    Compare,
    Condition,
    Contains,
    HasKeyword,
    HasText,
    Near,
    box_of,
)
from clipsearch.store.filters import lower_ascii
from clipsearch.store.searched import SearchedFolder
from clipsearch.store.selection import nanoseconds

NOTHING = "id < 0"
EVERYTHING = "id > 0"


def expression(condition: Condition) -> str:  # noqa: PLR0911  # a return for each kind
    """The Milvus expression of a condition; of a circle, only its bounding box."""
    match condition:
        case AllOf(conditions):
            return all_of(map(expression, conditions))
        case AnyOf(conditions):
            return any_of(map(expression, conditions))
        case HasKeyword() | HasText():
            raise BadRequest("a collection has no --reads and no --keyword; ask the index in a folder")
        case Near(circle):
            return _in_box(box_of(circle))
        case Contains("path", text):
            return _has("path_folded", escaped(os.fsencode(text)))
        case Contains(field, text):
            return _has(f"{field}_folded", lower_ascii(text))
        case Compare("date", operator, moment):
            taken = quoted(moment.isoformat(timespec="seconds"))
            changed = f"taken is null and mtime_ns {operator} {nanoseconds(moment)}"
            return f"(taken is not null and taken {operator} {taken}) or ({changed})"
        case Compare(field, operator, value):
            literal = quoted(value) if isinstance(value, str) else str(value)
            return f"{'kind' if field == 'type' else field} {'==' if operator == '=' else operator} {literal}"
    raise TypeError(condition)


def _has(field: str, text: str) -> str:
    return f"{field} like {quoted('%' + _literally(text) + '%')}"


def _in_box(box: Box) -> str:
    out = f"latitude >= {box.south:.12f} and latitude <= {box.north:.12f}"
    if box.west is None or box.east is None:
        return out
    word = "and" if box.west <= box.east else "or"
    return f"{out} and (longitude >= {box.west:.12f} {word} longitude <= {box.east:.12f})"


def all_of(expressions: Iterable[str]) -> str:
    """What holds when each does."""
    return " and ".join(f"({expression})" for expression in expressions) or EVERYTHING


def any_of(expressions: Iterable[str]) -> str:
    """What holds when one does."""
    return " or ".join(f"({expression})" for expression in expressions) or NOTHING


def lies_in(places: Iterable[SearchedFolder]) -> str:
    """The photos in some folders."""
    return any_of(_below(place.root.id, escaped(place.below)) for place in places)


def _below(root: int, folder: str) -> str:
    if not folder:
        return f"root == {root}"
    return f"root == {root} and path >= {quoted(folder + '/')} and path < {quoted(folder + '0')}"  # "0" follows "/"


def among(values: Sequence[object]) -> str:
    """A list, as expressions have it."""
    return f"[{', '.join(quoted(value) if isinstance(value, str) else str(value) for value in values)}]"


def ids_in(ids: Sequence[int]) -> str:
    """The rows of ids."""
    return f"id in {among(ids)}" if ids else NOTHING


def _literally(text: str) -> str:
    """A text in a pattern, in which it means itself."""
    return "".join("\\" + letter if letter in "%_\\" else letter for letter in text)
