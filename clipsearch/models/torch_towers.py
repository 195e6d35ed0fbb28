"""The image towers of `clip`, `siglip` and `convnet` in torch: the same embeddings, for batches, on any device.

They take the weights where those towers have mapped them. open_clip would import torchvision and timm first and fill a
model of its own with random numbers, which together takes three seconds and a gigabyte before the first image.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as all the world has it

from clipsearch.models.clip import ImageTower
from clipsearch.models.convnet import Block, Conv, ConvTower, Dense
from clipsearch.models.siglip import SiglipImageTower
from clipsearch.models.transformer import Shape
from clipsearch.models.weights import Named

Tower = Callable[[Tensor], Tensor]  # normalised images (n, 3, height, width) to rows (n, dim)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


def batch_tower(tower: ImageTower | SiglipImageTower | ConvTower, device: str, precision: str) -> Tower:
    """The tower for batches on a device: its products of matrices in a precision, sums and norms in fp32.

    int8 holds for the linear layers of a transformer; all else is fp32 then.
    """
    move = _Mover(device, precision)
    if isinstance(tower, ConvTower):
        return _Network(tower, move)
    return _Clip(tower, move) if isinstance(tower, ImageTower) else _Siglip(tower, move)


class _Mover:
    """NumPy's arrays to the device."""

    def __init__(self, device: str, precision: str) -> None:
        self.device, self.dtype, self._in_int8 = device, DTYPES[precision], precision == "int8"

    def __call__(self, array: Any, dtype: torch.dtype | None = None) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self.device, dtype or self.dtype)

    def linear(self, weight: Any, bias: Any) -> Tower:
        """A linear layer (after, before), computed in the precision."""
        w, b = self(weight), self(bias)
        return _in_int8(w, b) if self._in_int8 else lambda x: F.linear(x.to(self.dtype), w, b)


def _in_int8(weight: Tensor, bias: Tensor) -> Tower:
    """Products of 8-bit numbers, summed in 32 bits. Each output of the weights has a scale, and each row of x."""
    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    kernel = (weight / scale[:, None]).round().to(torch.int8).T

    def linear(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        step = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        product = torch._int_mm((rows / step).round_().to(torch.int8), kernel)
        return product.float().mul_(scale).mul_(step).add_(bias).view(*x.shape[:-1], -1)

    return linear


def seconds_of_a_product(precision: str, rows: int = 64, width: int = 768) -> float:
    """How long one core takes for one product of a vision transformer's size in a precision, at best."""
    linear = _Mover("cpu", precision).linear(np.ones((width, width), np.float32), np.zeros(width, np.float32))
    x, seconds = torch.ones(rows, width), []
    for _ in range(3):
        began = time.perf_counter()
        linear(x)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class _Clip:
    """CLIP's vision transformer."""

    def __init__(self, tower: ImageTower, move: _Mover) -> None:
        t, self._dtype, self._patch = tower.tensors, move.dtype, tower.patch
        self._kernel = move(t["conv1.weight"])
        self._class = move(t["class_embedding"], torch.float32)
        self._positions = move(t["positional_embedding"], torch.float32)
        self._before, self._after = _Norm(t, "ln_pre", move), _Norm(t, "ln_post", move)
        self._blocks = _Blocks(t, tower.shape, move)
        self._projection = move(t["proj"], torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        patches = F.conv2d(images.to(self._dtype), self._kernel, stride=self._patch).flatten(2).transpose(1, 2)
        x = torch.cat([self._class.expand(len(images), 1, -1), patches.float()], 1) + self._positions
        token = self._blocks(self._before(x), only_first=True)[:, 0]
        return self._after(token) @ self._projection


class _Siglip:
    """SigLIP's vision transformer."""

    def __init__(self, tower: SiglipImageTower, move: _Mover) -> None:
        t, self._dtype, self._patch = tower.tensors, move.dtype, tower.patch
        self._kernel = move(t["patch_embed.proj.weight"])
        self._positions = move(t["pos_embed"] + t["patch_embed.proj.bias"], torch.float32)
        self._blocks = _Blocks(t, tower.shape, move)
        self._after = _Norm(t, "norm", move, tower.shape.epsilon)
        self._pool = _Pool(t.below("attn_pool."), tower.shape, move)

    def __call__(self, images: Tensor) -> Tensor:
        patches = F.conv2d(images.to(self._dtype), self._kernel, stride=self._patch).flatten(2).transpose(1, 2)
        return self._pool(self._after(self._blocks(patches.float() + self._positions)))


class _Blocks:
    """Pre-norm residual attention blocks over sequences (n, length, width)."""

    def __init__(self, t: Named, shape: Shape, move: _Mover) -> None:
        self._heads, self._activation = shape.heads, _ACTIVATIONS[shape.activation]
        names, epsilon = shape.names, shape.epsilon
        self._blocks = [
            (
                _Norm(b, names.norm_1, move, epsilon),
                move.linear(b[names.qkv_weight], b[names.qkv_bias]),
                _linear(b, names.out, move),
                _Norm(b, names.norm_2, move, epsilon),
                _linear(b, names.wide, move),
                _linear(b, names.narrow, move),
            )
            for b in (t.below(f"{names.blocks}.{n}.") for n in range(shape.layers))
        ]

    def __call__(self, x: Tensor, only_first: bool = False) -> Tensor:
        n, _, width = x.shape
        for number, (norm_1, qkv, out, norm_2, wide, narrow) in enumerate(self._blocks, 1):
            packed = qkv(norm_1(x)).view(n, -1, 3, self._heads, width // self._heads)
            q, k, v = packed.permute(2, 0, 3, 1, 4)
            if only_first and number == len(self._blocks):  # the last block need not compute what is not read
                q, x = q[:, :, :1], x[:, :1]
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            x = x + out(attended)
            x = x + narrow(self._activation(wide(norm_2(x))))
        return x


class _Pool:
    """What one learnt query finds in the rows of an image."""

    def __init__(self, t: Named, shape: Shape, move: _Mover) -> None:
        self._heads, self._activation = shape.heads, _ACTIVATIONS[shape.activation]
        self._query = _linear(t, "q", move)(move(t["latent"])[0])  # the same for all images
        self._kv, self._out = _linear(t, "kv", move), _linear(t, "proj", move)
        self._norm = _Norm(t, "norm", move, shape.epsilon)
        self._wide, self._narrow = _linear(t, "mlp.fc1", move), _linear(t, "mlp.fc2", move)

    def __call__(self, x: Tensor) -> Tensor:
        n, width = len(x), x.shape[-1]
        k, v = self._kv(x).view(n, -1, 2, self._heads, width // self._heads).unbind(2)
        q = self._query.expand(n, 1, width).view(n, 1, self._heads, -1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        x = self._out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, width)).float()
        return x + self._narrow(self._activation(self._wide(self._norm(x))))


class _Norm:
    """Layer norm, in fp32."""

    def __init__(self, t: Named, name: str, move: _Mover, epsilon: float = 1e-5) -> None:
        self._weight, self._bias = move(t[f"{name}.weight"], torch.float32), move(t[f"{name}.bias"], torch.float32)
        self._epsilon = epsilon

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._epsilon)


def _linear(t: Named, name: str, move: _Mover) -> Tower:
    return move.linear(t[f"{name}.weight"], t[f"{name}.bias"])


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Tower] = {
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
}


# Blocks of a network that stay in fp32: the stem and the first stage, a small part of the products. Of 48 photos the
# least cosine of bf16 to fp32 is 0.9934 without, and 0.9992 with this (EfficientNet-Lite2).
_EXACT = 2

# Images of a network at once on a CPU, whose maps then stay in its caches: 88 images/s in fp32 and 162 in bf16, against
# 57 and 112 with all of a batch of 32 (EfficientNet-Lite2, two threads with a batch each).
_AT_ONCE = 4


class _Network:
    """A convolutional network."""

    def __init__(self, tower: ConvTower, move: _Mover) -> None:
        self._dtype = move.dtype
        exact = _Mover(move.device, "fp32")
        self._first = [self._block(block, exact) for block in tower.blocks[:_EXACT]]
        self._blocks = [self._block(block, move) for block in tower.blocks[_EXACT:]]
        self._dense = [self._layer(dense, move) for dense in tower.dense]

    def _block(self, block: Block, move: _Mover) -> Tower:
        convs = [self._conv(conv, move) for conv in block.convs]
        return lambda x: _through(convs, x) + x if block.adds else _through(convs, x)

    def _conv(self, conv: Conv, move: _Mover) -> Tower:
        weight, bias = move(conv.kernel).contiguous(memory_format=torch.channels_last), move(conv.bias)
        groups = len(weight) if conv.depthwise else 1

        def convolve(x: Tensor) -> Tensor:
            (top, bottom), (left, right) = conv.margins(x.shape[2]), conv.margins(x.shape[3])
            if (top, left) == (bottom, right):
                out = F.conv2d(x, weight, bias, conv.stride, (top, left), 1, groups)
            else:
                out = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, conv.stride, 0, 1, groups)
            return out if conv.most is None else out.clamp_(0, conv.most)

        return convolve

    def _layer(self, dense: Dense, move: _Mover) -> Tower:
        weight = move(dense.weight, torch.float32)
        bias = None if dense.bias is None else move(dense.bias, torch.float32)

        def linear(x: Tensor) -> Tensor:
            out = F.linear(x, weight, bias)
            return F.gelu(out) if dense.activation == "gelu" else F.relu(out) if dense.activation else out

        return linear

    def __call__(self, images: Tensor) -> Tensor:
        size = _AT_ONCE if images.device.type == "cpu" else len(images)
        return torch.cat([self._some(images[start : start + size]) for start in range(0, len(images), size)])

    def _some(self, images: Tensor) -> Tensor:
        x = _through(self._first, images.contiguous(memory_format=torch.channels_last)).to(self._dtype)
        return _through(self._dense, _through(self._blocks, x).float().mean((2, 3)))


def _through(steps: list[Tower], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x
