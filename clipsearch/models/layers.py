"""The layers that the towers in NumPy are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, softmax, unit_rows
from clipsearch.images.preprocess import Preprocess
from clipsearch.models.weights import Named

_TEXTS_AT_ONCE = 64


class Parts(NamedTuple):
    """What a tower makes of the parts of one image: (rows, columns, dim), to multiply with the row of a text.

    The products have no scale of their own: they say which part is more about the text than another. `ys` (rows,) and
    `xs` (columns,) are the middles of the parts, as shares of the input's height and width.
    """

    embeddings: Array
    ys: Array
    xs: Array


def normalise(pixels: Pixels, preprocess: Preprocess) -> Array:
    """(..., 3) uint8 to float32 with the model's mean and standard deviation."""
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    out: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return out


def patches(image: Array, kernel: Array) -> Array:
    """A convolution whose stride is its size: an image (height, width, 3) to rows (patches, width), from the top left.

    `kernel` (width, 3, size, size); what does not fill a patch at the right and at the bottom is left out.
    """
    size = kernel.shape[-1]
    rows, columns = image.shape[0] // size, image.shape[1] // size
    # Laid out as the kernel is: (channel, y, x).
    cut = image[: rows * size, : columns * size].reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    out: Array = cut.reshape(rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
    return out


def grid(rows: Array, image: Pixels, size: int) -> Parts:
    """Rows (patches, dim) of the patches of an image, in the order of `patches`, as parts of it."""
    height, width = image.shape[:2]
    down, across = height // size, width // size
    middles = (np.arange(max(down, across), dtype=np.float32) + np.float32(0.5)) * size
    return Parts(unit_rows(rows).reshape(down, across, -1), middles[:down] / height, middles[:across] / width)


def by_length(texts: Sequence[Sequence[Any]], embed: Callable[[NDArray[np.int64]], Array]) -> Array:
    """Rows (n, dim) of n texts. `embed` gets those of one length at a time, so that nothing is padded."""
    groups: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        groups.setdefault(len(text), []).append(number)
    out: list[Array] = [np.empty(0, np.float32)] * len(texts)
    for numbers in groups.values():
        for first in range(0, len(numbers), _TEXTS_AT_ONCE):
            part = numbers[first : first + _TEXTS_AT_ONCE]
            for number, row in zip(part, embed(np.array([texts[n] for n in part])), strict=True):
                out[number] = row
    return np.stack(out)


def product(x: Array, weight: Array) -> Array:
    """X @ weight.T for few rows (..., width): written this way round OpenBLAS takes two thirds of the time."""
    out: Array = (weight @ x.reshape(-1, x.shape[-1]).T).T
    return out.reshape(*x.shape[:-1], -1)


def linear(x: Array, t: Named, name: str) -> Array:
    """A linear layer, its weight and bias below `name`."""
    out: Array = product(x, t.matrix(f"{name}.weight")) + t.matrix(f"{name}.bias")
    return out


def layer_norm(x: Array, t: Named, name: str, epsilon: float = 1e-5) -> Array:
    """Rows with mean 0 and variance 1, then scaled and moved by the weight and bias below `name`."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(epsilon))
    out: Array = scaled * t.matrix(f"{name}.weight") + t.matrix(f"{name}.bias")
    return out


def attention(q: Array, k: Array, v: Array, heads: int, mask: Array | None = None) -> Array:
    """Scaled dot-product attention of queries (n, rows, width) to keys and values (n, length, width).

    `mask` (rows, length) is added before the softmax.
    """

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    weights = split(q) @ split(k).swapaxes(-1, -2) * np.float32((q.shape[-1] // heads) ** -0.5)
    if mask is not None:
        weights = weights + mask
    out: Array = (softmax(weights) @ split(v)).swapaxes(1, 2).reshape(q.shape)
    return out


def quick_gelu(x: Array) -> Array:
    """OpenAI's approximation of GELU."""
    out: Array = x / (1 + np.exp(np.float32(-1.702) * x))
    return out


def gelu(x: Array) -> Array:
    """X times the normal distribution function; erf by Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: Array = np.full_like(x, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series * t + np.float32(coefficient)).astype(np.float32, copy=False)
    tail = series * t * np.exp(-z * z)
    out: Array = np.float32(0.5) * x * (1 + np.copysign(1 - tail, x))
    return out


def gelu_tanh(x: Array) -> Array:
    """The approximation of GELU by Hendrycks and Gimpel 2016, which JAX has for its default."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    out: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out
