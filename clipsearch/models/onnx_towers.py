"""The image towers of `clip`, `siglip` and `convnet` as ONNX graphs: same embeddings, in batches.

The weights are those of the NumPy towers: in fp32 without a copy. fp32 graphs have standard operators only, so that any
runtime can run them. int8 graphs have one of ONNX Runtime's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.images.preprocess import Preprocess
from clipsearch.models.clip import ImageTower
from clipsearch.models.convnet import Conv, ConvTower, Dense
from clipsearch.models.onnx_graph import MICROSOFT, Graph, Session
from clipsearch.models.siglip import SiglipImageTower
from clipsearch.models.transformer import Shape
from clipsearch.models.weights import Named

Tower = ImageTower | SiglipImageTower | ConvTower


class TowerGraph(NamedTuple):
    """A graph and its output: embeddings (n, dim), not normalised."""

    graph: Graph
    output: str
    dim: int

    def message(self, *, with_weights: bool = True) -> bytes:
        """The graph as `Graph.message`."""
        return self.graph.message(self.output, self.dim, with_weights=with_weights)


class Quantisation(NamedTuple):
    """How the linear layers of a transformer's blocks are quantised: to weights from -`levels` to `levels`.

    `dtype` is int8, or uint8, for weights that are shifted by 128. `ranges` are the largest values of each channel
    after each layer norm, by the norm's tensor name.
    """

    levels: int
    dtype: type[np.signedinteger[Any] | np.unsignedinteger[Any]]
    ranges: dict[str, Array]


def graph_of(tower: Tower, preprocess: Preprocess, dim: int, quantisation: Quantisation | None = None) -> TowerGraph:
    """The graph of a tower, in fp32 or quantised."""
    graph = Graph(*preprocess.size)
    pixels = _normalised(graph, preprocess)
    if isinstance(tower, ConvTower):
        output = _convnet(graph, tower, pixels)
    else:
        blocks = _Transformer(graph, tower.shape, tower.width, quantisation)
        output = _clip(blocks, tower, pixels) if isinstance(tower, ImageTower) else _siglip(blocks, tower, pixels)
    return TowerGraph(graph, output, dim)


def _normalised(graph: Graph, preprocess: Preprocess) -> str:
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    scaled = graph.op("Div", graph.cast(graph.input, np.float32), _number(255))
    return graph.op("Div", graph.op("Sub", scaled, mean), std)


def _number(value: float) -> Array:
    return np.array(value, np.float32)


# ------------------------------------------------------------------------------------------ linear layers


def fp32_linear(graph: Graph, x: str, weight: Array, bias: Array) -> str:
    """The layer x W' + b of x (rows, in), for W (out, in) and b (out,)."""
    return graph.op("Gemm", x, weight, bias, transB=1)


def int8_linear(
    graph: Graph, x: str, weight: Array, bias: Array, quantisation: Quantisation, lowest: float | None = None
) -> str:
    """The same in products of bytes and int32 sums, with one scale per output of the weights and per row of x.

    Scales per row, rather than per batch, make an embedding independent of the other images in its batch. x is
    symmetric about zero, or at least `lowest`; all 256 steps then lie above that.
    """
    scale = np.maximum(np.abs(weight).max(1), _LEAST) / quantisation.levels
    rounded = np.round(weight / scale[:, None])
    zero, levels = 128, 127
    if lowest is not None:
        zero, levels = 0, 255
        bias = bias + np.float32(lowest) * scale * rounded.sum(1)
        x = graph.op("Sub", x, _number(lowest))
    top = graph.op("ReduceMax", graph.op("Abs", x) if zero else x, np.array([-1], np.int64), keepdims=1)
    step = graph.op("Max", graph.op("Mul", top, _number(1 / levels)), _number(_LEAST))
    one, offset = _number(1), np.array(zero, np.uint8)
    quantised = graph.op("QuantizeLinear", graph.op("Div", x, step), one, offset)
    zeros = np.full(len(scale), 0 if quantisation.dtype is np.int8 else 128, quantisation.dtype)
    kernel = (rounded.T + zeros).astype(quantisation.dtype)
    product = graph.op("MatMulIntegerToFloat", quantised, kernel, one, scale, offset, zeros, domain=MICROSOFT)
    return graph.op("Add", graph.op("Mul", product, step), bias)


_LEAST = 1e-12  # of a scale, so that nothing is divided by zero


def ranges_of(tower: ImageTower | SiglipImageTower, pixels: Pixels) -> dict[str, Array]:
    """The `Quantisation.ranges` of a tower on some preprocessed images."""
    ranges: dict[str, Array] = {}

    def see(name: str, out: Array) -> None:
        most = np.abs(out).reshape(-1, out.shape[-1]).max(0)
        ranges[name] = np.maximum(ranges.get(name, most), most)

    tower.blocks.on_norm = see
    try:
        tower(pixels)
    finally:
        tower.blocks.on_norm = None
    return ranges


@functools.cache
def overflows() -> bool:
    """Whether this processor adds pairs of products in 16 bits, like x86 without VNNI.

    Two of 255 x 127 overflow, two of 255 x 63 do not, nor do unsigned weights, which take another path. With it,
    cosines to fp32 fall from 0.9999 to 0.99.
    """
    graph = Graph(1, _PROBE)
    x = graph.cast(graph.reshape(graph.input, -1, 3 * _PROBE), np.uint8)
    weight, zeros = np.full((3 * _PROBE, _PROBE), 127, np.int8), np.zeros(_PROBE, np.int8)
    scales = _number(1), np.ones(_PROBE, np.float32), np.array(0, np.uint8), zeros
    out = graph.op("MatMulIntegerToFloat", x, weight, *scales, domain=MICROSOFT)
    found = Session(graph.message(out, _PROBE))(np.full((1, 1, _PROBE, 3), 255, np.uint8))
    return bool(found[0, 0] != 255 * 127 * 3 * _PROBE)


_PROBE = 64


# ------------------------------------------------------------------------------------------ vision transformers


def _clip(blocks: _Transformer, tower: ImageTower, pixels: str) -> str:
    graph, t = blocks.graph, tower.tensors
    token = t.matrix("class_embedding")
    patches, count = blocks.patches(pixels, t.matrix("conv1.weight"), np.zeros(len(token), np.float32))
    images = graph.op("Shape", graph.input, start=0, end=1)
    shape = graph.op("Concat", images, np.array([1, len(token)], np.int64), axis=0)
    x = graph.op("Concat", graph.op("Expand", token[None, None], shape), patches, axis=1)
    x = graph.op("Add", x, t.matrix("positional_embedding"))
    x = blocks.norm(graph.reshape(x, -1, len(token)), t, "ln_pre")
    x = blocks(x, t, count + 1, only_first=True)
    return graph.op("MatMul", blocks.norm(x, t, "ln_post"), t.matrix("proj"))


def _siglip(blocks: _Transformer, tower: SiglipImageTower, pixels: str) -> str:
    graph, t, pool = blocks.graph, tower.tensors, tower.tensors.below("attn_pool.")
    kernel = t.matrix("patch_embed.proj.weight")
    patches, count = blocks.patches(pixels, kernel, t.matrix("patch_embed.proj.bias"))
    x = graph.reshape(graph.op("Add", patches, t.matrix("pos_embed")), -1, len(kernel))
    x = blocks.norm(blocks(x, t, count), t, "norm")
    # One learned query, the same for every image, over the tokens of an image.
    query = pool.matrix("latent")[0] @ pool.matrix("q.weight").T + pool.matrix("q.bias")
    k, v = blocks.split_heads(blocks.linear(x, pool, "kv"), 2, count)
    x = blocks.linear(blocks.attention(query.reshape(1, tower.shape.heads, 1, -1), k, v), pool, "proj")
    return blocks.mlp(x, pool, "norm", "mlp.fc1", "mlp.fc2")


class _Transformer:
    """Adds the parts of a vision transformer to a graph. Sequences are rows (n * length, width)."""

    def __init__(self, graph: Graph, shape: Shape, width: int, quantisation: Quantisation | None) -> None:
        self.graph, self._shape, self._width, self._quantisation = graph, shape, width, quantisation
        self._head = width // shape.heads

    def patches(self, pixels: str, kernel: Array, bias: Array) -> tuple[str, int]:
        """Patch embeddings (n, patches, width) and the patches of an image; see `layers.patches`."""
        graph, size = self.graph, kernel.shape[-1]
        rows, columns = (side // size for side in graph.size)
        if (rows * size, columns * size) != graph.size:
            pixels = graph.slice(graph.slice(pixels, 1, 0, rows * size), 2, 0, columns * size)
        cut = graph.transpose(graph.reshape(pixels, -1, rows, size, columns, size, 3), 0, 1, 3, 5, 2, 4)
        flat = graph.reshape(cut, -1, 3 * size * size)
        embedded = fp32_linear(graph, flat, kernel.reshape(len(kernel), -1), bias)
        return graph.reshape(embedded, -1, rows * columns, len(kernel)), rows * columns

    def __call__(self, x: str, t: Named, length: int, *, only_first: bool = False) -> str:
        """Pre-norm residual attention blocks. `only_first`: return the first position alone, (n, width)."""
        graph, names = self.graph, self._shape.names
        for number in range(self._shape.layers):
            b = t.below(f"{names.blocks}.{number}.")
            packed = self._normed_linear(x, b, names.norm_1, b.matrix(names.qkv_weight), b.matrix(names.qkv_bias))
            q, k, v = self.split_heads(packed, 3, length)
            if only_first and number == self._shape.layers - 1:  # nothing else is read
                q = graph.slice(q, 2, 0, 1)
                sequences = graph.reshape(x, -1, length, self._width)
                x = graph.reshape(graph.slice(sequences, 1, 0, 1), -1, self._width)
            x = graph.op("Add", x, self.linear(self.attention(q, k, v), b, names.out))
            x = self.mlp(x, b, names.norm_2, names.mlp_in, names.mlp_out)
            if self._quantisation is not None:
                t.release()  # the graph has its own weights
        return x

    def split_heads(self, packed: str, count: int, length: int) -> list[str]:
        """Split rows (n * length, count * width) into `count` arrays (n, heads, length, width / heads)."""
        graph = self.graph
        last = graph.reshape(packed, -1, length, count, self._shape.heads, self._head)
        split = graph.ops("Split", count, graph.transpose(last, 2, 0, 3, 1, 4), axis=0, num_outputs=count)
        return [graph.op("Squeeze", part, np.array([0], np.int64)) for part in split]

    def attention(self, q: str | Array, k: str, v: str) -> str:
        """Scaled dot-product attention of arrays as from `split_heads`, as rows (n * queries, width)."""
        graph = self.graph
        logits = graph.op("MatMul", graph.op("Mul", q, _number(self._head**-0.5)), graph.transpose(k, 0, 1, 3, 2))
        attended = graph.op("MatMul", graph.op("Softmax", logits, axis=-1), v)
        return graph.reshape(graph.transpose(attended, 0, 2, 1, 3), -1, self._width)

    def mlp(self, x: str, t: Named, norm: str, first: str, second: str) -> str:
        """The residual MLP after a norm."""
        activate, lowest = _ACTIVATIONS[self._shape.activation]
        hidden = self._normed_linear(x, t, norm, t.matrix(f"{first}.weight"), t.matrix(f"{first}.bias"))
        return self.graph.op("Add", x, self.linear(activate(self.graph, hidden), t, second, lowest))

    def linear(self, x: str, t: Named, name: str, lowest: float | None = None) -> str:
        """The linear layer `name` of x, which is at least `lowest`."""
        return self._product(x, t.matrix(f"{name}.weight"), t.matrix(f"{name}.bias"), lowest)

    def norm(self, x: str, t: Named, name: str) -> str:
        return self._norm(x, t.matrix(f"{name}.weight"), t.matrix(f"{name}.bias"))

    def _normed_linear(self, x: str, t: Named, norm: str, weight: Array, bias: Array) -> str:
        """A layer norm and a linear layer.

        Before weights are quantised, some of the range of channels with large values moves from the norm to the
        weights, or those channels would take all the steps of a row (SmoothQuant, Xiao et al. 2023).
        """
        gain, shift = t.matrix(f"{norm}.weight"), t.matrix(f"{norm}.bias")
        if self._quantisation is not None and t.prefix + norm in self._quantisation.ranges:
            most, largest = self._quantisation.ranges[t.prefix + norm], np.abs(weight).max(0)
            moved = np.sqrt(np.maximum(most, _SMALL) / np.maximum(largest, _SMALL))
            gain, shift, weight = gain / moved, shift / moved, weight * moved
        return self._product(self._norm(x, gain, shift), weight, bias)

    def _product(self, x: str, weight: Array, bias: Array, lowest: float | None = None) -> str:
        if self._quantisation is None:
            return fp32_linear(self.graph, x, weight, bias)
        return int8_linear(self.graph, x, weight, bias, self._quantisation, lowest)

    def _norm(self, x: str, gain: Array, shift: Array) -> str:
        return self.graph.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=self._shape.epsilon)


_SMALL = 1e-5


def _quick_gelu(graph: Graph, x: str) -> str:
    return graph.op("Mul", x, graph.op("Sigmoid", graph.op("Mul", x, _number(1.702))))


def _gelu(approximate: str) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.op("Gelu", x, approximate=approximate)


# Each activation, and a number that it never falls below.
_ACTIVATIONS: dict[str, tuple[Callable[[Graph, str], str], float]] = {
    "gelu": (_gelu("none"), -0.16998),
    "gelu_tanh": (_gelu("tanh"), -0.17005),
    "quick_gelu": (_quick_gelu, -0.16365),
}


# ------------------------------------------------------------------------------------------ EfficientNet-Lite


def _convnet(graph: Graph, tower: ConvTower, pixels: str) -> str:
    x, size = graph.transpose(pixels, 0, 3, 1, 2), graph.size
    for block in tower.blocks:
        before = x
        for conv in block.convs:
            x, size = _conv(graph, conv, x, size)
        if block.residual:
            x = graph.op("Add", x, before)
    x = graph.op("ReduceMean", x, np.array([2, 3], np.int64), keepdims=0)
    for dense in tower.dense:
        x = _dense(graph, dense, x)
    return x


def _conv(graph: Graph, conv: Conv, x: str, size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """Convolve feature maps (n, channels, height, width) of `size`. Returns the output and its size."""
    (top, bottom), (left, right) = (conv.padding(side) for side in size)
    groups = len(conv.kernel) if conv.depthwise else 1
    pads, strides = (top, left, bottom, right), (conv.stride, conv.stride)
    x = graph.op("Conv", x, conv.kernel, conv.bias, pads=pads, strides=strides, group=groups)
    if conv.relu_max is not None:
        x = graph.op("Clip", x, _number(0), _number(conv.relu_max))
    height, width = (-(-side // conv.stride) for side in size)
    return x, (height, width)


def _dense(graph: Graph, dense: Dense, x: str) -> str:
    bias = np.zeros(len(dense.weight), np.float32) if dense.bias is None else dense.bias
    x = fp32_linear(graph, x, dense.weight, bias)
    if dense.activation == "gelu":
        return graph.op("Gelu", x, approximate="none")
    return graph.op("Relu", x) if dense.activation else x
