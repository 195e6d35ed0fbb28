"""What kind of photo a file is, by its name or its first bytes."""

from __future__ import annotations

import functools
import os
import re

from clipsearch.extras import is_installed

# File types by suffix.
TYPES = {
    name: tuple(suffixes.split())
    for name, suffixes in {
        "jpeg": ".jpg .jpeg .jpe .jfif",
        "png": ".png .apng",
        "gif": ".gif",
        "webp": ".webp",
        "tiff": ".tif .tiff",
        "bmp": ".bmp",
        "heic": ".heic .heif .hif",
        "avif": ".avif",
        "jp2": ".jp2",
        "pnm": ".ppm .pgm",
        "tga": ".tga",
        "video": ".mp4 .m4v .mov .mkv .webm .avi",
        "raw": ".cr2 .cr3 .nef .arw .dng .raf .rw2 .orf .pef",
    }.items()
}
_RAW, _VIDEO = (tuple(suffix.encode() for suffix in TYPES[name]) for name in ("raw", "video"))
SUFFIXES = frozenset(suffix.encode() for suffixes in TYPES.values() for suffix in suffixes)

HEAD = 16  # bytes from the start of a file that identify every type below

RAW_NOT_TIFF = rb"....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR"  # CR3, RAF, RW2, ORF
_MAY_BE_RAW = re.compile(rb"II\*\0|MM\0\*|" + RAW_NOT_TIFF, re.DOTALL)
_PHOTO = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|II[*+]\0|MM\0[*+]"  # TIFF, BigTIFF
    rb"|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0"  # BMP: reserved bytes, the length of a known header
    rb"|....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|avi[fs])"  # HEIC, AVIF
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000
    rb"|P[2356]\s+[\d#]"  # PGM, PPM
    # TGA has no signature: check for a colour map flag, a known type and a size that is not zero.
    rb"|.(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]....[\x0f\x10\x18\x20])....(?!\0\0)..(?!\0\0)..|" + RAW_NOT_TIFF,
    re.DOTALL,
)
_BROWSER_IMAGES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
    "image/avif": rb"....ftypavi[fs]",
}


# ------------------------------------------------------------------------------------------ names


def is_raw_name(path: bytes) -> bool:
    """Whether the suffix is that of a camera's RAW files."""
    return path.lower().endswith(_RAW)


def is_video_name(path: bytes) -> bool:
    """Whether the suffix is that of a video."""
    return path.lower().endswith(_VIDEO)


def kind_of(path: bytes) -> str | None:
    """The kind by suffix: "raw", "video", "still" (which may have no suffix), or None for other files."""
    if is_raw_name(path):
        return "raw"
    if is_video_name(path):
        return "video"
    suffix = os.path.splitext(path)[1].lower()
    return "still" if suffix in SUFFIXES or not suffix else None


def is_unsupported(path: bytes) -> bool:
    """Whether this is a video, by its suffix, and video support is not installed."""
    return is_video_name(path) and not _can_read_videos()


@functools.cache
def _can_read_videos() -> bool:
    return is_installed("video")


# ------------------------------------------------------------------------------------------ first bytes


def looks_like_a_photo(head: bytes) -> bool:
    """Whether a file begins like an image that can be indexed; `head` is its first `HEAD` bytes."""
    return _PHOTO.match(head) is not None


def may_be_raw(head: bytes) -> bool:
    """False rules out a RAW file. Some are TIFFs, so True has to be checked with `raw.is_raw`."""
    return _MAY_BE_RAW.match(head) is not None


def browser_image_type(head: bytes) -> str | None:
    """The media type of an image that browsers display, by its first `HEAD` bytes."""
    return next((name for name, start in _BROWSER_IMAGES.items() if re.match(start, head, re.DOTALL)), None)


def browser_video_type(head: bytes) -> str | None:
    """The media type of a video that browsers play, by its first `HEAD` bytes."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head.startswith(b"\x1a\x45\xdf\xa3") else None
