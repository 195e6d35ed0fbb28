"""Writes labels, names of faces and captions to the XMP sidecars of photos, and removes them again.

Photos are never written to.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.errors import ClipsearchError, SidecarUnusable, reason
from clipsearch.images.kinds import SUFFIXES, is_raw_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.regions import Region
from clipsearch.images.sandbox import Decoders
from clipsearch.images.siblings import XmpNames, is_xmp_name, read_sidecar, sidecar_facts, unambiguous_sidecar
from clipsearch.images.takeout import TakeoutNames
from clipsearch.images.xmp import keywords, our_keywords, path_of, with_keywords, without_ours
from clipsearch.images.xmp_caption import with_caption, without_caption
from clipsearch.images.xmp_facts import face_regions
from clipsearch.images.xmp_regions import FaceName, with_regions, without_regions
from clipsearch.indexing.read_file import read_file
from clipsearch.paths import absolute, relative_to, replacing
from clipsearch.store.lock import lives

if TYPE_CHECKING:
    from clipsearch.images.box import Box

_HAVE_SIDECARS = SUFFIXES | {b".raw"}  # RAW files that cannot be indexed have sidecars too
# Temporary files of `replacing`, with the id of the process that made them.
_TEMPORARY = re.compile(rb"\..*\.xmp\.(\d+)(\.[0-9a-f]{8})?\.tmp", re.IGNORECASE | re.DOTALL)
_MOST_TRIES = 5

Edit = Callable[[bytes | None], bytes | None]


class Change(NamedTuple):
    """A planned change of a sidecar: its bytes before and after, None for no file.

    `texts` are the keywords, names or the caption that are added or removed.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    texts: tuple[str, ...]
    edit: Edit


class _Folder:
    """A listing: the sidecars, stems with several photos, and temporary files left by killed processes."""

    def __init__(self, folder: bytes) -> None:
        """Raises `OSError`."""
        sidecars, others, stems, raw_stems = [], [], Counter[bytes](), Counter[bytes]()
        self.leftovers: list[bytes] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_xmp_name(entry.name) and not os.path.isdir(entry.path):
                    sidecars.append(entry.name)
                    continue
                others.append(entry.name)
                stem, suffix = os.path.splitext(entry.name.lower())
                if suffix in _HAVE_SIDECARS:
                    stems[stem] += 1
                    raw_stems[stem] += is_raw_name(entry.name)
                elif _TEMPORARY.fullmatch(entry.name):
                    self.leftovers.append(entry.path)
        self.names = XmpNames(sidecars, others)
        self.takeout = TakeoutNames(others)
        self._stems, self._raw_stems = stems, raw_stems

    def writable(self, photo: bytes) -> tuple[bytes, ...]:
        """The sidecars that may get a photo's labels. Beside `IMG_1.jpg`, `IMG_1.cr2` alone owns `IMG_1.xmp`."""
        stem = os.path.splitext(photo)[0].lower()
        is_own = (self._raw_stems if is_raw_name(photo) else self._stems)[stem] == 1
        return self.names.of(photo) if is_own else self.names.with_full_name(photo)


class Tagger:
    """Plans and applies changes of sidecars. Lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[bytes, _Folder] = {}

    def plan_addition(self, photo: bytes, labels: Sequence[str]) -> Change:
        """Add labels to a sidecar of a photo; no change if it has them. Raises `ClipsearchError`.

        With several sidecars, prefers the first that has keywords from other programs.
        """
        words = tuple(dict.fromkeys(part for label in labels for part in path_of(label)))
        return _planned(self._writable(photo), functools.partial(with_keywords, add=labels), words)

    def plan_removal(self, sidecar: Path) -> Change:
        """Remove from a sidecar what `plan_addition` added. Raises `ClipsearchError`."""
        change = _planned(sidecar, lambda document: None if document is None else without_ours(document))
        if change.before is None or change.after == change.before:
            return change
        with _naming(sidecar):
            return change._replace(texts=our_keywords(change.before))

    def plan_faces(self, photo: bytes, faces: Sequence[tuple[str, Box]], of: Metadata) -> list[Change]:
        """Make these names and boxes the face regions that we added to a photo's sidecars. Raises `ClipsearchError`."""
        path, regions = self._writable(photo), [FaceName(*face) for face in faces]
        others = [self.plan_removal_of_faces(other) for other in self.sidecars_of(photo) if other != path]
        elsewhere: list[Region] = []
        for other in others:
            with _naming(other.path):
                elsewhere += face_regions(other.after) if other.after else []
        names = tuple(name for name, _ in faces)
        add = _planned(path, lambda document: with_regions(document, regions, of, elsewhere), names)
        return [change for change in (add, *others) if change.after != change.before]

    def plan_removal_of_faces(self, sidecar: Path) -> Change:
        """Remove from a sidecar what `plan_faces` added. Raises `ClipsearchError`."""
        return _planned(sidecar, lambda document: None if document is None else without_regions(document))

    def plan_caption(self, photo: bytes, caption: str) -> Change:
        """Add a caption to a sidecar of a photo; no change if the photo or a sidecar has one. Raises `ClipsearchError`.

        Reads the photo.
        """
        path, name = self._writable(photo), os.path.basename(photo)
        folder = self._folder(photo)
        others = [
            *folder.takeout.of(name),
            *(one for one in folder.names.of(name) if _sidecar_path(photo, one) != path),
        ]
        elsewhere = sidecar_facts(photo, others)
        if elsewhere.ignored:
            sidecar, problem = elsewhere.ignored[0]
            raise ClipsearchError(f"{path} was not changed: {os.fsdecode(sidecar)} cannot be read: {problem}")
        if elsewhere.facts.caption or elsewhere.takeout.caption or _own_caption(photo):
            return _planned(path, lambda document: document)
        return _planned(path, lambda document: with_caption(document, caption), (caption,))

    def plan_removal_of_caption(self, sidecar: Path) -> Change:
        """Remove from a sidecar what `plan_caption` added. Raises `ClipsearchError`."""
        return _planned(sidecar, lambda document: None if document is None else without_caption(document))

    def _writable(self, photo: bytes) -> Path:
        """The sidecar to add keywords and so on to."""
        folder, name = self._folder(photo), os.path.basename(photo)
        paths = [_sidecar_path(photo, sidecar) for sidecar in folder.writable(name) or [unambiguous_sidecar(name)]]
        return next(filter(_has_foreign_keywords, paths), paths[0]) if len(paths) > 1 else paths[0]

    def sidecars_of(self, photo: bytes) -> list[Path]:
        """All sidecars of a photo. Raises `ClipsearchError` if the photo is not a file."""
        return [_sidecar_path(photo, name) for name in self._folder(photo).names.of(os.path.basename(photo))]

    def apply(self, change: Change) -> None:
        """Write or delete a sidecar atomically. Raises `ClipsearchError`.

        If another program has changed it since it was planned, the change is planned again. Owner, permissions and
        extended attributes are kept as far as the user may set them, and so are links.
        """
        self._delete_leftovers(change.path)
        for _ in range(_MOST_TRIES):
            if change.after == change.before or _written(change):
                return
            change = _planned(change.path, change.edit, change.texts)
        raise ClipsearchError(f"{change.path} was not changed: another program keeps writing to it")

    def _folder(self, photo: bytes) -> _Folder:
        if not os.path.isfile(photo):
            raise ClipsearchError(f"{os.fsdecode(photo)} is not a file, so it can have no sidecar")
        path = os.path.dirname(photo)
        if path not in self._folders:
            try:
                self._folders[path] = _Folder(path)
            except OSError as error:
                raise ClipsearchError(f"{os.fsdecode(path)} cannot be read: {reason(error)}") from error
        return self._folders[path]

    def _delete_leftovers(self, sidecar: Path) -> None:
        folder = self._folders.get(os.fsencode(sidecar.parent))
        if folder is None:
            return
        for path in folder.leftovers:
            match = _TEMPORARY.fullmatch(os.path.basename(path))
            if match and (int(match[1]) == os.getpid() or not lives(int(match[1]))):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        folder.leftovers.clear()


def _sidecar_path(photo: bytes, name: bytes) -> Path:
    """The sidecar lies beside the path that is indexed, even if that is a link: the indexer reads it there."""
    return Path(os.fsdecode(os.path.join(os.path.dirname(photo), name)))


def _own_caption(photo: bytes) -> str | None:
    """The caption in a file, without its sidecars. Raises `ClipsearchError`."""
    with Decoders(1, Preprocess((8, 8))) as decoders:
        found = read_file(photo, lambda _: False, decoders)
    if found.metadata is None:
        raise ClipsearchError(f"{os.fsdecode(photo)} cannot be read: {found.error}")
    return found.metadata.caption


def _has_foreign_keywords(sidecar: Path) -> bool:
    try:
        document = _read(sidecar) or b""
        return bool(set(keywords(document)).difference(our_keywords(document)))
    except (ClipsearchError, SidecarUnusable):
        return False


def _planned(path: Path, edit: Edit, texts: tuple[str, ...] = ()) -> Change:
    before = _read(path)
    with _naming(path):
        after = edit(before)
    if after != before:
        _target(path)  # raises if it could not be written
    return Change(path, before, after, texts, edit)


def _written(change: Change) -> bool:
    """Apply a change; False, with nothing done, if the sidecar is not as planned. Raises `ClipsearchError`."""
    try:
        path = _target(change.path)
        if change.after is None:
            if _read(change.path) != change.before:
                return False
            for one in {path, change.path}:  # a link would be broken
                one.unlink(missing_ok=True)
            return True
        # Private until it has the permissions of the file that it replaces.
        with replacing(path, private=change.before is not None, new=change.before is None) as temporary:
            with open(temporary, "wb") as file:
                file.write(change.after)
                file.flush()
                os.fsync(file.fileno())  # now, so that nothing slow comes between comparing and replacing
            if change.before is not None:
                _copy_attributes(path, temporary)
            if _read(change.path) != change.before:
                raise _Changed
    except (_Changed, FileExistsError):
        return False
    except OSError as error:
        raise ClipsearchError(f"{change.path} cannot be written: {reason(error)}") from error
    return True


class _Changed(Exception):
    """The sidecar is not as planned."""


def _copy_attributes(path: Path, temporary: Path) -> None:
    """Copy owner, permissions and extended attributes. Raises `OSError` if it cannot copy the permissions."""
    status = os.stat(path)
    if hasattr(os, "chown"):
        for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):
            with contextlib.suppress(OSError):  # only root may give files away
                os.chown(temporary, owner, group)
    shutil.copymode(path, temporary)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # not supported by the file system
            for name in os.listxattr(path):
                with contextlib.suppress(OSError):  # reserved for the system
                    os.setxattr(temporary, name, os.getxattr(path, name))


def _target(path: Path) -> Path:
    """The file that a sidecar links to, or the sidecar.

    Raises `ClipsearchError` if the link leaves its folder, and for a read-only file, which could still be replaced.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target != path and relative_to(absolute(path), absolute(path.parent)) is None:
        raise ClipsearchError(f"{path} was not changed: it is a link to another folder")
    if target != path and not target.exists():
        raise ClipsearchError(f"{path} was not changed: it is a broken link")
    if target.exists() and not os.access(target, os.W_OK):
        raise ClipsearchError(f"{path} was not changed: it is read-only")
    return target


def _read(path: Path) -> bytes | None:
    """The bytes of a sidecar; None if there is none. Raises `ClipsearchError`."""
    try:
        with _naming(path):
            return read_sidecar(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClipsearchError(f"{path} cannot be read: {reason(error)}") from error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the sidecar's path to errors."""
    try:
        yield
    except SidecarUnusable as error:
        raise ClipsearchError(f"{path} was not changed: {error}") from None


def check_keyword(label: str) -> None:
    """Raise `BadRequest` for a label that cannot be a keyword in XMP."""
    path_of(label)
