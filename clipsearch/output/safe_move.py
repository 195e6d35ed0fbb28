"""Moves a file so that a complete copy exists at any moment, and notices changes made to it meanwhile."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from clipsearch.errors import reason
from clipsearch.images.found_file import is_modified
from clipsearch.images.read import open_regular
from clipsearch.paths import link_new, sync_folder, upward
from clipsearch.store.photo import Photo

_CHUNK = 1 << 20


class Move(NamedTuple):
    """What happened to one file, or would in a dry run. It was moved unless there is a `reason`.

    `target` is None if it stays for a reason known before a place was found for it. `failed` is false for files that
    stay as intended.
    """

    source: bytes
    target: bytes | None
    best: bytes | None
    size: int
    reason: str = ""
    failed: bool = False
    is_sidecar: bool = False

    @property
    def moved(self) -> bool:
        return not self.reason


class NotMoved(Exception):
    """The reason why a file was not moved; `failed` is false if that is as intended."""

    def __init__(self, reason: str, *, failed: bool = True) -> None:
        super().__init__(reason)
        self.failed = failed


class Snapshot(NamedTuple):
    """A regular file as it was when it was read in full."""

    path: bytes
    status: os.stat_result
    sha256: bytes


# ------------------------------------------------------------------------------------------ reading


def read(path: bytes) -> Snapshot:
    """Hash a file. Raises `OSError`."""
    with open_regular(path) as file:
        digest = hashlib.sha256()
        for chunk in _chunks(file):
            digest.update(chunk)
        return Snapshot(path, os.fstat(file.fileno()), digest.digest())


def read_both(one: bytes, other: bytes) -> tuple[Snapshot, Snapshot, bool]:
    """Hash two files and compare them byte for byte. Raises `OSError` with the name of the file."""
    digests = hashlib.sha256(), hashlib.sha256()
    equal = True
    with open_regular(one) as first, open_regular(other) as second:
        for pair in itertools.zip_longest(_chunks(first), _chunks(second), fillvalue=b""):
            equal = equal and pair[0] == pair[1]
            for digest, chunk in zip(digests, pair, strict=True):
                digest.update(chunk)
        return (
            Snapshot(one, os.fstat(first.fileno()), digests[0].digest()),
            Snapshot(other, os.fstat(second.fileno()), digests[1].digest()),
            equal,
        )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:  # a bad sector: the system does not say in which file
        raise OSError(error.errno, error.strerror, file.name) from None


def times(status: os.stat_result) -> tuple[int, int, int]:
    """Size and times, which change with the contents."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_unchanged(now: os.stat_result, before: os.stat_result) -> bool:
    """Whether this is the same file with the same contents."""
    return os.path.samestat(now, before) and times(now) == times(before)


def exists_unchanged(file: Snapshot) -> bool:
    """As `is_unchanged`. Opens the file, since network file systems cache its status."""
    try:
        with open_regular(file.path) as now:
            return is_unchanged(os.fstat(now.fileno()), file.status)
    except OSError:
        return False


def unchanged_status(photo: Photo, name: str) -> os.stat_result:
    """The status of a photo's file. Raises `NotMoved` unless it is the regular file that was indexed."""
    try:
        status = os.lstat(photo.file)
    except (FileNotFoundError, NotADirectoryError):
        raise NotMoved(f"{name} is gone") from None
    except OSError as error:
        raise NotMoved(f"{name} cannot be examined: {reason(error)}") from None
    if stat.S_ISLNK(status.st_mode):
        raise NotMoved(f"{name} is a symbolic link", failed=False)
    if not stat.S_ISREG(status.st_mode) or is_modified(status, photo):
        raise NotMoved(f"{name} was changed since it was indexed")
    return status


def drive_of(folder: bytes) -> bytes:
    """The mount point of a folder."""
    return next((above for above in upward(os.path.realpath(folder)) if os.path.ismount(above)), folder)


def may_be_one_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two paths may lead to the same file, which has two devices when it is mounted twice."""
    if one.st_dev == other.st_dev and one.st_ino and other.st_ino:
        return one.st_ino == other.st_ino
    return times(one) == times(other)


# ------------------------------------------------------------------------------------------ moving


def move_file(
    file: Snapshot, target: bytes, temporary: bytes, rename: Callable[[bytes, bytes], None], original: tuple[int, int]
) -> None:
    """Rename a file; on another file system, copy it under a temporary name first. Never overwrites.

    `original` has the mode and mtime_ns that the file had at first: a memory card in between may have rounded them.
    Raises `NotMoved` or `OSError`.
    """
    try:
        rename(file.path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_across(file, target, temporary, original)
        return
    if times(os.lstat(target))[:2] != times(file.status)[:2]:  # renaming changes the third
        rename(target, file.path)
        raise NotMoved("it was changed while being moved")


def _copy_across(file: Snapshot, target: bytes, temporary: bytes, original: tuple[int, int]) -> None:
    source = file.path
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        copy = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            shutil.copyfile(source, temporary)
            _copy_attributes(file, temporary, *original)
            os.fsync(copy)
        finally:
            os.close(copy)
        if not read_both(source, temporary)[2]:
            raise NotMoved("it was changed while being copied, or the copy is damaged")
        link_new(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_folder(os.path.dirname(target))
    try:
        if not is_unchanged(os.lstat(source), file.status):
            raise NotMoved("it was changed while being copied")
        os.unlink(source)
    except (NotMoved, OSError):
        if os.path.lexists(source):
            os.unlink(target)
        raise
    sync_folder(os.path.dirname(source))


def _copy_attributes(file: Snapshot, copy: bytes, mode: int, mtime_ns: int) -> None:
    """Copy whatever the file system supports and the user may set."""
    with contextlib.suppress(OSError):
        shutil.copystat(file.path, copy)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(copy, file.status.st_uid, file.status.st_gid)
    with contextlib.suppress(OSError):
        os.chmod(copy, mode)
    with contextlib.suppress(OSError):
        os.utime(copy, ns=(file.status.st_atime_ns, mtime_ns))
