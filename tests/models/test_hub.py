"""Resolving the name of a model to its files."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.errors
import numpy as np
import pytest
from conftest import needs_torch
from tiny_models import save_hf, save_siglip, save_tiny

import clipsearch
from clipsearch.errors import BadArgument, BadRequest, DownloadFailed, ModelUnknown, WeightsUnusable
from clipsearch.models import hub
from clipsearch.models.bert import BertTower
from clipsearch.models.encoders import with_weights
from clipsearch.models.hub import available, resolve
from clipsearch.models.model import DEFAULT, RECOMMENDED, Model, canonical_name
from clipsearch.models.siglip import SiglipImageTower, SiglipTextTower
from clipsearch.models.weights import load_safetensors


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"some weights")
    return path


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library reads its variables when it is imported, which may have been before the tests set them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


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
    with pytest.raises(BadArgument, match="weights can be combined with the name of an architecture"):
        resolve("local-dir:tiny", model.weights)


def test_an_unknown_architecture_is_unknown() -> None:
    for name in ("ViT-Z-99", "ViT-Z-99/openai", "../x"):
        with pytest.raises(ModelUnknown, match="unknown model "):
            resolve(name)


def test_an_unknown_tag_lists_the_tags() -> None:
    with pytest.raises(ModelUnknown, match=r"ViT-B-32 has no weights 'nonsense'; choose from .*laion2b_s34b_b79k"):
        resolve("ViT-B-32/nonsense")


def test_of_several_tags_one_must_be_chosen() -> None:
    with pytest.raises(ModelUnknown, match=r"ViT-L-14 needs a tag, ViT-L-14/TAG; choose from openai, "):
        resolve("ViT-L-14")


def test_an_architecture_without_tags_asks_for_a_file() -> None:
    with pytest.raises(ModelUnknown, match="ViT-S-32 has no weights to download"):
        resolve("ViT-S-32")


def test_a_weights_file_that_is_not_there_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable, match="there is no weights file"):
        resolve("ViT-B-32", tmp_path / "none.safetensors")


def test_a_weights_file_takes_the_place_of_the_download(weights: Path) -> None:
    model = resolve("ViT-B-32", weights)
    assert (model.weights, model.architecture) == (weights, "ViT-B-32")
    assert str(weights) in model.name
    assert "quick_gelu" not in model.config


def test_the_tag_of_a_weights_file_says_how_images_are_prepared(weights: Path, tmp_path: Path) -> None:
    assert resolve("ViT-B-32/openai", weights).config["quick_gelu"] is True
    with pytest.raises(BadArgument, match=r"model must include a tag, ViT-L-14/TAG, to choose the preprocessing"):
        resolve("ViT-L-14", weights)
    cached(tmp_path / "hub", "timm/ViT-B-16-SigLIP", *siglip_files(tmp_path, "siglip"))
    inception = resolve("ViT-B-16-SigLIP/webli", weights)
    assert resolve("ViT-B-16-SigLIP", weights).preprocess == inception.preprocess  # all its tags agree
    assert (inception.preprocess.mean, inception.preprocess.resize_mode) == ((0.5, 0.5, 0.5), "squash")
    assert inception.text is not None
    assert inception.text.padding == 1


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32/openai", "hf-hub:nobody/nothing"])
def test_weights_that_cannot_be_fetched_are_a_failed_download(name: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(DownloadFailed, match="is not cached, and HF_HUB_OFFLINE is set"):
        resolve(name)


def test_the_models_that_there_are_say_whether_they_are_here() -> None:
    found = available()
    assert DEFAULT in found
    assert found[DEFAULT] is None
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
        resolve(DEFAULT)
    assert [url.rpartition("/")[2] for url in online] == ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def test_without_a_network_it_is_tried_once(online: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def metadata(url: str) -> None:
        online.append(url)
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    with pytest.raises(DownloadFailed, match=r"could not be downloaded: Name or service not known$"):
        resolve(DEFAULT)
    assert len(online) == 1


def cached(hub: Path, repository: str, *files: Path) -> None:
    """Put files into the hub's cache, as a download would."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / "snapshots" / "abc")


def test_weights_in_the_local_cache_are_used_without_asking(online: list[str], tmp_path: Path) -> None:
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"weights")
    cached(tmp_path / "hub", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", weights)
    model = resolve("ViT-B-32")
    assert (model.name, model.weights.read_bytes(), online) == (DEFAULT, b"weights", [])
    assert (model.dim, model.preprocess.size) == (512, (224, 224))


# ------------------------------------------------------------------------------------------ SigLIP

SIGLIP2 = "ViT-B-32-SigLIP2-256"


def siglip_files(folder: Path, kind: str = "siglip2") -> tuple[Path, Path]:
    save_siglip(folder / kind, kind)
    return folder / kind / "tokenizer_config.json", folder / kind / "tokenizer.json"


@pytest.mark.parametrize(("short", "architecture"), [("siglip2", SIGLIP2), ("accurate", "ViT-B-16-SigLIP2-256")])
def test_the_tokenizer_of_siglip_comes_with_its_weights(
    short: str, architecture: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without_transformers(importlib.util.find_spec))
    hub, repository = tmp_path / "hub", f"timm/{architecture}"
    described, tokenizer = siglip_files(tmp_path)
    with pytest.raises(DownloadFailed, match=rf"tokenizer_config\.json of {repository} on the .* is not cached"):
        resolve(short)
    cached(hub, repository, described)
    with pytest.raises(DownloadFailed, match=r"tokenizer\.json of timm/.* is not cached"):
        resolve(short)
    cached(hub, repository, tokenizer)
    with pytest.raises(DownloadFailed, match=r"open_clip_model\.safetensors of timm/.* is not cached"):
        resolve(short)
    cached(hub, repository, weights.rename(tmp_path / "open_clip_model.safetensors"))
    model = resolve(short)
    assert (model.name, model.dim, model.preprocess.size) == (f"{architecture}/webli", 768, (256, 256))
    assert model.text is not None
    assert (model.text.padding, model.text.tokenizer.name) == (0, "tokenizer.json")
    assert SiglipTextTower.serves(model)
    assert SiglipImageTower.serves(model)
    assert resolve(f"{architecture}/webli") == resolve(architecture) == model


@needs_torch
def test_a_tokenizer_that_is_damaged_needs_transformers(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, tokenizer = siglip_files(tmp_path)
    whole = tokenizer.read_text()
    tokenizer.write_text(whole[:1000])
    cached(tmp_path / "hub", f"timm/{SIGLIP2}", described, tokenizer)
    assert resolve(SIGLIP2, weights).text is None
    monkeypatch.setattr(importlib.util, "find_spec", without_transformers(importlib.util.find_spec))
    with pytest.raises(ModelUnknown, match="needs the transformers library, which is not installed"):
        resolve(SIGLIP2, weights)
    tokenizer.write_text(whole)
    described.write_text(described.read_text().replace('"right"', '"left"'))
    cached(tmp_path / "hub", f"timm/{SIGLIP2}", described, tokenizer)
    with pytest.raises(ModelUnknown, match="needs the transformers library, which is not installed"):
        resolve(SIGLIP2, weights)


def test_a_repository_of_siglip_is_a_model(tmp_path: Path) -> None:
    small = save_siglip(tmp_path / "small")
    folder = small.weights.parent
    cached(tmp_path / "hub", "nobody/small", folder / "open_clip_config.json", small.weights)
    with pytest.raises(DownloadFailed, match=r"tokenizer_config\.json of nobody/small .* is not cached"):
        resolve("hf-hub:nobody/small")
    cached(tmp_path / "hub", "nobody/small", folder / "tokenizer_config.json", folder / "tokenizer.json")
    assert resolve("hf-hub:nobody/small").fingerprint == small.fingerprint


def test_a_short_name_is_that_of_a_modelwith_weights() -> None:
    for model in RECOMMENDED:
        assert canonical_name(model.short) == model.name
        assert model.name in available()


# ------------------------------------------------------------------------------------------ text encoders

MULTILINGUAL = "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
PICKLED = "open_clip_pytorch_model.bin"
ITS_WEIGHTS = "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k"


@pytest.fixture
def small(tmp_path: Path) -> Model:
    return save_hf(tmp_path / "small", "xlm-roberta")


def test_the_files_of_a_text_encoder_come_from_a_repository_of_their_own(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without_transformers(importlib.util.find_spec))
    folder, hub = small.weights.parent, tmp_path / "hub"
    with pytest.raises(DownloadFailed, match=r"config\.json of xlm-roberta-base on the .* is not cached"):
        resolve(MULTILINGUAL)
    cached(hub, "xlm-roberta-base", folder / "config.json")
    with pytest.raises(DownloadFailed, match=r"tokenizer\.json of xlm-roberta-base on the .* is not cached"):
        resolve(MULTILINGUAL)
    cached(hub, "xlm-roberta-base", folder / "tokenizer.json")
    with pytest.raises(DownloadFailed, match=r"open_clip_model\.safetensors of laion/.* is not cached"):
        resolve(MULTILINGUAL)
    cached(hub, ITS_WEIGHTS, small.weights)
    model = resolve(MULTILINGUAL)
    assert model.text is not None
    assert small.text is not None
    assert (model.text.config, model.text.sha256) == (small.text.config, small.text.sha256)
    assert BertTower.serves(model)
    assert resolve(MULTILINGUAL.partition("/")[0], small.weights).text == model.text


def without_transformers(find: Any) -> Any:
    return lambda name: None if name == "transformers" else find(name)


@pytest.fixture
def multilingual(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub without safetensors, and no transformers. The folder of the files that it has been given."""
    folder = small.weights.parent
    cached(tmp_path / "hub", "xlm-roberta-base", folder / "config.json", folder / "tokenizer.json")
    monkeypatch.setattr(importlib.util, "find_spec", without_transformers(importlib.util.find_spec))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@needs_torch
def test_pickled_weights_are_written_anew_to_be_mapped(multilingual: Path, small: Model, tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    tensors = safetensors.torch.load_file(small.weights)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, multilingual / PICKLED)
    cached(tmp_path / "hub", ITS_WEIGHTS, multilingual / PICKLED)
    model = resolve("multilingual")
    assert (model.name, model.weights.suffix) == (MULTILINGUAL, ".safetensors")
    assert model.weights.parent == tmp_path / "cache" / "clipsearch" / "weights"
    written = load_safetensors(model.weights)
    assert written.keys() == tensors.keys()
    assert all(np.array_equal(written[name], tensors[name].numpy()) for name in tensors)
    assert BertTower.serves(model)
    made = model.weights.stat().st_mtime_ns
    assert resolve(MULTILINGUAL) == model
    assert model.weights.stat().st_mtime_ns == made
    model.weights.unlink()
    assert with_weights(model) == model  # the cache may be deleted at any time
    assert model.weights.is_file()


@needs_torch
@pytest.mark.parametrize("harm", ["damaged", "something else than tensors", "no cache"])
def test_pickled_weights_that_cannot_be_written_anew_need_transformers(
    harm: str, multilingual: Path, small: Model, tmp_path: Path
) -> None:
    import safetensors.torch
    import torch

    torch.save(safetensors.torch.load_file(small.weights), multilingual / PICKLED)
    if harm == "damaged":
        (multilingual / PICKLED).write_bytes((multilingual / PICKLED).read_bytes()[:5000])
    elif harm == "no cache":
        (tmp_path / "cache").write_text("")
    else:
        torch.save({"path": Path()}, multilingual / PICKLED)
    cached(tmp_path / "hub", ITS_WEIGHTS, multilingual / PICKLED)
    with pytest.raises(ModelUnknown, match="needs the transformers library, which is not installed"):
        resolve(MULTILINGUAL)
    assert not list((tmp_path / "cache").rglob("*.safetensors*"))


@needs_torch
def test_of_another_text_encoder_no_tokenizer_is_fetched(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    cached(tmp_path / "hub", "google/mt5-base", tmp_path / "config.json")
    assert resolve("mt5-base-ViT-B-32", weights).text is None


def test_a_repository_brings_its_text_encoder_along(small: Model, tmp_path: Path) -> None:
    names = ("open_clip_config.json", "config.json", "tokenizer.json", "open_clip_model.safetensors")
    cached(tmp_path / "hub", "nobody/small", *(small.weights.parent / name for name in names[:3]))
    with pytest.raises(DownloadFailed, match="is not cached"):
        resolve("hf-hub:nobody/small")
    cached(tmp_path / "hub", "nobody/small", small.weights)
    model = resolve("hf-hub:nobody/small")
    assert (model.name, model.fingerprint) == ("hf-hub:nobody/small", small.fingerprint)


@needs_torch
def test_a_repository_may_lack_a_text_encoder(small: Model, tmp_path: Path, online: list[str]) -> None:
    cached(tmp_path / "hub", "nobody/small", small.weights.parent / "open_clip_config.json", small.weights)
    assert resolve("hf-hub:nobody/small").text is None
    assert [url.rpartition("/")[2] for url in online] == ["config.json", "tokenizer.json"]


def test_files_that_the_cache_has_lost_are_looked_up_again(small: Model, tmp_path: Path) -> None:
    folder, hub = small.weights.parent, tmp_path / "hub"
    for repository in ("xlm-roberta-base", ITS_WEIGHTS):
        cached(hub, repository, folder / "config.json", folder / "tokenizer.json", small.weights)
    model = resolve(MULTILINGUAL)
    assert model.text is not None
    fetched = replace(model.text, tokenizer=tmp_path / "gone.json")
    encoder = with_weights(replace(model, text=fetched))
    assert encoder.text == model.text


@pytest.mark.parametrize("name", ["RN50/openai", "coca_ViT-B-32/laion2b_s13b_b90k"])
def test_a_model_that_needs_torch_is_not_downloaded_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "is_installed", lambda extra: extra != "torch")
    monkeypatch.setattr(hub, "from_hub", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(BadRequest, match=rf"^The model {name} needs torch, .* run: pip install '\.\[torch\]'$"):
        resolve(name)
