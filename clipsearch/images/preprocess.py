"""From a decoded image to a model's input, as open_clip's own transform makes it, decoding no more than it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clipsearch.arrays import Pixels

if TYPE_CHECKING:  # a text query needs the settings alone, and no Pillow
    from PIL import Image

    from clipsearch.images.decode import Decoded

# open_clip's defaults, which its configuration files leave out.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)

_LONGEST = 16  # times its short side; no model's input is as long


class Box(NamedTuple):
    """A part of an upright picture, in shares of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in a picture of this size."""
        return (
            round(self.left * width),
            round(self.top * height),
            round(self.right * width),
            round(self.bottom * height),
        )


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes the model's input: `size` in pixels (height, width), `mean` and `std` for values in 0-1."""

    size: tuple[int, int]
    mean: tuple[float, float, float] = _MEAN
    std: tuple[float, float, float] = _STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    @staticmethod
    def from_json(record: dict[str, Any]) -> Preprocess:
        """The reverse of `asdict`, after JSON has made lists of tuples."""
        tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return Preprocess(**tuples)


def preprocess(image: Image.Image, how: Preprocess, full: tuple[int, int] | None = None) -> Pixels:
    """An RGB image as the model's input before normalisation, (height, width, 3) uint8.

    Resized and cropped as open_clip's own transform does it (`open_clip/transform.py`), pixel by pixel. `full` is the
    (width, height) of the picture that `image` is a smaller decoding of: rounding its size shifts the crop by a pixel.
    """
    from PIL.Image import Resampling

    height, width = how.size
    if how.resize_mode == "shortest" and max(image.size) > _LONGEST * min(image.size):
        image, full = _without_far_ends(image), None
    full_width, full_height = full or image.size
    resample = Resampling.BILINEAR if how.interpolation == "bilinear" else Resampling.BICUBIC
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
            ratio, resample = min(ratios), Resampling.BICUBIC  # open_clip forgets the interpolation here
        # Beyond open_clip, the short side of a very long image does not vanish.
        image = image.resize((max(1, round(full_width / ratio)), max(1, round(full_height / ratio))), resample)
    if image.size != (width, height):
        image = _centre(image, width, height, how.fill_color)
    return np.asarray(image, np.uint8)


def decode_for(data: bytes, how: Preprocess) -> Decoded:
    """An image file's bytes as an image that `preprocess` loses nothing by. Raises `ImageUnusable`.

    JPEGs are decoded at the smallest scale that leaves twice the input's size, which is all that resizing needs.
    """
    from clipsearch.images.decode import decode

    return decode(data, short_side=2 * min(how.size))


def pixels_of(decoded: Decoded, how: Preprocess) -> Pixels:
    """The model's input from what `decode_for` gave."""
    return preprocess(decoded.image, how, (decoded.metadata.width, decoded.metadata.height))


def seen(how: Preprocess, width: int, height: int) -> Box:
    """What the model's input shows of an upright picture of this size: a box, maybe larger than it."""
    if how.resize_mode == "squash":
        return Box(0, 0, 1, 1)
    ratios = width / how.size[1], height / how.size[0]
    ratio = max(ratios) if how.resize_mode == "longest" else min(ratios)
    shares = ratio / ratios[0], ratio / ratios[1]
    return Box((1 - shares[0]) / 2, (1 - shares[1]) / 2, (1 + shares[0]) / 2, (1 + shares[1]) / 2)


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image: its ends would be cropped anyway, after having been made enormous."""
    most = _LONGEST * min(image.size)
    left, top = max(0, (image.width - most) // 2), max(0, (image.height - most) // 2)
    return image.crop((left, top, image.width - left, image.height - top))


def _centre(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Cut to the centre, padded where the image is smaller, with torchvision's rounding of half pixels."""
    pad_x, pad_y = max(width - image.width, 0), max(height - image.height, 0)
    if pad_x or pad_y:
        from PIL import Image

        padded = Image.new("RGB", (image.width + pad_x, image.height + pad_y), (fill, fill, fill))
        padded.paste(image, (pad_x // 2, pad_y // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
