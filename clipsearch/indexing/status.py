"""What an index contains, and which parts of it are offline."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from clipsearch.images.left_out import LeftOut
from clipsearch.images.rules import Rules
from clipsearch.models.engines import Comparison, kept
from clipsearch.models.model import Model
from clipsearch.paths import join, relative_to
from clipsearch.store.drives import Offline, OfflinePart, why_unreachable
from clipsearch.store.photo import Root
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
    comparison: Comparison | None  # of the engines on this machine
    read: int  # images that OCR went through
    with_text: int
    face_scans: int  # images that were searched for faces
    faces: int
    people: int  # with a name
    unnamed_groups: int  # of faces
    captioned: int  # images with a generated caption
    distinct: int  # contents
    left_out: LeftOut = field(default_factory=LeftOut)  # by the last scans of whole folders


def status_of(store: Searchable) -> Status:
    """Raises `ModelMismatch` if the index's model is unknown."""
    model = Model.from_json(store.model)
    roots = folders_of(store)
    summary = store.summary()
    online = [root for root, folder in zip(store.roots(), roots, strict=True) if folder.offline is None]
    unreadable = [part for root in online for part in _unreadable_parts(store, root, summary.offline)]
    return Status(
        place=store.place,
        model=model.name,
        fingerprint=model.fingerprint,
        dim=model.dim,
        photos=sum(root.photos for root in roots),
        roots=roots,
        comparison=kept(model, usable_cores()),
        **summary._replace(offline=sorted([*summary.offline, *unreadable]))._asdict(),
    )


def folders_of(store: Searchable) -> list[RootStatus]:
    """The indexed folders, by path; cheaper than the whole status."""
    return [
        RootStatus(one.root.path, one.root.rules, one.photos, one.skipped, store.presence(one.root).whole)
        for one in store.counts()
    ]


def _unreadable_parts(store: Searchable, root: Root, offline: list[OfflinePart]) -> Iterator[OfflinePart]:
    """The unreadable folders that are not offline for another reason."""
    photos = Counter(os.path.dirname(path) for path in store.files_of(root))
    for folder, count in sorted(photos.items()):
        path = join(root.path, folder) if folder else root.path
        if any(relative_to(path, part.path) is not None for part in offline):
            continue
        if why_unreachable(path) is Offline.UNREADABLE:
            yield OfflinePart(path, count, Offline.UNREADABLE)
