"""Moves redundant copies into a folder from which all of them can be put back.

Every photo is complete in at least one of its two places at any moment, whatever is killed when. Each step is in the
folder's journal (`manifest`) before it is taken.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from clipsearch.errors import BadArgument, BadRequest, reason
from clipsearch.images.read import content_hash_from
from clipsearch.images.siblings import OwnSidecars
from clipsearch.output.manifest import (
    BACK,
    MANIFEST,
    MOVED,
    Entry,
    Manifest,
    journal,
    make_folders,
    remove_empty,
)
from clipsearch.output.safe_move import (
    Move,
    NotMoved,
    Snapshot,
    drive_of,
    exists_unchanged,
    is_unchanged,
    may_be_one_file,
    move_file,
    read,
    read_both,
    unchanged_status,
)
from clipsearch.output.undo import recover
from clipsearch.paths import absolute, join, lies_in, link_new, rename_new, upward
from clipsearch.search.copies import Copy, Group
from clipsearch.store.photo import Photo


def destination(folder: str, roots: Iterable[bytes]) -> bytes:
    """The absolute path of a folder that copies may be moved to. Raises `BadRequest`."""
    if not folder:
        raise BadArgument("move_to", "needs the name of a folder")
    path = absolute(folder)
    for root in roots:
        if lies_in(path, root):
            raise BadRequest(
                f"{folder} lies in an indexed folder; choose one outside, or the next index would find the copies again"
            )
        if lies_in(root, path):
            raise BadRequest(f"{folder} contains the indexed folder {os.fsdecode(root)}; choose another one")
    existing = next(above for above in upward(path) if os.path.lexists(above))
    if not os.path.isdir(existing):
        raise BadRequest(f"{os.fsdecode(existing)} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadRequest(f"{folder} cannot be written to: permission denied")
    return path


def with_kept(groups: Iterable[Group], kept: Iterable[bytes]) -> list[Group]:
    """The groups that have a file of `kept`, for `move`: the first of these is the best, and the others are left out.

    Raises `BadRequest` for a file that is in none of the groups.
    """
    wanted = set(kept)
    chosen: list[Group] = []
    found: set[bytes] = set()
    for group in groups:
        here = [copy for copy in group if copy.photo.file in wanted]
        if here:
            found.update(copy.photo.file for copy in here)
            chosen.append((here[0], *(copy for copy in group if copy.photo.file not in wanted)))
    missing = sorted(wanted - found)
    if missing:
        raise BadRequest(f"{os.fsdecode(missing[0])} is in none of the groups")
    return chosen


# ------------------------------------------------------------------------------------------ moving


def move(groups: Sequence[Group], folder: bytes, *, dry_run: bool = False) -> Iterator[Move]:
    """Move all copies but the best of each group, with their sidecars, below a folder (see `destination`).

    `/home/a/x.jpg` becomes `FOLDER/home/a/x.jpg`, or `FOLDER/2/home/a/x.jpg` if that name is taken. Yields each file
    when it is done. A file stays unless it and its best still are what was indexed. Raises `ClipsearchError` when
    nothing more can be moved; what has been moved can be undone.
    """
    if not any(len(group) > 1 for group in groups):
        return
    bests = frozenset(group[0].photo.file for group in groups)
    if dry_run:
        Manifest(folder)  # raises what a real run would
    opened: contextlib.AbstractContextManager[Manifest | None] = (
        contextlib.nullcontext() if dry_run else journal(folder)
    )
    with opened as manifest:
        for entry in list(manifest.entries.values()) if manifest is not None else ():
            with contextlib.suppress(OSError):
                recover(entry, manifest)
        mover = _Mover(folder, manifest, bests)
        for group in groups:
            for copy in group[1:]:
                yield from mover.move(copy, group[0].photo)


class _Mover:
    def __init__(self, folder: bytes, manifest: Manifest | None, bests: frozenset[bytes]) -> None:
        """Moves nothing without a manifest."""
        self._folder, self._manifest, self._bests = folder, manifest, bests
        self._sidecars = OwnSidecars()

    def move(self, copy: Copy, best: Photo) -> Iterator[Move]:
        """Move one copy, then its sidecars."""
        photo = copy.photo
        try:
            if photo.file in self._bests:
                raise NotMoved("it is the best of another group", failed=False)
            file, kept = _checked(copy, best, self._folder)
        except NotMoved as error:
            yield Move(photo.file, None, best.file, photo.size, str(error), error.failed)
            return
        sidecars = self._sidecars.of(photo.file)
        top = self._free_top([photo.file, *sidecars])
        done = self._put(file, top, kept)
        yield done
        for path in sidecars if done.moved else ():
            try:
                sidecar = read(path)
            except OSError as error:
                yield Move(path, None, best.file, 0, reason(error), failed=True, is_sidecar=True)
            else:
                yield self._put(sidecar, top, kept)._replace(is_sidecar=True)

    def _free_top(self, paths: Sequence[bytes]) -> bytes:
        """The folder, or a numbered one in it, in which the places of all these files are free."""
        tops = itertools.chain([self._folder], (join(self._folder, b"%d" % n) for n in itertools.count(2)))
        return next(top for top in tops if not any(os.path.lexists(_below(top, path)) for path in paths))

    def _put(self, file: Snapshot, top: bytes, kept: Snapshot) -> Move:
        target = _below(top, file.path)
        done = Move(file.path, target, kept.path, file.status.st_size)
        try:
            if not os.access(os.path.dirname(file.path), os.W_OK | os.X_OK):
                raise NotMoved("its folder cannot be written to")
            if self._manifest is not None:
                self._carry_out(self._manifest, file, target, kept)
        except NotMoved as error:
            return done._replace(reason=str(error), failed=error.failed)
        except OSError as error:
            return done._replace(reason=reason(error), failed=True)
        self._sidecars.gone.add(file.path)
        return done

    def _carry_out(self, manifest: Manifest, file: Snapshot, target: bytes, kept: Snapshot) -> None:
        """Raises `NotMoved` or `OSError` if the file is in its old place, or where the message says."""
        status = file.status
        entry = Entry(
            file.path,
            target,
            kept.path,
            status.st_size,
            file.sha256.hex(),
            status.st_mtime_ns,
            stat.S_IMODE(status.st_mode),
            drive_of(os.path.dirname(file.path)),
        )
        manifest.begin(entry)
        try:
            make_folders(os.path.dirname(target))
            move_file(file, target, manifest.temporary(target), rename_new, entry.original)
            if not exists_unchanged(kept):
                self._take_back(manifest, entry, file, kept)
        except (NotMoved, OSError):
            if os.path.lexists(file.path) and not os.path.lexists(target):
                manifest.end(entry, BACK)
                remove_empty(os.path.dirname(target), manifest.folder)
            raise
        manifest.end(entry, MOVED)

    def _take_back(self, manifest: Manifest, entry: Entry, file: Snapshot, kept: Snapshot) -> None:
        """The best moved along, so both were one file after all, or it was changed: undo the move."""
        why = f"the best, {os.fsdecode(kept.path)}, was gone or changed after the move"
        try:
            there = file._replace(path=entry.target, status=os.lstat(entry.target))
            temporary = manifest.temporary(entry.source)
            move_file(there, entry.source, temporary, link_new, entry.original)
        except (NotMoved, OSError) as error:
            manifest.end(entry, MOVED)
            raise NotMoved(f"{why}; the copy is in {os.fsdecode(entry.target)} and could not be put back") from error
        raise NotMoved(f"{why}; the copy was put back")


def _below(top: bytes, path: bytes) -> bytes:
    """The place of an absolute path below a folder; a drive letter becomes a folder."""
    drive, rest = os.path.splitdrive(path)
    letter = drive.replace(b":", b"").strip(b"/\\")
    return join(join(top, letter) if letter else top, rest.lstrip(b"/"))


# ------------------------------------------------------------------------------------------ what may be moved


def _checked(copy: Copy, best: Photo, folder: bytes) -> tuple[Snapshot, Snapshot]:
    """Read a copy and its best in full, and check that the copy may be moved. Raises `NotMoved`."""
    photo = copy.photo
    best_name = f"the best, {os.fsdecode(best.file)}"
    if copy.same_file:
        raise NotMoved(f"{os.fsdecode(copy.same_file[0])} is another name of it", failed=False)
    status = unchanged_status(photo, "it")
    if _is_quarantined(photo.file, folder):
        raise NotMoved("it is already in a folder of moved copies", failed=False)
    if status.st_nlink > 1:
        raise NotMoved("it has another name (a hard link), so moving it would free nothing", failed=False)
    best_status = unchanged_status(best, f"{best_name},")
    if _is_quarantined(best.file, folder):
        raise NotMoved(f"{best_name}, is in a folder of moved copies")
    if may_be_one_file(status, best_status):
        raise NotMoved(f"it may be the same file as {best_name}", failed=False)
    try:
        file, kept, equal = read_both(photo.file, best.file)
    except OSError as error:
        name = os.fsdecode(error.filename or photo.file)
        raise NotMoved(f"{name} cannot be read: {reason(error)}") from None
    for now, before, of, name in ((file, status, photo, "it"), (kept, best_status, best, f"{best_name},")):
        if not is_unchanged(now.status, before) or not (of.is_video or content_hash_from(now.sha256) == of.content):
            raise NotMoved(f"{name} was changed since it was indexed")
    must_be_equal = photo.content == best.content or photo.is_video or best.is_video
    if must_be_equal and not equal:  # the content hash of a video covers only samples
        raise NotMoved(f"it differs from {best_name}, byte by byte")
    return file, kept


def _is_quarantined(path: bytes, folder: bytes) -> bool:
    """Whether a file is in a folder of moved copies, this or another: such a file does not count as kept."""
    above = os.path.dirname(os.path.realpath(path))
    return lies_in(above, folder) or any(os.path.lexists(join(one, MANIFEST)) for one in upward(above))
