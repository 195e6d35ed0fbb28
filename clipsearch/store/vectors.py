"""Exact nearest neighbours by cosine over an index, and the FAISS file that makes them fast.

The file holds all embeddings in fp16 under their image ids and is scanned where it lies, memory-mapped. It is derived:
rows that came later are scanned in the catalogue, rows that went are masked, and a file that is missing or damaged
only costs time. Nothing approximate: text queries lie off the distribution of image embeddings, and graph and cluster
indexes lose a fifth to a half of their neighbours. This is the only module that imports faiss.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids
from clipsearch.errors import IndexUnusable, first_line
from clipsearch.paths import replacing
from clipsearch.store.catalogue import Store, Vectors

Rows = NDArray[np.float16]

# The file is written anew when more than one in STALE_SHARE of its rows is missing or out of date: writing then costs
# a small part of the embedding that led to it, and a query never scans a large tail.
STALE_SHARE = 50

# Below this many rows, reading them from the catalogue is faster than importing faiss (5,000 rows of 512: 21 ms
# against 38; 20,000 rows: 80 against 39).
SMALL = 5_000

# Candidates beyond k, so that rounding in the scan cannot cost a row that ties with the k-th.
_MARGIN = 16


def top_k(store: Store, query: Array, k: int, only: Ids | None = None) -> tuple[Ids, Array]:
    """Ids and cosines of the `k` images nearest to the unit row `query` (dim,), best first; fewer if there are fewer.

    `only`: the ids to choose from, sorted. The scores are products with the stored fp16 rows, summed in fp32.
    """
    vectors = store.vectors()
    file = None
    if vectors is not None and vectors.rows > SMALL and k + _MARGIN <= vectors.rows // 4:
        file = _open(store, vectors)
    if vectors is None or file is None:
        return _scan(store.embeddings(), query, k, only)
    ids = _search_file(file, query, k + _MARGIN, store.dropped(), only)
    # Scored again with the same product as the tail, so that one order holds over both.
    near = _scan([store.embeddings_of(ids)], query, k, None)
    return _merge(near, _scan(store.embeddings(after=vectors.last), query, k, only), k)


def refresh(store: Store, *, force: bool = False) -> bool:
    """Write the vectors file anew if too much of it is out of date, or with `force`; says whether it did."""
    needed = force or _is_stale(store)
    if needed:
        _write(store)
    store.sweep()
    return needed


def _is_stale(store: Store) -> bool:
    vectors = store.vectors()
    if vectors is None or not _is_whole(store, vectors):
        return True
    stale = store.count_embeddings(after=vectors.last) + len(store.dropped())
    return stale * STALE_SHARE > vectors.rows


def sound(store: Store) -> bool:
    """Whether the vectors file is there and has the structure that was recorded."""
    vectors = store.vectors()
    return vectors is not None and _is_whole(store, vectors)


def agrees(store: Store) -> bool:
    """Whether the vectors file, if one was written yet, holds row by row what the catalogue says it should."""
    vectors = store.vectors()
    if vectors is None:
        return True
    file = _open(store, vectors)
    if file is None:
        return False
    faiss = _faiss()
    inner = faiss.downcast_index(file.index)
    ids = faiss.vector_to_array(file.id_map)
    codes = faiss.rev_swig_ptr(inner.codes.data(), len(ids) * inner.code_size)
    rows = codes.view("<f2").reshape(len(ids), store.dim)
    seen = 0
    for block_ids, block in store.embeddings():
        expected = block_ids[block_ids <= vectors.last]
        at = np.searchsorted(ids, expected)
        if (at >= len(ids)).any() or not np.array_equal(ids[at], expected):
            return False
        if not np.array_equal(rows[at].view(np.uint16), block[: len(expected)].view(np.uint16)):
            return False
        seen += len(expected)
    return seen + int(np.isin(store.dropped(), ids).sum()) == len(ids)


def _scan(blocks: Iterable[tuple[Ids, Rows]], query: Array, k: int, only: Ids | None) -> tuple[Ids, Array]:
    best: tuple[Ids, Array] = (np.empty(0, np.int64), np.empty(0, np.float32))
    for ids, rows in blocks if only is None else _chosen(blocks, only):
        # einsum sums every row alike whatever rows lie beside it; a BLAS product does not, to the last bit.
        scores = np.einsum("nd,d->n", rows.astype(np.float32), query).astype(np.float32)
        best = _merge(best, (ids, scores), k)
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


def _search_file(file: Any, query: Array, k: int, dropped: Ids, only: Ids | None) -> Ids:
    faiss = _faiss()
    # The selectors do not keep what they point to alive: the arrays must outlive the search.
    selector = chosen = None
    if only is not None:
        chosen = np.packbits(np.bincount(only, minlength=1).astype(bool), bitorder="little")
        selector = faiss.IDSelectorBitmap(chosen)
    elif len(dropped):
        chosen = faiss.IDSelectorBatch(dropped)
        selector = faiss.IDSelectorNot(chosen)
    parameters = None if selector is None else faiss.SearchParameters(sel=selector)
    _, ids = file.search(query[None].astype(np.float32), k, params=parameters)
    found: Ids = ids[0]
    return found[found >= 0]  # faiss fills up with -1


def _open(store: Store, vectors: Vectors) -> Any | None:
    """The file, mapped; None if it is missing or not what was written."""
    if not _is_whole(store, vectors):  # faiss would believe it: read beyond the end of a mapping, or never end
        return None
    path = store.folder / vectors.file
    faiss = _faiss()
    flags = 0 if os.name == "nt" else faiss.IO_FLAG_MMAP_IFC
    try:
        file = faiss.read_index(str(path), flags)
    except RuntimeError:
        return None
    if not isinstance(file, faiss.IndexIDMap):
        return None
    inner = faiss.downcast_index(file.index)
    if not isinstance(inner, faiss.IndexScalarQuantizer) or inner.sq.qtype != faiss.ScalarQuantizer.QT_fp16:
        return None
    expected = (store.dim, vectors.rows, faiss.METRIC_INNER_PRODUCT, True)
    sound = all((index.d, index.ntotal, index.metric_type, index.is_trained) == expected for index in (file, inner))
    return file if sound and inner.code_size == 2 * store.dim else None


def _is_whole(store: Store, vectors: Vectors) -> bool:
    """Whether a file is as long as it was, and the same but for rows and ids, which only `agrees` compares."""
    path = store.folder / vectors.file
    try:
        return path.stat().st_size == vectors.bytes and _structure(path, store.dim, vectors.rows) == vectors.structure
    except OSError:
        return False


def _structure(path: Path, dim: int, rows: int) -> str:
    """A hash of the file less its rows and its ids, which come last: of all that faiss takes for lengths and types."""
    ids = 8 * rows
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(max(0, size - ids - 8 - 2 * dim * rows))
        file.seek(max(0, size - ids - 8))
        return hashlib.sha256(start + file.read(8)).hexdigest()[:16]


def _write(store: Store) -> None:
    faiss = _faiss()
    flat = faiss.IndexScalarQuantizer(store.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(flat)
    last = 0
    for ids, rows in store.embeddings():
        index.add_with_ids(rows.astype(np.float32), ids)
        last = int(ids[-1])
    path = store.folder / store.new_vectors_name()
    try:
        with replacing(path) as temporary:
            faiss.write_index(index, str(temporary))
    except RuntimeError as error:
        raise IndexUnusable(f"{path} cannot be written: {first_line(error)}") from error
    _sync_folder(store.folder)
    structure = _structure(path, store.dim, index.ntotal)
    store.adopt_vectors(Vectors(path.name, int(index.ntotal), last, path.stat().st_size, structure))


def _faiss() -> Any:
    import faiss  # untyped here: its stubs describe the C++ side, not what Python calls

    return faiss


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder last through a power cut, where the system lets a folder be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
