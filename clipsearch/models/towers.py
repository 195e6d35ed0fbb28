"""CLIP's two towers in NumPy over memory-mapped safetensors: embeds one query without importing torch.

The architectures are those of OpenCLIP's `CLIP` and `CustomTextCLIP` (`open_clip/model.py`, `transformer.py`) with
standard transformers; `supports` says whether a model is one of them. Text is cut at the end-of-text token: under the
causal mask what follows cannot matter.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, softmax, unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.models.model import Model

Tensors = dict[str, NDArray[Any]]

_TEXTS_AT_ONCE = 64

# What a configuration may say for these towers to compute the same as open_clip; any other word means another network.
_TEXT_KEYS = frozenset(["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"])
_VISION_KEYS = frozenset(["image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"])
MODEL_KEYS = frozenset(["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"])


def supports(model: Model) -> tuple[bool, bool]:
    """Whether these towers can embed texts, and images, for a model."""
    if model.weights.suffix != ".safetensors" or not model.config.keys() <= MODEL_KEYS:
        return False, False
    text, vision = model.config["text_cfg"], model.config["vision_cfg"]
    standard_vision = vision.keys() <= _VISION_KEYS and isinstance(vision.get("layers", 12), int)
    return text.keys() <= _TEXT_KEYS, standard_vision


def load_safetensors(path: Path) -> Tensors:
    """Map a safetensors file: name to array, in the file's own precision (bfloat16 as float32, which is a copy).

    Raises `WeightsUnusable` when the file is not what its header says.
    Format: https://github.com/huggingface/safetensors#format
    """
    dtypes = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
    try:
        with open(path, "rb") as file:
            # A private mapping: torch takes only arrays that can be written to, and nobody writes to them.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8 : 8 + length])
        out: Tensors = {}
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in dtypes:
                continue
            start, _ = entry["data_offsets"]
            array = np.frombuffer(
                mapped, dtypes[entry["dtype"]], count=math.prod(entry["shape"]), offset=8 + length + start
            ).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                array = np.left_shift(array, 16, dtype=np.uint32, out=np.empty(array.shape, np.uint32)).view(np.float32)
            out[name] = array
        return out
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsUnusable(f"the weights {path} cannot be read as safetensors: {error}") from None


class TextTower:
    """Token ids to embeddings."""

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["text_cfg"]
        prefix = "text." if "text.token_embedding.weight" in tensors else ""
        self._tensors = Named(tensors, prefix, model.weights)
        self._blocks = _Transformer(
            self._tensors.below("transformer."), config.get("layers", 12), config.get("heads", 8), _activation(model)
        )
        self._tensors.expect("positional_embedding", config.get("context_length", 77), config.get("width", 512))
        self._tensors.expect("text_projection", config.get("width", 512), model.dim)

    def __call__(self, ids: list[list[int]]) -> Array:
        """Unit rows (n, dim) of n lists of ids, each of which is read up to its end-of-text token."""
        # open_clip reads the first end of text: one may be written in the text.
        texts = [row[: row.index(max(row)) + 1] for row in ids]
        by_length: dict[int, list[int]] = {}
        for number, text in enumerate(texts):
            by_length.setdefault(len(text), []).append(number)
        out: list[Array] = [np.empty(0, np.float32)] * len(texts)
        for numbers in by_length.values():
            for first in range(0, len(numbers), _TEXTS_AT_ONCE):
                part = numbers[first : first + _TEXTS_AT_ONCE]
                for number, row in zip(part, self._some(np.array([texts[n] for n in part])), strict=True):
                    out[number] = row
        return unit_rows(np.stack(out))

    def _some(self, ids: NDArray[np.int64]) -> Array:
        """Rows (n, dim) of texts of one length, (n, length)."""
        t, length = self._tensors, ids.shape[1]
        x = _f32(t["token_embedding.weight"][ids]) + _f32(t["positional_embedding"][:length])
        mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        token = self._blocks(x, length - 1, mask)  # under the mask the last has seen all others
        projected: Array = _layer_norm(token, t, "ln_final") @ t.matrix("text_projection")
        return projected


class ImageTower:
    """Pixels to embeddings."""

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["vision_cfg"]
        self.tensors = Named(tensors, "visual.", model.weights)
        self.quick_gelu = bool(model.config.get("quick_gelu"))
        self.layers, self.patch = config.get("layers", 12), config.get("patch_size", 16)
        width = config.get("width", 768)
        self.heads = width // config.get("head_width", 64)
        self._preprocess = model.preprocess
        blocks = self.tensors.below("transformer.")
        self._blocks = _Transformer(blocks, self.layers, self.heads, _activation(model))
        rows, columns = (side // self.patch for side in model.preprocess.size)
        self.tensors.expect("positional_embedding", rows * columns + 1, width)
        self.tensors.expect("conv1.weight", width, 3, self.patch, self.patch)
        self.tensors.expect("proj", width, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def _one(self, pixels: Pixels) -> Array:
        t, p = self.tensors, self.patch
        image = normalise(pixels, self._preprocess)
        rows, columns = image.shape[0] // p, image.shape[1] // p
        # A convolution whose stride is its size is a product of patches, laid out (channel, y, x), with a matrix.
        patches = image[: rows * p, : columns * p].reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3)
        kernel = t.matrix("conv1.weight").reshape(len(t["conv1.weight"]), -1)
        x = np.concatenate([_f32(t["class_embedding"])[None], patches.reshape(rows * columns, -1) @ kernel.T]) + _f32(
            t["positional_embedding"]
        )
        token = self._blocks(_layer_norm(x, t, "ln_pre")[None], 0)
        projected: Array = (_layer_norm(token, t, "ln_post") @ t.matrix("proj"))[0]
        return projected


def normalise(pixels: Pixels, preprocess: Preprocess) -> Array:
    """(..., 3) uint8 to float32 with the model's mean and standard deviation."""
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    out: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return out


class Named:
    """Tensors below a prefix; a missing one is an error that names the file."""

    def __init__(self, tensors: Tensors, prefix: str, path: Path) -> None:
        self._tensors, self._prefix, self._path = tensors, prefix, path

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._tensors[self._prefix + name]
        except KeyError:
            raise WeightsUnusable(
                f"{self._path} does not fit the architecture: it has no {self._prefix}{name}"
            ) from None

    def expect(self, name: str, *shape: int) -> None:
        if self[name].shape != shape:
            found = f"its {self._prefix}{name} is {self[name].shape}, not {shape}"
            raise WeightsUnusable(f"{self._path} does not fit the architecture: {found}")

    def expect_no(self, name: str) -> None:
        if self._prefix + name in self._tensors:
            raise WeightsUnusable(
                f"{self._path} does not fit the architecture: it has {self._prefix}{name}, which is one layer too many"
            )

    def matrix(self, name: str) -> Array:
        return _f32(self[name])

    def below(self, prefix: str) -> Named:
        return Named(self._tensors, self._prefix + prefix, self._path)


class _Transformer:
    """Pre-norm residual attention blocks over sequences (n, length, width)."""

    def __init__(self, tensors: Named, layers: int, heads: int, activation: Callable[[Array], Array]) -> None:
        self._tensors, self._layers, self._heads, self._activation = tensors, layers, heads, activation
        _ = tensors[f"resblocks.{layers - 1}.ln_1.weight"]
        tensors.expect_no(f"resblocks.{layers}.ln_1.weight")

    def __call__(self, x: Array, read: int, mask: Array | None = None) -> Array:
        """One position's rows (n, width) of the output: the last block need not compute the others."""
        for n in range(self._layers):
            t = self._tensors.below(f"resblocks.{n}.")
            rows = slice(None) if n < self._layers - 1 else slice(read, read + 1)
            x = x[:, rows] + self._attend(_layer_norm(x, t, "ln_1"), t, mask, rows)
            hidden = self._activation(_linear(_layer_norm(x, t, "ln_2"), t, "mlp.c_fc"))
            x = x + _linear(hidden, t, "mlp.c_proj")
        return x[:, 0]

    def _attend(self, x: Array, t: Named, mask: Array | None, rows: slice) -> Array:
        n, length, width = x.shape
        packed = _product(x, t.matrix("attn.in_proj_weight")) + _f32(t["attn.in_proj_bias"])
        q, k, v = packed.reshape(n, length, 3, self._heads, width // self._heads).transpose(2, 0, 3, 1, 4)
        weights = q[:, :, rows] @ k.swapaxes(-1, -2) * np.float32((width // self._heads) ** -0.5)
        if mask is not None:
            weights = weights + mask[rows]
        return _linear((softmax(weights) @ v).transpose(0, 2, 1, 3).reshape(n, -1, width), t, "attn.out_proj")


def _f32(x: NDArray[Any]) -> Array:
    return x.astype(np.float32, copy=False)


def _linear(x: Array, t: Named, name: str) -> Array:
    out: Array = _product(x, t.matrix(f"{name}.weight")) + _f32(t[f"{name}.bias"])
    return out


def _product(x: Array, weight: Array) -> Array:
    """X @ weight.T for few rows (..., width): written this way round OpenBLAS takes two thirds of the time."""
    out: Array = (weight @ x.reshape(-1, x.shape[-1]).T).T
    return out.reshape(*x.shape[:-1], -1)


def _layer_norm(x: Array, t: Named, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(1e-5))
    out: Array = scaled * _f32(t[f"{name}.weight"]) + _f32(t[f"{name}.bias"])
    return out


def _activation(model: Model) -> Callable[[Array], Array]:
    return _quick_gelu if model.config.get("quick_gelu") else _gelu


def _quick_gelu(x: Array) -> Array:
    out: Array = x / (1 + np.exp(np.float32(-1.702) * x))
    return out


def _gelu(x: Array) -> Array:
    """X times the normal distribution function; erf by Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: Array = np.full_like(x, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series * t + np.float32(coefficient)).astype(np.float32, copy=False)
    tail = series * t * np.exp(-z * z)
    out: Array = np.float32(0.5) * x * (1 + np.copysign(1 - tail, x))
    return out
