"""open_clip's model configurations and its table of weights, which do not need open_clip."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

from clipsearch.errors import DownloadFailed, ModelUnknown, first_line
from clipsearch.extras import needs

_TABLE = Path(__file__).with_name("pretrained.json")  # of the version of open_clip that it names


def builtin_config(architecture: str) -> dict[str, Any]:
    """open_clip's `model_cfg` for an architecture. Raises `ModelUnknown`."""
    config: dict[str, Any] | None = _table()["configs"].get(architecture)
    if config is None:
        raise ModelUnknown(f"unknown model {architecture!r}")
    return copy.deepcopy(config)


def all_weights() -> list[tuple[str, str]]:
    """Every (architecture, tag) pair with downloadable weights."""
    return [(architecture, tag) for architecture, tags in _table()["weights"].items() for tag in tags]


def tags(architecture: str) -> list[str]:
    """The tags of an architecture's downloadable weights; empty if it has none."""
    return list(_table()["weights"].get(architecture, ()))


def weights_of(architecture: str, tag: str) -> dict[str, Any]:
    """Where to download weights (`hf_hub` or `url`) and how to preprocess images for them. Raises `ModelUnknown`."""
    described: dict[str, Any] | None = _table()["weights"].get(architecture, {}).get(tag.lower().replace("-", "_"))
    if not described:
        raise ModelUnknown(f"{architecture} has no weights {tag!r}; choose from {', '.join(tags(architecture))}")
    return described


def download(url: str) -> Path:
    """Weights from a URL rather than the Hugging Face Hub, via open_clip's own cache. Raises `DownloadFailed`."""
    with needs("torch"):
        from open_clip.pretrained import download_pretrained_from_url

    try:
        return Path(download_pretrained_from_url(url))
    except Exception as error:  # network and disk errors have no common base class
        raise DownloadFailed(f"{url} could not be downloaded: {first_line(error)}") from error


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table
