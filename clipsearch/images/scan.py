"""Walks folders in a stable order and yields the files that look like photos.

Paths are bytes, as in the file system, relative to the scanned root, with "/" between parts. They come in bytewise
order of the whole path, so that two scans, or a scan and a sorted catalogue, can be merged.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from clipsearch.errors import reason
from clipsearch.images.discarded import Discarded, contents_of
from clipsearch.images.found_file import MAX_SQLITE_INTEGER, FoundFile, found_file
from clipsearch.images.kinds import (
    HEAD,
    SUFFIXES,
    begins_right,
    is_raw_name,
    is_unsupported,
    is_video_name,
    needs_a_look,
)
from clipsearch.images.left_out import LeftOut, missed_suffix
from clipsearch.images.patterns import compile_pattern, nfc
from clipsearch.images.read import read_head
from clipsearch.images.rules import Rules
from clipsearch.images.siblings import SidecarNames, is_sidecar_name, sidecar_token
from clipsearch.paths import join, list_folder

BROKEN_LINK = "broken link"

_UNKNOWN = (0, 0)  # identity of a folder on a file system without inodes


# ------------------------------------------------------------------------------------------ rules


class Setting(StrEnum):
    """A rule, other than a pattern, that excludes a path. The type tells it from a pattern of the same text."""

    HIDDEN = "hidden"
    RAW = "raw"
    VIDEO = "video"


Rule = Setting | Discarded | str  # a pattern is a plain text


class Exclusions:
    """Applies the rules of a root to paths below it.

    `matched` collects the patterns that matched something, `left_out` what a scan did not look at.
    """

    def __init__(self, rules: Rules, root: bytes) -> None:
        self.matched: set[str] = set()
        self.left_out = LeftOut()
        self._rules, self._root_name = rules, os.path.basename(root)
        self._patterns = [pattern for pattern in map(compile_pattern, rules.exclude) if pattern is not None]

    def rule_for(self, path: bytes) -> Rule | None:
        """The setting or pattern that excludes a path or a folder above it, if any. A folder's path ends in "/"."""
        ends = [n + 1 for n, byte in enumerate(path) if byte == ord("/")] + [len(path)]
        return next((rule for end in ends if (rule := self.own_rule(path[:end])) is not None), None)

    def own_rule(self, path: bytes) -> Rule | None:
        """As `rule_for`, without the folders above the path."""
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        if not self._rules.hidden:
            parent = above.rpartition(b"/")[2] or self._root_name
            if path.endswith(b"/") and (contents := contents_of(name, parent)) is not None:
                return contents
            if name.startswith(b"."):
                return Setting.HIDDEN
        found: Rule | None = _excluded_kind(path, self._rules)
        if found:
            return found
        if self._patterns:
            # As text, so that `?` matches a character rather than a byte. An undecodable byte is one character.
            text = os.fsdecode(path)
            in_nfc = nfc(text)
            for pattern in self._patterns:
                if pattern.matches(text, in_nfc):
                    self.matched.add(pattern.text)
                    found = pattern.text if pattern.excludes else None  # the last match wins, as in Git
        return found


def may_be_a_photo(path: bytes, rules: Rules) -> bool:
    """Whether the name of a file may be a photo's; `kinds.begins_right` decides where it is not clear."""
    suffix = os.path.splitext(path)[1].lower()
    if _excluded_kind(path, rules) or is_unsupported(path):
        return False
    return suffix in SUFFIXES or (rules.any_name and not suffix)


def _excluded_kind(path: bytes, rules: Rules) -> Setting | None:
    if not rules.raw and is_raw_name(path):
        return Setting.RAW
    return Setting.VIDEO if not rules.video and is_video_name(path) else None


class Overlooked:
    """Tells existing files that a scan of a root skips from those that it should have found."""

    def __init__(self, root: bytes, rules: Rules) -> None:
        self._root, self._rules, self._exclusions = root, rules, Exclusions(rules, root)
        self._links = Links(root, rules)
        self._listings: dict[bytes, frozenset[bytes]] = {}

    def __call__(self, path: bytes) -> bool:
        """Whether a file is excluded, no longer a photo, or renamed. Raises `OSError`.

        On a disk that ignores case, a file still exists under its old name when only the case has changed.
        """
        full_path = os.path.join(self._root, path)
        is_other = needs_a_look(path) and not begins_right(path, read_head(full_path, HEAD))
        if self._exclusions.rule_for(path) or is_other or not may_be_a_photo(path, self._rules):
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

    def elsewhere(self, path: bytes) -> bytes | None:
        """The path under which a scan finds the same file, if that is another one: see `Links`."""
        return self._links.elsewhere(path)

    def _names(self, folder: bytes) -> frozenset[bytes]:
        if folder not in self._listings:
            self._listings[folder] = frozenset(os.listdir(folder))
        return self._listings[folder]


# ------------------------------------------------------------------------------------------ links to folders


class Links:
    """Decides under which path a scan walks a folder that several paths lead to.

    Folders without a link on their path are always walked. A folder that only links lead to is walked once: under the
    path with the fewest links, as part of a folder around it if a link leads there too, otherwise under the first path.
    """

    def __init__(self, root: bytes, rules: Rules) -> None:
        self._root, self._follow_links, self._exclusions = root, rules.follow_links, Exclusions(rules, root)
        self._walked_as: dict[bytes, bytes] | None = None

    def walks(self, folder: bytes, *, is_link: bool) -> bool:
        """Whether a scan walks a folder under this path. Ask about a link before the folders behind it."""
        if self._walked_as is None and not is_link:  # saves looking at all folders if there are no links
            return True
        return self._paths().get(folder, None if is_link else folder) == folder

    def elsewhere(self, path: bytes) -> bytes | None:
        """The path under which a scan finds the file at `path`, if that is another one."""
        found, end = path, path.find(b"/")
        while self._follow_links and end >= 0:
            walked = self._paths().get(found[:end], found[:end])
            if walked != found[:end]:
                found, end = (join(walked, found[end + 1 :]) if walked else found[end + 1 :]), len(walked) - 1
            end = found.find(b"/", end + 1)
        return found if found != path else None

    def _paths(self) -> dict[bytes, bytes]:
        """The path to walk, for each link to a folder, and for the folders behind links that are walked elsewhere."""
        if self._walked_as is None:
            self._walked_as = {}
            seen: dict[bytes | tuple[int, int], bytes] = {}  # by real path and by identity
            tops = [b""]
            while tops:
                by_depth = sorted((self._real(top).count(os.fsencode(os.sep)), top) for top in tops)
                tops = [link for _, top in by_depth for link in self._walk(top, seen, self._walked_as)]
        return self._walked_as

    def _walk(
        self, top: bytes, seen: dict[bytes | tuple[int, int], bytes], walked_as: dict[bytes, bytes]
    ) -> list[bytes]:
        """Walk the folders below `top` without following links. Returns the links to folders."""
        links: list[bytes] = []
        stack: list[tuple[bytes, bytes, tuple[tuple[int, int], ...]]] = [(top, self._real(top), ())]
        while stack:
            folder, real, above = stack.pop()
            identity = _identity(os.path.join(self._root, folder))
            if identity in above and identity != _UNKNOWN:
                continue
            names: list[bytes | tuple[int, int]] = [real] if identity == _UNKNOWN else [real, identity]
            known = next((seen[name] for name in names if name in seen), None)
            if top and known is not None:
                walked_as[folder] = known
                continue
            for name in names:
                seen.setdefault(name, folder)
            if folder == top:
                walked_as[top] = top
            folders, below = self._list(folder)
            links += below
            stack += [(path, os.path.join(real, os.path.basename(path)), (*above, identity)) for path in folders]
        return links

    def _list(self, folder: bytes) -> tuple[list[bytes], list[bytes]]:
        """The folders in a folder, the last first, and the links to folders."""
        folders: list[bytes] = []
        links: list[bytes] = []
        with contextlib.suppress(OSError), list_folder(os.path.join(self._root, folder)) as entries:
            for entry in entries:
                path = folder + b"/" + entry.name if folder else entry.name
                if _is_folder(entry, follow_links=True) and self._exclusions.own_rule(path + b"/") is None:
                    (folders if _is_folder(entry, follow_links=False) else links).append(path)
        return sorted(folders, reverse=True), links

    def _real(self, folder: bytes) -> bytes:
        return os.path.realpath(os.path.join(self._root, folder))


# ------------------------------------------------------------------------------------------ walk


class Unreadable(NamedTuple):
    """A folder that could not be listed, or a file that could not be examined: its contents are unknown."""

    path: bytes
    reason: str


class _Entry(NamedTuple):
    """A file or folder by its path, which ends in "/" for a folder, and the sidecars of a file."""

    path: bytes
    entry: os.DirEntry[bytes] | None = None
    sidecars: Sequence[os.DirEntry[bytes]] = ()


def scan(
    root: bytes, rules: Rules | None = None, under: bytes = b"", exclusions: Exclusions | None = None
) -> Iterator[FoundFile | Unreadable]:
    """Yield the photos below `root/under` in bytewise order of their paths relative to `root`.

    Without `rules.hidden`, skips hidden files and folders, and folders that are not the library (`images.discarded`).
    Follows links to files; follows links to folders only with `rules.follow_links`, and then walks a folder once
    (`Links`). `exclusions` default to those of the rules.
    """
    rules = rules or Rules()
    exclusions = exclusions or Exclusions(rules, root)
    links = Links(root, rules)
    parts = under.split(b"/") if under else []
    above = tuple(_identity(os.path.join(root, *parts[:depth])) for depth in range(len(parts)))
    # Listings of the open folders, outermost first, each with the identities of the folders on the way.
    stack: list[tuple[Iterator[_Entry], tuple[tuple[int, int], ...]]] = [(iter([_Entry(under + b"/")]), above)]
    while stack:
        entries, above = stack[-1]
        found = next(entries, None)
        if found is None:
            stack.pop()
        elif found.entry is None or found.path.endswith(b"/"):
            folder = found.path[:-1]
            if found.entry is not None and not links.walks(folder, is_link=found.entry.is_symlink()):
                continue
            identity = _identity(os.path.join(root, folder))
            if identity in above and identity != _UNKNOWN:
                continue
            try:
                listed, left_out = _list(root, folder, rules, exclusions)
                if _identity(os.path.join(root, folder)) != identity:  # listing it may have mounted it
                    identity = _identity(os.path.join(root, folder))
                    listed, left_out = _list(root, folder, rules, exclusions)
            except OSError as error:
                yield Unreadable(folder, reason(error))
                continue
            if _identity(os.path.join(root, folder)) != identity:
                yield Unreadable(folder, "mounted or unmounted while it was listed")
                continue
            exclusions.left_out.add(left_out)
            stack.append((iter(listed), (*above, identity)))
        elif (item := _look_at(found.path, found.entry)) is not None:
            if isinstance(item, FoundFile):
                item = _located(item, found.entry, above[-1][0])
                item = _with_sidecars(item, found.sidecars) if found.sidecars else item
            yield item


def _list(root: bytes, folder: bytes, rules: Rules, exclusions: Exclusions) -> tuple[list[_Entry], LeftOut]:
    """The photos and folders in a folder, in order, and what is left out.

    With its final "/", a folder's path sorts where its files do.
    """
    found, names, sidecars, left_out = [], [], {}, LeftOut()
    with list_folder(os.path.join(root, folder)) as entries:
        for entry in entries:
            if is_sidecar_name(entry.name) and not _is_folder(entry, follow_links=True):
                sidecars[entry.name] = entry
                continue
            names.append(entry.name)
            path = folder + b"/" + entry.name if folder else entry.name
            is_folder = _is_folder(entry, rules.follow_links)
            if (rule := exclusions.own_rule(path + b"/" if is_folder else path)) is not None:
                if isinstance(rule, Discarded) and rule is not Discarded.INTERNAL:
                    left_out.folders[_name_of_skipped(entry.name, folder or root)] += 1
                continue
            if may_be_a_photo(entry.name, rules):
                if not needs_a_look(entry.name) or _is_file(entry):
                    found.append(_Entry(path, entry))
            elif (suffix := missed_suffix(entry.name)) is not None and _is_file(entry) and _begins_right(entry):
                left_out.files[suffix] += 1
            if is_folder:
                found.append(_Entry(path + b"/", entry))
    found.sort(key=lambda item: item.path)
    if not sidecars:
        return found, left_out
    of = SidecarNames(sidecars, names)
    found = [item._replace(sidecars=[sidecars[name] for name in of.of(os.path.basename(item.path))]) for item in found]
    return found, left_out


def _name_of_skipped(name: bytes, parent: bytes) -> str:
    """A folder's name; for one that is skipped as part of a library, the library's."""
    return os.fsdecode(name if contents_of(name, b"") is not None else os.path.basename(parent))


def _begins_right(entry: os.DirEntry[bytes]) -> bool:
    try:
        return not needs_a_look(entry.name) or begins_right(entry.name, read_head(entry.path, HEAD))
    except OSError:
        return False


def _look_at(path: bytes, entry: os.DirEntry[bytes]) -> FoundFile | Unreadable | None:
    try:
        status = entry.stat()
        if needs_a_look(path) and not begins_right(path, read_head(entry.path, HEAD)):
            return None
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        if not entry.is_symlink():  # a missing file was deleted since its folder was listed
            return None if missing else Unreadable(path, reason(error))
        return found_file(path, entry.stat(follow_symlinks=False), BROKEN_LINK if missing else reason(error))
    if stat.S_ISREG(status.st_mode):
        problem = None if status.st_size else "empty file"
    elif stat.S_ISDIR(status.st_mode):
        problem = "a folder, not an image"
    else:
        problem = "not a regular file"
    return found_file(path, status, problem)


def _located(file: FoundFile, entry: os.DirEntry[bytes], device: int) -> FoundFile:
    """Add the device, and for a link the folder that it leads to."""
    if entry.is_symlink():
        target = os.path.dirname(os.path.realpath(entry.path))
        if (found := _identity(target)) != _UNKNOWN:
            return file._replace(device=found[0], target=target)
    return file._replace(device=device)


def _with_sidecars(file: FoundFile, sidecars: Sequence[os.DirEntry[bytes]]) -> FoundFile:
    """Add the sidecars that still exist."""
    found = []
    for entry in sidecars:
        with contextlib.suppress(OSError):
            found.append((entry.name, entry.stat()))
    return file._replace(sidecars=tuple(name for name, _ in found), sidecar_token=sidecar_token(found))


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
    """Device and inode."""
    try:
        status = os.stat(folder)
    except OSError:  # deleted since it was listed
        return _UNKNOWN
    return status.st_dev & MAX_SQLITE_INTEGER, status.st_ino
