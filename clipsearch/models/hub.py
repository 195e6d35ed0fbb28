"""Resolves a model's name to its files: bundled, local, cached, or downloaded."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipsearch.errors import BadArgument, DownloadFailed, ModelUnknown, WeightsUnusable, first_line
from clipsearch.extras import is_installed, missing
from clipsearch.images.preprocess import Preprocess
from clipsearch.models import pretrained
from clipsearch.models.bert import BertTower
from clipsearch.models.cache import sha256_of_file
from clipsearch.models.checkpoint import write_safetensors
from clipsearch.models.model import (
    BERT_FAMILY,
    MINI,
    Model,
    TextFiles,
    canonical_name,
    from_folder,
    full_name,
    is_canonical,
    make,
    mini,
    read_config,
    split_name,
    text_file_names,
    text_files,
)
from clipsearch.models.siglip import SiglipTextTower
from clipsearch.models.towers import serves
from clipsearch.paths import cache_folder, private_folder, replacing

_WEIGHTS_ON_HUB = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def resolve(name: str, weights: Path | None = None) -> Model:
    """Find a model by name and download any files that are missing.

    With a local `weights` file, the name supplies only the architecture, and its tag, if any, the preprocessing. Raises
    `BadArgument`, `ModelUnknown`, `WeightsUnusable` or `DownloadFailed`.
    """
    schema, _, place = name.partition(":")
    if weights is not None:
        if not weights.is_file():
            raise WeightsUnusable(f"there is no weights file {weights}")
        if schema in ("local-dir", "hf-hub"):
            raise BadArgument("weights", f"can be combined with the name of an architecture, but not with {schema}:")
        return _readable(_with_file(full_name(name), weights.absolute()))
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
    weights = pretrained.weights_of(architecture, tag)
    text = _text_files(config)
    _check_before_download(name, architecture, config, text)
    path = from_hub(*_hub_files(weights)) if weights.get("hf_hub") else pretrained.download(weights["url"])
    return _make(f"{architecture}/{tag}", architecture, config, weights, path, text)


def _with_file(name: str, path: Path) -> Model:
    """An architecture with the user's own weights."""
    architecture, tag = split_name(name)
    config = pretrained.builtin_config(architecture)
    preprocess = pretrained.weights_of(architecture, tag) if tag else _common_preprocessing(architecture)
    return _make(f"{name} with {path}", architecture, config, preprocess, path, _text_files(config))


def _make(
    name: str,
    architecture: str,
    config: dict[str, Any],
    pretrained_cfg: dict[str, Any],
    path: Path,
    text: TextFiles | None,
) -> Model:
    if pretrained_cfg.get("quick_gelu"):  # depends on the weights (OpenAI's), not on the architecture's configuration
        config["quick_gelu"] = True
    return make(name, architecture, config, pretrained_cfg, path, text)


def _of_repository(repository: str, name: str) -> Model:
    folder = from_hub(repository, ["open_clip_config.json"]).parent
    config, _ = read_config(folder)
    names = text_file_names(config)
    for file in names or ():
        _if_on_hub(repository, [file])
    text = text_files(config, *(folder / file for file in names)) if names else None
    _check_before_download(name, f"hf-hub:{repository}", config, text)
    from_hub(repository, _WEIGHTS_ON_HUB)
    return from_folder(folder, name)


def _text_files(config: dict[str, Any]) -> TextFiles | None:
    """The tokenizer and encoder configuration, which open_clip keeps in a separate repository from the weights."""
    text, names = config["text_cfg"], text_file_names(config)
    if names is None:
        return None
    encoder = from_hub(text.get("hf_model_name") or text["hf_tokenizer_name"], [names[0]])
    known = is_canonical(text) or json.loads(encoder.read_text(encoding="utf-8")).get("model_type") in BERT_FAMILY
    return text_files(config, encoder, from_hub(text["hf_tokenizer_name"], [names[1]])) if known else None


def _mappable(model: Model) -> Model:
    """Convert pickled weights to safetensors in the cache folder, once, if NumPy towers can then use them.

    Some repositories have only pickled weights, which would need torch and transformers.
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
        return model  # open_clip may be able to read them, or will report the error


def _check_before_download(name: str, architecture: str, config: dict[str, Any], text: TextFiles | None) -> None:
    """Like `_readable`, for a model whose weights are about to be downloaded."""
    _readable(Model(name, architecture, config, Preprocess((1, 1)), Path("weights.safetensors"), "", text))


def _readable(model: Model) -> Model:
    """Raise `BadRequest` or `ModelUnknown` if the model needs a package that is not installed."""
    if not serves(model, texts=True, images=True) and not is_installed("torch"):
        raise missing("torch", f"The model {model.name}")
    is_supported = model.reads_clip_tokens or BertTower.serves(model) or SiglipTextTower.serves(model)
    if not is_supported and importlib.util.find_spec("transformers") is None:
        raise ModelUnknown(f"{model.name} needs the transformers library, which is not installed")
    return model


def available() -> dict[str, str | None]:
    """Every `ARCH/TAG` that open_clip can download, with the path of its weights if they are in the Hub's cache."""
    found: dict[str, str | None] = {}
    for architecture, tag in pretrained.all_weights():
        weights = pretrained.weights_of(architecture, tag)
        path = _in_hub_cache(*_hub_files(weights)) if weights.get("hf_hub") else None
        found[f"{architecture}/{tag}"] = str(path) if path else None
    return found


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """The preprocessing shared by all weights of an architecture. Raises `BadArgument` if they differ."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    all_weights = [pretrained.weights_of(architecture, tag) for tag in pretrained.tags(architecture)]
    variants = {json.dumps({key: weights.get(key) for key in keys}) for weights in all_weights}
    if len(variants) > 1:
        raise BadArgument(
            "model",
            f"must include a tag, {architecture}/TAG, to choose the preprocessing:"
            f" it differs between the weights of {architecture}",
        )
    return json.loads(variants.pop()) if variants else {}


def _only_tag(architecture: str) -> str:
    tags = pretrained.tags(architecture)
    if not tags:
        raise ModelUnknown(f"{architecture} has no weights to download")
    if len(tags) > 1:
        raise ModelUnknown(f"{architecture} needs a tag, {architecture}/TAG; choose from {', '.join(tags)}")
    return tags[0]


def _hub_files(weights: dict[str, Any]) -> tuple[str, list[str]]:
    """The repository and the possible names of its weights file, in order of preference."""
    repository, _, file = weights["hf_hub"].rpartition("/")
    return repository, [file] if file else _WEIGHTS_ON_HUB


def _in_hub_cache(repository: str, files: list[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def from_hub(repository: str, files: list[str]) -> Path:
    """The first of `files` that exists in a repository, cached or downloaded. Raises `DownloadFailed`."""
    found = _if_on_hub(repository, files)
    if found is None:
        raise DownloadFailed(f"{repository} on the Hugging Face Hub has no {' or '.join(files)}")
    return found


def _if_on_hub(repository: str, files: list[str]) -> Path | None:
    import huggingface_hub as hub

    cached = _in_hub_cache(repository, files)
    if cached is not None:
        return cached
    for file in files:
        what = f"{file} of {repository} on the Hugging Face Hub"
        try:
            hub.get_hf_file_metadata(
                hub.hf_hub_url(repository, file)
            )  # fails immediately; a download would retry for a minute
            return Path(hub.hf_hub_download(repository, file))
        except hub.errors.EntryNotFoundError:
            continue
        except hub.errors.OfflineModeIsEnabled as error:
            raise DownloadFailed(f"{what} is not cached, and HF_HUB_OFFLINE is set") from error
        except Exception as error:  # Hub, network and disk errors have no common base class
            raise DownloadFailed(f"{what} could not be downloaded: {first_line(error)}") from error
    return None
