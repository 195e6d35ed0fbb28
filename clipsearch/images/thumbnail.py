"""A photo as a small picture of itself, for pages and terminals."""

from __future__ import annotations

import io
import os

from PIL import Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.decode import decode, in_srgb
from clipsearch.images.read import read

LONG_SIDE = 320
_QUALITY = 75  # WebP would be a fifth smaller, and take ten times as long to write


def thumbnail(path: bytes, long_side: int = LONG_SIDE, time: float | None = None) -> Image.Image | None:
    """A photo, or a video at a time, upright, in sRGB, and at most `long_side` pixels on its long side.

    None when it cannot be read.
    """
    if not os.path.isfile(path):  # opening a pipe that has taken its place would wait for ever
        return None
    try:
        return thumbnail_of(read(path) if time is None else still(path, time, long_side), long_side)
    except ImageUnusable:
        return None


def still(path: bytes, time: float, long_side: int) -> bytes:
    """A JPEG of the frame of a video at a time, decoded in a process of its own. Raises `ImageUnusable`."""
    from clipsearch.images.preprocess import Preprocess
    from clipsearch.images.sandbox import Decoders

    with Decoders(Preprocess((1, 1)), 1) as decoders:
        return decoders.frame(path, time, long_side)


def thumbnail_of(data: bytes, long_side: int = LONG_SIDE) -> Image.Image:
    """The same of a file's bytes. Raises `ImageUnusable`."""
    image = decode(data, long_side).image
    image.thumbnail((long_side, long_side))
    return in_srgb(image)


def as_jpeg(image: Image.Image) -> bytes:
    """A small picture as a file: nothing of the photo's metadata is in it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
