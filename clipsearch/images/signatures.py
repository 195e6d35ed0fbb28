"""Photos recognised by their first bytes, for files whose names do not say what they are."""

from __future__ import annotations

import re

HEAD = 16  # bytes that are enough for all kinds

RAW_ALONE = rb"....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR"  # CR3, RAF, RW2, ORF: RAW files that are no TIFF

_SIGNATURES = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|II[*+]\0|MM\0[*+]"  # TIFF, BigTIFF
    rb"|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0"  # BMP: unused bytes, the length of a known header
    rb"|....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|avi[fs])"  # HEIC, AVIF
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000
    rb"|P[2356]\s+[\d#]"  # PGM, PPM
    # TGA has no signature: a colour map or none, a known type, a size that is not zero.
    rb"|.(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]....[\x0f\x10\x18\x20])....(?!\0\0)..(?!\0\0)..|" + RAW_ALONE,
    re.DOTALL,
)


_MAY_BE_RAW = re.compile(rb"II\*\0|MM\0\*|" + RAW_ALONE, re.DOTALL)

# The kinds that a browser shows, and how they are called there.
_SHOWN = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
    "image/avif": rb"....ftypavi[fs]",
}


def shown_type(head: bytes) -> str | None:
    """The media type of a file by its first `HEAD` bytes, if it is of a kind that browsers show."""
    return next((name for name, start in _SHOWN.items() if re.match(start, head, re.DOTALL)), None)


def video_type(head: bytes) -> str | None:
    """The media type of a file by its first `HEAD` bytes, if it is a video of a kind that browsers play."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head.startswith(b"\x1a\x45\xdf\xa3") else None


def may_be_raw(head: bytes) -> bool:
    """Whether a file may be a RAW file of a camera; some are TIFFs."""
    return _MAY_BE_RAW.match(head) is not None


def looks_like_a_photo(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of a kind that can be indexed."""
    return _SIGNATURES.match(head) is not None
