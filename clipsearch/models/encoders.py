"""Encoders: images and text to embeddings.

`NumpyEncoder` starts immediately and is slow for many images. The encoders in `graph_encoders` are faster for batches
on a CPU; `open_clip_encoder` runs models on a GPU, and those that have no tower here.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from typing import NamedTuple, Protocol

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.errors import BadArgument, WeightsUnusable
from clipsearch.models.bert import BertTower
from clipsearch.models.clip import ImageTower, TextTower
from clipsearch.models.convnet import ConvTower
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model, split_name
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower
from clipsearch.models.towers import IMAGE_TOWERS, TEXT_TOWERS, serves
from clipsearch.models.weights import load_safetensors

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_DEFAULT_LOGIT_SCALE = math.log(100)  # CLIP clamps its learned scale here, and its published models reach it


class Engine(NamedTuple):
    """A library that runs image towers, and the precision of its matrix products: fp32, bf16, fp16 or int8."""

    library: str
    precision: str

    def __str__(self) -> str:
        return f"{self.library} {self.precision}"


class Encoder(Protocol):
    """Embeds images and text with one model, on a `device`: cpu, cuda or mps.

    `does_both`: whether the same encoder serves both texts and images, whichever it was created for.
    """

    device: str
    does_both: bool

    @property
    def engine(self) -> Engine:
        """What runs the image tower."""

    @property
    def logit_scale(self) -> float:
        """The learned factor applied to cosines before the softmax."""

    def encode_images(self, pixels: Pixels) -> Array:
        """Embed preprocessed images (n, height, width, 3) uint8 as unit vectors (n, dim) float32."""

    def encode_texts(self, texts: list[str]) -> Array:
        """Embed n texts as unit vectors (n, dim) float32."""


def numpy_encoder(model: Model, *, texts: bool, images: bool) -> NumpyEncoder | None:
    """The NumPy encoder; None if it has no tower for the model or the weights do not fit the tower."""
    if not serves(model, texts=texts, images=images):
        return None
    encoder = NumpyEncoder(model)
    with contextlib.suppress(WeightsUnusable):  # open_clip may be able to resize them, or will report the error
        if texts:
            _ = encoder.text_tower
        if images:
            _ = encoder.image_tower
        return encoder
    return None


class NumpyEncoder:
    """Runs a model in NumPy: starts immediately, slow for many images."""

    device, engine = "cpu", Engine("numpy", "fp32")
    does_both = False

    def __init__(self, model: Model) -> None:
        model = with_weights(model)
        self.model = model
        self._tensors = load_safetensors(model.weights)

    def release(self) -> None:
        """As `Tensors.release`."""
        self._tensors.release()

    @property
    def logit_scale(self) -> float:
        return math.exp(float(np.ravel(self._tensors.get("logit_scale", _DEFAULT_LOGIT_SCALE))[0]))

    def encode_images(self, pixels: Pixels) -> Array:
        return self.image_tower(pixels)

    def encode_texts(self, texts: list[str]) -> Array:
        return self.text_tower(texts)

    @functools.cached_property
    def text_tower(self) -> TextTower | BertTower | SiglipTextTower:
        """Loaded on first use. Raises `WeightsUnusable` if the weights do not fit the architecture."""
        tower = next(tower for tower in TEXT_TOWERS if tower.serves(self.model))
        return tower(self.model, self._tensors)

    @functools.cached_property
    def image_tower(self) -> ImageTower | ConvTower | SiglipImageTower:
        """Loaded on first use. Raises `WeightsUnusable` if the weights do not fit the architecture."""
        tower = next(tower for tower in IMAGE_TOWERS if tower.serves(self.model))
        return tower(self.model, self._tensors)


def with_weights(model: Model) -> Model:
    """Verify the model's files and return it; download them again first if the cache they were in was cleared."""
    is_missing = not all(path.is_file() for path, _ in model.files)
    if is_missing and model.architecture == split_name(model.name)[0]:
        found = resolve(model.name)
        if found.fingerprint == model.fingerprint:
            return found
    model.check_weights()
    return model


def give_memory_back() -> None:
    """Return the memory of discarded encoders to the operating system and the GPU; Python and torch would keep it."""
    import ctypes
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


def check_names(device: str, precision: str) -> None:
    """Raise `BadArgument` for an unknown device or precision. Whether this machine has the device is not checked."""
    if device.partition(":")[0] not in DEVICES:
        raise BadArgument("device", f"must be one of {', '.join(DEVICES)}, not {device!r}")
    if precision not in PRECISIONS:
        raise BadArgument("precision", f"must be one of {', '.join(PRECISIONS)}, not {precision!r}")
