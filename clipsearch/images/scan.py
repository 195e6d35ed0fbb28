"""Walk folders in a stable order and yield the files that look like photos.

Paths are bytes, as the file system has them, relative to the scanned root and with `/` between their parts, in
bytewise order of the whole path: two scans of one tree, or a scan and a sorted catalogue, can be merged.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clipsearch.errors import BadArgument, reason
from clipsearch.images.read import read_head
from clipsearch.images.signatures import HEAD, looks_like_a_photo
from clipsearch.paths import relative_to

if TYPE_CHECKING:
    from pathspec import Pattern

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


def _patterns(kind: str) -> tuple[str, ...]:
    """What leaves a kind of file out, in capitals too."""
    return tuple("*" + "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in suffix) for suffix in TYPES[kind])


SIDECAR_ENDINGS = (b".xmp", b".XMP")
NO_RAW, NO_VIDEO = _patterns("raw"), _patterns("video")
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
    return importlib.util.find_spec("av") is not None


def is_video_name(path: bytes) -> bool:
    """Whether a file's name is that of a video."""
    return path.lower().endswith(_VIDEO)


class Rules(NamedTuple):
    """What a scan leaves out and takes in.

    `exclude` are patterns as in a .gitignore file in the root; an absolute path below the root is one too. `any_name`
    takes in files without an extension whose first bytes are those of a photo.
    """

    hidden: bool = False
    follow_links: bool = False
    exclude: tuple[str, ...] = ()
    any_name: bool = False


class FoundFile(NamedTuple):
    """A file that may be a photo, by its name or its first bytes. `error` says why it is none, where that is clear.

    `sidecar_ns` is when the XMP file beside it was changed, if there is one. `device` is that of the folder in which it
    was seen; for a link to a file, that of the folder in `target`, in which the file is.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    error: str | None = None
    sidecar_ns: int | None = None
    device: int = 0
    target: bytes | None = None


class Unreadable(NamedTuple):
    """A folder that could not be listed, or a file that could not be looked at: nothing is known of what is there."""

    path: bytes
    reason: str


class _Entry(NamedTuple):
    """A file or folder by its path, which ends in "/" for a folder, and the XMP file beside it."""

    path: bytes
    entry: os.DirEntry[bytes] | None = None
    sidecar: os.DirEntry[bytes] | None = None


_Entries = Iterator[_Entry]


class Exclusions:
    """The rules of one root, applied to paths below it. `matched` collects the patterns that matched something."""

    def __init__(self, root: bytes, rules: Rules) -> None:
        self.matched: set[str] = set()
        self._hidden = rules.hidden
        self._patterns = [(text, pattern) for text in rules.exclude for pattern in _compiled(root, text)]

    def reason(self, path: bytes) -> str | None:
        """What leaves out a path below the root, which ends in "/" for a folder: a pattern or "hidden"; or None.

        The folders above it are not looked at.
        """
        name = path.rstrip(b"/").rpartition(b"/")[2]
        if not self._hidden and (name.startswith(b".") or name in NOT_PHOTOS):
            return "hidden"
        found = None
        if self._patterns:
            # As text, or `?` would be one byte of a letter. Bytes that are not text become one character each.
            text = _without_newlines(os.fsdecode(path))
            for spelling, pattern in self._patterns:
                if pattern.match_file(text) is not None:
                    self.matched.add(spelling)
                    found = spelling if pattern.include else None  # the last one decides, as in Git
        return found

    def on_the_way(self, path: bytes) -> str | None:
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
    exclusions = exclusions or Exclusions(root, rules)
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
                if found.sidecar is not None:
                    item = item._replace(sidecar_ns=_changed(found.sidecar))
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
        self._root, self._rules, self._exclusions = root, rules, Exclusions(root, rules)
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


def left_out(root: bytes, rules: Rules, path: bytes) -> str | None:
    """Why a scan never comes to a path below the root: the pattern that leaves it out, "hidden", or None.

    A folder's path ends in "/". A folder that is left out leaves out all that is in it.
    """
    return Exclusions(root, rules).on_the_way(path)


def check_patterns(patterns: tuple[str, ...]) -> None:
    """Raise `BadArgument` for a pattern that Git's rules give no meaning."""
    for text in patterns:
        _compiled(b"/", text)


def _list(root: bytes, folder: bytes, rules: Rules, exclusions: Exclusions) -> list[_Entry]:
    """The photos and folders in a folder, in order. A folder's path ends in "/" so that it sorts where its files do."""
    found, sidecars = [], {}
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            if is_sidecar_name(entry.name):
                sidecars[entry.name[:-4]] = entry
                continue
            path = folder + b"/" + entry.name if folder else entry.name
            is_folder = _is_folder(entry, rules.follow_links)
            if exclusions.reason(path + b"/" if is_folder else path) is not None:
                continue
            if may_be_a_photo(entry.name, rules) and (os.path.splitext(entry.name)[1] or _is_file(entry)):
                found.append(_Entry(path, entry))
            if is_folder:
                found.append(_Entry(path + b"/", entry))
    found.sort(key=lambda item: item.path)
    return [_with_sidecar(item, sidecars) for item in found] if sidecars else found


def _with_sidecar(found: _Entry, sidecars: Mapping[bytes, os.DirEntry[bytes]]) -> _Entry:
    long, short = sidecar_stems(os.path.basename(found.path))
    return found._replace(sidecar=sidecars.get(long) or sidecars.get(short))


def _changed(sidecar: os.DirEntry[bytes]) -> int | None:
    """When the XMP file was changed; None where it is gone."""
    try:
        return _time(sidecar.stat().st_mtime_ns)
    except OSError:
        return None


def may_be_a_photo(path: bytes, rules: Rules) -> bool:
    """Whether a file with this name may be a photo; without an ending, its first bytes have to say."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _VIDEO:
        return can_read_videos()
    return suffix in IMAGE_SUFFIXES or (rules.any_name and not suffix)


def is_sidecar_name(path: bytes) -> bool:
    """Whether a file's name is that of an XMP file, as it may lie beside a photo."""
    return path.endswith(SIDECAR_ENDINGS)


def sidecar_stems(photo: bytes) -> tuple[bytes, bytes]:
    """What the XMP file beside a photo is called without its ending, the first of these that is there.

    `IMG_1.jpg.xmp` is digiKam's and darktable's, `IMG_1.xmp` Lightroom's.
    """
    return photo, os.path.splitext(photo)[0]


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


def _compiled(root: bytes, text: str) -> list[Pattern]:
    """A pattern as it is written, made one that Git knows: without comments, below the root."""
    from pathspec import GitIgnoreSpec

    below = relative_to(os.fsencode(text.rstrip("/")), root)
    if below is not None:  # its absolute path; what else begins with "/" begins at the root
        spelt = "/" + os.fsdecode(below) + "/" * text.endswith("/")
    else:
        spelt = text.removeprefix(".") if text.startswith("./") else text
    try:
        spec = GitIgnoreSpec.from_lines([_without_newlines("\\" + spelt if spelt.startswith("#") else spelt)])
        return [pattern for pattern in spec.patterns if pattern.include is not None]
    except ValueError:
        raise BadArgument("exclude", f"has a pattern without a meaning: {text!r}") from None


def _without_newlines(text: str) -> str:
    """The same with NUL, which is in no name, for newlines, at which a regular expression would stop."""
    return text.replace("\n", "\0")


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
