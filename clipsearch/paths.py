"""The locations of index and cache, paths in the form the index records them, safe renaming, private files."""

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

CATALOGUE = "catalogue.sqlite"  # in an index folder
_MAX_STEM = 200  # bytes of a file name that its temporary file repeats; file systems allow 255 in all


class Collection(str):
    """The address of a Milvus collection: `milvus://HOST:PORT/NAME`, or a path ending in `.db`."""

    __slots__ = ()


def index_place(chosen: str | os.PathLike[str] | None = None) -> Path | Collection:
    """The chosen index, or `$CLIPSEARCH_INDEX`, or the default in the user's data folder.

    On Linux the default is `$XDG_DATA_HOME/clipsearch`. Raises `BadArgument` for an empty name.
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
    """As `index_place`, but raises `BadArgument` for a collection."""
    return not_a_collection(index_place(chosen))


def not_a_collection(place: Path | Collection) -> Path:
    """The folder of an index. Raises `BadArgument` for a collection."""
    if isinstance(place, Collection):
        raise BadArgument("index", f"must be an index folder here; {place} is a collection")
    return place


def cache_folder() -> Path:
    """The user's cache folder (`$XDG_CACHE_HOME/clipsearch` on Linux)."""
    return platformdirs.user_cache_path("clipsearch", appauthor=False)


def absolute(folder: str | os.PathLike[str]) -> bytes:
    """The absolute path of a folder, with symbolic links resolved: the form in which indexed folders are recorded."""
    path = os.fsencode(os.path.realpath(os.path.expanduser(folder)))
    return path.replace(b"\\", b"/") if os.name == "nt" else path


def relative_to(path: bytes, folder: bytes) -> bytes | None:
    """The part of `path` below `folder`: empty for the folder itself, None for a path outside it."""
    if path == folder:
        return b""
    prefix = folder if folder.endswith(b"/") else folder + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def join(folder: bytes, path: bytes) -> bytes:
    """`folder/path`; the folder may be the root, `/`."""
    return (folder if folder.endswith(b"/") else folder + b"/") + path


def list_folder(folder: bytes) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[bytes]]]:
    """The entries of a folder. Raises `OSError`, also without the permission to look at them (execute)."""
    entries = os.scandir(folder)
    if not os.access(folder, os.X_OK):
        entries.close()
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    return entries


def lies_in(inner: bytes, outer: bytes) -> bool:
    """Whether `inner` is `outer` or inside it. Compares inodes, as bind mounts and case can make names differ."""
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
    """A path, then each folder above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


def bounds(folder: bytes) -> tuple[bytes, bytes]:
    """The range `low <= path < high` of all paths below a folder; an empty folder means everything."""
    return (folder + b"/", folder + b"0") if folder else (b"", b"\xff" * 256)  # "0" follows "/"


def spellings(path: bytes) -> Iterator[bytes]:
    """The forms in which the index may know a path: as given, with links in its folder resolved, with all resolved."""
    yield os.path.abspath(path)
    folder, name = os.path.split(path)
    yield join(absolute(os.fsdecode(folder)), name)
    yield absolute(os.fsdecode(path))


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False, new: bool = False) -> Iterator[Path]:
    """Write a file atomically: the block fills an empty temporary file, which is then synced and renamed to `path`.

    If the block raises, `path` is left as it was. `private`: readable only by its owner, regardless of the umask.
    `new`: never replace a file; raises `FileExistsError` if there is one by then. Raises `OSError`.
    """
    name = os.fsencode(path.name)[:_MAX_STEM].decode("utf-8", "ignore")
    temporary = path.with_name(f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    # O_EXCL: in a folder that others can write to, somebody may have planted a link to one of our files.
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
    """Rename a file without replacing another. Raises `FileExistsError` if `target` exists, or another `OSError`.

    Nothing is deleted: if another program saves `source` meanwhile, that version is renamed. A kill can leave an empty
    file at `target`, with `source` untouched.
    """
    if os.name == "nt":
        os.rename(source, target)
        return
    placeholder = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.replace(source, target)
    except BaseException:
        # The rename may have succeeded: a network file system can report failure anyway, or Ctrl-C came just after.
        with contextlib.suppress(OSError):
            status = os.lstat(target)
            if status.st_size == 0 and os.path.samestat(status, os.fstat(placeholder)):
                os.unlink(target)
        raise
    finally:
        os.close(placeholder)


def link_new(source: StrOrBytesPath, target: StrOrBytesPath) -> None:
    """As `rename_new`, but `target` is never an incomplete file. Only for a `source` that no other program writes to.

    A kill can leave the file under both names. Falls back to `rename_new` on file systems without hard links.
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
    """Make renames in a folder durable, where the system supports it."""
    with contextlib.suppress(OSError):  # Windows cannot open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ------------------------------------------------------------------------------------------ privacy


def private_file(path: Path) -> None:
    """Create a file that only its owner can access, or restrict an existing one. Raises `OSError`."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    make_private(path)


def private_folder(path: Path) -> None:
    """Create a folder that only its owner can access. Raises `OSError`.

    An existing folder that others can access, as older versions created them, is restricted with everything in it.
    """
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    if _is_shared(path):
        make_tree_private(path)


def make_tree_private(path: Path) -> None:
    """Remove all permissions of other users from a folder and everything in it that we own."""
    for folder, names, files in os.walk(path, topdown=False):
        for name in (*names, *files):
            if not os.path.islink(os.path.join(folder, name)):  # chmod would change the target
                make_private(Path(folder, name))
    make_private(path)


def make_private(path: Path) -> None:
    """Remove all permissions of other users, if we own the file and the file system has permissions."""
    with contextlib.suppress(OSError):
        if _is_shared(path):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


def _is_shared(path: Path) -> bool:
    if os.name == "nt":
        return False
    status = path.stat()
    return status.st_uid == os.geteuid() and bool(status.st_mode & 0o077)
