"""BERT-style text encoders in NumPy, compared with transformers as open_clip runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_torch
from tiny_models import HF_KINDS, TEXTS, assert_they_differ, save_hf

from clipsearch.arrays import unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.models.bert import BertTower
from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.model import Model
from clipsearch.models.open_clip_encoder import OpenClipEncoder
from clipsearch.models.weights import load_safetensors
from clipsearch.search.embed import cold_encoder

SPECIAL = ["a [PAD] dog", "[SEP] [CLS] a dog", "a <pad> dog", "<mask> dog </s> cat"]


@pytest.fixture(scope="module")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    made: dict[str, Model] = {}

    def make(kind: str) -> Model:
        if kind not in made:
            made[kind] = save_hf(tmp_path_factory.mktemp("hf"), kind)
        return made[kind]

    return make


def theirs(model: Model, texts: list[str]) -> np.ndarray:
    import open_clip
    import torch

    net = open_clip.create_model(model.architecture).eval()
    with torch.inference_mode():
        return unit_rows(net.encode_text(open_clip.get_tokenizer(model.architecture)(texts)).numpy())


def ours(model: Model, texts: list[str]) -> np.ndarray:
    return BertTower(model, load_safetensors(model.weights))(texts)


@needs_torch
@pytest.mark.parametrize("kind", HF_KINDS)
def test_texts_are_embedded_as_open_clip_does_it(kind: str, tiny_hf: Callable[[str], Model]) -> None:
    model = tiny_hf(kind)
    assert BertTower.serves(model)
    expected = theirs(model, TEXTS + SPECIAL)
    assert_they_differ(expected[: len(TEXTS)])
    np.testing.assert_allclose(ours(model, TEXTS + SPECIAL), expected, atol=1e-5)


@needs_torch
def test_half_precision_is_converted(tmp_path: Path) -> None:
    model = save_hf(tmp_path, "minilm", "F16")
    np.testing.assert_allclose(ours(model, TEXTS), theirs(model, TEXTS), atol=1e-5)


@needs_torch
@pytest.mark.parametrize("kind", ["minilm", "xlm-roberta"])
def test_weights_that_cannot_be_mapped_go_through_open_clip(kind: str, tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    model = save_hf(tmp_path, kind)
    expected = ours(model, TEXTS)
    pickled = tmp_path / "open_clip_pytorch_model.bin"
    torch.save(safetensors.torch.load_file(model.weights), pickled)
    model.weights.unlink()
    encoder = cold_encoder(replace(model, weights=pickled, sha256=_sha256(pickled)), texts=True, images=False)
    assert isinstance(encoder, OpenClipEncoder)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=1e-5)


def _sha256(path: Path) -> str:
    from clipsearch.models import cache

    return cache.sha256_of_file(path)


def test_only_networks_that_it_knows_are_served(tiny_hf: Callable[[str], Model]) -> None:
    model = tiny_hf("minilm")
    assert model.text is not None

    def with_text(**changes: Any) -> bool:
        return BertTower.serves(replace(model, config=model.config | {"text_cfg": model.config["text_cfg"] | changes}))

    def with_encoder(**changes: Any) -> bool:
        return BertTower.serves(replace(model, text=replace(model.text, config=model.text.config | changes)))

    assert with_text()
    assert with_encoder()
    assert not with_text(hf_pooler_type="max_pooler")
    assert not with_text(hf_proj_type="none")
    assert not with_text(a_key_of_tomorrow=1)
    assert not with_encoder(hidden_act="relu")
    assert not with_encoder(position_embedding_type="relative_key")
    assert not with_encoder(is_decoder=True)
    assert not BertTower.serves(replace(model, text=None))
    assert not BertTower.serves(replace(model, weights=Path("weights.pt")))


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"hidden_size": 32},
        {"max_position_embeddings": 40},
        {"vocab_size": 5},
        {"intermediate_size": 12},
    ],
)
def test_weights_that_do_not_fit_are_unusable(change: dict[str, int], tiny_hf: Callable[[str], Model]) -> None:
    model = tiny_hf("minilm")
    assert model.text is not None
    other = replace(model, text=replace(model.text, config=model.text.config | change))
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        ours(other, ["a dog"])


def test_another_projection_does_not_fit(tiny_hf: Callable[[str], Model]) -> None:
    model = tiny_hf("minilm")
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        ours(replace(model, config=model.config | {"embed_dim": 25}), ["a dog"])
    mlp = model.config["text_cfg"] | {"hf_proj_type": "mlp"}
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        ours(replace(model, config=model.config | {"text_cfg": mlp}), ["a dog"])


def test_a_tokenizer_that_cannot_be_read_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(WeightsUnusable, match=r"tokenizer\.json is not a valid tokenizer"):
        tokenize(["a dog"], tmp_path / "tokenizer.json", 8)


def test_a_query_needs_no_other_library_than_tokenizers(tiny_hf: Callable[[str], Model]) -> None:
    code = (
        "import sys; from pathlib import Path; from clipsearch.models.model import from_folder;"
        "from clipsearch.search.embed import cold_encoder;"
        "cold_encoder(from_folder(Path(sys.argv[1]), 'x'), texts=True, images=False).encode_texts(['a dog']);"
        "large = {'torch', 'transformers', 'open_clip', 'PIL', 'ftfy', 'regex', 'tokenizers', 'huggingface_hub'};"
        "print(*sorted(large & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tiny_hf("xlm-roberta").weights.parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["tokenizers"]
