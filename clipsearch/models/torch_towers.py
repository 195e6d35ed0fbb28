"""The image towers of `clip`, `siglip` and `convnet` in torch: same embeddings, in batches, on any device.

The weights come straight from the NumPy towers' memory-mapped file. Going through open_clip would first import
torchvision and timm and randomly initialise a second copy of the model: 3 s and 1 GB before the first image.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the conventional name

from clipsearch.models.clip import ImageTower
from clipsearch.models.convnet import Block, Conv, ConvTower, Dense
from clipsearch.models.siglip import SiglipImageTower
from clipsearch.models.transformer import Shape
from clipsearch.models.weights import Named

Layer = Callable[[Tensor], Tensor]

# Outside the linear layers of a transformer, int8 means fp32.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


def batch_tower(tower: ImageTower | SiglipImageTower | ConvTower, device: str, precision: str) -> Layer:
    """A torch version of a NumPy tower: normalised images (n, 3, height, width) to embeddings (n, dim) on `device`.

    Matrix products and convolutions run in `precision`; a transformer's residuals and norms stay in fp32. int8 applies
    only to the linear layers of a transformer. The embeddings are not normalised.
    """
    load = _Loader(device, precision)
    if isinstance(tower, ConvTower):
        return _ConvNet(tower, load)
    return _ClipViT(tower, load) if isinstance(tower, ImageTower) else _SiglipViT(tower, load)


class _Loader:
    """Copies NumPy arrays to a device, in a precision."""

    def __init__(self, device: str, precision: str) -> None:
        self.device, self.dtype, self._is_int8 = device, DTYPES[precision], precision == "int8"

    def __call__(self, array: Any, dtype: torch.dtype | None = None) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self.device, dtype or self.dtype)

    def linear(self, weight: Any, bias: Any) -> Layer:
        """A linear layer with `weight` (out, in)."""
        w, b = self(weight), self(bias)
        return _int8_linear(w, b) if self._is_int8 else lambda x: F.linear(x.to(self.dtype), w, b)


def _int8_linear(weight: Tensor, bias: Tensor) -> Layer:
    """A linear layer with int8 products and int32 sums: one scale per output of the weights and per row of x."""
    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    kernel = (weight / scale[:, None]).round().to(torch.int8).T

    def linear(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        step = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        product = torch._int_mm((rows / step).round_().to(torch.int8), kernel)
        return product.float().mul_(scale).mul_(step).add_(bias).view(*x.shape[:-1], -1)

    return linear


def seconds_of_a_product(precision: str, rows: int = 64, width: int = 768) -> float:
    """Time one matrix product of the size found in a vision transformer, in seconds; the best of three runs."""
    linear = _Loader("cpu", precision).linear(np.ones((width, width), np.float32), np.zeros(width, np.float32))
    x, seconds = torch.ones(rows, width), []
    for _ in range(3):
        began = time.perf_counter()
        linear(x)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class _ClipViT:
    def __init__(self, tower: ImageTower, load: _Loader) -> None:
        t, self._dtype, self._patch = tower.tensors, load.dtype, tower.patch
        self._kernel = load(t["conv1.weight"])
        self._class = load(t["class_embedding"], torch.float32)
        self._positions = load(t["positional_embedding"], torch.float32)
        self._before, self._after = _Norm(t, "ln_pre", load), _Norm(t, "ln_post", load)
        self._blocks = _Blocks(t, tower.shape, load)
        self._projection = load(t["proj"], torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        patches = F.conv2d(images.to(self._dtype), self._kernel, stride=self._patch).flatten(2).transpose(1, 2)
        x = torch.cat([self._class.expand(len(images), 1, -1), patches.float()], 1) + self._positions
        token = self._blocks(self._before(x), only_first=True)[:, 0]
        return self._after(token) @ self._projection


class _SiglipViT:
    def __init__(self, tower: SiglipImageTower, load: _Loader) -> None:
        t, self._dtype, self._patch = tower.tensors, load.dtype, tower.patch
        self._kernel = load(t["patch_embed.proj.weight"])
        self._positions = load(t["pos_embed"] + t["patch_embed.proj.bias"], torch.float32)
        self._blocks = _Blocks(t, tower.shape, load)
        self._after = _Norm(t, "norm", load, tower.shape.epsilon)
        self._pool = _Pool(t.below("attn_pool."), tower.shape, load)

    def __call__(self, images: Tensor) -> Tensor:
        patches = F.conv2d(images.to(self._dtype), self._kernel, stride=self._patch).flatten(2).transpose(1, 2)
        return self._pool(self._after(self._blocks(patches.float() + self._positions)))


class _Blocks:
    """Pre-norm residual attention blocks over sequences (n, length, width)."""

    def __init__(self, t: Named, shape: Shape, load: _Loader) -> None:
        self._heads, self._activation = shape.heads, _ACTIVATIONS[shape.activation]
        names, epsilon = shape.names, shape.epsilon
        self._blocks = [
            (
                _Norm(b, names.norm_1, load, epsilon),
                load.linear(b[names.qkv_weight], b[names.qkv_bias]),
                _linear(b, names.out, load),
                _Norm(b, names.norm_2, load, epsilon),
                _linear(b, names.mlp_in, load),
                _linear(b, names.mlp_out, load),
            )
            for b in (t.below(f"{names.blocks}.{n}.") for n in range(shape.layers))
        ]

    def __call__(self, x: Tensor, only_first: bool = False) -> Tensor:
        n, _, width = x.shape
        for number, (norm_1, qkv, out, norm_2, mlp_in, mlp_out) in enumerate(self._blocks, 1):
            packed = qkv(norm_1(x)).view(n, -1, 3, self._heads, width // self._heads)
            q, k, v = packed.permute(2, 0, 3, 1, 4)
            if only_first and number == len(self._blocks):  # only the first token is read
                q, x = q[:, :, :1], x[:, :1]
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            x = x + out(attended)
            x = x + mlp_out(self._activation(mlp_in(norm_2(x))))
        return x


class _Pool:
    """Attention pooling: one learned query over the tokens of an image, then a residual MLP."""

    def __init__(self, t: Named, shape: Shape, load: _Loader) -> None:
        self._heads, self._activation = shape.heads, _ACTIVATIONS[shape.activation]
        self._query = _linear(t, "q", load)(load(t["latent"])[0])  # the same for every image
        self._kv, self._out = _linear(t, "kv", load), _linear(t, "proj", load)
        self._norm = _Norm(t, "norm", load, shape.epsilon)
        self._mlp_in, self._mlp_out = _linear(t, "mlp.fc1", load), _linear(t, "mlp.fc2", load)

    def __call__(self, x: Tensor) -> Tensor:
        n, width = len(x), x.shape[-1]
        k, v = self._kv(x).view(n, -1, 2, self._heads, width // self._heads).unbind(2)
        q = self._query.expand(n, 1, width).view(n, 1, self._heads, -1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        x = self._out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, width)).float()
        return x + self._mlp_out(self._activation(self._mlp_in(self._norm(x))))


class _Norm:
    """Layer norm in fp32, whatever the precision of the products."""

    def __init__(self, t: Named, name: str, load: _Loader, epsilon: float = 1e-5) -> None:
        self._weight, self._bias = load(t[f"{name}.weight"], torch.float32), load(t[f"{name}.bias"], torch.float32)
        self._epsilon = epsilon

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._epsilon)


def _linear(t: Named, name: str, load: _Loader) -> Layer:
    return load.linear(t[f"{name}.weight"], t[f"{name}.bias"])


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Layer] = {
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
}


# The stem and the first stage stay in fp32. They are a small share of the work, and the worst cosine between bf16 and
# fp32 improves from 0.9934 to 0.9992 (48 photos, EfficientNet-Lite2).
_FP32_BLOCKS = 2

# Images per forward pass on a CPU, so that feature maps stay in cache: 88 images/s in fp32 and 162 in bf16, against
# 57 and 112 with 32 images (EfficientNet-Lite2, two threads with a batch each).
_CPU_BATCH = 4


class _ConvNet:
    def __init__(self, tower: ConvTower, load: _Loader) -> None:
        self._dtype = load.dtype
        load_fp32 = _Loader(load.device, "fp32")
        self._first = [self._block(block, load_fp32) for block in tower.blocks[:_FP32_BLOCKS]]
        self._blocks = [self._block(block, load) for block in tower.blocks[_FP32_BLOCKS:]]
        self._dense = [self._layer(dense, load) for dense in tower.dense]

    def _block(self, block: Block, load: _Loader) -> Layer:
        convs = [self._conv(conv, load) for conv in block.convs]
        return lambda x: _sequential(convs, x) + x if block.residual else _sequential(convs, x)

    def _conv(self, conv: Conv, load: _Loader) -> Layer:
        weight, bias = load(conv.kernel).contiguous(memory_format=torch.channels_last), load(conv.bias)
        groups = len(weight) if conv.depthwise else 1

        def convolve(x: Tensor) -> Tensor:
            (top, bottom), (left, right) = conv.padding(x.shape[2]), conv.padding(x.shape[3])
            if (top, left) == (bottom, right):
                out = F.conv2d(x, weight, bias, conv.stride, (top, left), 1, groups)
            else:
                out = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, conv.stride, 0, 1, groups)
            return out if conv.relu_max is None else out.clamp_(0, conv.relu_max)

        return convolve

    def _layer(self, dense: Dense, load: _Loader) -> Layer:
        weight = load(dense.weight, torch.float32)
        bias = None if dense.bias is None else load(dense.bias, torch.float32)

        def linear(x: Tensor) -> Tensor:
            out = F.linear(x, weight, bias)
            return F.gelu(out) if dense.activation == "gelu" else F.relu(out) if dense.activation else out

        return linear

    def __call__(self, images: Tensor) -> Tensor:
        size = _CPU_BATCH if images.device.type == "cpu" else len(images)
        return torch.cat([self._forward(images[start : start + size]) for start in range(0, len(images), size)])

    def _forward(self, images: Tensor) -> Tensor:
        x = _sequential(self._first, images.contiguous(memory_format=torch.channels_last)).to(self._dtype)
        return _sequential(self._dense, _sequential(self._blocks, x).float().mean((2, 3)))


def _sequential(layers: list[Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
