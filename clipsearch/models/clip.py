"""CLIP's two towers in NumPy over mapped weights: embeds one query without importing torch.

The architectures are those of OpenCLIP's `CLIP` and `CustomTextCLIP` (`open_clip/model.py`, `transformer.py`) with
standard transformers. Text is cut at the end-of-text token: under the causal mask what follows cannot matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.models.layers import Parts, by_length, grid, layer_norm, normalise, patches
from clipsearch.models.model import Model
from clipsearch.models.tokenizer import tokenize
from clipsearch.models.transformer import Shape, Transformer
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
        shape = Shape(config.get("layers", 12), config.get("heads", 8), _activation(model))
        self._blocks = Transformer(self._tensors, shape)
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

    zoom = 1  # `parts` needs the size that the positions were learned for

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the images of a model."""
        vision = model.config["vision_cfg"]
        return model.is_plain and vision.keys() <= _VISION_KEYS and isinstance(vision.get("layers", 12), int)

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["vision_cfg"]
        self.tensors = Named(tensors, "visual.", model.weights)
        self.patch, width = config.get("patch_size", 16), config.get("width", 768)
        self.shape = Shape(config.get("layers", 12), width // config.get("head_width", 64), _activation(model))
        self._preprocess = model.preprocess
        self._blocks = Transformer(self.tensors, self.shape)
        rows, columns = (side // self.patch for side in model.preprocess.size)
        self.tensors.expect("positional_embedding", rows * columns + 1, width)
        self.tensors.expect("conv1.weight", width, 3, self.patch, self.patch)
        self.tensors.expect("proj", width, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """What each patch of one preprocessed image says of itself, as unit rows.

        The values of the last attention without its mixing (MaskCLIP, Zhou et al. 2022), and without the residual and
        the MLP after it (ClearCLIP, Lan et al. 2024).
        """
        return grid(self._projected(self._blocks.values(self._tokens(pixels))[0, 1:]), pixels, self.patch)

    def _one(self, pixels: Pixels) -> Array:
        row: Array = self._projected(self._blocks(self._tokens(pixels), 0))[0]
        return row

    def _tokens(self, pixels: Pixels) -> Array:
        """The class and the patches with their positions, (1, 1 + patches, width)."""
        t = self.tensors
        embedded = patches(normalise(pixels, self._preprocess), t.matrix("conv1.weight"))
        tokens = np.concatenate([t.matrix("class_embedding")[None], embedded])
        return layer_norm(tokens + t.matrix("positional_embedding"), t, "ln_pre")[None]

    def _projected(self, tokens: Array) -> Array:
        rows: Array = layer_norm(tokens, self.tensors, "ln_post") @ self.tensors.matrix("proj")
        return rows


def _activation(model: Model) -> str:
    return "quick_gelu" if model.config.get("quick_gelu") else "gelu"
