"""Walk folders in a stable order and yield the files that look like photos.

Paths are bytes, as the file system has them, relative to the scanned root and with `/` between their parts, in
bytewise order of the whole path: two scans of one tree, or a scan and a sorted catalogue, can be merged.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from clipsearch.errors import reason
from clipsearch.extras import is_installed
from clipsearch.images.beside import SidecarNames, is_sidecar_name, token
from clipsearch.images.patterns import compiled, composed
from clipsearch.images.read import read_head
from clipsearch.images.signatures import HEAD, looks_like_a_photo
from clipsearch.paths import list_folder

# Kinds of file by the endings of their names.
TYPES = {
    name: tuple(suffixes.split())
    for name, suffixes in {
        "jpeg": ".jpg .jpeg .jpe .jfif",
        "png": ".png .apng",
        "gif": ".gif",
        "webp": ".webp",
        "tiff": ".tif .tiff",
        "bmp": ".bmp",
        "heic": ".heic .heif .hif",
        "avif": ".avif",
        "jp2": ".jp2",
        "pnm": ".ppm .pgm",
        "tga": ".tga",
        "video": ".mp4 .m4v .mov .mkv .webm .avi",
        "raw": ".cr2 .cr3 .nef .arw .dng .raf .rw2 .orf .pef",
    }.items()
}
_RAW = tuple(suffix.encode() for suffix in TYPES["raw"])
_VIDEO = tuple(suffix.encode() for suffix in TYPES["video"])
IMAGE_SUFFIXES = frozenset(suffix.encode() for suffixes in TYPES.values() for suffix in suffixes)
_CTIME_IS_CHANGE = os.name != "nt"  # on Windows it is the time of creation
_SQLITE_INTEGER = 2**63 - 1  # some file systems keep times beyond the year 2262
_UNKNOWN = (0, 0)  # the identity of a folder where the file system gives none
BROKEN_LINK = "broken link"
NOT_PHOTOS = frozenset({b"@eaDir", b"node_modules"})  # thumbnails of photo servers, packages


def is_raw_name(path: bytes) -> bool:
    """Whether a file's name is that of a RAW file."""
    return path.lower().endswith(_RAW)


@functools.cache
def can_read_videos() -> bool:
    """Whether the package for videos is installed; where it is not, scans leave them out."""
    return is_installed("video")


def is_video_name(path: bytes) -> bool:
    """Whether a file's name is that of a video."""
    return path.lower().endswith(_VIDEO)


class Rules(NamedTuple):
    """What a scan leaves out and takes in.

    `exclude` are patterns as in a .gitignore file in the root (`images.patterns`). `any_name` takes in files without an
    extension whose first bytes are those of a photo.
    """

    hidden: bool = False
    follow_links: bool = False
    exclude: tuple[str, ...] = ()
    any_name: bool = False
    raw: bool = True
    video: bool = True


class Setting(StrEnum):
    """A rule other than a pattern that leaves a path out. A type of its own: a pattern may read "hidden" too."""

    HIDDEN = "hidden"
    RAW = "raw"
    VIDEO = "video"


class FoundFile(NamedTuple):
    """A file that may be a photo, by its name or its first bytes. `error` says why it is none, where that is clear.

    `sidecars` are the names of its XMP files, `sidecar_token` changes with them. `device` is that of its folder; for a
    link to a file, that of `target`, the folder of the file that it leads to.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    error: str | None = None
    sidecar_token: int | None = None
    sidecars: tuple[bytes, ...] = ()
    device: int = 0
    target: bytes | None = None


class Unreadable(NamedTuple):
    """A folder that could not be listed, or a file that could not be looked at: nothing is known of what is there."""

    path: bytes
    reason: str


class _Entry(NamedTuple):
    """A file or folder by its path, which ends in "/" for a folder, and the sidecars of a file."""

    path: bytes
    entry: os.DirEntry[bytes] | None = None
    sidecars: Sequence[os.DirEntry[bytes]] = ()


_Entries = Iterator[_Entry]


class Exclusions:
    """The rules of one root, applied to paths below it. `matched` collects the patterns that matched something."""

    def __init__(self, rules: Rules) -> None:
        self.matched: set[str] = set()
        self._rules = rules
        self._patterns = [pattern for pattern in map(compiled, rules.exclude) if pattern is not None]

    def reason(self, path: bytes) -> Setting | str | None:
        """What leaves out a path below the root, which ends in "/" for a folder: a setting, a pattern, or None.

        The folders above it are not looked at.
        """
        name = path.rstrip(b"/").rpartition(b"/")[2]
        if not self._rules.hidden and (name.startswith(b".") or name in NOT_PHOTOS):
            return Setting.HIDDEN
        found: Setting | str | None = _kind_left_out(path, self._rules)
        if found:
            return found
        if self._patterns:
            # As text, or `?` would be one byte of a letter. Bytes that are not text become one character each.
            text = os.fsdecode(path)
            in_nfc = composed(text)
            for pattern in self._patterns:
                if pattern.matches(text, in_nfc):
                    self.matched.add(pattern.text)
                    found = pattern.text if pattern.leaves_out else None  # the last one decides, as in Git
        return found

    def on_the_way(self, path: bytes) -> Setting | str | None:
        """What leaves out a path below the root or a folder above it, so that a scan never comes to it; or None."""
        ends = [n + 1 for n, byte in enumerate(path) if byte == ord("/")] + [len(path)]
        return next((why for end in ends if (why := self.reason(path[:end])) is not None), None)


def scan(
    root: bytes, rules: Rules | None = None, under: bytes = b"", exclusions: Exclusions | None = None
) -> Iterator[FoundFile | Unreadable]:
    """Yield the photos below `root/under` in bytewise order of their paths relative to `root`.

    Hidden files and folders, `@eaDir` and `node_modules` are left out unless `rules.hidden`. Links to files are
    followed; links to folders only with `rules.follow_links`, and never into a folder that contains them. `exclusions`
    are made from the rules unless they are given.
    """
    rules = rules or Rules()
    exclusions = exclusions or Exclusions(rules)
    parts = under.split(b"/") if under else []
    above = tuple(_identity(os.path.join(root, *parts[:depth])) for depth in range(len(parts)))
    # The listings of the folders that the walk is in, outermost first, each with the identities down to its folder.
    stack: list[tuple[_Entries, tuple[tuple[int, int], ...]]] = [(iter([_Entry(under + b"/")]), above)]
    while stack:
        entries, above = stack[-1]
        found = next(entries, None)
        if found is None:
            stack.pop()
        elif found.entry is None or found.path.endswith(b"/"):
            folder = found.path[:-1]
            identity = _identity(os.path.join(root, folder))
            if identity in above and identity != _UNKNOWN:
                continue
            try:
                listed = _list(root, folder, rules, exclusions)
                if _identity(os.path.join(root, folder)) != identity:  # to list it may have mounted it
                    identity = _identity(os.path.join(root, folder))
                    listed = _list(root, folder, rules, exclusions)
            except OSError as error:
                yield Unreadable(folder, reason(error))
                continue
            if _identity(os.path.join(root, folder)) != identity:
                yield Unreadable(folder, "mounted or unmounted while it was listed")
                continue
            stack.append((iter(listed), (*above, identity)))
        elif (item := _look_at(found.path, found.entry)) is not None:
            if isinstance(item, FoundFile):
                item = _located(item, found.entry, above[-1][0])
                item = _with_sidecars(item, found.sidecars) if found.sidecars else item
            yield item


def _located(item: FoundFile, entry: os.DirEntry[bytes], device: int) -> FoundFile:
    """The same with the device of its folder; of a link, with the folder and the device of what it leads to."""
    if entry.is_symlink():
        target = os.path.dirname(os.path.realpath(entry.path))
        if (found := _identity(target)) != _UNKNOWN:
            return item._replace(device=found[0], target=target)
    return item._replace(device=device)


class Overlooked:
    """Tells files that a scan of a root passes over, though they are there, from those that it should have found."""

    def __init__(self, root: bytes, rules: Rules) -> None:
        self._root, self._rules, self._exclusions = root, rules, Exclusions(rules)
        self._listings: dict[bytes, frozenset[bytes]] = {}

    def __call__(self, path: bytes) -> bool:
        """Whether a file is left out by the rules, is no photo any more, or has another name by now.

        On a disk that ignores case, a file is there by its old name too. Raises `OSError`.
        """
        whole = os.path.join(self._root, path)
        is_named = os.path.splitext(path)[1] or looks_like_a_photo(read_head(whole, HEAD))
        if self._exclusions.on_the_way(path) or not (is_named and may_be_a_photo(path, self._rules)):
            return True
        folder = self._root
        *above, name = path.split(b"/")
        for part in above:
            if part not in self._names(folder):
                return True
            folder = os.path.join(folder, part)
            if os.path.islink(folder) and not self._rules.follow_links:
                return True
        return name not in self._names(folder)

    def _names(self, folder: bytes) -> frozenset[bytes]:
        if folder not in self._listings:
            self._listings[folder] = frozenset(os.listdir(folder))
        return self._listings[folder]


def left_out(rules: Rules, path: bytes) -> Setting | str | None:
    """Why a scan never comes to a path below the root: the setting or the pattern that leaves it out, or None.

    A folder's path ends in "/". A folder that is left out leaves out all that is in it.
    """
    return Exclusions(rules).on_the_way(path)


def _list(root: bytes, folder: bytes, rules: Rules, exclusions: Exclusions) -> list[_Entry]:
    """The photos and folders in a folder, in order. A folder's path ends in "/" so that it sorts where its files do."""
    found, names, sidecars = [], [], {}
    with list_folder(os.path.join(root, folder)) as entries:
        for entry in entries:
            if is_sidecar_name(entry.name) and not _is_folder(entry, follow_links=True):
                sidecars[entry.name] = entry
                continue
            names.append(entry.name)
            path = folder + b"/" + entry.name if folder else entry.name
            is_folder = _is_folder(entry, rules.follow_links)
            if exclusions.reason(path + b"/" if is_folder else path) is not None:
                continue
            if may_be_a_photo(entry.name, rules) and (os.path.splitext(entry.name)[1] or _is_file(entry)):
                found.append(_Entry(path, entry))
            if is_folder:
                found.append(_Entry(path + b"/", entry))
    found.sort(key=lambda item: item.path)
    if not sidecars:
        return found
    of = SidecarNames(sidecars, names)
    return [item._replace(sidecars=[sidecars[name] for name in of.of(os.path.basename(item.path))]) for item in found]


def _with_sidecars(photo: FoundFile, sidecars: Sequence[os.DirEntry[bytes]]) -> FoundFile:
    """The photo with those of its sidecars that are still there."""
    found = []
    for entry in sidecars:
        with contextlib.suppress(OSError):
            found.append((entry.name, entry.stat()))
    return photo._replace(sidecars=tuple(name for name, _ in found), sidecar_token=token(found))


def may_be_a_photo(path: bytes, rules: Rules) -> bool:
    """Whether a file with this name may be a photo; without an ending, its first bytes have to say."""
    suffix = os.path.splitext(path)[1].lower()
    if _kind_left_out(path, rules) or (suffix in _VIDEO and not can_read_videos()):
        return False
    return suffix in IMAGE_SUFFIXES or (rules.any_name and not suffix)


def _kind_left_out(path: bytes, rules: Rules) -> Setting | None:
    if not rules.raw and is_raw_name(path):
        return Setting.RAW
    return Setting.VIDEO if not rules.video and is_video_name(path) else None


def _is_folder(entry: os.DirEntry[bytes], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _identity(folder: bytes) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError:  # it went away since it was listed
        return _UNKNOWN
    return status.st_dev & _SQLITE_INTEGER, status.st_ino


def _look_at(path: bytes, entry: os.DirEntry[bytes]) -> FoundFile | Unreadable | None:
    try:
        status = entry.stat()
        if not os.path.splitext(path)[1] and not looks_like_a_photo(read_head(entry.path, HEAD)):
            return None
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        if not entry.is_symlink():  # a file that is missing went away since its folder was listed
            return None if missing else Unreadable(path, reason(error))
        return found_file(path, entry.stat(follow_symlinks=False), BROKEN_LINK if missing else reason(error))
    if stat.S_ISREG(status.st_mode):
        problem = None if status.st_size else "empty file"
    elif stat.S_ISDIR(status.st_mode):
        problem = "a folder, not an image"
    else:
        problem = "not a regular file"
    return found_file(path, status, problem)


class OnDisk(Protocol):
    """What tells whether a file was changed: its size and its times."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def mtime_ns(self) -> int:
        """When its contents were changed."""

    @property
    def ctime_ns(self) -> int:
        """When anything of it was changed."""


def has_changed(now: OnDisk, before: OnDisk) -> bool:
    """Whether a file may have other contents than it had, by its size and its times."""
    return not same_times(now, before) or (_CTIME_IS_CHANGE and now.ctime_ns != before.ctime_ns)


def same_times(now: OnDisk, before: OnDisk) -> bool:
    """Whether size and modification time are the same."""
    return (now.size, now.mtime_ns) == (before.size, before.mtime_ns)


def found_file(path: bytes, status: os.stat_result, error: str | None = None) -> FoundFile:
    """A file by its path below the root, as the system describes it."""
    return FoundFile(path, status.st_size, _time(status.st_mtime_ns), _time(status.st_ctime_ns), error)


def _time(nanoseconds: int) -> int:
    return max(-_SQLITE_INTEGER, min(nanoseconds, _SQLITE_INTEGER))
