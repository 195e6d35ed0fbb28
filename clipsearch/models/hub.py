"""From a model's name to its weights: in the package, on this machine, or from the network."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any, cast

from clipsearch.errors import BadRequest, DownloadFailed, ModelUnknown, WeightsUnusable, first_line
from clipsearch.models import model as models
from clipsearch.models.model import Model
from clipsearch.paths import open_clip_folder

_WEIGHTS_ON_HUB = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def resolve(name: str, weights: Path | None = None) -> Model:
    """The model of a name, its weights fetched if they are not on this machine yet.

    `weights` is a local file to use in place of what the name stands for; its tag, if it has one, then says how
    images are preprocessed. Raises `ModelUnknown`, `WeightsUnusable` or `DownloadFailed`.
    """
    name = models.canonical_name(name) if weights is None else name
    if weights is not None and not weights.is_file():
        raise WeightsUnusable(f"there is no weights file {weights}")
    if name == models.MINI and weights is None:
        return models.mini()
    schema, _, place = name.partition(":")
    if schema in ("local-dir", "hf-hub") and weights is not None:
        raise BadRequest(f"--weights goes with an architecture, not with {schema}:")
    if schema == "local-dir":
        return models.from_folder(Path(models.canonical_name(name).partition(":")[2]), models.canonical_name(name))
    if schema == "hf-hub":
        folder = _from_hub(place, ["open_clip_config.json"]).parent
        _from_hub(place, _WEIGHTS_ON_HUB)
        return models.from_folder(folder, name)
    architecture, tag = models.split_name(name)
    config = models.builtin_config(architecture)
    if weights is not None:
        described = _pretrained(architecture, tag) if tag else _common_preprocessing(architecture)
        name = f"{name} with {weights.absolute()}"
        path = weights.absolute()
    else:
        tag = tag or _only_tag(architecture)
        described = _pretrained(architecture, tag)
        name = f"{architecture}/{tag}"
        path = _fetch(name, described)
    if not plain_tokenizer(config, architecture) and importlib.util.find_spec("transformers") is None:
        raise ModelUnknown(f"{name} reads text with a tokenizer of its own, which needs: pip install transformers")
    if described.get("quick_gelu"):  # OpenAI's weights, in a configuration that does not say so
        config["quick_gelu"] = True
    return models.make(name, architecture, config, described, path)


@functools.cache
def _tables() -> Any:
    """`open_clip.pretrained`, which lists all weights."""
    return _part_of_open_clip("pretrained")


def _part_of_open_clip(name: str) -> Any:
    """A module of open_clip without the rest: `import open_clip` takes three seconds."""
    package = types.ModuleType("clipsearch._open_clip")
    package.__path__ = [str(open_clip_folder())]
    sys.modules[package.__name__] = package
    loaded = "safetensors.torch" in sys.modules
    if not loaded:
        sys.modules["safetensors.torch"] = cast(types.ModuleType, None)  # it does without what would import torch
    try:
        return importlib.import_module(f"{package.__name__}.{name}")
    finally:
        if not loaded:
            del sys.modules["safetensors.torch"]


def available() -> dict[str, str | None]:
    """Every `ARCH/TAG` of open_clip, with the path of its weights where they are on this machine."""
    found: dict[str, str | None] = {}
    for architecture, tag in _tables().list_pretrained():
        path = _cached(_pretrained(architecture, tag))
        found[f"{architecture}/{tag}"] = str(path) if path else None
    return found


def _pretrained(architecture: str, tag: str) -> dict[str, Any]:
    described: dict[str, Any] = _tables().get_pretrained_cfg(architecture, tag)
    if not described:
        tags = ", ".join(_tables().list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelUnknown(f"{architecture} has no weights called {tag!r}; it has: {tags}")
    return described


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """How the images of an architecture are prepared, if that is the same for all its weights."""
    ways = {
        json.dumps({key: described.get(key) for key in ("mean", "std", "interpolation", "resize_mode")})
        for described in (
            _pretrained(architecture, tag) for tag in _tables().list_pretrained_tags_by_model(architecture)
        )
    }
    if len(ways) > 1:
        raise BadRequest(
            f"there are several ways to prepare images for {architecture};"
            f" name the weights that the file is like: --model {architecture}/TAG"
        )
    return json.loads(ways.pop()) if ways else {}


def _only_tag(architecture: str) -> str:
    tags: list[str] = _tables().list_pretrained_tags_by_model(architecture)
    if len(tags) == 1:
        return tags[0]
    choice = "it has: " + ", ".join(tags) if tags else "it has none; give a file with --weights"
    raise ModelUnknown(f"say which weights of {architecture}, as {architecture}/TAG; {choice}")


def _hub_files(described: dict[str, Any]) -> tuple[str, list[str]]:
    """Repository and the names that its weights may have, the best first."""
    repository, _, file = described["hf_hub"].rpartition("/")
    return repository, [file] if file else _WEIGHTS_ON_HUB


def _cached(described: dict[str, Any]) -> Path | None:
    return _in_hub_cache(*_hub_files(described)) if described.get("hf_hub") else None


def _fetch(name: str, described: dict[str, Any]) -> Path:
    """The path of a tag's weights: from the local cache if they are there, else from the network."""
    if described.get("hf_hub"):
        return _from_hub(*_hub_files(described))
    try:
        return Path(_tables().download_pretrained_from_url(described["url"]))
    except Exception as error:
        raise DownloadFailed(f"the weights of {name} could not be downloaded: {first_line(error)}") from error


def _in_hub_cache(repository: str, files: list[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def _from_hub(repository: str, files: list[str]) -> Path:
    """The first of the files that a repository has: from the local cache, else from the network."""
    import huggingface_hub as hub

    cached = _in_hub_cache(repository, files)
    if cached is not None:
        return cached
    where = f"{repository} on the Hugging Face hub"
    for file in files:
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))  # fails at once; a download retries for a minute
            return Path(hub.hf_hub_download(repository, file))
        except hub.errors.EntryNotFoundError:
            continue
        except hub.errors.OfflineModeIsEnabled as error:
            raise DownloadFailed(f"{file} of {where} is not on this machine, and HF_HUB_OFFLINE is set") from error
        except Exception as error:  # the hub, the network and the disk each have their own
            raise DownloadFailed(
                f"{file} of {where} could not be downloaded: {first_line(error)};"
                " use --weights FILE, or --model mini, which needs no download"
            ) from error
    raise DownloadFailed(f"{where} has no {' or '.join(files)}")


def plain_tokenizer(config: dict[str, Any], architecture: str) -> bool:
    """Whether a model reads CLIP's own byte-pair tokens, as `tokenize` makes them."""
    text = config["text_cfg"]
    other = ("hf_tokenizer_name", "tokenizer_kwargs", "hf_model_name")
    return not any(text.get(key) for key in other) and "siglip" not in architecture.lower()
