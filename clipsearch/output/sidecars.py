"""Labels in the XMP sidecars of photos, where other programs look for keywords. Photos themselves are never written."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import ClipsearchError, SidecarUnusable, reason
from clipsearch.images.beside import SidecarNames, is_sidecar_name, long_name, read_sidecar
from clipsearch.images.kinds import SUFFIXES, is_raw_name
from clipsearch.images.xmp import keywords, our_keywords, path_of, with_keywords, without_ours
from clipsearch.paths import absolute, relative_to, replacing
from clipsearch.store.lock import lives

# RAW files that are not indexed have sidecars too.
_OTHER_RAW = b".3fr .crw .dcr .erf .iiq .kdc .mef .mos .mrw .nrw .raw .rwl .sr2 .srf .srw .x3f".split()
_HAVE_SIDECARS = SUFFIXES.union(_OTHER_RAW)
_LEFTOVER = re.compile(
    rb"\..*\.xmp\.(\d+)(\.[0-9a-f]{8})?\.tmp", re.IGNORECASE | re.DOTALL
)  # as `replacing` names its files
_MOST_TRIES = 5

Edit = Callable[[bytes | None], bytes | None]


class Change(NamedTuple):
    """What becomes of a sidecar: its bytes before and after, None for no file, and the keywords that this is about."""

    path: Path
    before: bytes | None
    after: bytes | None
    keywords: tuple[str, ...]
    edit: Edit


class _Folder:
    """What matters in a folder: its sidecars, the stems that several photos have, and what killed processes left."""

    def __init__(self, folder: bytes) -> None:
        """Raises `OSError`."""
        sidecars, others, stems = [], [], Counter[bytes]()
        self.leftovers: list[bytes] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if is_sidecar_name(entry.name) and not os.path.isdir(entry.path):
                    sidecars.append(entry.name)
                    continue
                others.append(entry.name)
                if suffix.lower() in _HAVE_SIDECARS:
                    stems[stem.lower()] += 1
                elif _LEFTOVER.fullmatch(entry.name):
                    self.leftovers.append(entry.path)
        self.names = SidecarNames(sidecars, others)
        self._shared = {stem for stem, count in stems.items() if count > 1}

    def to_write(self, photo: bytes) -> tuple[bytes, ...]:
        """The sidecars that labels of this photo may go to: `IMG_1.xmp` is the RAW file's beside `IMG_1.jpg`."""
        is_shared = os.path.splitext(photo)[0].lower() in self._shared and not is_raw_name(photo)
        return self.names.with_whole_name(photo) if is_shared else self.names.of(photo)


class Sidecars:
    """Plans changes of sidecars and carries them out. Each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[bytes, _Folder] = {}

    def addition(self, photo: bytes, labels: Sequence[str]) -> Change:
        """Labels added to a sidecar of a photo; nothing changes where it has them. Raises `ClipsearchError`.

        Of several sidecars, it is the first one that has keywords of other programs, or else the first one.
        """
        folder, name = self._folder(photo), os.path.basename(photo)
        paths = [_beside(photo, sidecar) for sidecar in folder.to_write(name)] or [_beside(photo, long_name(name))]
        path = next(filter(_is_used, paths), paths[0]) if len(paths) > 1 else paths[0]
        words = tuple(dict.fromkeys(part for label in labels for part in path_of(label)))
        return _planned(path, functools.partial(with_keywords, add=labels), words)

    def of(self, photo: bytes) -> list[Path]:
        """All sidecars of a photo. Raises `ClipsearchError` if it is no file."""
        return [_beside(photo, name) for name in self._folder(photo).names.of(os.path.basename(photo))]

    def removal(self, sidecar: Path) -> Change:
        """What `addition` added, taken out of a sidecar. Raises `ClipsearchError`."""
        change = _planned(sidecar, _without_ours)
        if change.before is None or change.after == change.before:
            return change
        with _left_alone(sidecar):
            return change._replace(keywords=our_keywords(change.before))

    def carry_out(self, change: Change) -> None:
        """Write or delete a sidecar in one step. Raises `ClipsearchError`.

        Another program may have changed it since it was planned, or may do so now: then it is planned again.
        Owner, permissions and extended attributes stay as far as this user may set them, and a link to the file does.
        """
        self._clean_up(change.path)
        for _ in range(_MOST_TRIES):
            if change.after == change.before or _written(change):
                return
            change = _planned(change.path, change.edit, change.keywords)
        raise ClipsearchError(f"{change.path} is left as it is: another program keeps changing it")

    def _folder(self, photo: bytes) -> _Folder:
        if not os.path.isfile(photo):
            raise ClipsearchError(f"{os.fsdecode(photo)} is not a file that could have a sidecar")
        path = os.path.dirname(photo)
        if path not in self._folders:
            try:
                self._folders[path] = _Folder(path)
            except OSError as error:
                raise ClipsearchError(f"{os.fsdecode(path)} cannot be read: {reason(error)}") from error
        return self._folders[path]

    def _clean_up(self, sidecar: Path) -> None:
        """Delete the temporary files that killed processes have left beside a sidecar."""
        folder = self._folders.get(os.fsencode(sidecar.parent))
        if folder is None:
            return
        for path in folder.leftovers:
            match = _LEFTOVER.fullmatch(os.path.basename(path))
            if match and (int(match[1]) == os.getpid() or not lives(int(match[1]))):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        folder.leftovers.clear()


def _beside(photo: bytes, name: bytes) -> Path:
    """A sidecar lies beside the name that the index has for a photo, also where that is a link: it is read there."""
    return Path(os.fsdecode(os.path.join(os.path.dirname(photo), name)))


def _is_used(sidecar: Path) -> bool:
    """Whether another program keeps keywords in a sidecar."""
    try:
        document = _read(sidecar) or b""
        return bool(set(keywords(document)).difference(our_keywords(document)))
    except (ClipsearchError, SidecarUnusable):
        return False


def _without_ours(document: bytes | None) -> bytes | None:
    return None if document is None else without_ours(document)


def _planned(path: Path, edit: Edit, words: tuple[str, ...] = ()) -> Change:
    before = _read(path)
    with _left_alone(path):
        after = edit(before)
    if after != before:
        _target(path)  # raises where it could not be written
    return Change(path, before, after, words, edit)


def _written(change: Change) -> bool:
    """Write a sidecar; False, and nothing is done, when it is not as it was planned. Raises `ClipsearchError`."""
    try:
        path = _target(change.path)
        if change.after is None:
            if _read(change.path) != change.before:
                return False
            path.unlink(missing_ok=True)
            return True
        # Until a file has the permissions of the one that it replaces, nobody else can read it.
        with replacing(path, private=change.before is not None, new=change.before is None) as temporary:
            with open(temporary, "wb") as file:
                file.write(change.after)
                file.flush()
                os.fsync(file.fileno())  # now: nothing that takes long may come between comparing and replacing
            if change.before is not None:
                _keep_attributes(path, temporary)
            if _read(change.path) != change.before:
                raise _Changed
    except (_Changed, FileExistsError):
        return False
    except OSError as error:
        raise ClipsearchError(f"{change.path} cannot be written: {reason(error)}") from error
    return True


class _Changed(Exception):
    """A sidecar was changed since it was planned what becomes of it."""


def _keep_attributes(path: Path, temporary: Path) -> None:
    """Give a file the owner, the permissions and the extended attributes of another. Raises `OSError`."""
    status = os.stat(path)
    if hasattr(os, "chown"):
        for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):
            with contextlib.suppress(OSError):  # only root may give files away
                os.chown(temporary, owner, group)
    shutil.copymode(path, temporary)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # the file system has none
            for name in os.listxattr(path):
                with contextlib.suppress(OSError):  # some are the system's own
                    os.setxattr(temporary, name, os.getxattr(path, name))


def _target(path: Path) -> Path:
    """The file to write for a sidecar that may be a link. Raises `ClipsearchError` if that leads out of its folder."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if relative_to(absolute(path), absolute(path.parent)) is None:
        raise ClipsearchError(f"{path} is left as it is: it is a link that leads out of its folder")
    if not target.exists():
        raise ClipsearchError(f"{path} is left as it is: it is a broken link")
    return target


def _read(path: Path) -> bytes | None:
    """The bytes of a sidecar, behind links too; None if there is none. Raises `ClipsearchError`."""
    try:
        with _left_alone(path):
            return read_sidecar(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClipsearchError(f"{path} cannot be read: {reason(error)}") from error


@contextlib.contextmanager
def _left_alone(path: Path) -> Iterator[None]:
    """Says of which sidecar it is that it cannot be changed."""
    try:
        yield
    except SidecarUnusable as error:
        raise ClipsearchError(f"{path} is left as it is: {error}") from None
