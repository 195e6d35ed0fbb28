"""Draws heat maps, masks and boxes over photos."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from clipsearch.errors import BadRequest, reason
from clipsearch.images.sandbox import Decoders
from clipsearch.paths import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clipsearch.arrays import Array
    from clipsearch.images.box import Box
    from clipsearch.models.detection import Detection
    from clipsearch.search.hit import Where
    from clipsearch.store.photo import Line

LONG_SIDE = 1024  # of a heat map in a file, in pixels
FACE_MARGIN = 1.5  # the side of the square around a face, as a multiple of the face's box

# Colour and opacity by heat. Cold areas stay visible, and opacity helps those who cannot tell the colours.
_HEATS = (0.0, 0.25, 0.6, 1.0)
_COLOURS = ((68, 1, 84, 0), (126, 20, 120, 60), (240, 96, 30, 130), (255, 226, 60, 170))


def annotated(
    picture: Image.Image, marks: Sequence[Where | Detection], lines: Iterable[Line] | None = None
) -> Image.Image:
    """A copy of the picture (RGB, upright, any size) with heat maps, boxes, and a box around each line of text."""
    out = picture.copy()
    for mark in marks:
        if mark.heat is not None:
            out = _with_heat(out, mark.heat)
    for mark in marks:
        _frame(out, *mark.pixels(*out.size))
    gap = 3 * _thickness(out)  # so that the frame does not cover the text
    for line in lines or ():
        left, top, right, bottom = line.box.pixels(*out.size)
        _frame(out, left - gap, top - gap, right + gap, bottom + gap)
    return out


def cropped(picture: Image.Image, face: Box, side: int) -> Image.Image:
    """The square around a face, with a margin, at most `side` pixels wide. At the picture's edge, it moves inwards."""
    left, top, right, bottom = face.pixels(*picture.size)
    size = min(max(1, round(FACE_MARGIN * max(right - left, bottom - top))), *picture.size)
    x = min(max(0, (left + right - size) // 2), picture.width - size)
    y = min(max(0, (top + bottom - size) // 2), picture.height - size)
    out = picture.crop((x, y, x + size, y + size))
    out.thumbnail((side, side))
    return out


def _with_heat(picture: Image.Image, heat: Array) -> Image.Image:
    layer = np.stack([np.interp(heat, _HEATS, values) for values in zip(*_COLOURS, strict=True)], -1)
    over = Image.fromarray(layer.round().astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")


def _thickness(picture: Image.Image) -> int:
    """Of a frame's white line, in pixels."""
    return max(1, max(picture.size) // 300)


def _frame(picture: Image.Image, left: int, top: int, right: int, bottom: int) -> None:
    """White between black, which is visible on any background."""
    thick = _thickness(picture)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline="black", width=3 * thick)
    inner = (left + thick, top + thick, right - 1 - thick, bottom - 1 - thick)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        draw.rectangle(inner, outline="white", width=thick)


def write_annotated(folder: Path, name: str, data: bytes, marks: Sequence[Where | Detection]) -> Path:
    """Write the marks over a photo, given as a file's bytes, as `name`.png, or `name`-2.png if that exists.

    Returns the path; creates the folder. Raises `BadRequest`, and `ImageUnusable` for bytes that are no image.
    """
    with Decoders(1) as decoders:
        picture = Image.fromarray(decoders.pixels(data, LONG_SIDE))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for n in itertools.count(1):
            path = folder / (f"{name}.png" if n == 1 else f"{name}-{n}.png")
            if os.path.lexists(path):
                continue
            with contextlib.suppress(FileExistsError):  # another process was faster
                with replacing(path, new=True) as temporary:
                    annotated(picture, marks).save(temporary, "PNG")
                return path
    except OSError as error:
        raise BadRequest(f"{folder} cannot be written to: {reason(error)}") from None
    raise AssertionError
