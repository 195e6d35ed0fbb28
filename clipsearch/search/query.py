"""From what was asked for to ranked photos: terms, one query embedding, a filter, hits."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadArgument, BadRequest, ImageUnusable
from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import is_raw_name
from clipsearch.search.embed import Embedder, is_text
from clipsearch.search.present import Present
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable

if TYPE_CHECKING:
    from clipsearch.search.confidence import Background
    from clipsearch.search.where import Where
    from clipsearch.store.texts import Line

FIRST_LOOK = 64  # photos that are looked at first where a hit may be refused or folded into another
EMPTY = "the query is empty; say what to look for"


_RANGES = (("min_score", -1, "a cosine"), ("min_confidence", 0, "a probability"), ("unique", 0, "a cosine"))


class Term(NamedTuple):
    """One part of a query: a text, the bytes of an image and its name for messages, or a unit row (dim,).

    A negative weight leads away.
    """

    content: str | bytes | Array
    weight: float = 1.0
    name: str = ""

    @property
    def asks_for_text(self) -> bool:
        """Whether it is a text that photos are to show, so that there is a confidence that they do."""
        return isinstance(self.content, str) and self.weight > 0


class Limits(NamedTuple):
    """How many hits are wanted and which are good enough.

    `min_score` is a cosine, -1 to 1; `min_confidence` a probability, 0 to 1; photos whose cosine with a better hit is
    at least `unique`, 0 to 1, are folded into it. With `frames` a video may be found at several times, not only by its
    best frame. With `exact` every embedding of a large index is multiplied with the
    query, where otherwise small codes say which ones are.
    """

    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    unique: float | None = None
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
        if self.min_score is not None and not terms:
            raise BadArgument("min_score", "needs something to look for: without it there is no score")
        if self.min_confidence is not None and not any(term.asks_for_text for term in terms):
            raise BadArgument("min_confidence", "is about texts; images and concepts have no confidence")
        return self


TEN = Limits()


class Hit(NamedTuple):
    """A photo that was found.

    `score` is the cosine between its embedding and the query's, -1 to 1, or None where only a filter was asked.
    `confidence` is the probability that it shows the texts of the query, 0 to 1, where that was asked for. `similar`
    are the photos that were folded into this one, `same_file` other names of its own file. `where` is the part of it
    that the query is about, `lines` what is written in it of the words that it must have, where that was asked for.
    """

    rank: int
    score: float | None
    photo: Photo
    confidence: float | None = None
    similar: tuple[Photo, ...] = ()
    same_file: tuple[bytes, ...] = ()
    where: Where | None = None
    lines: tuple[Line, ...] | None = None

    @property
    def path(self) -> Path:
        """Absolute path; bytes that are no text are surrogates, as Python writes file names."""
        return Path(os.fsdecode(self.photo.path))

    @property
    def metadata(self) -> Metadata:
        """Size in pixels, time, camera and place, as the photo says them."""
        return self.photo.metadata


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
        folds_or_refuses = limits.min_confidence is not None or limits.unique is not None
        hits: list[Hit] = []
        first = max(limits.k, FIRST_LOOK) if folds_or_refuses else limits.k
        for part in self._ranked(terms, first, limits):
            good = self._good(part, terms, limits)
            hits += good
            if limits.unique is not None:
                hits = self._folded(hits, limits.unique)
            if len(hits) >= limits.k or not good:
                break
        return [hit._replace(rank=rank) for rank, hit in enumerate(hits[: limits.k], 1)]

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
        from clipsearch.images.read import read
        from clipsearch.images.thumbnail import still

        return read(photo.path) if photo.time is None else still(photo.path, photo.time, 2048)

    def with_lines(self, hits: list[Hit], reads: Sequence[str]) -> list[Hit]:
        """Each hit with the lines in it that have a word of some texts."""
        from clipsearch.store.texts import matching

        of = self._store.lines_of(hit.photo.image_id for hit in hits)
        return [hit._replace(lines=tuple(matching(of.get(hit.photo.image_id, ()), reads))) for hit in hits]

    def embed(self, terms: Sequence[Term]) -> Array:
        """The unit row (dim,) of a query: the weighted sum of its terms' unit rows, made a unit row again."""
        if not any(term.weight > 0 for term in terms):
            raise BadRequest("the query says only what to lead away from; say also what to look for")
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

    def _folded(self, hits: list[Hit], threshold: float) -> list[Hit]:
        """Hits that are near a better one become its `similar`; other names of its file its `same_file`.

        Files that were changed since they were indexed stay by themselves.
        """
        from clipsearch.search.duplicates import near_groups

        hits, changed = self._one_name_a_file(_with_raw(hits))
        out: dict[int, Hit] = dict(enumerate(hits))
        rows = self._rows(hits)
        rows[changed] = np.nan  # near nothing
        for group in near_groups(rows, threshold):
            others = [out.pop(number) for number in group.members]
            folded = tuple(photo for other in others for photo in (other.photo, *other.similar))
            out[group.head] = hits[group.head]._replace(similar=(*hits[group.head].similar, *folded))
        return list(out.values())

    def _one_name_a_file(self, hits: list[Hit]) -> tuple[list[Hit], list[bool]]:
        """Each file once, and whether it was changed."""
        hit_of = {hit.photo.path: hit for hit in hits}
        files = self.present.files(hit.photo for hit in hits)
        out = []
        for photo, names, _ in files:
            same = [hit_of[photo.path], *(hit_of[name] for name in names)]
            similar = tuple(folded for hit in same for folded in hit.similar)
            same_file = (*names, *(name for hit in same for name in hit.same_file))
            out.append(same[0]._replace(similar=similar, same_file=same_file))
        return out, [file.changed for file in files]

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


def _with_raw(hits: list[Hit]) -> list[Hit]:
    """A RAW file and what lies beside it under the same name are one photo: the better hit has the others folded."""
    heads: dict[bytes, Hit] = {}
    raw = {os.path.splitext(hit.photo.path)[0] for hit in hits if is_raw_name(hit.photo.path)}
    for hit in hits:
        name = os.path.splitext(hit.photo.path)[0]
        if name not in raw:
            heads[hit.photo.path] = hit
        elif name in heads:
            head = heads[name]
            heads[name] = head._replace(similar=(*head.similar, hit.photo, *hit.similar))
        else:
            heads[name] = hit
    return list(heads.values())
