"""Nearest neighbours by cosine over an index, and the segments of vectors that make them fast.

A query is answered in two stages: a scan of small codes finds some hundred candidates, and their true rows decide. The
scan is wide enough for the error that is then seen, or it is done again, wider. Small indexes are scanned by their true
rows at once. Segments are derived: rows that came later are scanned in the catalogue, rows that went are passed over,
and a segment that is missing or damaged only costs time. There is no graph and no cluster: text queries lie off the
distribution of image embeddings, and such indexes lose a fifth to a half of their neighbours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids
from clipsearch.errors import IndexUnusable, reason
from clipsearch.paths import replacing, sync_folder
from clipsearch.store import segments
from clipsearch.store.photo import Segment
from clipsearch.store.segments import Chosen, Reader
from clipsearch.store.tables import Rows, Tables

# Up to this many rows, reading them from the catalogue is as fast as opening segments.
SMALL = 5_000

# Up to this many rows, the true rows are scanned at once.
EXACT = 50_000

# Segments that are read before they are needed: 64 MB of codes each.
AHEAD = 8

# Candidates whose true rows are looked at: so many, or so many times as many as are wanted.
_CANDIDATES = 500
_FACTOR = 4

# The scan was wide enough when what it left out lies so many standard deviations of its error below the k-th best.
_SURE = 5.0

# Candidates beyond k that are looked up in the catalogue, which has the last word.
_MARGIN = 16

# Segments that are scanned at the same time.
_AT_ONCE = 2

# A segment has as many rows as these bytes hold: what is kept in memory while it is written.
SEGMENT_BYTES = 1 << 28

# Rows that came later are put into a segment when they are so many, or more than one in STALE_SHARE of the others: a
# query reads them in 20 ms.
TAIL = 5_000
STALE_SHARE = 50

# A segment is written anew when more than one in SPARSE_SHARE of its rows is gone.
SPARSE_SHARE = 8


def top_k(store: Tables, query: Array, k: int, only: Ids | None = None, *, exact: bool = False) -> tuple[Ids, Array]:
    """Ids and cosines of the `k` images nearest to the unit row `query` (dim,), best first; fewer if there are fewer.

    `only`: the ids to choose from, sorted. `exact`: look at every true row. The scores are products with the stored
    fp16 rows, summed in fp32.
    """
    recorded = store.segments() or []
    if segments.total(recorded) <= SMALL:
        return _scan(store.embeddings(), query, k, only)
    with contextlib.ExitStack() as stack:
        readers, elsewhere = _opened(store, recorded)
        for reader in readers:
            stack.callback(reader.close)
        try:
            ids = _Search(readers, store.dropped(), only).nearest(query, k, exact)
        except OSError:  # a disk that fails costs time too
            return _scan(store.embeddings(), query, k, only)
    # Scored again with what the catalogue has, in which nothing is damaged unseen.
    best = _scan([store.embeddings_of(ids)], query, k, None)
    for part in elsewhere:
        best = _merge(best, _scan(store.embeddings(*part), query, k, only), k)
    return best


def read_ahead(store: Tables) -> None:
    """Ask the system to read what `top_k` will begin with, while there is something else to do."""
    recorded = store.segments() or []
    if segments.total(recorded) <= SMALL:
        return
    for segment in recorded[:AHEAD]:
        reader = segments.open_segment(store.folder, segment, store.dim)
        if reader is not None:
            with contextlib.closing(reader):
                reader.read_ahead(segments.total(recorded) <= EXACT)


def _opened(store: Tables, recorded: list[Segment]) -> tuple[list[Reader], list[tuple[int, int | None]]]:
    """The sound segments, and what is in none of them: above an id, and up to another."""
    readers: list[Reader] = []
    elsewhere: list[tuple[int, int | None]] = []
    after = 0
    for segment in recorded:
        reader = segments.open_segment(store.folder, segment, store.dim)
        if reader is not None:
            readers.append(reader)
            if segment.first > after + 1:
                elsewhere.append((after, segment.first - 1))
            after = segment.last
    return readers, [*elsewhere, (after, None)]


def _scan(blocks: Iterable[tuple[Ids, Rows]], query: Array, k: int, only: Ids | None) -> tuple[Ids, Array]:
    best: tuple[Ids, Array] = (np.empty(0, np.int64), np.empty(0, np.float32))
    for ids, rows in blocks if only is None else _chosen(blocks, only):
        best = _merge(best, (ids, segments.products(rows, query)), k)
    return best


def _chosen(blocks: Iterable[tuple[Ids, Rows]], only: Ids) -> Iterator[tuple[Ids, Rows]]:
    for ids, rows in blocks:
        chosen = np.isin(ids, only, assume_unique=True)
        yield ids[chosen], rows[chosen]


def _merge(a: tuple[Ids, Array], b: tuple[Ids, Array], k: int) -> tuple[Ids, Array]:
    """The k best of both, best first; among equals the lower id first."""
    ids, scores = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


# ------------------------------------------------------------------------------------------ searching segments


class _Found(NamedTuple):
    """The best rows of a scan: their numbers (n,), counted over all segments, in order, and their scores (n,).

    No row that is not among them has a score above `bound`.
    """

    numbers: Ids
    scores: Array
    bound: float


class _Search:
    """A search of some open segments, for images that are not `dropped` and, if given, among `only` (sorted)."""

    def __init__(self, readers: list[Reader], dropped: Ids, only: Ids | None) -> None:
        self._readers = readers
        counts = [reader.segment.rows for reader in readers]
        self._starts = np.cumsum([0, *counts])
        self._chosen = [_chosen_rows(reader, dropped, only) for reader in readers]
        self._count = sum(
            count if chosen is None else int(chosen.sum()) for count, chosen in zip(counts, self._chosen, strict=True)
        )

    def nearest(self, query: Array, k: int, exact: bool) -> Ids:
        """Ids of the k nearest and a few more, in order of id."""
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
        """The scores of all segments: the number of one, a place in it, and a block of scores from there on."""

        def of_segment(number: int) -> list[tuple[int, Array]]:
            for following in self._readers[number + (number > 0) : number + 1 + _AT_ONCE]:
                following.read_ahead(exact)
            return list(self._readers[number].scores(query, self._chosen[number], exact=exact))

        # Half of a scan is reading, during which another thread can compute.
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
    """Which rows (rows,) of a segment are searched; None for all."""
    gone = reader.places(dropped)
    if only is None and not len(gone):
        return None
    chosen = np.full(reader.segment.rows, only is None)
    if only is not None:
        chosen[reader.places(only)] = True
    chosen[gone] = False
    return chosen


def _best(parts: list[tuple[Ids, Array]], count: int, bound: float) -> tuple[tuple[Ids, Array], float]:
    """The `count` best of all parts, among equals those with the lower numbers, and the bound of what is left out."""
    numbers, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
    if len(numbers) <= count:
        return (numbers, scores), bound
    order = np.argsort(-scores, kind="stable")[:count]
    return (numbers[order], scores[order]), float(scores[order[-1]])


# ------------------------------------------------------------------------------------------ writing segments


class _Piece(NamedTuple):
    """The images with an id above `after` and of at most `last`, if that is a number; the segments that have them now.

    `is_kept`: whether these stay as they are.
    """

    after: int
    last: int | None
    segments: list[Segment]
    is_kept: bool


def refresh(store: Tables, anew: Collection[Segment] = ()) -> bool:
    """Write the segments that are missing, damaged or sparse, those of `anew`, and one of what came later.

    Says whether any was written. What is written is in use at once: a kill loses the work on one segment. Raises
    `IndexUnusable`.
    """
    recorded = store.segments()
    pieces = _plan(store, recorded or [], anew)
    done: list[Segment] = []
    for number, piece in enumerate(pieces):
        if piece.is_kept:
            done += piece.segments
        else:
            done += _write(
                store, done, piece, [segment for later in pieces[number + 1 :] for segment in later.segments]
            )
    if recorded is None and not pieces:
        store.adopt_segments([], 0, None)
    store.sweep()
    return any(not piece.is_kept for piece in pieces)


def _plan(store: Tables, recorded: list[Segment], anew: Collection[Segment]) -> list[_Piece]:
    pieces: list[_Piece] = []
    after, dropped = 0, store.dropped()
    for segment in recorded:
        gone = int(np.count_nonzero((dropped > after) & (dropped <= segment.last)))
        is_kept = segment not in anew and gone * SPARSE_SHARE <= segment.rows and _is_whole(store, segment)
        pieces.append(_Piece(after, segment.last, [segment], is_kept))
        after = segment.last
    tail = store.count_embeddings(after=after)
    if tail > TAIL or tail * STALE_SHARE > segments.total(recorded):
        pieces.append(_with_smaller(pieces, _Piece(after, None, [], False), tail, _capacity(store)))
    return pieces


def _with_smaller(pieces: list[_Piece], tail: _Piece, rows: int, capacity: int) -> _Piece:
    """The tail, and the last pieces as far as they are small or not much larger; these are taken from the list.

    Sizes of segments then fall from first to last, there are few, and a row is written again a few times at most.
    """
    while pieces and (more := segments.total(pieces[-1].segments)) <= min(max(TAIL, 2 * rows), capacity - rows):
        piece = pieces.pop()
        tail = _Piece(piece.after, None, [*piece.segments, *tail.segments], False)
        rows += more
    return tail


def _write(store: Tables, before: list[Segment], piece: _Piece, behind: list[Segment]) -> list[Segment]:
    """New segments of a piece, in use from now on between those before and behind it."""
    written: list[Segment] = []
    for ids, rows in _gathered(store, piece):
        written.append(_write_one(store, ids, rows))
        if piece.last is None:  # what is not written yet is what came later
            store.adopt_segments([*before, *written], piece.after, piece.last)
    if piece.last is not None or not written:
        store.adopt_segments([*before, *written, *behind], piece.after, piece.last)
    return written


def _write_one(store: Tables, ids: Ids, rows: Rows) -> Segment:
    path = store.folder / store.new_segment_name()
    try:
        with replacing(path, private=True) as temporary:
            segment = segments.write_segment(temporary, ids, rows)
        sync_folder(store.folder)
    except OSError as error:
        raise IndexUnusable(f"{path} cannot be written: {reason(error)}") from error
    return segment._replace(file=path.name)


def _gathered(store: Tables, piece: _Piece) -> Iterator[tuple[Ids, Rows]]:
    """The ids and rows of a piece, as many at once as a segment holds; valid until the next."""
    capacity = _capacity(store)
    all_ids, all_rows = np.empty(capacity, np.int64), np.empty((capacity, store.dim), "<f2")
    held = 0
    for ids, rows in store.embeddings(piece.after, piece.last):
        done = 0
        while done < len(ids):
            count = min(len(ids) - done, capacity - held)
            all_ids[held : held + count] = ids[done : done + count]
            all_rows[held : held + count] = rows[done : done + count]
            done, held = done + count, held + count
            if held == capacity:
                yield all_ids, all_rows
                held = 0
    if held:
        yield all_ids[:held], all_rows[:held]


def _capacity(store: Tables) -> int:
    return max(1, SEGMENT_BYTES // (2 * store.dim))


def _is_whole(store: Tables, segment: Segment) -> bool:
    reader = segments.open_segment(store.folder, segment, store.dim)
    if reader is not None:
        reader.close()
    return reader is not None


# ------------------------------------------------------------------------------------------ checking segments


def damaged(store: Tables) -> list[Segment]:
    """The segments that are missing, or that do not hold row by row what the catalogue says they should."""
    found, after = [], 0
    for segment in store.segments() or []:
        if not _agrees(store, segment, after):
            found.append(segment)
        after = segment.last
    return found


def _agrees(store: Tables, segment: Segment, after: int) -> bool:
    reader = segments.open_segment(store.folder, segment, store.dim)
    if reader is None:
        return False
    with contextlib.closing(reader), contextlib.suppress(OSError):
        return _holds(store, reader, after)
    return False


def _holds(store: Tables, reader: Reader, after: int) -> bool:
    ids = reader.ids_on_disk()
    if not np.array_equal(ids, reader.ids()) or not reader.has_sound_codes():
        return False
    places, seen = np.flatnonzero(~np.isin(ids, store.dropped(), assume_unique=True)), 0
    for expected, rows in store.embeddings(after, reader.segment.last):
        at = places[seen : seen + len(expected)]
        if not np.array_equal(ids[at], expected):
            return False
        if not np.array_equal(reader.rows_at(at).view(np.uint16), rows.view(np.uint16)):
            return False
        seen += len(expected)
    return seen == len(places)
