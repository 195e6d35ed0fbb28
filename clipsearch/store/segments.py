"""One segment of the vectors: a FAISS index of the embeddings of some images, and a small code of each of them.

A segment never changes once it is written. Its rows are what the catalogue has; its codes are these in four bits a
number, so that a scan reads a quarter of the bytes and multiplies whole numbers. Before, the rows are turned, so that
no number counts much more than the others: of CLIP's, a few do, and the nearest rows of a query are at the ends of
their range. FORMAT.md describes the file. In the store only this module imports numkong and faiss; the latter takes
longer than a query, and is only needed to write.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numkong
import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids, Rows
from clipsearch.errors import first_line
from clipsearch.store.photo import Segment

Codes = NDArray[np.uint8]
Chosen = NDArray[np.bool_]

# Rows that are read and multiplied at once: what stays in a core's cache between the two.
_BLOCK = 4096
_EXACT_BLOCK = 1024

# The step between two of 16 levels, in standard deviations, that loses the least of a normal distribution.
_STEP = 0.3352
_LEVELS = (-8, 7)
_DIGIT = 16
_LARGEST = 119  # of a query's whole numbers: both of its digits are levels

_LENGTH = 8  # bytes of a number that FAISS writes before ids
_MOST_HEAD = 4096  # bytes; FAISS has some hundred

_SAMPLE = 16384  # rows that centre and step are taken from


class _Layout(NamedTuple):
    """Where the parts of a file begin: what FAISS has before the rows is the head, and its ids have a length before."""

    rows: int
    ids: int
    book: int
    codes: int

    @staticmethod
    def of(size: int, rows: int, dim: int) -> _Layout:
        """Of a file of so many bytes."""
        codes = size - rows * _code_bytes(dim)
        book = codes - 8 * dim
        ids = book - 8 * rows
        return _Layout(ids - _LENGTH - 2 * dim * rows, ids, book, codes)


class Codebook(NamedTuple):
    """From a turned row to its code: level c, -8 to 7, of a number stands for centre + (c + 0.5) * step."""

    centre: Array
    step: Array

    @staticmethod
    def of(rows: Rows) -> Codebook:
        """What suits these rows (n, dim)."""
        sample = turned(np.nan_to_num(as_float32(rows[:: max(1, len(rows) // _SAMPLE)])).clip(-1, 1))
        spread = sample.std(0, dtype=np.float64) * _STEP
        return Codebook(sample.mean(0, dtype=np.float64).astype("<f4"), np.maximum(spread, 1e-6).astype("<f4"))

    def encode(self, rows: Rows) -> Codes:
        """Codes (n, dim / 2): two levels a byte, the first in its low half."""
        levels = np.floor((turned(as_float32(rows)) - self.centre) / self.step)
        return _packed(np.nan_to_num(levels).clip(*_LEVELS).astype(np.int8))


def turned(rows: Array) -> Array:
    """Rows (n, dim) in other directions, with the same products: each number is a sum of many of theirs.

    It is the Walsh-Hadamard transform of as many numbers at once as the largest power of two in dim.
    """
    n, dim = rows.shape
    size = dim & -dim  # the largest power of two in it
    groups = rows.reshape(n, size, dim // size).swapaxes(1, 2).reshape(-1, size)
    out: Array = (groups @ _hadamard(size)).reshape(n, dim)
    return out


@functools.cache
def _hadamard(size: int) -> Array:
    out = np.ones((1, 1), np.float32)
    while len(out) < size:
        out = np.block([[out, out], [out, -out]])
    return out / np.float32(math.sqrt(size))


class _Digits(NamedTuple):
    """A query row in whole numbers of two digits, and what turns their products into scores."""

    packed: numkong.PackedMatrix
    scale: float
    offset: float

    @staticmethod
    def of(query: Array, book: Codebook) -> _Digits:
        query = turned(query[None])[0].astype(np.float64)
        weights = query * book.step
        scale = float(np.abs(weights).max()) / _LARGEST or 1.0
        numbers = np.rint(weights / scale).astype(np.int64)
        high = (numbers + _DIGIT // 2) // _DIGIT
        digits = _packed(np.stack([high, numbers - _DIGIT * high]).astype(np.int8))
        packed = numkong.dots_pack(_as_levels(digits), "int4")
        return _Digits(packed, scale, float(query @ book.centre + weights.sum() / 2))

    def scores(self, codes: Codes) -> Array:
        high, low = np.asarray(numkong.dots_packed(_as_levels(codes), self.packed)).T
        out: Array = (_DIGIT * high + low) * np.float32(self.scale) + np.float32(self.offset)
        return out


def as_float32(rows: Rows) -> Array:
    """The same numbers; NumPy takes twenty times as long where the processor can do it."""
    out = np.empty(rows.shape, np.float32)
    rows = np.ascontiguousarray(rows)
    for start in range(0, len(rows), _EXACT_BLOCK):
        numkong.astype(rows[start : start + _EXACT_BLOCK], "float32", out=out[start : start + _EXACT_BLOCK])
    return out


def products(rows: Rows, query: Array) -> Array:
    """The scores (n,) of rows (n, dim): their products with the query (dim,), summed in fp32."""
    # einsum sums every row alike whatever rows lie beside it; a BLAS product does not, to the last bit.
    out: Array = np.einsum("nd,d->n", as_float32(rows), query)
    return out


class Reader:
    """An open segment."""

    def __init__(self, file: FileIO, segment: Segment, dim: int, layout: _Layout) -> None:
        """`open_segment` makes them."""
        self.segment, self._file, self._dim, self._layout = segment, file, dim, layout
        numbers = np.empty(2 * dim, "<f4")
        self._read(layout.book, numbers.view(np.uint8))
        self.book = Codebook(numbers[:dim], numbers[dim:])
        self._ids: Ids | None = None

    def ids(self) -> Ids:
        """The ids (rows,) of its images, in order."""
        if self._ids is None:
            first, last, rows = self.segment.first, self.segment.last, self.segment.rows
            is_whole = last - first + 1 == rows  # then nothing needs to be read
            self._ids = np.arange(first, last + 1) if is_whole else self.ids_on_disk()
        return self._ids

    def ids_on_disk(self) -> Ids:
        """The same as the file has them, where they could be told without it too."""
        out = np.empty(self.segment.rows, "<i8")
        self._read(self._layout.ids, out.view(np.uint8))
        return out

    def places(self, ids: Ids) -> Ids:
        """Where those of `ids` (sorted) that it has lie, counted from 0."""
        segment = self.segment
        ids = ids[np.searchsorted(ids, segment.first) : np.searchsorted(ids, segment.last, "right")]
        at = np.searchsorted(self.ids(), ids)
        return at[self.ids()[at] == ids] if len(ids) else at

    def codes(self, start: int, stop: int, into: Codes | None = None) -> Codes:
        """The codes of some rows, in an array that is there already if one is given."""
        size = _code_bytes(self._dim)
        into = np.empty((stop - start, size), np.uint8) if into is None else into[: stop - start]
        self._read(self._layout.codes + start * size, into)
        return into

    def rows(self, start: int, stop: int, into: Rows | None = None) -> Rows:
        """The rows from one place to before another."""
        into = np.empty((stop - start, self._dim), "<f2") if into is None else into[: stop - start]
        self._read(self._layout.rows + 2 * self._dim * start, into.view(np.uint8))
        return into

    def rows_at(self, places: Ids) -> Rows:
        """The rows at some places (sorted)."""
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if len(places) else []
        bounds = [(int(run[0]), int(run[-1]) + 1) for run in runs]
        for start, stop in bounds:
            self._will_need(self._layout.rows + 2 * self._dim * start, 2 * self._dim * (stop - start))
        out, done = np.empty((len(places), self._dim), "<f2"), 0
        for start, stop in bounds:
            self.rows(start, stop, out[done:])
            done += stop - start
        return out

    def has_sound_codes(self) -> bool:
        """Whether the codes are those that were written."""
        check = 0
        for start, stop in self._blocks(_BLOCK, None):
            check = zlib.crc32(self.codes(start, stop).data, check)
        return check == self.segment.codes

    def read_ahead(self, exact: bool) -> None:
        """Ask the system to read what `scores` needs: in order it comes from a cold disk several times as fast."""
        if exact:
            self._will_need(self._layout.rows, 2 * self._dim * self.segment.rows)
        else:
            self._will_need(self._layout.codes, _code_bytes(self._dim) * self.segment.rows)

    def scores(self, query: Array, chosen: Chosen | None = None, *, exact: bool) -> Iterator[tuple[int, Array]]:
        """Scores of the rows from a place on, in blocks; blocks without a chosen row are passed over.

        By the codes, or with `exact` by the rows themselves.
        """
        if exact:
            rows = np.empty((_EXACT_BLOCK, self._dim), "<f2")
            for start, stop in self._blocks(_EXACT_BLOCK, chosen):
                yield start, products(self.rows(start, stop, rows), query)
        else:
            digits = _Digits.of(query, self.book)
            codes = np.empty((_BLOCK, _code_bytes(self._dim)), np.uint8)
            for start, stop in self._blocks(_BLOCK, chosen):
                yield start, digits.scores(self.codes(start, stop, codes))

    def _blocks(self, size: int, chosen: Chosen | None) -> Iterator[tuple[int, int]]:
        for start in range(0, self.segment.rows, size):
            stop = min(start + size, self.segment.rows)
            if chosen is None or chosen[start:stop].any():
                yield start, stop

    def _read(self, start: int, into: NDArray[Any]) -> None:
        self._file.seek(start)
        view, done = into.reshape(-1).data, 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise OSError(f"{self.segment.file} ends too early")
            done += count

    def _will_need(self, start: int, size: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), start, size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def open_segment(folder: Path, segment: Segment, dim: int) -> Reader | None:
    """The segment; None if its file is missing, or has another length or structure than was recorded."""
    file = None
    with contextlib.suppress(OSError):
        file = FileIO(folder / segment.file)
        layout = _Layout.of(os.fstat(file.fileno()).st_size, segment.rows, dim)
        if _structure(file, layout, *segment[1:4]) == segment.structure:
            return Reader(file, segment, dim, layout)
    if file is not None:
        file.close()
    return None


def write_segment(path: Path, ids: Ids, rows: Rows) -> Segment:
    """Write the segment of some rows (n, dim), one at least, under their ids in order. Raises `OSError`."""
    _write_faiss(path, ids, rows)
    book, check = Codebook.of(rows), 0
    with open(path, "ab") as file:
        file.write(np.concatenate([book.centre, book.step]).astype("<f4").tobytes())
        for start in range(0, len(rows), _BLOCK):
            codes = book.encode(rows[start : start + _BLOCK]).tobytes()
            check = zlib.crc32(codes, check)
            file.write(codes)
    numbers = (len(rows), int(ids[0]), int(ids[-1]))
    with FileIO(path) as written:
        layout = _Layout.of(os.fstat(written.fileno()).st_size, *rows.shape)
        return Segment(path.name, *numbers, _structure(written, layout, *numbers) or "", check)


def _write_faiss(path: Path, ids: Ids, rows: Rows) -> None:
    import faiss

    inner = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(inner)
    # As `add_with_ids` does it, but for a copy in fp32 and a second one while the memory grows.
    faiss.copy_array_to_vector(np.ascontiguousarray(rows, "<f2").view(np.uint8).reshape(-1), inner.codes)
    faiss.copy_array_to_vector(np.ascontiguousarray(ids, np.int64), index.id_map)
    inner.ntotal = index.ntotal = len(rows)
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(first_line(error)) from error


def total(segments: Iterable[Segment]) -> int:
    """How many rows all of them have."""
    return sum(segment.rows for segment in segments)


def _structure(file: FileIO, layout: _Layout, rows: int, first: int, last: int) -> str | None:
    """A hash of all that is in a file but rows, ids and codes; None where it cannot have these parts."""
    if not 0 < layout.rows <= _MOST_HEAD:
        return None
    file.seek(0)
    parts = [file.read(layout.rows)]
    file.seek(layout.ids - _LENGTH)
    parts.append(file.read(_LENGTH))
    file.seek(layout.book)
    parts.append(file.read(layout.codes - layout.book))
    return hashlib.sha256(b"".join([*parts, b"%d %d %d" % (rows, first, last)])).hexdigest()[:16]


def _code_bytes(dim: int) -> int:
    return (dim + 1) // 2


def _packed(levels: NDArray[np.int8]) -> Codes:
    if levels.shape[1] % 2:
        levels = np.pad(levels, ((0, 0), (0, 1)))
    return (levels[:, 0::2] & 15 | levels[:, 1::2] << 4).astype(np.uint8)


def _as_levels(codes: Codes) -> numkong.Tensor:
    """The bytes as what they stand for: two whole numbers of four bits in each."""
    codes = np.ascontiguousarray(codes)
    return numkong.from_pointer(codes.ctypes.data, codes.shape, "int4", owner=codes)
