"""Remove folders or files from an index, or record where a folder has moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.indexing.roots import Directory, check_folders
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store.catalogue import Root, Store


class Relocated(NamedTuple):
    """How many of the `known` photos are in the new place."""

    there: int
    known: int


def forget(folder: Path, directories: Sequence[Directory]) -> int:
    """Remove folders, or offline drives in them, from the index in `folder`; returns how many files they had.

    Nothing about them remains in its files. Raises `NotIndexed`.
    """
    with Store.open(folder, write=True) as store:
        found = [_drives_at(store, directory) or _root_at(store, directory) for directory in directories]
        count = 0
        for one in dict.fromkeys(found):
            count += store.folders.remove(one) if isinstance(one, Root) else store.drives.remove(one)
        store.prune()
        store.commit()
        store.erase()
    return count


def forget_gone(folder: Path, files: Iterable[bytes]) -> None:
    """Remove files that were moved away from the index in `folder`. Those that still exist stay in it."""
    gone = [file for file in files if not os.path.lexists(file)]
    with Store.open(folder, write=True) as store:
        for root in store.roots():
            inside = (relative_to(file, root.path) for file in gone)
            store.photos.remove(root, [path for path in inside if path])
        store.prune()
        store.commit()
        store.vectors.update()


def relocate(folder: Path, old: Directory, new: Directory) -> Relocated:
    """Record in the index in `folder` that the indexed folder `old` is now at `new`.

    Raises `NotIndexed`, and `BadRequest` if `old` is still there or `new` cannot be the same folder.
    """
    with Store.open(folder, write=True) as store:
        root, path = _root_at(store, old), absolute(new)
        _check_move(store, root, path, new)
        known = [photo.path for photo in store.photos.known(root) if photo.error is None]
        there = sum(os.path.exists(join(path, photo)) for photo in known)
        if known and not there:
            raise BadRequest(f"none of the photos of {os.fsdecode(root.path)} are in {os.fspath(new)}")
        store.folders.move(root, path)
        store.commit()
    return Relocated(there, len(known))


def _drives_at(store: Store, directory: Directory) -> frozenset[int]:
    """The ids of the offline drives that were mounted at a directory inside a root."""
    for root in store.roots():
        for one in store.presence(root).away:
            if one.place != root.path and one.place in (absolute(directory), os.fsencode(directory)):
                return one.drives
    return frozenset()


def _root_at(store: Store, directory: Directory) -> Root:
    roots = {root.path: root for root in store.roots()}
    root = roots.get(absolute(directory)) or roots.get(os.fsencode(directory))
    if root is None:
        raise NotIndexed(f"{os.fspath(directory)} is not an indexed folder")
    return root


def _check_move(store: Store, root: Root, path: bytes, new: Directory) -> None:
    check_folders([new])
    if store.presence(root).whole is None:
        raise BadRequest(f"{os.fsdecode(root.path)} is still there, so it cannot have moved")
    for other in store.roots():
        overlaps = relative_to(path, other.path) is not None or relative_to(other.path, path) is not None
        if overlaps and other != root:
            raise BadRequest(f"{os.fspath(new)} overlaps the indexed folder {os.fsdecode(other.path)}")
