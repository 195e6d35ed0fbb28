"""Results to bytes for a pipe, or to text for a terminal."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.evaluation import Evaluation
    from clipsearch.query import Hit

FORMATS = ("table", "paths", "tsv", "json", "jsonl")


def paths(hits: Iterable[Hit], end: bytes = b"\n") -> Iterator[bytes]:
    """One path each, its raw bytes, followed by `end`."""
    for hit in hits:
        yield hit.photo.path + end


def tsv(hits: Iterable[Hit]) -> Iterator[bytes]:
    r"""Rank, score and path, tab-separated; in the path `\` stands as `\\`, a tab as `\t`, line breaks as `\n` and
    `\r`.
    """
    for hit in hits:
        path = hit.photo.path
        for plain, escaped in ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r")):
            path = path.replace(plain, escaped)
        yield b"%d\t%.4f\t%s\n" % (hit.rank, hit.score, path)


def jsonl(hits: Iterable[Hit], **first: Any) -> Iterator[bytes]:
    """One object a line; `first` are fields that come before the others."""
    for hit in hits:
        yield json.dumps(first | as_object(hit), ensure_ascii=False).encode() + b"\n"


def json_array(hits: Iterable[Hit]) -> Iterator[bytes]:
    """One array of objects."""
    yield json.dumps([as_object(hit) for hit in hits], ensure_ascii=False, indent=2).encode() + b"\n"


def as_object(hit: Hit) -> dict[str, Any]:
    """A hit as JSON has it; the README describes the fields."""
    image = hit.photo.image
    return {
        "rank": hit.rank,
        "score": round(hit.score, 6),
        **path_fields(hit.photo.path),
        "width": image.width,
        "height": image.height,
        "size": hit.photo.size,
        "mtime": hit.photo.mtime_ns / 1e9,
        "taken": image.taken,
        "camera": image.camera,
        "latitude": image.latitude,
        "longitude": image.longitude,
    }


def path_fields(path: bytes) -> dict[str, str]:
    """`path`, and for a name that is not UTF-8 also `path_b64`, which alone is exact."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "replace"), "path_b64": base64.b64encode(path).decode("ascii")}


def table(hits: Iterable[Hit], width: int, *, colour: bool = True) -> str:
    """A table for a terminal `width` columns wide: each hit one line, its path shortened in the middle if need be."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(width=width, force_terminal=colour, no_color=not colour, highlight=False, legacy_windows=False)
    rows = list(hits)
    margin = len(str(len(rows)))
    with console.capture() as capture:
        for hit in rows:
            line = Text(no_wrap=True)
            line.append(f"{hit.rank:>{margin}}", "dim")
            line.append(f"  {hit.score:.3f}  ", "green")
            shown = _shorten(printable(_from_home(hit.photo.path)), width - cell_len(line.plain), cell_len)
            folder, slash, name = shown.rpartition("/")
            link = f"link {Path(hit.path).as_uri()}" if colour else ""
            line.append(folder + slash, f"dim {link}")
            line.append(name, link)
            console.print(line, crop=False, soft_wrap=True)
    return capture.get()


def evaluation(measured: Evaluation) -> str:
    """A table of recall in percent, and what it was measured on."""
    lines = ["                 R@1    R@5   R@10  median rank"]
    for name, recall in (("text to image", measured.text_to_image), ("image to text", measured.image_to_text)):
        shares = "".join(f"{100 * share:7.1f}" for share in (recall.at_1, recall.at_5, recall.at_10))
        lines.append(f"{name}{shares}{recall.median_rank:13,.1f}")
    what = (
        f"in percent; distinct captions: {measured.captions:,}, their photos: {measured.photos:,} of {measured.among:,}"
    )
    return "\n".join([*lines, f"{what}; model: {printable(measured.model)}"])


def evaluation_object(measured: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON has it; the README describes the fields."""
    names = ("model", "captions", "photos", "among")
    directions = {
        name: {
            "recall_at_1": recall.at_1,
            "recall_at_5": recall.at_5,
            "recall_at_10": recall.at_10,
            "median_rank": recall.median_rank,
        }
        for name, recall in (("text_to_image", measured.text_to_image), ("image_to_text", measured.image_to_text))
    }
    missing = [path_fields(path) for path in measured.missing]
    return {**{name: getattr(measured, name) for name in names}, **directions, "missing": missing}


def printable(text: str | bytes) -> str:
    """Text that can do nothing to a terminal: whatever is not printable is written as an escape."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def amount(size: float) -> str:
    """A number of bytes for a person."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _from_home(path: bytes) -> bytes:
    home = os.fsencode(os.path.expanduser("~"))
    return b"~" + path[len(home) :] if len(home) > 1 and path.startswith(home + b"/") else path


def _shorten(path: str, width: int, cell_len: Callable[[str], int]) -> str:
    """Cut out the middle of a path so that it fits; of its end, at least the name stays if there is room for it."""
    if cell_len(path) <= width:
        return path
    name = path.rpartition("/")[2]
    room = min(width - 1, max(cell_len(name) + 1, 2 * width // 3))
    tail = ""
    for character in reversed(path):
        if cell_len(character + tail) > room:
            break
        tail = character + tail
    head = ""
    for character in path:
        if cell_len(head + character + "…" + tail) > width:
            break
        head += character
    return f"{head}…{tail}"
