"""Moves photos to the system's trash, and back: https://specifications.freedesktop.org/trash-spec, version 1.0.

A file is renamed within its drive: it is complete in one of the two places at any moment and never deleted. Where the
drive has no trash, the file stays. Every file manager can restore it, too: its record in `info` is written first.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from urllib.parse import quote

from clipsearch.errors import BadRequest, reason
from clipsearch.images.siblings import OwnSidecars
from clipsearch.output.manifest import make_folders
from clipsearch.output.safe_move import Move, NotMoved, drive_of, times, unchanged_status
from clipsearch.paths import absolute, join, link_new, rename_new, upward
from clipsearch.store.photo import Photo

_FILES, _INFO, _SUFFIX = b"files", b"info", b".trashinfo"
_MAX_STEM = 200  # bytes: a number and the suffix of the record must fit in a file name


def check_supported() -> None:
    """Raise `BadRequest` on systems without a trash as freedesktop.org describes it.

    Windows deletes files of drives without a recycle bin for good, and neither Windows nor macOS can undo a move.
    """
    if os.name != "posix" or sys.platform == "darwin":
        raise BadRequest("photos can be moved to the trash on Linux and BSD only")


def trash(photos: Iterable[Photo]) -> Iterator[Move]:
    """Move photos that are as they were indexed to the trash of their drive, each with its own sidecars.

    Yields each file when it is done; `target` is its place in the trash.
    """
    sidecars = OwnSidecars()
    for photo in photos:
        own = sidecars.of(photo.file)
        done = _put(photo.file, photo)
        yield done
        if done.moved:
            sidecars.gone.add(photo.file)
            for path in own:
                yield _put(path)._replace(is_sidecar=True)


def restore(moves: Sequence[Move]) -> Iterator[Move]:
    """Put back what `trash` has moved, the last file first.

    A file whose place is taken stays in the trash. In the results, `target` is the original place.
    """
    for one in reversed([one for one in moves if one.moved]):
        assert one.target is not None
        done = Move(one.target, one.source, None, one.size, is_sidecar=one.is_sidecar)
        try:
            _take_back(one.target, one.source)
            yield done
        except NotMoved as error:
            yield done._replace(reason=str(error), failed=True)
        except OSError as error:
            yield done._replace(reason=reason(error), failed=True)


# ------------------------------------------------------------------------------------------ one file


def _put(path: bytes, photo: Photo | None = None) -> Move:
    """Move a file; a photo only if it is as it was indexed."""
    size = 0
    try:
        status = unchanged_status(photo, "it") if photo else os.lstat(path)
        size = status.st_size
        return Move(path, _rename(path, status), None, size)
    except NotMoved as error:
        return Move(path, None, None, size, str(error), failed=True)
    except OSError as error:
        return Move(path, None, None, size, reason(error), failed=True)


def _rename(path: bytes, status: os.stat_result) -> bytes:
    """Rename a file into the trash, and return its new path. Raises `NotMoved` or `OSError` if it stays."""
    folder, top = _trash_of(os.path.dirname(path), status.st_dev)
    target, record = _reserve(folder, os.path.basename(path), _recorded(path, top))
    try:
        rename_new(path, target)
        now = os.lstat(target)
        if not os.path.samestat(now, status) or times(now)[:2] != times(status)[:2]:  # renaming changes the third
            rename_new(target, path)
            raise NotMoved("it was changed while being moved")
    except BaseException:
        if not os.path.lexists(target):
            os.unlink(record)
        raise
    return target


def _take_back(target: bytes, source: bytes) -> None:
    record = _record_of(target)
    if not os.path.lexists(target) or not _is_record_of(record, source):
        raise NotMoved("it is no longer in the trash")
    if os.path.lexists(source):
        raise NotMoved("another file is in its original place")
    os.makedirs(os.path.dirname(source), exist_ok=True)
    link_new(target, source)
    with contextlib.suppress(OSError):
        os.unlink(record)


# ------------------------------------------------------------------------------------------ records


def _reserve(folder: bytes, name: bytes, about: bytes) -> tuple[bytes, bytes]:
    """A free place in a trash folder, and its record, which is written."""
    stem, suffix = os.path.splitext(name)
    for number in itertools.count(1):
        shortened = stem[: _MAX_STEM - len(suffix)] + (b".%d" % number if number > 1 else b"") + suffix[:_MAX_STEM]
        target = join(join(folder, _FILES), shortened)
        record = _record_of(target)
        if os.path.lexists(target):
            continue
        with contextlib.suppress(FileExistsError):
            handle = os.open(record, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(handle, "wb") as file:
                date = datetime.now().isoformat(timespec="seconds").encode()
                file.write(b"[Trash Info]\nPath=%s\nDeletionDate=%s\n" % (about, date))
                file.flush()
                os.fsync(file.fileno())
            return target, record
    raise AssertionError


def _record_of(target: bytes) -> bytes:
    folder, name = os.path.split(target)
    return join(join(os.path.dirname(folder), _INFO), name + _SUFFIX)


def _recorded(path: bytes, top: bytes) -> bytes:
    """A path as in a record: relative to the top folder of its drive in that drive's own trash, and quoted."""
    real = join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return quote(os.path.relpath(real, top) if top else real).encode()


def _is_record_of(record: bytes, source: bytes) -> bool:
    """Whether a record names this file. Emptying the trash frees names, which other files may have by now."""
    folder, _ = os.path.split(os.path.dirname(record))
    top = b"" if folder == _home_trash() else drive_of(folder)
    try:
        with open(record, "rb") as file:
            return b"Path=" + _recorded(source, top) in file.read(1 << 16).split(b"\n")
    except OSError:
        return False


# ------------------------------------------------------------------------------------------ trash folders


def _trash_of(folder: bytes, device: int) -> tuple[bytes, bytes]:
    """The trash for the files of a folder, ready to use, and the top of its drive: empty for the home trash.

    Raises `NotMoved` if the drive has none.
    """
    home = _home_trash()
    existing = next(above for above in upward(home) if os.path.lexists(above))
    if os.stat(existing).st_dev == device:
        top, chosen = b"", home
    else:
        top = drive_of(folder)
        shared = join(top, b".Trash")
        chosen = join(shared, b"%d" % os.getuid()) if _is_sticky(shared) else join(top, b".Trash-%d" % os.getuid())
    try:
        for part in (_FILES, _INFO):
            make_folders(join(chosen, part))
        for made in (chosen, join(chosen, _FILES), join(chosen, _INFO)):
            status = os.lstat(made)
            if made != home and (not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid()):
                raise NotMoved(f"{os.fsdecode(made)} is not a folder of yours, so its drive has no trash to use")
    except OSError as error:
        drive = os.fsdecode(top or os.path.dirname(home))
        raise NotMoved(f"the drive at {drive} has no trash, and none can be created: {reason(error)}") from None
    return chosen, top


def _home_trash() -> bytes:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return join(absolute(data), b"Trash")


def _is_sticky(folder: bytes) -> bool:
    """Whether a folder is a trash that an administrator made for all users of a drive."""
    try:
        mode = os.lstat(folder).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)
