"""Encoders: images and text to embeddings.

Two encoders compute the same embeddings. `NumpyEncoder` runs in NumPy and is ready before torch would have been
imported. `TorchEncoder` is faster for batches of images, and falls back to open_clip for models without a tower here.
torch and open_clip are imported only when needed.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.errors import BadArgument, ClipsearchError, EncodingFailed, WeightsUnusable, first_line
from clipsearch.models.bert import BertTower
from clipsearch.models.clip import ImageTower, TextTower
from clipsearch.models.convnet import ConvTower
from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model, split_name
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower
from clipsearch.models.towers import IMAGE_TOWERS, TEXT_TOWERS, serves
from clipsearch.models.weights import load_safetensors

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_DEFAULT_LOGIT_SCALE = math.log(100)  # CLIP clamps its learned scale here, and its published models reach it


class Encoder(Protocol):
    """Embeds images and text with one model, on a `device`: cpu, cuda or mps.

    `does_both`: whether the same encoder serves both texts and images, whichever it was created for.
    """

    device: str
    does_both: bool

    @property
    def precision(self) -> str:
        """Precision of the image tower: fp32, bf16, fp16 or int8."""

    @property
    def logit_scale(self) -> float:
        """The learned factor applied to cosines before the softmax."""

    def encode_images(self, pixels: Pixels) -> Array:
        """Embed preprocessed images (n, height, width, 3) uint8 as unit vectors (n, dim) float32."""

    def encode_texts(self, texts: list[str]) -> Array:
        """Embed n texts as unit vectors (n, dim) float32."""


def cold_encoder(model: Model, *, texts: bool, images: bool) -> Encoder:
    """The encoder with the shortest startup: NumPy if there are towers for the model, otherwise torch."""
    return numpy_encoder(model, texts=texts, images=images) or TorchEncoder(model)


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

    device, precision = "cpu", "fp32"
    does_both = False

    def __init__(self, model: Model) -> None:
        model = _with_weights(model)
        self._model = model
        self._tensors = load_safetensors(model.weights)

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
        tower = next(tower for tower in TEXT_TOWERS if tower.serves(self._model))
        return tower(self._model, self._tensors)

    @functools.cached_property
    def image_tower(self) -> ImageTower | ConvTower | SiglipImageTower:
        """Loaded on first use. Raises `WeightsUnusable` if the weights do not fit the architecture."""
        tower = next(tower for tower in IMAGE_TOWERS if tower.serves(self._model))
        return tower(self._model, self._tensors)


class TorchEncoder:
    """Runs a model's images in torch, on CUDA, MPS or the CPU; its texts in NumPy if there are towers for the model.

    `precision` "auto" means fp16 on a GPU and fp32 on a CPU. int8 needs a CPU and a CLIP or SigLIP vision transformer.
    `threads` is the number of CPU threads per call, by default all; use 1 when calling from several threads.
    Raises `BadArgument`, `WeightsUnusable` or `DownloadFailed`.
    """

    does_both = True

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        import torch

        check_names(device, precision)
        model = _with_weights(model)
        self.device = usable_device(device)
        self.precision = precision if precision != "auto" else "fp32" if self.device == "cpu" else "fp16"
        self._model = model
        self._all_threads = torch.get_num_threads()
        self._threads = threads or self._all_threads
        mean, std = model.preprocess.mean, model.preprocess.std
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1)
        self._images: Any
        from clipsearch.models.torch_towers import DTYPES, batch_tower

        self._numpy = numpy_encoder(model, texts=True, images=True)
        if self.precision == "int8" and not (
            self.device == "cpu" and self._numpy and isinstance(self._numpy.image_tower, ImageTower | SiglipImageTower)
        ):
            raise BadArgument("precision", "int8 requires a CLIP or SigLIP vision transformer on a CPU")
        if self._numpy is None:
            self._images = lambda images: self._open_clip.encode_image(images.to(DTYPES[self.precision]))
            _ = self._open_clip
        else:
            self._images = batch_tower(self._numpy.image_tower, self.device, self.precision)

    @functools.cached_property
    def _open_clip(self) -> Any:
        return _open_clip_model(self._model, self.device, self.precision)

    @property
    def logit_scale(self) -> float:
        return self._numpy.logit_scale if self._numpy else float(self._open_clip.logit_scale.detach().exp())

    def encode_images(self, pixels: Pixels) -> Array:
        import torch

        torch.set_num_threads(self._threads)  # affects the calling thread only
        try:
            with torch.inference_mode(), _torch_errors():
                batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2)
                return self._rows(self._images((batch.float() / 255 - self._mean) / self._std))
        finally:
            torch.set_num_threads(self._all_threads)

    def encode_texts(self, texts: list[str]) -> Array:
        if self._numpy:
            return self._numpy.encode_texts(texts)
        import torch

        with torch.inference_mode(), _torch_errors():
            return self._rows(self._open_clip.encode_text(self._tokens(texts).to(self.device)))

    def _tokens(self, texts: list[str]) -> Any:
        import torch

        model = self._model
        if model.text is None:
            import open_clip

            return open_clip.get_tokenizer(model.architecture)(texts)
        tokens = torch.full((len(texts), model.context_length), model.text.padding)
        canonical = model.reads_canonical_text
        tokenized = tokenize(texts, model.text.tokenizer, model.context_length, canonical=canonical)
        for row, ids in zip(tokens, tokenized, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _rows(self, features: Any) -> Array:
        return unit_rows(features.float().cpu().numpy())


def _with_weights(model: Model) -> Model:
    """Verify the model's files and return it; download them again first if the cache they were in was cleared."""
    is_missing = not all(path.is_file() for path, _ in model.files)
    if is_missing and model.architecture == split_name(model.name)[0]:
        found = resolve(model.name)
        if found.fingerprint == model.fingerprint:
            return found
    model.check_weights()
    return model


@contextlib.contextmanager
def _torch_errors() -> Iterator[None]:
    """Turn torch's errors, such as out of memory, into `EncodingFailed`."""
    try:
        yield
    except RuntimeError as error:
        raise EncodingFailed(f"the model failed on this device: {first_line(error)}") from error


def _open_clip_model(model: Model, device: str, precision: str) -> Any:
    import open_clip

    named = ":" not in model.architecture
    try:
        net = open_clip.create_model(
            model.architecture,
            pretrained=str(model.weights) if named else None,
            precision=precision,
            device=device,
            force_quick_gelu=bool(model.config.get("quick_gelu")),
            require_pretrained=True,
        )
    except ClipsearchError:
        raise
    except Exception as error:  # torch, safetensors, pickle and open_clip have no common base class
        raise WeightsUnusable(
            f"the weights {model.weights} do not fit {model.architecture}: {first_line(error)}"
        ) from error
    net.eval()
    return net


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


def usable_device(wanted: str) -> str:
    """Resolve "auto" to cuda, mps or cpu, in that order. Raises `BadArgument` if the device is not available here."""
    import torch

    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if usable[name])
    kind, _, number = wanted.partition(":")
    if not usable[kind] or (
        number and not (kind == "cuda" and number.isdecimal() and int(number) < torch.cuda.device_count())
    ):
        raise BadArgument(
            "device", f"{wanted} is not available on this machine, or not supported by this build of torch"
        )
    return wanted
