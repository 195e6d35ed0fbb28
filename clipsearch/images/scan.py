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
from typing import NamedTuple

from clipsearch.errors import reason

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
    }.items()
}
IMAGE_SUFFIXES = frozenset(suffix.encode() for suffixes in TYPES.values() for suffix in suffixes)
_SQLITE_INTEGER = 2**63 - 1  # some file systems keep times beyond the year 2262
_UNKNOWN = (0, 0)  # the identity of a folder where the file system gives none
NOT_PHOTOS = frozenset({b"@eaDir", b"node_modules"})  # thumbnails of photo servers, packages


class Rules(NamedTuple):
    """What a scan leaves out. `exclude`: shell patterns, matched against names and against relative paths.

    `any_name`: files without an extension are recognised by their first bytes.
    """

    hidden: bool = False
    follow_links: bool = False
    exclude: tuple[str, ...] = ()
    any_name: bool = False


class FoundFile(NamedTuple):
    """A file that is named like a photo. `error` says why it cannot be one, where that is already clear."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    error: str | None = None


class Unreadable(NamedTuple):
    """A folder that could not be listed, or a file that could not be looked at: nothing is known of what is there."""

    path: bytes
    reason: str


_Entries = Iterator[tuple[bytes, os.DirEntry[bytes] | None]]


def scan(root: bytes, rules: Rules | None = None, under: bytes = b"") -> Iterator[FoundFile | Unreadable]:
    """Yield the photos below `root/under` in bytewise order of their paths relative to `root`.

    Hidden files and folders, `@eaDir` and `node_modules` are left out unless `rules.hidden`. Links to files are
    followed; links to folders only with `rules.follow_links`, and never into a folder that contains them.
    """
    rules = rules or Rules()
    patterns = _compiled(rules)
    parts = under.split(b"/") if under else []
    above = tuple(_identity(os.path.join(root, *parts[:depth])) for depth in range(len(parts)))
    # The listings of the folders that the walk is in, outermost first, each with the identities down to its folder.
    stack: list[tuple[_Entries, tuple[tuple[int, int], ...]]] = [(iter([(under + b"/", None)]), above)]
    while stack:
        entries, above = stack[-1]
        path, entry = next(entries, (None, None))
        if path is None:
            stack.pop()
        elif entry is None or path.endswith(b"/"):
            folder = path[:-1]
            identity = _identity(os.path.join(root, folder))
            if identity in above and identity != _UNKNOWN:
                continue
            try:
                listed = _list(root, folder, rules, patterns)
            except OSError as error:
                yield Unreadable(folder, reason(error))
                continue
            stack.append((iter(listed), (*above, identity)))
        elif (item := _look_at(path, entry)) is not None:
            yield item


def leaves_out(rules: Rules, path: bytes) -> bool:
    """Whether a scan never comes to a path because its name, or that of a folder above it, is left out."""
    patterns = _compiled(rules)
    parts = path.split(b"/")
    return any(_left_out(name, b"/".join(parts[: n + 1]), rules, patterns) for n, name in enumerate(parts))


def _list(
    root: bytes, folder: bytes, rules: Rules, patterns: list[re.Pattern[str]]
) -> list[tuple[bytes, os.DirEntry[bytes]]]:
    """The photos and folders in a folder, in order. A folder's path ends in "/": so it sorts where its contents do."""
    found = []
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            path = folder + b"/" + entry.name if folder else entry.name
            if _left_out(entry.name, path, rules, patterns):
                continue
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                found.append((path, entry))
            try:
                is_folder = entry.is_dir(follow_symlinks=rules.follow_links)
            except OSError:
                is_folder = False
            if is_folder:
                found.append((path + b"/", entry))
    found.sort(key=lambda item: item[0])
    return found


def _compiled(rules: Rules) -> list[re.Pattern[str]]:
    return [re.compile(fnmatch.translate(pattern)) for pattern in rules.exclude]


def _left_out(name: bytes, path: bytes, rules: Rules, patterns: list[re.Pattern[str]]) -> bool:
    if not rules.hidden and (name.startswith(b".") or name in NOT_PHOTOS):
        return True
    # As text, or `?` would be one byte of a letter. Bytes that are not text become one character each.
    return bool(patterns) and any(p.match(os.fsdecode(text)) for p in patterns for text in (name, path))


def _identity(folder: bytes) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError:  # it went away since it was listed
        return _UNKNOWN
    return status.st_dev, status.st_ino


def _look_at(path: bytes, entry: os.DirEntry[bytes]) -> FoundFile | Unreadable | None:
    try:
        status = entry.stat()
    except OSError as error:
        if not entry.is_symlink():
            gone = isinstance(error, FileNotFoundError)  # since the folder was listed
            return None if gone else Unreadable(path, reason(error))
        status = entry.stat(follow_symlinks=False)
        broken = isinstance(error, FileNotFoundError)
        return FoundFile(
            path,
            status.st_size,
            _time(status.st_mtime_ns),
            _time(status.st_ctime_ns),
            "broken link" if broken else reason(error),
        )
    if stat.S_ISREG(status.st_mode):
        problem = None if status.st_size else "empty file"
    elif stat.S_ISDIR(status.st_mode):
        problem = "a folder, not an image"
    else:
        problem = "not a regular file"
    return _found(path, status, problem)


def _found(path: bytes, status: os.stat_result, error: str | None) -> FoundFile:
    return FoundFile(path, status.st_size, _time(status.st_mtime_ns), _time(status.st_ctime_ns), error)


def _time(nanoseconds: int) -> int:
    return max(-_SQLITE_INTEGER, min(nanoseconds, _SQLITE_INTEGER))
