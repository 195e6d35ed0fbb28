"""Puts back what `quarantine` has moved, and recovers from steps that were interrupted."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterator

from clipsearch.errors import BadArgument, BadRequest, reason
from clipsearch.output.manifest import BACK, MANIFEST, MOVE, MOVED, RESTORE, Entry, Manifest, journal
from clipsearch.output.safe_move import Move, NotMoved, may_be_one_file, move_file, read, read_both
from clipsearch.paths import absolute, join, lies_in, link_new


def undo(folder: str, *, only: Container[bytes] | None = None, dry_run: bool = False) -> Iterator[Move]:
    """Put back everything in a folder of moved copies, the last one first. Yields nothing if there is nothing.

    `only`: just the files with these paths in the folder.

    A file that cannot be put back, or whose place is taken, stays in the folder and in the journal. In the results,
    `source` is the place in the folder and `target` the original one. Raises `ClipsearchError`.
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
        chosen = [entry for entry in manifest.entries.values() if only is None or entry.target in only]
        for entry in reversed(chosen):
            done = Move(entry.target, entry.source, entry.best, entry.size)
            try:
                if _restore(entry, manifest, dry_run=dry_run):
                    yield done
            except NotMoved as error:
                yield done._replace(reason=str(error), failed=error.failed)
            except OSError as error:
                yield done._replace(reason=reason(error), failed=True)
        for number in manifest.damaged:
            yield Move(manifest.path, None, None, 0, f"line {number} is damaged", failed=True)


def _restore(entry: Entry, manifest: Manifest, *, dry_run: bool) -> bool:
    """Put one file back; False if there was nothing to do. Raises `NotMoved` and `OSError`."""
    if not lies_in(os.path.dirname(entry.target), manifest.folder):
        raise NotMoved(f"it is not there; this is a journal of files in {os.fsdecode(manifest.folder)}")
    was_moved = os.path.lexists(entry.target)
    if recover(entry, None if dry_run else manifest) == BACK:
        return was_moved
    if not os.path.lexists(entry.target):
        _check_put_back_by_hand(entry)
        if not dry_run:
            manifest.end(entry, BACK)
        return False
    _check_place(entry)
    file = read(entry.target) if _is_regular(entry.target) else None
    if file is None or file.sha256.hex() != entry.sha256:
        raise NotMoved("it was changed since it was moved")
    if dry_run:
        return True
    manifest.begin(entry._replace(step=RESTORE))
    try:
        os.makedirs(os.path.dirname(entry.source), exist_ok=True)
        temporary = manifest.temporary(entry.source)
        move_file(file, entry.source, temporary, link_new, entry.original)
    except (NotMoved, OSError):
        if os.path.lexists(entry.target) and not os.path.lexists(entry.source):
            manifest.end(entry, MOVED)
        raise
    manifest.end(entry, BACK)
    return True


def _check_put_back_by_hand(entry: Entry) -> None:
    """Raise `NotMoved` if a file that has left the folder is not in its original place."""
    if not os.path.lexists(entry.source):
        raise NotMoved("it is gone, and not in its original place either")
    if not (_is_regular(entry.source) and read(entry.source).sha256.hex() == entry.sha256):
        raise NotMoved("it is gone, and another file is in its original place")


def _check_place(entry: Entry) -> None:
    """Raise `NotMoved` if the original place of a file is taken or not mounted."""
    if os.path.lexists(entry.source):
        if _is_regular(entry.source) and _is_regular(entry.target) and read_both(entry.source, entry.target)[2]:
            raise NotMoved("an identical file is in its original place already", failed=False)
        raise NotMoved("another file is in its original place")
    if not os.path.ismount(entry.drive):  # mounting it later would hide the file
        raise NotMoved(f"{os.fsdecode(entry.drive)} is not mounted")


def recover(entry: Entry, manifest: Manifest | None) -> str:
    """Complete or undo a step that a kill may have interrupted, and return where the file is: `MOVED` or `BACK`.

    Deletes a file only if the other one has the same bytes, or if it is the empty placeholder of `rename_new`. Without
    a manifest, changes nothing.
    """
    if not entry.is_open:
        return entry.step
    here, there = _status(entry.source), _status(entry.target)
    step, leftover = MOVED, None
    if here is None or there is None:
        step = BACK if there is None and here is not None else MOVED
    elif entry.step == MOVE and there.st_size == 0 < entry.size:
        step, leftover = BACK, entry.target
    elif entry.step == RESTORE and here.st_size == 0 < entry.size == there.st_size:
        leftover = entry.source
    elif _are_equal_files(entry, here, there):
        step, leftover = BACK, entry.target
    if manifest is not None:
        if leftover is not None:
            os.unlink(leftover)
        for path in (entry.source, entry.target):
            with contextlib.suppress(OSError):
                os.unlink(manifest.temporary(path))
        manifest.end(entry, step)
    return step


def _are_equal_files(entry: Entry, here: os.stat_result, there: os.stat_result) -> bool:
    """Whether two files are equal, and not one file seen through two mounts, so that one can be deleted."""
    if not (stat.S_ISREG(here.st_mode) and stat.S_ISREG(there.st_mode)):
        return False
    if os.path.samestat(here, there):
        return here.st_nlink > 1
    return not may_be_one_file(here, there) and read_both(entry.source, entry.target)[2]


def _is_regular(path: bytes) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
