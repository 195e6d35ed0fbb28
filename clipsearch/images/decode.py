"""One file or byte stream to one upright RGB image, and what its header says about it."""

from __future__ import annotations

import contextlib
import functools
import io
import math
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from clipsearch.errors import ImageUnusable, SidecarUnusable, first_line
from clipsearch.images.kinds import may_be_raw
from clipsearch.images.metadata import Metadata, metadata_of

# A decompression bomb is small as a file and fills the memory when it is decoded. 2 ** 28 is above the largest
# phone sensors (200 MP). Pillow's own limit is lower, and knows nothing of JPEGs decoded at a reduced scale.
MAX_PIXELS = 2**28
_IPTC, _MOST_IPTC = 33723, 1 << 20  # a TIFF's tag, and bytes: 100 MB would take more than the minute of a file
_QUALITY = 75  # of JPEGs made here; WebP would be a fifth smaller and ten times as slow
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 2**31)


class Decoded(NamedTuple):
    """`image` is RGB and upright, and may be smaller than the file says; `metadata` has the file's own size."""

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
    except Exception as error:  # decoders raise whatever a hostile file makes them raise
        raise ImageUnusable(_in_few_words(error)) from None


def _decode(data: bytes, short_side: int | None, background: str) -> Decoded:
    if is_raw(data):
        return _decode_raw(data, short_side)
    if data[4:8] == b"ftyp":
        _register_heif()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if image.format == "EPS":  # Pillow would run Ghostscript to decode it
            raise ImageUnusable("not an image that can be read")
        if short_side is not None and image.format in ("JPEG", "MPO"):  # MPO: more JPEGs follow, as phones do
            scale = short_side / min(width, height)
            image.draft("RGB", (math.ceil(width * scale), math.ceil(height * scale)))
        if image.width * image.height > MAX_PIXELS:
            raise ImageUnusable(f"too large: {width} x {height} pixels")
        exif = _exif(image)
        image.load()
        metadata = metadata_of(exif, width, height)  # a TIFF's EXIF is read from the file itself
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        metadata = metadata._replace(keywords=_keywords(image))
        rgb = _upright(_to_rgb(image, background), orientation)
    if orientation in range(5, 9):  # those that turn the picture by a quarter
        metadata = metadata._replace(width=height, height=width)
    return Decoded(rgb, metadata)


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


def _keywords(image: Any) -> str | None:
    """The keywords in a photo's XMP and IPTC, one a line."""
    packets = [image.info[key] for key in ("xmp", "XML:com.adobe.xmp") if key in image.info]
    if not packets and "photoshop" not in image.info and image.format != "TIFF":
        return None
    from PIL import IptcImagePlugin

    from clipsearch.images.xmp import iptc_keywords, keywords

    found: list[str] = []
    for packet in packets:
        with contextlib.suppress(SidecarUnusable, UnicodeError):
            found += keywords(packet if isinstance(packet, bytes) else packet.encode())
    if image.format == "TIFF" and len(image.tag_v2._tagdata.get(_IPTC, b"")) > _MOST_IPTC:
        return "\n".join(dict.fromkeys(found)) or None
    with contextlib.suppress(Exception):  # of a damaged block
        found += iptc_keywords(IptcImagePlugin.getiptcinfo(image))
    return "\n".join(dict.fromkeys(found)) or None


def is_raw(data: bytes) -> bool:
    """Whether a file's bytes are those of a RAW file."""
    if not may_be_raw(data):  # most files, for which the library is not loaded
        return False
    from clipsearch.images import raw

    return raw.is_raw(data)


def _decode_raw(data: bytes, short_side: int | None) -> Decoded:
    from clipsearch.images.raw import open_raw

    image, (width, height), exif = open_raw(data, short_side, MAX_PIXELS)
    return Decoded(image, metadata_of(exif, width, height))


def _upright(image: Image.Image, orientation: Any) -> Image.Image:
    """The image turned as its EXIF says. Of its EXIF only the orientation is kept: the rest may be damaged."""
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        image.info.pop(key, None)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return image


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if mode in ("I", "F") or mode.startswith("I;"):
        return _reduce_depth(image).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, background)
        return Image.alpha_composite(under, over).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is only None when it works in place
        return converted
    return image.convert("RGB")


def in_srgb(image: Image.Image) -> Image.Image:
    """An RGB image converted from its embedded colour profile, if it has one: Display P3 shown as sRGB looks pale."""
    from PIL import ImageCms

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


def _reduce_depth(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating point greyscale to 8 bits."""
    import numpy as np

    values = np.asarray(image).astype(np.float32)
    values = np.nan_to_num(values)
    top = float(values.max(initial=0))
    if image.mode == "F":
        full = 1.0 if top <= 1 else top
    else:
        full = 255.0 if image.mode == "I" and top <= 255 else 65535.0 if top <= 65535 else top
    return Image.fromarray((values.clip(0, full) * (255 / full)).round().astype(np.uint8))


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # damaged EXIF says nothing about the pixels
        return Image.Exif()


def _in_few_words(error: Exception) -> str:
    if "decoder error" in str(error):  # with a number that only the decoder's authors know
        return "damaged image data"
    return first_line(error)[:120]
