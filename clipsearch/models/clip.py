"""CLIP's text and image towers in NumPy, over memory-mapped weights: embeds a query without importing torch.

Computes what open_clip's `CLIP` and `CustomTextCLIP` compute with plain transformers (`open_clip/model.py`,
`transformer.py`). Text ends at the end-of-text token instead of being padded: the causal mask hides everything after
it.
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

# The configuration keys implemented here. Any other key may change the network, so open_clip has to run the model.
_TEXT_KEYS = frozenset(["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"])
_VISION_KEYS = frozenset(["image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"])


class TextTower:
    """CLIP's causal text transformer. Raises `WeightsUnusable` if the weights do not fit the architecture."""

    @staticmethod
    def serves(model: Model) -> bool:
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
        """Embed n texts as unit vectors (n, dim)."""
        ids = tokenize(texts, self._context_length)
        # Like open_clip, pool at the first end-of-text token, the highest id; the text may contain a literal one.
        return unit_rows(by_length([row[: row.index(max(row)) + 1] for row in ids], self._embed))

    def _embed(self, ids: NDArray[np.int64]) -> Array:
        """Embeddings (n, dim), not normalised, of token ids (n, length)."""
        t, length = self._tensors, ids.shape[1]
        x = t.rows("token_embedding.weight", ids) + t.rows("positional_embedding", slice(length))
        mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        token = self._blocks(x, length - 1, mask)  # only the last token attends to the whole text
        projected: Array = layer_norm(token, t, "ln_final") @ t.matrix("text_projection")
        return projected


class ImageTower:
    """CLIP's vision transformer. Raises `WeightsUnusable` if the weights do not fit the architecture."""

    zoom = 1  # the position embeddings fix the input size of `parts`

    @staticmethod
    def serves(model: Model) -> bool:
        vision = model.config["vision_cfg"]
        return model.is_plain and vision.keys() <= _VISION_KEYS and isinstance(vision.get("layers", 12), int)

    def __init__(self, model: Model, tensors: Tensors) -> None:
        config = model.config["vision_cfg"]
        self.tensors = Named(tensors, "visual.", model.weights)
        self.patch, self.width = config.get("patch_size", 16), config.get("width", 768)
        self.shape = Shape(config.get("layers", 12), self.width // config.get("head_width", 64), _activation(model))
        self._preprocess = model.preprocess
        self.blocks = Transformer(self.tensors, self.shape)
        rows, columns = (side // self.patch for side in model.preprocess.size)
        self.tensors.expect("positional_embedding", rows * columns + 1, self.width)
        self.tensors.expect("conv1.weight", self.width, 3, self.patch, self.patch)
        self.tensors.expect("proj", self.width, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Embed preprocessed images (n, height, width, 3) uint8 as unit vectors (n, dim)."""
        return unit_rows(np.stack([self._embed(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """One unit vector per patch of a preprocessed image (height, width, 3) uint8.

        The last block contributes its value projections only: no attention weights (MaskCLIP, Zhou et al. 2022), no
        residual and no MLP (ClearCLIP, Lan et al. 2024). Each patch then describes itself rather than the whole image.
        """
        return grid(self._project(self.blocks.values(self._tokens(pixels))[0, 1:]), pixels, self.patch)

    def _embed(self, pixels: Pixels) -> Array:
        row: Array = self._project(self.blocks(self._tokens(pixels), 0))[0]
        return row

    def _tokens(self, pixels: Pixels) -> Array:
        """The class token and the patches with position embeddings, (1, 1 + patches, width)."""
        t = self.tensors
        embedded = patches(normalise(pixels, self._preprocess), t.matrix("conv1.weight"))
        tokens = np.concatenate([t.matrix("class_embedding")[None], embedded])
        return layer_norm(tokens + t.matrix("positional_embedding"), t, "ln_pre")[None]

    def _project(self, tokens: Array) -> Array:
        rows: Array = layer_norm(tokens, self.tensors, "ln_post") @ self.tensors.matrix("proj")
        return rows


def _activation(model: Model) -> str:
    return "quick_gelu" if model.config.get("quick_gelu") else "gelu"
