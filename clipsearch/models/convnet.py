"""EfficientNet-Lite in NumPy: embeds an image without importing torch.

Computes what open_clip's `TimmModel` computes with timm's `tf_efficientnet_lite0`, `1` and `2` (`efficientnet.py`,
`_efficientnet_blocks.py`): EfficientNet (Tan and Le 2019) with ReLU6 and without squeeze-and-excitation. Feature maps
are (height, width, channels), so that a 1 x 1 convolution is one matrix product. Batch norms are folded into the
convolutions before them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.models.layers import Parts, gelu, normalise
from clipsearch.models.model import Model
from clipsearch.models.weights import Named, Tensors

_KEYS = frozenset(
    ["timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_drop", "timm_drop_path", "image_size"]
)
_FEATURES = 1280  # channels of the last feature map
_EPSILON = np.float32(1e-3)  # of the batch norms
_RELU6_MAX = 6.0
_CACHE_BLOCK = 1 << 16  # float32 values: 256 KiB, well within the L2 cache of a core
_STEP = 0.02  # step of the finite difference in `ConvTower.parts`


class _Layer(NamedTuple):
    """A convolution and its batch norm, by tensor name. `in_channels` is 1 for a depthwise convolution."""

    conv: str
    norm: str
    out_channels: int
    in_channels: int
    size: int = 1
    stride: int = 1
    relu: bool = True


class _Block(NamedTuple):
    layers: list[_Layer]
    residual: bool = False


def _efficientnet_lite(width: float, depth: float) -> list[_Block]:
    """EfficientNet-B0's stages (kernel size, stride, expansion, channels, repeats), scaled in width and depth.

    The Lite variants do not scale the stem, the last convolution, or the depth of the first and last stage.
    """
    stages = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)]
    stages += [(5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]
    blocks = [_Block([_Layer("conv_stem", "bn1", 32, 3, 3, 2)])]
    before = 32
    for stage, (size, stride, expansion, channels, repeats) in enumerate(stages):
        after = _rounded(channels * width)
        for n in range(repeats if stage in (0, len(stages) - 1) else math.ceil(repeats * depth)):
            step = stride if n == 0 else 1
            name, wide = f"blocks.{stage}.{n}.", before * expansion
            if expansion == 1:
                layers = [
                    _Layer(f"{name}conv_dw", f"{name}bn1", wide, 1, size, step),
                    _Layer(f"{name}conv_pw", f"{name}bn2", after, wide, relu=False),
                ]
            else:
                layers = [
                    _Layer(f"{name}conv_pw", f"{name}bn1", wide, before),
                    _Layer(f"{name}conv_dw", f"{name}bn2", wide, 1, size, step),
                    _Layer(f"{name}conv_pwl", f"{name}bn3", after, wide, relu=False),
                ]
            blocks.append(_Block(layers, residual=step == 1 and before == after))
            before = after
    blocks.append(_Block([_Layer("conv_head", "bn2", _FEATURES, before)]))
    return blocks


def _rounded(channels: float) -> int:
    """Round to a multiple of 8, but never down by more than 10% (timm's `make_divisible`)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * channels)


_NETWORKS: dict[str, Callable[[], list[_Block]]] = {
    "tf_efficientnet_lite0": functools.partial(_efficientnet_lite, 1.0, 1.0),
    "tf_efficientnet_lite1": functools.partial(_efficientnet_lite, 1.0, 1.1),
    "tf_efficientnet_lite2": functools.partial(_efficientnet_lite, 1.1, 1.2),
}


class ConvTower:
    """EfficientNet-Lite with open_clip's projection: `blocks`, average pooling, then the layers in `dense`.

    Raises `WeightsUnusable` if the weights do not fit the architecture.
    """

    zoom = 2  # `parts` locates best at twice the input size: 224 pixels give a feature map of only 7 x 7

    @staticmethod
    def serves(model: Model) -> bool:
        vision = model.config["vision_cfg"]
        return (
            model.is_plain
            and vision.keys() <= _KEYS
            and vision.get("timm_model_name") in _NETWORKS
            and vision.get("timm_pool", "avg") == "avg"
            and vision.get("timm_proj", "linear") in ("", "linear", "mlp")
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        vision = model.config["vision_cfg"]
        network = _NETWORKS[vision["timm_model_name"]]()
        visual = Named(tensors, "visual.", model.weights)
        t = visual.below("trunk.")
        self._preprocess = model.preprocess
        self.blocks = [Block([Conv(t, layer) for layer in b.layers], b.residual) for b in network]
        projection = vision.get("timm_proj", "linear")
        self.dense = list(_head(visual, projection, model.dim))
        known = {part for block in network for layer in block.layers for part in (layer.conv, layer.norm)}
        for name in t.names():
            if name.startswith("blocks.") and name.rpartition(".")[0] not in known:
                t.expect_no(name)

    def __call__(self, pixels: Pixels) -> Array:
        """Embed preprocessed images (n, height, width, 3) uint8 as unit vectors (n, dim)."""
        return unit_rows(np.stack([self._embed(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """How much each cell of the feature map moves the embedding of a preprocessed image (height, width, 3) uint8.

        The derivative of the unit embedding as the average pool shifts towards the cell, by finite differences: the
        idea of Grad-CAM (Selvaraju et al. 2017). Running the head on one cell works poorly, since it was trained on
        averages. Any input size works.
        """
        x = self._map(pixels)
        mean = x.mean((0, 1))
        moved = unit_rows(self._head(mean + np.float32(_STEP) * (x - mean))) - unit_rows(self._head(mean))
        height, width = pixels.shape[:2]
        return Parts(moved / np.float32(_STEP), self._centres(height), self._centres(width))

    def _embed(self, pixels: Pixels) -> Array:
        return self._head(self._map(pixels).mean((0, 1)))

    def _map(self, pixels: Pixels) -> Array:
        x = normalise(pixels, self._preprocess)
        for block in self.blocks:
            x = block(x)
        return x

    def _head(self, x: Array) -> Array:
        for dense in self.dense:
            x = dense(x)
        return x

    def _centres(self, side: int) -> Array:
        """Receptive field centres along a side of `side` pixels, as fractions.

        TensorFlow's SAME padding is asymmetric: an even side gets more at its end, which shifts the centres.
        """
        first, step, count = 0.5, 1, side
        for conv in (conv for block in self.blocks for conv in block.convs):
            start, end = conv.padding(count)
            first += step * ((conv.size - 1) / 2 - start)
            step *= conv.stride
            count = (count + start + end - conv.size) // conv.stride + 1
        return ((first + step * np.arange(count)) / side).astype(np.float32)


class Conv:
    """A convolution, full or depthwise, with its batch norm and an optional ReLU6.

    The batch norm is folded into `kernel` (out, in, size, size) and `bias` (out,). `relu_max` is None without ReLU.
    """

    def __init__(self, t: Named, layer: _Layer) -> None:
        self.size, self.stride, self.depthwise = layer.size, layer.stride, layer.in_channels == 1
        self.relu_max = _RELU6_MAX if layer.relu else None
        t.expect(f"{layer.conv}.weight", layer.out_channels, layer.in_channels, layer.size, layer.size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            t.expect(f"{layer.norm}.{part}", layer.out_channels)
        variance = t.matrix(f"{layer.norm}.running_var") + _EPSILON
        scale = t.matrix(f"{layer.norm}.weight") / np.sqrt(variance)
        self.bias = t.matrix(f"{layer.norm}.bias") - t.matrix(f"{layer.norm}.running_mean") * scale
        self.kernel = t.matrix(f"{layer.conv}.weight") * scale[:, None, None, None]
        # Same layout as the feature maps: depthwise (y, x, channel), full (y, x, in, out).
        self._kernel = self.kernel[:, 0].transpose(1, 2, 0) if self.depthwise else self.kernel.transpose(2, 3, 1, 0)

    def padding(self, side: int) -> tuple[int, int]:
        """TensorFlow's SAME padding of a side, in pixels at its start and end."""
        total = max(((side - 1) // self.stride) * self.stride + self.size - side, 0)
        return total // 2, total - total // 2

    def __call__(self, x: Array) -> Array:
        """Convolve a feature map (height, width, channels)."""
        if self.size > 1:
            x = np.pad(x, (self.padding(x.shape[0]), self.padding(x.shape[1]), (0, 0)))
        out = self._depthwise(x) if self.depthwise else self._full(x)
        out += self.bias
        return out if self.relu_max is None else np.clip(out, 0, self.relu_max, out=out)

    def _full(self, x: Array) -> Array:
        if self.size > 1:
            windows = sliding_window_view(x, (self.size, self.size), (0, 1))[:: self.stride, :: self.stride]
            x = windows.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], -1)
        out: Array = x @ self._kernel.reshape(-1, self._kernel.shape[-1])
        return out

    def _depthwise(self, x: Array) -> Array:
        """Sum shifted copies of the map, one per kernel position: each addition then runs over contiguous channels."""
        step = self.stride
        height, width = ((side - self.size) // step + 1 for side in x.shape[:2])
        out = np.zeros((height, width, x.shape[2]), np.float32)
        rows = max(1, _CACHE_BLOCK // out[0].size)
        term = np.empty_like(out[:rows])
        for top in range(0, height, rows):  # in blocks that stay in cache for all kernel positions
            part = out[top : top + rows]
            for dy in range(self.size):
                down = x[step * top + dy :][: step * len(part) : step]
                for dx in range(self.size):
                    part += np.multiply(down[:, dx : dx + step * width : step], self._kernel[dy, dx], term[: len(part)])
        return out


class Block(NamedTuple):
    """Convolutions in sequence, with a residual connection around them if `residual`."""

    convs: list[Conv]
    residual: bool

    def __call__(self, x: Array) -> Array:
        """Run the block on a feature map (height, width, channels)."""
        out = x
        for conv in self.convs:
            out = conv(out)
        return out + x if self.residual else out


class Dense(NamedTuple):
    """A linear layer, `weight` (out, in), followed by "relu", "gelu" or no activation."""

    weight: Array
    bias: Array | None = None
    activation: str = ""

    def __call__(self, x: Array) -> Array:
        """Map vectors (..., in) to (..., out)."""
        out: Array = x @ self.weight.T
        if self.bias is not None:
            out += self.bias
        return gelu(out) if self.activation == "gelu" else np.maximum(out, 0) if self.activation else out


def _head(visual: Named, projection: str, dim: int) -> Iterator[Dense]:
    """The layers from pooled features to the embedding, for each value of open_clip's `timm_proj`."""

    def dense(name: str, in_features: int, out_features: int, *, bias: bool, activation: str = "") -> Dense:
        visual.expect(f"{name}.weight", out_features, in_features)
        if bias:
            visual.expect(f"{name}.bias", out_features)
        return Dense(visual.matrix(f"{name}.weight"), visual.matrix(f"{name}.bias") if bias else None, activation)

    if projection == "mlp":
        yield dense("head.mlp.fc1", _FEATURES, 2 * dim, bias=True, activation="gelu")
        yield dense("head.mlp.fc2", 2 * dim, dim, bias=False)
    elif projection == "linear":
        yield dense("head.proj", _FEATURES, dim, bias=False)
    else:
        yield dense("trunk.classifier", _FEATURES, dim, bias=True)
