"""timm's `mobilenetv4_conv_small` in NumPy, as open_clip uses it for an image tower: embeds one image without torch.

Qin et al. 2024, "MobileNetV4: Universal Models for the Mobile Ecosystem"; the modules are those of timm's
`MobileNetV3` class (`timm/models/mobilenetv3.py`, `_efficientnet_blocks.py`). Maps are (height, width, channels), so
that a 1 x 1 convolution is one product of matrices. Batch norm is folded into the kernels that it follows.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.models.model import Model
from clipsearch.models.towers import MODEL_KEYS, Named, Tensors, normalise

_ARCHITECTURE = "mobilenetv4_conv_small"
_KEYS = frozenset(["timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "image_size"])
_EPSILON = 1e-5  # of the batch norms


def supports(model: Model) -> bool:
    """Whether this network can embed images for a model."""
    vision = model.config["vision_cfg"]
    return (
        model.weights.suffix == ".safetensors"
        and model.config.keys() <= MODEL_KEYS
        and vision.keys() <= _KEYS
        and vision.get("timm_model_name") == _ARCHITECTURE
        and vision.get("timm_pool", "avg") == "avg"
        and vision.get("timm_proj") == ""
    )


class ConvTower:
    """Pixels to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    def __init__(self, model: Model, tensors: Tensors) -> None:
        t = Named(tensors, "visual.trunk.", model.weights)
        t.expect("classifier.weight", model.dim, 1280)
        t.expect("classifier.bias", model.dim)
        self._preprocess = model.preprocess
        self.classifier = t.matrix("classifier.weight"), t.matrix("classifier.bias")
        self.head = Conv(t, "conv_head", "norm_head", 1280, 960, 1)
        self.steps: list[Conv | Inverted] = [
            Conv(t, "conv_stem", "bn1", 32, 3, 3, stride=2),
            *_plain(t, 0, 32, 32, 32),
            *_plain(t, 1, 32, 96, 64),
            Inverted(t, 2, 0, 64, 192, 96, start=5, middle=5, stride=2),
            *(Inverted(t, 2, n, 96, 192, 96, middle=3) for n in range(1, 5)),
            Inverted(t, 2, 5, 96, 384, 96, start=3),
            Inverted(t, 3, 0, 96, 576, 128, start=3, middle=3, stride=2),
            Inverted(t, 3, 1, 128, 512, 128, start=5, middle=5),
            Inverted(t, 3, 2, 128, 512, 128, middle=5),
            Inverted(t, 3, 3, 128, 384, 128, middle=5),
            *(Inverted(t, 3, n, 128, 512, 128, middle=3) for n in range(4, 6)),
            Conv(t, "blocks.4.0.conv", "blocks.4.0.bn1", 960, 128, 1),
        ]
        t.expect_no("blocks.5.0.conv.weight")

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def _one(self, pixels: Pixels) -> Array:
        x = normalise(pixels, self._preprocess)
        for step in self.steps:
            x = step(x)
        weight, bias = self.classifier
        out: Array = weight @ self.head(x.mean((0, 1), keepdims=True))[0, 0] + bias
        return out


class Conv:
    """A convolution with its batch norm and, if wanted, a ReLU; over all channels, or over each alone (depthwise).

    `kernel` (out, channels, size, size) and `bias` (out,) have the norm folded in.
    """

    def __init__(
        self, t: Named, conv: str, norm: str, out: int, channels: int, size: int, *, stride: int = 1, relu: bool = True
    ) -> None:
        self.size, self.stride, self.relu, self.depthwise = size, stride, relu, channels == 1
        t.expect(f"{conv}.weight", out, channels, size, size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            t.expect(f"{norm}.{part}", out)
        scale = t.matrix(f"{norm}.weight") / np.sqrt(t.matrix(f"{norm}.running_var") + np.float32(_EPSILON))
        self.bias = t.matrix(f"{norm}.bias") - t.matrix(f"{norm}.running_mean") * scale
        self.kernel = t.matrix(f"{conv}.weight") * scale[:, None, None, None]
        # Laid out as the maps are: (y, x, channel), and for a product of matrices (y, x and channel, out).
        self._kernel = self.kernel[:, 0].transpose(1, 2, 0) if self.depthwise else self.kernel.transpose(2, 3, 1, 0)

    def __call__(self, x: Array) -> Array:
        if self.size > 1:
            margin = self.size // 2
            x = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
        out: Array = (self._each(x) if self.depthwise else self._all(x)) + self.bias
        if self.relu:
            np.maximum(out, 0, out=out)
        return out

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
        for dy in range(self.size):
            for dx in range(self.size):
                out += x[dy : dy + step * height : step, dx : dx + step * width : step] * self._kernel[dy, dx]
        return out


def _plain(t: Named, stage: int, before: int, between: int, after: int) -> list[Conv]:
    """A stage of two convolutions; the first halves the map."""
    first, second = f"blocks.{stage}.0", f"blocks.{stage}.1"
    return [
        Conv(t, f"{first}.conv", f"{first}.bn1", between, before, 3, stride=2),
        Conv(t, f"{second}.conv", f"{second}.bn1", after, between, 1),
    ]


class Inverted:
    """A universal inverted bottleneck: channels are widened, looked at depthwise, and narrowed; the input is added.

    `start` and `middle` are the sizes of the depthwise kernels before and after the widening, 0 for none.
    """

    def __init__(
        self,
        t: Named,
        stage: int,
        block: int,
        before: int,
        wide: int,
        after: int,
        *,
        start: int = 0,
        middle: int = 0,
        stride: int = 1,
    ) -> None:
        name = f"blocks.{stage}.{block}"
        self.adds = stride == 1 and before == after

        def part(what: str, out: int, channels: int, size: int, stride: int = 1, relu: bool = True) -> Conv:
            return Conv(t, f"{name}.{what}.conv", f"{name}.{what}.bn", out, channels, size, stride=stride, relu=relu)

        self.steps = [part("pw_exp", wide, before, 1)]
        if start:
            self.steps.insert(0, part("dw_start", before, 1, start, relu=False))
        if middle:
            self.steps.append(part("dw_mid", wide, 1, middle, stride))
        self.steps.append(part("pw_proj", after, wide, 1, relu=False))

    def __call__(self, x: Array) -> Array:
        out = x
        for step in self.steps:
            out = step(out)
        return out + x if self.adds else out
