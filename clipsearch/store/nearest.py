"""Nearest neighbours by cosine, exactly.

A query is answered in two stages: a scan of 4-bit codes chooses some hundred candidates, and their true rows decide. If
the error of the codes that this shows is too large for the number of candidates, the scan is repeated for more. Small
indexes are scanned by their true rows. There is no graph and no clustering: text queries lie outside the distribution
of image embeddings, and such indexes lose 20 to 50% of their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids, Rows
from clipsearch.store import segments
from clipsearch.store.segments import Chosen, Reader

# Up to this many rows, reading them from the catalogue is as fast as opening segments.
SMALL = 5_000

# Up to this many rows, the true rows are scanned at once.
EXACT = 50_000

# Candidates whose true rows are compared: at least this many, or a multiple of those that are wanted.
_CANDIDATES = 500
_FACTOR = 4

# The scan found enough when the best row it left out scores this many standard deviations of the codes' error less than
# the k-th best.
_SURE = 5.0

# Candidates beyond k whose rows are read again from the catalogue, which is the truth.
_MARGIN = 16

# Segments that are scanned at the same time.
_AT_ONCE = 2


def scan(blocks: Iterable[tuple[Ids, Rows]], query: Array, k: int, only: Ids | None) -> tuple[Ids, Array]:
    """The k nearest of some rows, of those among `only` (sorted) if it is given; best first."""
    best: tuple[Ids, Array] = (np.empty(0, np.int64), np.empty(0, np.float32))
    for ids, rows in blocks if only is None else _chosen(blocks, only):
        best = merge(best, (ids, segments.products(rows, query)), k)
    return best


def _chosen(blocks: Iterable[tuple[Ids, Rows]], only: Ids) -> Iterator[tuple[Ids, Rows]]:
    for ids, rows in blocks:
        chosen = np.isin(ids, only, assume_unique=True)
        yield ids[chosen], rows[chosen]


def merge(a: tuple[Ids, Array], b: tuple[Ids, Array], k: int) -> tuple[Ids, Array]:
    """The k best of both, best first; equal scores by id."""
    ids, scores = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


# ------------------------------------------------------------------------------------------ searching segments


class _Found(NamedTuple):
    """The best rows of a scan: their sorted numbers (n,), counted over all segments, and their scores (n,).

    All other rows have a score of at most `bound`.
    """

    numbers: Ids
    scores: Array
    bound: float


class Search:
    """A search of open segments for images that are not `dropped` and, if `only` (sorted) is given, among those."""

    def __init__(self, readers: list[Reader], dropped: Ids, only: Ids | None) -> None:
        self._readers = readers
        counts = [reader.segment.rows for reader in readers]
        self._starts = np.cumsum([0, *counts])
        self._chosen = [_chosen_rows(reader, dropped, only) for reader in readers]
        self._count = sum(
            count if chosen is None else int(chosen.sum()) for count, chosen in zip(counts, self._chosen, strict=True)
        )

    def nearest(self, query: Array, k: int, exact: bool) -> Ids:
        """The ids of the k nearest and a few more, sorted."""
        wanted, rows = max(_CANDIDATES, _FACTOR * (k + _MARGIN)), int(self._starts[-1])
        if self._count <= max(wanted, min(SMALL, rows // 16)):  # few are chosen, or nearly all are wanted
            return self._ids(self._all())
        while not exact and rows > EXACT and wanted < self._count // 8:
            near = self._scan(query, wanted, exact=False)
            true = self._true_scores(near.numbers, query)
            best = np.argsort(-true, kind="stable")
            error = float(np.sqrt(np.mean((true - near.scores) ** 2)))
            if true[best[k - 1]] >= near.bound + _SURE * error:
                return self._ids(np.sort(near.numbers[best[: k + _MARGIN]]))
            wanted *= 8
        return self._ids(self._scan(query, k + _MARGIN, exact=True).numbers)

    def _scan(self, query: Array, count: int, *, exact: bool) -> _Found:
        best, bound = (np.empty(0, np.int64), np.empty(0, np.float32)), -np.inf
        more: list[tuple[Ids, Array]] = []
        held = 0
        for number, first, block in self._scores(query, exact=exact):
            chosen, start = self._chosen[number], int(self._starts[number])
            good = block > bound
            if chosen is not None:
                good &= chosen[first : first + len(block)]
            at = np.flatnonzero(good)
            more.append((start + first + at, block[at]))
            held += len(at)
            if held >= 4 * count:
                best, bound = _best([best, *more], count, bound)
                more, held = [], 0
        (numbers, scores), bound = _best([best, *more], count, bound)
        order = np.argsort(numbers)
        return _Found(numbers[order], scores[order], bound)

    def _scores(self, query: Array, *, exact: bool) -> Iterator[tuple[int, int, Array]]:
        """Blocks of scores, each with the number of its segment and its place there."""

        def of_segment(number: int) -> list[tuple[int, Array]]:
            for following in self._readers[number + (number > 0) : number + 1 + _AT_ONCE]:
                following.read_ahead(exact)
            return list(self._readers[number].scores(query, self._chosen[number], exact=exact))

        # Half of a scan is reading; another thread can compute meanwhile.
        with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(self._readers)))) as pool:
            for number, blocks in enumerate(pool.map(of_segment, range(len(self._readers)))):
                for first, block in blocks:
                    yield number, first, block

    def _true_scores(self, numbers: Ids, query: Array) -> Array:
        return np.concatenate(
            [segments.products(reader.rows_at(places), query) for reader, places in self._by_reader(numbers)]
        )

    def _ids(self, numbers: Ids) -> Ids:
        return np.concatenate(
            [np.empty(0, np.int64), *(reader.ids()[places] for reader, places in self._by_reader(numbers))]
        )

    def _all(self) -> Ids:
        return np.concatenate(
            [
                start + (np.arange(reader.segment.rows) if chosen is None else np.flatnonzero(chosen))
                for start, chosen, reader in zip(self._starts.tolist(), self._chosen, self._readers, strict=False)
            ]
            or [np.empty(0, np.int64)]
        )

    def _by_reader(self, numbers: Ids) -> Iterator[tuple[Reader, Ids]]:
        bounds = np.searchsorted(numbers, self._starts)
        for reader, start, low, high in zip(self._readers, self._starts, bounds, bounds[1:], strict=False):
            yield reader, numbers[low:high] - start


def _chosen_rows(reader: Reader, dropped: Ids, only: Ids | None) -> Chosen | None:
    """Which rows (rows,) of a segment are searched; None if all are."""
    gone = reader.places(dropped)
    if only is None and not len(gone):
        return None
    chosen = np.full(reader.segment.rows, only is None)
    if only is not None:
        chosen[reader.places(only)] = True
    chosen[gone] = False
    return chosen


def _best(parts: list[tuple[Ids, Array]], count: int, bound: float) -> tuple[tuple[Ids, Array], float]:
    """The `count` best of all parts, equal scores by number, and a bound on the scores of the others."""
    numbers, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
    if len(numbers) <= count:
        return (numbers, scores), bound
    order = np.argsort(-scores, kind="stable")[:count]
    return (numbers[order], scores[order]), float(scores[order[-1]])
