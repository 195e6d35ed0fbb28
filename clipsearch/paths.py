"""Where clipsearch keeps its files, unless told otherwise."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import platformdirs

from clipsearch.errors import BadRequest, ModelUnknown


def index_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The folder that was chosen, else `CLIPSEARCH_INDEX`, else the user's data folder.

    On Linux that is `$XDG_DATA_HOME/clipsearch`. Raises `BadRequest` for an empty name.
    """
    folder = os.environ.get("CLIPSEARCH_INDEX") or None if chosen is None else os.fspath(chosen)
    if folder == "":
        raise BadRequest("the index needs a folder; --index was given an empty one")
    return Path(folder).expanduser() if folder else platformdirs.user_data_path("clipsearch", appauthor=False)


def cache_folder() -> Path:
    """The user's cache folder (`$XDG_CACHE_HOME/clipsearch` on Linux)."""
    return platformdirs.user_cache_path("clipsearch", appauthor=False)


def open_clip_folder() -> Path:
    """Where open_clip lies, found without importing it. Raises `ModelUnknown` if it is not installed."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModelUnknown("open_clip is not installed: pip install open_clip_torch")
    return Path(found.origin).parent


def absolute(folder: str | os.PathLike[str]) -> bytes:
    """A folder's absolute path as bytes, links in it resolved, as roots are recorded."""
    path = os.fsencode(os.path.realpath(os.path.expanduser(folder)))
    return path.replace(b"\\", b"/") if os.name == "nt" else path


def relative_to(path: bytes, folder: bytes) -> bytes | None:
    """What remains of `path` below `folder`: empty for the folder itself, None if it is not below."""
    if path == folder:
        return b""
    prefix = folder if folder.endswith(b"/") else folder + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def join(folder: bytes, path: bytes) -> bytes:
    """`folder/path`; the folder may be `/`."""
    return (folder if folder.endswith(b"/") else folder + b"/") + path
