from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_torch
from tiny_models import save_hf, save_tiny

from clipsearch.errors import ModelMismatch, ModelUnknown, WeightsChanged, WeightsUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import model as models
from clipsearch.models.model import DEFAULT, Model, canonical_name, from_folder, make, mini, refers_to, split_name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"some weights")
    return path


def described(weights: Path, preprocess: dict[str, Any] | None = None, **vision: Any) -> Model:
    config = {"embed_dim": 8, "vision_cfg": {"width": 64} | vision, "text_cfg": {"width": 32}}
    return make("a name", "ViT-X", config, preprocess or {}, weights)


# ------------------------------------------------------------------------------------------ the record


@pytest.mark.parametrize(
    ("name", "recorded", "same"),
    [
        ("ViT-B-32", DEFAULT, True),
        ("ViT-B-32", "ViT-B-32/openai", False),
        ("RN50", "RN50/openai", True),
        ("RN50/cc12m", "RN50/openai", False),
        ("mini", "mini", True),
        ("local-dir:/a/b", "local-dir:/a/b", True),
    ],
)
def test_a_name_may_leave_out_what_is_clear(weights: Path, name: str, recorded: str, same: bool) -> None:
    model = make(recorded, "X", {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}, {}, weights)
    assert refers_to(name, model) is same


def test_a_record_gives_the_model_back(weights: Path) -> None:
    model = described(weights, {"mean": [0, 0.5, 1], "interpolation": "bilinear"}, image_size=[24, 40])
    assert Model.from_json(model.to_json()) == model
    assert Model.from_json(model.to_json()).fingerprint == model.fingerprint


def test_a_record_keeps_what_a_text_encoder_has_beside_its_weights(tmp_path: Path) -> None:
    model = save_hf(tmp_path, "minilm")
    assert model.text is not None
    assert Model.from_json(model.to_json()) == model
    assert models.current_model(model.to_json()) == model
    other = tmp_path / "other.json"
    other.write_text(model.text.tokenizer.read_text() + " ")
    changes = [
        replace(model, text=None),
        replace(model, text=replace(model.text, config=model.text.config | {"layer_norm_eps": 1.0})),
        replace(model, text=models._hashed(model.text.config, other)),
    ]
    assert len({model.fingerprint, *(change.fingerprint for change in changes)}) == 4
    moved = replace(model, text=replace(model.text, tokenizer=tmp_path / "moved.json"))
    assert moved.fingerprint == model.fingerprint


def test_a_tokenizer_is_checked_against_the_record(tmp_path: Path) -> None:
    model = save_hf(tmp_path, "minilm")
    model.check_weights()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsChanged, match=r"tokenizer\.json has changed since the index was built"):
        model.check_weights()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsChanged, match=r"are missing: .*tokenizer\.json"):
        model.check_weights()


@pytest.mark.parametrize("content", [None, "not json", "[]", "{}", '{"model_type": "clip"}', '{"model_type": []}'])
def test_a_folder_without_a_text_encoder_that_is_known_has_no_files_of_one(content: str | None, tmp_path: Path) -> None:
    save_hf(tmp_path, "minilm")
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert from_folder(tmp_path, "x").text is None


def test_tokens_that_open_clip_would_change_are_left_to_it(tmp_path: Path) -> None:
    assert save_hf(tmp_path / "a", "minilm", tokenizer_kwargs={"clean": "canonicalize"}).text is None
    assert save_hf(tmp_path / "b", "minilm", tokenizer_mode="clips").text is None


def test_a_record_is_read_when_the_weights_are_gone(weights: Path) -> None:
    model = described(weights)
    weights.unlink()
    read = Model.from_json(model.to_json())
    assert read == model
    with pytest.raises(WeightsChanged, match=r"a name are missing: .*weights\.safetensors"):
        read.check_weights()


def test_weights_are_checked_against_the_record(weights: Path) -> None:
    model = described(weights)
    model.check_weights()
    weights.write_bytes(b"other weights")
    with pytest.raises(WeightsChanged, match="has changed since the index was built"):
        model.check_weights()


def test_the_fingerprint_depends_on_all_that_shapes_an_embedding(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = described(weights)
    how = model.preprocess
    others = [
        replace(model, sha256="0" * 64),
        replace(model, config=model.config | {"embed_dim": 9}),
        replace(model, config=model.config | {"quick_gelu": True}),
        replace(model, config=model.config | {"text_cfg": {"width": 33}}),
        replace(model, preprocess=replace(how, size=(224, 225))),
        replace(model, preprocess=replace(how, mean=(0, 0, 0))),
        replace(model, preprocess=replace(how, std=(1, 1, 1))),
        replace(model, preprocess=replace(how, interpolation="bilinear")),
        replace(model, preprocess=replace(how, resize_mode="squash")),
        replace(model, preprocess=replace(how, fill_color=1)),
    ]
    prints = [model.fingerprint, *(other.fingerprint for other in others)]
    monkeypatch.setattr(models, "PREPROCESSING_VERSION", models.PREPROCESSING_VERSION + 1)
    prints.append(model.fingerprint)
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_does_not_depend_on_names_and_places(weights: Path) -> None:
    model = described(weights)
    elsewhere = replace(model, name="another", architecture="ViT-Y", weights=weights.with_name("moved"))
    assert elsewhere.fingerprint == model.fingerprint


def test_a_record_of_another_preprocessing_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = described(weights).to_json()
    monkeypatch.setattr(models, "PREPROCESSING_VERSION", models.PREPROCESSING_VERSION + 1)
    with pytest.raises(ModelMismatch, match="built by a version of clipsearch that preprocessed images differently"):
        Model.from_json(record)


def test_mini_is_found_again_where_the_package_is_now(tmp_path: Path) -> None:
    record = json.loads(mini().to_json())
    record |= {"architecture": "local-dir:/an/older/place", "weights": "/an/older/place/open_clip_model.safetensors"}
    model = Model.from_json(json.dumps(record))
    assert model == mini()
    model.check_weights()


def test_a_record_as_it_is_now_has_the_weights_of_today(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = described(weights, {"resize_mode": "squash"})
    record = model.to_json()
    weights.write_bytes(b"other weights")
    monkeypatch.setattr(models, "PREPROCESSING_VERSION", models.PREPROCESSING_VERSION + 1)
    now = models.current_model(record)
    assert now == replace(model, sha256=now.sha256)
    assert now.sha256 != model.sha256
    now.check_weights()
    assert models.current_model(mini().to_json()) == mini()


# ------------------------------------------------------------------------------------------ making a model


@needs_torch
def test_what_a_configuration_leaves_out_gets_open_clips_default(weights: Path) -> None:
    import open_clip
    from open_clip.transform import PreprocessCfg

    model, default = described(weights, {"interpolation": None, "mean": None}), PreprocessCfg()
    assert (default.mean, default.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert model.preprocess == Preprocess(
        (224, 224), default.mean, default.std, default.interpolation, default.resize_mode, default.fill_color
    )
    assert model.dim == 8


@pytest.mark.parametrize(("image_size", "size"), [(32, (32, 32)), ([24, 40], (24, 40)), ((24, 40), (24, 40))])
def test_an_image_size_is_one_number_or_height_and_width(image_size: Any, size: tuple[int, int], weights: Path) -> None:
    assert described(weights, image_size=image_size).preprocess.size == size


def test_weights_that_are_not_there_make_no_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable, match=r"none\.pt cannot be read: no such file"):
        described(tmp_path / "none.pt")


def test_names_are_split_into_architecture_and_tag() -> None:
    assert split_name("ViT-B-32/openai") == ("ViT-B-32", "openai")
    assert split_name("ViT-B-32") == ("ViT-B-32", None)
    assert split_name("ViT-B-32/") == ("ViT-B-32", None)
    assert canonical_name("ViT-B-32") == canonical_name("default") == DEFAULT
    assert canonical_name("ViT-B-32/openai") == "ViT-B-32/openai"


@pytest.mark.parametrize(
    "content",
    [None, "not json", "[]", "{}", '{"model_cfg": {}}', '{"model_cfg": []}', '{"model_cfg": {"embed_dim": 8}}'],
)
def test_a_folder_that_describes_no_model_is_unknown(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelUnknown, match=r"has no valid open_clip_config\.json"):
        from_folder(tmp_path, "x")


def test_a_folder_may_leave_the_preprocessing_out(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    path = tmp_path / "open_clip_config.json"
    before = from_folder(tmp_path, "x")
    for preprocess in ({}, {"preprocess_cfg": None}):
        path.write_text(json.dumps({"model_cfg": json.loads(path.read_text())["model_cfg"]} | preprocess))
        assert from_folder(tmp_path, "x") == before


def test_a_folder_without_weights_is_unusable(tmp_path: Path) -> None:
    save_tiny(tmp_path).weights.unlink()
    with pytest.raises(WeightsUnusable, match="has no weights"):
        from_folder(tmp_path, "x")


@needs_torch
@pytest.mark.parametrize(
    "names",
    [
        ["open_clip_model.safetensors", "a.safetensors", "open_clip_pytorch_model.bin"],
        ["open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"],
        ["open_clip_pytorch_model.bin", "model.safetensors"],
        ["model.safetensors", "a.safetensors"],
        ["b.safetensors", "a.safetensors"],
    ],
)
def test_of_several_weights_those_are_meant_that_open_clip_would_load(names: list[str], tmp_path: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir

    save_tiny(tmp_path).weights.rename(tmp_path / "kept")
    for name in names:
        shutil.copy(tmp_path / "kept", tmp_path / name)
    assert str(from_folder(tmp_path, "x").weights) == _find_checkpoint_in_dir(tmp_path)
