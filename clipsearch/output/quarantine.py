"""Move redundant copies out of the way, into a folder from which all of them can be put back.

At any moment every photo is whole in at least one of its two places, whatever is killed when. Each step is in the
folder's journal (`manifest`) before it is taken.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from clipsearch.errors import BadArgument, BadRequest, reason
from clipsearch.images.read import content_hash_from, open_regular
from clipsearch.images.scan import is_modified
from clipsearch.images.siblings import OwnSidecars
from clipsearch.output.manifest import (
    BACK,
    MANIFEST,
    MOVE,
    MOVED,
    RESTORE,
    Entry,
    Manifest,
    journal,
    make_folders,
    remove_empty,
)
from clipsearch.output.move import Move
from clipsearch.paths import absolute, join, link_new, relative_to, rename_new, sync_folder
from clipsearch.search.copies import Copy, Group
from clipsearch.store.photo import Photo

_PART = 1 << 20


class _Stays(Exception):
    """Why a file stays where it is; `failed` as in `Move`."""

    def __init__(self, reason: str, *, failed: bool = True) -> None:
        super().__init__(reason)
        self.failed = failed


# ------------------------------------------------------------------------------------------ the folder


def destination(folder: str, roots: Iterable[bytes]) -> bytes:
    """The absolute path of a folder that copies may be moved to. Raises `BadRequest`.

    Folders are compared by what they are, not only by name: there are bind mounts, and case may not matter.
    """
    if not folder:
        raise BadArgument("move_to", "needs the name of a folder")
    path = absolute(folder)
    for root in roots:
        if _lies_in(path, root):
            raise BadRequest(
                f"{folder} lies in an indexed folder; choose one outside, or the next index would find the copies again"
            )
        if _lies_in(root, path):
            raise BadRequest(f"{folder} contains the indexed folder {os.fsdecode(root)}; choose another one")
    there = next(above for above in _upward(path) if os.path.lexists(above))
    if not os.path.isdir(there):
        raise BadRequest(f"{os.fsdecode(there)} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadRequest(f"{folder} cannot be written to: permission denied")
    return path


def _lies_in(inner: bytes, outer: bytes) -> bool:
    """Whether a folder is another one or lies in it."""
    if relative_to(inner, outer) is not None:
        return True
    try:
        status = os.stat(outer)
    except OSError:
        return False
    for above in _upward(inner):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(above), status):
                return True
    return False


def _upward(path: bytes) -> Iterator[bytes]:
    """A path and the folders above it."""
    yield path
    while (above := os.path.dirname(path)) != path:
        path = above
        yield path


# ------------------------------------------------------------------------------------------ moving


def move(groups: Sequence[Group], folder: bytes, *, dry_run: bool = False) -> Iterator[Move]:
    """Move all copies but the best of each group below a folder (see `destination`), with their sidecars.

    A file of `/home/a/x.jpg` becomes `FOLDER/home/a/x.jpg`, or `FOLDER/2/home/a/x.jpg` where that name is taken. Yields
    each file once its fate is known. It stays where it is unless it and its best are, right now, what was indexed.
    Raises `ClipsearchError` when nothing more can be moved; what was moved until then can be undone.
    """
    if not any(len(group) > 1 for group in groups):
        return
    bests = frozenset(group[0].photo.path for group in groups)
    if dry_run:
        Manifest(folder)  # raises what a real run would
    opened: contextlib.AbstractContextManager[Manifest | None] = (
        contextlib.nullcontext() if dry_run else journal(folder)
    )
    with opened as manifest:
        for entry in list(manifest.entries.values()) if manifest is not None else ():
            with contextlib.suppress(OSError):
                _settle(entry, manifest)
        mover = _Mover(folder, manifest, bests)
        for group in groups:
            for copy in group[1:]:
                yield from mover.move(copy, group[0].photo)


class _File(NamedTuple):
    """A regular file as it was when it was read whole."""

    path: bytes
    status: os.stat_result
    sha256: bytes


class _Mover:
    def __init__(self, folder: bytes, manifest: Manifest | None, bests: frozenset[bytes]) -> None:
        """Without a manifest, nothing is moved."""
        self._folder, self._manifest, self._bests = folder, manifest, bests
        self._beside = OwnSidecars()

    def move(self, copy: Copy, best: Photo) -> Iterator[Move]:
        """Move one copy, then its sidecars."""
        photo = copy.photo
        try:
            if photo.path in self._bests:
                raise _Stays("it is the best of another group", failed=False)
            file, kept = _checked(copy, best, self._folder)
        except _Stays as stays:
            yield Move(photo.path, None, best.path, photo.size, str(stays), stays.failed)
            return
        sidecars = self._beside.of(photo.path)
        top = self._free_top([photo.path, *sidecars])
        done = self._put(file, top, kept)
        yield done
        for path in sidecars if done.moved else ():
            try:
                sidecar = _read(path)
            except OSError as error:
                yield Move(path, None, best.path, 0, reason(error), failed=True, is_sidecar=True)
            else:
                yield self._put(sidecar, top, kept)._replace(is_sidecar=True)

    def _free_top(self, paths: Sequence[bytes]) -> bytes:
        """The folder, or a numbered one in it, below which all these files have room."""
        tops = itertools.chain([self._folder], (join(self._folder, b"%d" % n) for n in itertools.count(2)))
        return next(top for top in tops if not any(os.path.lexists(_below(top, path)) for path in paths))

    def _put(self, file: _File, top: bytes, kept: _File) -> Move:
        """Move a file while the best is what it was before and after."""
        target = _below(top, file.path)
        done = Move(file.path, target, kept.path, file.status.st_size)
        try:
            if not os.access(os.path.dirname(file.path), os.W_OK | os.X_OK):
                raise _Stays("its folder cannot be written to")
            if self._manifest is not None:
                self._carry(self._manifest, file, target, kept)
        except _Stays as stays:
            return done._replace(reason=str(stays), failed=stays.failed)
        except OSError as error:
            return done._replace(reason=reason(error), failed=True)
        self._beside.gone.add(file.path)
        return done

    def _carry(self, manifest: Manifest, file: _File, target: bytes, kept: _File) -> None:
        """Raises `_Stays` or `OSError` when the file is where it was, or the reason says where it is."""
        status = file.status
        entry = Entry(
            file.path,
            target,
            kept.path,
            status.st_size,
            file.sha256.hex(),
            status.st_mtime_ns,
            stat.S_IMODE(status.st_mode),
            _drive_of(os.path.dirname(file.path)),
        )
        manifest.begin(entry)
        try:
            make_folders(os.path.dirname(target))
            _carry(entry, file, target, manifest.temporary(target), rename_new)
            if not _is_still(kept):
                self._take_back(manifest, entry, file, kept)
        except (_Stays, OSError):
            if os.path.lexists(file.path) and not os.path.lexists(target):
                manifest.end(entry, BACK)
                remove_empty(os.path.dirname(target), manifest.folder)
            raise
        manifest.end(entry, MOVED)

    def _take_back(self, manifest: Manifest, entry: Entry, file: _File, kept: _File) -> None:
        """The best went with its copy, so they were one file after all, or it was changed: undo the move."""
        why = f"the best, {os.fsdecode(kept.path)}, was gone or changed after the move"
        try:
            there = file._replace(path=entry.target, status=os.lstat(entry.target))
            _carry(entry, there, entry.source, manifest.temporary(entry.source), link_new)
        except (_Stays, OSError) as error:
            manifest.end(entry, MOVED)
            raise _Stays(f"{why}; the copy is in {os.fsdecode(entry.target)} and could not be put back") from error
        raise _Stays(f"{why}; the copy was put back")


def _below(top: bytes, path: bytes) -> bytes:
    """The place of an absolute path below a folder; a drive letter becomes a folder."""
    drive, rest = os.path.splitdrive(path)
    letter = drive.replace(b":", b"").strip(b"/\\")
    return join(join(top, letter) if letter else top, rest.lstrip(b"/"))


def _drive_of(folder: bytes) -> bytes:
    """The mount point that a folder is below."""
    return next((above for above in _upward(os.path.realpath(folder)) if os.path.ismount(above)), folder)


# ------------------------------------------------------------------------------------------ what may be moved


def _checked(copy: Copy, best: Photo, folder: bytes) -> tuple[_File, _File]:
    """A copy that may be moved to a folder, and its best, both read whole just now. Raises `_Stays`."""
    photo = copy.photo
    kept_name = os.fsdecode(best.path)
    if copy.same_file:
        raise _Stays(f"{os.fsdecode(copy.same_file[0])} is another name of it", failed=False)
    status = _unchanged(photo, "it")
    if _is_quarantined(photo.path, folder):
        raise _Stays("it lies in a folder of moved copies already", failed=False)
    if status.st_nlink > 1:
        raise _Stays("it has another name (a hard link), so moving it would free nothing", failed=False)
    kept = _unchanged(best, f"the best, {kept_name},")
    if _is_quarantined(best.path, folder):
        raise _Stays(f"the best, {kept_name}, lies in a folder of moved copies")
    if _may_be_one_file(status, kept):
        raise _Stays(f"it may be the same file as the best, {kept_name}", failed=False)
    try:
        file, other, equal = _read_both(photo.path, best.path)
    except OSError as error:
        name = os.fsdecode(error.filename or photo.path)
        raise _Stays(f"{name} cannot be read: {reason(error)}") from None
    for read, seen, of, name in ((file, status, photo, "it"), (other, kept, best, f"the best, {kept_name},")):
        if not _same(read.status, seen) or not (of.is_video or content_hash_from(read.sha256) == of.content):
            raise _Stays(f"{name} was changed since it was indexed")
    must_be_equal = photo.content == best.content or photo.is_video or best.is_video
    if must_be_equal and not equal:  # a video is known by samples of it
        raise _Stays(f"it differs from the best, {kept_name}, byte by byte")
    return file, other


def _unchanged(photo: Photo, name: str) -> os.stat_result:
    """A photo's file as it is now. Raises `_Stays` when it is not the regular file that was indexed."""
    try:
        status = os.lstat(photo.path)
    except (FileNotFoundError, NotADirectoryError):
        raise _Stays(f"{name} is gone") from None
    except OSError as error:
        raise _Stays(f"{name} cannot be looked at: {reason(error)}") from None
    if stat.S_ISLNK(status.st_mode):
        raise _Stays(f"{name} is a symbolic link", failed=False)
    if not stat.S_ISREG(status.st_mode) or is_modified(status, photo):
        raise _Stays(f"{name} was changed since it was indexed")
    return status


def _may_be_one_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two paths lead to one file, as far as can be told: over two mounts it has two devices."""
    if one.st_dev == other.st_dev and one.st_ino and other.st_ino:
        return one.st_ino == other.st_ino
    return _times(one) == _times(other)


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return os.path.samestat(one, other) and _times(one) == _times(other)


def _is_still(kept: _File) -> bool:
    """Whether the best is there and unchanged. It is opened, for a network file system remembers what it was."""
    try:
        with open_regular(kept.path) as file:
            return _same(os.fstat(file.fileno()), kept.status)
    except OSError:
        return False


def _is_quarantined(path: bytes, folder: bytes) -> bool:
    """Whether a file lies in a folder of moved copies, this or another: what is in there does not count as kept."""
    above = os.path.dirname(os.path.realpath(path))
    return _lies_in(above, folder) or any(os.path.lexists(join(one, MANIFEST)) for one in _upward(above))


# ------------------------------------------------------------------------------------------ reading


def _read(path: bytes) -> _File:
    """Raises `OSError`."""
    with open_regular(path) as file:
        digest = hashlib.sha256()
        for part in _parts(file):
            digest.update(part)
        return _File(path, os.fstat(file.fileno()), digest.digest())


def _read_both(one: bytes, other: bytes) -> tuple[_File, _File, bool]:
    """Two files read at once, and whether they are equal byte for byte. Raises `OSError` with the file's name."""
    digests = hashlib.sha256(), hashlib.sha256()
    equal = True
    with open_regular(one) as first, open_regular(other) as second:
        for pair in itertools.zip_longest(_parts(first), _parts(second), fillvalue=b""):
            equal = equal and pair[0] == pair[1]
            for digest, part in zip(digests, pair, strict=True):
                digest.update(part)
        return (
            _File(one, os.fstat(first.fileno()), digests[0].digest()),
            _File(other, os.fstat(second.fileno()), digests[1].digest()),
            equal,
        )


def _parts(file: BinaryIO) -> Iterator[bytes]:
    try:
        while part := file.read(_PART):
            yield part
    except OSError as error:  # a bad sector, of which the system does not say in which file
        raise OSError(error.errno, error.strerror, file.name) from None


# ------------------------------------------------------------------------------------------ from one place to the other


def _carry(entry: Entry, file: _File, target: bytes, temporary: bytes, rename: Callable[[bytes, bytes], None]) -> None:
    """Give a file another name, over nothing; on another file system, copy it under a temporary name first.

    Raises `_Stays` or `OSError`.
    """
    try:
        rename(file.path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(entry, file, target, temporary)
        return
    if _times(os.lstat(target))[:2] != _times(file.status)[:2]:  # renaming it is a change too, by the third
        rename(target, file.path)
        raise _Stays("it was changed while being moved")


def _copy_across(entry: Entry, file: _File, target: bytes, temporary: bytes) -> None:
    source, before = file.path, file.status
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        copy = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            shutil.copyfile(source, temporary)
            _make_alike(entry, source, temporary, before)
            os.fsync(copy)
        finally:
            os.close(copy)
        if not _read_both(source, temporary)[2]:
            raise _Stays("it was changed while being copied, or the copy is damaged")
        link_new(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_folder(os.path.dirname(target))
    try:
        if not _same(os.lstat(source), before):
            raise _Stays("it was changed while being copied")
        os.unlink(source)
    except (_Stays, OSError):
        if os.path.lexists(source):
            os.unlink(target)
        raise
    sync_folder(os.path.dirname(source))


def _make_alike(entry: Entry, source: bytes, copy: bytes, before: os.stat_result) -> None:
    """Times, mode, owner and attributes, as far as the file system has them and the user may set them.

    Time and mode are those of the original: a memory card in between may have rounded them.
    """
    with contextlib.suppress(OSError):
        shutil.copystat(source, copy)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(copy, before.st_uid, before.st_gid)
    with contextlib.suppress(OSError):
        os.chmod(copy, entry.mode)
    with contextlib.suppress(OSError):
        os.utime(copy, ns=(before.st_atime_ns, entry.mtime_ns))


# ------------------------------------------------------------------------------------------ putting back


def undo(folder: str, *, dry_run: bool = False) -> Iterator[Move]:
    """Put everything in a folder of moved copies back, the last one first. Yields nothing where there is nothing.

    A file that cannot be put back stays in the folder, and its entry in the journal; so does one whose place is taken.
    In what is yielded, `source` is the place in the folder and `target` the original one. Raises `ClipsearchError`.
    """
    if not folder:
        raise BadArgument("undo", "needs the name of a folder")
    path = absolute(folder)
    if not os.path.isdir(path):
        raise BadRequest(f"there is no folder {folder}")
    if not os.path.lexists(join(path, MANIFEST)):
        return
    opened: contextlib.AbstractContextManager[Manifest] = (
        contextlib.nullcontext(Manifest(path)) if dry_run else journal(path)
    )
    with opened as manifest:
        for entry in reversed(list(manifest.entries.values())):
            done = Move(entry.target, entry.source, entry.best, entry.size)
            try:
                if _restore(entry, manifest, dry_run=dry_run):
                    yield done
            except _Stays as stays:
                yield done._replace(reason=str(stays), failed=stays.failed)
            except OSError as error:
                yield done._replace(reason=reason(error), failed=True)
        for number in manifest.damaged:
            yield Move(manifest.path, None, None, 0, f"line {number} is damaged", failed=True)


def _restore(entry: Entry, manifest: Manifest, *, dry_run: bool) -> bool:
    """Put one file back; False where there was nothing to do. Raises `_Stays` and `OSError`."""
    if not _lies_in(os.path.dirname(entry.target), manifest.folder):
        raise _Stays(f"it is not there; this is a journal of files in {os.fsdecode(manifest.folder)}")
    was_moved = os.path.lexists(entry.target)
    if _settle(entry, None if dry_run else manifest) == BACK:
        return was_moved
    if not os.path.lexists(entry.target):
        _check_put_back_by_hand(entry)
        if not dry_run:
            manifest.end(entry, BACK)
        return False
    _check_place(entry)
    file = _read(entry.target) if _is_regular(entry.target) else None
    if file is None or file.sha256.hex() != entry.sha256:
        raise _Stays("it was changed since it was moved")
    if dry_run:
        return True
    manifest.begin(entry._replace(step=RESTORE))
    try:
        os.makedirs(os.path.dirname(entry.source), exist_ok=True)
        _carry(entry, file, entry.source, manifest.temporary(entry.source), link_new)
    except (_Stays, OSError):
        if os.path.lexists(entry.target) and not os.path.lexists(entry.source):
            manifest.end(entry, MOVED)
        raise
    manifest.end(entry, BACK)
    return True


def _check_put_back_by_hand(entry: Entry) -> None:
    """Raises `_Stays` when a file that is not in the folder any more is not in its original place either."""
    if not os.path.lexists(entry.source):
        raise _Stays("it is neither there nor in its original place")
    if not (_is_regular(entry.source) and _read(entry.source).sha256.hex() == entry.sha256):
        raise _Stays("it is not there any more, and another file is in its original place")


def _check_place(entry: Entry) -> None:
    """Raises `_Stays` when a file cannot have its original place."""
    if os.path.lexists(entry.source):
        if _is_regular(entry.source) and _is_regular(entry.target) and _read_both(entry.source, entry.target)[2]:
            raise _Stays("an identical file is in its original place already", failed=False)
        raise _Stays("another file is in its original place")
    if not os.path.ismount(entry.drive):  # once it is mounted, it would hide the file
        raise _Stays(f"{os.fsdecode(entry.drive)} is not mounted")


def _settle(entry: Entry, manifest: Manifest | None) -> str:
    """Where a file is, `MOVED` or `BACK`, after a step that a kill may have left half done is completed or undone.

    A file is deleted only when the other one has the same bytes, or when it is the empty file that `rename_new` begins
    with. Without a manifest, nothing is changed.
    """
    if not entry.is_open:
        return entry.step
    here, there = _status(entry.source), _status(entry.target)
    step, rest = MOVED, None
    if here is None or there is None:
        step = BACK if there is None and here is not None else MOVED
    elif entry.step == MOVE and there.st_size == 0 < entry.size:
        step, rest = BACK, entry.target
    elif entry.step == RESTORE and here.st_size == 0 < entry.size == there.st_size:
        rest = entry.source
    elif _are_equal_files(entry, here, there):
        step, rest = BACK, entry.target
    if manifest is not None:
        if rest is not None:
            os.unlink(rest)
        for path in (entry.source, entry.target):
            with contextlib.suppress(OSError):
                os.unlink(manifest.temporary(path))
        manifest.end(entry, step)
    return step


def _are_equal_files(entry: Entry, here: os.stat_result, there: os.stat_result) -> bool:
    """Whether two files are equal, and deleting one leaves the other: they are not one name seen through two mounts."""
    if not (stat.S_ISREG(here.st_mode) and stat.S_ISREG(there.st_mode)):
        return False
    if os.path.samestat(here, there):
        return here.st_nlink > 1
    return not _may_be_one_file(here, there) and _read_both(entry.source, entry.target)[2]


def _is_regular(path: bytes) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
