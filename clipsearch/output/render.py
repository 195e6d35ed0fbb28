"""Results to bytes for a pipe, or to text for a terminal."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import BadRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.search.copies import Copies
    from clipsearch.search.evaluate import Evaluation
    from clipsearch.search.label import Labelled
    from clipsearch.search.query import Hit
    from clipsearch.store.catalogue import Photo

FORMATS = ("table", "paths", "tsv", "json", "jsonl")
LABEL_FORMATS = ("table", "tsv", "json", "jsonl")


def chosen(wanted: str | None, formats: Sequence[str], usual: str) -> str:
    """The format that is wanted, or the usual one. Raises `BadRequest` for one that there is not."""
    if wanted is not None and wanted not in formats:
        raise BadRequest(f"no format is called {wanted!r}; there are {', '.join(formats)}")
    return wanted or usual


# ------------------------------------------------------------------------------------------ hits


def paths(hits: Iterable[Hit], end: bytes = b"\n") -> Iterator[bytes]:
    """One path each, its raw bytes, followed by `end`."""
    for hit in hits:
        yield hit.photo.path + end


def tsv(hits: Iterable[Hit]) -> Iterator[bytes]:
    r"""Rank, score and path, tab-separated; in the path `\` stands as `\\`, a tab as `\t`, line breaks as `\n` and
    `\r`.
    """
    for hit in hits:
        score = b"" if hit.score is None else b"%.4f" % hit.score
        yield b"%d\t%s\t%s\n" % (hit.rank, score, _field(hit.photo.path))


def jsonl(hits: Iterable[Hit], **first: Any) -> Iterator[bytes]:
    """One object a line; `first` are fields that come before the others."""
    for hit in hits:
        yield as_json(first | as_object(hit))


def json_array(hits: Iterable[Hit]) -> Iterator[bytes]:
    """One array of objects."""
    yield as_json([as_object(hit) for hit in hits], indent=2)


def as_object(hit: Hit) -> dict[str, Any]:
    """A hit as JSON has it; the README describes the fields."""
    return {
        "rank": hit.rank,
        "score": _rounded(hit.score),
        "confidence": _rounded(hit.confidence),
        **photo_fields(hit.photo),
        "similar": [path_fields(photo.path) for photo in hit.similar],
    }


def photo_fields(photo: Photo) -> dict[str, Any]:
    """What is known of a photo."""
    image = photo.metadata
    return {
        **path_fields(photo.path),
        "width": image.width,
        "height": image.height,
        "size": photo.size,
        "mtime": photo.mtime_ns / 1e9,
        "taken": image.taken,
        "camera": image.camera,
        "latitude": image.latitude,
        "longitude": image.longitude,
    }


def as_json(value: Any, indent: int | None = None) -> bytes:
    """One value and a line break. What is not Unicode, such as a damaged camera, becomes U+FFFD or a ?."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "replace") + b"\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _field(path: bytes) -> bytes:
    for plain, escaped in ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r")):
        path = path.replace(plain, escaped)
    return path


def path_fields(path: bytes) -> dict[str, str]:
    """`path`, and for a name that is not UTF-8 also `path_b64`, which alone is exact."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "replace"), "path_b64": base64.b64encode(path).decode("ascii")}


def table(hits: Iterable[Hit], width: int, *, colour: bool = True) -> str:
    """A table for a terminal `width` columns wide: each hit one line, its path shortened in the middle if need be.

    Rank, score or else date, confidence if there is one, path, and how many photos are folded into it.
    """
    rows = list(hits)
    margin = max((len(str(hit.rank)) for hit in rows), default=0)

    def lines() -> Iterator[Line]:
        for hit in rows:
            score = hit.photo.date[:10] if hit.score is None else f"{hit.score:.3f}"
            start = [(f"{hit.rank:>{margin}}", "dim"), (f"  {score}", "green")]
            if hit.confidence is not None:
                start.append((f"  {100 * hit.confidence:3.0f}%", "cyan"))
            yield start, hit.photo.path, f"  +{len(hit.similar)}" if hit.similar else ""

    return _lines(lines(), width, colour=colour)


Line = tuple[list[tuple[str, str]], bytes | None, str]


def _lines(lines: Iterable[Line], width: int, *, colour: bool) -> str:
    """Lines for a terminal: words with their styles, a path that is shortened to fit, and what follows it."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(width=width, force_terminal=colour, no_color=not colour, highlight=False, legacy_windows=False)
    with console.capture() as capture:
        for words, path, after in lines:
            line = Text(no_wrap=True)
            for word, style in words:
                line.append(word, style)
            if path is not None:
                line.append("  ")
                room = width - cell_len(line.plain) - len(after)
                folder, slash, name = _shorten(printable(_from_home(path)), room, cell_len).rpartition("/")
                link = f"link {Path(os.fsdecode(os.path.abspath(path))).as_uri()}" if colour else ""
                line.append(folder + slash, f"dim {link}")
                line.append(name, link)
                line.append(after, "yellow")
            console.print(line, crop=False, soft_wrap=True)
    return capture.get()


def preview(picture: Image, width: int, rows: int = 12) -> None:
    """Show an RGB picture on stdout, at most `width` columns wide and `rows` high: in Sixel or Kitty's protocol if the
    terminal says that it knows one, else in half-block characters.
    """
    # A cell is about twice as high as it is wide.
    columns = min(width, max(1, round(2 * rows * picture.width / picture.height)))
    drawn = _protocol()
    if drawn is None:
        rows = max(1, round(columns * picture.height / picture.width / 2))
        small = picture.resize((columns, 2 * rows))
        for y in range(0, small.height, 2):
            pairs = ((small.getpixel((x, y)), small.getpixel((x, y + 1))) for x in range(columns))
            cells = (f"\x1b[38;2;{_rgb(upper)};48;2;{_rgb(lower)}m▀" for upper, lower in pairs)
            sys.stdout.write("".join(cells) + "\x1b[0m\n")
        return
    from rich.console import Console

    console = Console(width=width, force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print(drawn(picture, width=columns, height="auto"))


def _protocol() -> Any:
    """What draws pictures in this terminal's own way, if it has one: it is asked, and answers on stdin."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        from textual_image import renderable
        from textual_image._terminal import get_cell_size

        get_cell_size()
    except Exception:  # there is no end to what terminals answer, and half blocks need no answer
        return None
    return renderable.Image if renderable.Image in (renderable.SixelImage, renderable.TGPImage) else None


def _rgb(pixel: Any) -> str:
    return ";".join(map(str, pixel))


# ------------------------------------------------------------------------------------------ labels


def labelled(found: Iterable[Labelled], form: str, width: int, *, colour: bool) -> Iterator[bytes]:
    """Photos with their labels, in one of `LABEL_FORMATS`; TSV has label, probability and path."""
    if form == "json":
        yield as_json([_labels_object(one) for one in found], indent=2)
        return
    for one in found:
        if form == "jsonl":
            yield as_json(_labels_object(one))
        elif form == "tsv":
            for name, probability in one.labels:
                yield b"%s\t%.4f\t%s\n" % (_field(name.encode()), probability, _field(one.path))
        else:
            yield _lines(_bars(one), width, colour=colour).encode("utf-8", "replace")


def _labels_object(one: Labelled) -> dict[str, Any]:
    best, probability = one.labels[0]
    every = {name: round(share, 6) for name, share in one.labels}
    return {**path_fields(one.path), "label": best, "probability": round(probability, 6), "labels": every}


def _bars(one: Labelled) -> Iterator[Line]:
    broad = _broad((name for name, _ in one.labels), 24)
    for number, (name, share) in enumerate(one.labels):
        words = [
            (_fitted(name, broad), "bold"),
            (f" {100 * share:3.0f}% ", "cyan"),
            (_bar(share), "green"),
        ]
        yield words, one.path if number == 0 else None, ""


def _broad(names: Iterable[str], most: int) -> int:
    from rich.cells import cell_len

    return min(most, max(cell_len(printable(name)) for name in names))


def _fitted(name: str, cells: int) -> str:
    from rich.cells import cell_len, set_cell_size

    shown = printable(name)
    return set_cell_size(shown, cells) if cell_len(shown) <= cells else set_cell_size(shown, cells - 1) + "…"


def _bar(share: float, cells: int = 10) -> str:
    eighths = round(8 * cells * share)
    bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
    return f"{bar:<{cells}}"


def label_counts(rows: Sequence[tuple[str, int]], form: str, width: int, *, colour: bool) -> Iterator[bytes]:
    """How many photos have each label, in one of `LABEL_FORMATS`."""
    total = sum(count for _, count in rows)
    if form in ("json", "jsonl"):
        objects = [{"label": name, "photos": count} for name, count in rows]
        if form == "json":
            yield as_json(objects, indent=2)
        else:
            yield from (as_json(one) for one in objects)
    elif form == "tsv":
        yield from (b"%d\t%s\n" % (count, _field(name.encode())) for name, count in rows)
    else:
        broad = _broad((name for name, _ in rows), 40)
        bars = (
            (
                [
                    (_fitted(name, broad), "bold"),
                    (f"  {count:>{len(f'{total:,}')},}", "cyan"),
                    (f" {100 * count / max(1, total):3.0f}% ", "cyan"),
                    (_bar(count / max(1, total), 30), "green"),
                ],
                None,
                "",
            )
            for name, count in rows
        )
        yield _lines(bars, width, colour=colour).encode("utf-8", "replace")


# ------------------------------------------------------------------------------------------ copies


def copies(groups: Sequence[Copies], form: str, end: bytes, width: int, *, colour: bool) -> Iterator[bytes]:
    """Groups of copies, in one of `FORMATS`; after each, paths and a table have an empty line, or a second `end`."""
    if form == "json":
        yield as_json([_copies_object(number, group) for number, group in enumerate(groups, 1)], indent=2)
        return
    for number, group in enumerate(groups, 1):
        if form == "jsonl":
            yield as_json(_copies_object(number, group))
        elif form == "tsv":
            for photo, cosine in group:
                yield b"%d\t%.4f\t%s\n" % (number, cosine, _field(photo.path))
        elif form == "paths":
            yield b"".join(photo.path + end for photo, _ in group) + end
        else:
            lines: Iterator[Line] = (
                (
                    [
                        (f"{cosine:.3f}", "green"),
                        (f"  {f'{photo.metadata.width}x{photo.metadata.height}':>11}", "dim"),
                        (f"  {amount(photo.size):>7}", "dim"),
                    ],
                    photo.path,
                    "",
                )
                for photo, cosine in group
            )
            yield _lines(lines, width, colour=colour).encode("utf-8", "replace") + b"\n"


def _copies_object(number: int, group: Copies) -> dict[str, Any]:
    photos = [{"similarity": round(cosine, 6), **photo_fields(photo)} for photo, cosine in group]
    return {"group": number, "photos": photos}


# ------------------------------------------------------------------------------------------ an evaluation


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


# ------------------------------------------------------------------------------------------ words


def printable(text: str | bytes) -> str:
    """Text that can do nothing to a terminal: whatever is not printable is written as an escape."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def photos(count: int) -> str:
    """So many photos, in words."""
    return "1 photo" if count == 1 else f"{count:,} photos"


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
