"""The three networks of `faces` as ONNX graphs. Their weights come from `scripts/faces_weights.py`."""

from __future__ import annotations

import numpy as np

from clipsearch.arrays import Array
from clipsearch.models.onnx_graph import Graph, Session
from clipsearch.models.weights import Named

DETECTOR_SIDE, POINTS_SIDE, FACE_SIDE = 512, 112, 150  # pixels, of the inputs

_MEAN_RGB = np.array([122.782, 117.001, 104.298], np.float32)  # in the training of the last two networks
_POINTS, _DIM = 68, 128
_STAGES = "32_1 32_2 32_3 64_down 64_1 64_2 64_3 128_down 128_1 128_2 256_down 256_1 256_2 256_down_out"
_FIRST_STAGE_SIDE = 35  # of its feature maps


class _Layers:
    """Adds layers of one network to a graph."""

    def __init__(self, t: Named, side: int) -> None:
        self.graph, self._t = Graph(side, side), t

    def input(self, mean: Array, scale: float) -> str:
        graph = self.graph
        x = graph.op("Div", graph.op("Sub", graph.cast(graph.input, np.float32), mean), np.array(scale, np.float32))
        return graph.transpose(x, 0, 3, 1, 2)

    def conv(self, x: str, name: str, stride: int = 1, *, pad: str = "SAME_UPPER") -> str:
        """A convolution; it is depthwise if its kernel has one input channel."""
        kernel, bias = self._layer(name)
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        return self.graph.op("Conv", x, kernel, bias, auto_pad=pad, strides=(stride, stride), group=groups)

    def separable(self, x: str, name: str, number: int, stride: int = 1) -> str:
        return self.conv(self.conv(x, f"{name}.depthwise{number}", stride), f"{name}.conv{number}")

    def relu(self, x: str) -> str:
        return self.graph.op("Relu", x)

    def relu6(self, x: str) -> str:
        return self.graph.op("Clip", x, np.array(0, np.float32), np.array(6, np.float32))

    def session(self, x: str, dim: int) -> Session:
        """The mean of feature maps over their places, and the layer `fc`."""
        pooled = self.graph.op("ReduceMean", x, np.array([2, 3], np.int64), keepdims=0)
        kernel, bias = self._layer("fc")
        return Session(self.graph.message(self.graph.op("Gemm", pooled, kernel, bias, transB=1), dim))

    def _layer(self, name: str) -> tuple[Array, Array]:
        """The kernel of a layer, stored with a scale and an offset per output channel, and its bias."""
        stored = self._t[f"{name}.weight"].astype(np.float32)
        shape = (-1, *[1] * (stored.ndim - 1))
        scale, offset = (self._t.matrix(f"{name}.{part}").reshape(shape) for part in ("scale", "offset"))
        return stored * scale + offset, self._t.matrix(f"{name}.bias")


def detector(t: Named) -> Session:
    """SSD with MobileNet v1: for each anchor the logit of its score, and the y, x, height and width of its box."""
    net = _Layers(t, DETECTOR_SIDE)
    x = net.relu6(net.conv(net.input(np.array(127.5, np.float32), 127.5), "conv0", 2))
    outputs = []
    for n in range(1, 14):
        x = net.relu6(net.conv(x, f"depthwise{n}", 2 if n in (2, 4, 6, 12) else 1))
        x = net.relu6(net.conv(x, f"conv{n}"))
        if n in (11, 13):
            outputs.append(x)
    for n in range(8):
        x = net.relu6(net.conv(x, f"extra{n}", 1 + n % 2))
        if n % 2:
            outputs.append(x)
    heads = [net.conv(x, f"head{n}") for n, x in enumerate(outputs)]
    flat = [net.graph.op("Flatten", net.graph.transpose(head, 0, 2, 3, 1)) for head in heads]
    output = net.graph.op("Concat", *flat, axis=1)
    return Session(net.graph.message(output, 5 * len(t["anchors"])))


def point_finder(t: Named) -> Session:
    """The x and y of 68 points in the crop of a face, as fractions of its side."""
    net = _Layers(t, POINTS_SIDE)
    x = net.input(_MEAN_RGB, 255.0)
    for block in range(4):
        name = f"block{block}"
        total = net.relu(net.separable(x, name, 0, 2) if block else net.conv(x, "block0.conv0", 2))
        x = total
        for n in range(1, 4):
            total = net.graph.op("Add", total, net.separable(x, name, n))
            x = net.relu(total)
    return net.session(x, 2 * _POINTS)


def recogniser(t: Named) -> Session:
    """The ResNet of dlib: 128 numbers for an aligned face."""
    net = _Layers(t, FACE_SIDE)
    graph, side = net.graph, _FIRST_STAGE_SIDE
    x = net.relu(net.conv(net.input(_MEAN_RGB, 256.0), "stage32_down", 2, pad="VALID"))
    x = graph.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2))
    for stage in _STAGES.split():
        name, down = f"stage{stage}", "down" in stage
        out = net.conv(x, f"{name}.conv1", 2, pad="VALID") if down else net.conv(x, f"{name}.conv1")
        out = net.conv(net.relu(out), f"{name}.conv2")
        if down:  # dlib adds maps of different sizes as if the smaller ones had zeros at their ends
            after, before = t[f"{name}.conv1.weight"].shape[:2]
            x = graph.op("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2))
            x = graph.op("Pad", x, np.array([0, 0, 0, 0, 0, after - before, 0, 0], np.int64))
            missing = side // 2 - (side - 1) // 2
            out = graph.op("Pad", out, np.array([0, 0, 0, 0, 0, 0, missing, missing], np.int64))
            side //= 2
        x = net.relu(graph.op("Add", out, x))
    return net.session(x, _DIM)
