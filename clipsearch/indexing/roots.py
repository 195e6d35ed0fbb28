"""Indexed folders (roots): which ones an update scans, and with which rules."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from clipsearch.errors import BadRequest, FolderOffline
from clipsearch.images.discarded import Discarded
from clipsearch.images.patterns import patterns_below
from clipsearch.images.rules import Rules
from clipsearch.images.scan import Exclusions, Setting
from clipsearch.indexing.options import Options
from clipsearch.paths import absolute, relative_to
from clipsearch.store.catalogue import Root, Store

Target = tuple[Root, bytes]  # a root, and the folder in it to scan; empty for all of it
Directory = str | os.PathLike[str]


def check_folders(directories: Iterable[Directory]) -> None:
    """Raise `BadRequest` for what is not a folder."""
    for directory in directories:
        path, name = os.path.expanduser(directory), os.fspath(directory)
        if not os.path.isdir(path):
            is_file = os.path.exists(path)
            raise BadRequest(f"{name} is a file, not a folder" if is_file else f"there is no folder {name}")


def targets(store: Store, directories: Sequence[Directory], options: Options) -> list[Target]:
    """What to scan: the directories, or every root if there are none. Records new roots and new rules."""
    known = [root.path for root in store.roots()]
    if not directories:
        rules = {root: options.rules(root.rules, root.path, known) for root in store.roots()}
        return [(store.folders.set_rules(root, new), b"") for root, new in rules.items()]
    paths = [absolute(directory) for directory in directories]
    for path in paths:
        _record(store, path, options, [*known, *paths])
    found = []
    for path in paths:
        root = _root_around(store, path)
        assert root is not None
        found.append((root, relative_to(path, root.path) or b""))
    # Scanning a folder covers the folders in it.
    return [
        (root, below)
        for root, below in dict.fromkeys(found)
        if not any(r == root and b != below and (not b or below.startswith(b + b"/")) for r, b in found)
    ]


def _record(store: Store, path: bytes, options: Options, roots: Collection[bytes]) -> None:
    around = _root_around(store, path)
    rules = options.rules(around.rules if around else Rules(), around.path if around else path, roots)
    if around is None:
        for inner in store.roots():
            if relative_to(inner.path, path) is not None:
                _check_can_absorb(store, inner, path, rules)
        store.folders.add(path, rules)
    elif around.path == path:
        store.folders.set_rules(around, rules)
    else:
        _check_inside(around, path, rules)


def _check_can_absorb(store: Store, inner: Root, path: bytes, rules: Rules) -> None:
    """A new root may only absorb a root inside it if none of that root's photos are lost."""
    name, outer = os.fsdecode(inner.path), os.fsdecode(path)
    offline = store.presence(inner).whole
    if offline:
        raise FolderOffline(f"{name} {offline}; indexing {outer} now would lose its photos")
    wanted = rules._replace(exclude=patterns_below(rules.exclude, relative_to(inner.path, path) or b""))
    if inner.rules != wanted:
        differing = _listed([n for n in Rules._fields if getattr(inner.rules, n) != getattr(wanted, n)])
        raise BadRequest(
            f"{name} was indexed with a different {differing}; index {outer} with the same, or forget {name} first"
        )


def _check_inside(root: Root, path: bytes, rules: Rules) -> None:
    """A folder in a root has the root's rules: the next scan of the whole root would undo others."""
    name, outer = os.fsdecode(path), os.fsdecode(root.path)
    if rules != root.rules:
        raise BadRequest(f"{_listed(Rules._fields)} apply to whole indexed folders; set them for {outer}")
    why = Exclusions(root.rules, root.path).rule_for((relative_to(path, root.path) or b"") + b"/")
    if why is not None:
        if isinstance(why, Discarded):
            because = f"by its name, it is a folder for {why}"
        else:
            because = "it is hidden" if why is Setting.HIDDEN else f"it matches the pattern {why!r}"
        raise BadRequest(f"{name} is excluded from the indexed folder {outer}: {because}")


def _root_around(store: Store, path: bytes) -> Root | None:
    return next((root for root in store.roots() if relative_to(path, root.path) is not None), None)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
