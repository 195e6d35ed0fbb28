"""Make the weights of the face model, clipsearch/faces/faces.safetensors, from the npm package that has them.

    curl -O https://registry.npmjs.org/@vladmandic/face-api/-/face-api-1.7.15.tgz
    scripts/faces_weights.py face-api-1.7.15.tgz clipsearch/faces/faces.safetensors

Most of the weights are in 8 bits there, which are kept as they are; of those in 32 bits, 16 are kept. Batch norms and
scales are folded into a scale and an offset per output channel, exactly: a weight is scale * byte + offset. Kernels
become (out, in, height, width).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

_EPSILON = 0.0010000000474974513  # of the detector's batch norms


class Tensor(NamedTuple):
    """A tensor in 8 bits: its values are scale * bytes + low."""

    bytes: np.ndarray
    scale: float
    low: float

    @property
    def values(self) -> np.ndarray:
        return np.float32(self.scale) * self.bytes.astype(np.float32) + np.float32(self.low)


class Weights:
    """One network of the package, by the names of its tensors, and its layers under new names."""

    def __init__(self, package: tarfile.TarFile, network: str, prefix: str) -> None:
        self.found: dict[str, Any] = {}
        manifest = json.load(_member(package, f"{network}-weights_manifest.json"))
        data = _member(package, f"{network}.bin").read()
        start = 0
        for entry in (entry for group in manifest for entry in group["weights"]):
            shape, stored = entry["shape"], entry.get("quantization")
            kind = np.dtype(stored["dtype"] if stored else entry["dtype"])
            array = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
            self.found[entry["name"]] = Tensor(array, stored["scale"], stored["min"]) if stored else array
            start += array.nbytes
        self.prefix, self.layers = prefix, dict[str, np.ndarray]()

    def __getitem__(self, name: str) -> np.ndarray:
        found = self.found[name]
        return found.values if isinstance(found, Tensor) else found

    def add(
        self,
        name: str,
        kernel: str,
        bias: np.ndarray | None = None,
        gain: np.ndarray | None = None,
        *,
        depthwise: bool = False,
    ) -> None:
        """Add a layer whose kernel is multiplied by a `gain` per output channel."""
        stored = self.found[kernel]
        if not isinstance(stored, Tensor):  # 8 of the recogniser's kernels are not in 8 bits
            stored = Tensor(stored.astype(np.float16), 1.0, 0.0)
        axes = {2: (1, 0), 4: (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)}[stored.bytes.ndim]
        rows = np.ascontiguousarray(stored.bytes.transpose(axes))
        gain = np.ones(len(rows), np.float32) if gain is None else gain
        bias = np.zeros(len(rows), np.float32) if bias is None else bias
        self._put(name, rows, stored.scale * gain, stored.low * gain, bias)

    def _put(self, name: str, rows: np.ndarray, scale: np.ndarray, offset: np.ndarray, bias: np.ndarray) -> None:
        parts = {"weight": rows, "scale": scale, "offset": offset, "bias": bias}
        for part, array in parts.items():
            self.layers[f"{self.prefix}.{name}.{part}"] = array if part == "weight" else array.astype(np.float32)

    def add_head(self, number: int) -> None:
        """Add one layer for the boxes of each anchor and its score: (score, y, x, height, width) * anchors."""
        boxes, classes = (f"Prediction/BoxPredictor_{number}/{kind}Predictor" for kind in ("BoxEncoding", "Class"))
        box, score = self.found[f"{boxes}/weights"], self.found[f"{classes}/weights"]
        anchors = box.bytes.shape[-1] // 4
        # Of three classes, the second is the face.
        per_anchor = [score.bytes[0, 0].reshape(-1, anchors, 3)[:, :, 1:2], box.bytes[0, 0].reshape(-1, anchors, 4)]
        rows = np.concatenate(per_anchor, 2).transpose(1, 2, 0).reshape(5 * anchors, -1, 1, 1)
        biases = [self[f"{classes}/biases"].reshape(anchors, 3)[:, 1:2], self[f"{boxes}/biases"].reshape(anchors, 4)]
        scale = np.tile([score.scale, *[box.scale] * 4], anchors)
        offset = np.tile([score.low, *[box.low] * 4], anchors)
        self._put(f"head{number}", np.ascontiguousarray(rows), scale, offset, np.concatenate(biases, 1).ravel())


def detector(package: tarfile.TarFile) -> dict[str, np.ndarray]:
    """SSD with MobileNet v1."""
    w = Weights(package, "ssd_mobilenetv1_model", "detector")

    def pointwise(name: str, kernel: str) -> None:
        w.add(name, f"{kernel}/weights", w[f"{kernel}/convolution_bn_offset"])

    pointwise("conv0", "MobilenetV1/Conv2d_0_pointwise")
    for n in range(1, 14):
        norm = f"MobilenetV1/Conv2d_{n}_depthwise/BatchNorm/"
        gain = w[f"{norm}gamma"] / np.sqrt(w[f"{norm}moving_variance"] + np.float32(_EPSILON))
        bias = w[f"{norm}beta"] - w[f"{norm}moving_mean"] * gain
        w.add(f"depthwise{n}", f"MobilenetV1/Conv2d_{n}_depthwise/depthwise_weights", bias, gain, depthwise=True)
        pointwise(f"conv{n}", f"MobilenetV1/Conv2d_{n}_pointwise")
    for n in range(8):
        pointwise(f"extra{n}", f"Prediction/Conv2d_{n}_pointwise")
    for n in range(6):
        w.add_head(n)
    return w.layers | {"detector.anchors": w["Output/extra_dim"][0].copy()}


def landmarks(package: tarfile.TarFile) -> dict[str, np.ndarray]:
    """The network of 68 points."""
    w = Weights(package, "face_landmark_68_model", "landmarks")
    for block in range(4):
        for n in range(4):
            name = f"dense{block}/conv{n}"
            if (block, n) == (0, 0):
                w.add("block0.conv0", f"{name}/filters", w[f"{name}/bias"])
                continue
            w.add(f"block{block}.depthwise{n}", f"{name}/depthwise_filter", depthwise=True)
            w.add(f"block{block}.conv{n}", f"{name}/pointwise_filter", w[f"{name}/bias"])
    w.add("fc", "fc/weights", w["fc/bias"])
    return w.layers


def recogniser(package: tarfile.TarFile) -> dict[str, np.ndarray]:
    """dlib's ResNet."""
    w = Weights(package, "face_recognition_model", "recogniser")
    for kernel in [name for name in w.found if name.endswith("/conv/filters")]:
        layer = kernel.removesuffix("/conv/filters")
        gain = w[f"{layer}/scale/weights"]
        bias = w[f"{layer}/conv/bias"] * gain + w[f"{layer}/scale/biases"]
        w.add(layer.replace("conv", "stage", 1).replace("/", "."), kernel, bias, gain)
    w.add("fc", "fc")
    return w.layers


def _member(package: tarfile.TarFile, name: str) -> io.BytesIO:
    file = package.extractfile(f"package/model/{name}")
    assert file is not None
    return io.BytesIO(file.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="face-api-1.7.15.tgz")
    parser.add_argument("output", type=Path, help="the safetensors file to write")
    options = parser.parse_args()
    with tarfile.open(options.package) as package:
        tensors = detector(package) | landmarks(package) | recogniser(package)
    save_file(tensors, options.output, {"source": options.package.name, "license": "MIT"})
    print(f"{options.output}: {len(tensors)} tensors, {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
