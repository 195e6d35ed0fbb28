"""A photo as a row of a collection, and back: the one place that knows the fields."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from clipsearch.images.scan import Rules
from clipsearch.store.change_log import Row
from clipsearch.store.filters import lower_ascii
from clipsearch.store.photo import Root

METADATA = ("width", "height", "taken", "camera", "latitude", "longitude", "duration")
OF_PHOTO = [
    "id",
    "root",
    "path",
    "size",
    "mtime_ns",
    "ctime_ns",
    "content",
    "hash",
    *METADATA,
]  # all that makes a `Photo`

_LONGEST_PATH, _LONGEST = 16_384, 65_535  # bytes; the latter is the most that Milvus has


def add_fields(schema: Any, dim: int) -> None:
    """The fields of a collection of embeddings of length `dim`."""
    from pymilvus import DataType

    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("row", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("content", DataType.VARCHAR, max_length=128)
    schema.add_field("root", DataType.INT64)
    schema.add_field("path", DataType.VARCHAR, max_length=_LONGEST_PATH)
    schema.add_field("path_folded", DataType.VARCHAR, max_length=_LONGEST_PATH)
    for name in ("size", "mtime_ns", "ctime_ns", "width", "height"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("kind", DataType.VARCHAR, max_length=_LONGEST_PATH)
    schema.add_field("orientation", DataType.VARCHAR, max_length=16)
    for name in ("taken", "camera", "camera_folded"):
        schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST, nullable=True)
    schema.add_field("hash", DataType.INT64, nullable=True)
    for name in ("latitude", "longitude", "duration"):
        schema.add_field(name, DataType.DOUBLE, nullable=True)


def entity_of(row: Row) -> dict[str, Any]:
    """A row as the collection has it."""
    name = os.path.basename(row.path)
    camera = row.metadata.camera
    if camera is not None:  # what is damaged in a catalogue may be no text
        camera = camera.encode("utf-8", "replace").decode()
    return {
        "id": row.id,
        "row": row.row.astype(np.float32),
        "content": row.content.hex(),
        "hash": row.hash,
        "root": row.root,
        "path": escaped(row.path),
        "path_folded": lower_ascii(escaped(row.path)),
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "ctime_ns": row.ctime_ns,
        "kind": escaped(name[name.rfind(b".") :].lower() if b"." in name else b""),
        "orientation": _orientation(row),
        "camera_folded": None if camera is None else lower_ascii(camera),
        **{name: value for name, value in row.metadata._asdict().items() if name in METADATA},
        "camera": camera,
    }


def _orientation(row: Row) -> str:
    width, height = row.metadata.width, row.metadata.height
    return "landscape" if width > height else "portrait" if width < height else "square"


def record_of(root: Root) -> list[Any]:
    """An indexed folder, as the record of a collection has it."""
    return [root.id, escaped(root.path), *root.rules]


def root_of(kept: list[Any]) -> Root:
    """The folder of such a record."""
    number, path, hidden, follow_links, exclude, *others = kept  # an older record has no `raw` and no `video`
    return Root(number, unescaped(path), Rules(hidden, follow_links, tuple(exclude), *others))


def escaped(path: bytes) -> str:
    r"""A path as text, in which bytes that are not UTF-8 are `\xHH` and a backslash is two.

    What is in a folder begins with the folder, as text too.
    """
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescaped(text: str) -> bytes:
    """The path of a text that `escaped` made."""
    return re.sub(
        rb"\\(\\|x([0-9a-f]{2}))",
        lambda found: b"\\" if found[2] is None else bytes.fromhex(found[2].decode()),
        text.encode(),
    )
