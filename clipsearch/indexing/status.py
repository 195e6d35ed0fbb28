"""What an index holds, and what of it cannot be looked at now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from clipsearch.images.scan import Rules
from clipsearch.models.model import Model
from clipsearch.models.precision import measured
from clipsearch.paths import join, relative_to
from clipsearch.store.drives import Offline, OfflinePart
from clipsearch.store.photo import Root
from clipsearch.store.searchable import Searchable
from clipsearch.threads import usable_cores


@dataclass(frozen=True, slots=True)
class RootStatus:
    """An indexed folder: what its scans leave out, its photos and skipped files, and why it is offline, if it is."""

    path: bytes
    rules: Rules
    photos: int
    skipped: int
    offline: Offline | None


@dataclass(frozen=True, slots=True)
class Status:
    """What an index holds. `size` is in bytes on the disk, if it is on this one, `method` says how it is searched,
    `skipped` has a path and a reason for each file, and `offline` the folders and drives in roots that cannot be looked
    at now, where the rest of the root can. `rates` are images that this machine embeds a second by precision, if that
    was measured; `read` counts the images that were looked through for writing, `with_text` those that have some;
    `distinct` the different contents.
    """

    place: str
    model: str
    fingerprint: str
    dim: int
    photos: int
    embeddings: int
    size: int | None
    method: str
    roots: list[RootStatus]
    skipped: list[tuple[bytes, str]]
    offline: list[OfflinePart]
    rates: dict[str, float]
    read: int
    with_text: int
    distinct: int


def status_of(store: Searchable) -> Status:
    """What an open index holds. Raises `ModelMismatch` when its model is not known any more."""
    model = Model.from_json(store.model)
    counts = store.counts()
    roots = folders_of(store)
    summary = store.summary()
    online = [count.root for count, root in zip(counts, roots, strict=True) if root.offline is None]
    unreadable = [part for root in online for part in _unreadable_parts(store, root, summary.offline)]
    return Status(
        store.place,
        model.name,
        model.fingerprint,
        model.dim,
        sum(root.photos for root in roots),
        summary.embeddings,
        summary.size,
        summary.method,
        roots,
        summary.skipped,
        sorted([*summary.offline, *unreadable]),
        measured(model, usable_cores()) or {},
        summary.read,
        summary.with_text,
        summary.distinct,
    )


def folders_of(store: Searchable) -> list[RootStatus]:
    """The indexed folders, by path."""
    return [
        RootStatus(count.root.path, count.root.rules, count.photos, count.skipped, store.presence(count.root).whole)
        for count in store.counts()
    ]


def _unreadable_parts(store: Searchable, root: Root, offline: list[OfflinePart]) -> Iterator[OfflinePart]:
    """The unreadable folders that are not offline for another reason."""
    for path, count in _unreadable(store, root):
        if not any(relative_to(path, part.path) is not None for part in offline):
            yield OfflinePart(path, count, Offline.UNREADABLE)


def _unreadable(store: Searchable, root: Root) -> list[tuple[bytes, int]]:
    """The folders of a root that are there and may not be read, each with the number of photos that were in it."""
    counts: dict[bytes, int] = {}
    readable: dict[bytes, bool] = {}
    for photo in store.files_of(root):
        folder = os.path.dirname(photo)
        if folder not in readable:
            path = join(root.path, folder) if folder else root.path
            readable[folder] = os.access(path, os.R_OK | os.X_OK) or _is_gone(path)
        if not readable[folder]:
            counts[join(root.path, folder)] = counts.get(join(root.path, folder), 0) + 1
    return sorted(counts.items())


def _is_gone(path: bytes) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
