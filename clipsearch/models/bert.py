"""BERT, RoBERTa and XLM-RoBERTa text encoders in NumPy, over memory-mapped weights.

Embeds text without importing torch or transformers. Computes what open_clip's `HFTextEncoder` (`open_clip/hf_model.py`)
computes with transformers' `BertModel`, `RobertaModel` or `XLMRobertaModel` (Devlin et al. 2018, Liu et al. 2019,
Conneau et al. 2020). The token embeddings are most of a multilingual model; only the rows for the tokens in the text
are read from disk.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, unit_rows
from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.layers import attention, by_length, gelu, layer_norm, linear, product
from clipsearch.models.model import Model
from clipsearch.models.weights import Named, Tensors

# The `text_cfg` keys implemented here. Any other key may change the network, so open_clip has to run the model.
_KEYS = frozenset(
    ["hf_model_name", "hf_tokenizer_name", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type", "context_length"]
)


class BertTower:
    """A BERT-family text encoder. Raises `WeightsUnusable` if the weights do not fit the architecture."""

    @staticmethod
    def serves(model: Model) -> bool:
        if model.text is None:
            return False
        text, bert = model.config["text_cfg"], model.text.config
        return (
            model.is_plain
            and text.keys() <= _KEYS
            and text.get("hf_pooler_type", "mean_pooler") in _POOLERS
            and text.get("hf_proj_type", "mlp") in ("linear", "mlp")
            and bert.get("hidden_act", "gelu") == "gelu"
            and bert.get("position_embedding_type", "absolute") == "absolute"
            and not bert.get("is_decoder")
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        assert model.text is not None
        config, text = model.text.config, model.config["text_cfg"]
        roberta = config["model_type"] != "bert"
        self._tokenizer, self._context_length = model.text.tokenizer, model.context_length
        self._padding = model.text.padding
        # RoBERTa numbers positions from padding index + 1 and skips padding tokens.
        self._first_position = self._padding + 1 if roberta else None
        self._layers, self._heads = config.get("num_hidden_layers", 12), config.get("num_attention_heads", 12)
        self._epsilon = config.get("layer_norm_eps", 1e-12)
        self._pool = _POOLERS[text.get("hf_pooler_type", "mean_pooler")]
        self._tensors = t = Named(tensors, "text.transformer.", model.weights)
        width = config.get("hidden_size", 768)
        t.expect("embeddings.word_embeddings.weight", config["vocab_size"], width)
        t.expect("embeddings.position_embeddings.weight", config.get("max_position_embeddings", 512), width)
        t.expect(f"encoder.layer.{self._layers - 1}.output.dense.weight", width, config.get("intermediate_size", 3072))
        t.expect_no(f"encoder.layer.{self._layers}.output.dense.weight")
        self._head = Named(tensors, "text.proj.", model.weights)
        self._projection = ("weight",) if text.get("hf_proj_type", "mlp") == "linear" else ("0.weight", "2.weight")
        sizes = [width, model.dim] if len(self._projection) == 1 else [width, (width + model.dim) // 2, model.dim]
        for part, before, after in zip(self._projection, sizes, sizes[1:], strict=False):
            self._head.expect(part, after, before)

    def __call__(self, texts: list[str]) -> Array:
        """Embed n texts as unit vectors (n, dim)."""
        ids = tokenize(texts, self._tokenizer, self._context_length)
        return unit_rows(by_length([self._with_positions(row) for row in ids], self._embed))

    def _with_positions(self, ids: list[int]) -> list[tuple[int, int]]:
        """(position, token) pairs without padding tokens, which a literal "[PAD]" in the text produces."""
        if self._first_position is not None:
            return list(enumerate((token for token in ids if token != self._padding), self._first_position))
        return [(position, token) for position, token in enumerate(ids) if token != self._padding]

    def _embed(self, pairs: NDArray[np.int64]) -> Array:
        """Embeddings (n, dim), not normalised, of (position, token) pairs (n, length, 2)."""
        t = self._tensors.below("embeddings.")
        x = t.rows("word_embeddings.weight", pairs[..., 1]) + t.rows("position_embeddings.weight", pairs[..., 0])
        x = layer_norm(x + t.rows("token_type_embeddings.weight", 0), t, "LayerNorm", self._epsilon)
        for n in range(self._layers):
            x = self._layer(x, self._tensors.below(f"encoder.layer.{n}."))
        x = self._pool(x, self._tensors)
        for number, part in enumerate(self._projection):
            x = product(gelu(x) if number else x, self._head.matrix(part))
        return x

    def _layer(self, x: Array, t: Named) -> Array:
        q, k, v = (linear(x, t, f"attention.self.{name}") for name in ("query", "key", "value"))
        attended = linear(attention(q, k, v, self._heads), t, "attention.output.dense")
        x = layer_norm(x + attended, t, "attention.output.LayerNorm", self._epsilon)
        hidden = gelu(linear(x, t, "intermediate.dense"))
        return layer_norm(x + linear(hidden, t, "output.dense"), t, "output.LayerNorm", self._epsilon)


def _mean_pool(x: Array, _: Named) -> Array:
    out: Array = x.mean(1)
    return out


def _cls_pool(x: Array, _: Named) -> Array:
    return x[:, 0]


def _cls_dense_pool(x: Array, t: Named) -> Array:
    out: Array = np.tanh(linear(x[:, 0], t, "pooler.dense"))
    return out


_POOLERS: dict[str, Callable[[Array, Named], Array]] = {
    "mean_pooler": _mean_pool,
    "cls_last_hidden_state_pooler": _cls_pool,
    "cls_pooler": _cls_dense_pool,
}
