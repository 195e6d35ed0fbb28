"""Compares decoded pictures: perceptual hashes, and whether all pixels agree up to size, tone curve and compression.

Measured by `scripts/measure_copies.py`; the thresholds come from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.arrays import Array
from clipsearch.images.colour import in_srgb

HASH_DISTANCE = 6  # bits; re-saved copies differ in at most 4 of 63

SMALLEST = 8  # pixels; anything smaller than one window cannot be compared
LEAST_DETAIL = 12.0  # grey levels: standard deviation of the most detailed window. Blank pages prove nothing.

_HASH_SIDE, _HASH_TERMS = 32, 8
_CELL = 4  # pixels; a window is two cells wide and high, and windows overlap by half
_BAND = 512  # rows compared at a time, to bound memory
_MOST_STEP = 144.0  # a JPEG at quality 20

_CELLS, _LEAST_SPREAD = 64, 16.0  # of an outline: cells, and grey levels below which their differences are noise
OUTLINE = _CELLS**2  # numbers

_TONES = 64  # steps of the curve that maps the tones of one picture to the other's
_LEAST_TONE_SHIFT, _MOST_TONE_SHIFT = 3.0, 40.0  # grey levels, of a brightness or contrast correction
_MOST_CHROMA_SHIFT = 12.0  # levels, of a colour correction of the whole picture
_MOST_CHROMA = 30.0  # levels by which 8 x 8 and 4 x 4 pixels may differ beyond that
_GREY, _COLOURED = 2.0, 8.0  # levels of chroma: at most in a picture without colours, at least in one with colours

_CONTRAST = (0.1 * 255) ** 2  # stabilises the structural similarity: less contrast counts as noise
_KERNELS = [Image.Resampling[name] for name in ("LANCZOS", "BICUBIC", "BOX", "BILINEAR", "HAMMING")]


# ------------------------------------------------------------------------------------------ hash


def perceptual_hash(image: Image.Image) -> int:
    """63 bits that survive resizing and compression: the signs of the lowest DCT terms of 32 x 32 grey pixels.

    The pHash of Zauner (2010), with the median of the terms as the threshold and without the constant term.
    """
    small = image.resize(
        (_HASH_SIDE, _HASH_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0
    )  # four times as fast with the gap
    grey = np.asarray(in_srgb(small).convert("L"), np.float32)
    terms = (_DCT @ grey @ _DCT.T).ravel()[1:]
    return int.from_bytes(np.packbits(terms > np.median(terms)).tobytes(), "big") >> 1


def _dct_matrix() -> Array:
    """The first rows (8, 32) of the discrete cosine transform, not normalised."""
    angles = np.pi * (2 * np.arange(_HASH_SIDE) + 1) / (2 * _HASH_SIDE)
    return np.cos(np.arange(_HASH_TERMS)[:, None] * angles).astype(np.float32)


_DCT = _dct_matrix()


# ------------------------------------------------------------------------------------------ comparison


class Likeness(NamedTuple):
    """How alike two pictures are that agree everywhere.

    `similarity` is the structural similarity (Wang et al. 2004) of their least similar windows, 0 to 1; `detail` is the
    standard deviation of the most detailed window, in grey levels.
    """

    similarity: float
    detail: float


class _Tolerance(NamedTuple):
    """How much two versions of a window may differ, in grey levels.

    The variance of the difference may be the square of `noise` plus a `share` of the windows' own variances:
    compression and resampling matter most at edges. Where most windows differ by more, as when compression removes the
    noise of a dark photo, all may differ by up to `most`. The means may differ by `shift`.
    """

    noise: float
    most: float
    share: float
    shift: float


# Sketches may differ by this much more: they were reduced in two steps, and a JPEG while it was decoded.
_OF_SKETCHES = _Tolerance(10.0, 10.0, 0.1, 50.0)
# Files of the same size, compression, tones and colours are either the same pixels, up to the rounding of a second
# compression, or two shots from a tripod, in which even the noise differs.
_RESAVED = (_Tolerance(1.6, 1.6, 0.02, 3.0),) * 3


def _tolerances(step: float, *, is_corrected: bool) -> tuple[_Tolerance, ...]:
    """Tolerances at full, half and quarter size.

    Averaging 4 or 16 pixels removes most compression artefacts, but not a changed word. A colour correction changes the
    grey of coloured areas by a different amount than that of grey ones.
    """
    more, shift = (2.7, 14.0) if is_corrected else (0.0, 8.0)
    return (
        _Tolerance(more + 1.2 + 0.205 * step, more + 1.2 + 0.4 * step, 0.06, shift + 0.1 * step),
        _Tolerance(more + 0.8 + 0.05 * step, more + 0.8 + 0.16 * step, 0.03, shift + 0.05 * step),
        _Tolerance(more + 0.7 + 0.02 * step, more + 0.7 + 0.08 * step, 0.02, shift),
    )


def same_framing(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have the same aspect ratio, up to rounding to whole pixels."""
    (w, h), (width, height) = sorted((a, b))
    return abs(w * height / width - h) <= 1.0 or abs(h * width / height - w) <= 1.0


def likeness_of(a: Image.Image, b: Image.Image, step: float, *, same_coding: bool = False) -> Likeness | None:
    """Compare two upright RGB pictures; None if they differ anywhere.

    `step` is the mean quantization step of the more compressed one. `same_coding` asks for near-identical pixels, if
    neither size nor colours differ.
    """
    large, small = (a, b) if a.width * a.height >= b.width * b.height else (b, a)
    if min(small.size) < SMALLEST or not same_framing(large.size, small.size):
        return None
    correction = _colour_correction(large, small)
    if correction is None:
        return None
    step, is_same_size, has_other_colours = min(step, _MOST_STEP), large.size == small.size, correction > _GREY
    tolerances = _tolerances(step, is_corrected=has_other_colours)
    if same_coding and is_same_size and not has_other_colours:
        tolerances = _RESAVED
    target = small.convert("L")
    reduced = _reduced(large.convert("L"), target)
    likeness = _compared(reduced, target, tolerances)
    for one, other in ((reduced, target), (target, reduced)):
        mapped = None if likeness else _with_tones_of(one, other)
        likeness = _compared(mapped, other, _tolerances(step, is_corrected=True)) if mapped else likeness
    return likeness


def may_be_alike(a: NDArray[np.uint8], b: NDArray[np.uint8], step: float, reduction: float) -> bool:
    """A quick check of small grey versions, which need not have the same size. Never false for what is alike.

    `reduction` is how many times smaller they are than the smaller picture.
    """
    small, large = sorted((Image.fromarray(grey) for grey in (a, b)), key=lambda image: image.width * image.height)
    reduced = _reduced(large, small)
    levels = _tolerances(min(step, _MOST_STEP), is_corrected=True)
    level = levels[0 if reduction < 2 else 1 if reduction < 4 else 2]
    tolerance = _Tolerance(*(value + more for value, more in zip(level, _OF_SKETCHES, strict=True)))
    versions = (reduced, _with_tones_of(reduced, small))
    return not all(_Windows.of(one, small).differing(tolerance).any() for one in versions if one is not None)


def outline(grey: NDArray[np.uint8]) -> NDArray[np.int8]:
    """A picture as 64 x 64 cells, independent of brightness and contrast, to find the most alike of many."""
    cells = np.asarray(Image.fromarray(grey).resize((_CELLS, _CELLS), Image.Resampling.BOX), np.float32)
    spread = max(float(cells.std()), _LEAST_SPREAD)
    numbers: NDArray[np.int8] = ((cells - cells.mean()) * (32 / spread)).round().clip(-127, 127).astype(np.int8)
    return numbers.ravel()


def _reduced(large: Image.Image, small: Image.Image) -> Image.Image:
    """Resize a grey picture to another's size, with the kernel that the other was most likely made with."""
    if large.size == small.size:
        return large
    return min((large.resize(small.size, kernel) for kernel in _KERNELS), key=lambda one: _square_error(one, small))


def _compared(a: Image.Image, b: Image.Image, tolerances: tuple[_Tolerance, ...]) -> Likeness | None:
    """Compare grey pictures of one size, halving both for each tolerance; None if any window differs."""
    similarity, detail = 1.0, 0.0
    for tolerance in tolerances:
        windows = _Windows.of(a, b)
        if windows.differing(tolerance).any():
            return None
        similarity, detail = min(similarity, windows.similarity()), max(detail, windows.detail())
        if min(a.size) < 2 * SMALLEST:
            break
        a, b = a.reduce(2), b.reduce(2)
    return Likeness(max(0.0, similarity), detail)


def _with_tones_of(a: Image.Image, b: Image.Image) -> Image.Image | None:
    """Map the tones of a grey picture to those of another of its size; None unless they differ, and only slightly.

    The curve is the mean tone in `b` for each tone of `a`, made monotonic. It has to explain most of the difference,
    since compression moves tones too.
    """
    ours, theirs = (np.asarray(of)[::2].ravel() for of in (a, b))
    steps = ours // (256 // _TONES)
    counts = np.bincount(steps, minlength=_TONES)
    used = counts > 0
    means = np.bincount(steps, theirs, _TONES)[used] / counts[used]
    centres = np.bincount(steps, ours, _TONES)[used] / counts[used]
    tones = np.interp(np.arange(256), centres, np.maximum.accumulate(means))
    matters = counts[used] > len(ours) / 1000
    shift = float(np.abs(means - centres)[matters].max(initial=0.0))
    if not _LEAST_TONE_SHIFT < shift <= _MOST_TONE_SHIFT:
        return None
    mapped = a.point([round(float(tone)) for tone in tones])
    return mapped if _square_error(mapped, b) <= _square_error(a, b) / 2 else None


def _square_error(a: Image.Image, b: Image.Image) -> float:
    ours, theirs = (np.asarray(of)[::2].astype(np.int32) for of in (a, b))
    return float(np.square(ours - theirs).mean())


def _colour_correction(a: Image.Image, b: Image.Image) -> float | None:
    """The difference in chroma (95th percentile, in levels); None if the colours differ.

    Compares blocks of 8 x 8 pixels, so that a red light differs from a green one, and of 4 x 4, so that red letters on
    green of the same brightness differ. A greyscale version is not a copy.
    """
    first, second = _chroma(a, b, 8), _chroma(b, b, 8)
    low, high = sorted(float(np.abs(of).max()) for of in (first, second))
    if low <= _GREY and high >= _COLOURED:
        return None
    difference = first - second
    shift = np.median(difference, axis=(0, 1))
    if np.abs(shift).max() > _MOST_CHROMA_SHIFT:
        return None
    for blocks in (difference, _chroma(a, b, 4) - _chroma(b, b, 4)):
        if np.abs(blocks - shift).max() > _MOST_CHROMA:
            return None
    return float(np.quantile(np.abs(difference), 0.95))


def _chroma(image: Image.Image, reference: Image.Image, side: int) -> Array:
    """Cb and Cr of as many blocks as the reference has with so many pixels a side, -128 to 127."""
    size = max(1, reference.width // side), max(1, reference.height // side)
    return np.asarray(image.resize(size, Image.Resampling.BOX).convert("YCbCr"), np.float32)[..., 1:] - 128


# ------------------------------------------------------------------------------------------ windows


class _Windows(NamedTuple):
    """All 8 x 8 windows of two pictures: variances, variance of the difference, and difference of the means."""

    left: Array
    right: Array
    difference: Array
    shift: Array

    @staticmethod
    def of(a: Image.Image, b: Image.Image) -> _Windows:
        """Measure two grey pictures of one size, at least 8 x 8 pixels."""
        bands = list(_bands(np.asarray(a), np.asarray(b)))
        return _Windows(*(np.concatenate(part) for part in zip(*bands, strict=True)))

    def differing(self, tolerance: _Tolerance) -> NDArray[np.bool_]:
        typical = float(np.quantile(self.difference, 0.75))
        noise = min(tolerance.noise**2 + typical, tolerance.most**2)
        allowed = np.float32(noise) + np.float32(tolerance.share) * (self.left + self.right)
        differing: NDArray[np.bool_] = (self.difference > allowed) | (np.abs(self.shift) > tolerance.shift)
        return differing

    def similarity(self) -> float:
        return float((1 - self.difference / (self.left + self.right + np.float32(_CONTRAST))).min())

    def detail(self) -> float:
        return float(np.sqrt(np.maximum(np.minimum(self.left, self.right).max(), 0)))


def _bands(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Iterator[tuple[Array, Array, Array, Array]]:
    for top in range(0, max(1, left.shape[0] - _CELL), _BAND):
        x, y = (of[top : top + _BAND + _CELL].astype(np.float32) for of in (left, right))
        if x.shape[0] < 2 * _CELL:
            break
        mean_x, mean_y = _means(x), _means(y)
        shift = mean_x - mean_y
        left_variance, right_variance = _means(x * x) - mean_x * mean_x, _means(y * y) - mean_y * mean_y
        yield left_variance, right_variance, _means((x - y) ** 2) - shift * shift, shift


def _means(values: Array) -> Array:
    """The mean of every window of two by two cells."""
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
