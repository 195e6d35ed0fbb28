"""What open_clip knows of models, read from its files without importing it, which takes three seconds."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

from clipsearch.errors import DownloadFailed, ModelUnknown, first_line


def open_clip_folder() -> Path:
    """Where open_clip is installed. Raises `ModelUnknown` if it is not."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModelUnknown("open_clip is not installed")
    return Path(found.origin).parent


def builtin_architectures() -> list[str]:
    """The names of all architectures that open_clip has a configuration of."""
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def builtin_config(architecture: str) -> dict[str, Any]:
    """open_clip's own `model_cfg` of an architecture. Raises `ModelUnknown`."""
    if architecture not in builtin_architectures():
        raise ModelUnknown(f"no model is called {architecture!r}")
    config: dict[str, Any] = json.loads((_config_folder() / f"{architecture}.json").read_text(encoding="utf-8"))
    return config


def all_weights() -> list[tuple[str, str]]:
    """Every architecture with the tag of weights that can be fetched for it."""
    pairs: list[tuple[str, str]] = _table().list_pretrained()
    return pairs


def tags(architecture: str) -> list[str]:
    """The weights that can be fetched for an architecture."""
    found: list[str] = _table().list_pretrained_tags_by_model(architecture)
    return found


def weights_of(architecture: str, tag: str) -> dict[str, Any]:
    """Where weights come from (`hf_hub` or `url`) and how images are prepared for them. Raises `ModelUnknown`."""
    described: dict[str, Any] = _table().get_pretrained_cfg(architecture, tag)
    if not described:
        raise ModelUnknown(f"{architecture} has no weights called {tag!r}; it has: {', '.join(tags(architecture))}")
    return described


def download(url: str) -> Path:
    """A file of weights that is on no hub, from open_clip's own cache or from the network. Raises `DownloadFailed`."""
    try:
        return Path(_table().download_pretrained_from_url(url))
    except Exception as error:  # the network and the disk each have their own
        raise DownloadFailed(f"{url} could not be downloaded: {first_line(error)}") from error


def _config_folder() -> Path:
    return open_clip_folder() / "model_configs"


@functools.cache
def _table() -> Any:
    """The module `open_clip.pretrained`, as the only one in a package of another name.

    It would import torch, by way of `safetensors.torch`, which it can do without; None stands for a missing module.
    """
    package = types.ModuleType("clipsearch._open_clip")
    package.__path__ = [str(open_clip_folder())]
    sys.modules[package.__name__] = package
    modules: dict[str, types.ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = modules.setdefault("safetensors.torch", None) is None
    try:
        return importlib.import_module(f"{package.__name__}.pretrained")
    finally:
        if hidden:
            del modules["safetensors.torch"]
