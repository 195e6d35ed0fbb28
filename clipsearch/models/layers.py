"""Neural network layers in NumPy, shared by the towers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, softmax, unit_rows
from clipsearch.images.preprocess import Preprocess
from clipsearch.models.weights import Named

_TEXTS_PER_BATCH = 64


class Parts(NamedTuple):
    """A grid of embeddings of one image, (rows, columns, dim), for locating a text in it.

    The dot product with a text embedding ranks the cells of one image. It has no absolute scale, so scores of different
    images are not comparable. `ys` (rows,) and `xs` (columns,) are cell centres as fractions of the input's height and
    width.
    """

    embeddings: Array
    ys: Array
    xs: Array


def normalise(pixels: Pixels, preprocess: Preprocess) -> Array:
    """Scale uint8 (..., 3) to 0..1, then apply the model's mean and standard deviation per channel."""
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    out: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return out


def patches(image: Array, kernel: Array) -> Array:
    """Patch embedding: a convolution whose stride equals its kernel size, as one matrix product.

    `image` is (height, width, 3) and `kernel` (width, 3, size, size). Returns (patches, width) in row-major order.
    Incomplete patches at the right and bottom edges are dropped.
    """
    size = kernel.shape[-1]
    rows, columns = image.shape[0] // size, image.shape[1] // size
    # Same memory layout as the kernel: (channel, y, x).
    cut = image[: rows * size, : columns * size].reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    out: Array = cut.reshape(rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
    return out


def grid(rows: Array, image: Pixels, size: int) -> Parts:
    """Normalise and arrange embeddings (patches, dim), in the order of `patches`, as the `Parts` of an image."""
    height, width = image.shape[:2]
    down, across = height // size, width // size
    centres = (np.arange(max(down, across), dtype=np.float32) + np.float32(0.5)) * size
    return Parts(unit_rows(rows).reshape(down, across, -1), centres[:down] / height, centres[:across] / width)


def by_length(texts: Sequence[Sequence[Any]], embed: Callable[[NDArray[np.int64]], Array]) -> Array:
    """Embed n token sequences as (n, dim). `embed` gets batches of equal length, so that nothing needs padding."""
    groups: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        groups.setdefault(len(text), []).append(number)
    out: list[Array] = [np.empty(0, np.float32)] * len(texts)
    for numbers in groups.values():
        for first in range(0, len(numbers), _TEXTS_PER_BATCH):
            part = numbers[first : first + _TEXTS_PER_BATCH]
            for number, row in zip(part, embed(np.array([texts[n] for n in part])), strict=True):
                out[number] = row
    return np.stack(out)


def product(x: Array, weight: Array) -> Array:
    """Compute x @ weight.T for few rows (..., width). Written transposed: OpenBLAS is a third faster that way."""
    out: Array = (weight @ x.reshape(-1, x.shape[-1]).T).T
    return out.reshape(*x.shape[:-1], -1)


def linear(x: Array, t: Named, name: str) -> Array:
    """Apply the linear layer `name` to x (..., width)."""
    out: Array = product(x, t.matrix(f"{name}.weight")) + t.matrix(f"{name}.bias")
    return out


def layer_norm(x: Array, t: Named, name: str, epsilon: float = 1e-5) -> Array:
    """Apply the layer norm `name` over the last axis. `epsilon` is added to the variance."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(epsilon))
    out: Array = scaled * t.matrix(f"{name}.weight") + t.matrix(f"{name}.bias")
    return out


def attention(q: Array, k: Array, v: Array, heads: int, mask: Array | None = None) -> Array:
    """Multi-head scaled dot-product attention.

    Queries are (n, rows, width), keys and values (n, length, width); `width` is split among the heads. `mask`
    (rows, length) is added to the logits.
    """

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    weights = split(q) @ split(k).swapaxes(-1, -2) * np.float32((q.shape[-1] // heads) ** -0.5)
    if mask is not None:
        weights = weights + mask
    out: Array = (softmax(weights) @ split(v)).swapaxes(1, 2).reshape(q.shape)
    return out


def quick_gelu(x: Array) -> Array:
    """GELU as OpenAI's CLIP approximates it: x * sigmoid(1.702 x)."""
    out: Array = x / (1 + np.exp(np.float32(-1.702) * x))
    return out


def gelu(x: Array) -> Array:
    """Exact GELU, x times the normal CDF. erf is Abramowitz and Stegun 7.1.26, accurate to 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: Array = np.full_like(x, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series * t + np.float32(coefficient)).astype(np.float32, copy=False)
    tail = series * t * np.exp(-z * z)
    out: Array = np.float32(0.5) * x * (1 + np.copysign(1 - tail, x))
    return out


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016), JAX's default."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    out: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out
