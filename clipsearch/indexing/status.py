"""What an index holds, and what of it cannot be looked at now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clipsearch.images.scan import Rules
from clipsearch.models.model import Model
from clipsearch.models.precision import measured
from clipsearch.paths import join, relative_to
from clipsearch.store.drives import Offline, Presence
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


class OfflinePart(NamedTuple):
    """A part of a root that is offline, with the number of its photos."""

    path: bytes
    photos: int
    why: Offline


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
    presences = [store.presence(count.root) for count in counts]
    roots = folders_of(store)
    return Status(
        store.place,
        model.name,
        model.fingerprint,
        model.dim,
        sum(root.photos for root in roots),
        store.count_embeddings(),
        store.size_on_disk(),
        store.method(),
        roots,
        store.skipped(),
        [
            part
            for count, presence in zip(counts, presences, strict=True)
            if presence.whole is None
            for part in _offline_parts(store, count.root, presence)
        ],
        measured(model, usable_cores()) or {},
        *store.read_counts(),
        store.count_distinct(),
    )


def folders_of(store: Searchable) -> list[RootStatus]:
    """The indexed folders, by path."""
    return [
        RootStatus(count.root.path, count.root.rules, count.photos, count.skipped, store.presence(count.root).whole)
        for count in store.counts()
    ]


def _offline_parts(store: Searchable, root: Root, presence: Presence) -> Iterator[OfflinePart]:
    for away in presence.away:
        yield OfflinePart(away.place, sum(store.count_on(root, drive) for drive in away.drives), away.why)
    for path, count in _unreadable(store, root):
        if not any(relative_to(path, away.place) is not None for away in presence.away):
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
