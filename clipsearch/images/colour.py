"""Converts pictures to sRGB from embedded colour profiles, HDR and wide gamuts, as screens do.

CLIP was trained on sRGB. A photo in ProPhoto RGB whose profile is ignored has a cosine of 0.91 with itself in sRGB.
"""

from __future__ import annotations

import functools
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.arrays import Array

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

# Code points of ITU-T H.273.
UNKNOWN = 2
BT709, BT601, BT2020 = 1, 5, 9  # matrices; the last is also the code of its primaries
_P3 = 12
_PQ, _HLG = 16, 18
_HDR = (_PQ, _HLG)  # transfer characteristics

_TO_SRGB = {  # linear, from these primaries
    BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _P3: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
_BT2020_LUMA = (0.2627, 0.6780, 0.0593)
_WHITE = 203.0  # nits of diffuse white in HDR (ITU-R BT.2408), which becomes nearly sRGB's white
_HLG_PEAK = 1000.0  # nits
_KNEE = 0.8  # linear; brighter than that is compressed, so that highlights keep their shapes

_CODE_POINTS = re.compile(rb"colrnclx(..)(..)|\0\0\0\x04cICP(.)(.)", re.DOTALL)
_HEADER = 1 << 16  # bytes in which to look for them

_SPACES = {"RGB": "RGB", "CMYK": "CMYK", "L": "GRAY"}  # what lcms calls Pillow's modes
_SMALL = 1 << 19  # pixels; JPEGs are decoded at a reduced scale, which is smaller
_SAME = 2  # levels; a profile that changes no colour by more is sRGB


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert an RGB image from its embedded profile or code points, unless they are sRGB's. Removes them.

    Takes 0.7 ms for 224 x 224 pixels and 155 ms for 12 megapixels (one core of a Zen 4).
    """
    profile, points = image.info.pop("icc_profile", None), image.info.pop("cicp", None)
    if points:
        return Image.fromarray(from_code_points(np.asarray(image), *points))
    return (with_profile(image, profile) if isinstance(profile, bytes) else None) or image


def in_srgb_if_small(image: Image.Image) -> Image.Image:
    """As `in_srgb`, but only if that takes a few milliseconds; convert what remains after resizing.

    Resizing blends and clips colours in the space that they are in: in ProPhoto RGB the cosine with the same picture in
    sRGB is 0.990 if it is converted afterwards, and 0.998 if before.
    """
    has_profile = "icc_profile" in image.info or "cicp" in image.info
    return in_srgb(image.copy()) if has_profile and image.width * image.height <= _SMALL else image


def with_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert to sRGB from a profile for the image's own mode; None if it is sRGB's, damaged or for another mode."""
    transform = _transform(profile, image.mode)
    if transform is None:
        return None
    converted = transform.apply(image)
    converted.info.pop("icc_profile", None)
    return converted


@functools.lru_cache(16)  # a library has few profiles, and building a transform takes longer than applying it
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        target: Any = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        if mode != "CMYK":
            samples = _samples().convert(mode)
            changes = np.asarray(transform.apply(samples), int) - np.asarray(samples.convert("RGB"))
            return None if np.abs(changes).max() <= _SAME else transform
    except (ImageCms.PyCMSError, OSError, ValueError):  # damaged profile
        return None
    return transform


@functools.cache
def _samples() -> Image.Image:
    """729 colours from all of RGB."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3))


def code_points(data: bytes) -> tuple[int, int] | None:
    """The primaries and the transfer characteristic of a HEIC, AVIF or PNG file, if they are not sRGB's."""
    found = _CODE_POINTS.search(data, 0, _HEADER)
    if found is None:
        return None
    primaries, transfer = (value[-1] for value in found.groups() if value)
    return (primaries, transfer) if not is_srgb(primaries, transfer) else None


def is_srgb(primaries: int, transfer: int) -> bool:
    """Whether colours with these code points are close to sRGB's."""
    return primaries not in _TO_SRGB and transfer not in _HDR


def is_hdr(transfer: int) -> bool:
    """Whether a transfer characteristic is PQ or HLG."""
    return transfer in _HDR


def from_code_points(pixels: NDArray[Any], primaries: int, transfer: int) -> NDArray[np.uint8]:
    """Convert RGB (height, width, 3), uint8 or uint16, to sRGB. HDR is tone-mapped."""
    linear = _linear(transfer, np.iinfo(pixels.dtype).max)[pixels]
    if transfer == _HLG:  # the system gamma, which applies to luminance
        luminance = linear @ np.array(_BT2020_LUMA, np.float32)
        linear *= (_HLG_PEAK / _WHITE * luminance**0.2)[..., None]
    if primaries in _TO_SRGB:
        linear = linear @ np.array(_TO_SRGB[primaries], np.float32).T
    if is_hdr(transfer):
        peak = np.maximum(linear.max(-1, keepdims=True), 1e-6)
        rest = 1 - _KNEE
        linear *= np.where(peak > _KNEE, _KNEE + rest * (1 - np.exp((_KNEE - peak) / rest)), peak) / peak
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels: NDArray[np.uint8] = (encoded * 255).round().astype(np.uint8)
    return levels


@functools.cache
def _linear(transfer: int, top: int) -> Array:
    """Linear light for each of the values 0 to `top`: 1 is white; for HLG it is the scene's light, up to 1."""
    value = np.linspace(0, 1, top + 1)
    if transfer == _PQ:  # SMPTE ST 2084
        power = value ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        linear = 10_000 / _WHITE * light ** (1 / 0.1593017578125)
    elif transfer == _HLG:  # ITU-R BT.2100
        linear = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)
