"""SigLIP's and SigLIP 2's towers in NumPy, over memory-mapped weights: embeds a query without importing torch.

SigLIP is Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"; SigLIP 2 is Tschannen et al. 2025. As in
open_clip, the text tower is `TextTransformer` without a causal mask, pooled at the last token, and the image tower is
timm's `VisionTransformer` with `AttentionPoolLatent` (`vision_transformer.py`, `attention_pool.py`). Texts are padded
to the context length and the padding is attended to, as in training. The token embeddings are half of the smallest
SigLIP 2; only the rows for the tokens in the text are read from disk.
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

# The configuration keys implemented here. Any other key may change the network, so open_clip has to run the model.
_TEXT_KEYS = frozenset(["context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads"])
_TEXT_KEYS |= {"layers", "mlp_ratio", "no_causal_mask", "pool_type", "norm_kwargs", "act_kwargs"}
_TEXT_KEYS |= {"proj_bias", "proj_type"}
_TEXT_REQUIRED = {"no_causal_mask": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
_VISION_KEYS = frozenset(["image_size", "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj"])
_VISION_REQUIRED = {"timm_pool": "map", "timm_proj": "none"}
EPSILON = 1e-6  # of the layer norms, in both towers


# Width, MLP width, layers, heads.
_SIZES = {"base": (768, 3072, 12, 12), "large": (1024, 4096, 24, 16)}
_SIZES |= {"so400m": (1152, 4304, 27, 16), "giantopt": (1536, 6144, 40, 16)}
# timm uses the tanh GELU for networks that only SigLIP 2 has, and the exact GELU for those shared with SigLIP.
_TANH_GELU = frozenset(f"vit_so400m_patch16_siglip_{side}" for side in (256, 384, 512))
_TANH_GELU |= {"vit_base_patch32_siglip_256", "vit_large_patch16_siglip_512"}
_TANH_GELU |= {f"vit_giantopt_patch16_siglip_{side}" for side in (256, 384)}
_NETWORK = re.compile(r"vit_(base|large|so400m|giantopt)_patch(14|16|32)_siglip_(\d+)")


class SiglipTextTower:
    """SigLIP's text transformer. Raises `WeightsUnusable` if the weights do not fit the architecture."""

    @staticmethod
    def serves(model: Model) -> bool:
        text = model.config["text_cfg"]
        return (
            model.is_plain
            and not model.config.get("quick_gelu")
            and model.text is not None
            and model.reads_canonical_text
            and text.keys() <= _TEXT_KEYS
            and all(text.get(key) == value for key, value in _TEXT_REQUIRED.items())
            and text.get("act_kwargs") in (None, {"approximate": "tanh"})
            and (text.get("proj_type") == "none" or text.get("proj_bias") is True)
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        assert model.text is not None
        config = model.config["text_cfg"]
        self._tokenizer, self._padding = model.text.tokenizer, model.text.padding
        prepare(self._tokenizer)  # takes seconds the first time: better now, while indexing, than in the first query
        self._context_length = model.context_length
        self._tensors = t = Named(tensors, "text.", model.weights)
        width = config.get("width", 512)
        activation = "gelu_tanh" if config.get("act_kwargs") else "gelu"
        shape = Shape(config.get("layers", 12), config.get("heads", 8), activation, epsilon=EPSILON)
        self._blocks = Transformer(t, shape)
        t.expect("token_embedding.weight", config.get("vocab_size", 49408), width)
        t.expect("positional_embedding", self._context_length, width)
        self._has_projection = config.get("proj_type") != "none"
        if self._has_projection:
            t.expect("text_projection.weight", model.dim, width)
        else:
            t.expect("ln_final.weight", model.dim)

    def __call__(self, texts: list[str]) -> Array:
        """Embed n texts as unit vectors (n, dim)."""
        ids = tokenize(texts, self._tokenizer, self._context_length, canonical=True)
        padded = [row + [self._padding] * (self._context_length - len(row)) for row in ids]
        return unit_rows(by_length(padded, self._embed))

    def _embed(self, ids: NDArray[np.int64]) -> Array:
        """Embeddings (n, dim), not normalised, of token ids (n, context length)."""
        t = self._tensors
        x = t.rows("token_embedding.weight", ids) + t.matrix("positional_embedding")
        last = layer_norm(self._blocks(x, self._context_length - 1), t, "ln_final", EPSILON)
        return linear(last, t, "text_projection") if self._has_projection else last


class SiglipImageTower:
    """SigLIP's vision transformer. Raises `WeightsUnusable` if the weights do not fit the architecture."""

    zoom = 1  # the position embeddings fix the input size of `parts`

    @staticmethod
    def serves(model: Model) -> bool:
        vision = model.config["vision_cfg"]
        return (
            model.is_plain
            and vision.keys() <= _VISION_KEYS
            and all(vision.get(key) == value for key, value in _VISION_REQUIRED.items())
            and _NETWORK.fullmatch(vision.get("timm_model_name", "")) is not None
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        name = model.config["vision_cfg"]["timm_model_name"]
        parsed = _NETWORK.fullmatch(name)
        assert parsed is not None
        self.width, mlp_width, layers, heads = _SIZES[parsed[1]]
        self.patch = int(parsed[2])
        self.shape = Shape(layers, heads, "gelu_tanh" if name in _TANH_GELU else "gelu", TIMM, EPSILON)
        self.tensors = t = Named(tensors, "visual.trunk.", model.weights)
        self._preprocess = model.preprocess
        self.blocks = Transformer(t, self.shape)
        rows, columns = (side // self.patch for side in model.preprocess.size)
        t.expect("pos_embed", 1, rows * columns, self.width)
        t.expect("patch_embed.proj.weight", self.width, 3, self.patch, self.patch)
        t.expect(f"blocks.{layers - 1}.mlp.fc1.weight", mlp_width, self.width)
        t.expect("attn_pool.latent", 1, 1, model.dim)

    def __call__(self, pixels: Pixels) -> Array:
        """Embed preprocessed images (n, height, width, 3) uint8 as unit vectors (n, dim)."""
        return unit_rows(np.stack([self._embed(image) for image in pixels]))

    def parts(self, pixels: Pixels) -> Parts:
        """One unit vector per patch of a preprocessed image (height, width, 3) uint8.

        Each patch goes through the attention pooling alone. This is MaskCLIP (Zhou et al. 2022) for a network whose
        last attention layer is the pooling.
        """
        t = self.tensors.below("attn_pool.")
        _, values = np.split(linear(self._tokens(pixels), t, "kv"), 2, -1)
        return grid(self._pool_head(values, t)[0], pixels, self.patch)

    def _embed(self, pixels: Pixels) -> Array:
        t = self.tensors.below("attn_pool.")
        k, v = np.split(linear(self._tokens(pixels), t, "kv"), 2, -1)
        query = linear(t.matrix("latent"), t, "q")  # learned, not computed from the image
        attended = attention(query, k, v, self.shape.heads)
        row: Array = self._pool_head(attended, t)[0, 0]
        return row

    def _tokens(self, pixels: Pixels) -> Array:
        """The normalised output of the last block, (1, patches, width)."""
        t = self.tensors
        embedded = patches(normalise(pixels, self._preprocess), t.matrix("patch_embed.proj.weight"))
        x = embedded + t.matrix("patch_embed.proj.bias") + t.matrix("pos_embed")
        return layer_norm(self.blocks(x), t, "norm", EPSILON)

    def _pool_head(self, x: Array, t: Named) -> Array:
        """The projection, norm and MLP that follow the pooling's attention, on (1, n, width)."""
        x = linear(x, t, "proj")
        hidden = linear(layer_norm(x, t, "norm", EPSILON), t, "mlp.fc1")
        return x + linear(ACTIVATIONS[self.shape.activation](hidden), t, "mlp.fc2")
