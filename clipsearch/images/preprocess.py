"""From a decoded image to a model's input, exactly as open_clip does it, decoding no more than needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.arrays import Pixels
from clipsearch.images.box import Box

if TYPE_CHECKING:  # a text query needs the settings but not Pillow
    from PIL import Image

    from clipsearch.images.decode import Decoded

# open_clip's defaults, which its configuration files leave out.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)

_MAX_ASPECT = 16  # long side to short side; no model's input is as long

# Of a panorama as a whole, models see the middle or a squeezed version. So squares along it are embedded, too, which
# overlap by about half: what lies on the border of one is whole in the next. Of drawn pictures at a random place in a
# panorama of 2:1 or 5.3:1, mini finds 3% or 0% first by their captions in the whole, 23% or 7% in the middle, and 70%
# with squares. Fewer and longer parts are worse than as many squares: in one of 16:1, 33% against 60%.
_PANORAMA = 2.0  # long side to short side
_NARROW = 32  # pixels; a picture with a shorter side is a line or a banner
_STEP = 0.5  # from one square to the next, in short sides
_MOST_PARTS = 32


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes the model's input: `size` in pixels (height, width), `mean` and `std` for values 0 to 1."""

    size: tuple[int, int]
    mean: tuple[float, float, float] = _MEAN
    std: tuple[float, float, float] = _STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    @staticmethod
    def from_json(record: dict[str, Any]) -> Preprocess:
        """The reverse of `asdict`, after JSON has turned tuples into lists."""
        tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return Preprocess(**tuples)


def preprocess(image: Image.Image, settings: Preprocess, full_size: tuple[int, int] | None = None) -> Pixels:
    """Resize and crop an RGB image like `open_clip/transform.py`, pixel by pixel, to (height, width, 3) uint8 in sRGB.

    Does not normalise. `full_size` is (width, height) of the picture if `image` was decoded at a reduced scale: with
    the rounded size, the crop would be off by a pixel.
    """
    from PIL.Image import Resampling

    from clipsearch.images.colour import in_srgb, in_srgb_if_small

    image = in_srgb_if_small(image)
    height, width = settings.size
    if settings.resize_mode == "shortest" and max(image.size) > _MAX_ASPECT * min(image.size):
        image, full_size = _without_far_ends(image), None
    full_width, full_height = full_size or image.size
    resample = Resampling.BILINEAR if settings.interpolation == "bilinear" else Resampling.BICUBIC
    if settings.resize_mode == "squash":
        image = image.resize((width, height), resample)
    elif settings.resize_mode == "shortest" and height == width:  # like torchvision, which rounds the long side down
        short, long = sorted((full_width, full_height))
        other = int(height * long / short)
        image = image.resize((height, other) if full_width <= full_height else (other, height), resample)
    else:
        ratios = full_height / height, full_width / width
        if settings.resize_mode == "longest":
            ratio = max(ratios)
        else:
            ratio, resample = min(ratios), Resampling.BICUBIC  # open_clip ignores the interpolation here
        # Unlike open_clip, keep at least one pixel of the short side.
        image = image.resize((max(1, round(full_width / ratio)), max(1, round(full_height / ratio))), resample)
    if image.size != (width, height):
        image = _centre_crop(image, width, height, settings.fill_color)
    return np.asarray(in_srgb(image), np.uint8)


def decode_for(data: bytes, settings: Preprocess) -> Decoded:
    """Decode an image file at a resolution that is enough for `model_inputs`. Raises `ImageUnusable`.

    JPEGs are decoded at the smallest scale with at least twice the input's size: a larger one changes nothing.
    """
    from clipsearch.images.decode import decode

    return decode(data, short_side=2 * min(settings.size))


def model_input(decoded: Decoded, settings: Preprocess) -> Pixels:
    """Preprocess the result of `decode_for`."""
    return preprocess(decoded.image, settings, (decoded.metadata.width, decoded.metadata.height))


def model_inputs(decoded: Decoded, settings: Preprocess) -> Pixels:
    """The inputs (n, height, width, 3) for the result of `decode_for`: the whole picture, then its `parts_of`."""
    image, about = decoded.image, decoded.metadata
    parts = (part.pixels(*image.size) for part in parts_of(settings, about.width, about.height))
    return np.stack([model_input(decoded, settings), *(preprocess(image.crop(part), settings) for part in parts)])


def parts_of(settings: Preprocess, width: int, height: int) -> list[Box]:
    """The parts of an upright picture of this size to embed beside the whole: none unless it is a panorama."""
    short, long = sorted((width, height))
    if long < _PANORAMA * short or short < _NARROW:
        return []
    count = min(round((long / short - 1) / _STEP) + 1, _MOST_PARTS)
    length = short / long
    starts = (number / (count - 1) * (1 - length) for number in range(count))
    parts = [
        Box(start, 0, start + length, 1) if width > height else Box(0, start, 1, start + length) for start in starts
    ]
    seen = visible_part(settings, width, height).pixels(width, height)
    return [part for part in parts if part.pixels(width, height) != seen]


def visible_part(settings: Preprocess, width: int, height: int) -> Box:
    """The part of an upright picture of this size that the model's input shows; may extend beyond it."""
    if settings.resize_mode == "squash":
        return Box(0, 0, 1, 1)
    ratios = width / settings.size[1], height / settings.size[0]
    ratio = max(ratios) if settings.resize_mode == "longest" else min(ratios)
    x, y = ratio / ratios[0], ratio / ratios[1]
    return Box((1 - x) / 2, (1 - y) / 2, (1 + x) / 2, (1 + y) / 2)


def _without_far_ends(image: Image.Image) -> Image.Image:
    """Crop a very long image before it is enlarged: its ends would be cropped afterwards anyway."""
    most = _MAX_ASPECT * min(image.size)
    left, top = max(0, (image.width - most) // 2), max(0, (image.height - most) // 2)
    return image.crop((left, top, image.width - left, image.height - top))


def _centre_crop(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Crop to the centre, padding what is smaller, and round half pixels like torchvision."""
    pad_x, pad_y = max(width - image.width, 0), max(height - image.height, 0)
    if pad_x or pad_y:
        from PIL import Image

        padded = Image.new("RGB", (image.width + pad_x, image.height + pad_y), (fill, fill, fill))
        padded.paste(image, (pad_x // 2, pad_y // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
