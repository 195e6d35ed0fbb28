"""Where files lie: the index and the cache, paths as the index records them, and how a file is replaced whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from clipsearch.errors import BadArgument

CATALOGUE = "catalogue.sqlite"  # of an index in a folder


class Collection(str):
    """Where an index was published to: `milvus://HOST:PORT/NAME`, or a path that ends in `.db`."""

    __slots__ = ()


def index_place(chosen: str | os.PathLike[str] | None = None) -> Path | Collection:
    """The index that was chosen, else `CLIPSEARCH_INDEX`, else the one in the user's data folder.

    On Linux that is `$XDG_DATA_HOME/clipsearch`. Raises `BadArgument` for an empty name.
    """
    if chosen is not None and not isinstance(chosen, str | os.PathLike):
        raise BadArgument("index", f"must be the path of a folder, not {type(chosen).__name__}")
    place = os.environ.get("CLIPSEARCH_INDEX") or None if chosen is None else os.fspath(chosen)
    if place == "":
        raise BadArgument("index", "must name a folder")
    if place and (place.startswith("milvus://") or (place.endswith(".db") and not _has_catalogue(place))):
        return Collection(place)
    return Path(place).expanduser() if place else platformdirs.user_data_path("clipsearch", appauthor=False)


def _has_catalogue(folder: str) -> bool:
    return os.path.exists(os.path.join(os.path.expanduser(folder), CATALOGUE))


def index_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The same, for what needs a folder. Raises `BadArgument` for a collection."""
    place = index_place(chosen)
    if isinstance(place, Collection):
        raise BadArgument("index", f"must be a folder here, and {place} is a collection")
    return place


def cache_folder() -> Path:
    """The user's cache folder (`$XDG_CACHE_HOME/clipsearch` on Linux)."""
    return platformdirs.user_cache_path("clipsearch", appauthor=False)


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


def spellings(path: bytes) -> Iterator[bytes]:
    """How the index may have written a path: as it is, with links to its folder resolved, or with all of them."""
    yield os.path.abspath(path)
    folder, name = os.path.split(path)
    yield join(absolute(os.fsdecode(folder)), name)
    yield absolute(os.fsdecode(path))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place in one step when the block ends, or never. Raises OSError.

    The block writes the file; what it wrote is on the disk before it has the name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
