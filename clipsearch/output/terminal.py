"""Results for a person at a terminal: tables with colours and links, and pictures."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import counted
from clipsearch.output.text import (
    amount,
    found_at,
    from_home,
    likeness,
    photos,
    printable,
    reasons,
    sureness,
    video_length,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.indexing.people_changes import FaceGroup, NamedFace
    from clipsearch.search.copies import Copy, Group
    from clipsearch.search.hit import Found, Hit, Photo
    from clipsearch.search.label import Labelled


_MOST_REASONS = 3  # lines below a hit
_PERCENT = 10  # columns of a confidence, and of its name in the header
_WIDE = 80  # columns that have room for a place beside a path


class _Row(NamedTuple):
    """Words with their styles, then a path shortened to fit, then a suffix."""

    words: Sequence[tuple[str, str]]
    path: bytes | None = None
    suffix: str = ""


# ------------------------------------------------------------------------------------------ tables


def hits(found: Iterable[Hit], width: int, *, colour: bool = True, header: bool = True) -> bytes:
    """Rank, score (or date, without a query), confidence if known, path, number of grouped photos, and the place.

    Below, the text, tags and so on that match.
    """
    found = list(found)
    margin = max((len(str(hit.rank)) for hit in found), default=0)
    wide = width >= _WIDE
    rows = [row for hit in found for row in (_hit_row(hit, margin, wide=wide), *_why_rows(hit, margin, width))]
    return _table([_header(found[0], margin), *rows] if header and found else rows, width, colour=colour)


def _header(hit: Hit, margin: int) -> _Row:
    score = f"{'date':<10}" if hit.score is None else "score"
    confidence = "" if hit.confidence is None else f"  {'confidence':>{_PERCENT}}"
    return _Row([(f"{'#':>{margin}}  {score}{confidence}  photo", "dim")])


def _why_rows(hit: Hit, margin: int, width: int) -> Iterator[_Row]:
    for line in reasons(hit)[:_MOST_REASONS]:
        yield _Row([(_fitted(f"{' ' * margin}  {line}", width).rstrip(), "magenta")])


def _hit_row(hit: Hit, margin: int, *, wide: bool) -> _Row:
    score = f"{hit.photo.date[:10]:<10}" if hit.score is None else f"{hit.score:>5.3f}"
    words = [(f"{hit.rank:>{margin}}", "dim"), (f"  {score}", "green")]
    if hit.confidence is not None:
        words.append((f"  {f'{100 * hit.confidence:.0f}%':>{_PERCENT}}", "cyan"))
    count = len(hit.similar) + len(hit.same_file)
    suffixes = [_badge(hit.photo), found_at(hit), f"+{count}" if count else None, _place(hit.photo) if wide else None]
    return _Row(words, hit.photo.file, "".join(f"  {suffix}" for suffix in suffixes if suffix))


def _place(photo: Photo) -> str | None:
    return printable(photo.place.title) if photo.place else None


def _badge(photo: Photo) -> str | None:
    """What marks a video."""
    length = video_length(photo)
    return length and f"[{length}]"


def label_groups(found: Iterable[Labelled], width: int, *, colour: bool) -> Iterator[bytes]:
    """Photos sorted by label, below the name and the number of each, with a bar for their probability."""
    for number, (name, group) in enumerate(itertools.groupby(found, lambda photo: photo.labels[0][0])):
        photos = list(group)
        rows = [_Row([(printable(name), "bold"), (f"  {counted(len(photos), 'photo')}", "cyan")])]
        for photo in photos:
            ((_, share),) = photo.labels
            rows.append(_Row([(f"  {100 * share:3.0f}% ", "cyan"), (_bar(share), "green")], photo.file))
        yield b"\n" * bool(number) + _table(rows, width, colour=colour)


def labels(found: Iterable[Labelled], width: int, *, colour: bool) -> Iterator[bytes]:
    """Photos with a bar for the probability of each label."""
    for photo in found:
        cells = _cells((name for name, _ in photo.labels), 24)
        yield _table(
            (
                _Row(
                    [(_fitted(name, cells), "bold"), (f" {100 * share:3.0f}% ", "cyan"), (_bar(share), "green")],
                    None if number else photo.file,
                )
                for number, (name, share) in enumerate(photo.labels)
            ),
            width,
            colour=colour,
        )


def label_counts(counts: Sequence[tuple[str, int]], width: int, *, colour: bool) -> Iterator[bytes]:
    """A bar for the number of photos with each label."""
    total = max(1, sum(count for _, count in counts))
    cells = _cells((name for name, _ in counts), 40)
    rows = (
        _Row(
            [
                (_fitted(name, cells), "bold"),
                (f"  {count:>{len(f'{total:,}')},}", "cyan"),
                (f" {100 * count / total:3.0f}% ", "cyan"),
                (_bar(count / total, 30), "green"),
            ]
        )
        for name, count in counts
    )
    yield _table(rows, width, colour=colour)


def people(found: Iterable[FaceGroup], width: int, *, colour: bool) -> Iterator[bytes]:
    """Number, name and number of photos of each group of faces."""
    groups = list(found)
    cells = _cells((group.name or "" for group in groups), 40)
    rows = (
        _Row(
            [
                (f"{group.number:>5}  ", "dim"),
                (_fitted(group.name or "", cells), "bold"),
                (f"  {photos(group.photos):>12}", "cyan"),
                ("  hidden" if group.hidden else "", "dim"),
            ]
        )
        for group in groups
    )
    yield _table(rows, width, colour=colour)


def faces(found: Iterable[tuple[NamedFace, Photo]], width: int, *, colour: bool) -> Iterator[bytes]:
    """Number, confidence and photo of each face."""
    rows = (_Row([(f"{face.id:>7}", "dim"), (f"  {sureness(face):>9}", "cyan")], photo.file) for face, photo in found)
    yield _table(rows, width, colour=colour)


def where(found: Iterable[Found], width: int, *, colour: bool) -> Iterator[bytes]:
    """Score, box (size and upper left corner, in pixels) and path of each photo."""
    for one in found:
        left, top, right, bottom = one.there.pixels(one.width, one.height)
        box = f"  {right - left} \N{MULTIPLICATION SIGN} {bottom - top} at {left}, {top}"
        words = [(f"{one.there.score:.3f}", "green"), (f"{box:<26}", "cyan")]
        yield _table([_Row(words, one.path)], width, colour=colour)


def duplicates(groups: Iterable[Group], width: int, *, colour: bool) -> Iterator[bytes]:
    """Groups of copies or similar photos, separated by empty lines; other paths of a file are indented below it."""
    for group in groups:
        rows = (row for copy in group for row in _copy_rows(copy))
        yield _table(rows, width, colour=colour) + b"\n"


def _copy_rows(copy: Copy) -> Iterator[_Row]:
    of = copy.photo.metadata
    words = [
        (f"{likeness(copy):<13}", "green"),
        (f"  {f'{of.width}x{of.height}':>11}", "dim"),
        (f"  {amount(copy.photo.size):>7}", "dim"),
    ]
    badge = _badge(copy.photo)
    yield _Row(words, copy.photo.file, f"  {badge}" if badge else "")
    for path in copy.same_file:
        yield _Row([(f"{'  same file':<35}", "dim")], path)


def _table(rows: Iterable[_Row], width: int, *, colour: bool) -> bytes:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(width=width, force_terminal=colour, no_color=not colour, highlight=False, legacy_windows=False)
    with console.capture() as capture:
        for words, path, suffix in rows:
            line = Text(no_wrap=True)
            for word, style in words:
                line.append(word, style)
            if path is not None:
                line.append("  ")
                room = width - cell_len(line.plain) - cell_len(suffix)
                folder, slash, name = _shorten(printable(from_home(path)), room).rpartition("/")
                link = f"link {Path(os.fsdecode(os.path.abspath(path))).as_uri()}" if colour else ""
                line.append(folder + slash, f"dim {link}")
                line.append(name, link)
                line.append(suffix, "yellow")
            console.print(line, crop=False, soft_wrap=True)
    return capture.get().encode("utf-8", "replace")


def _cells(names: Iterable[str], most: int) -> int:
    """The width of a column of names."""
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


def _shorten(path: str, width: int) -> str:
    """Shorten the middle of a path to `width` cells; keeps the whole name if there is room."""
    from rich.cells import cell_len

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


# ------------------------------------------------------------------------------------------ pictures


def previews(hits: Iterable[Hit], width: int) -> Iterator[str]:
    """The thumbnail of each hit; empty for a file that can no longer be read."""
    from clipsearch.images.sandbox import Decoders

    with Decoders(1) as decoders:
        for hit in hits:
            picture = decoders.thumbnail(hit.photo.file, hit.photo.time)
            yield "" if picture is None else preview(picture, width)


def preview(picture: Image, width: int, rows: int = 12) -> str:
    """An RGB picture at most `width` columns wide and `rows` high.

    In Sixel or Kitty's protocol if the terminal reports support, otherwise in half-block characters.
    """
    # A cell is about twice as high as wide. Widen pictures that would be narrower than one column.
    narrowest = -(-picture.height // (2 * rows))
    if picture.width < narrowest:
        picture = picture.resize((narrowest, picture.height))
    columns = min(width, 2 * rows * picture.width // picture.height)
    return _in_protocol(picture, columns, width) or _in_half_blocks(picture, columns)


def _in_protocol(picture: Image, columns: int, width: int) -> str | None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):  # the terminal is queried, and answers on stdin
        return None
    try:
        from rich.console import Console
        from textual_image import renderable

        if renderable.Image not in (renderable.SixelImage, renderable.TGPImage):
            return None
        console = Console(width=width, force_terminal=True, color_system="truecolor", legacy_windows=False)
        with console.capture() as capture:
            console.print(renderable.Image(picture, width=columns, height="auto"))
        return capture.get()
    except Exception:  # terminals answer anything, and half blocks always work
        return None


def _in_half_blocks(picture: Image, columns: int) -> str:
    rows = max(1, round(columns * picture.height / picture.width / 2))
    small = picture.resize((columns, 2 * rows))
    lines = []
    for y in range(0, small.height, 2):
        pairs = ((small.getpixel((x, y)), small.getpixel((x, y + 1))) for x in range(columns))
        cells = (f"\x1b[38;2;{_rgb(upper)};48;2;{_rgb(lower)}m▀" for upper, lower in pairs)
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)


def _rgb(pixel: Any) -> str:
    return ";".join(map(str, pixel))
