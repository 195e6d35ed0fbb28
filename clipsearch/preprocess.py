"""From a decoded image to a model's input, as open_clip's own transform makes it, decoding no more than it needs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from clipsearch.decode import Decoded, decode
from clipsearch.models import Preprocess
from clipsearch.towers import Pixels

_LONGEST = 16  # times its short side; no model's input is as long


def preprocess(image: Image.Image, how: Preprocess, full: tuple[int, int] | None = None) -> Pixels:
    """An RGB image as the model's input before normalisation, (height, width, 3) uint8.

    Resized and cropped as open_clip's own transform does it (`open_clip/transform.py`), pixel by pixel. `full` is the
    (width, height) of the picture that `image` is a smaller decoding of: rounding its size shifts the crop by a pixel.
    """
    height, width = how.size
    if how.resize_mode == "shortest" and max(image.size) > _LONGEST * min(image.size):
        image, full = _without_far_ends(image), None
    full_width, full_height = full or image.size
    resample = Image.Resampling.BILINEAR if how.interpolation == "bilinear" else Image.Resampling.BICUBIC
    if how.resize_mode == "squash":
        image = image.resize((width, height), resample)
    elif how.resize_mode == "shortest" and height == width:  # as torchvision does it: the other side is rounded down
        short, long = sorted((full_width, full_height))
        other = int(height * long / short)
        image = image.resize((height, other) if full_width <= full_height else (other, height), resample)
    else:
        ratios = full_height / height, full_width / width
        if how.resize_mode == "longest":
            ratio = max(ratios)
        else:
            ratio, resample = min(ratios), Image.Resampling.BICUBIC  # open_clip forgets the interpolation here
        # Beyond open_clip, the short side of a very long image does not vanish.
        image = image.resize((max(1, round(full_width / ratio)), max(1, round(full_height / ratio))), resample)
    if image.size != (width, height):
        image = _centre(image, width, height, how.fill_color)
    return np.asarray(image, np.uint8)


def decode_for(data: bytes, how: Preprocess) -> Decoded:
    """An image file's bytes as an image that `preprocess` loses nothing by. Raises `ImageUnusable`.

    JPEGs are decoded at the smallest scale that leaves twice the input's size, which is all that resizing needs.
    """
    return decode(data, short_side=2 * min(how.size))


def pixels_of(decoded: Decoded, how: Preprocess) -> Pixels:
    """The model's input from what `decode_for` gave."""
    return preprocess(decoded.image, how, (decoded.metadata.width, decoded.metadata.height))


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image: its ends would be cropped anyway, after having been made enormous."""
    most = _LONGEST * min(image.size)
    left, top = max(0, (image.width - most) // 2), max(0, (image.height - most) // 2)
    return image.crop((left, top, image.width - left, image.height - top))


def _centre(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Cut to the centre, padded where the image is smaller, with torchvision's rounding of half pixels."""
    pad_x, pad_y = max(width - image.width, 0), max(height - image.height, 0)
    if pad_x or pad_y:
        padded = Image.new("RGB", (image.width + pad_x, image.height + pad_y), (fill, fill, fill))
        padded.paste(image, (pad_x // 2, pad_y // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
