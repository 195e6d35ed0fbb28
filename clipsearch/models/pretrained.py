"""open_clip's model configurations and its table of weights, without importing open_clip, which takes 3 s."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

from clipsearch.errors import DownloadFailed, ModelUnknown, first_line

_TABLE = Path(__file__).with_name("pretrained.json")


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
    return [(architecture, tag) for architecture, tags in _table().items() for tag in tags]


def tags(architecture: str) -> list[str]:
    """The tags of an architecture's downloadable weights; empty if it has none."""
    return list(_table().get(architecture, ()))


def weights_of(architecture: str, tag: str) -> dict[str, Any]:
    """Where to download weights (`hf_hub` or `url`) and how to preprocess images for them. Raises `ModelUnknown`."""
    described = _table().get(architecture, {}).get(tag.lower().replace("-", "_"))
    if not described:
        raise ModelUnknown(f"{architecture} has no weights {tag!r}; choose from {', '.join(tags(architecture))}")
    return described


def download(url: str) -> Path:
    """Weights from a URL rather than the Hugging Face Hub, via open_clip's own cache. Raises `DownloadFailed`."""
    from open_clip.pretrained import download_pretrained_from_url

    try:
        return Path(download_pretrained_from_url(url))
    except Exception as error:  # network and disk errors have no common base class
        raise DownloadFailed(f"{url} could not be downloaded: {first_line(error)}") from error


def _config_folder() -> Path:
    return open_clip_folder() / "model_configs"


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    """Weights by architecture and tag: `open_clip.pretrained` of the version that the file names."""
    table: dict[str, dict[str, dict[str, Any]]] = json.loads(_TABLE.read_text(encoding="utf-8"))["weights"]
    return table
