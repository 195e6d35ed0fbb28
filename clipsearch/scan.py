"""Walk folders in a stable order and yield the files that look like photos.

Paths are bytes, as the file system has them, relative to the scanned root and with `/` between their parts, in
bytewise order of the whole path: two scans of one tree, or a scan and a sorted catalogue, can be merged.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

IMAGE_SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .png .apng .gif .webp .tif .tiff .bmp .heic .heif .hif .avif .jp2 .ppm .pgm .tga".split()
)
_UNKNOWN = (0, 0)  # the identity of a folder where the file system gives none
NOT_PHOTOS = frozenset({b"@eaDir", b"node_modules"})  # thumbnails of photo servers, packages


@dataclass(frozen=True, slots=True)
class Rules:
    """What a scan leaves out. `exclude`: shell patterns, matched against names and against relative paths."""

    hidden: bool = False
    follow_links: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Photo:
    """A file that is named like a photo. `error` says why it cannot be one, where that is already clear."""

    path: bytes
    size: int
    mtime_ns: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder that could not be listed, or a file that could not be looked at: nothing is known of what is there."""

    path: bytes
    reason: str


def scan(root: bytes, rules: Rules | None = None, under: bytes = b"") -> Iterator[Photo | Unreadable]:
    """Yield the photos below `root/under` in bytewise order of their paths relative to `root`.

    Hidden files and folders, `@eaDir` and `node_modules` are left out unless `rules.hidden`. Links to files are
    followed; links to folders only with `rules.follow_links`, and never into a folder that contains them.
    """
    rules = rules or Rules()
    patterns = [re.compile(fnmatch.translate(p)) for p in rules.exclude]
    parts = under.split(b"/") if under else []
    above = [_identity(os.path.join(root, *parts[:depth])) for depth in range(len(parts))]
    yield from _walk(root, under, rules, patterns, tuple(above))


def _walk(
    root: bytes, folder: bytes, rules: Rules, patterns: list[re.Pattern[str]], above: tuple[tuple[int, int], ...]
) -> Iterator[Photo | Unreadable]:
    try:
        with os.scandir(os.path.join(root, folder)) as listing:
            entries = list(listing)
    except OSError as error:
        yield Unreadable(folder, _reason(error))
        return
    identity = _identity(os.path.join(root, folder))
    if identity in above and identity != _UNKNOWN:
        return
    found: list[tuple[bytes, os.DirEntry[bytes]]] = []
    for entry in entries:
        if not rules.hidden and (entry.name.startswith(b".") or entry.name in NOT_PHOTOS):
            continue
        path = folder + b"/" + entry.name if folder else entry.name
        # As text, or `?` would be one byte of a letter. Bytes that are not text become one character each.
        if patterns and any(p.match(os.fsdecode(name)) for p in patterns for name in (entry.name, path)):
            continue
        if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            found.append((path, entry))
        try:
            is_folder = entry.is_dir(follow_symlinks=rules.follow_links)
        except OSError:
            is_folder = False
        if is_folder:
            found.append((path + b"/", entry))  # with a "/" at its end, it sorts where its contents do
    found.sort(key=lambda item: item[0])
    for path, entry in found:
        if path.endswith(b"/"):
            yield from _walk(root, path[:-1], rules, patterns, (*above, identity))
        elif (item := _look_at(path, entry)) is not None:
            yield item


def _identity(folder: bytes) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError:  # it went away since it was listed
        return _UNKNOWN
    return status.st_dev, status.st_ino


def _look_at(path: bytes, entry: os.DirEntry[bytes]) -> Photo | Unreadable | None:
    try:
        status = entry.stat()
    except OSError as error:
        if not entry.is_symlink():
            gone = isinstance(error, FileNotFoundError)  # since the folder was listed
            return None if gone else Unreadable(path, _reason(error))
        status = entry.stat(follow_symlinks=False)
        broken = isinstance(error, FileNotFoundError)
        return Photo(path, status.st_size, status.st_mtime_ns, "broken link" if broken else _reason(error))
    if stat.S_ISREG(status.st_mode):
        problem = None if status.st_size else "empty file"
    elif stat.S_ISDIR(status.st_mode):
        problem = "a folder, not an image"
    else:
        problem = "not a regular file"
    return Photo(path, status.st_size, status.st_mtime_ns, problem)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
