"""The text encoders of BERT's family in NumPy over mapped weights: embeds a text without torch and transformers.

The architectures are those of open_clip's `HFTextEncoder` (`open_clip/hf_model.py`) around the `BertModel`,
`RobertaModel` and `XLMRobertaModel` of the transformers library (Devlin et al. 2018, Liu et al. 2019, Conneau et al.
2020). Of the table of tokens, which is most of a multilingual model, only the rows of a text are read.
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

# What a configuration may say for this tower to compute the same as open_clip; any other word means another network.
_KEYS = frozenset(
    ["hf_model_name", "hf_tokenizer_name", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type", "context_length"]
)


class BertTower:
    """Texts to embeddings. Raises `WeightsUnusable` where the weights do not have the architecture's shapes."""

    @staticmethod
    def serves(model: Model) -> bool:
        """Whether this tower embeds the texts of a model."""
        if model.text is None:
            return False
        text, described = model.config["text_cfg"], model.text.config
        return (
            model.is_plain
            and text.keys() <= _KEYS
            and text.get("hf_pooler_type", "mean_pooler") in _POOLERS
            and text.get("hf_proj_type", "mlp") in ("linear", "mlp")
            and described.get("hidden_act", "gelu") == "gelu"
            and described.get("position_embedding_type", "absolute") == "absolute"
            and not described.get("is_decoder")
        )

    def __init__(self, model: Model, tensors: Tensors) -> None:
        assert model.text is not None
        config, text = model.text.config, model.config["text_cfg"]
        roberta = config["model_type"] != "bert"
        self._tokenizer, self._context_length = model.text.tokenizer, model.context_length
        self._padding = model.text.padding
        # RoBERTa counts its positions from the one after that of padding, and only tokens that are not padding.
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
        self._parts = ("weight",) if text.get("hf_proj_type", "mlp") == "linear" else ("0.weight", "2.weight")
        sizes = [width, model.dim] if len(self._parts) == 1 else [width, (width + model.dim) // 2, model.dim]
        for part, before, after in zip(self._parts, sizes, sizes[1:], strict=False):
            self._head.expect(part, after, before)

    def __call__(self, texts: list[str]) -> Array:
        """Unit rows (n, dim) of n texts."""
        ids = tokenize(texts, self._tokenizer, self._context_length)
        return unit_rows(by_length([self._places(row) for row in ids], self._some))

    def _places(self, ids: list[int]) -> list[tuple[int, int]]:
        """The tokens after their positions, without padding: there may be some if a text says "[PAD]"."""
        if self._first_position is not None:
            return list(enumerate((token for token in ids if token != self._padding), self._first_position))
        return [(place, token) for place, token in enumerate(ids) if token != self._padding]

    def _some(self, places: NDArray[np.int64]) -> Array:
        """Rows (n, dim) of texts of one length, (n, length, 2)."""
        t = self._tensors.below("embeddings.")
        x = t.rows("word_embeddings.weight", places[..., 1]) + t.rows("position_embeddings.weight", places[..., 0])
        x = layer_norm(x + t.rows("token_type_embeddings.weight", 0), t, "LayerNorm", self._epsilon)
        for n in range(self._layers):
            x = self._layer(x, self._tensors.below(f"encoder.layer.{n}."))
        x = self._pool(x, self._tensors)
        for number, part in enumerate(self._parts):
            x = product(gelu(x) if number else x, self._head.matrix(part))
        return x

    def _layer(self, x: Array, t: Named) -> Array:
        q, k, v = (linear(x, t, f"attention.self.{name}") for name in ("query", "key", "value"))
        attended = linear(attention(q, k, v, self._heads), t, "attention.output.dense")
        x = layer_norm(x + attended, t, "attention.output.LayerNorm", self._epsilon)
        hidden = gelu(linear(x, t, "intermediate.dense"))
        return layer_norm(x + linear(hidden, t, "output.dense"), t, "output.LayerNorm", self._epsilon)


def _mean(x: Array, _: Named) -> Array:
    out: Array = x.mean(1)
    return out


def _first(x: Array, _: Named) -> Array:
    return x[:, 0]


def _first_pooled(x: Array, t: Named) -> Array:
    out: Array = np.tanh(linear(x[:, 0], t, "pooler.dense"))
    return out


_POOLERS: dict[str, Callable[[Array, Named], Array]] = {
    "mean_pooler": _mean,
    "cls_last_hidden_state_pooler": _first,
    "cls_pooler": _first_pooled,
}
