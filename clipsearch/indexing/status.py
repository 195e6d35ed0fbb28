"""What an index contains, and which parts of it are offline."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clipsearch.images.scan import Rules
from clipsearch.models.model import Model
from clipsearch.models.precision import measured
from clipsearch.paths import join, relative_to
from clipsearch.store.drives import Offline, Presence, why_unreadable
from clipsearch.store.photo import Root, RootCounts
from clipsearch.store.searchable import Searchable
from clipsearch.threads import usable_cores


@dataclass(frozen=True, slots=True)
class RootStatus:
    """An indexed folder; `photos` and `skipped` are counts of files."""

    path: bytes
    rules: Rules
    photos: int
    skipped: int
    offline: Offline | None


class OfflinePart(NamedTuple):
    """A folder or drive inside a root that is offline, while the rest of the root is not."""

    path: bytes
    photos: int
    why: Offline


@dataclass(frozen=True, slots=True)
class Status:
    """What an index contains."""

    place: str
    model: str
    fingerprint: str
    dim: int
    photos: int
    embeddings: int
    size: int | None  # bytes; None for a collection
    method: str  # of searching
    roots: list[RootStatus]
    skipped: list[tuple[bytes, str]]  # path, reason
    offline: list[OfflinePart]
    rates: dict[str, float]  # images per second by precision, as measured on this machine
    read: int  # images that OCR went through
    with_text: int
    distinct: int  # contents


def status_of(store: Searchable) -> Status:
    """Raises `ModelMismatch` if the index's model is unknown."""
    model = Model.from_json(store.model)
    roots: list[RootStatus] = []
    offline: list[OfflinePart] = []
    for counts in store.counts():
        presence = store.presence(counts.root)
        roots.append(_root_status(counts, presence))
        if presence.whole is None:
            offline += _offline_parts(store, counts.root, presence)
    read, with_text = store.read_counts()
    return Status(
        place=store.place,
        model=model.name,
        fingerprint=model.fingerprint,
        dim=model.dim,
        photos=sum(root.photos for root in roots),
        embeddings=store.count_embeddings(),
        size=store.size_on_disk(),
        method=store.method(),
        roots=roots,
        skipped=store.skipped(),
        offline=offline,
        rates=measured(model, usable_cores()) or {},
        read=read,
        with_text=with_text,
        distinct=store.count_distinct(),
    )


def folders_of(store: Searchable) -> list[RootStatus]:
    """The indexed folders, by path; cheaper than the whole status."""
    return [_root_status(counts, store.presence(counts.root)) for counts in store.counts()]


def _root_status(counts: RootCounts, presence: Presence) -> RootStatus:
    return RootStatus(counts.root.path, counts.root.rules, counts.photos, counts.skipped, presence.whole)


def _offline_parts(store: Searchable, root: Root, presence: Presence) -> Iterator[OfflinePart]:
    for away in presence.away:
        yield OfflinePart(away.place, sum(store.count_on(root, drive) for drive in away.drives), away.why)
    photos = Counter(os.path.dirname(path) for path in store.files_of(root))
    for folder, count in sorted(photos.items()):
        path = join(root.path, folder) if folder else root.path
        if any(relative_to(path, away.place) is not None for away in presence.away):
            continue
        if why_unreadable(path) is Offline.UNREADABLE:
            yield OfflinePart(path, count, Offline.UNREADABLE)
