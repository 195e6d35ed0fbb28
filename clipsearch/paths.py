"""Where clipsearch keeps its files, unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_index() -> Path:
    """`CLIPSEARCH_INDEX`, or the user's data folder (`$XDG_DATA_HOME/clipsearch` on Linux)."""
    chosen = os.environ.get("CLIPSEARCH_INDEX")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("clipsearch", appauthor=False)


def cache_folder() -> Path:
    """The user's cache folder (`$XDG_CACHE_HOME/clipsearch` on Linux)."""
    return platformdirs.user_cache_path("clipsearch", appauthor=False)
