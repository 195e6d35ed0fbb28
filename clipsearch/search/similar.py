"""Groups of photos with embeddings that are near each other: edits, crops, bursts, or pictures that only look alike.

The groups are exactly those that comparing all pairs would give. By Cauchy-Schwarz, a.b <= a1.b1 + |a2||b2| for rows
split in two parts. Rotated to their principal directions, 64 terms and one length rule out nearly every pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from clipsearch.arrays import Array, Ids
from clipsearch.search.copies import Copy, Group, Kind, identical_sets, unchanged
from clipsearch.search.preference import preference
from clipsearch.search.present import Present
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

NEAR = 0.98  # the default cosine

TIE = 1e-6  # below the threshold, and still at it: the cosine of a unit row with itself is 1 but for rounding

_SHORT = 64  # of 512: a tenth of the products, and one pair in 100,000 is left at a threshold of 0.9
_SMALL = 8192  # as many rows, or fewer, are compared whole in less time than finding the directions takes
_SAMPLE = 4096  # rows that the directions are found in
_FEW = 1 / 256  # a larger share of pairs takes longer one by one than all pairs of the block at once
_PAIRS = 1024  # whose rows are gathered at once: what stays in a core's cache


class Rows(Protocol):
    """Unit rows (n, dim), which may lie elsewhere: some of them, by their numbers, are (m, dim) float32."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows of which length."""

    def __getitem__(self, which: Ids, /) -> Array:
        """The rows with these numbers, in this order."""


def find_similar(
    store: Searchable, selection: Selection, threshold: float = NEAR, present: Present | None = None
) -> list[Group]:
    """Groups of files whose embeddings are near that of the best: copies, edits, crops, and pictures that look alike.

    By the path of their best file (`preference`). Every file is in one group at most; those that are gone or changed
    are left out. Memory: some 350 bytes for each photo, and the photos of the groups.
    """
    present = present or Present()
    of_image = {
        files[0].photo.image_id: files for sets in identical_sets(store, selection, present).values() for files in sets
    }
    best = {files[0].photo.path for files in of_image.values()}
    seen = {files[0].photo.content for files in of_image.values()}
    images = _by_preference(
        photo
        for photo in store.by_path(selection)
        if (photo.path in best if photo.content in seen else any(unchanged(present, [photo])))
    )
    _join(of_image, store, selection, images, threshold)
    # None is called the best: the others may show something else, and pairs of RAW and JPEG are not kept together here.
    groups = [(first._replace(kind=Kind.SIMILAR), *others) for first, *others in of_image.values() if others]
    return sorted(groups, key=lambda files: files[0].photo.path)


def _by_preference(photos: Iterable[Photo]) -> Ids:
    """The images of photos, the best first."""
    ranked = sorted((preference(photo), photo.image_id) for photo in photos)
    return np.array([image_id for _, image_id in ranked], np.int64)


class _Stored:
    """The unit rows of images in a catalogue, read when they are asked for."""

    def __init__(self, store: Searchable, images: Ids) -> None:
        self._store, self._images = store, images
        self.shape = (len(images), store.dim)

    def __getitem__(self, which: Ids, /) -> Array:
        return self._store.unit_rows_of(self._images[which].tolist())


def _join(
    of_image: dict[int, list[Copy]], store: Searchable, selection: Selection, images: Ids, threshold: float
) -> None:
    """Put the files of images, which come in order of preference, together where they are near."""
    near = near_groups(_Stored(store, images), threshold, order=np.argsort(images))
    groups = [images[[group.head, *group.members]].tolist() for group in near]
    alone = {image_id for group in groups for image_id in group} - of_image.keys()
    of_image |= {photo.image_id: [Copy(photo, Kind.BEST, 1.0)] for photo in store.photos_of(alone, selection)}
    for (head, *members), group in zip(groups, near, strict=True):
        for image_id, cosine in zip(members, group.cosines, strict=True):
            similarity = min(cosine, 1.0)
            of_image[head] += [
                file._replace(kind=Kind.SIMILAR, similarity=similarity) for file in of_image.pop(image_id)
            ]


class NearGroup(NamedTuple):
    """A head and its members, by row number, with the cosines between it and each; nearest first, then by number."""

    head: int
    members: list[int]
    cosines: list[float]


def near_groups(rows: Rows, threshold: float, *, block: int = 2048, order: Ids | None = None) -> list[NearGroup]:
    """Rows that are near another, in order of their heads.

    `rows`: (n, dim) float32, unit rows in order of preference. The first row that is in no group yet is the head of the
    next, and its members are all later rows in no group whose cosine with it is at least `threshold`, less `TIE`: a
    member is near its head, not only near a member. Rows that are near no other are in no group, nor are rows
    that are not finite. Memory beside the rows: 65 numbers a row, and a few for each pair of a `block` of rows squared.
    Rows that lie elsewhere are read once each, in `order` if one is given, and again as they are needed.
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
    """Which row belongs to which head, as far as was looked."""

    def __init__(self, views: list[Rows], threshold: float) -> None:
        """`views`: of the same rows, products of the first at least the cosines, products of the last the cosines."""
        self.free = np.ones(views[-1].shape[0], np.bool_)
        self._views, self._rows = views, views[-1]
        self._at_least = threshold - TIE
        self._members: dict[int, list[tuple[float, int]]] = {}
        # A float32 sum of products of unit rows is off by at most dim * 2**-24. Two are compared, and short rows are
        # themselves rounded.
        self._maybe = self._at_least - 4 * self._rows.shape[1] * 2.0**-24

    def add(self, heads: Ids, others: Ids) -> None:
        """Give each of `others` to the first of `heads` that is before it, near it, and free when it is its turn."""
        near = self._candidates(heads, others)
        for start in range(0, len(near), _PAIRS):
            n, m = np.divmod(near[start : start + _PAIRS], len(others))
            head, other = heads[n], others[m]
            is_open = (head < other) & self.free[head] & self.free[other]
            head, other = head[is_open], other[is_open]
            # einsum sums every pair alike whatever pairs lie beside it; a BLAS product does not, to the last bit.
            cosine = np.einsum("nd,nd->n", self._rows[head], self._rows[other])
            chosen = cosine >= self._at_least
            for h, o, c in zip(head[chosen].tolist(), other[chosen].tolist(), cosine[chosen].tolist(), strict=True):
                if self.free[h] and self.free[o]:
                    self.free[o] = False
                    self._members.setdefault(h, []).append((-c, o))

    def _candidates(self, heads: Ids, others: Ids) -> Ids:
        """The pairs that may be near, by head: head times len(others) plus other, both counted in their lists."""
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
    """Rows (n, 65) float32 whose products are at least those of `rows`: each's first part, and the second's length.

    In float64, so that their error is the one rounding to float32. Rows other than `which` are zero, and those that are
    not finite are not finite.
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
