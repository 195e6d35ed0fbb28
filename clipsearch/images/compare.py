"""Decides on pixels whether two image files show the same picture, so that one may be called a copy of the other.

An embedding cannot decide this: two pages of a contract have a cosine of 0.99. A perceptual hash, stored when a photo
is indexed, proposes pairs; `Sketch` rejects nearly all wrong ones at 256 pixels; `copy_similarity` compares the rest at
the full size of the smaller picture, where a single changed digit is visible. When in doubt, pictures are different.

Measured by `scripts/measure_copies.py`; the thresholds below come from there.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from clipsearch.arrays import Array
from clipsearch.errors import ImageUnusable
from clipsearch.images.decode import decode, in_srgb, is_raw

HASH_DISTANCE = 6  # bits; re-saved copies differ in at most 4 of 63, different photos in at least 12

_HASH_SIDE, _HASH_TERMS = 32, 8
_SKETCH_SIDE = 256  # pixels
_CELL = 4  # pixels; a window is two cells wide and high, and windows overlap by half
_BAND = 512  # rows compared at a time, which bounds the memory
_SMALLEST = 8  # pixels; less than one window cannot be compared

# Structural similarity (Wang et al. 2004) without its luminance term. The constant is large: below a contrast of about
# 25 of 255, noise and compression count for more than structure.
_CONTRAST = (0.1 * 255) ** 2
_LEAST_DETAIL = 12.0  # grey levels: the standard deviation of the most detailed window. A blank page proves nothing.

# What JPEG compression may cost, by the mean of its luminance quantization table (12 at quality 90, 144 at 20).
_ASSUMED_STEP = 40.0  # for lossy formats that do not tell: WebP at quality 50 passes
_MOST_STEP = 144.0

_TONES = 65  # quantiles by which the tones of one picture are mapped to those of the other
_MOST_TONE_SHIFT = 64.0  # grey levels that a brightness or contrast correction may move a tone
_MOST_CHROMA_SHIFT = 12.0  # levels of a colour correction of the whole picture
_MOST_CHROMA = 24.0  # levels by which a 16th of the side may differ beyond that

_LEAST_OF_FRAMES, _MOST_ERROR_OF_FRAMES = 0.6, 8.0  # of two frames at 144 pixels, whose compression nobody states

_KERNELS = (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX)

Grey = NDArray[np.float32]


# ------------------------------------------------------------------------------------------ hash


def perceptual_hash(image: Image.Image) -> int:
    """63 bits that survive resizing and compression: the signs of the lowest DCT terms of 32 x 32 grey pixels.

    The pHash of Zauner (2010), with the median of the terms as the threshold and without the constant term.
    """
    small = image.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)  # a quarter of the time
    grey = np.asarray(small.convert("L"), np.float32)
    terms = (_DCT @ grey @ _DCT.T).ravel()[1:]
    return int.from_bytes(np.packbits(terms > np.median(terms)).tobytes(), "big") >> 1


def _dct_matrix() -> Array:
    """The first rows (8, 32) of the discrete cosine transform, not normalised."""
    angles = np.pi * (2 * np.arange(_HASH_SIDE) + 1) / (2 * _HASH_SIDE)
    return np.cos(np.arange(_HASH_TERMS)[:, None] * angles).astype(np.float32)


_DCT = _dct_matrix()


# ------------------------------------------------------------------------------------------ sketches


class Facts(NamedTuple):
    """What a file's header says that decides whether it can be a copy at all.

    `frames` are pictures in the file, `moment` when the shutter was released, with fractions of a second; `step` is the
    mean luminance quantization step of a JPEG, None for lossless formats.
    """

    frames: int
    moment: str
    has_alpha: bool
    step: float | None


class Sketch(NamedTuple):
    """A picture reduced to at most 256 pixels, grey (height, width) uint8, with its full size and its facts."""

    width: int
    height: int
    grey: NDArray[np.uint8]
    facts: Facts


def sketch_of(data: bytes) -> Sketch:
    """Raises `ImageUnusable` for files that are compared with nothing: RAW files, and what cannot be decoded."""
    facts = _facts(data)
    decoded = decode(data, short_side=_SKETCH_SIDE)
    width, height = decoded.metadata.width, decoded.metadata.height
    scale = min(1.0, _SKETCH_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = decoded.image.convert("L").resize(size, Image.Resampling.BOX)
    return Sketch(width, height, np.asarray(grey), facts)


def may_be_copies(a: Sketch, b: Sketch) -> bool:
    """Whether the full comparison is worth its time. Never false for what `copy_similarity` calls a copy."""
    if not _facts_agree(a.facts, b.facts) or not same_framing((a.width, a.height), (b.width, b.height)):
        return False
    height, width = np.minimum(a.grey.shape, b.grey.shape)
    if min(height, width) < _SMALLEST:
        return min(a.width, a.height, b.width, b.height) >= _SMALLEST
    left, right = (_resized(of.grey, width, height) for of in (a, b))
    measured = _measure(_with_tones_of(left, right), right)
    return measured.fifth >= 0.5


def _resized(grey: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    image = Image.fromarray(grey)
    return image if image.size == (width, height) else image.resize((int(width), int(height)), Image.Resampling.BOX)


def same_framing(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have one aspect ratio, up to the rounding of the smaller to whole pixels."""
    (w, h), (width, height) = sorted((a, b))
    return abs(w * height / width - h) <= 1.0 or abs(h * width / height - w) <= 1.0


def _facts(data: bytes) -> Facts:
    if is_raw(data):
        raise ImageUnusable("a RAW file is no copy of a picture")
    try:
        with Image.open(io.BytesIO(data)) as image:
            # MPO files of phones and cameras hold a gain map or a second view after the photo itself.
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
            has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            return Facts(frames, _moment(image), has_alpha, _step(image))
    except ImageUnusable:
        raise
    except Exception as error:  # decoders raise whatever a hostile file makes them raise
        raise ImageUnusable("not an image that can be read") from error


def _moment(image: Image.Image) -> str:
    try:
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
        when = (details.get(ExifTags.Base.DateTimeOriginal), details.get(ExifTags.Base.SubsecTimeOriginal))
    except Exception:  # damaged EXIF says nothing
        return ""
    date, fraction = (str(part or "").strip("\0 ") for part in when)
    return f"{date}.{fraction}" if date else ""


def _step(image: Any) -> float | None:
    """The mean quantization step of a JPEG's luminance; None for a lossless file."""
    tables = getattr(image, "quantization", None)
    if tables:
        return float(np.mean(next(iter(tables.values()))))
    return _ASSUMED_STEP if image.format in ("WEBP", "HEIF", "AVIF", "JPEG2000", "GIF") or image.mode == "P" else None


def _facts_agree(a: Facts, b: Facts) -> bool:
    """Several pictures in one file are not one; a copy may lose its date, never get another; nor gain or lose alpha."""
    if a.frames > 1 or b.frames > 1 or a.has_alpha != b.has_alpha:
        return False
    whole, other = sorted((a.moment, b.moment), key=len, reverse=True)
    return not other or whole == other or (other.endswith(".") and whole.startswith(other))


# ------------------------------------------------------------------------------------------ comparison


class _Measure(NamedTuple):
    """How alike two grey pictures of one size are.

    `least` and `fifth` are the minimum and the 5% quantile of the structural similarity of all 8 x 8 windows, `error`
    the root mean square difference in grey levels, `detail` the standard deviation of the most detailed window.
    """

    least: float
    fifth: float
    error: float
    detail: float


def copy_similarity(a: bytes, b: bytes) -> float | None:
    """How alike the least similar places of two image files are, 0 to 1, if they show the same picture; else None.

    The larger picture is reduced to the size of the smaller, its tones are mapped to those of the other, and every
    8 x 8 window must agree, at that size and at half of it. How well depends on how strongly the files are compressed.
    Raises `ImageUnusable`.
    """
    facts = _facts(a), _facts(b)
    if not _facts_agree(*facts):
        return None
    grounds = ("white", "black") if facts[0].has_alpha else ("white",)
    found = [_similarity_on(a, b, facts, ground) for ground in grounds]
    alike = [one for one in found if one is not None]
    return min(alike) if len(alike) == len(found) else None


def _similarity_on(a: bytes, b: bytes, facts: tuple[Facts, Facts], ground: str) -> float | None:
    one, other = (decode(data, background=ground).image for data in (a, b))
    if one.info.get("icc_profile") != other.info.get("icc_profile"):
        one, other = in_srgb(one), in_srgb(other)
    if one.width * one.height < other.width * other.height:
        one, other = other, one
    if min(other.size) < _SMALLEST or not same_framing(one.size, other.size):
        return None
    if not _colours_agree(one, other):
        return None
    step = min(_MOST_STEP, max(of.step or 0.0 for of in facts))
    grey = other.convert("L")
    return max((alike for alike in _by_kernel(one.convert("L"), grey, step) if alike is not None), default=None)


def _by_kernel(large: Image.Image, small: Image.Image, step: float) -> Iterator[float | None]:
    """The similarity for each way in which the smaller may have been made from the larger, until one fits."""
    resized = large.size != small.size
    for kernel in _KERNELS if resized else _KERNELS[:1]:
        reduced = large.resize(small.size, kernel) if resized else large
        alike = _similarity(_with_tones_of(reduced, small), small, step, resized=resized)
        yield alike
        if alike is not None:
            return


def grey_similarity(a: Image.Image, b: Image.Image) -> float | None:
    """The same for two frames of videos, both grey and small; None if they differ."""
    if a.size != b.size:
        if not same_framing(a.size, b.size):
            return None
        a = a.resize(b.size, Image.Resampling.BOX)
    measured = _measure(_with_tones_of(a, b), b)
    return measured.least if measured.least >= _LEAST_OF_FRAMES and measured.error <= _MOST_ERROR_OF_FRAMES else None


def _similarity(a: Image.Image, b: Image.Image, step: float, *, resized: bool) -> float | None:
    full = _measure(a, b)
    if full.detail < _LEAST_DETAIL or full.least < _least_at_full_size(step):
        return None
    if full.error > _most_error(step) + 4.0 * resized:
        return None
    if min(a.size) >= 2 * _SMALLEST:
        half = _measure(a.reduce(2), b.reduce(2))
        if half.least < _least_at_half_size(step):
            return None
    return max(0.0, full.least)


def _least_at_full_size(step: float) -> float:
    return 0.92 - 0.0042 * step


def _least_at_half_size(step: float) -> float:
    return 0.93 - 0.0006 * step


def _most_error(step: float) -> float:
    """Two shots from a tripod differ by their noise alone, which is more than careful compression costs."""
    return 3.0 + 0.14 * step


def _with_tones_of(a: Image.Image, b: Image.Image) -> Image.Image:
    """A grey picture with its tones mapped to those of another, where a correction of brightness or contrast fits."""
    ours, theirs = np.asarray(a), np.asarray(b)
    left, right = (np.quantile(of, np.linspace(0, 1, _TONES)) for of in (ours, theirs))
    tones = np.interp(np.arange(256), np.maximum.accumulate(left + np.arange(_TONES) * 1e-3), right)
    used = slice(int(left[1]), int(left[-2]) + 1)
    shift = float(np.abs(tones - np.arange(256))[used].max(initial=0.0))
    if not 3.0 < shift <= _MOST_TONE_SHIFT:
        return a
    mapped = a.point([round(float(tone)) for tone in tones])
    return mapped if _error(np.asarray(mapped), theirs) < _error(ours, theirs) else a


def _error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """The mean absolute difference of every fourth row."""
    return float(np.abs(a[::4].astype(np.int16) - b[::4]).mean())


def _measure(a: Image.Image, b: Image.Image) -> _Measure:
    """Compare two pictures of one size, both grey."""
    left, right = np.asarray(a), np.asarray(b)
    alike: list[Array] = []
    squares, detail = 0.0, 0.0
    for top in range(0, max(1, left.shape[0] - _CELL), _BAND):
        x, y = (of[top : top + _BAND + _CELL].astype(np.float32) for of in (left, right))
        if x.shape[0] < 2 * _CELL:
            break
        squares += float(np.square(x[:_BAND] - y[:_BAND]).sum())
        similarity, deviation = _windows(x, y)
        alike.append(similarity.ravel())
        detail = max(detail, deviation)
    every = np.concatenate(alike)
    error = math.sqrt(squares / left.size)
    return _Measure(float(every.min()), float(np.quantile(every, 0.05)), error, detail)


def _windows(x: Grey, y: Grey) -> tuple[Array, float]:
    """The structural similarity of every window, and the largest standard deviation of one."""
    mean_x, mean_y = _means(x), _means(y)
    variance_x, variance_y = _means(x * x) - mean_x * mean_x, _means(y * y) - mean_y * mean_y
    covariance = _means(x * y) - mean_x * mean_y
    contrast = np.float32(_CONTRAST)
    similarity = (2 * covariance + contrast) / (variance_x + variance_y + contrast)
    return similarity.astype(np.float32), math.sqrt(max(0.0, float(np.minimum(variance_x, variance_y).max())))


def _means(values: Grey) -> Array:
    """The means of all windows of two by two cells."""
    height, width = (side // _CELL * _CELL for side in values.shape)
    rows = values[0:height:_CELL, :width].copy()
    for n in range(1, _CELL):
        rows += values[n:height:_CELL, :width]
    cells = rows[:, 0::_CELL].copy()
    for n in range(1, _CELL):
        cells += rows[:, n::_CELL]
    pairs = cells[:-1] + cells[1:]
    means: Array = (pairs[:, :-1] + pairs[:, 1:]) * np.float32(1 / (4 * _CELL * _CELL))
    return means


def _colours_agree(a: Image.Image, b: Image.Image) -> bool:
    """Whether the colours are the same up to a slight correction: a red logo is no copy of a blue one."""
    size = max(1, min(16, b.width // 4)), max(1, min(16, b.height // 4))
    (first, second) = (
        np.asarray(of.resize(size, Image.Resampling.BOX).convert("YCbCr"), np.float32)[..., 1:] for of in (a, b)
    )
    difference = first - second
    shift = np.median(difference, axis=(0, 1))
    return bool((np.abs(shift) <= _MOST_CHROMA_SHIFT).all() and np.abs(difference - shift).max() <= _MOST_CHROMA)
