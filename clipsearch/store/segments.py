"""A segment of vectors: a FAISS index of embeddings, and a 4-bit code of each.

A segment never changes once it is written. Its rows are the catalogue's. Its codes have four bits per dimension, so
that a scan reads a quarter of the bytes and multiplies integers. Rows are rotated before they are encoded: a few CLIP
dimensions dominate, and 4 bits would clip the rows nearest to a query. FORMAT.md describes the file. Only this module
imports numkong and faiss; importing faiss takes longer than a query, and only writing needs it.
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

# Rows that are read and multiplied at once: few enough to stay in a core's cache in between.
_BLOCK = 4096
_EXACT_BLOCK = 1024

# The step between the 16 levels, in standard deviations, with the least error for a normal distribution.
_STEP = 0.3352
_LEVELS = (-8, 7)
_DIGIT = 16
_LARGEST = 119  # a query's integers go up to this, so that both of their digits are levels

_LENGTH = 8  # bytes of the number of ids, which FAISS writes before them
_MOST_HEAD = 4096  # bytes; FAISS's header has about a hundred

_SAMPLE = 16384  # rows from which centre and step are computed


class _Layout(NamedTuple):
    """The offsets of a file's parts. FAISS's header comes before the rows, and the number of ids before the ids."""

    rows: int
    ids: int
    book: int
    codes: int

    @staticmethod
    def of(size: int, rows: int, dim: int) -> _Layout:
        """The layout of a file of `size` bytes."""
        codes = size - rows * _code_bytes(dim)
        book = codes - 8 * dim
        ids = book - 8 * rows
        return _Layout(ids - _LENGTH - 2 * dim * rows, ids, book, codes)


class Codebook(NamedTuple):
    """How rotated rows are encoded: level c, -8 to 7, means centre + (c + 0.5) * step."""

    centre: Array
    step: Array

    @staticmethod
    def of(rows: Rows) -> Codebook:
        """The codebook for rows (n, dim)."""
        sample = rotated(np.nan_to_num(as_float32(rows[:: max(1, len(rows) // _SAMPLE)])).clip(-1, 1))
        spread = sample.std(0, dtype=np.float64) * _STEP
        return Codebook(sample.mean(0, dtype=np.float64).astype("<f4"), np.maximum(spread, 1e-6).astype("<f4"))

    def encode(self, rows: Rows) -> Codes:
        """Codes (n, dim / 2): two levels per byte, the first in the lower half."""
        levels = np.floor((rotated(as_float32(rows)) - self.centre) / self.step)
        return _packed(np.nan_to_num(levels).clip(*_LEVELS).astype(np.int8))


def rotated(rows: Array) -> Array:
    """Rotate rows (n, dim), which keeps their products and spreads every dimension over many.

    It is the Walsh-Hadamard transform of groups whose size is the largest power of two that divides dim.
    """
    n, dim = rows.shape
    size = dim & -dim  # the largest power of two that divides it
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
    """A query row as integers of two digits, and what turns their products with codes into scores."""

    packed: numkong.PackedMatrix
    scale: float
    offset: float

    @staticmethod
    def of(query: Array, book: Codebook) -> _Digits:
        query = rotated(query[None])[0].astype(np.float64)
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
    """Convert to fp32, 20 times as fast as NumPy on processors with an instruction for it."""
    out = np.empty(rows.shape, np.float32)
    rows = np.ascontiguousarray(rows)
    for start in range(0, len(rows), _EXACT_BLOCK):
        numkong.astype(rows[start : start + _EXACT_BLOCK], "float32", out=out[start : start + _EXACT_BLOCK])
    return out


def products(rows: Rows, query: Array) -> Array:
    """The scores (n,) of rows (n, dim): their products with the query (dim,), summed in fp32."""
    # With einsum a row's score does not depend on the rows beside it; with BLAS its last bits do.
    out: Array = np.einsum("nd,d->n", as_float32(rows), query)
    return out


class Reader:
    """An open segment."""

    def __init__(self, file: FileIO, segment: Segment, dim: int, layout: _Layout) -> None:
        """Use `open_segment`."""
        self.segment, self._file, self._dim, self._layout = segment, file, dim, layout
        numbers = np.empty(2 * dim, "<f4")
        self._read(layout.book, numbers.view(np.uint8))
        self.book = Codebook(numbers[:dim], numbers[dim:])
        self._ids: Ids | None = None

    def ids(self) -> Ids:
        """The sorted ids (rows,) of its images."""
        if self._ids is None:
            first, last, rows = self.segment.first, self.segment.last, self.segment.rows
            is_whole = last - first + 1 == rows  # then the file need not be read
            self._ids = np.arange(first, last + 1) if is_whole else self.ids_on_disk()
        return self._ids

    def ids_on_disk(self) -> Ids:
        """The ids in the file, which `ids` reads only if there are gaps between them."""
        out = np.empty(self.segment.rows, "<i8")
        self._read(self._layout.ids, out.view(np.uint8))
        return out

    def places(self, ids: Ids) -> Ids:
        """The places, counted from 0, of those of `ids` (sorted) that it has."""
        segment = self.segment
        ids = ids[np.searchsorted(ids, segment.first) : np.searchsorted(ids, segment.last, "right")]
        at = np.searchsorted(self.ids(), ids)
        return at[self.ids()[at] == ids] if len(ids) else at

    def codes(self, start: int, stop: int, into: Codes | None = None) -> Codes:
        """The codes of the rows from `start` to `stop`, read into an array if one is given."""
        size = _code_bytes(self._dim)
        into = np.empty((stop - start, size), np.uint8) if into is None else into[: stop - start]
        self._read(self._layout.codes + start * size, into)
        return into

    def rows(self, start: int, stop: int, into: Rows | None = None) -> Rows:
        """The rows from `start` to `stop`, read into an array if one is given."""
        into = np.empty((stop - start, self._dim), "<f2") if into is None else into[: stop - start]
        self._read(self._layout.rows + 2 * self._dim * start, into.view(np.uint8))
        return into

    def rows_at(self, places: Ids) -> Rows:
        """The rows at places (sorted)."""
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
        """Ask the system to read what `scores` needs: read in order, a cold disk is several times as fast."""
        if exact:
            self._will_need(self._layout.rows, 2 * self._dim * self.segment.rows)
        else:
            self._will_need(self._layout.codes, _code_bytes(self._dim) * self.segment.rows)

    def scores(self, query: Array, chosen: Chosen | None = None, *, exact: bool) -> Iterator[tuple[int, Array]]:
        """Blocks of scores by the codes, or with `exact` by the rows, each with the place of its first row.

        Blocks without a chosen row are skipped.
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
        self._file.close()


def open_segment(folder: Path, segment: Segment, dim: int) -> Reader | None:
    """Open a segment; None if its file is missing, or its length or structure is not what was recorded."""
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
    """Write a segment of rows (n, dim), at least one, and their sorted ids. Raises `OSError`."""
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
    # What `add_with_ids` does, without its copy in fp32 and another while its memory grows.
    faiss.copy_array_to_vector(np.ascontiguousarray(rows, "<f2").view(np.uint8).reshape(-1), inner.codes)
    faiss.copy_array_to_vector(np.ascontiguousarray(ids, np.int64), index.id_map)
    inner.ntotal = index.ntotal = len(rows)
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(first_line(error)) from error


def total(segments: Iterable[Segment]) -> int:
    """The number of rows in segments."""
    return sum(segment.rows for segment in segments)


def _structure(file: FileIO, layout: _Layout, rows: int, first: int, last: int) -> str | None:
    """A hash of everything in a file but rows, ids and codes; None if the file is too short for its parts."""
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
    """The bytes as a tensor of 4-bit integers, two in each."""
    codes = np.ascontiguousarray(codes)
    return numkong.from_pointer(codes.ctypes.data, codes.shape, "int4", owner=codes)
