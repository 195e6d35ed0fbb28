"""CLIP's two towers in NumPy over mapped weights: embeds one query without importing torch.

The architectures are those of OpenCLIP's `CLIP` and `CustomTextCLIP` (`open_clip/model.py`, `transformer.py`) with
standard transformers. Text is cut at the end-of-text token: under the causal mask what follows cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.models.layers import attention, by_length, gelu, layer_norm, linear, normalise, product, quick_gelu
from clipsearch.models.model import Model
from clipsearch.models.tokenizer import tokenize
from clipsearch.models.weights import Named, Tensors

# What a configuration may say for these towers to compute the same as open_clip; any other word means another network.
_TEXT_KEYS = frozenset(["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"])
_VISION_KEYS = frozenset(["image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"])


class TextTower:
    """Texts to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the texts of a model."""
        return model.is_plain and model.reads_clip_tokens and model.config["text_cfg"].keys() <= _TEXT_KEYS

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["text_cfg"]
        prefix = "text." if "text.token_embedding.weight" in tensors else ""
        self._context_length = model.context_length
        self._tensors = Named(tensors, prefix, model.weights)
        self._blocks = _Transformer(
            self._tensors.below("transformer."), config.get("layers", 12), config.get("heads", 8), _activation(model)
        )
        self._tensors.expect("positional_embedding", self._context_length, config.get("width", 512))
        self._tensors.expect("text_projection", config.get("width", 512), model.dim)

    def __call__(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) of n texts."""
        ids = tokenize(texts, self._context_length)
        # open_clip reads the first end of text: one may be written in the text.
        return unit_rows(by_length([row[: row.index(max(row)) + 1] for row in ids], self._some))

    def _some(self, ids: NDArray[np.int64]) -> Array:
        """Rows (n, dim) of texts of one length, (n, length)."""
        t, length = self._tensors, ids.shape[1]
        x = t.rows("token_embedding.weight", ids) + t.rows("positional_embedding", slice(length))
        mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        token = self._blocks(x, length - 1, mask)  # under the mask the last has seen all others
        projected: Array = layer_norm(token, t, "ln_final") @ t.matrix("text_projection")
        return projected


class ImageTower:
    """Pixels to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the images of a model."""
        vision = model.config["vision_cfg"]
        return model.is_plain and vision.keys() <= _VISION_KEYS and isinstance(vision.get("layers", 12), int)

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["vision_cfg"]
        self.tensors = Named(tensors, "visual.", model.weights)
        self.quick_gelu = bool(model.config.get("quick_gelu"))
        self.layers, self.patch = config.get("layers", 12), config.get("patch_size", 16)
        width = config.get("width", 768)
        self.heads = width // config.get("head_width", 64)
        self._preprocess = model.preprocess
        blocks = self.tensors.below("transformer.")
        self._blocks = _Transformer(blocks, self.layers, self.heads, _activation(model))
        rows, columns = (side // self.patch for side in model.preprocess.size)
        self.tensors.expect("positional_embedding", rows * columns + 1, width)
        self.tensors.expect("conv1.weight", width, 3, self.patch, self.patch)
        self.tensors.expect("proj", width, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def _one(self, pixels: Pixels) -> Array:
        t, p = self.tensors, self.patch
        image = normalise(pixels, self._preprocess)
        rows, columns = image.shape[0] // p, image.shape[1] // p
        # A convolution whose stride is its size is a product of patches, laid out (channel, y, x), with a matrix.
        patches = image[: rows * p, : columns * p].reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3)
        kernel = t.matrix("conv1.weight").reshape(len(t["conv1.weight"]), -1)
        tokens = np.concatenate([t.matrix("class_embedding")[None], patches.reshape(rows * columns, -1) @ kernel.T])
        x = tokens + t.matrix("positional_embedding")
        token = self._blocks(layer_norm(x, t, "ln_pre")[None], 0)
        projected: Array = (layer_norm(token, t, "ln_post") @ t.matrix("proj"))[0]
        return projected


class _Transformer:
    """Pre-norm residual attention blocks over sequences (n, length, width)."""

    def __init__(self, tensors: Named, layers: int, heads: int, activation: Callable[[Array], Array]) -> None:
        self._tensors, self._layers, self._heads, self._activation = tensors, layers, heads, activation
        _ = tensors[f"resblocks.{layers - 1}.ln_1.weight"]
        tensors.expect_no(f"resblocks.{layers}.ln_1.weight")

    def __call__(self, x: Array, read: int, mask: Array | None = None) -> Array:
        """One position's rows (n, width) of the output: the last block need not compute the others."""
        for n in range(self._layers):
            t = self._tensors.below(f"resblocks.{n}.")
            rows = slice(None) if n < self._layers - 1 else slice(read, read + 1)
            x = x[:, rows] + self._attend(layer_norm(x, t, "ln_1"), t, mask, rows)
            hidden = self._activation(linear(layer_norm(x, t, "ln_2"), t, "mlp.c_fc"))
            x = x + linear(hidden, t, "mlp.c_proj")
        return x[:, 0]

    def _attend(self, x: Array, t: Named, mask: Array | None, rows: slice) -> Array:
        packed = product(x, t.matrix("attn.in_proj_weight")) + t.matrix("attn.in_proj_bias")
        q, k, v = np.split(packed, 3, -1)
        attended = attention(q[:, rows], k, v, self._heads, None if mask is None else mask[rows])
        return linear(attended, t, "attn.out_proj")


def _activation(model: Model) -> Callable[[Array], Array]:
    return quick_gelu if model.config.get("quick_gelu") else gelu
