"""From a model's name to its files: in the package, on this machine, or from the network."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipsearch.errors import BadArgument, DownloadFailed, ModelUnknown, WeightsUnusable, first_line
from clipsearch.models import pretrained
from clipsearch.models.bert import BertTower
from clipsearch.models.cache import sha256_of_file
from clipsearch.models.encoders import serves, write_safetensors
from clipsearch.models.model import (
    BERT_FAMILY,
    MINI,
    Model,
    TextFiles,
    canonical_name,
    described_in,
    from_folder,
    is_canonical,
    make,
    mini,
    split_name,
    text_file_names,
    text_files,
)
from clipsearch.models.recommended import spelt_out
from clipsearch.models.siglip import SiglipTextTower
from clipsearch.paths import cache_folder, private_folder, replacing

_WEIGHTS_ON_HUB = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def resolve(name: str, weights: Path | None = None) -> Model:
    """The model of a name, its files fetched if they are not on this machine yet.

    `weights` is a local file to use in place of what the name stands for; its tag, if it has one, then says how
    images are preprocessed. Raises `ModelUnknown`, `WeightsUnusable` or `DownloadFailed`.
    """
    schema, _, place = name.partition(":")
    if weights is not None:
        if not weights.is_file():
            raise WeightsUnusable(f"there is no weights file {weights}")
        if schema in ("local-dir", "hf-hub"):
            raise BadArgument("weights", f"goes with an architecture, not with {schema}:")
        return _readable(_with_file(spelt_out(name), weights.absolute()))
    name = canonical_name(name)
    if name == MINI:
        return mini()
    if schema == "local-dir":
        return _readable(from_folder(Path(name.partition(":")[2]), name))
    if schema == "hf-hub":
        return _readable(_mappable(_of_repository(place, name)))
    return _readable(_mappable(_builtin(name)))


def _builtin(name: str) -> Model:
    architecture, tag = split_name(name)
    config = pretrained.builtin_config(architecture)
    tag = tag or _only_tag(architecture)
    described = pretrained.weights_of(architecture, tag)
    text = _text_files(config)
    path = _from_hub(*_hub_files(described)) if described.get("hf_hub") else pretrained.download(described["url"])
    return _make(f"{architecture}/{tag}", architecture, config, described, path, text)


def _with_file(name: str, path: Path) -> Model:
    """An architecture with weights of the user's."""
    architecture, tag = split_name(name)
    config = pretrained.builtin_config(architecture)
    described = pretrained.weights_of(architecture, tag) if tag else _common_preprocessing(architecture)
    return _make(f"{name} with {path}", architecture, config, described, path, _text_files(config))


def _make(
    name: str,
    architecture: str,
    config: dict[str, Any],
    described: dict[str, Any],
    path: Path,
    text: TextFiles | None,
) -> Model:
    if described.get("quick_gelu"):  # OpenAI's weights, in a configuration that does not say so
        config["quick_gelu"] = True
    return make(name, architecture, config, described, path, text)


def _of_repository(repository: str, name: str) -> Model:
    described = _from_hub(repository, ["open_clip_config.json"])
    _from_hub(repository, _WEIGHTS_ON_HUB)
    for file in text_file_names(described_in(described.parent)[0]) or ():
        _if_on_hub(repository, [file])
    return from_folder(described.parent, name)


def _text_files(config: dict[str, Any]) -> TextFiles | None:
    """The files of a text encoder or a tokenizer that open_clip takes from a repository of its own."""
    text, names = config["text_cfg"], text_file_names(config)
    if names is None:
        return None
    described = _from_hub(text.get("hf_model_name") or text["hf_tokenizer_name"], [names[0]])
    known = is_canonical(text) or json.loads(described.read_text(encoding="utf-8")).get("model_type") in BERT_FAMILY
    return text_files(config, described, _from_hub(text["hf_tokenizer_name"], [names[1]])) if known else None


def _mappable(model: Model) -> Model:
    """The model with its weights in a file that can be mapped, if that spares its queries torch and transformers.

    Some repositories have pickled weights alone: they are written anew into the cache folder, once.
    """
    path = cache_folder() / "weights" / f"{model.sha256}.safetensors"
    mapped = replace(model, weights=path)
    if model.weights.suffix == ".safetensors" or not serves(mapped, texts=True, images=True):
        return model
    try:
        if not path.is_file():
            private_folder(path.parent)
            with replacing(path, private=True) as temporary:
                write_safetensors(model.weights, temporary)
        return replace(mapped, sha256=sha256_of_file(path))
    except (OSError, WeightsUnusable):
        return model  # open_clip may read them, or will say what is wrong


def _readable(model: Model) -> Model:
    """The model, if its texts can be read here. Raises `ModelUnknown`."""
    alone = model.reads_clip_tokens or BertTower.serves(model) or SiglipTextTower.serves(model)
    if not alone and importlib.util.find_spec("transformers") is None:
        raise ModelUnknown(f"{model.name} reads text with the transformers library, which is not installed")
    return model


def available() -> dict[str, str | None]:
    """Every `ARCH/TAG` of open_clip, with the path of its weights where they are on this machine."""
    found: dict[str, str | None] = {}
    for architecture, tag in pretrained.all_weights():
        described = pretrained.weights_of(architecture, tag)
        path = _in_hub_cache(*_hub_files(described)) if described.get("hf_hub") else None
        found[f"{architecture}/{tag}"] = str(path) if path else None
    return found


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """How the images of an architecture are prepared, if that is the same for all its weights."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    all_described = [pretrained.weights_of(architecture, tag) for tag in pretrained.tags(architecture)]
    ways = {json.dumps({key: described.get(key) for key in keys}) for described in all_described}
    if len(ways) > 1:
        raise BadArgument(
            "model",
            f"must say which weights the file is like, as {architecture}/TAG:"
            f" there are several ways to prepare images for {architecture}",
        )
    return json.loads(ways.pop()) if ways else {}


def _only_tag(architecture: str) -> str:
    tags = pretrained.tags(architecture)
    if not tags:
        raise ModelUnknown(f"there are no weights for {architecture} that can be fetched")
    if len(tags) > 1:
        raise ModelUnknown(f"{architecture} has several weights, named {architecture}/TAG: {', '.join(tags)}")
    return tags[0]


def _hub_files(described: dict[str, Any]) -> tuple[str, list[str]]:
    """Repository and the names that its weights may have, the best first."""
    repository, _, file = described["hf_hub"].rpartition("/")
    return repository, [file] if file else _WEIGHTS_ON_HUB


def _in_hub_cache(repository: str, files: list[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def _from_hub(repository: str, files: list[str]) -> Path:
    """The first of the files that a repository has: from the local cache, else from the network."""
    found = _if_on_hub(repository, files)
    if found is None:
        raise DownloadFailed(f"{repository} on the Hugging Face hub has no {' or '.join(files)}")
    return found


def _if_on_hub(repository: str, files: list[str]) -> Path | None:
    import huggingface_hub as hub

    cached = _in_hub_cache(repository, files)
    if cached is not None:
        return cached
    for file in files:
        where = f"{file} of {repository} on the Hugging Face hub"
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))  # fails at once; a download retries for a minute
            return Path(hub.hf_hub_download(repository, file))
        except hub.errors.EntryNotFoundError:
            continue
        except hub.errors.OfflineModeIsEnabled as error:
            raise DownloadFailed(f"{where} is not on this machine, and HF_HUB_OFFLINE is set") from error
        except Exception as error:  # the hub, the network and the disk each have their own
            raise DownloadFailed(f"{where} could not be downloaded: {first_line(error)}") from error
    return None
