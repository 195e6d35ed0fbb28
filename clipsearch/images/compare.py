"""Decides whether one image file is a copy of another, so that deleting one loses nothing.

Embeddings cannot decide this: two pages of a contract have a cosine of 0.99. Perceptual hashes, stored when photos are
indexed, propose pairs. `Sketch` rejects nearly all wrong ones at 256 pixels. `copy_similarity` compares the rest at the
full size of the smaller picture, where a single changed digit is visible. When in doubt, they are not copies.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.attachments import attachments
from clipsearch.images.colour import in_srgb
from clipsearch.images.decode import decode, has_alpha_channel, is_raw
from clipsearch.images.likeness import LEAST_DETAIL, SMALLEST, Likeness, likeness_of, may_be_alike, same_framing

_SKETCH_SIDE = 256  # pixels
# The mean step of a JPEG's luminance quantization table is 12 at quality 90, 29 at 75, 58 at 50, 144 at 20.
_ASSUMED_STEP = 58.0  # for lossy formats that do not tell: enough for WebP at quality 50
_WEBP_CODING = re.compile(rb"VP8[ L]")  # lossy or lossless


# ------------------------------------------------------------------------------------------ facts


class Facts(NamedTuple):
    """What a file's header says that can rule out a copy.

    `frames` counts the pictures in the file. `date`, `fraction` (of its second) and `exposure` identify a shot. `step`
    is the mean luminance quantization step of a JPEG, None for lossless formats. `coding` is equal for files compressed
    in the same way. `attachments` are what the file has beyond its picture.
    """

    frames: int
    date: str
    fraction: str
    exposure: str
    has_alpha: bool
    step: float | None
    coding: str
    attachments: str


def _facts(data: bytes) -> Facts:
    if is_raw(data):
        raise ImageUnusable("a RAW file does not count as a copy")
    try:
        with Image.open(io.BytesIO(data)) as image:
            # In MPO files of phones and cameras, a gain map or a second view follows the photo.
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
            is_transparent, coding = _is_transparent(image), _compression(image, data)
            return Facts(frames, *_shot(image), is_transparent, *coding, attachments(image, data))
    except Exception as error:  # decoders raise anything on hostile files
        raise ImageUnusable("not an image that can be read") from error


def _shot(image: Image.Image) -> tuple[str, str, str]:
    """Date, fraction of its second, and exposure; empty if unknown."""
    try:
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged EXIF
        return "", "", ""
    tags = ExifTags.Base
    date, fraction = (
        str(details.get(tag) or "").strip("\0 ") for tag in (tags.DateTimeOriginal, tags.SubsecTimeOriginal)
    )
    settings = [_number(details.get(tag)) for tag in (tags.ExposureTime, tags.FNumber, tags.ISOSpeedRatings)]
    return date, fraction.rstrip("0"), " ".join(settings) if all(settings) else ""


def _number(value: Any) -> str:
    """Three significant digits: programs write 1/60 s as 10/600 or 16667/1000000."""
    try:
        return f"{float(value[0] if isinstance(value, tuple) else value):.3g}"
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return ""


def _is_transparent(image: Image.Image) -> bool:
    """Whether any pixel is. Many screenshots have an opaque alpha channel."""
    if not has_alpha_channel(image):
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(lowest < 255)  # type: ignore[operator]


def _compression(image: Any, data: bytes) -> tuple[float | None, str]:
    """`step` and `coding`. A palette counts as lossless: its colours must explain no difference."""
    tables = getattr(image, "quantization", None)
    if tables:
        luminance = next(iter(tables.values()))
        said = repr((sorted(tables.items()), image.getexif().get(ExifTags.Base.Orientation, 1)))
        return float(np.mean(luminance)), hashlib.sha256(said.encode()).hexdigest()[:16]
    is_lossy_webp = image.format == "WEBP" and (found := _WEBP_CODING.search(data)) and found[0] == b"VP8 "
    if image.format in ("HEIF", "AVIF", "JPEG2000", "JXL") or is_lossy_webp:
        return _ASSUMED_STEP, str(image.format)
    return None, "lossless"


def _facts_agree(best: Facts, other: Facts) -> bool:
    """A copy may lack the date and the attachments of the best, but not have others. Animations are never copies."""
    if best.frames > 1 or other.frames > 1 or best.has_alpha != other.has_alpha:
        return False
    if other.attachments not in ("", best.attachments):
        return False
    return all(not ours or not theirs or ours == theirs for ours, theirs in zip(best[1:4], other[1:4], strict=True))


# ------------------------------------------------------------------------------------------ files


class Sketch(NamedTuple):
    """A picture reduced to at most 256 pixels, grey (height, width) uint8, with its full size and facts."""

    width: int
    height: int
    grey: NDArray[np.uint8]
    facts: Facts


def sketch_of(data: bytes) -> Sketch:
    """Raises `ImageUnusable` for files that are never copies: RAW files, and what cannot be decoded."""
    facts = _facts(data)
    # Half a picture is no copy of the whole. Decoding at twice the size leaves the reduction to one good kernel.
    decoded = decode(data, short_side=2 * _SKETCH_SIDE, strict=True)
    width, height = decoded.metadata.width, decoded.metadata.height
    scale = min(1.0, _SKETCH_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = in_srgb(decoded.image).convert("L").resize(size, Image.Resampling.LANCZOS)
    return Sketch(width, height, np.asarray(grey), facts)


def may_be_copies(best: Sketch, other: Sketch) -> bool:
    """A quick check before `copy_similarity`. Never false for what that calls a copy."""
    one, two = (best.width, best.height), (other.width, other.height)
    if not _facts_agree(best.facts, other.facts) or not same_framing(one, two):
        return False
    if min(*best.grey.shape, *other.grey.shape) < SMALLEST:
        return min(*one, *two) >= SMALLEST
    step = max(of.facts.step or 0.0 for of in (best, other))
    return may_be_alike(best.grey, other.grey, step, min(max(one), max(two)) / _SKETCH_SIDE)


def copy_similarity(best: bytes, other: bytes) -> float | None:
    """The similarity (0 to 1) of the least similar windows of two image files if `other` adds nothing to `best`.

    None if it may, or if they differ. Reduces the larger picture to the size of the smaller, maps its tones to the
    other's, and compares all 8 x 8 windows at that size, at half and at a quarter of it. The more the files are
    compressed, the more they may differ; of two with the same size, only the compression of `other` counts, since it
    may be the original. Raises `ImageUnusable`.
    """
    facts = _facts(best), _facts(other)
    if not _facts_agree(*facts):
        return None
    steps = [of.step or 0.0 for of in facts]
    backgrounds = ("white", "black") if facts[0].has_alpha else ("white",)
    found: list[Likeness] = []
    for background in backgrounds:
        one, two = (decode(data, background=background, strict=True).image for data in (best, other))
        if any(one.info.get(key) != two.info.get(key) for key in ("icc_profile", "cicp")):
            one, two = in_srgb(one), in_srgb(two)
        step = steps[1] if one.size == two.size else max(steps)
        likeness = likeness_of(one, two, step, same_coding=facts[0].coding == facts[1].coding)
        if likeness is None:
            return None
        found.append(likeness)
    has_detail = max(likeness.detail for likeness in found) >= LEAST_DETAIL
    return min(likeness.similarity for likeness in found) if has_detail else None
