"""A photo as a small picture of itself, for pages and terminals."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

from clipsearch.images.decode import decode

LONG_SIDE = 320
_QUALITY = 75  # WebP would be a fifth smaller, and take ten times as long to write


def thumbnail_of(data: bytes, long_side: int = LONG_SIDE) -> Image.Image:
    """An image file's bytes, upright, in sRGB, and at most `long_side` pixels on its long side. Raises `ImageUnusable`.

    This decodes in the process that calls it: for other people's files, ask `sandbox.Decoders`.
    """
    image = decode(data, long_side).image
    image.thumbnail((long_side, long_side))
    return _in_srgb(image)


def as_jpeg(image: Image.Image) -> bytes:
    """A small picture as a file: nothing of the photo's metadata is in it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _in_srgb(image: Image.Image) -> Image.Image:
    """Phones write photos in colours of Display P3; taken for sRGB, they would be pale."""
    profile = image.info.pop("icc_profile", None)
    if not isinstance(profile, bytes):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != "RGB":  # decoding has converted a photo in CMYK or grey already
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):  # a damaged profile says nothing about the colours
        return image
    assert converted is not None  # it is only None when it works in place
    converted.info.pop("icc_profile", None)
    return converted
