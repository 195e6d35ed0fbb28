from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tiny_models import save_tiny

import clipsearch
from clipsearch.errors import BadRequest, DownloadFailed, ModelMismatch, ModelUnknown, WeightsUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import hub
from clipsearch.models import model as models
from clipsearch.models.hub import available, resolve
from clipsearch.models.model import Model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"some weights")
    return path


def described(weights: Path, preprocess: dict[str, Any] | None = None, **vision: Any) -> Model:
    config = {"embed_dim": 8, "vision_cfg": {"width": 64} | vision, "text_cfg": {"width": 32}}
    return models.make("a name", "ViT-X", config, preprocess or {}, weights)


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library reads its variables when it is imported, which may have been before the tests set them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


# ------------------------------------------------------------------------------------------ the record


@pytest.mark.parametrize(
    ("name", "recorded", "same"),
    [
        ("ViT-B-32", models.DEFAULT, True),
        ("ViT-B-32", "ViT-B-32/openai", False),
        ("RN50", "RN50/openai", True),
        ("RN50/cc12m", "RN50/openai", False),
        ("mini", "mini", True),
        ("local-dir:/a/b", "local-dir:/a/b", True),
    ],
)
def test_a_name_may_leave_out_what_is_clear(weights: Path, name: str, recorded: str, same: bool) -> None:
    model = models.make(recorded, "X", {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}, {}, weights)
    assert models.means(name, model) is same


def test_a_record_gives_the_model_back(weights: Path) -> None:
    model = described(weights, {"mean": [0, 0.5, 1], "interpolation": "bilinear"}, image_size=[24, 40])
    assert Model.from_json(model.to_json()) == model
    assert Model.from_json(model.to_json()).fingerprint == model.fingerprint


def test_a_record_is_read_when_the_weights_are_gone(weights: Path) -> None:
    model = described(weights)
    weights.unlink()
    read = Model.from_json(model.to_json())
    assert read == model
    with pytest.raises(WeightsUnusable, match=r"a name are not at .*weights\.safetensors any more"):
        read.check_weights()


def test_weights_are_checked_against_the_record(weights: Path) -> None:
    model = described(weights)
    model.check_weights()
    weights.write_bytes(b"other weights")
    with pytest.raises(WeightsUnusable, match="is not the file that the index was made with"):
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
    with pytest.raises(ModelMismatch, match="clipsearch index --rebuild"):
        Model.from_json(record)


def test_mini_is_found_again_where_the_package_is_now(tmp_path: Path) -> None:
    record = json.loads(models.mini().to_json())
    record |= {"architecture": "local-dir:/an/older/place", "weights": "/an/older/place/open_clip_model.safetensors"}
    model = Model.from_json(json.dumps(record))
    assert model == models.mini()
    model.check_weights()


def test_a_record_as_it_is_now_has_the_weights_of_today(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = described(weights, {"resize_mode": "squash"})
    record = model.to_json()
    weights.write_bytes(b"other weights")
    monkeypatch.setattr(models, "PREPROCESSING_VERSION", models.PREPROCESSING_VERSION + 1)
    now = models.as_it_is_now(record)
    assert now == replace(model, sha256=now.sha256)
    assert now.sha256 != model.sha256
    now.check_weights()
    assert models.as_it_is_now(models.mini().to_json()) == models.mini()


# ------------------------------------------------------------------------------------------ making a model


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
    with pytest.raises(WeightsUnusable, match=r"none\.pt cannot be read: No such file"):
        described(tmp_path / "none.pt")


def test_the_tables_of_weights_are_open_clips() -> None:
    import open_clip

    assert sorted(available()) == sorted("/".join(pair) for pair in open_clip.list_pretrained())
    assert hub._tables().get_pretrained_cfg("ViT-B-32", "openai") == open_clip.get_pretrained_cfg("ViT-B-32", "openai")


def test_a_builtin_architecture_has_open_clips_configuration() -> None:
    import open_clip

    assert models.builtin_config("ViT-B-32") == open_clip.get_model_config("ViT-B-32")
    assert models.builtin_architectures() == sorted(open_clip.list_models())


@pytest.mark.parametrize(
    "name",
    [
        "ViT-Z-99",
        "",
        ".",
        "..",
        "../x",
        "../model_configs/ViT-B-32",
        "/etc/passwd",
        "x/../ViT-B-32",
        "ViT-B-32\0",
        pytest.param("x" * 5000, id="too long for a file"),
    ],
)
def test_a_name_that_is_no_architecture_is_unknown(name: str) -> None:
    with pytest.raises(ModelUnknown, match="no model is called"):
        models.builtin_config(name)


def test_names_are_split_into_architecture_and_tag() -> None:
    assert models.split_name("ViT-B-32/openai") == ("ViT-B-32", "openai")
    assert models.split_name("ViT-B-32") == ("ViT-B-32", None)
    assert models.split_name("ViT-B-32/") == ("ViT-B-32", None)
    assert models.canonical_name("ViT-B-32") == models.canonical_name("default") == models.DEFAULT
    assert models.canonical_name("ViT-B-32/openai") == "ViT-B-32/openai"


@pytest.mark.parametrize(
    "content",
    [None, "not json", "[]", "{}", '{"model_cfg": {}}', '{"model_cfg": []}', '{"model_cfg": {"embed_dim": 8}}'],
)
def test_a_folder_that_describes_no_model_is_unknown(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelUnknown, match=r"has no open_clip_config\.json that describes a model"):
        models.from_folder(tmp_path, "x")


def test_a_folder_may_leave_the_preprocessing_out(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    path = tmp_path / "open_clip_config.json"
    before = models.from_folder(tmp_path, "x")
    for preprocess in ({}, {"preprocess_cfg": None}):
        path.write_text(json.dumps({"model_cfg": json.loads(path.read_text())["model_cfg"]} | preprocess))
        assert models.from_folder(tmp_path, "x") == before


def test_a_folder_without_weights_is_unusable(tmp_path: Path) -> None:
    save_tiny(tmp_path).weights.unlink()
    with pytest.raises(WeightsUnusable, match="has no weights"):
        models.from_folder(tmp_path, "x")


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
    assert str(models.from_folder(tmp_path, "x").weights) == _find_checkpoint_in_dir(tmp_path)


# ------------------------------------------------------------------------------------------ resolving a name


def test_mini_comes_with_the_package() -> None:
    model = resolve("mini")
    assert model.name == "mini"
    assert model.weights.parent == Path(clipsearch.__file__).parent / "mini"
    model.check_weights()


def test_a_local_folder_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    model = resolve("local-dir:tiny")
    assert model.name == model.architecture
    assert model.architecture == f"local-dir:{tmp_path / 'tiny'}"
    assert model.weights == tmp_path / "tiny" / "open_clip_model.safetensors"
    with pytest.raises(BadRequest, match="--weights goes with an architecture"):
        resolve("local-dir:tiny", model.weights)


def test_an_unknown_architecture_is_unknown() -> None:
    for name in ("ViT-Z-99", "ViT-Z-99/openai", "../x"):
        with pytest.raises(ModelUnknown, match="no model is called"):
            resolve(name)


def test_an_unknown_tag_lists_the_tags() -> None:
    with pytest.raises(ModelUnknown, match=r"ViT-B-32 has no weights called 'nonsense'; it has: .*laion2b_s34b_b79k"):
        resolve("ViT-B-32/nonsense")


def test_of_several_tags_one_must_be_chosen() -> None:
    with pytest.raises(ModelUnknown, match=r"say which weights of ViT-L-14, as ViT-L-14/TAG; it has: openai, "):
        resolve("ViT-L-14")


def test_an_architecture_without_tags_asks_for_a_file() -> None:
    with pytest.raises(ModelUnknown, match="it has none; give a file with --weights"):
        resolve("ViT-S-32")


def test_a_weights_file_that_is_not_there_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable, match="there is no weights file"):
        resolve("ViT-B-32", tmp_path / "none.safetensors")


def test_a_weights_file_takes_the_place_of_the_download(weights: Path) -> None:
    model = resolve("ViT-B-32", weights)
    assert (model.weights, model.architecture) == (weights, "ViT-B-32")
    assert str(weights) in model.name
    assert "quick_gelu" not in model.config


def test_the_tag_of_a_weights_file_says_how_images_are_prepared(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("ViT-B-32/openai", weights).config["quick_gelu"] is True
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    with pytest.raises(ModelUnknown, match="pip install transformers"):
        resolve("ViT-B-16-SigLIP/webli", weights)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name == "transformers" else find(name))
    inception = resolve("ViT-B-16-SigLIP/webli", weights)
    assert resolve("ViT-B-16-SigLIP", weights).preprocess == inception.preprocess  # all its tags agree
    with pytest.raises(BadRequest, match=r"several ways to prepare images for ViT-L-14; .* --model ViT-L-14/TAG"):
        resolve("ViT-L-14", weights)
    assert (inception.preprocess.mean, inception.preprocess.resize_mode) == ((0.5, 0.5, 0.5), "squash")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32/openai", "hf-hub:nobody/nothing"])
def test_weights_that_cannot_be_fetched_are_a_failed_download(name: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(DownloadFailed, match="is not on this machine, and HF_HUB_OFFLINE is set"):
        resolve(name)


def test_the_models_that_there_are_say_whether_they_are_here() -> None:
    found = available()
    assert models.DEFAULT in found
    assert found[models.DEFAULT] is None
    assert found.keys() >= {"ViT-B-32/openai", "RN50/openai"}


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that can be asked, and knows nothing: what it is asked for."""
    asked: list[str] = []

    def metadata(url: str) -> None:
        asked.append(url)
        raise huggingface_hub.errors.EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    return asked


def test_a_repository_without_safetensors_is_asked_for_the_other_file(online: list[str]) -> None:
    with pytest.raises(DownloadFailed, match=r"has no open_clip_model\.safetensors or open_clip_pytorch_model\.bin"):
        resolve(models.DEFAULT)
    assert [url.rpartition("/")[2] for url in online] == ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def test_without_a_network_it_is_tried_once_and_said_what_to_do(
    online: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def metadata(url: str) -> None:
        online.append(url)
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    with pytest.raises(DownloadFailed, match=r"Name or service not known; use --weights FILE, or --model mini"):
        resolve(models.DEFAULT)
    assert len(online) == 1


def test_weights_in_the_local_cache_are_used_without_asking(
    online: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    weights = repository / "snapshots" / "abc" / "open_clip_model.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = resolve("ViT-B-32")
    assert (model.name, model.weights, online) == (models.DEFAULT, weights, [])
    assert (model.dim, model.preprocess.size) == (512, (224, 224))
