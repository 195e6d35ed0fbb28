"""Images and texts to embeddings.

Two encoders give the same embeddings: `ColdEncoder`, in NumPy, is ready before torch would be imported; `TorchEncoder`
is fast for batches of images. Both use the towers of this folder where those serve the model, and `TorchEncoder` uses
open_clip for the other models. Torch and open_clip are imported when they are first needed.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.errors import BadArgument, ClipsearchError, EncodingFailed, WeightsUnusable, first_line
from clipsearch.models.bert import BertTower
from clipsearch.models.clip import ImageTower, TextTower
from clipsearch.models.convnet import ConvTower
from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.model import Model, split_name
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower
from clipsearch.models.weights import load_safetensors

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_TEXT_TOWERS = (TextTower, BertTower, SiglipTextTower)
_IMAGE_TOWERS = (ImageTower, ConvTower, SiglipImageTower)
_USUAL_SCALE = math.log(100)  # CLIP's bound, which all of its models have reached


class Encoder(Protocol):
    """What turns pixels and texts into embeddings of one model, on a `device`: cpu, cuda or mps.

    `does_both`: whether one that was made for texts is as ready for images, and the other way round.
    """

    device: str
    does_both: bool

    @property
    def precision(self) -> str:
        """Of its products for images: fp32, bf16, fp16 or int8."""

    @property
    def logit_scale(self) -> float:
        """What the model was trained to multiply cosines with before a softmax."""

    def encode_images(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) float32 of preprocessed images, (n, height, width, 3) uint8."""

    def encode_texts(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) float32 of texts."""


def cold_encoder(model: Model, *, texts: bool, images: bool) -> Encoder:
    """The encoder that is ready soonest: without torch where there are towers in NumPy, else through open_clip."""
    return in_numpy(model, texts=texts, images=images) or TorchEncoder(model)


def in_numpy(model: Model, *, texts: bool, images: bool) -> ColdEncoder | None:
    """The encoder without torch, if it serves the model and the weights have the towers' shapes."""
    if not serves(model, texts=texts, images=images):
        return None
    encoder = ColdEncoder(model)
    with contextlib.suppress(WeightsUnusable):  # open_clip may know how to stretch them, or will say what is wrong
        if texts:
            _ = encoder.text_tower
        if images:
            _ = encoder.image_tower
        return encoder
    return None


def serves(model: Model, *, texts: bool, images: bool) -> bool:
    """Whether there are towers in NumPy for a model's texts, for its images, or for both."""
    return (not texts or any(tower.serves(model) for tower in _TEXT_TOWERS)) and (
        not images or any(tower.serves(model) for tower in _IMAGE_TOWERS)
    )


class ColdEncoder:
    """A model in NumPy. Slow for batches of images, ready at once."""

    device, precision = "cpu", "fp32"
    does_both = False

    def __init__(self, model: Model) -> None:
        model = _with_weights(model)
        self._model = model
        self._tensors = load_safetensors(model.weights)

    @property
    def logit_scale(self) -> float:
        """What the model was trained to multiply cosines with before a softmax."""
        return math.exp(float(np.ravel(self._tensors.get("logit_scale", _USUAL_SCALE))[0]))

    def encode_images(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) float32 of preprocessed images, (n, height, width, 3) uint8."""
        return self.image_tower(pixels)

    def encode_texts(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) float32 of texts."""
        return self.text_tower(texts)

    @functools.cached_property
    def text_tower(self) -> TextTower | BertTower | SiglipTextTower:
        """Texts to rows. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""
        tower = next(tower for tower in _TEXT_TOWERS if tower.serves(self._model))
        return tower(self._model, self._tensors)

    @functools.cached_property
    def image_tower(self) -> ImageTower | ConvTower | SiglipImageTower:
        """Pixels to rows. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""
        tower = next(tower for tower in _IMAGE_TOWERS if tower.serves(self._model))
        return tower(self._model, self._tensors)


class TorchEncoder:
    """A model with its images in torch, on CUDA, MPS or the CPU.

    Its texts are in NumPy where there is a tower for them. `precision` "auto" is fp16 on a GPU and fp32 on a CPU; int8
    is for the vision transformers of CLIP and SigLIP on a CPU. A call uses so many `threads` of a CPU: None is all of
    them; 1 is best where several calls are made at once.
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

        self._cold = in_numpy(model, texts=True, images=True)
        if self.precision == "int8" and not (
            self.device == "cpu" and self._cold and isinstance(self._cold.image_tower, ImageTower | SiglipImageTower)
        ):
            raise BadArgument("precision", "can be int8 only for vision transformers of CLIP and SigLIP on a CPU")
        if self._cold is None:
            self._images = lambda images: self._net.encode_image(images.to(DTYPES[self.precision]))
            _ = self._net
        else:
            self._images = batch_tower(self._cold.image_tower, self.device, self.precision)

    @functools.cached_property
    def _net(self) -> Any:
        return _load(self._model, self.device, self.precision)

    @property
    def logit_scale(self) -> float:
        """What the model was trained to multiply cosines with before a softmax."""
        return self._cold.logit_scale if self._cold else float(self._net.logit_scale.detach().exp())

    def encode_images(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) float32 of preprocessed images, (n, height, width, 3) uint8."""
        import torch

        torch.set_num_threads(self._threads)  # holds for the calling thread alone
        try:
            with torch.inference_mode(), _explained():
                batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2)
                return self._rows(self._images((batch.float() / 255 - self._mean) / self._std))
        finally:
            torch.set_num_threads(self._all_threads)

    def encode_texts(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) float32 of texts."""
        if self._cold:
            return self._cold.encode_texts(texts)
        import torch

        with torch.inference_mode(), _explained():
            return self._rows(self._net.encode_text(self._tokens(texts).to(self.device)))

    def _tokens(self, texts: list[str]) -> Any:
        import torch

        model = self._model
        if model.text is None:
            import open_clip

            return open_clip.get_tokenizer(model.architecture)(texts)
        tokens = torch.full((len(texts), model.context_length), model.text.padding)
        canonical = model.reads_canonical_text
        read = tokenize(texts, model.text.tokenizer, model.context_length, canonical=canonical)
        for row, ids in zip(tokens, read, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _rows(self, features: Any) -> Array:
        return unit_rows(features.float().cpu().numpy())


def _with_weights(model: Model) -> Model:
    """The model of an index with its files, fetched again if the cache that had them was emptied."""
    gone = not all(path.is_file() for path, _ in model.files)
    if gone and model.architecture == split_name(model.name)[0]:
        from clipsearch.models.hub import resolve

        found = resolve(model.name)
        if found.fingerprint == model.fingerprint:
            return found
    model.check_weights()
    return model


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What torch says when a device fails or its memory is full, as a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise EncodingFailed(f"the model failed on this device: {first_line(error)}") from error


def _load(model: Model, device: str, precision: str) -> Any:
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
    except Exception as error:  # torch, safetensors, pickle and open_clip each have their own
        raise WeightsUnusable(
            f"the weights {model.weights} do not fit {model.architecture}: {first_line(error)}"
        ) from error
    net.eval()
    return net


def give_memory_back() -> None:
    """Free what encoders have held that nobody uses any more, on the GPU too."""
    import ctypes
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # of glibc, which keeps what is freed
            ctypes.CDLL(None).malloc_trim(0)


def write_safetensors(pickled: Path, path: Path) -> None:
    """Write the tensors of a checkpoint of torch's as safetensors, under the names that open_clip gives them.

    Nothing but tensors is unpickled (`weights_only`). Raises OSError, or `WeightsUnusable` if there is anything else.
    """
    import safetensors.torch
    import torch

    try:
        found = torch.load(pickled, map_location="cpu", weights_only=True, mmap=True)
        state = found.get("state_dict", found)
        tensors = {name.removeprefix("module."): tensor.contiguous() for name, tensor in state.items()}
        safetensors.torch.save_file(tensors, path)
    except OSError:
        raise
    except Exception as error:  # torch, pickle and safetensors each have their own
        raise WeightsUnusable(f"{pickled} cannot be read: {first_line(error)}") from error


def check_names(device: str, precision: str) -> None:
    """Raise `BadArgument` for a device or precision that no machine has."""
    if device.partition(":")[0] not in DEVICES:
        raise BadArgument("device", f"must be one of {', '.join(DEVICES)}, not {device!r}")
    if precision not in PRECISIONS:
        raise BadArgument("precision", f"must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def usable_device(wanted: str) -> str:
    """The device that a name means here: cpu, cuda, with a number where one is given, or mps. Raises `BadArgument`."""
    import torch

    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if usable[name])
    kind, _, number = wanted.partition(":")
    if not usable[kind] or (
        number and not (kind == "cuda" and number.isdecimal() and int(number) < torch.cuda.device_count())
    ):
        raise BadArgument("device", f"cannot be {wanted}: this machine, or its torch, has none")
    return wanted
