"""Pictures in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from clipsearch.images.sandbox import Decoders
from clipsearch.search.hit import Hit

if TYPE_CHECKING:
    from PIL.Image import Image


def previews(hits: Iterable[Hit], width: int) -> Iterator[str]:
    """The thumbnail of each hit for a terminal; empty for a file that cannot be read any more."""
    with Decoders(1) as decoders:
        for hit in hits:
            picture = decoders.thumbnail(hit.photo.path, hit.photo.time)
            yield "" if picture is None else preview(picture, width)


def preview(picture: Image, width: int, rows: int = 12) -> str:
    """An RGB picture for a terminal, at most `width` columns wide and `rows` high.

    It is in Sixel or Kitty's protocol if the terminal says that it knows one, else in half-block characters.
    """
    # A cell is about twice as high as it is wide. What is narrower than one column in all rows is made as wide.
    narrowest = -(-picture.height // (2 * rows))
    if picture.width < narrowest:
        picture = picture.resize((narrowest, picture.height))
    columns = min(width, 2 * rows * picture.width // picture.height)
    return _in_protocol(picture, columns, width) or _in_half_blocks(picture, columns)


def _in_protocol(picture: Image, columns: int, width: int) -> str | None:
    """The picture in the terminal's own way, if it has one: it is asked, and answers on stdin."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
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
    except Exception:  # there is no end to what terminals answer, and half blocks need no answer
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
