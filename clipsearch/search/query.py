"""From what was asked for to ranked photos: terms, one query embedding, a filter, hits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.search.embed import Embedder, is_text
from clipsearch.store import vectors
from clipsearch.store.catalogue import Photo, Store
from clipsearch.store.filters import EVERYTHING, Filter

if TYPE_CHECKING:
    from clipsearch.search.confidence import Background

FIRST_LOOK = 64  # photos that are looked at, at least, where not each of them is a hit of its own
EMPTY = "the query is empty; say what to look for, such as: clipsearch query 'a dog on a beach'"


class Term(NamedTuple):
    """One part of a query: a text, the bytes of an image and its name for messages, or a unit row (dim,).

    A negative weight leads away.
    """

    content: str | bytes | Array
    weight: float = 1.0
    name: str = ""


class Hit(NamedTuple):
    """A photo that was found.

    `score` is the cosine between its embedding and the query's, -1 to 1, or None where only a filter was asked.
    `confidence` is the probability that it shows the texts of the query, 0 to 1, where that was asked for (see
    `confidence`). `similar` are the photos that `unique` has folded into this one.
    """

    rank: int
    score: float | None
    photo: Photo
    confidence: float | None = None
    similar: tuple[Photo, ...] = ()

    @property
    def path(self) -> str:
        """Absolute path, as Python writes file names (undecodable bytes as surrogates)."""
        return os.fsdecode(self.photo.path)


def weighted(text: str) -> tuple[float, str]:
    """`2:golden retriever` to (2.0, "golden retriever"); without a number the weight is 1."""
    match = re.match(r"(\d+(?:\.\d*)?|\.\d+):(?!\d)(.*)", text, re.DOTALL)  # 16:9 and 12:30 are no weights
    return (float(match[1]), match[2]) if match else (1.0, text)


def text_term(text: str, sign: int = 1) -> Term:
    """A term from the command line's spelling of a text. Raises `BadRequest` when there is nothing in it."""
    weight, words = weighted(text)
    if not weight < 1e9:
        raise BadRequest(f"the weight of {words!r} is too large")
    if not is_text(words):
        raise BadRequest("the query is not text in this terminal's encoding (UTF-8)")
    if not words.strip():
        raise BadRequest(EMPTY)
    return Term(words, sign * weight)


def image_term(path: str | Path, weight: float = 1.0) -> Term:
    """A term from an image file. Raises `BadRequest` when it cannot be read; whether it is an image shows later."""
    from clipsearch.images.read import read

    try:
        return Term(read(path), weight, str(path))
    except ImageUnusable as error:
        raise BadRequest(f"{path} cannot be used as an image: {error}") from None


class Searcher:
    """Asks one index, loading its model once and only when it is needed."""

    def __init__(self, store: Store, where: Filter = EVERYTHING) -> None:
        """`where`: what photos must be. Raises `BadRequest` when nothing in its folder was indexed."""
        store.require_photos()
        self._store, self.embedder = store, Embedder(store)
        self._background: Background | None = None
        self.selection = store.select(where)
        self._only = None if self.selection.everything else store.images_in(self.selection)
        self._filtered = where != EVERYTHING

    def query(
        self,
        terms: Sequence[Term] = (),
        k: int = 10,
        min_score: float | None = None,
        min_confidence: float | None = None,
        unique: float | None = None,
    ) -> list[Hit]:
        """The `k` best hits, best first; fewer if there are fewer, or if the others are not good enough.

        Without terms, the newest first. Photos that score less than `min_score` are no hits; nor are those whose
        confidence is less than `min_confidence`, and the search ends where it finds no other. Photos whose cosine with
        a better hit is at least `unique` are folded into it. Files that are gone since they were indexed are left out.
        Raises `BadRequest`, or what encoding raises.
        """
        if k < 1:
            raise BadRequest(f"-k must be at least 1, not {k}")
        if not terms and not self._filtered:
            raise BadRequest(EMPTY)
        if min_score is not None and math.isnan(min_score):
            raise BadRequest("--min-score is a cosine, -1 to 1, not nan")
        if unique is not None and not 0 <= unique <= 1:
            raise BadRequest(f"--unique is a cosine, 0 to 1, not {unique}")
        if min_score is not None and not terms:
            raise BadRequest("there is no score without something to look for")
        if min_confidence is not None and not any(isinstance(t.content, str) and t.weight > 0 for t in terms):
            raise BadRequest("confidence is about texts; images and concepts have none: use --min-score")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise BadRequest(f"--min-confidence is a probability, 0 to 1, not {min_confidence}")
        hits: list[Hit] = []
        plain = min_confidence is None and unique is None
        for part in self._ranked(terms, k if plain else max(k, FIRST_LOOK)):
            good = [hit for hit in part if min_score is None or (hit.score or 0.0) >= min_score]
            if min_confidence is not None:
                good = [hit for hit in self.with_confidence(good, terms) if (hit.confidence or 0.0) >= min_confidence]
            hits += good
            if unique is not None:
                hits = self._folded(hits, unique)
            if len(hits) >= k or not good:
                break
        return [hit._replace(rank=rank) for rank, hit in enumerate(hits[:k], 1)]

    def _ranked(self, terms: Sequence[Term], first: int) -> Iterator[list[Hit]]:
        """All photos, best first, in parts of which each is some times as large as all before it."""
        if not terms:
            yield from self._newest(first)
            return
        embedding = self.embed(terms)
        seen: set[int] = set()
        wanted = first
        while True:
            ids, scores = vectors.top_k(self._store, embedding, wanted, self._only)
            score_of = dict(zip(ids.tolist(), scores.tolist(), strict=True))
            photos = self._store.photos_of(score_of.keys() - seen, self.selection)
            hits = [Hit(0, score_of[photo.image_id], photo) for photo in photos if os.path.exists(photo.path)]
            hits.sort(key=lambda hit: (-(hit.score or 0.0), hit.photo.path))
            if hits:
                yield hits
            if len(ids) < wanted:
                return
            seen |= score_of.keys()
            wanted *= 4

    def _newest(self, first: int) -> Iterator[list[Hit]]:
        seen, wanted = 0, first
        while True:
            photos = self._store.newest(self.selection, wanted)
            hits = [Hit(0, None, photo) for photo in photos[seen:] if os.path.exists(photo.path)]
            if hits:
                yield hits
            if len(photos) < wanted:
                return
            seen, wanted = wanted, 4 * wanted

    def with_confidence(self, hits: list[Hit], terms: Sequence[Term]) -> list[Hit]:
        """Each hit with its confidence: that of the text that it is least likely to show, if there are texts."""
        asked = [self._embed(term) for term in terms if isinstance(term.content, str) and term.weight > 0]
        if not hits or not asked or all(hit.confidence is not None for hit in hits):
            return hits
        if self._background is None:
            from clipsearch.search.confidence import Background

            self._background = Background(self.embedder)
        rows = self._rows(hits)
        least = np.min([self._background.confidence(text, rows) for text in asked], axis=0)
        return [hit._replace(confidence=value) for hit, value in zip(hits, least.tolist(), strict=True)]

    def _folded(self, hits: list[Hit], threshold: float) -> list[Hit]:
        from clipsearch.search.duplicates import near_groups

        out: dict[int, Hit] = dict(enumerate(hits))
        for group in near_groups(self._rows(hits), threshold):
            others = [out.pop(number) for number in group.members]
            folded = tuple(photo for other in others for photo in (other.photo, *other.similar))
            out[group.head] = hits[group.head]._replace(similar=(*hits[group.head].similar, *folded))
        return list(out.values())

    def _rows(self, hits: list[Hit]) -> Array:
        return self._store.unit_rows_of(hit.photo.image_id for hit in hits)

    def embed(self, terms: Sequence[Term]) -> Array:
        """The unit row (dim,) of a query: the weighted sum of its terms' unit rows, made a unit row again."""
        if not any(term.weight > 0 for term in terms):
            raise BadRequest(EMPTY)
        total = np.zeros(self._store.dim, np.float32)
        for term in terms:
            total += np.float32(term.weight) * self._embed(term)
        if not np.linalg.norm(total) > 1e-6:
            raise BadRequest("the terms of the query cancel each other out; change their weights")
        row: Array = unit_rows(total[None])[0]
        return row

    def _embed(self, term: Term) -> Array:
        if isinstance(term.content, str):
            text: Array = self.embedder.texts([term.content])[0]
            return text
        if isinstance(term.content, bytes):
            return self.embedder.image(term.content, term.name)
        return term.content
