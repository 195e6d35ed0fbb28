"""Directories that were asked for, as indexed folders (roots) and places in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from clipsearch.errors import BadRequest, FolderOffline
from clipsearch.images.patterns import patterns_below
from clipsearch.images.scan import Exclusions, Rules, Setting
from clipsearch.indexing.options import Options
from clipsearch.paths import absolute, relative_to
from clipsearch.store.catalogue import Root, Store

Target = tuple[Root, bytes]  # a root and a folder in it to scan, empty for the whole
Directory = str | os.PathLike[str]


def check_folders(directories: Iterable[Directory]) -> None:
    """Raise `BadRequest` for a directory that is none."""
    for directory in directories:
        path = os.path.expanduser(directory)
        if not os.path.isdir(path):
            name = os.fspath(directory)
            raise BadRequest(
                f"{name} is a file, not a folder" if os.path.exists(path) else f"there is no folder {name}"
            )


def targets(store: Store, directories: Sequence[Directory], options: Options) -> list[Target]:
    """What to scan. Directories that are in no root become roots; without directories it is every root."""
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
    # A folder that lies in another one is scanned with that.
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
                _check_absorbable(store, inner, path, rules)
        store.folders.add(path, rules)
    elif around.path == path:
        store.folders.set_rules(around, rules)
    else:
        _check_inside(around, path, rules)


def _check_absorbable(store: Store, inner: Root, path: bytes, rules: Rules) -> None:
    """A folder may only take in a root when that loses none of the root's photos."""
    name, outer = os.fsdecode(inner.path), os.fsdecode(path)
    offline = store.presence(inner).whole
    if offline:
        raise FolderOffline(f"{name} {offline}, and {outer} would take it in without its photos")
    wanted = rules._replace(exclude=patterns_below(rules.exclude, relative_to(inner.path, path) or b""))
    if inner.rules != wanted:
        different = _names([n for n in Rules._fields if getattr(inner.rules, n) != getattr(wanted, n)])
        raise BadRequest(
            f"{name} was indexed with another {different} than {outer} would be; give the same, or forget {name} first"
        )


def _check_inside(root: Root, path: bytes, rules: Rules) -> None:
    """A folder in a root is scanned as the root is, or the next scan of the root would undo it."""
    name, outer = os.fsdecode(path), os.fsdecode(root.path)
    if rules != root.rules:
        raise BadRequest(f"{_names(Rules._fields)} are kept for a whole indexed folder; give them with {outer}")
    why = Exclusions(root.rules).rule_for((relative_to(path, root.path) or b"") + b"/")
    if why is not None:
        because = "it is hidden" if why is Setting.HIDDEN else f"its exclude has {why}"
        raise BadRequest(f"{name} is left out of {outer}, which is indexed as a whole: {because}")


def _root_around(store: Store, path: bytes) -> Root | None:
    return next((root for root in store.roots() if relative_to(path, root.path) is not None), None)


def _names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
