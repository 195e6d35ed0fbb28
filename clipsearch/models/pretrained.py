"""open_clip's model configurations and its table of weights, read without importing open_clip, which takes 3 s."""

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
    """The directory of the open_clip package. Raises `ModelUnknown` if it is not installed."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModelUnknown("open_clip is not installed")
    return Path(found.origin).parent


def builtin_architectures() -> list[str]:
    """All architectures that open_clip ships a configuration for, sorted."""
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def builtin_config(architecture: str) -> dict[str, Any]:
    """open_clip's `model_cfg` for an architecture. Raises `ModelUnknown`."""
    if architecture not in builtin_architectures():
        raise ModelUnknown(f"unknown model {architecture!r}")
    config: dict[str, Any] = json.loads((_config_folder() / f"{architecture}.json").read_text(encoding="utf-8"))
    return config


def all_weights() -> list[tuple[str, str]]:
    """Every (architecture, tag) pair with downloadable weights."""
    pairs: list[tuple[str, str]] = _table().list_pretrained()
    return pairs


def tags(architecture: str) -> list[str]:
    """The tags of an architecture's downloadable weights; empty if it has none."""
    found: list[str] = _table().list_pretrained_tags_by_model(architecture)
    return found


def weights_of(architecture: str, tag: str) -> dict[str, Any]:
    """Where to download weights (`hf_hub` or `url`) and how to preprocess images for them. Raises `ModelUnknown`."""
    described: dict[str, Any] = _table().get_pretrained_cfg(architecture, tag)
    if not described:
        raise ModelUnknown(f"{architecture} has no weights {tag!r}; choose from {', '.join(tags(architecture))}")
    return described


def download(url: str) -> Path:
    """Weights from a URL rather than the Hugging Face Hub, via open_clip's own cache. Raises `DownloadFailed`."""
    try:
        return Path(_table().download_pretrained_from_url(url))
    except Exception as error:  # network and disk errors have no common base class
        raise DownloadFailed(f"{url} could not be downloaded: {first_line(error)}") from error


def _config_folder() -> Path:
    return open_clip_folder() / "model_configs"


@functools.cache
def _table() -> Any:
    """The module `open_clip.pretrained`, imported under another package name so that `open_clip/__init__` never runs.

    It also imports `safetensors.torch`, and with it torch, but works without. A None in `sys.modules` makes that import
    fail.
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
