"""Decodes image files to upright 8-bit RGB, and reads their metadata."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from clipsearch.errors import BadRequest, ImageUnusable, SidecarUnusable, first_line
from clipsearch.extras import needs
from clipsearch.images.kinds import is_jxl, may_be_raw
from clipsearch.images.metadata import Metadata, metadata_of

# The limit against decompression bombs; 2 ** 28 is above the largest phone sensors (200 MP). Pillow's own limit is
# lower and counts pixels before a JPEG is decoded at a reduced scale, so it is raised out of the way.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 2**31)

_IPTC, _MAX_IPTC = 33723, 1 << 20  # TIFF tag; bytes, since 100 MB would take longer than a file may
_QUALITY = 75  # of JPEGs made here; WebP would be a fifth smaller and ten times as slow


class Decoded(NamedTuple):
    """`image` is RGB and upright, and may be smaller than the file's own size, which `metadata` has."""

    image: Image.Image
    metadata: Metadata


def decode(data: bytes, short_side: int | None = None, background: str = "white") -> Decoded:
    """Decode the first frame of an image: EXIF orientation applied, alpha on `background`, any mode to 8-bit RGB.

    With `short_side`, a JPEG is decoded at the smallest scale that leaves its short side at least that many pixels.
    Raises `ImageUnusable`, with a reason in a few words, for anything that cannot be decoded.
    """
    if not data:
        raise ImageUnusable("empty file")
    try:
        return _decode(data, short_side, background)
    except ImageUnusable:
        raise
    except (UnidentifiedImageError, SyntaxError):
        raise ImageUnusable("not an image that can be read") from None
    except MemoryError:
        raise ImageUnusable("too large for the memory") from None
    except Exception as error:  # decoders raise anything on hostile files
        is_jargon = re.search("decoder error|libjxl", str(error))  # "decoder error -2"
        raise ImageUnusable("damaged image data" if is_jargon else first_line(error)[:120]) from None


def _decode(data: bytes, short_side: int | None, background: str) -> Decoded:
    if is_raw(data):
        from clipsearch.images.raw import open_raw

        image, (width, height), exif = open_raw(data, short_side, MAX_PIXELS)
        return Decoded(image, metadata_of(exif, width, height))
    if data[4:8] == b"ftyp":
        _register_heif()
    elif is_jxl(data):
        _register_jxl()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if image.format == "EPS":  # Pillow would run Ghostscript
            raise ImageUnusable("not an image that can be read")
        if short_side is not None and image.format in ("JPEG", "MPO"):  # phones append more JPEGs, which makes it MPO
            scale = short_side / min(width, height)
            image.draft("RGB", (math.ceil(width * scale), math.ceil(height * scale)))
        if image.width * image.height > MAX_PIXELS:
            raise ImageUnusable(f"too large: {width} x {height} pixels")
        exif = _exif(image)
        image.load()
        metadata = metadata_of(exif, width, height)  # after loading: a TIFF's EXIF is read from the file itself
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        metadata = metadata._replace(keywords=_keywords(image))
        rgb = _upright(_to_rgb(image, background), orientation)
    if orientation in range(5, 9):  # rotated by 90 degrees
        metadata = metadata._replace(width=height, height=width)
    return Decoded(rgb, metadata)


def is_raw(data: bytes) -> bool:
    """Whether a file's bytes are those of a RAW file."""
    if not may_be_raw(data):  # saves importing the library for most files
        return False
    from clipsearch.images import raw

    return raw.is_raw(data)


def thumbnail(data: bytes, long_side: int) -> Image.Image:
    """An image file's bytes, upright, in sRGB, at most `long_side` pixels long. Raises `ImageUnusable`.

    Decodes in this process: use `sandbox.Decoders` for untrusted files.
    """
    image = decode(data, long_side).image
    image.thumbnail((long_side, long_side))
    return in_srgb(image)


def jpeg_of(image: Image.Image) -> bytes:
    """Encode as a JPEG without metadata."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


# ------------------------------------------------------------------------------------------ pixels


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


@functools.cache
def _register_jxl() -> None:
    try:
        with needs("jxl"):
            import pillow_jxl  # noqa: F401  # registers itself
    except BadRequest as error:
        raise ImageUnusable(str(error)) from None


def _upright(image: Image.Image, orientation: Any) -> Image.Image:
    # Keep only the orientation of the EXIF and XMP: the rest may be damaged.
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        image.info.pop(key, None)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return image


def has_alpha_channel(image: Image.Image) -> bool:
    """Whether the image can have transparent pixels, in a channel or a palette."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if mode in ("I", "F") or mode.startswith("I;"):
        return _reduce_depth(image).convert("RGB")
    if has_alpha_channel(image):
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, background), over).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # only in place
        return converted
    return image.convert("RGB")


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert an RGB image from its embedded colour profile, if it has one: Display P3 shown as sRGB looks pale."""
    from PIL import ImageCms

    profile = image.info.pop("icc_profile", None)
    if not isinstance(profile, bytes):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != "RGB":  # `decode` has already converted CMYK and grey
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):  # damaged profile
        return image
    assert converted is not None  # only in place
    converted.info.pop("icc_profile", None)
    return converted


def _reduce_depth(image: Image.Image) -> Image.Image:
    """Convert greyscale of 16 bits, 32 bits or floating point to 8 bits."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    top = float(values.max(initial=0))
    if image.mode == "F":
        full = 1.0 if top <= 1 else top
    else:
        full = 255.0 if image.mode == "I" and top <= 255 else 65535.0 if top <= 65535 else top
    return Image.fromarray((values.clip(0, full) * (255 / full)).round().astype(np.uint8))


# ------------------------------------------------------------------------------------------ metadata


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # damaged EXIF
        return Image.Exif()


def _keywords(image: Any) -> str | None:
    """The keywords in XMP and IPTC, one per line."""
    packets = [image.info[key] for key in ("xmp", "XML:com.adobe.xmp") if key in image.info]
    if not packets and "photoshop" not in image.info and image.format != "TIFF":
        return None
    from PIL import IptcImagePlugin

    from clipsearch.images.xmp import iptc_keywords, keywords

    found: list[str] = []
    for packet in packets:
        with contextlib.suppress(SidecarUnusable, UnicodeError):
            found += keywords(packet if isinstance(packet, bytes) else packet.encode())
    if image.format != "TIFF" or len(image.tag_v2._tagdata.get(_IPTC, b"")) <= _MAX_IPTC:
        with contextlib.suppress(Exception):  # damaged block
            found += iptc_keywords(IptcImagePlugin.getiptcinfo(image))
    return "\n".join(dict.fromkeys(found)) or None
