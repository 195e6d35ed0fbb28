"""Decides on pixels whether two image files show the same picture, so that one may be called a copy of the other.

An embedding cannot decide this: two pages of a contract have a cosine of 0.99. A perceptual hash, stored when a photo
is indexed, proposes pairs; `Sketch` rejects nearly all wrong ones at 256 pixels; `copy_similarity` compares the rest at
the full size of the smaller picture, where a single changed digit is visible. When in doubt, pictures are different.

Measured by `scripts/measure_copies.py`; the thresholds below come from there.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from clipsearch.arrays import Array
from clipsearch.errors import ImageUnusable
from clipsearch.images.decode import decode, in_srgb, is_raw

HASH_DISTANCE = 6  # bits; re-saved copies differ in at most 4 of 63

_HASH_SIDE, _HASH_TERMS = 32, 8
_SKETCH_SIDE = 256  # pixels
_CELL = 4  # pixels; a window is two cells wide and high, and windows overlap by half
_BAND = 512  # rows compared at a time, which bounds the memory
_SMALLEST = 8  # pixels; less than one window cannot be compared
LEAST_DETAIL = 12.0  # grey levels: the standard deviation of the most detailed window. A blank page proves nothing.

# The mean step of a JPEG's luminance quantization table: 12 at quality 90, 29 at 75, 58 at 50, 144 at 20.
ASSUMED_STEP = 58.0  # for lossy formats that do not tell: WebP at quality 50 passes
_MOST_STEP = 144.0

_TONES = 64  # steps of the curve that maps the tones of one picture to those of the other
_LEAST_TONE_SHIFT, _MOST_TONE_SHIFT = 3.0, 40.0  # grey levels that a correction of brightness or contrast moves a tone
_MOST_CHROMA_SHIFT = 12.0  # levels of a colour correction of the whole picture
_MOST_CHROMA = 30.0  # levels by which 8 x 8 pixels may differ beyond that
_GREY, _COLOURED = 2.0, 8.0  # levels of chroma: the most of a picture without colours, the least of one with colours

_CONTRAST = (0.1 * 255) ** 2  # of the structural similarity that is reported: a contrast that counts as noise
_KERNELS = [Image.Resampling[name] for name in ("LANCZOS", "BICUBIC", "BOX", "BILINEAR", "HAMMING")]


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


# ------------------------------------------------------------------------------------------ facts


class Facts(NamedTuple):
    """What a file's header says that decides whether it can be a copy at all.

    `frames` are pictures in the file; `date`, `fraction` (of its second) and `exposure` identify the release of the
    shutter. `step` is the mean luminance quantization step of a JPEG, None for lossless formats; `coding` is the same
    for files that were compressed in the same way.
    """

    frames: int
    date: str
    fraction: str
    exposure: str
    has_alpha: bool
    step: float | None
    coding: str


def _facts(data: bytes) -> Facts:
    if is_raw(data):
        raise ImageUnusable("a RAW file is no copy of a picture")
    try:
        with Image.open(io.BytesIO(data)) as image:
            # MPO files of phones and cameras hold a gain map or a second view after the photo itself.
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
            return Facts(frames, *_shot(image), _has_alpha(image), *_compression(image))
    except Exception as error:  # decoders raise whatever a hostile file makes them raise
        raise ImageUnusable("not an image that can be read") from error


def _shot(image: Image.Image) -> tuple[str, str, str]:
    """Date, fraction of its second, and exposure; each empty where it is not known."""
    try:
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged EXIF says nothing
        return "", "", ""
    tags = ExifTags.Base
    date, fraction = (
        str(details.get(tag) or "").strip("\0 ") for tag in (tags.DateTimeOriginal, tags.SubsecTimeOriginal)
    )
    settings = [_number(details.get(tag)) for tag in (tags.ExposureTime, tags.FNumber, tags.ISOSpeedRatings)]
    return date, fraction.rstrip("0"), " ".join(settings) if all(settings) else ""


def _number(value: Any) -> str:
    """Three digits: programs write 1/60 s as 10/600 or 16667/1000000."""
    try:
        return f"{float(value[0] if isinstance(value, tuple) else value):.3g}"
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return ""


def _has_alpha(image: Image.Image) -> bool:
    """Whether anything shines through: many screenshots have an alpha channel that says no."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(lowest < 255)  # type: ignore[operator]


def _compression(image: Any) -> tuple[float | None, str]:
    tables = getattr(image, "quantization", None)
    if tables:
        luminance = next(iter(tables.values()))
        said = repr((sorted(tables.items()), image.getexif().get(ExifTags.Base.Orientation, 1)))
        return float(np.mean(luminance)), hashlib.sha256(said.encode()).hexdigest()[:16]
    if image.format in ("WEBP", "HEIF", "AVIF", "JPEG2000", "JXL", "GIF") or image.mode == "P":
        return ASSUMED_STEP, str(image.format)
    return None, "lossless"


def _facts_agree(a: Facts, b: Facts) -> bool:
    """Several pictures in one file are not one; a copy may lose its date, never get another; nor gain or lose alpha."""
    if a.frames > 1 or b.frames > 1 or a.has_alpha != b.has_alpha:
        return False
    return all(not ours or not theirs or ours == theirs for ours, theirs in zip(a[1:4], b[1:4], strict=True))


# ------------------------------------------------------------------------------------------ sketches


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
    return float(_Windows.of(_with_tones_of(left, right) or left, right).differing(_OF_SKETCHES).mean()) <= 1 / 20


def _resized(grey: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    image = Image.fromarray(grey)
    return image if image.size == (width, height) else image.resize((int(width), int(height)), Image.Resampling.BOX)


def same_framing(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have one aspect ratio, up to the rounding of the smaller to whole pixels."""
    (w, h), (width, height) = sorted((a, b))
    return abs(w * height / width - h) <= 1.0 or abs(h * width / height - w) <= 1.0


# ------------------------------------------------------------------------------------------ comparison


class Likeness(NamedTuple):
    """Of two pictures that agree everywhere.

    `similarity` is the structural similarity (Wang et al. 2004) of their least similar windows, 0 to 1; `detail` the
    standard deviation of the most detailed window, in grey levels.
    """

    similarity: float
    detail: float


class _Tolerance(NamedTuple):
    """What the two versions of one window may differ by, in grey levels.

    The variance of their difference may be the square of `noise` and a `share` of their own variances: compression, and
    an unknown kernel, matter most at edges. Compression that removes the noise of a dark photo changes every window
    alike: where most do, all may differ up to `most`. The means of the two may be `shift` apart.
    """

    noise: float
    most: float
    share: float
    shift: float


_OF_SKETCHES = _Tolerance(14.0, 14.0, 0.4, 64.0)
# Two files of one size, compressed in one way, with the same tones and colours are the same pixels, up to the rounding
# of a second compression, or two shots from a tripod, of which even the noise differs.
_RESAVED = (_Tolerance(1.6, 1.6, 0.02, 3.0),) * 3


def _tolerances(step: float, *, is_corrected: bool) -> tuple[_Tolerance, ...]:
    """At full size, half and a quarter of it.

    Compression smears details and invents others, but little of that is left where four or sixteen pixels are averaged,
    while another word still is. A correction moves the grey of colours in other ways than that of greys.
    """
    more, shift = (2.7, 14.0) if is_corrected else (0.0, 8.0)
    return (
        _Tolerance(more + 1.2 + 0.205 * step, more + 1.2 + 0.4 * step, 0.06, shift + 0.1 * step),
        _Tolerance(more + 0.8 + 0.05 * step, more + 0.8 + 0.16 * step, 0.03, shift + 0.05 * step),
        _Tolerance(more + 0.7 + 0.02 * step, more + 0.7 + 0.08 * step, 0.02, shift),
    )


def copy_similarity(a: bytes, b: bytes) -> float | None:
    """How alike the least similar places of two image files are, 0 to 1, if they show the same picture; else None.

    The larger picture is reduced to the size of the smaller, its tones are mapped to those of the other, and every
    8 x 8 window must agree, at that size, at half and at a quarter of it. How well depends on how strongly the files
    are compressed. Raises `ImageUnusable`.
    """
    facts = _facts(a), _facts(b)
    if not _facts_agree(*facts):
        return None
    step = max(of.step or 0.0 for of in facts)
    grounds = ("white", "black") if facts[0].has_alpha else ("white",)
    found: list[Likeness] = []
    for ground in grounds:
        one, other = (decode(data, background=ground).image for data in (a, b))
        if one.info.get("icc_profile") != other.info.get("icc_profile"):
            one, other = in_srgb(one), in_srgb(other)
        likeness = likeness_of(one, other, step, same_coding=facts[0].coding == facts[1].coding)
        if likeness is None:
            return None
        found.append(likeness)
    has_detail = max(likeness.detail for likeness in found) >= LEAST_DETAIL
    return min(likeness.similarity for likeness in found) if has_detail else None


def likeness_of(a: Image.Image, b: Image.Image, step: float, *, same_coding: bool = False) -> Likeness | None:
    """How alike two upright RGB pictures are if they agree everywhere, up to size, tone and compression; else None."""
    large, small = (a, b) if a.width * a.height >= b.width * b.height else (b, a)
    if min(small.size) < _SMALLEST or not same_framing(large.size, small.size):
        return None
    correction = _colour_correction(large, small)
    if correction is None:
        return None
    step, is_same_size, has_other_colours = min(step, _MOST_STEP), large.size == small.size, correction > _GREY
    as_it_is = _tolerances(step, is_corrected=has_other_colours)
    if same_coding and is_same_size and not has_other_colours:
        as_it_is = _RESAVED
    target = small.convert("L")
    reduced = _reduced(large.convert("L"), target)
    likeness = _compared(reduced, target, as_it_is)
    for one, other in ((reduced, target), (target, reduced)):
        mapped = None if likeness else _with_tones_of(one, other)
        likeness = _compared(mapped, other, _tolerances(step, is_corrected=True)) if mapped else likeness
    return likeness


def _reduced(large: Image.Image, small: Image.Image) -> Image.Image:
    """A grey picture at the size of another, by the kernel that the other was most likely made with."""
    if large.size == small.size:
        return large
    return min((large.resize(small.size, kernel) for kernel in _KERNELS), key=lambda one: _square_error(one, small))


def _compared(a: Image.Image, b: Image.Image, tolerances: tuple[_Tolerance, ...]) -> Likeness | None:
    """Two pictures of one size, both grey, at half of it after half until a window does not agree."""
    similarity, detail = 1.0, 0.0
    for tolerance in tolerances:
        windows = _Windows.of(a, b)
        if windows.differing(tolerance).any():
            return None
        similarity, detail = min(similarity, windows.similarity()), max(detail, windows.detail())
        if min(a.size) < 2 * _SMALLEST:
            break
        a, b = a.reduce(2), b.reduce(2)
    return Likeness(max(0.0, similarity), detail)


def _with_tones_of(a: Image.Image, b: Image.Image) -> Image.Image | None:
    """A grey picture with its tones mapped to those of another of its size; None unless they differ, and slightly.

    The curve is the mean tone in `b` of each tone of `a`, and only rises. It has to explain most of the difference:
    compression moves tones too.
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
    """How many levels of chroma two pictures differ by, at most; None if they do not have the same colours.

    8 x 8 pixels are compared: a red light is no green one. A picture without colours is no copy of one with colours.
    """
    size = max(1, b.width // 8), max(1, b.height // 8)
    first, second = (
        np.asarray(of.resize(size, Image.Resampling.BOX).convert("YCbCr"), np.float32)[..., 1:] - 128 for of in (a, b)
    )
    low, high = sorted(float(np.abs(of).max()) for of in (first, second))
    if low <= _GREY and high >= _COLOURED:
        return None
    difference = first - second
    shift = np.median(difference, axis=(0, 1))
    if np.abs(shift).max() > _MOST_CHROMA_SHIFT or np.abs(difference - shift).max() > _MOST_CHROMA:
        return None
    return float(np.quantile(np.abs(difference), 0.95))


# ------------------------------------------------------------------------------------------ windows


class _Windows(NamedTuple):
    """Of all 8 x 8 windows of two pictures: variances, the variance of the difference, and the difference of means."""

    left: Array
    right: Array
    difference: Array
    shift: Array

    @staticmethod
    def of(a: Image.Image, b: Image.Image) -> _Windows:
        """Two grey pictures of one size, at least 8 x 8 pixels."""
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


def _means(values: NDArray[np.float32]) -> Array:
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
