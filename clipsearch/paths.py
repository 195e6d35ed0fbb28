"""Where the index and the cache lie, paths as the index records them, and how files are named and kept private."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from clipsearch.errors import BadArgument

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

_LONGEST_NAME = 200  # bytes of a file's name that a temporary one repeats; systems allow 255 in all
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


def list_folder(folder: bytes) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[bytes]]]:
    """The entries of a folder. Raises `OSError`, also if its files may be listed but not looked at."""
    entries = os.scandir(folder)
    if not os.access(folder, os.X_OK):
        entries.close()
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    return entries


def lies_in(inner: bytes, outer: bytes) -> bool:
    """Whether a folder is the other one or inside it, by identity: there are bind mounts, and case may not matter."""
    if relative_to(inner, outer) is not None:
        return True
    try:
        status = os.stat(outer)
    except OSError:
        return False
    for above in upward(inner):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(above), status):
                return True
    return False


def upward(path: bytes) -> Iterator[bytes]:
    """A path and the folders above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


def bounds(folder: bytes) -> tuple[bytes, bytes]:
    """The range, low <= path < high, of the paths below a folder; of all paths below an empty one."""
    return (folder + b"/", folder + b"0") if folder else (b"", b"\xff" * 256)  # "0" follows "/"


def spellings(path: bytes) -> Iterator[bytes]:
    """How the index may have written a path: as it is, with links to its folder resolved, or with all of them."""
    yield os.path.abspath(path)
    folder, name = os.path.split(path)
    yield join(absolute(os.fsdecode(folder)), name)
    yield absolute(os.fsdecode(path))


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False, new: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name in one step when the block ends, or never. Raises OSError.

    The block fills the file, which is empty at first; it is on the disk before it is renamed. `private`: only its owner
    can read it, whatever the umask. `new`: nothing is replaced; raises `FileExistsError` if the name is taken by then.
    """
    name = os.fsencode(path.name)[:_LONGEST_NAME].decode("utf-8", "ignore")
    temporary = path.with_name(f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    # O_EXCL: in a folder that others can write to, the name may be a link to a file of ours.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if new:
            link_new(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rename_new(source: StrOrBytesPath, target: StrOrBytesPath) -> None:
    """Rename a file to a name that is free. Raises `FileExistsError` where it is taken, else `OSError`.

    Nothing is ever deleted, so a version of `source` that another program saves meanwhile is renamed, not lost. A kill
    can leave an empty file at `target`, with `source` untouched.
    """
    if os.name == "nt":
        os.rename(source, target)
        return
    placeholder = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.replace(source, target)
    except BaseException:
        # A network file system may report a failure after it has renamed the file, and Ctrl-C may arrive then too.
        with contextlib.suppress(OSError):
            there = os.lstat(target)
            if there.st_size == 0 and os.path.samestat(there, os.fstat(placeholder)):
                os.unlink(target)
        raise
    finally:
        os.close(placeholder)


def link_new(source: StrOrBytesPath, target: StrOrBytesPath) -> None:
    """The same for a `source` that nobody else writes to, with nothing but whole files at `target`.

    A kill can leave the file with both names. Where the file system has no hard links, it is `rename_new`.
    """
    if os.name == "nt":
        os.rename(source, target)
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        rename_new(source, target)
        return
    try:
        os.unlink(source)
    except OSError:
        if os.path.lexists(source):
            os.unlink(target)
            raise


def sync_folder(folder: StrOrBytesPath) -> None:
    """Write the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ------------------------------------------------------------------------------------------ privacy


def private_file(path: Path) -> None:
    """Create an empty file that only its owner can read, or take away what others may do with ours. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    close_to_others(path)


def private_folder(path: Path) -> None:
    """Create a folder that only its owner can open. Raises OSError.

    For folders that nobody else puts files in: one that was open to others, as older versions left theirs, is closed
    with all that is in it.
    """
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    if _is_open_to_others(path):
        close_all_to_others(path)


def close_all_to_others(path: Path) -> None:
    """Take away what other users may do with a folder of ours and with everything in it, as far as that is ours."""
    for folder, names, files in os.walk(path, topdown=False):
        for name in (*names, *files):
            if not os.path.islink(os.path.join(folder, name)):  # what it leads to is not ours to decide on
                close_to_others(Path(folder, name))
    close_to_others(path)


def close_to_others(path: Path) -> None:
    """Take away what other users may do with a file or folder, if it is ours and the file system knows such things."""
    with contextlib.suppress(OSError):
        if _is_open_to_others(path):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


def _is_open_to_others(path: Path) -> bool:
    if os.name == "nt":
        return False
    status = path.stat()
    return status.st_uid == os.geteuid() and bool(status.st_mode & 0o077)
