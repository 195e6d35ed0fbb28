"""Conditions on photos as Milvus expressions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from clipsearch.cluster.collection_rows import escaped, folded, folded_lines, without_wildcards
from clipsearch.cluster.milvus import quoted
from clipsearch.store.conditions import (
    AllOf,
    AnyOf,
    Circle,
    Compare,
    Condition,
    Contains,
    GeoBox,
    HasLine,
    HasText,
    IsMissing,
    Near,
    Not,
    Within,
    fold,
    fold_line,
)
from clipsearch.store.filters import lower_ascii
from clipsearch.store.searched import SearchedFolder
from clipsearch.store.selection import nanoseconds
from clipsearch.store.words import Word

NOTHING = "id < 0"
EVERYTHING = "id > 0"
PHOTOS = "stands == true"  # one row of each photo or video


def expression(condition: Condition, near: Callable[[Circle], str]) -> str:  # noqa: PLR0911  # a return for each kind
    """The expression of a condition. Milvus cannot compute distances: `near` gives the expression of a circle."""
    match condition:
        case AllOf(conditions):
            return all_of(expression(one, near) for one in conditions)
        case AnyOf(conditions):
            return any_of(expression(one, near) for one in conditions)
        case Not(inner):
            return f"not ({expression(inner, near)})"
        case HasLine(field, line):
            return f"array_contains({folded_lines(field)}, {quoted(fold_line(line))})"
        case IsMissing(field):
            return f"{field} is null"
        case HasText(text):
            return all_of(_has("text_folded", word) for word in fold(text).split())
        case Near(circle):
            return near(circle)
        case Within(box):
            return in_box(box)
        case Contains("path", text):
            return _has("path_folded", escaped(os.fsencode(text)))
        case Contains(field, text):
            return _has(folded(field), lower_ascii(text))
        case Compare("date", operator, moment):
            taken = quoted(moment.isoformat(timespec="seconds"))
            changed = f"taken is null and mtime_ns {operator} {nanoseconds(moment)}"
            return f"(taken is not null and taken {operator} {taken}) or ({changed})"
        case Compare(field, operator, value):
            literal = quoted(value) if isinstance(value, str) else str(value)
            return f"{field} {'==' if operator == '=' else operator} {literal}"
    raise TypeError(condition)


def _has(field: str, text: str) -> str:
    return f"{field} like {quoted('%' + without_wildcards(text) + '%')}"


def mentions(words: Iterable[Word], field: str) -> str:
    """The rows whose folded text has all words, maybe inside others."""
    return all_of(_has(field, part) for word in words for part in word.parts)


def in_box(box: GeoBox) -> str:
    """The photos in a box."""
    word = "and" if box.west <= box.east else "or"
    south, west, north, east = (f"{edge:.20f}" for edge in box)
    return f"latitude >= {south} and latitude <= {north} and (longitude >= {west} {word} longitude <= {east})"


def all_of(expressions: Iterable[str]) -> str:
    """True if every expression is."""
    return " and ".join(f"({expression})" for expression in expressions) or EVERYTHING


def any_of(expressions: Iterable[str]) -> str:
    """True if an expression is."""
    return " or ".join(f"({expression})" for expression in expressions) or NOTHING


def lies_in(folders: Iterable[SearchedFolder]) -> str:
    """The photos in folders."""
    return any_of(map(_lies_in, folders))


def _lies_in(folder: SearchedFolder) -> str:
    below = [_below(folder.below)] if folder.below else []
    return all_of([f"root == {folder.root.id}", *below, *(f"not ({_below(other)})" for other in folder.excluded)])


def _below(folder: bytes) -> str:
    name = escaped(folder)
    return f"path >= {quoted(name + '/')} and path < {quoted(name + '0')}"  # "0" follows "/"


def is_in(field: str, values: Sequence[object]) -> str:
    """The rows with one of some values."""
    literals = ", ".join(quoted(value) if isinstance(value, str) else str(value) for value in values)
    return f"{field} in [{literals}]" if values else NOTHING
