"""SigLIP's towers, compared with open_clip and timm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_torch
from tiny_models import SIGLIP_KINDS, SMALL_VISION, TEXTS, assert_they_differ, cosines, save_siglip, some_pixels

from clipsearch.arrays import unit_rows
from clipsearch.errors import WeightsUnusable
from clipsearch.models import siglip
from clipsearch.models.encoders import Engine, NumpyEncoder
from clipsearch.models.graph_encoders import GraphEncoder
from clipsearch.models.layers import normalise
from clipsearch.models.model import Model, from_folder, text_files
from clipsearch.models.pretrained import _table, builtin_config
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower
from clipsearch.models.weights import load_safetensors
from clipsearch.search.embed import cold_encoder

ODD = ["A_b, c.  D!", "isn't", "“ÉCOLE”", "<eos> dog <pad>", "a ▁▁ b", "dog\nbeach", "&amp; ＡＢＣ", "日本の夏"]
Tiny = Callable[[str], Model]


@pytest.fixture(autouse=True)
def small_vision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(siglip._SIZES, "base", SMALL_VISION)


@pytest.fixture(scope="module")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    made: dict[str, Model] = {}

    def make(kind: str) -> Model:
        if kind not in made:
            made[kind] = save_siglip(tmp_path_factory.mktemp("siglip"), kind)
        return made[kind]

    return make


def their_towers(model: Model) -> tuple[Any, Any]:
    """open_clip's text tower and timm's image tower with the model's weights."""
    import open_clip
    import timm

    config, (width, hidden, layers, heads) = model.config, SMALL_VISION
    text = open_clip.model._build_text_tower(model.dim, config["text_cfg"])
    image = timm.models.VisionTransformer(
        img_size=config["vision_cfg"]["image_size"],
        patch_size=int(siglip._NETWORK.fullmatch(config["vision_cfg"]["timm_model_name"])[2]),
        num_classes=0,
        global_pool="map",
        embed_dim=width,
        depth=layers,
        num_heads=heads,
        mlp_ratio=hidden / width,
        class_token=False,
        act_layer="gelu_tanh" if config["text_cfg"].get("act_kwargs") else None,
    )
    for tower, prefix in ((text, "text."), (image, "visual.trunk.")):
        tower.load_state_dict(tensors_below(model, prefix))
    return text.eval(), image.eval()


def tensors_below(model: Model, prefix: str) -> dict[str, Any]:
    import safetensors.torch

    tensors = safetensors.torch.load_file(model.weights)
    return {name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items() if name.startswith(prefix)}


def their_texts(model: Model, tower: Any, texts: list[str]) -> np.ndarray:
    import open_clip
    import torch

    with torch.inference_mode():
        return unit_rows(tower(open_clip.get_tokenizer(model.architecture)(texts)).numpy())


def their_images(model: Model, tower: Any, pixels: np.ndarray) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return unit_rows(tower(torch.from_numpy(normalise(pixels, model.preprocess)).permute(0, 3, 1, 2)).numpy())


@needs_torch
@pytest.mark.parametrize("kind", SIGLIP_KINDS)
def test_texts_are_embedded_as_open_clip_does_it(kind: str, tiny_siglip: Tiny) -> None:
    model = tiny_siglip(kind)
    assert SiglipTextTower.serves(model)
    expected = their_texts(model, their_towers(model)[0], TEXTS + ODD)
    assert_they_differ(expected[: len(TEXTS)])
    np.testing.assert_allclose(
        SiglipTextTower(model, load_safetensors(model.weights))(TEXTS + ODD), expected, atol=1e-5
    )


@needs_torch
@pytest.mark.parametrize("kind", SIGLIP_KINDS)
def test_images_are_embedded_as_timm_does_it(kind: str, tiny_siglip: Tiny) -> None:
    model = tiny_siglip(kind)
    assert SiglipImageTower.serves(model)
    pixels = some_pixels(model)
    expected = their_images(model, their_towers(model)[1], pixels)
    assert_they_differ(expected)
    np.testing.assert_allclose(SiglipImageTower(model, load_safetensors(model.weights))(pixels), expected, atol=1e-5)


@needs_torch
@pytest.mark.parametrize("kind", SIGLIP_KINDS)
def test_a_part_is_what_timm_pools_of_its_patch_alone(kind: str, tiny_siglip: Tiny) -> None:
    import torch

    model = tiny_siglip(kind)
    (pixels,) = some_pixels(model, 1)
    trunk = their_towers(model)[1]
    with torch.inference_mode():
        seen = trunk.forward_features(torch.from_numpy(normalise(pixels[None], model.preprocess)).permute(0, 3, 1, 2))
        expected = unit_rows(trunk.attn_pool(seen[0][:, None]).numpy())
    parts = SiglipImageTower(model, load_safetensors(model.weights)).parts(pixels)
    assert_they_differ(expected)
    np.testing.assert_allclose(parts.embeddings.reshape(len(expected), -1), expected, atol=1e-5)


@needs_torch
@pytest.mark.parametrize("kind", SIGLIP_KINDS)
def test_both_encoders_do_without_open_clip(kind: str, tiny_siglip: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_clip.create_model", lambda *_, **__: pytest.fail("open_clip was asked"))
    model = tiny_siglip(kind)
    cold, batches = cold_encoder(model, texts=True, images=True), GraphEncoder(NumpyEncoder(model))
    assert isinstance(cold, NumpyEncoder)
    np.testing.assert_allclose(batches.encode_texts(TEXTS), cold.encode_texts(TEXTS))
    pixels = some_pixels(model)
    np.testing.assert_allclose(batches.encode_images(pixels), cold.encode_images(pixels), atol=1e-5)
    assert batches.logit_scale == cold.logit_scale == pytest.approx(np.exp(4.7), rel=1e-3)


def test_int8_is_near(tiny_siglip: Tiny) -> None:
    model = tiny_siglip("siglip2")
    pixels = some_pixels(model)
    rows = GraphEncoder(NumpyEncoder(model), Engine("onnxruntime", "int8")).encode_images(pixels)
    exact = GraphEncoder(NumpyEncoder(model)).encode_images(pixels)
    assert cosines(rows, exact).min() > 0.999
    assert not np.array_equal(rows, exact)


@needs_torch
def test_the_shapes_are_those_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    import torch

    monkeypatch.undo()
    found = {name: siglip._NETWORK.fullmatch(name) for name in timm.list_models("vit_*_siglip_*")}
    names = {name: match for name, match in found.items() if match}
    assert len(names) == 16
    for name, match in names.items():
        with torch.device("meta"):
            net: Any = timm.create_model(name, num_classes=0, weight_init="skip")
        block, pool = net.blocks[0], net.attn_pool
        shape = net.embed_dim, block.mlp.fc1.out_features, len(net.blocks), block.attn.num_heads
        assert shape == siglip._SIZES[match[1]], name
        assert (pool.mlp.fc1.out_features, pool.num_heads) == (shape[1], shape[3]), name
        assert ["Tanh" in repr(part.mlp.act) for part in (block, pool)] == [name in siglip._TANH_GELU] * 2, name
        assert {block.norm1.eps, net.norm.eps, pool.norm.eps} == {siglip.EPSILON}
        assert net.patch_embed.patch_size[0] == int(match[2])


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ViT-B-32-SigLIP2-256", "ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP"])
def test_the_true_shapes_are_equal(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    import safetensors.torch
    import torch

    monkeypatch.undo()
    kind = "siglip2" if "SigLIP2" in architecture else "siglip"
    small = save_siglip(tmp_path, kind)
    config = builtin_config(architecture)
    config["text_cfg"] |= {key: small.config["text_cfg"][key] for key in ("vocab_size", "hf_tokenizer_name")}
    torch.manual_seed(0)
    net = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    safetensors.torch.save_file(net.state_dict(), small.weights)
    preprocess = {"mean": 0.5, "std": 0.5, "resize_mode": "squash"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    model = from_folder(tmp_path, f"local-dir:{tmp_path}")
    pixels = some_pixels(model, 2)
    expected = their_texts(model, net.text, TEXTS), their_images(model, net.visual, pixels)
    for encoder in (NumpyEncoder(model), GraphEncoder(NumpyEncoder(model))):
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected[0], atol=1e-5)
        np.testing.assert_allclose(encoder.encode_images(pixels), expected[1], atol=1e-5)


def test_all_of_open_clip_are_served(tiny_siglip: Tiny) -> None:
    model = tiny_siglip("siglip2")
    names = [name for name in _table()["configs"] if "-SigLIP" in name]
    assert len(names) == 26
    for name in names:
        other = replace(model, architecture=name, config=builtin_config(name))
        assert SiglipTextTower.serves(other), name
        assert SiglipImageTower.serves(other), name
    for name in ("nllb-clip-base-siglip", "ViT-B-32", "ViT-H-14-CLIPA", "xlm-roberta-base-ViT-B-32"):
        assert not SiglipTextTower.serves(replace(model, config=builtin_config(name)))


def test_only_networks_that_it_knows_are_served(tiny_siglip: Tiny) -> None:
    model = tiny_siglip("siglip2")

    def serves(part: str, **changes: Any) -> bool:
        tower = SiglipTextTower if part == "text_cfg" else SiglipImageTower
        return tower.serves(replace(model, config=model.config | {part: model.config[part] | changes}))

    assert serves("text_cfg")
    assert serves("vision_cfg")
    assert not serves("text_cfg", no_causal_mask=False)
    assert not serves("text_cfg", pool_type="argmax")
    assert not serves("text_cfg", proj_bias=False)
    assert not serves("text_cfg", proj_type="mlp", proj_bias=None)
    assert serves("text_cfg", proj_type="none", proj_bias=None)
    assert not serves("text_cfg", norm_kwargs={"eps": 1e-5})
    assert not serves("text_cfg", act_kwargs={"approximate": "none"})
    assert not serves("text_cfg", tokenizer_kwargs={"clean": "lower"})
    assert not serves("text_cfg", a_key_of_tomorrow=1)
    assert not serves("vision_cfg", timm_pool="avg")
    assert not serves("vision_cfg", timm_proj="linear")
    assert not serves("vision_cfg", timm_model_name="vit_base_patch16_siglip_gap_224")
    assert not serves("vision_cfg", a_key_of_tomorrow=1)
    assert not SiglipTextTower.serves(replace(model, text=None))
    assert not SiglipTextTower.serves(replace(model, weights=Path("weights.pt")))


def test_what_fills_up_may_be_described_at_length(tiny_siglip: Tiny, tmp_path: Path) -> None:
    model = tiny_siglip("siglip")
    assert model.text is not None
    assert model.text.config == {"pad_token_id": 1}
    described = tmp_path / "tokenizer_config.json"
    for token, expected in (({"content": "<unk>"}, {"pad_token_id": 2}), ("<pad>", {"pad_token_id": 0})):
        described.write_text(json.dumps({"pad_token": token}))
        files = text_files(model.config, described, model.text.tokenizer)
        assert files is not None
        assert files.config == expected
    described.write_text(json.dumps({"pad_token": "nothing"}))
    assert text_files(model.config, described, model.text.tokenizer) is None


@pytest.mark.parametrize("changes", [{"layers": 2}, {"layers": 4}, {"width": 32}, {"vocab_size": 9}])
def test_texts_are_refused_when_the_weights_do_not_fit(changes: dict[str, int], tiny_siglip: Tiny) -> None:
    model = tiny_siglip("siglip2")
    other = replace(model, config=model.config | {"text_cfg": model.config["text_cfg"] | changes})
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        SiglipTextTower(other, load_safetensors(model.weights))


@pytest.mark.parametrize("size", [(32, 96, 2, 4), (48, 64, 2, 4), (48, 96, 1, 4), (48, 96, 3, 4)])
def test_images_are_refused_when_the_weights_do_not_fit(
    size: tuple[int, ...], tiny_siglip: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_siglip("siglip2")
    monkeypatch.setitem(siglip._SIZES, "base", size)
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        SiglipImageTower(model, load_safetensors(model.weights))
    monkeypatch.setitem(siglip._SIZES, "base", SMALL_VISION)
    larger = replace(model, preprocess=replace(model.preprocess, size=(128, 128)))
    with pytest.raises(WeightsUnusable, match="does not fit the architecture"):
        SiglipImageTower(larger, load_safetensors(model.weights))
