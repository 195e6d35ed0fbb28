"""A photo as a small picture of itself, for pages and terminals."""

from __future__ import annotations

import io

from PIL import Image

from clipsearch.images.decode import decode, in_srgb

LONG_SIDE = 320
_QUALITY = 75  # WebP would be a fifth smaller, and take ten times as long to write


def thumbnail_of(data: bytes, long_side: int = LONG_SIDE) -> Image.Image:
    """An image file's bytes, upright, in sRGB, and at most `long_side` pixels on its long side. Raises `ImageUnusable`.

    This decodes in the process that calls it: for other people's files, ask `sandbox.Decoders`.
    """
    image = decode(data, long_side).image
    image.thumbnail((long_side, long_side))
    return in_srgb(image)


def as_jpeg(image: Image.Image) -> bytes:
    """A small picture as a file: nothing of the photo's metadata is in it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
