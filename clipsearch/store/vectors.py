"""The vectors of an index: segments that make search fast, kept in step with the catalogue.

Segments are derived. Rows that came later are read from the catalogue, rows that are gone are skipped, and a missing or
damaged segment costs nothing but time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids, Rows
from clipsearch.errors import IndexDamaged, IndexUnusable, reason
from clipsearch.paths import replacing, sync_folder
from clipsearch.store import nearest, segments
from clipsearch.store.database import Database
from clipsearch.store.images import LARGEST_ID, Images
from clipsearch.store.photo import SEGMENT_FILE, Segment
from clipsearch.store.segments import Reader

# Segments that are read before they are needed: 64 MB of codes each.
AHEAD = 8

# The size of a segment's rows, which are held in memory while it is written.
SEGMENT_BYTES = 1 << 28

# Newer rows become a segment when there are this many, or more than 1 in STALE_SHARE of the others: a query reads that
# many in 20 ms.
TAIL = 5_000
STALE_SHARE = 50

# A segment is rewritten when more than 1 in SPARSE_SHARE of its rows is gone.
SPARSE_SHARE = 8


class _Piece(NamedTuple):
    """The images with ids above `after`, up to `last` if it is given, and the segments that have them now.

    `is_kept`: these segments stay as they are.
    """

    after: int
    last: int | None
    segments: list[Segment]
    is_kept: bool


class Vectors:
    """The segments of an index."""

    def __init__(self, database: Database, images: Images) -> None:
        self._database, self._images = database, images
        self._folder = database.folder

    # -------------------------------------------------------------------------------- records

    def segments(self) -> list[Segment] | None:
        """The segments in use, by their images; None if none were made yet or the record is damaged."""
        try:
            record = self._database.meta("vectors")
            return [_checked(Segment(*values)) for values in json.loads(record)] if record else None
        except (ValueError, TypeError, IndexDamaged):
            return None  # they can be made again

    def _adopt(self, adopted: list[Segment], after: int, last: int | None) -> None:
        """Commit which segments are in use. Those of images above `after`, up to `last`, have no rows that are gone."""
        self._database.set_meta("vectors", json.dumps(adopted))
        self._database.execute(
            "DELETE FROM dropped WHERE image > ? AND image <= ?", (after, LARGEST_ID if last is None else last)
        )
        self._database.commit()

    def with_gone_rows(self) -> list[Segment]:
        """The segments in use that still have rows of images that are gone."""
        dropped = self._dropped()
        return [one for one in self.segments() or [] if ((dropped >= one.first) & (dropped <= one.last)).any()]

    def _dropped(self) -> Ids:
        """The sorted ids of images that are gone and may still be in segments."""
        rows = self._database.execute("SELECT image FROM dropped ORDER BY image")
        return np.fromiter((row[0] for row in rows), np.int64)

    # -------------------------------------------------------------------------------- searching

    def nearest(self, query: Array, k: int, only: Ids | None = None, *, exact: bool = False) -> tuple[Ids, Array]:
        """The ids and cosines of the `k` images nearest to the unit row `query` (dim,), best first.

        `only`: sorted ids to choose from. `exact`: compare every true row. Scores are products with the stored fp16
        rows, summed in fp32.
        """
        recorded = self.segments() or []
        if segments.total(recorded) <= nearest.SMALL:
            return nearest.scan(self._images.embeddings(), query, k, only)
        with contextlib.ExitStack() as stack:
            readers, elsewhere = self._opened(recorded)
            for reader in readers:
                stack.callback(reader.close)
            try:
                ids = nearest.Search(readers, self._dropped(), only).nearest(query, k, exact)
            except OSError:  # a failing disk, too, costs only time
                return nearest.scan(self._images.embeddings(), query, k, only)
        # Scored again from the catalogue, where damage is noticed.
        best = nearest.scan([self._images.embeddings_of(ids)], query, k, None)
        for part in elsewhere:
            best = nearest.merge(best, nearest.scan(self._images.embeddings(*part), query, k, only), k)
        return best

    def scores_of(self, images: Iterable[int], query: Array) -> dict[int, float]:
        """The cosines of some images, as `nearest` computes them; those without an embedding are left out."""
        ids, rows = self._images.embeddings_of(images)
        return dict(zip(ids.tolist(), segments.products(rows, query).tolist(), strict=True))

    def read_ahead(self) -> None:
        """Ask the system to read what `nearest` will read first."""
        recorded = self.segments() or []
        if segments.total(recorded) <= nearest.SMALL:
            return
        for segment in recorded[:AHEAD]:
            reader = self._open(segment)
            if reader is not None:
                with contextlib.closing(reader):
                    reader.read_ahead(segments.total(recorded) <= nearest.EXACT)

    def _opened(self, recorded: list[Segment]) -> tuple[list[Reader], list[tuple[int, int | None]]]:
        """The sound segments, and the ranges of ids (above, up to) that are in none of them."""
        readers: list[Reader] = []
        elsewhere: list[tuple[int, int | None]] = []
        after = 0
        for segment in recorded:
            reader = self._open(segment)
            if reader is not None:
                readers.append(reader)
                if segment.first > after + 1:
                    elsewhere.append((after, segment.first - 1))
                after = segment.last
        return readers, [*elsewhere, (after, None)]

    def _open(self, segment: Segment) -> Reader | None:
        return segments.open_segment(self._folder, segment, self._images.dim)

    # -------------------------------------------------------------------------------- writing

    def update(self, rewrite: Collection[Segment] = ()) -> bool:
        """Write the segments that are missing, damaged or sparse, those in `rewrite`, and one of newer rows.

        Returns whether any was written. Each is in use at once: a kill loses the work on one segment. Raises
        `IndexUnusable`.
        """
        recorded = self.segments()
        pieces = self._plan(recorded or [], rewrite)
        done: list[Segment] = []
        for number, piece in enumerate(pieces):
            if piece.is_kept:
                done += piece.segments
            else:
                behind = [segment for later in pieces[number + 1 :] for segment in later.segments]
                done += self._write(done, piece, behind)
        if recorded is None and not pieces:
            self._adopt([], 0, None)
        self._sweep()
        return any(not piece.is_kept for piece in pieces)

    def _plan(self, recorded: list[Segment], rewrite: Collection[Segment]) -> list[_Piece]:
        pieces: list[_Piece] = []
        after, dropped = 0, self._dropped()
        for segment in recorded:
            gone = int(np.count_nonzero((dropped > after) & (dropped <= segment.last)))
            is_kept = segment not in rewrite and gone * SPARSE_SHARE <= segment.rows and self._is_whole(segment)
            pieces.append(_Piece(after, segment.last, [segment], is_kept))
            after = segment.last
        tail = self._images.count(after=after)
        if tail > TAIL or tail * STALE_SHARE > segments.total(recorded):
            pieces.append(_with_smaller(pieces, _Piece(after, None, [], False), tail, self._capacity()))
        return pieces

    def _is_whole(self, segment: Segment) -> bool:
        reader = self._open(segment)
        if reader is not None:
            reader.close()
        return reader is not None

    def _write(self, before: list[Segment], piece: _Piece, behind: list[Segment]) -> list[Segment]:
        """Replace the segments of a piece by new ones."""
        written: list[Segment] = []
        for ids, rows in self._gathered(piece):
            written.append(self._write_one(ids, rows))
            if piece.last is None:  # the rest of the piece is still read from the catalogue
                self._adopt([*before, *written], piece.after, piece.last)
        if piece.last is not None or not written:
            self._adopt([*before, *written, *behind], piece.after, piece.last)
        return written

    def _write_one(self, ids: Ids, rows: Rows) -> Segment:
        number = self._database.number("generation") + 1  # no file name is used twice
        self._database.set_meta("generation", number)
        path = self._folder / f"vectors-{number}.faiss"
        try:
            with replacing(path, private=True) as temporary:
                segment = segments.write_segment(temporary, ids, rows)
            sync_folder(self._folder)
        except OSError as error:
            raise IndexUnusable(f"{path} cannot be written: {reason(error)}") from error
        return segment._replace(file=path.name)

    def _gathered(self, piece: _Piece) -> Iterator[tuple[Ids, Rows]]:
        """The ids and rows of a piece in blocks the size of a segment; each block is valid until the next."""
        capacity = self._capacity()
        all_ids, all_rows = np.empty(capacity, np.int64), np.empty((capacity, self._images.dim), "<f2")
        held = 0
        for ids, rows in self._images.embeddings(piece.after, piece.last):
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

    def _capacity(self) -> int:
        return max(1, SEGMENT_BYTES // (2 * self._images.dim))

    def _sweep(self) -> None:
        """Delete segments that are not in use, also those of older formats."""
        in_use = {segment.file for segment in self.segments() or []}
        for path in self._folder.iterdir():
            if path.name not in in_use and SEGMENT_FILE.fullmatch(path.name):
                with contextlib.suppress(OSError):  # on Windows while a reader has it open; the next update retries
                    path.unlink()

    # -------------------------------------------------------------------------------- checking

    def damaged(self) -> list[Segment]:
        """The segments that are missing, or differ from the catalogue in any row."""
        found, after = [], 0
        for segment in self.segments() or []:
            if not self._agrees(segment, after):
                found.append(segment)
            after = segment.last
        return found

    def _agrees(self, segment: Segment, after: int) -> bool:
        reader = self._open(segment)
        if reader is None:
            return False
        with contextlib.closing(reader), contextlib.suppress(OSError):
            return self._has_same_rows(reader, after)
        return False

    def _has_same_rows(self, reader: Reader, after: int) -> bool:
        ids = reader.ids_on_disk()
        if not np.array_equal(ids, reader.ids()) or not reader.has_sound_codes():
            return False
        places, seen = np.flatnonzero(~np.isin(ids, self._dropped(), assume_unique=True)), 0
        for expected, rows in self._images.embeddings(after, reader.segment.last):
            at = places[seen : seen + len(expected)]
            if not np.array_equal(ids[at], expected):
                return False
            if not np.array_equal(reader.rows_at(at).view(np.uint16), rows.view(np.uint16)):
                return False
            seen += len(expected)
        return seen == len(places)


def _with_smaller(pieces: list[_Piece], tail: _Piece, rows: int, capacity: int) -> _Piece:
    """The tail together with the last pieces that are small or not much larger; these are taken from the list.

    So segments get smaller from first to last, there are few, and each row is rewritten only a few times.
    """
    while pieces and (more := segments.total(pieces[-1].segments)) <= min(max(TAIL, 2 * rows), capacity - rows):
        piece = pieces.pop()
        tail = _Piece(piece.after, None, [*piece.segments, *tail.segments], False)
        rows += more
    return tail


def _checked(segment: Segment) -> Segment:
    """Raises `TypeError` if a value has another type."""
    kinds = (str, int, int, int, str, int)
    if not all(map(isinstance, segment, kinds)):
        raise TypeError
    return segment
