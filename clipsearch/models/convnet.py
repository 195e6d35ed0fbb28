"""EfficientNet-Lite in NumPy, as open_clip's `TimmModel` uses timm's: embeds one image without torch.

Tan and Le 2019, "EfficientNet", without squeeze-and-excitation and with ReLU6: `tf_efficientnet_lite0`, `1` and `2` of
timm (`efficientnet.py`, `_efficientnet_blocks.py`), which are sequences of blocks of convolutions. Maps are (height,
width, channels), so that a 1 x 1 convolution is one product of matrices. Batch norm is folded into the kernels that it
follows.
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


_FEATURES = 1280  # channels of the last map
_EPSILON = np.float32(1e-3)  # of the batch norms
_MOST = 6.0  # ReLU6 cuts here
_IN_CACHE = 1 << 16  # numbers: a quarter of a megabyte
_SHARE = 0.02  # of a place's difference from the mean: a step small enough for a derivative


class _Layer(NamedTuple):
    """A convolution and its batch norm: names of their tensors, channels after and before, size of the kernel.

    `before` is 1 for a depthwise convolution, which has a kernel for each channel alone.
    """

    conv: str
    norm: str
    after: int
    before: int
    size: int = 1
    stride: int = 1
    activated: bool = True


class _Block(NamedTuple):
    layers: list[_Layer]
    adds: bool = False  # the input to the output


def _efficientnet_lite(width: float, depth: float) -> list[_Block]:
    """The stages of EfficientNet-B0 (kernel, stride, widening, channels, repeats), wider and deeper.

    Lite networks keep the stem, the last convolution and the depth of the first and the last stage as they are.
    """
    stages = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)]
    stages += [(5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]
    blocks = [_Block([_Layer("conv_stem", "bn1", 32, 3, 3, 2)])]
    before = 32
    for stage, (size, stride, widening, channels, repeats) in enumerate(stages):
        after = _rounded(channels * width)
        for n in range(repeats if stage in (0, len(stages) - 1) else math.ceil(repeats * depth)):
            step = stride if n == 0 else 1
            name, wide = f"blocks.{stage}.{n}.", before * widening
            if widening == 1:
                layers = [
                    _Layer(f"{name}conv_dw", f"{name}bn1", wide, 1, size, step),
                    _Layer(f"{name}conv_pw", f"{name}bn2", after, wide, activated=False),
                ]
            else:
                layers = [
                    _Layer(f"{name}conv_pw", f"{name}bn1", wide, before),
                    _Layer(f"{name}conv_dw", f"{name}bn2", wide, 1, size, step),
                    _Layer(f"{name}conv_pwl", f"{name}bn3", after, wide, activated=False),
                ]
            blocks.append(_Block(layers, adds=step == 1 and before == after))
            before = after
    blocks.append(_Block([_Layer("conv_head", "bn2", _FEATURES, before)]))
    return blocks


def _rounded(channels: float) -> int:
    """To a multiple of eight, but not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * channels)


_NETWORKS: dict[str, Callable[[], list[_Block]]] = {
    "tf_efficientnet_lite0": functools.partial(_efficientnet_lite, 1.0, 1.0),
    "tf_efficientnet_lite1": functools.partial(_efficientnet_lite, 1.0, 1.1),
    "tf_efficientnet_lite2": functools.partial(_efficientnet_lite, 1.1, 1.2),
}


class ConvTower:
    """Pixels to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes.

    `blocks` are run on the map, one after the other, and `dense` on the mean over its places.
    """

    zoom = 2  # at which `parts` points best: the map of an input of 224 pixels has 7 x 7 places alone

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the images of a model."""
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
        self.blocks = [Block([Conv(t, layer) for layer in b.layers], b.adds) for b in network]
        projection = vision.get("timm_proj", "linear")
        self.dense = list(_head(visual, projection, model.dim))
        known = {part for block in network for layer in block.layers for part in (layer.conv, layer.norm)}
        for name in t.names():
            if name.startswith("blocks.") and name.rpartition(".")[0] not in known:
                t.expect_no(name)

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """How each place of the map moves the embedding of one preprocessed image, of any size.

        That is where the embedding goes when the mean has a little more of the place, as in Grad-CAM (Selvaraju et al.
        2017). The head of a place alone says little: it was trained on means.
        """
        x = self._map(pixels)
        mean = x.mean((0, 1))
        moved = unit_rows(self._head(mean + np.float32(_SHARE) * (x - mean))) - unit_rows(self._head(mean))
        height, width = pixels.shape[:2]
        return Parts(moved / np.float32(_SHARE), self._middles(height), self._middles(width))

    def _one(self, pixels: Pixels) -> Array:
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

    def _middles(self, side: int) -> Array:
        """The middles of what the places of the map see, as shares of a side of so many pixels.

        "SAME" pads an even side at its end more than at its start, so that they lie half a place further than one
        would think.
        """
        first, step, count = 0.5, 1, side
        for conv in (conv for block in self.blocks for conv in block.convs):
            start, end = conv.margins(count)
            first += step * ((conv.size - 1) / 2 - start)
            step *= conv.stride
            count = (count + start + end - conv.size) // conv.stride + 1
        return ((first + step * np.arange(count)) / side).astype(np.float32)


class Conv:
    """A convolution with its batch norm and, if wanted, a ReLU; over all channels, or over each alone (depthwise).

    `kernel` (after, before, size, size) and `bias` (after,) have the norm folded in. `most` is what the ReLU cuts at,
    None without one.
    """

    def __init__(self, t: Named, layer: _Layer) -> None:
        self.size, self.stride, self.depthwise = layer.size, layer.stride, layer.before == 1
        self.most = _MOST if layer.activated else None
        t.expect(f"{layer.conv}.weight", layer.after, layer.before, layer.size, layer.size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            t.expect(f"{layer.norm}.{part}", layer.after)
        variance = t.matrix(f"{layer.norm}.running_var") + _EPSILON
        scale = t.matrix(f"{layer.norm}.weight") / np.sqrt(variance)
        self.bias = t.matrix(f"{layer.norm}.bias") - t.matrix(f"{layer.norm}.running_mean") * scale
        self.kernel = t.matrix(f"{layer.conv}.weight") * scale[:, None, None, None]
        # Laid out as the maps are: (y, x, channel), and for a product of matrices (y, x and channel, after).
        self._kernel = self.kernel[:, 0].transpose(1, 2, 0) if self.depthwise else self.kernel.transpose(2, 3, 1, 0)

    def margins(self, side: int) -> tuple[int, int]:
        """How far a side of the map is padded at its start and at its end, as TensorFlow's "SAME" does it."""
        whole = max(((side - 1) // self.stride) * self.stride + self.size - side, 0)
        return whole // 2, whole - whole // 2

    def __call__(self, x: Array) -> Array:
        """The map (height, width, channels) after the convolution."""
        if self.size > 1:
            x = np.pad(x, (self.margins(x.shape[0]), self.margins(x.shape[1]), (0, 0)))
        out = self._each(x) if self.depthwise else self._all(x)
        out += self.bias
        return out if self.most is None else np.clip(out, 0, self.most, out=out)

    def _all(self, x: Array) -> Array:
        if self.size > 1:
            windows = sliding_window_view(x, (self.size, self.size), (0, 1))[:: self.stride, :: self.stride]
            x = windows.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], -1)
        out: Array = x @ self._kernel.reshape(-1, self._kernel.shape[-1])
        return out

    def _each(self, x: Array) -> Array:
        """The sum over the kernel's places of the map moved by the place: numbers of one place lie side by side."""
        step = self.stride
        height, width = ((side - self.size) // step + 1 for side in x.shape[:2])
        out = np.zeros((height, width, x.shape[2]), np.float32)
        rows = max(1, _IN_CACHE // out[0].size)
        term = np.empty_like(out[:rows])
        for top in range(0, height, rows):  # some rows at a time, which stay in a core's cache for all places
            part = out[top : top + rows]
            for dy in range(self.size):
                down = x[step * top + dy :][: step * len(part) : step]
                for dx in range(self.size):
                    part += np.multiply(down[:, dx : dx + step * width : step], self._kernel[dy, dx], term[: len(part)])
        return out


class Block(NamedTuple):
    """Convolutions, one after the other; `adds` the input to the output."""

    convs: list[Conv]
    adds: bool

    def __call__(self, x: Array) -> Array:
        """The map (height, width, channels) after the block."""
        out = x
        for conv in self.convs:
            out = conv(out)
        return out + x if self.adds else out


class Dense(NamedTuple):
    """A linear layer (after, before) and what follows it: "relu", "gelu" or nothing."""

    weight: Array
    bias: Array | None = None
    activation: str = ""

    def __call__(self, x: Array) -> Array:
        """Vectors (..., after) of vectors (..., before)."""
        out: Array = x @ self.weight.T
        if self.bias is not None:
            out += self.bias
        return gelu(out) if self.activation == "gelu" else np.maximum(out, 0) if self.activation else out


def _head(visual: Named, projection: str, dim: int) -> Iterator[Dense]:
    """From the pooled features to an embedding, in the ways that open_clip's `timm_proj` names."""

    def dense(name: str, before: int, after: int, *, bias: bool, activation: str = "") -> Dense:
        visual.expect(f"{name}.weight", after, before)
        if bias:
            visual.expect(f"{name}.bias", after)
        return Dense(visual.matrix(f"{name}.weight"), visual.matrix(f"{name}.bias") if bias else None, activation)

    if projection == "mlp":
        yield dense("head.mlp.fc1", _FEATURES, 2 * dim, bias=True, activation="gelu")
        yield dense("head.mlp.fc2", 2 * dim, dim, bias=False)
    elif projection == "linear":
        yield dense("head.proj", _FEATURES, dim, bias=False)
    else:
        yield dense("trunk.classifier", _FEATURES, dim, bias=True)
