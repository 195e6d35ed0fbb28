"""Decodes image files to upright 8-bit RGB, and reads their metadata."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from clipsearch.errors import BadRequest, ImageUnusable, first_line
from clipsearch.extras import needs
from clipsearch.images.attachments import boxes
from clipsearch.images.colour import code_points, in_srgb, with_profile
from clipsearch.images.facts import Facts, combined
from clipsearch.images.kinds import is_jxl, may_be_raw
from clipsearch.images.metadata import Exposure, Metadata, exif_facts, exposure_of, metadata_of

# The limit against decompression bombs; 2 ** 28 is above the largest phone sensors (200 MP). Pillow's own limit is
# lower and counts pixels before a JPEG is decoded at a reduced scale, so it is raised out of the way.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 2**31)

# Editors write megabytes of history into PNGs. A decoding process has its own limit of memory.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 2**26, 2**28

_MAX_FRAMES, _MAX_PAGES = 24, 16  # to look at; later ones never represent the file
_THUMBNAIL = 512  # pixels of the long side, at most
_NEW_SUBFILE_TYPE, _PHOTOMETRIC = 254, 262  # TIFF tags
_DEPTHS = (8, 12, 16)  # bits of cameras and scanners, stored in 16
_NOISE = 8  # levels in a picture of one colour, from compression

_IPTC = 33723  # TIFF tag
_PHOTOSHOP_IPTC, _PHOTOSHOP_EXIF = 0x0404, 0x0422  # among the image resources
_JP2_EXIF = b"JpgTiffExif->JP2"  # the identifier of a box
_MORE_XMP, _MORE_XMP_HEADER = b"http://ns.adobe.com/xmp/extension/\0", 40  # bytes: an identifier, length and offset
_MOST_MORE_XMP = 1 << 20  # bytes; of photos with a depth map it has megabytes
_XMP_UNREAD = ("PSD", "GIF", "JPEG2000", "JXL")  # formats that may have XMP, but Pillow does not read it
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
_LEAST_DECODED = 0.1  # share of a damaged picture's rows; less shows nothing that anybody would search for
_leniency = threading.Lock()  # Pillow's leniency is a global
_QUALITY = 75  # of JPEGs made here; WebP would be a fifth smaller and ten times as slow


class Decoded(NamedTuple):
    """`image` is RGB and upright, and may be smaller than the file's own size, which `metadata` has.

    It still has the file's colours, which `colour.in_srgb` converts. `is_partial`: the file is cut short or damaged.
    """

    image: Image.Image
    metadata: Metadata
    is_partial: bool = False


def decode(data: bytes, short_side: int | None = None, background: str = "white", *, strict: bool = False) -> Decoded:
    """Decode to 8-bit RGB: EXIF orientation applied, alpha on `background`.

    Of an animation it is the first frame that shows something; of a TIFF the first page that is not a thumbnail.
    With `short_side`, a JPEG is decoded at the smallest scale that leaves its short side at least that many pixels.
    A file that is cut short or damaged is decoded as far as it goes, like in most viewers; `strict` refuses it.
    Raises `ImageUnusable`, with a reason in a few words, for anything that cannot be decoded.
    """
    if not data:
        raise ImageUnusable("empty file")
    try:
        return _decode(data, short_side, background)
    except ImageUnusable:
        raise
    except MemoryError:
        raise ImageUnusable("too large for this machine's memory") from None
    except Exception as error:  # decoders raise anything on hostile files
        partial = None if strict else _decode_damaged(data, short_side, background)
        if partial is None:
            raise ImageUnusable(_reason(error)) from None
        return partial


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError | SyntaxError):
        return "not an image that can be read"
    is_jargon = re.search("decoder|libjxl|Invalid input:|data stream", str(error))  # "decoder error -2"
    return "damaged image data" if is_jargon else first_line(error)[:120]


def _decode_damaged(data: bytes, short_side: int | None, background: str) -> Decoded | None:
    """The part of a damaged file that can be decoded, the rest grey or black. None if that is next to nothing."""
    with _leniency:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            decoded = _decode(data, short_side, background)
        except Exception:
            return None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    is_enough = _share_with_content(decoded.image) >= _LEAST_DECODED
    return decoded._replace(is_partial=True) if is_enough else None


def _share_with_content(image: Image.Image) -> float:
    """The share of rows, or of columns if that is less, that are not one colour. What was not decoded is."""
    import numpy as np

    pixels = np.asarray(image)
    return min(float((pixels.max(axis) != pixels.min(axis)).any(-1).mean()) for axis in (0, 1))


def _decode(data: bytes, short_side: int | None, background: str) -> Decoded:
    if is_raw(data):
        from clipsearch.images.raw import open_raw

        image, (width, height), exif = open_raw(data, short_side, MAX_PIXELS)
        packet = exif.get(ExifTags.Base.XMLPacket)
        if not isinstance(packet, bytes):
            from clipsearch.images.xmp_facts import packet_in

            packet = packet_in(data)
        packets = [packet] if packet else []
        metadata = _with_orientation(metadata_of(exif, width, height), exif.get(ExifTags.Base.Orientation))
        return Decoded(image, _with_facts(metadata, exif, packets))
    with _opened(data) as image:
        if image.format == "TIFF":
            _skip_thumbnail(image)
        width, height = image.size
        if is_deep := _is_deep_psd(data):
            width //= 2
        if image.format == "EPS":  # Pillow would run Ghostscript
            raise ImageUnusable("not an image that can be read")
        if short_side is not None and image.format in ("JPEG", "MPO"):  # phones append more JPEGs, which makes it MPO
            scale = short_side / min(width, height)
            image.draft("RGB", (math.ceil(width * scale), math.ceil(height * scale)))
            image.decodermaxblock = len(data)  # instead of 64 KB at a time, which takes 3% longer
        if image.width * image.height > MAX_PIXELS:
            raise ImageUnusable(f"too large: {width} x {height} pixels")
        exif = _exif(image, data)
        image.load()
        if image.format in _ANIMATED:
            _skip_empty_frames(image)
        metadata = metadata_of(exif, width, height)  # after loading: a TIFF's EXIF is read from the file itself
        orientation = _orientation(image, exif, data)
        if image.format in ("HEIF", "AVIF", "PNG") and (points := code_points(data)):
            image.info["cicp"] = points
        metadata = _with_embedded(metadata, image, exif, data)
        if is_deep:  # the first byte of each value
            flat = image.transform((width, height), Image.Transform.AFFINE, (2, 0, -0.75, 0, 1, 0))
        rgb = _upright(_to_rgb(flat if is_deep else image, background), orientation)
    if orientation in range(5, 9):  # rotated by 90 degrees
        metadata = metadata._replace(width=height, height=width)
    return Decoded(rgb, _with_orientation(metadata, orientation))


def _with_orientation(metadata: Metadata, orientation: Any) -> Metadata:
    return metadata._replace(exif_orientation=int(orientation)) if orientation in range(2, 9) else metadata


def _opened(data: bytes) -> ImageFile.ImageFile:
    if data[4:8] == b"ftyp":
        _register_heif()
    elif is_jxl(data):
        _register_jxl()
    elif _is_deep_psd(data):  # Pillow reads values of 8 bits only, here twice as many
        data = data[:18] + (2 * int.from_bytes(data[18:22], "big")).to_bytes(4, "big") + b"\0\x08" + data[24:]
    return Image.open(io.BytesIO(data))


def _is_deep_psd(data: bytes) -> bool:
    return data.startswith(b"8BPS\0\x01") and data[22:24] == b"\0\x10"


def _skip_thumbnail(image: Any) -> None:
    """Seek the largest page of a TIFF if the first is its thumbnail."""
    if not getattr(image, "is_animated", False):
        return
    width, height = image.size
    is_reduced = bool(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1)
    best, most = 0, width * height
    with contextlib.suppress(Exception):  # end of the file, or a damaged page
        for page in range(1, _MAX_PAGES):
            image.seek(page)
            is_larger = min(image.width / width, image.height / height) >= 2 and max(width, height) <= _THUMBNAIL
            if (is_reduced or is_larger) and image.width * image.height > most:
                best, most = page, image.width * image.height
    image.seek(best)


def _skip_empty_frames(image: Any) -> None:
    """Seek the first frame of an animation that is neither transparent nor of one colour, if any is."""
    if not getattr(image, "is_animated", False) or not _is_empty(image):
        return
    with contextlib.suppress(Exception):  # end of the file, or a damaged frame
        for frame in range(1, _MAX_FRAMES):
            image.seek(frame)
            image.load()
            if not _is_empty(image):
                return
    image.seek(0)
    image.load()


def _is_empty(image: Image.Image) -> bool:
    *colours, (_, most_opaque) = (channel.getextrema() for channel in image.convert("RGBA").split())
    return most_opaque == 0 or all(high - low <= _NOISE for low, high in colours)  # type: ignore[operator]


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
    image.save(out, "JPEG", quality=_QUALITY, optimize=True, comment=None)  # else Pillow copies that of a JPEG or GIF
    return out.getvalue()


# ------------------------------------------------------------------------------------------ pixels


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _orientation(image: Any, exif: Image.Exif, data: bytes) -> Any:
    """EXIF's orientation, as far as the decoder has not applied it.

    HEIC and AVIF have boxes for it, beside which EXIF's is only informative; but some phones and programs write EXIF
    alone. pillow_heif applies the boxes, Pillow's AVIF decoder puts them into the EXIF, and both remove EXIF's own.
    """
    if image.format not in ("HEIF", "AVIF") or _has_turn_box(data):
        return exif.get(ExifTags.Base.Orientation, 1)
    if image.format == "HEIF":
        return image.info.get("original_orientation") or 1
    with contextlib.suppress(Exception):  # a private attribute, and damaged EXIF
        own = Image.Exif()
        own.load(image._decoder.get_info()[4])
        return own.get(ExifTags.Base.Orientation, 1)
    return 1


def _has_turn_box(data: bytes) -> bool:
    """Whether the `meta` box of a HEIC or AVIF file contains a rotation or a reflection."""
    header = next(((start, end) for name, start, end in boxes(data) if name == b"meta"), (0, 0))
    return any(data.find(name, *header) >= 0 for name in (b"irot", b"imir"))


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
    """Convert to RGB in the colour space of the image's `info`, or in sRGB for modes whose profiles are not RGB's."""
    mode = image.mode
    if has_alpha_channel(image):
        over = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", over.size, background), over).convert("RGB")
        flat.info |= {key: image.info[key] for key in ("icc_profile", "cicp") if key in image.info}
        return flat
    if mode == "RGB":
        return image._new(image.im)  # the same pixels without the decoder; `copy` would copy them
    profile = image.info.get("icc_profile")
    if mode in ("I", "F") or mode.startswith("I;"):
        image = _reduce_depth(image)
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # only in place
        converted.info.pop("icc_profile", None)
        return converted
    if image.mode in ("CMYK", "L") and isinstance(profile, bytes):
        return with_profile(image, profile) or image.convert("RGB")
    return image.convert("RGB")


def _reduce_depth(image: Image.Image) -> Image.Image:
    """Convert greyscale of 16 bits, 32 bits or floating point to 8 bits."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    top = float(values.max(initial=0))
    if image.mode == "F":
        full = 1.0 if top <= 1 else top
    else:
        full = next((2.0**bits - 1 for bits in _DEPTHS if top < 2**bits), top)
    levels = (values.clip(0, full) * (255 / full)).round().astype(np.uint8)
    return Image.fromarray(255 - levels if _white_is_zero(image) else levels)


def _white_is_zero(image: Any) -> bool:
    """Whether a TIFF is inverted; Pillow handles that for 8 bits, but not for more."""
    return image.format == "TIFF" and bool(image.tag_v2.get(_PHOTOMETRIC) == 0)


# ------------------------------------------------------------------------------------------ metadata


def exposure(data: bytes) -> Exposure:
    """The lens and exposure of an image file, without decoding its pixels. Raises `ImageUnusable`."""
    try:
        if is_raw(data):
            from clipsearch.images.raw import exif_of

            return exposure_of(exif_of(data))
        with _opened(data) as image:
            return exposure_of(_exif(image, data))
    except ImageUnusable:
        raise
    except Exception as error:  # decoders raise anything on hostile files
        raise ImageUnusable(_reason(error)) from None


def _exif(image: Any, data: bytes) -> Image.Exif:
    try:
        if image.format in ("PSD", "JPEG2000"):  # Pillow does not look for it
            exif, start = Image.Exif(), data.find(_JP2_EXIF)
            block = data[start + len(_JP2_EXIF) :] if start >= 0 else _psd_resource(image, _PHOTOSHOP_EXIF)
            exif.load(b"Exif\0\0" + block)
            return exif
        if image.format == "PNG" and "Raw profile type APP1" in image.info:
            image.info.setdefault("Raw profile type exif", image.info["Raw profile type APP1"])
        found: Image.Exif = image.getexif()
        return found
    except Exception:  # damaged EXIF
        return Image.Exif()


def _with_embedded(metadata: Metadata, image: Any, exif: Image.Exif, data: bytes) -> Metadata:
    """Add the facts in EXIF, XMP, IPTC and PNG's chunks."""
    packets = [image.info[key] for key in ("xmp", "XML:com.adobe.xmp") if key in image.info]
    others: Iterable[Facts] = ()
    if image.format in _XMP_UNREAD:
        from clipsearch.images.xmp_facts import packet_in

        packets = [packet_in(data)]
    elif image.format == "PNG":
        from clipsearch.images.png import png_facts, raw_profile
        from clipsearch.images.xmp_facts import packet_in

        packets += filter(None, (packet_in(raw_profile(image.info, name)) for name in ("xmp", "APP1")))
        others = png_facts(data, image.info)
    packets = [one if isinstance(one, bytes) else one.encode() for one in packets]
    packets += filter(None, [_more_xmp(image)])
    return _with_facts(metadata, exif, packets, _iptc(image), others)


def _more_xmp(image: Any) -> bytes:
    """The XMP of a JPEG that did not fit into one segment; empty if there is none, or too much."""
    found = [part[len(_MORE_XMP) :] for _, part in getattr(image, "applist", ()) if part.startswith(_MORE_XMP)]
    if sum(map(len, found)) > _MOST_MORE_XMP:
        return b""
    return b"".join(part[_MORE_XMP_HEADER:] for part in sorted(found, key=lambda part: part[36:_MORE_XMP_HEADER]))


def _iptc(image: Any) -> bytes:
    """The block of IPTC; empty if there is none."""
    if image.format == "PNG":
        from clipsearch.images.png import raw_profile

        return raw_profile(image.info, "iptc")
    if image.format == "TIFF":
        return bytes(image.tag_v2._tagdata.get(_IPTC, b""))
    if image.format == "PSD":
        return _psd_resource(image, _PHOTOSHOP_IPTC)
    resources = image.info.get("photoshop")
    return resources.get(_PHOTOSHOP_IPTC, b"") if isinstance(resources, dict) else b""


def _psd_resource(image: Any, number: int) -> bytes:
    """The first resource of a Photoshop file with this number; empty if there is none."""
    return next((data for found, _, data in getattr(image, "resources", ()) if found == number), b"")


def _with_facts(
    metadata: Metadata, exif: Image.Exif, packets: Iterable[bytes], iptc: bytes = b"", others: Iterable[Facts] = ()
) -> Metadata:
    of_packets = (map(_packet_facts, [packet]) for packet in packets)
    sources = [exif_facts(exif), *of_packets, _iptc_facts(iptc), others]
    facts: list[Facts] = []
    for source in sources:
        with contextlib.suppress(Exception):  # damaged or hostile metadata costs no photo
            facts += source
    return metadata.with_facts(combined(facts))


def _packet_facts(packet: bytes) -> Facts:
    from clipsearch.images.xmp_facts import facts_of

    return facts_of(packet)


def _iptc_facts(block: Any) -> Iterator[Facts]:
    if block:
        from clipsearch.images.iptc import iptc_facts

        yield iptc_facts(block)
