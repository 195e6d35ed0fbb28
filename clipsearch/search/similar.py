"""Find photos with similar embeddings: edits, crops, bursts, or pictures that merely look alike.

The groups are exactly those that comparing all pairs would give. Rows are rotated to their principal directions and
split in two: by Cauchy-Schwarz, a·b <= a1·b1 + |a2||b2|, so 64 products and one length rule out nearly every pair.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from clipsearch.arrays import Array, Ids
from clipsearch.search.copies import Group, Kind, by_path, groups_of, identical_sets, representatives
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.preference import preference
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

TIE = 1e-6  # tolerance below the threshold: with rounding, a unit row may have a cosine below 1 to itself

_SHORT = 64  # dimensions of 512 to compare first: they leave one pair in 100,000 at a threshold of 0.9
_SMALL = 8192  # up to this many rows, comparing whole ones is faster than computing the directions
_SAMPLE = 4096  # rows to compute the directions from
_FEW = 1 / 256  # with a larger share of candidates, multiplying all pairs of a block at once is faster
_PAIRS = 1024  # pairs whose rows are gathered at once: they fit a core's cache


class Rows(Protocol):
    """Unit rows (n, dim) float32 that need not be in memory; indexed by row numbers."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, which: Ids, /) -> Array: ...


def find_similar(store: Searchable, selection: Selection, threshold: float, files: FilesOnDisk) -> list[Group]:
    """Groups of photos whose cosine to the first, the best file, is at least `threshold`, ordered by its path.

    A file is in one group at most; deleted and modified files are left out. Takes 350 bytes of memory per photo, and
    the groups.
    """
    sets = identical_sets(store, selection, files)
    photos = representatives(store.by_path(selection), files, sets)
    ranked = sorted((preference(photo), photo.image_id) for photo in photos)
    images = np.array([image_id for _, image_id in ranked], np.int64)
    near = near_groups(_StoredRows(store, images), threshold, order=np.argsort(images))
    members = [images[[group.head, *group.members]].tolist() for group in near]
    of_image = groups_of((image for group in members for image in group), sets, store, selection)
    for (head, *others), group in zip(members, near, strict=True):
        for image_id, cosine in zip(others, group.cosines, strict=True):
            similar = (one._replace(kind=Kind.SIMILAR, similarity=min(cosine, 1.0)) for one in of_image.pop(image_id))
            of_image[head] = [*of_image[head], *similar]
    groups = [*of_image.values(), *(group for _, *rest in sets.values() for group in rest)]
    # No file is the best: the others may show something else, and partners (RAW + JPEG) are not kept together.
    return by_path((first._replace(kind=Kind.SIMILAR), *others) for first, *others in groups if others)


class _StoredRows:
    """The unit rows of images, read from the store on demand."""

    def __init__(self, store: Searchable, images: Ids) -> None:
        self._store, self._images = store, images
        self.shape = (len(images), store.dim)

    def __getitem__(self, which: Ids, /) -> Array:
        return self._store.unit_rows_of(self._images[which].tolist())


class NearGroup(NamedTuple):
    """Row numbers of a head and its members, with their cosines to the head; nearest first."""

    head: int
    members: list[int]
    cosines: list[float]


def near_groups(rows: Rows, threshold: float, *, block: int = 2048, order: Ids | None = None) -> list[NearGroup]:
    """Groups of similar rows, in the order of their heads.

    `rows`: (n, dim) float32, unit rows, the best first. The first row without a group is the head of the next one; its
    members are all later rows without a group whose cosine to the head is at least `threshold` (less `TIE`). So members
    are near the head, not just near each other. Rows that are not finite are left out. Memory beyond `rows`: 65 numbers
    per row, and a few per pair of a `block` squared. `order` is the fastest order to read the rows in.
    """
    numbers = np.arange(rows.shape[0]) if order is None else order
    if len(numbers) <= _SMALL or rows.shape[1] <= 2 * _SHORT:
        rows = rows[np.arange(len(numbers))]
        views: list[Rows] = [rows]
        finite = np.isfinite(np.einsum("nd,nd->n", rows, rows))
    else:
        short = _shortened(rows, numbers)
        views = [short, rows]
        finite = np.isfinite(np.einsum("nd,nd->n", short, short))
    rest = np.flatnonzero(finite)
    claims = _Claims(views, threshold)
    while len(rest):
        heads, rest = rest[:block], rest[block:]
        claims.add(heads, heads)
        heads = heads[claims.free[heads]]
        for start in range(0, len(rest), block):
            claims.add(heads, rest[start : start + block])
        rest = rest[claims.free[rest]]
    return claims.groups()


class _Claims:
    """Which head has claimed which row so far."""

    def __init__(self, views: list[Rows], threshold: float) -> None:
        """`views` of the same rows: products of the first are at least the cosines, those of the last the cosines."""
        self.free = np.ones(views[-1].shape[0], np.bool_)
        self._views, self._rows = views, views[-1]
        self._at_least = threshold - TIE
        self._members: dict[int, list[tuple[float, int]]] = {}
        # A float32 product of unit rows is off by at most dim * 2**-24. Two are compared, and short rows are rounded.
        self._maybe = self._at_least - 4 * self._rows.shape[1] * 2.0**-24

    def add(self, heads: Ids, others: Ids) -> None:
        """Give each of `others` to the first of `heads` that precedes it, is near it, and is itself still free."""
        near = self._candidates(heads, others)
        for start in range(0, len(near), _PAIRS):
            n, m = np.divmod(near[start : start + _PAIRS], len(others))
            head, other = heads[n], others[m]
            is_open = (head < other) & self.free[head] & self.free[other]
            head, other = head[is_open], other[is_open]
            # Unlike a BLAS product, einsum computes a pair to the same bit whatever the other pairs are.
            cosine = np.einsum("nd,nd->n", self._rows[head], self._rows[other])
            chosen = cosine >= self._at_least
            for h, o, c in zip(head[chosen].tolist(), other[chosen].tolist(), cosine[chosen].tolist(), strict=True):
                if self.free[h] and self.free[o]:
                    self.free[o] = False
                    self._members.setdefault(h, []).append((-c, o))

    def _candidates(self, heads: Ids, others: Ids) -> Ids:
        """The pairs that may be near, sorted: number of the head * len(others) + number of the other."""
        for view in self._views:
            near = np.flatnonzero(view[heads] @ view[others].T >= self._maybe)
            if len(near) <= _FEW * len(heads) * len(others):
                break
        return near

    def groups(self) -> list[NearGroup]:
        return [
            NearGroup(head, [row for _, row in found], [-minus for minus, _ in found])
            for head, found in ((head, sorted(self._members[head])) for head in sorted(self._members))
        ]


def _shortened(rows: Rows, which: Ids) -> Array:
    """Rows (n, 65) float32 whose products are at least those of `rows`: the first part, and the length of the second.

    Computed in float64, so the only error is the rounding to float32. Rows outside `which` are zero.
    """
    sample = rows[which[:: -(-len(which) // _SAMPLE)]].astype(np.float64)
    sample = sample[np.isfinite(sample).all(1)]
    directions = np.linalg.eigh(sample.T @ sample)[1][:, -_SHORT:]
    out = np.zeros((rows.shape[0], _SHORT + 1), np.float32)
    for start in range(0, len(which), _SAMPLE):
        part = which[start : start + _SAMPLE]
        whole = rows[part].astype(np.float64)
        with np.errstate(invalid="ignore"):
            first = whole @ directions
            second = np.einsum("nd,nd->n", whole, whole) - np.einsum("nd,nd->n", first, first)
            out[part, :-1] = first
            out[part, -1] = np.sqrt(np.maximum(second, 0))
    return out
