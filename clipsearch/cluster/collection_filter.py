"""From a filter to the expression of Milvus that chooses its photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from clipsearch.cluster.collection_rows import escaped
from clipsearch.cluster.milvus import quoted
from clipsearch.errors import BadRequest
from clipsearch.store.filters import Filter, folded, words_of
from clipsearch.store.selection import Box, Place, box_of, nanoseconds

NOTHING = "id < 0"
EVERYTHING = "id > 0"


def conditions(where: Filter) -> list[str]:
    """What a filter says of a row by itself: all but folders, lists of files, and the distance to a place."""
    if where.reads or where.keywords:
        raise BadRequest("a collection has no --reads and no --keyword; ask the index in a folder")
    out = []
    if where.at_least is not None:
        out.append(f"size >= {where.at_least}")
    if where.at_most is not None:
        out.append(f"size <= {where.at_most}")
    if where.types:
        out.append(f"kind in {among(where.types)}")
    if where.camera:
        out.append(any_of(_has("camera_folded", folded(" ".join(camera.split()))) for camera in where.camera))
    if where.name:
        out.append(any_of(all_of(map(_has_word, words_of(name))) for name in where.name))
    if where.orientation:
        out.append(f"orientation in {among(where.orientation)}")
    for sign, moment in ((">=", where.after), ("<", where.before)):
        if moment is not None:
            taken = quoted(moment.isoformat(timespec="seconds"))
            changed = f"taken is null and mtime_ns {sign} {nanoseconds(moment)}"
            out.append(f"(taken is not null and taken {sign} {taken}) or ({changed})")
    if where.near:
        out.append(any_of(_in_box(box_of(circle)) for circle in where.near))
    return out


def _has_word(ways: Iterable[str]) -> str:
    return any_of(_has("path_folded", escaped(os.fsencode(way))) for way in sorted(ways))


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


def lies_in(places: Iterable[Place]) -> str:
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
