"""A photo as rows of a collection, and back: the one place that knows the fields.

A photo has one row, a video one for each frame, a panorama one for each part. Each row has the fields of `Photo` and
`Metadata`, and what filters compare.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

from clipsearch.images.facts import items
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.store.change_log import Row
from clipsearch.store.conditions import fold, fold_line
from clipsearch.store.filters import lower_ascii
from clipsearch.store.photo import Line, Photo, Root
from clipsearch.store.schema import TAGS, TYPES

_LONGEST_PATH, _LONGEST = 16_384, 65_535  # bytes; the latter is Milvus's maximum
_MOST_VALUES = 4096  # Milvus's maximum of values in an array
_ROWS_OF_A_PHOTO = 16  # bits
_STAND_INS = {ord(wildcard): 0xE000 + ord(wildcard) for wildcard in "%_\\"}

_TEXTS = ("camera", "location", "color_label", "title", "caption")  # that filters search
_LISTS = ("keywords", "people", "named")
OF_PHOTO = [
    *("root", "image", "path", "size", "mtime_ns", "content", "ctime_ns", "time", "hash", "named", "generated_caption"),
    *Metadata._fields,
]


def add_fields(schema: Any, dim: int) -> None:
    """The fields of a collection of embeddings of length `dim`."""
    from pymilvus import DataType

    kinds = {int: DataType.INT64, float: DataType.DOUBLE, str: DataType.VARCHAR}

    def add(name: str, kind: type, *, nullable: bool = True, longest: int = _LONGEST) -> None:
        length = {"max_length": longest} if kind is str else {}
        schema.add_field(name, kinds[kind], nullable=nullable, **length)

    def add_texts(name: str, *, nullable: bool = False) -> None:
        of = {"element_type": DataType.VARCHAR, "max_capacity": _MOST_VALUES, "max_length": _LONGEST}
        schema.add_field(name, DataType.ARRAY, nullable=nullable, **of)

    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("row", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("stands", DataType.BOOL)
    for name in ("photo", "image", "root", "size", "mtime_ns", "ctime_ns"):
        add(name, int, nullable=False)
    for name in ("path", "path_folded", "type"):
        add(name, str, nullable=False, longest=_LONGEST_PATH)
    for name in ("content", "orientation"):
        add(name, str, nullable=False)
    for name in _LISTS:
        add_texts(folded_lines(name))
    add_texts("lines", nullable=True)
    add("text_folded", str)
    add("tags_folded", str)
    add("captions_folded", str)
    add("generated_caption", str)
    add("time", float)
    add("hash", int)
    add("named", str)
    for name, kind in TYPES.items():
        add(name, kind)
    for name in _TEXTS:
        add(folded(name), str)


def folded(name: str) -> str:
    """The field with a text of `Metadata` in lower case; not one of the fields of keywords."""
    return f"metadata_{name}_folded"


def folded_lines(name: str) -> str:
    """The array of the items in a field with one per line, as `fold_line` makes them."""
    return f"{name}_folded"


def row_id(photo: int, number: int) -> int:
    """The id of a photo's row."""
    return photo << _ROWS_OF_A_PHOTO | number


def photo_and_number(row: int) -> tuple[int, int]:
    """The photo that a row id is of, and the number of the row."""
    return row >> _ROWS_OF_A_PHOTO, row & (1 << _ROWS_OF_A_PHOTO) - 1


def entity_of(row: Row) -> dict[str, Any]:
    """A row as the collection has it."""
    photo = row.photo
    name = os.path.basename(photo.file)
    metadata: dict[str, Any] = {
        name: _cut(value) if isinstance(value, str) else value for name, value in photo.metadata._asdict().items()
    }
    lists = {**metadata, "named": _cut(photo.named)}
    return {
        "id": row_id(row.photo_id, row.number),
        "row": row.vector.astype(np.float32),
        "stands": row.stands,
        "photo": row.photo_id,
        "image": photo.image_id,
        "root": row.root,
        "size": photo.size,
        "mtime_ns": photo.mtime_ns,
        "ctime_ns": photo.ctime_ns,
        "path": escaped(photo.file),
        "path_folded": without_wildcards(lower_ascii(escaped(photo.file))),
        "type": escaped(name[name.rfind(b".") :].lower() if b"." in name else b""),
        "content": photo.content.hex(),
        "orientation": _orientation(photo.metadata),
        "lines": None if row.lines is None else [json.dumps(line) for line in row.lines[:_MOST_VALUES]],
        "text_folded": _cut(row.folded and without_wildcards(row.folded)),
        "tags_folded": _cut(without_wildcards(fold("\n".join(_tags(row))))),
        "captions_folded": _cut(without_wildcards(fold(photo.generated_caption or ""))),
        "generated_caption": _cut(photo.generated_caption),
        "time": photo.time,
        "hash": photo.hash,
        "named": _cut(photo.named),
        **metadata,
        **{folded(name): _folded(metadata[name]) for name in _TEXTS},
        **{folded_lines(name): [fold_line(item) for item in items(lists[name])][:_MOST_VALUES] for name in _LISTS},
    }


def _tags(row: Row) -> list[str]:
    """What `tags` in a catalogue has of a photo."""
    texts = {**row.photo.metadata._asdict(), "named": row.photo.named}
    return [os.fsdecode(row.photo.file), *(texts[name] or "" for name in TAGS if name != "path")]


def _folded(text: str | None) -> str | None:
    return _cut(text and without_wildcards(lower_ascii(text)))


def photo_of(entity: dict[str, Any]) -> Photo:
    """The photo of a row; its path is below its root."""
    metadata = Metadata(**{name: entity[name] for name in Metadata._fields})
    return Photo(
        entity["image"],
        unescaped(entity["path"]),
        entity["size"],
        entity["mtime_ns"],
        bytes.fromhex(entity["content"]),
        metadata,
        entity["ctime_ns"],
        entity["time"],
        entity["hash"],
        entity["named"],
        entity["generated_caption"],
    )


def lines_of(entity: dict[str, Any]) -> list[Line]:
    """The lines of text in a row's image."""
    return [Line(*json.loads(line)) for line in entity["lines"] or ()]


def _orientation(metadata: Metadata) -> str:
    width, height = metadata.width, metadata.height
    return "landscape" if width > height else "portrait" if width < height else "square"


def _valid(value: Any) -> Any:
    """What was damaged in a catalogue may be no valid text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _cut(text: str | None) -> str | None:
    return None if text is None else _valid(text).encode()[:_LONGEST].decode("utf-8", "ignore")


# ------------------------------------------------------------------------------------------ folders and paths


def record_of(root: Root) -> list[Any]:
    """An indexed folder, as the record of a collection has it."""
    return [root.id, escaped(root.path), *root.rules]


def root_of(kept: list[Any]) -> Root:
    """The folder of such a record."""
    number, path, hidden, follow_links, exclude, *others = kept
    return Root(number, unescaped(path), Rules(hidden, follow_links, tuple(exclude), *others))


def without_wildcards(text: str) -> str:
    """A text without the wildcards of `like`, as it is stored for searching.

    Private-use characters stand in for them, since Milvus Lite does not know escaped wildcards in all its filters.
    """
    return text.translate(_STAND_INS)


def escaped(path: bytes) -> str:
    r"""A path as text: bytes that are not UTF-8 become `\xHH`, a backslash becomes two.

    So the text of a path begins with the text of the folder it is in.
    """
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescaped(text: str) -> bytes:
    """The path of a text that `escaped` made."""
    return re.sub(
        rb"\\(\\|x([0-9a-f]{2}))",
        lambda found: b"\\" if found[2] is None else bytes.fromhex(found[2].decode()),
        text.encode(),
    )
