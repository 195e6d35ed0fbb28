"""Decodes cameras' RAW files: the embedded preview if it is large enough, otherwise a conversion at half size."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from datetime import datetime

import rawpy
from PIL import ExifTags, Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.kinds import RAW_NOT_TIFF

_SUB_IFDS, _PHOTOMETRIC, _DNG_VERSION = 330, 262, 50706
_SENSOR = (32803, 34892)  # photometric interpretations of sensor data: CFA and LinearRaw
_MAX_IFDS = 32
_CR3, _HEADER = b"ftypcrx ", 1 << 20  # bytes in which its boxes of metadata are
_EPOCH = 1970  # the year of LibRaw's dates where there are none
_DATES = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized)
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}

_NEVER_TIFF = re.compile(rb"II\*\0....CR|" + RAW_NOT_TIFF, re.DOTALL)  # the first is CR2


def is_raw(data: bytes) -> bool:
    """Whether a file's bytes are a RAW file. NEF, ARW, PEF and DNG are TIFFs with tags that say so."""
    if _NEVER_TIFF.match(data):
        return True
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    try:
        return any(
            tag == _DNG_VERSION or (tag == _PHOTOMETRIC and value[0] in _SENSOR)
            for tag, value in _tags(data, "<" if data[:2] == b"II" else ">")
        )
    except (struct.error, IndexError):  # truncated
        return False


def open_raw(data: bytes, short_side: int | None, most: int) -> tuple[Image.Image, tuple[int, int], Image.Exif]:
    """An upright RGB image, the photo's own size (width, height) when upright, and its EXIF.

    Uses the preview if its short side has `short_side` pixels (None: half of the photo's). Raises `ImageUnusable` for
    more than `most` pixels, and whatever LibRaw raises for a damaged file.
    """
    with rawpy.imread(io.BytesIO(data)) as raw:
        sizes = raw.sizes
        if sizes.raw_width * sizes.raw_height > most:
            raise ImageUnusable(f"too large: {sizes.raw_width} x {sizes.raw_height} pixels")
        turned = sizes.flip in (5, 6)
        size = (sizes.height, sizes.width) if turned else (sizes.width, sizes.height)
        wanted = min(short_side or min(size) // 2, min(size) // 2)
        preview, exif = _preview(raw, wanted)
        if preview is None:
            image = Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))  # already upright
        else:
            image = preview
            if (preview.width > preview.height) == (sizes.width > sizes.height) and sizes.flip in _TURNS:
                image = preview.transpose(_TURNS[sizes.flip])
        exif = _exif(data) or exif
        _add_date(exif, raw.other.timestamp)
    return image, size, exif


def _add_date(exif: Image.Exif, moment: datetime | None) -> None:
    """Add the date that LibRaw knows, of makers with formats of their own, if EXIF has none."""
    tags, details = ExifTags.Base, exif.get_ifd(ExifTags.IFD.Exif)
    if moment is None or moment.year <= _EPOCH or any(details.get(tag) for tag in _DATES) or exif.get(tags.DateTime):
        return
    details[tags.DateTimeOriginal] = moment.strftime("%Y:%m:%d %H:%M:%S")


def exif_of(data: bytes) -> Image.Exif:
    """The EXIF of a RAW file or, if it has none, of its preview. Raises whatever LibRaw raises for a damaged file."""
    exif = _exif(data)
    if exif is not None:
        return exif
    with rawpy.imread(io.BytesIO(data)) as raw:
        return _preview(raw, 0)[1]


def _preview(raw: rawpy.RawPy, short_side: int) -> tuple[Image.Image | None, Image.Exif]:
    """The preview in RGB, not rotated, or None if it is too small; and its EXIF."""
    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:  # no preview, or an unknown format
        return None, Image.Exif()
    if not isinstance(found.data, bytes):
        image = Image.fromarray(found.data)
        return (image if min(image.size) >= short_side else None), Image.Exif()
    try:
        with Image.open(io.BytesIO(found.data)) as image:
            exif = image.getexif()
            if min(image.size) < short_side:
                return None, exif
            image.draft("RGB", (2 * short_side, 2 * short_side))
            return image.convert("RGB"), exif
    except (OSError, ValueError, SyntaxError):  # the photo itself may be intact
        return None, Image.Exif()


def _exif(data: bytes) -> Image.Exif | None:
    """The EXIF of a CR3, or of a file with the structure of a TIFF, whatever its magic number."""
    exif = Image.Exif()
    try:
        if data[4:12] == _CR3:
            exif = _loaded(_box(data, b"CMT1"))
            for name, directory in ((b"CMT2", ExifTags.IFD.Exif), (b"CMT4", ExifTags.IFD.GPSInfo)):
                exif.get_ifd(directory).update(_loaded(_box(data, name)))
        elif data[:2] in (b"II", b"MM"):
            exif = _loaded(data[:2] + (b"*\0" if data[:2] == b"II" else b"\0*") + data[4:])
    except Exception:  # damaged EXIF
        return None
    return exif if len(exif) else None


def _loaded(tiff: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + tiff)
    return exif


def _box(data: bytes, name: bytes) -> bytes:
    """What is in the first box of a CR3 with this name; Canon has one for each directory of EXIF."""
    at = data.find(name, 0, _HEADER)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")] if at >= 4 else b""


def _tags(data: bytes, order: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The tags in all directories of a TIFF, with the values of those that are integers."""
    pending: list[int] = [struct.unpack_from(order + "I", data, 4)[0]]
    seen: set[int] = set()
    while pending and len(seen) < _MAX_IFDS:
        offset = pending.pop()
        if offset == 0 or offset in seen:
            continue
        seen.add(offset)
        (count,) = struct.unpack_from(order + "H", data, offset)
        for number in range(count):
            tag, values = _entry(data, order, offset + 2 + 12 * number)
            yield tag, values
            if tag == _SUB_IFDS:
                pending += values
        pending.append(struct.unpack_from(order + "I", data, offset + 2 + 12 * count)[0])


def _entry(data: bytes, order: str, offset: int) -> tuple[int, tuple[int, ...]]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, offset)
    letter = {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind)
    if letter is None or count > _MAX_IFDS:
        return tag, (0,)
    form = f"{order}{count}{letter}"
    at = offset + 8 if struct.calcsize(form) <= 4 else struct.unpack_from(order + "I", data, offset + 8)[0]
    return tag, struct.unpack_from(form, data, at)
