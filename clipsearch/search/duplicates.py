"""Groups of photos that are copies of each other: the same contents, or embeddings that are near.

Exact: the groups are those that all pairs would give. What makes it fast is that few pairs need their whole product.
By Cauchy and Schwarz, a.b <= a1.b1 + |a2||b2| for rows split in two parts. With the rows turned so that the first part
holds as much of them as it can, 65 products rule out nearly every pair that is not near.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids
from clipsearch.search.present import Present
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

# The usual cosines from which on photos are copies: for lists that somebody may delete by, and for results, in which
# nothing is lost. Measured with mini by `scripts/measure_mini.py`.
NEAR = 0.99
NEAR_IN_RESULTS = 0.98

TIE = 1e-6  # below the threshold, and still at it: the cosine of a unit row with itself is 1 but for rounding

_SHORT = 64  # of 512: a tenth of the products, and one pair in 100,000 is left at a threshold of 0.9
_SMALL = 8192  # as many rows, or fewer, are compared whole in less time than finding the directions takes
_SAMPLE = 4096  # rows that the directions are found in
_FEW = 1 / 256  # a larger share of pairs takes longer one by one than all pairs of the block at once
_PAIRS = 1024  # whose rows are gathered at once: what stays in a core's cache


class Copy(NamedTuple):
    """One file of a group, with the cosine between it and the best: 1 for the same contents.

    `same_file` are other names of the very same file: links to it, or its path through a linked folder. Deleting one of
    them frees nothing, and deleting the file leaves them broken.
    """

    photo: Photo
    similarity: float
    same_file: tuple[bytes, ...] = ()


Group = tuple[Copy, ...]  # the best first


def find_duplicates(
    store: Searchable, selection: Selection, threshold: float | None = NEAR, present: Present | None = None
) -> list[Group]:
    """The groups of copies in a selection, by the path of their best photo; None: only of the same contents.

    Better is what has more pixels, then the larger file, then the older, then the first by path. Every file is in one
    group at most, once. Files that are gone or were changed since they were indexed are left out.
    """
    present = present or Present()
    files = []
    for file in present.files(store.by_path(selection, copied=threshold is None)):
        if file.changed:  # to be called the best copy of what it does not show any more would be worse than nothing
            present.changed.append(file.photo.path)
        else:
            files.append(Copy(file.photo, 1.0, file.other_names))
    of_content: dict[bytes, list[Copy]] = {}
    for copy in sorted(files, key=_preference):
        of_content.setdefault(copy.photo.content, []).append(copy)
    contents = list(of_content)  # in order of preference too
    groups: list[Group] = []
    if threshold is not None and contents:
        rows = store.unit_rows_of(copies[0].photo.image_id for copies in of_content.values())
        for near in near_groups(rows, threshold):
            copies = of_content.pop(contents[near.head])
            for member, cosine in zip(near.members, near.cosines, strict=True):
                copies += [file._replace(similarity=min(cosine, 1.0)) for file in of_content.pop(contents[member])]
            groups.append(tuple(copies))
    groups += [tuple(copies) for copies in of_content.values() if len(copies) > 1]
    return sorted(groups, key=lambda copies: copies[0].photo.path)


def _preference(file: Copy) -> tuple[int, int, int, bytes]:
    photo = file.photo
    return (-photo.metadata.width * photo.metadata.height, -photo.size, photo.mtime_ns, photo.path)


class NearGroup(NamedTuple):
    """A head and its members, by row number, with the cosines between it and each; nearest first, then by number."""

    head: int
    members: list[int]
    cosines: list[float]


def near_groups(rows: Array, threshold: float, *, block: int = 2048) -> list[NearGroup]:
    """Rows that are near another, in order of their heads.

    `rows`: (n, dim) float32, unit rows in order of preference. The first row that is in no group yet is the head of the
    next, and its members are all later rows in no group whose cosine with it is at least `threshold`, less `TIE`: a
    member is near its head, not only near a member. Rows that are near no other are in no group, nor are rows
    that are not finite. Memory beside the rows: 65 numbers a row, and a few for each pair of a `block` of rows squared.
    """
    rest = np.flatnonzero(np.isfinite(np.einsum("nd,nd->n", rows, rows)))
    views = [rows] if len(rest) <= _SMALL or rows.shape[1] <= 2 * _SHORT else [_shortened(rows, rest), rows]
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

    def __init__(self, views: list[Array], threshold: float) -> None:
        """`views`: of the same rows, products of the first at least the cosines, products of the last the cosines."""
        self.free = np.ones(len(views[-1]), np.bool_)
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


def _shortened(rows: Array, which: Ids) -> Array:
    """Rows (n, 65) float32 whose products are at least those of `rows`: each's first part, and the second's length.

    In float64, so that their error is the one rounding to float32. Rows other than `which` are zero.
    """
    sample = rows[which[:: -(-len(which) // _SAMPLE)]].astype(np.float64)
    directions = np.linalg.eigh(sample.T @ sample)[1][:, -_SHORT:]
    out = np.zeros((len(rows), _SHORT + 1), np.float32)
    for start in range(0, len(which), _SAMPLE):
        part = which[start : start + _SAMPLE]
        whole = rows[part].astype(np.float64)
        first = whole @ directions
        second = np.einsum("nd,nd->n", whole, whole) - np.einsum("nd,nd->n", first, first)
        out[part, :-1] = first
        out[part, -1] = np.sqrt(np.maximum(second, 0))
    return out
