"""What kind of photo a file is, by its name or its first bytes."""

from __future__ import annotations

import functools
import os
import re

from clipsearch.extras import is_installed

# File types by suffix, as in --type.
TYPES = {
    name: tuple(suffixes.split())
    for name, suffixes in {
        # .jps and .mpo are stereo cameras' pairs, of which the first is used; .insp are Insta360's panoramas.
        "jpeg": ".jpg .jpeg .jpe .jfif .pjpeg .pjp .mpo .jps .insp",
        "png": ".png .apng",
        "gif": ".gif",
        "webp": ".webp",
        "tiff": ".tif .tiff",
        "bmp": ".bmp .dib",
        "heic": ".heic .heif .hif",
        "avif": ".avif .avifs",
        "jp2": ".jp2 .j2k .j2c .jpc .jpf .jpx",
        "jxl": ".jxl",
        "psd": ".psd",  # by the composite that Photoshop saves with the layers
        "pnm": ".ppm .pgm .pbm .pnm",
        "tga": ".tga",
        "video": ".mp4 .m4v .mov .mkv .webm .avi"
        " .3gp .3gpp .3g2"  # older phones
        " .mts .m2ts .m2t .ts .mod .tod .dv .mxf"  # camcorders
        " .mpg .mpeg .mpe .m2v .vob"  # older cameras and DVDs
        " .wmv .asf .flv .f4v .divx .ogv .ogm"  # computers and the web
        " .qt .insv .360 .mp",  # MOV or MP4 under other names: from 360-degree cameras, the film of a Pixel's photo
        # Canon, Nikon, Sony, Adobe, Fujifilm, Panasonic, Olympus, Pentax, as cameras write them today
        "raw": ".cr2 .cr3 .nef .arw .dng .raf .rw2 .orf .pef"
        " .crw .nrw .sr2 .srf .srw .mrw .x3f .rwl .erf"  # older ones; Samsung, Minolta, Sigma, Leica, Epson
        " .kdc .dcr .k25 .3fr .fff .iiq .mef .mos .gpr",  # Kodak, Hasselblad, Phase One, Mamiya, Leaf, GoPro
    }.items()
}
_SUFFIXES_OF = {name: tuple(suffix.encode() for suffix in suffixes) for name, suffixes in TYPES.items()}
_RAW, _VIDEO, _JXL = (_SUFFIXES_OF[name] for name in ("raw", "video", "jxl"))
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES_OF.values() for suffix in suffixes)
# Suffixes of videos that other files have too: TypeScript and translations, modules of all kinds, data, MetaPost.
_SHARED = (b".ts", b".mts", b".mod", b".dv", b".tod", b".360", b".asf", b".vob", b".mp")

HEAD = 16  # bytes from the start of a file that identify every type below

# CR3, RAF, RW2 and RWL, ORF, CRW, MRW, X3F
RAW_NOT_TIFF = rb"....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|II....HEAPCCDR|\0MRM|FOVb"
_IS_JXL = re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")
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
    rb"|\0\0\0\x0cJXL \r\n\x87\n"  # JPEG XL in a container; without one, two bytes say too little
    rb"|8BPS\0\x01"  # PSD
    # TGA has no signature: check for a colour map flag, a known type and a size that is not zero.
    rb"|.(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]....[\x0f\x10\x18\x20])....(?!\0\0)..(?!\0\0)..|" + RAW_NOT_TIFF,
    re.DOTALL,
)
# Text, perhaps padded with zeros as a title; compressed files.
_NO_VIDEO = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:[\t\n\r\f\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{0,3})+\0*|(?:\xff\xfe|\xfe\xff|\x1f\x8b|PK\x03\x04).*",
    re.DOTALL,
)
_VIDEO_IN_TEXT = re.compile(rb"....(?:ftyp|moov|mdat|free|wide|skip)|RIFF....AVI |FLV\x01|OggS\0", re.DOTALL)
_VIDEO_START = re.compile(
    rb"....ftyp(?:iso|mp4|avc|qt  |M4V|MSNV|3g|dash|XAVC|f4v)|....(?:moov|mdat|wide)"
    rb"|\x1a\x45\xdf\xa3|RIFF....AVI |FLV\x01",
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


def extra_for(path: bytes) -> str | None:
    """The extra that files with this suffix need and that is not installed."""
    suffix = os.path.splitext(path)[1].lower()
    needed = "video" if suffix in _VIDEO else "jxl" if suffix in _JXL else None
    return needed if needed is not None and not _can_read(needed) else None


def is_unsupported(path: bytes) -> bool:
    """Whether files with this suffix need an extra that is not installed."""
    return extra_for(path) is not None


@functools.cache
def _can_read(extra: str) -> bool:
    return is_installed(extra)


def needs_a_look(path: bytes) -> bool:
    """Whether the suffix is missing or ambiguous, so that `begins_right` must decide."""
    suffix = os.path.splitext(path)[1].lower()
    return not suffix or suffix in _SHARED


# ------------------------------------------------------------------------------------------ first bytes


def looks_like_a_photo(head: bytes) -> bool:
    """Whether a file begins like an image that can be indexed; `head` is its first `HEAD` bytes."""
    return _PHOTO.match(head) is not None


def begins_right(path: bytes, head: bytes) -> bool:
    """Whether the first `HEAD` bytes go with the name: a `.ts` file may be a video or a program's source.

    Damaged videos are not told from sound ones; decoding them does.
    """
    suffix = os.path.splitext(path)[1].lower()
    if not suffix:
        return looks_like_a_photo(head)
    return suffix not in _SHARED or not _NO_VIDEO.fullmatch(head) or _VIDEO_IN_TEXT.match(head) is not None


def misnamed(path: bytes, head: bytes) -> str | None:
    """What is wrong with a file that begins like a video and is named like an image, or the other way round."""
    if is_video_name(path):
        return "an image with the suffix of a video; rename it" if browser_image_type(head) else None
    is_video = _VIDEO_START.match(head) and not looks_like_a_photo(head)
    return "a video with the suffix of an image; rename it" if is_video else None


def may_be_raw(head: bytes) -> bool:
    """False rules out a RAW file. Some are TIFFs, so True has to be checked with `raw.is_raw`."""
    return _MAY_BE_RAW.match(head) is not None


def is_jxl(head: bytes) -> bool:
    """Whether a file begins like a JPEG XL."""
    return _IS_JXL.match(head) is not None


def browser_image_type(head: bytes) -> str | None:
    """The media type of an image that browsers display, by its first `HEAD` bytes."""
    return next((name for name, start in _BROWSER_IMAGES.items() if re.match(start, head, re.DOTALL)), None)


def browser_video_type(head: bytes) -> str | None:
    """The media type of a video that browsers play, by its first `HEAD` bytes."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head.startswith(b"\x1a\x45\xdf\xa3") else None
