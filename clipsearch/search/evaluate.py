"""Retrieval quality of an index on captioned photos: recall at k and median rank, in both directions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from clipsearch.arrays import Array, Ids, unit_rows
from clipsearch.errors import BadRequest
from clipsearch.search.embed import Embedder
from clipsearch.store.catalogue import Store

_BLOCK = 2048  # rows and columns of scores to hold in memory
_TIE = np.float32(1e-6)  # scores this close differ only by rounding


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of queries with a right answer among the first 1, 5 and 10, and the median rank of that answer."""

    at_1: float
    at_5: float
    at_10: float
    median_rank: float

    @staticmethod
    def of(ranks: Ids) -> Recall:
        """From the rank (n,) of the best right answer to each query, counted from 1."""
        at_1, at_5, at_10 = (float((ranks <= k).mean()) for k in (1, 5, 10))
        return Recall(at_1, at_5, at_10, float(np.median(ranks)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Both directions, and the data: `captions` and `photos` given, `among` all photos; `missing` are not indexed."""

    model: str
    captions: int
    photos: int
    among: int
    missing: list[bytes]
    text_to_image: Recall
    image_to_text: Recall


def evaluate(store: Store, pairs: Iterable[tuple[bytes, str]]) -> Evaluation:
    """Search for photos by their captions, and for captions by their photos; `pairs` are (path, caption).

    Text to image: each distinct caption is a query against all photos of the index, and every photo that has it is a
    right answer. Image to text: each photo is a query against the distinct captions. A photo is represented by its
    whole, not by its parts. Identical photos count once, deleted ones like any other. Raises `IndexEmpty`, `BadRequest`
    if none of the photos is indexed, and what loading the model raises.
    """
    store.require_photos()
    roots = store.roots()
    numbers: dict[str, int] = {}  # by caption
    said: set[tuple[int, int]] = set()
    missing: dict[bytes, None] = {}
    for path, caption in pairs:
        place = store.locate(path, roots)
        image_id = store.image_of(*place) if place else None
        if image_id is None:
            missing[path] = None
        else:
            said.add((numbers.setdefault(caption, len(numbers)), image_id))
    if not said and not missing:
        raise BadRequest("the list is empty; write one path, a tab and a caption per line")
    if not said:
        raise BadRequest(f"none of the listed photos is indexed, such as {os.fsdecode(next(iter(missing)))}")
    caption_of, id_of = np.array(sorted(said), np.int64).T
    embedder = Embedder(store)
    texts = embedder.texts(list(numbers))
    ids, photo_of = np.unique(id_of, return_inverse=True)
    images = store.unit_rows_of(ids.tolist())
    right = np.einsum("nd,nd->n", texts[caption_of], images[photo_of])
    beside = store.images.beside()
    every_image = (
        (ids[stands], unit_rows(rows[stands]))
        for ids, rows in store.images.embeddings(block=_BLOCK)
        for stands in [~np.isin(ids, beside)]
    )
    starts = range(0, len(texts), _BLOCK)
    every_text = ((np.arange(n, min(n + _BLOCK, len(texts))), texts[n : n + _BLOCK]) for n in starts)
    return Evaluation(
        embedder.model.name,
        len(texts),
        len(images),
        store.images.count_distinct(),
        list(missing),
        Recall.of(ranks(texts, every_image, caption_of, id_of, right)),
        Recall.of(ranks(images, every_text, photo_of, caption_of, right)),
    )


def ranks(queries: Array, gallery: Iterable[tuple[Ids, Array]], asked: Ids, answer: Ids, right: Array) -> Ids:
    """The rank (q,) of the best right answer to each of the unit rows `queries` (q, dim).

    `gallery` has blocks of ids (n,), in order, and unit rows (n, dim). Pair p says that the id `answer[p]` is right for
    the query number `asked[p]`, with the cosine `right[p]`. Wrong answers with the same score rank first, so a model
    that scores everything alike finds nothing.
    """
    best = np.full(len(queries), -np.inf, np.float32)
    np.maximum.at(best, asked, right)
    best -= _TIE
    out = np.ones(len(queries), np.int64)
    for ids, rows in gallery:
        for first in range(0, len(queries), _BLOCK):
            part = slice(first, first + _BLOCK)
            ahead = queries[part] @ rows.T >= best[part, None]
            out[part] += ahead.sum(1)
            here = np.isin(answer, ids) & (asked >= first) & (asked < first + _BLOCK)
            columns = np.searchsorted(ids, answer[here])
            np.subtract.at(out, asked[here], ahead[asked[here] - first, columns].astype(np.int64))
    return out
