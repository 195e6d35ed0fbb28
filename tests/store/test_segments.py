"""A vector segment: its file, its 4-bit codes, and products with them."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import faiss
import numkong
import numpy as np
import pytest

from clipsearch.store import segments
from clipsearch.store.photo import Segment
from clipsearch.store.segments import Reader, open_segment, write_segment

ROWS = 9_000  # more than two blocks


def unit_rows(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Around a mean that is most of their length, and one of their numbers much larger than the others, as CLIP's."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, dim)) + rng.normal(size=dim)
    rows[:, 0] *= 6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@contextlib.contextmanager
def written(path: Path, ids: np.ndarray, rows: np.ndarray) -> Iterator[tuple[Segment, Reader]]:
    segment = write_segment(path / "a.faiss", ids, rows)
    reader = open_segment(path, segment, rows.shape[1])
    assert reader is not None
    yield segment, reader
    reader.close()


def levels(codes: np.ndarray) -> np.ndarray:
    """The two levels of each byte, the first in its low half."""
    both = np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1).astype(np.int64)
    return (both ^ 8) - 8


@pytest.mark.parametrize("dim", [1, 2, 7, 24, 64, 640])
def test_a_file_has_what_the_format_says(tmp_path: Path, dim: int) -> None:
    rows, ids = unit_rows(300, dim), np.arange(300, dtype=np.int64) * 3 + 5
    with written(tmp_path, ids, rows) as (segment, _):
        data = (tmp_path / "a.faiss").read_bytes()
    assert (segment.file, segment.rows, segment.first, segment.last) == ("a.faiss", 300, 5, 5 + 299 * 3)
    size = (dim + 1) // 2
    codes, rest = data[-300 * size :], data[: -300 * size]
    assert segment.codes == zlib.crc32(codes)
    centre, step = np.frombuffer(rest[-8 * dim :], "<f4").reshape(2, dim)
    rest = rest[: -8 * dim]
    assert rest.endswith(rows.tobytes() + (300).to_bytes(8, "little") + ids.astype("<i8").tobytes())
    found = levels(np.frombuffer(codes, np.uint8).reshape(300, size))[:, :dim]
    exact = np.floor((turned(rows.astype(np.float64)) - centre) / step)
    assert (np.abs(found - exact.clip(-8, 7)) <= 1).all()  # by rounding, next to an edge
    assert (found == exact.clip(-8, 7)).mean() > 0.99


@pytest.mark.parametrize("dim", [1, 24, 512])
def test_faiss_reads_a_segment_and_finds_the_same(tmp_path: Path, dim: int) -> None:
    rows, ids = unit_rows(300, dim), np.arange(300, dtype=np.int64) * 3 + 5
    with written(tmp_path, ids, rows) as (_, reader):
        [(_, scores)] = reader.scores(rows[7].astype(np.float32), exact=True)
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    assert (index.d, index.ntotal, index.metric_type) == (dim, 300, faiss.METRIC_INNER_PRODUCT)
    cosines, found = index.search(rows[7:8].astype(np.float32), 300)
    by_id = dict(zip(found[0].tolist(), cosines[0].tolist(), strict=True))
    np.testing.assert_allclose([by_id[image] for image in ids.tolist()], scores, atol=1e-5)


def turned(rows: np.ndarray) -> np.ndarray:
    """As FORMAT.md describes it."""
    dim = rows.shape[1]
    size = math.gcd(dim, 2**30)
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron([[1, 1], [1, -1]], matrix)
    groups = dim // size
    return np.concatenate([rows[:, g::groups] @ (matrix / math.sqrt(size)) for g in range(groups)], axis=1)


@pytest.mark.parametrize("dim", [1, 2, 7, 24, 512, 768])
def test_turning_keeps_products(dim: int) -> None:
    rows = unit_rows(50, dim).astype(np.float32)
    now = segments.rotated(rows)
    np.testing.assert_allclose(now @ now.T, rows @ rows.T, atol=1e-5)
    np.testing.assert_allclose(now, turned(rows.astype(np.float64)), atol=1e-5)


KERNELS = [
    pytest.param((), id="all"),
    pytest.param(("genoa", "icelake", "skylake", "alder", "sierra", "sapphire", "turin"), id="haswell"),
    pytest.param(None, id="serial"),
]


@pytest.mark.parametrize("dim", [5, 24, 64, 512, 768])
@pytest.mark.parametrize("without", KERNELS)
def test_products_with_codes_are_near_those_with_rows_on_every_processor(
    tmp_path: Path, dim: int, without: tuple[str, ...] | None
) -> None:
    rows = unit_rows(ROWS, dim)
    query = np.random.default_rng(9).normal(size=dim).astype(np.float32)
    query /= np.linalg.norm(query)
    every = numkong.get_capabilities()
    off = [name for name, here in every.items() if here and name != "serial" and (without is None or name in without)]
    with written(tmp_path, np.arange(1, ROWS + 1), rows) as (_, reader):
        try:
            for name in off:
                numkong.disable_capability(name)
            near = list(reader.scores(query, exact=False))
            exact = list(reader.scores(query, exact=True))
        finally:
            for name in off:
                numkong.enable_capability(name)
        codes = levels(reader.codes(0, ROWS))[:, :dim]
        centre, step = reader.book
    for scores in (near, exact):
        starts = [start for start, _ in scores]
        assert starts == np.cumsum([0, *(len(block) for _, block in scores)])[:-1].tolist()
    found = np.concatenate([block for _, block in near])
    meant = (centre + (codes + 0.5) * step) @ segments.rotated(query[None])[0]
    spread = float((rows.astype(np.float64) @ query).std())
    assert np.abs(found - meant).max() < 0.1 * spread  # the query's own numbers are rounded too
    assert np.corrcoef(found, rows.astype(np.float64) @ query)[0, 1] > 0.98
    expected = np.einsum("nd,d->n", rows.astype(np.float32), query)
    assert np.array_equal(np.concatenate([block for _, block in exact]), expected)


def test_numbers_of_16_bits_become_the_same_of_32() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)[None]
    assert np.array_equal(segments.as_float32(every), every.astype(np.float32), equal_nan=True)
    assert segments.as_float32(every[:0]).shape == (0, 2**16)


def test_rows_and_ids_are_found_by_place(tmp_path: Path) -> None:
    rows = unit_rows(500, 16)
    ids = np.sort(np.random.default_rng(3).choice(2000, 500, replace=False)).astype(np.int64)
    with written(tmp_path, ids, rows) as (_, reader):
        for places in ([], [0], [499], [0, 1, 2, 7, 9, 10, 499]):
            at = np.array(places, np.int64)
            assert np.array_equal(reader.rows_at(at), rows[at])
        assert np.array_equal(reader.ids(), ids)
        asked = np.arange(-5, 2010, dtype=np.int64)
        assert np.array_equal(reader.places(asked), np.arange(500))
        assert reader.places(asked[:0]).tolist() == []
        assert reader.places(np.setdiff1d(asked, ids)).tolist() == []


def test_only_blocks_with_a_chosen_row_are_read(tmp_path: Path) -> None:
    with written(tmp_path, np.arange(1, ROWS + 1), unit_rows(ROWS, 16)) as (_, reader):
        chosen = np.zeros(ROWS, np.bool_)
        chosen[5_000] = True
        query = np.eye(16, dtype=np.float32)[0]
        for exact in (False, True):
            assert [start for start, _ in reader.scores(query, chosen, exact=exact)] == [4096]


def test_rows_that_are_not_numbers_have_codes_too(tmp_path: Path) -> None:
    rows = unit_rows(100, 16)
    rows[7], rows[8, 3] = np.nan, np.inf
    with written(tmp_path, np.arange(1, 101), rows) as (_, reader):
        [(_, scores)] = reader.scores(np.full(16, 0.25, np.float32), exact=False)
    assert np.isfinite(scores).all()
