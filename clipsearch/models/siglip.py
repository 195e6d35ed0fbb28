"""SigLIP's and SigLIP 2's two towers in NumPy over mapped weights: embeds one query without importing torch.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", and Tschannen et al. 2025, as open_clip has them: the
text tower is its `TextTransformer` without a mask, read at the last place; the image tower is timm's
`VisionTransformer` with `AttentionPoolLatent` (`vision_transformer.py`, `attention_pool.py`). A text is always filled
up to the context length, and what fills it up is read too. Of the table of tokens, which is half of SigLIP 2 in its
smallest form, only the rows of a text are read.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.models.hf_tokenizer import prepare, tokenize
from clipsearch.models.layers import Parts, attention, by_length, grid, layer_norm, linear, normalise, patches
from clipsearch.models.model import Model
from clipsearch.models.transformer import ACTIVATIONS, TIMM, Shape, Transformer
from clipsearch.models.weights import Named, Tensors

# What a configuration may say for these towers to compute the same as open_clip; any other word means another network.
_TEXT_KEYS = frozenset(["context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads"])
_TEXT_KEYS |= {"layers", "mlp_ratio", "no_causal_mask", "pool_type", "norm_kwargs", "act_kwargs"}
_TEXT_KEYS |= {"proj_bias", "proj_type"}
_TEXT_SAYS = {"no_causal_mask": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
_VISION_KEYS = frozenset(["image_size", "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj"])
_VISION_SAYS = {"timm_pool": "map", "timm_proj": "none"}
EPSILON = 1e-6  # of the norms, in both towers


# Width, what the width is in between, layers, heads.
_SIZES = {"base": (768, 3072, 12, 12), "large": (1024, 4096, 24, 16)}
_SIZES |= {"so400m": (1152, 4304, 27, 16), "giantopt": (1536, 6144, 40, 16)}
# Networks that timm has for SigLIP 2 alone have the approximated GELU; those that serve SigLIP too have the exact one.
_TANH = frozenset(f"vit_so400m_patch16_siglip_{side}" for side in (256, 384, 512))
_TANH |= {"vit_base_patch32_siglip_256", "vit_large_patch16_siglip_512"}
_TANH |= {f"vit_giantopt_patch16_siglip_{side}" for side in (256, 384)}
_NAME = re.compile(r"vit_(base|large|so400m|giantopt)_patch(14|16|32)_siglip_(\d+)")


class SiglipTextTower:
    """Texts to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the texts of a model."""
        text = model.config["text_cfg"]
        return (
            model.is_plain
            and not model.config.get("quick_gelu")
            and model.text is not None
            and model.reads_canonical_text
            and text.keys() <= _TEXT_KEYS
            and all(text.get(key) == value for key, value in _TEXT_SAYS.items())
            and text.get("act_kwargs") in (None, {"approximate": "tanh"})
            and (text.get("proj_type") == "none" or text.get("proj_bias") is True)
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        assert model.text is not None
        config = model.config["text_cfg"]
        self._tokenizer, self._padding = model.text.tokenizer, model.text.padding
        prepare(self._tokenizer)  # indexing has the time, the first query has not
        self._context_length = model.context_length
        self._tensors = t = Named(tensors, "text.", model.weights)
        width = config.get("width", 512)
        activation = "gelu_tanh" if config.get("act_kwargs") else "gelu"
        shape = Shape(config.get("layers", 12), config.get("heads", 8), activation, epsilon=EPSILON)
        self._blocks = Transformer(t, shape)
        t.expect("token_embedding.weight", config.get("vocab_size", 49408), width)
        t.expect("positional_embedding", self._context_length, width)
        self._projected = config.get("proj_type") != "none"
        if self._projected:
            t.expect("text_projection.weight", model.dim, width)
        else:
            t.expect("ln_final.weight", model.dim)

    def __call__(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) of n texts."""
        ids = tokenize(texts, self._tokenizer, self._context_length, canonical=True)
        filled = [row + [self._padding] * (self._context_length - len(row)) for row in ids]
        return unit_rows(by_length(filled, self._some))

    def _some(self, ids: NDArray[np.int64]) -> Array:
        """Rows (n, dim) of texts, (n, context length)."""
        t = self._tensors
        x = t.rows("token_embedding.weight", ids) + t.matrix("positional_embedding")
        last = layer_norm(self._blocks(x, self._context_length - 1), t, "ln_final", EPSILON)
        return linear(last, t, "text_projection") if self._projected else last


class SiglipImageTower:
    """Pixels to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    zoom = 1  # `parts` needs the size that the positions were learned for

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the images of a model."""
        vision = model.config["vision_cfg"]
        return (
            model.is_plain
            and vision.keys() <= _VISION_KEYS
            and all(vision.get(key) == value for key, value in _VISION_SAYS.items())
            and _NAME.fullmatch(vision.get("timm_model_name", "")) is not None
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        name = model.config["vision_cfg"]["timm_model_name"]
        found = _NAME.fullmatch(name)
        assert found is not None
        width, between, layers, heads = _SIZES[found[1]]
        self.patch = int(found[2])
        self.shape = Shape(layers, heads, "gelu_tanh" if name in _TANH else "gelu", TIMM, EPSILON)
        self.tensors = t = Named(tensors, "visual.trunk.", model.weights)
        self._preprocess = model.preprocess
        self._blocks = Transformer(t, self.shape)
        rows, columns = (side // self.patch for side in model.preprocess.size)
        t.expect("pos_embed", 1, rows * columns, width)
        t.expect("patch_embed.proj.weight", width, 3, self.patch, self.patch)
        t.expect(f"blocks.{layers - 1}.mlp.fc1.weight", between, width)
        t.expect("attn_pool.latent", 1, 1, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Unit rows (n, dim) of n preprocessed images, (n, height, width, 3) uint8."""
        return unit_rows(np.stack([self._one(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """What the pooling would give of each patch of one preprocessed image if it saw no other, as unit rows.

        That is MaskCLIP (Zhou et al. 2022) for a network whose last attention is in its pooling.
        """
        t = self.tensors.below("attn_pool.")
        _, values = np.split(linear(self._seen(pixels), t, "kv"), 2, -1)
        return grid(self._pooled(values, t)[0], pixels, self.patch)

    def _one(self, pixels: Pixels) -> Array:
        t = self.tensors.below("attn_pool.")
        k, v = np.split(linear(self._seen(pixels), t, "kv"), 2, -1)
        query = linear(t.matrix("latent"), t, "q")  # the one that was learnt
        found = attention(query, k, v, self.shape.heads)
        row: Array = self._pooled(found, t)[0, 0]
        return row

    def _seen(self, pixels: Pixels) -> Array:
        """The patches after the last block, (1, patches, width)."""
        t = self.tensors
        embedded = patches(normalise(pixels, self._preprocess), t.matrix("patch_embed.proj.weight"))
        x = embedded + t.matrix("patch_embed.proj.bias") + t.matrix("pos_embed")
        return layer_norm(self._blocks(x), t, "norm", EPSILON)

    def _pooled(self, x: Array, t: Named) -> Array:
        """What the pooling makes of rows (1, n, width) that its attention found."""
        x = linear(x, t, "proj")
        hidden = linear(layer_norm(x, t, "norm", EPSILON), t, "mlp.fc1")
        return x + linear(ACTIVATIONS[self.shape.activation](hidden), t, "mlp.fc2")
