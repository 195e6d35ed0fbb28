"""What a file has beyond the 8-bit pixels that comparing sees: a video, a depth or gain map, layers, deeper colours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

_LEAST = 4096  # bytes after the picture that count: phones append a few hundred about the shot
_TIFF_BITS, _TIFF_CHANNELS, _TIFF_SUB_IMAGES, _TIFF_LAYERS = 258, 277, 330, 37724
_SIZE_OF_JP2 = re.compile(rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL)  # ends with the number of components
_PIXEL_BITS = re.compile(rb"pixi\0{4}(.)", re.DOTALL)  # of HEIC and AVIF: ends with the number of channels
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # one that ends the compressed data of a JPEG
_HELD_IN_BOXES = (b"ftyp", b"meta", b"mdat", b"free", b"skip")  # what a HEIC or AVIF consists of


def attachments(image: Any, data: bytes) -> str:
    """A digest of all that a file has beyond its picture, equal for files with the same; empty if there is nothing.

    `image` is the file, opened by Pillow. What cannot be told apart from the picture makes the digest that of the file.
    """
    if _has_more_than_pixels(image, data):
        return _digest(data)
    appended = _appended(image.format, data)
    return _digest(appended) if len(appended.strip(b"\0")) >= _LEAST else ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# ------------------------------------------------------------------------------------------ beyond 8 bits of RGB


def _has_more_than_pixels(image: Any, data: bytes) -> bool:
    if image.mode in ("CMYK", "LAB", "I", "F") or image.mode.startswith("I;"):
        return True
    look = _BY_FORMAT.get(image.format)
    return look is not None and look(image, data)


def _png_is_deep(_: Any, data: bytes) -> bool:
    return data[24] > 8


def _tiff_has_more(image: Any, _: bytes) -> bool:
    tags = image.tag_v2
    is_deep = max(tags.get(_TIFF_BITS, (1,))) > 8 or tags.get(_TIFF_CHANNELS, 1) > 4
    return is_deep or _TIFF_SUB_IMAGES in tags or _TIFF_LAYERS in tags


def _pnm_is_deep(image: Any, _: bytes) -> bool:
    return any(isinstance(tile[3], tuple) and tile[3][-1] > 255 for tile in image.tile)


def _jp2_is_deep(_: Any, data: bytes) -> bool:
    size = _SIZE_OF_JP2.search(data)
    if size is None:
        return True
    components = data[size.end() :: 3][: int.from_bytes(size[1], "big")]
    return any(bits & 0x7F > 7 for bits in components)  # one less than the depth


def _heif_has_more(image: Any, data: bytes) -> bool:
    if image.info.get("aux") or image.info.get("depth_images"):
        return True
    header = b"".join(data[start:end] for name, start, end in boxes(data) if name == b"meta")
    channels = (header[found.end() :][: found[1][0]] for found in _PIXEL_BITS.finditer(header))
    return b"tmap" in header or any(bits > 8 for every in channels for bits in every)


def _always(*_: Any) -> bool:
    return True


_BY_FORMAT: dict[str, Callable[[Any, bytes], bool]] = {
    "PNG": _png_is_deep,
    "TIFF": _tiff_has_more,
    "PPM": _pnm_is_deep,
    "JPEG2000": _jp2_is_deep,
    "HEIF": _heif_has_more,
    "AVIF": _heif_has_more,
    "JXL": _always,  # its decoder does not say how deep it is
    "PSD": _always,  # layers, masks, what lies outside the canvas
}


# ------------------------------------------------------------------------------------------ after the picture


def _appended(form: str | None, data: bytes) -> bytes:
    """What follows the picture: a motion photo's video, a gain map, a second view, an archive."""
    match form:
        case "JPEG" | "MPO":
            return data[_end_of_jpeg(data) :]
        case "PNG":
            return data[data.rfind(b"IEND") + 8 :]
        case "WEBP":
            return data[8 + int.from_bytes(data[4:8], "little") :]
        case "HEIF" | "AVIF":
            return b"".join(data[start:end] for name, start, end in boxes(data) if name not in _HELD_IN_BOXES)
    return b""


def _end_of_jpeg(data: bytes) -> int:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            found = _MARKER.search(data, at)
            at = found.start() if found else len(data)
    return min(at + 2, len(data))


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The top-level boxes of a HEIC or AVIF file: name, start and end. Stops at damage."""
    at = 0
    while at + 16 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        end = at + length if length else len(data)
        if end < at + 8:
            return
        yield data[at + 4 : at + 8], at, end
        at = end
