"""Where to search: the indexed folders, or parts of them, that are online."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from clipsearch.errors import NotIndexed
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store.drives import Offline, why_unreachable
from clipsearch.store.photo import Root
from clipsearch.store.searchable import Searchable


class SearchedFolder(NamedTuple):
    """A root, or the folder `below` it, without the photos on the drives that are offline or in `excluded` folders.

    Excluded folders are paths below the root.
    """

    root: Root
    below: bytes = b""
    without: frozenset[int] = frozenset()
    excluded: tuple[bytes, ...] = ()

    def lies_in(self, other: SearchedFolder) -> bool:
        """Whether another one has all of its photos."""
        return self.root == other.root and (not other.below or relative_to(self.below, other.below) is not None)

    def excludes(self, path: bytes) -> bool:
        """Whether an absolute path is in an excluded folder."""
        return any(relative_to(path, join(self.root.path, folder)) is not None for folder in self.excluded)


def searched_folders(
    index: Searchable, roots: list[Root], under: Sequence[str], not_under: Sequence[str] = ()
) -> tuple[list[SearchedFolder], dict[Root, Offline]]:
    """Where to search, in all roots or `under` some folders but not others, and what is offline. Raises `NotIndexed`.

    A folder to leave out need not be indexed, but a misspelled one is refused.
    """
    folders = [SearchedFolder(root) for root in roots]
    if under:
        folders = _outermost(found for folder in under for found in _below(index, roots, folder))
    excluded = _outermost(found for folder in not_under for found in _below(index, roots, folder, may_be_outside=True))
    return _without_offline(index, list(_without(folders, excluded)))


def _outermost(folders: Iterable[SearchedFolder]) -> list[SearchedFolder]:
    chosen = set(folders)
    outermost = [one for one in chosen if not any(one != other and one.lies_in(other) for other in chosen)]
    return sorted(outermost, key=lambda one: (one.root.path, one.below))


def _without(folders: Iterable[SearchedFolder], excluded: Sequence[SearchedFolder]) -> Iterator[SearchedFolder]:
    for one in folders:
        if not any(one.lies_in(other) for other in excluded):
            yield one._replace(excluded=tuple(other.below for other in excluded if other.lies_in(one)))


def _below(index: Searchable, roots: list[Root], folder: str, *, may_be_outside: bool = False) -> list[SearchedFolder]:
    """What is indexed in a folder. As it is spelled first: a folder behind a link may be indexed by its name."""
    found: list[SearchedFolder] = []
    for path in (os.path.abspath(os.fsencode(folder)), absolute(folder)):
        found = _within(roots, path)
        if any(index.has_photos(one.root, one.below) for one in found):
            return found
    if (found or may_be_outside) and os.path.isdir(os.path.expanduser(folder)):
        return found
    raise NotIndexed(f"nothing in {folder} was indexed")


def _within(roots: list[Root], folder: bytes) -> list[SearchedFolder]:
    """The roots in a folder, and the part of a root that the folder is."""
    found = []
    for root in roots:
        below = relative_to(folder, root.path)
        if below is not None:
            found.append(SearchedFolder(root, below))
        elif relative_to(root.path, folder) is not None:
            found.append(SearchedFolder(root))
    return found


def _without_offline(
    index: Searchable, folders: list[SearchedFolder]
) -> tuple[list[SearchedFolder], dict[Root, Offline]]:
    searched: list[SearchedFolder] = []
    offline: dict[Root, Offline] = {}
    for one in folders:
        path = join(one.root.path, one.below) if one.below else one.root.path
        presence = index.presence(one.root, one.below)
        if presence.whole or (one.below and why_unreachable(path) is Offline.UNREADABLE):
            offline[one.root._replace(path=path)] = presence.whole or Offline.UNREADABLE
            continue
        for away in presence.away:
            if one.excludes(away.place):
                continue
            is_inside = relative_to(away.place, path) is not None
            offline[one.root._replace(path=away.place if is_inside else path)] = away.why
        if presence.online:
            searched.append(one._replace(without=presence.offline_drives))
    return searched, offline
