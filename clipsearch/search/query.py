"""From what was asked for to ranked photos: terms, one query embedding, a filter, hits."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadArgument, BadRequest, ImageUnusable
from clipsearch.search.embed import Embedder, is_text
from clipsearch.search.hit import Hit
from clipsearch.search.present import Present
from clipsearch.search.term import Term
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable

if TYPE_CHECKING:
    from clipsearch.search.confidence import Background

FIRST_LOOK = 64  # photos that are looked at first where a hit may be refused or folded into another
EMPTY = "the query is empty; say what to look for"


_RANGES = (("min_score", -1, "a cosine"), ("min_confidence", 0, "a probability"), ("similarity", 0, "a cosine"))


class Limits(NamedTuple):
    """How many hits are wanted and which are good enough.

    `min_score` is a cosine, -1 to 1; `min_confidence` a probability, 0 to 1. `unique` folds copies into the best of
    them and, with `similarity`, a cosine, also photos whose embeddings are that near to a better hit's. With `frames` a
    video may be found at several times, not only by its best frame. `exact` scores every embedding of a large index;
    otherwise 4-bit codes preselect candidates.
    """

    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    unique: bool = False
    similarity: float | None = None
    exact: bool = False
    frames: bool = False

    def checked(self, terms: Sequence[Term]) -> Limits:
        """The limits, if they make sense for these terms. Raises `BadArgument`."""
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadArgument("k", f"must be a whole number of at least 1, not {self.k!r}")
        for name, least, what in _RANGES:
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and least <= value <= 1):
                raise BadArgument(name, f"must be {what}, {least} to 1, not {value!r}")
        if self.similarity is not None and not self.unique:
            raise BadArgument("similarity", "has no effect without unique")
        if self.min_score is not None and not terms:
            raise BadArgument("min_score", "needs something to look for: without it there is no score")
        if self.min_confidence is not None and not any(term.asks_for_text for term in terms):
            raise BadArgument("min_confidence", "is about texts; images and concepts have no confidence")
        return self


TEN = Limits()


# ------------------------------------------------------------------------------------------ terms


class Words(NamedTuple):
    """A text as people write it, in its parts: `2:@grandma on a beach` is 2.0, "grandma" and "on a beach"."""

    weight: float
    concept: str | None
    text: str

    @staticmethod
    def of(spelling: str) -> Words:
        """Raises `BadRequest` when there is nothing in it, or no text."""
        weight, words = weighted(spelling)
        if not 0 < weight < 1e9:
            raise BadRequest(f"the weight of {words!r} must be more than 0" + " and less than 1e9" * (weight > 1))
        if not is_text(words):
            raise BadRequest("the query is not text in this terminal's encoding (UTF-8)")
        if not words.strip():
            raise BadRequest(EMPTY)
        if not words.lstrip().startswith("@"):
            return Words(weight, None, words)
        name, _, rest = words.strip().partition(" ")
        return Words(weight, name, rest.strip())


def weighted(text: str) -> tuple[float, str]:
    """`2:golden retriever` to (2.0, "golden retriever"); without a number the weight is 1."""
    match = re.match(r"(\d+(?:\.\d*)?|\.\d+):(?!\d)(.*)", text, re.DOTALL)  # 16:9 and 12:30 are no weights
    return (float(match[1]), match[2]) if match else (1.0, text)


def image_term(path: str | os.PathLike[str], weight: float = 1.0) -> Term:
    """A term from an image file. Raises `BadRequest` when it cannot be read; whether it is an image shows later."""
    from clipsearch.images.read import read

    try:
        return Term(read(path), weight, os.fspath(path))
    except ImageUnusable as error:
        raise BadRequest(f"{os.fspath(path)} cannot be used as an image: {error}") from None


# ------------------------------------------------------------------------------------------ searching


class Searcher:
    """Asks one index about the photos that pass a filter; loads the model once and only when it is needed."""

    def __init__(self, store: Searchable, where: Filter = EVERYTHING, embedder: Embedder | None = None) -> None:
        """`where`: what photos must be. Raises `IndexEmpty`, `BadArgument` and `NotIndexed`."""
        store.require_photos()
        self.selection = store.select(where)
        self.embedder = embedder or Embedder(store)
        self.present = Present()
        self._store = store
        self._background: Background | None = None

    def terms(self, text: str, sign: int = 1) -> list[Term]:
        """The terms of a text as people write it: its concept, if it names one, and its words."""
        weight, concept, words = Words.of(text)
        terms = [Term(words, sign * weight)] if words else []
        if concept is not None:
            from clipsearch.search.concepts import Concepts

            if self._store.folder is None:
                raise BadRequest(f"@{concept} is a concept; they lie beside the index in a folder, not in a collection")
            terms.insert(0, Term(Concepts(self._store.folder).row(concept, self.embedder), sign * weight))
        return terms

    def query(self, terms: Sequence[Term] = (), limits: Limits = TEN) -> list[Hit]:
        """The best hits, best first; fewer than `limits.k` if there are fewer, or if the others are not good enough.

        Without terms, the newest first. Files that are gone since they were indexed are left out. Raises `BadRequest`,
        or what encoding raises.
        """
        limits = limits.checked(terms)
        folds_or_refuses = limits.min_confidence is not None or limits.unique
        fold = self._fold(limits)
        hits: list[Hit] = []
        found: list[Hit] = []
        first = max(limits.k, FIRST_LOOK) if folds_or_refuses else limits.k
        for part in self._ranked(terms, first, limits):
            good = self._good(part, terms, limits)
            found += good
            hits = fold(found)
            if len(hits) >= limits.k or not good:
                break
        return [hit._replace(rank=rank) for rank, hit in enumerate(hits[: limits.k], 1)]

    def _fold(self, limits: Limits) -> Callable[[list[Hit]], list[Hit]]:
        """What makes of all hits found so far the results."""
        if not limits.unique:
            return lambda found: found
        from clipsearch.search.fold import Fold  # which brings Pillow

        return functools.partial(Fold(self._store, self.selection, self.present), similarity=limits.similarity)

    def with_confidence(self, hits: list[Hit], terms: Sequence[Term]) -> list[Hit]:
        """Each hit with its confidence: that of the text that it is least likely to show, if there are texts."""
        asked = [self.embedder.row(term) for term in terms if term.asks_for_text]
        if not hits or not asked or all(hit.confidence is not None for hit in hits):
            return hits
        if self._background is None:
            from clipsearch.search.confidence import Background

            self._background = Background(self.embedder)
        rows = self._rows(hits)
        least = np.min([self._background.confidence(text, rows) for text in asked], axis=0)
        return [hit._replace(confidence=value) for hit, value in zip(hits, least.tolist(), strict=True)]

    def with_where(self, hits: list[Hit], terms: Sequence[Term]) -> list[Hit]:
        """Each hit with the part of it that the query is about; None where its file cannot be read any more."""
        from clipsearch.search.where import Finder

        if not terms:
            raise BadArgument("where", "needs something to look for")
        row, out = self.embed(terms), []
        with Finder(self.embedder) as finder:
            for hit in hits:
                there = None
                with contextlib.suppress(ImageUnusable):
                    there, _ = finder.where(row, self._bytes_of(hit.photo))
                out.append(hit._replace(where=there))
        return out

    @staticmethod
    def _bytes_of(photo: Photo) -> bytes:
        """A file with the photo in it, or the frame of a video."""
        from clipsearch.images.preprocess import Preprocess
        from clipsearch.images.read import read
        from clipsearch.images.sandbox import Decoders

        if photo.time is None:
            return read(photo.path)
        with Decoders(Preprocess((1, 1)), 1) as decoders:
            return decoders.frame(photo.path, photo.time, 2048)

    def with_lines(self, hits: list[Hit], reads: Sequence[str]) -> list[Hit]:
        """Each hit with the lines in it that have a word of some texts."""
        from clipsearch.store.ocr_text import matching

        of = self._store.lines_of(hit.photo.image_id for hit in hits)
        return [hit._replace(lines=tuple(matching(of.get(hit.photo.image_id, ()), reads))) for hit in hits]

    def embed(self, terms: Sequence[Term]) -> Array:
        """The unit row (dim,) of a query: the weighted sum of its terms' unit rows, made a unit row again."""
        if not any(term.weight > 0 for term in terms):
            raise BadRequest("the query only says what to avoid; add a text or an image to look for")
        total = np.zeros(self._store.dim, np.float32)
        for term in terms:
            total += np.float32(term.weight) * self.embedder.row(term)
        if not np.linalg.norm(total) > 1e-6:
            raise BadRequest("the terms of the query cancel each other out; change their weights")
        return unit_rows(total)

    def _good(self, hits: list[Hit], terms: Sequence[Term], limits: Limits) -> list[Hit]:
        if limits.min_score is not None:
            hits = [hit for hit in hits if (hit.score or 0.0) >= limits.min_score]
        if limits.min_confidence is not None:
            hits = [hit for hit in self.with_confidence(hits, terms) if (hit.confidence or 0) >= limits.min_confidence]
        return hits

    def _ranked(self, terms: Sequence[Term], first: int, limits: Limits) -> Iterator[list[Hit]]:
        """All photos, best first, in parts; each part is three times as large as all before it."""
        if terms:
            self._store.read_ahead()  # from a cold disk, while the model is loaded and asked
        find = self._newest if not terms else self._nearest(self.embed(terms), limits)
        seen, wanted = 0, first
        while True:
            hits, found = find(seen, wanted)
            if hits:
                yield hits
            if found < wanted:
                return
            seen, wanted = wanted, 4 * wanted

    def _nearest(self, embedding: Array, limits: Limits) -> Callable[[int, int], tuple[list[Hit], int]]:
        looked_at: set[int] = set()
        videos: set[bytes] = set()

        def find(_: int, wanted: int) -> tuple[list[Hit], int]:
            ids, scores = self._store.nearest(embedding, wanted, self.selection, exact=limits.exact)
            # fp16 rows are not quite of length 1, so that a cosine may come out a little above 1.
            score_of = dict(zip(ids.tolist(), scores.clip(-1, 1).tolist(), strict=True))
            photos = self.present(self._store.photos_of(score_of.keys() - looked_at, self.selection))
            looked_at.update(score_of)
            hits = [Hit(0, score_of[photo.image_id], photo) for photo in photos]
            hits.sort(key=lambda hit: (-(hit.score or 0.0), hit.photo.path))
            return hits if limits.frames else list(_best_frames(hits, videos)), len(ids)

        return find

    def _newest(self, seen: int, wanted: int) -> tuple[list[Hit], int]:
        photos = self._store.newest(self.selection, wanted)
        return [Hit(0, None, photo) for photo in self.present(photos[seen:])], len(photos)

    def _rows(self, hits: Iterable[Hit]) -> Array:
        return self._store.unit_rows_of([hit.photo.image_id for hit in hits])


def _best_frames(hits: Iterable[Hit], seen: set[bytes]) -> Iterator[Hit]:
    """The hits, of which a video has one; `seen` are the videos that had theirs."""
    for hit in hits:
        if hit.photo.time is None:
            yield hit
        elif hit.photo.path not in seen:
            seen.add(hit.photo.path)
            yield hit
