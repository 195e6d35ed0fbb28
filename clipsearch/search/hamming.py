"""Find perceptual hashes that differ in few bits: exactly, but without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Ids
from clipsearch.images.likeness import HASH_DISTANCE

Hashes = NDArray[np.uint64]

_PARTS, _BITS = 4, 16
_CHUNK = 1 << 22  # pairs to compare at once, which takes 100 MB


def within(hash: int, hashes: Hashes) -> NDArray[np.bool_]:
    """Which of `hashes` (n,) differ from `hash` in at most `HASH_DISTANCE` bits."""
    near: NDArray[np.bool_] = np.bitwise_count(hashes ^ np.uint64(hash)) <= HASH_DISTANCE
    return near


def nearest(hash: int, hashes: Hashes, most: int) -> Ids:
    """The rows of `hashes` (n,) that differ in at most `HASH_DISTANCE` bits: at most so many, those nearest first."""
    rows = np.flatnonzero(within(hash, hashes))
    return rows[np.argsort(np.bitwise_count(hashes[rows] ^ np.uint64(hash)), kind="stable")[:most]]


def components(hashes: Hashes) -> list[Ids]:
    """The connected components of near pairs, as row numbers of `hashes` (n,); single rows are left out."""
    unique, inverse = np.unique(hashes, return_inverse=True)
    parent = np.arange(len(unique))
    for ones, others in near_pairs(unique):
        while len(ones):
            roots = parent[ones], parent[others]
            np.minimum.at(parent, np.maximum(*roots), np.minimum(*roots))
            while (parent != parent[parent]).any():
                parent = parent[parent]
            is_apart = parent[ones] != parent[others]
            ones, others = ones[is_apart], others[is_apart]  # noqa: PLW2901
    label = parent[inverse]
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    return [part for part in np.split(order, starts[1:]) if len(part) > 1]


def near_pairs(hashes: Hashes) -> Iterator[tuple[Ids, Ids]]:
    """Row numbers of all pairs within `HASH_DISTANCE`, the smaller number first; a pair may come more than once.

    Multi-index hashing (Norouzi et al. 2012): if two hashes differ in at most seven bits, one of their four 16-bit
    parts differs in at most one bit. So each part is looked up as it is, and with each bit flipped.
    """
    assert HASH_DISTANCE < 2 * _PARTS
    rows = np.arange(len(hashes))
    for part in range(_PARTS):
        keys = (hashes >> np.uint64(_BITS * part)).astype(np.int64) & (2**_BITS - 1)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange(2**_BITS + 1))
        for flip in (0, *(1 << bit for bit in range(_BITS))):
            first, last = starts[keys ^ flip], starts[(keys ^ flip) + 1]
            for some in _chunks(rows, last - first):
                counts = (last - first)[some]
                ones = np.repeat(some, counts)
                offsets = np.arange(len(ones)) - np.repeat(np.cumsum(counts) - counts, counts)
                others = order[np.repeat(first[some], counts) + offsets]
                near = (ones < others) & (np.bitwise_count(hashes[ones] ^ hashes[others]) <= HASH_DISTANCE)
                if near.any():
                    yield ones[near], others[near]


def _chunks(rows: Ids, counts: Ids) -> list[Ids]:
    """Split rows into chunks with about `_CHUNK` candidates each."""
    if not len(rows):
        return []
    ends = np.searchsorted(np.cumsum(counts), np.arange(_CHUNK, int(counts.sum()) + _CHUNK, _CHUNK), "left") + 1
    return [part for part in np.split(rows, ends[:-1]) if len(part)]
