"""The pre-norm transformer of CLIP and SigLIP in NumPy, over memory-mapped weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.models.layers import attention, gelu, gelu_tanh, layer_norm, linear, product, quick_gelu
from clipsearch.models.weights import Named


class Names(NamedTuple):
    """Tensor names within a block, `{blocks}.{n}.`, which differ between open_clip and timm."""

    blocks: str
    norm_1: str
    qkv_weight: str
    qkv_bias: str
    out: str
    norm_2: str
    mlp_in: str
    mlp_out: str


OPEN_CLIP = Names(
    "transformer.resblocks",
    "ln_1",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj",
    "ln_2",
    "mlp.c_fc",
    "mlp.c_proj",
)
TIMM = Names("blocks", "norm1", "attn.qkv.weight", "attn.qkv.bias", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}


class Shape(NamedTuple):
    """Hyperparameters of a `Transformer`; `epsilon` is that of the layer norms."""

    layers: int
    heads: int
    activation: str = "gelu"  # or "gelu_tanh" or "quick_gelu"
    names: Names = OPEN_CLIP
    epsilon: float = 1e-5


class Transformer:
    """Pre-norm residual attention blocks over sequences (n, length, width).

    Raises `WeightsUnusable` if the file has more or fewer blocks than `shape.layers`.
    """

    def __init__(self, tensors: Named, shape: Shape) -> None:
        self._tensors, self._shape, self._names = tensors, shape, shape.names
        self.on_norm: Callable[[str, Array], None] | None = None  # called with each norm's tensor name and output
        _ = tensors[f"{shape.names.blocks}.{shape.layers - 1}.{shape.names.norm_1}.weight"]
        tensors.expect_no(f"{shape.names.blocks}.{shape.layers}.{shape.names.norm_1}.weight")

    def __call__(self, x: Array, read: int | None = None, mask: Array | None = None) -> Array:
        """The output (n, length, width); with `read`, only that position, (n, width).

        The last block then computes that one position and skips the rest. `mask` is added to the attention logits.
        """
        for n in range(self._shape.layers):
            part = slice(None) if read is None or n < self._shape.layers - 1 else slice(read, read + 1)
            x = self._block(x, self._tensors.below(f"{self._names.blocks}.{n}."), mask, part)
        return x if read is None else x[:, 0]

    def values(self, x: Array) -> Array:
        """The projected attention values (n, length, width) of the last block, one per position."""
        *before, last = (self._tensors.below(f"{self._names.blocks}.{n}.") for n in range(self._shape.layers))
        for t in before:
            x = self._block(x, t, None, slice(None))
        weight, bias = (np.split(last.matrix(name), 3)[2] for name in (self._names.qkv_weight, self._names.qkv_bias))
        values = product(layer_norm(x, last, self._names.norm_1, self._shape.epsilon), weight) + bias
        return linear(values, last, self._names.out)

    def _block(self, x: Array, t: Named, mask: Array | None, rows: slice) -> Array:
        x = x[:, rows] + self._attend(self._norm(x, t, self._names.norm_1), t, mask, rows)
        hidden = linear(self._norm(x, t, self._names.norm_2), t, self._names.mlp_in)
        return x + linear(ACTIVATIONS[self._shape.activation](hidden), t, self._names.mlp_out)

    def _norm(self, x: Array, t: Named, name: str) -> Array:
        out = layer_norm(x, t, name, self._shape.epsilon)
        if self.on_norm is not None:
            self.on_norm(t.prefix + name, out)
        return out

    def _attend(self, x: Array, t: Named, mask: Array | None, rows: slice) -> Array:
        packed = product(x, t.matrix(self._names.qkv_weight)) + t.matrix(self._names.qkv_bias)
        q, k, v = np.split(packed, 3, -1)
        attended = attention(q[:, rows], k, v, self._shape.heads, None if mask is None else mask[rows])
        return linear(attended, t, self._names.out)
