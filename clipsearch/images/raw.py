"""RAW files of cameras: the preview that is in them where it is large enough, else a development at half the size."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

import rawpy
from PIL import Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.kinds import RAW_NOT_TIFF

_SUB_IFDS, _PHOTOMETRIC, _DNG_VERSION = 330, 262, 50706
_SENSOR = (32803, 34892)  # what a sensor has seen, as a mosaic or in lines
_MOST_IFDS = 32
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}

_OWN = re.compile(rb"II\*\0....CR|" + RAW_NOT_TIFF, re.DOTALL)  # of cameras alone; the first is CR2


def is_raw(data: bytes) -> bool:
    """Whether a file's bytes are what a camera's sensor has seen; NEF, ARW, PEF and DNG are TIFFs that say so."""
    if _OWN.match(data):
        return True
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    try:
        return any(
            tag == _DNG_VERSION or (tag == _PHOTOMETRIC and value[0] in _SENSOR)
            for tag, value in _tags(data, "<" if data[:2] == b"II" else ">")
        )
    except (struct.error, IndexError):  # it says nothing more
        return False


def open_raw(data: bytes, short_side: int | None, most: int) -> tuple[Image.Image, tuple[int, int], Image.Exif]:
    """An upright RGB image, the photo's size upright (width, height), and its EXIF.

    The preview counts where its short side has at least `short_side` pixels, or half of the photo's if that is None.
    Raises `ImageUnusable` for more than `most` pixels, and what LibRaw raises for a damaged file.
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
            image = Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))  # which turns it
        else:
            image = preview
            if (preview.width > preview.height) == (sizes.width > sizes.height) and sizes.flip in _TURNS:
                image = preview.transpose(_TURNS[sizes.flip])
    return image, size, _exif(data) or exif


def _preview(raw: rawpy.RawPy, short_side: int) -> tuple[Image.Image | None, Image.Exif]:
    """The preview in RGB, as it lies in the file, if there is one of this size, and its EXIF if there is one at all."""
    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:  # there is none, or none that can be read
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
    except (OSError, ValueError, SyntaxError):  # a damaged preview: the photo itself may be sound
        return None, Image.Exif()


def _exif(data: bytes) -> Image.Exif | None:
    """The EXIF of a file that is a TIFF, or that is one but for its first bytes."""
    if data[:2] not in (b"II", b"MM"):
        return None
    exif = Image.Exif()
    magic = b"*\0" if data[:2] == b"II" else b"\0*"
    try:
        exif.load(b"Exif\0\0" + data[:2] + magic + data[4:])
    except Exception:  # damaged EXIF says nothing about the pixels
        return None
    return exif if len(exif) else None


def _tags(data: bytes, order: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The tags of all directories of a TIFF with their values, where these are whole numbers."""
    left: list[int] = [struct.unpack_from(order + "I", data, 4)[0]]
    seen: set[int] = set()
    while left and len(seen) < _MOST_IFDS:
        place = left.pop()
        if place == 0 or place in seen:
            continue
        seen.add(place)
        (count,) = struct.unpack_from(order + "H", data, place)
        for number in range(count):
            tag, values = _entry(data, order, place + 2 + 12 * number)
            yield tag, values
            if tag == _SUB_IFDS:
                left += values
        left.append(struct.unpack_from(order + "I", data, place + 2 + 12 * count)[0])


def _entry(data: bytes, order: str, place: int) -> tuple[int, tuple[int, ...]]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, place)
    letter = {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind)
    if letter is None or count > _MOST_IFDS:
        return tag, (0,)
    form = f"{order}{count}{letter}"
    at = place + 8 if struct.calcsize(form) <= 4 else struct.unpack_from(order + "I", data, place + 8)[0]
    return tag, struct.unpack_from(form, data, at)
