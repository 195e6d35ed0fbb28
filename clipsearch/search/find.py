"""Search: terms are combined into one query embedding, and the closest photos that pass a filter are ranked."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadArgument, BadRequest, ImageUnusable
from clipsearch.search.embed import Embedder
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.hit import Hit
from clipsearch.search.question import CONCEPT, DEFAULT_LIMITS, IMAGE, ONLY_TEXT, PHOTO, STRICT, TEXT, Limits, Term
from clipsearch.search.reason import LOOK, Reason
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.order import NEWEST, Order
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable

if TYPE_CHECKING:
    from clipsearch.search.confidence import Calibration
    from clipsearch.search.evidence import Strength

FIRST_BATCH = 64  # candidates to start with if some may be rejected or grouped
_AMONG = 200  # matches by look that photos with evidence are ranked among


class LeftOut(NamedTuple):
    """What a search left out.

    `offline`: indexed folders, with the reason. `unknown`: files in `Filter.files` that are not indexed. `unreadable`:
    folders, with the number of photos that could not be checked. `changed`: files modified since they were indexed;
    `damaged`: the same, but with their old size and times.
    """

    offline: Mapping[bytes, str] = MappingProxyType({})
    unknown: Sequence[bytes] = ()
    unreadable: Mapping[bytes, int] = MappingProxyType({})
    changed: Sequence[bytes] = ()
    damaged: Sequence[bytes] = ()


class Searcher:
    """Searches the photos of an index that pass a filter."""

    def __init__(self, store: Searchable, filter: Filter = EVERYTHING, embedder: Embedder | None = None) -> None:
        """Raises `IndexEmpty`, `BadRequest` and `NotIndexed`."""
        store.require_photos()
        self.selection = store.select(filter)
        self.embedder = embedder or Embedder(store)
        self.files = FilesOnDisk()
        self.store = store
        self._calibration: Calibration | None = None

    @property
    def left_out(self) -> LeftOut:
        """What was left out so far. Complete once all hits have been read."""
        offline = {root.path: str(why) for root, why in self.selection.offline.items()}
        files = self.files
        return LeftOut(
            offline, self.selection.missing, dict(files.unreadable), list(files.modified), list(files.damaged)
        )

    def query(self, terms: Sequence[Term] = (), limits: Limits = DEFAULT_LIMITS) -> list[Hit]:
        """At most `limits.k` hits, best first; without terms, newest first. `limits.sort` names another order.

        Files deleted since they were indexed are left out. Raises `BadRequest`, and the errors of encoding.
        """
        limits.check(terms)
        order = limits.order
        drops_hits = limits.min_confidence is not None or limits.unique
        own = set() if limits.with_self else self._files_of_examples(terms)
        group = self._grouping(limits, own)
        hits: list[Hit] = []
        accepted: list[Hit] = []
        first = max(limits.k, FIRST_BATCH) if drops_hits else limits.k + len(own)
        for batch in self._answers(terms, first, limits):
            others = [hit for hit in batch if hit.photo.file not in own]
            good = self._good(others, terms, limits)
            accepted += good
            hits = group(accepted)
            count = len(hits) if terms or order is None else _settled(hits, accepted, order)
            if count >= limits.k or (others and not good):
                break
        if not terms and order is not None:
            hits = sort_hits(hits, order)
        hits = [hit._replace(rank=rank) for rank, hit in enumerate(hits[: limits.k], 1)]
        return hits if order is None else sort_hits(hits, order)

    def _files_of_examples(self, terms: Sequence[Term]) -> set[bytes]:
        """The indexed files that a query gives as examples, and their identical copies.

        An image that is not indexed under its path is not an example, so that a query can tell whether it has a copy.
        """
        roots, images = self.store.roots(), []
        for term in terms:
            if term.weight > 0 and term.kind == PHOTO:
                images.append(self.store.find_image(bytes.fromhex(term.content)))
            elif term.weight > 0 and term.kind == IMAGE and isinstance(term.content, str | os.PathLike):
                place = self.store.locate(os.fsencode(os.path.expanduser(term.content)), roots)
                images.append(place and self.store.image_of(*place))
        found = self.store.photos_of((image for image in images if image is not None), self.selection)
        return {photo.file for photo in found}

    def _grouping(self, limits: Limits, own: set[bytes]) -> Callable[[list[Hit]], list[Hit]]:
        """The function that groups copies if `limits.unique` is set, else returns hits as they are."""
        if not limits.unique:
            return lambda hits: hits
        from clipsearch.search.fold import Fold  # imports Pillow

        return functools.partial(Fold(self.store, self.selection, self.files, own), similarity=limits.similarity)

    def with_confidence(self, hits: list[Hit], terms: Sequence[Term]) -> list[Hit]:
        """Add confidences. With several texts, the lowest counts; without texts, hits are returned unchanged.

        For a single text they fall with the score. What else is in a query affects only the score.
        """
        texts = [self.row(term) for term in terms if term.asks_for_text]
        if not hits or not texts or all(hit.confidence is not None for hit in hits):
            return hits
        if self._calibration is None:
            from clipsearch.search.confidence import Calibration

            self._calibration = Calibration(self.embedder)
        if len(terms) == 1:
            cosines = np.array([[hit.score for hit in hits]], np.float32)
        else:
            cosines = np.stack(texts) @ self._rows(hits).T
        each = [self._calibration.confidence(text, one) for text, one in zip(texts, cosines, strict=True)]
        lowest = np.min(each, axis=0)
        return [hit._replace(confidence=value) for hit, value in zip(hits, lowest.tolist(), strict=True)]

    def with_where(self, hits: list[Hit], terms: Sequence[Term]) -> list[Hit]:
        """Add the part of each photo that matches, or None if its file can no longer be read."""
        from clipsearch.search.where import Finder

        if not terms:
            raise BadArgument("where", "needs something to look for")
        row, out = self.embed(terms), []
        with Finder(self.embedder) as finder:
            for hit in hits:
                where = None
                with contextlib.suppress(ImageUnusable):
                    where, _ = finder.where(row, self._bytes_of(hit.photo))
                out.append(hit._replace(where=where))
        return out

    @staticmethod
    def _bytes_of(photo: Photo) -> bytes:
        """A photo's file, or a JPEG of a video's frame."""
        from clipsearch.images.sandbox import Decoders, VideoFrame, picture_of

        picture = picture_of(photo.file, photo.time)
        if not isinstance(picture, VideoFrame):
            return picture
        with Decoders(1) as decoders:
            return decoders.jpeg(picture, 2048)

    def with_lines(self, hits: list[Hit], reads: Sequence[str]) -> list[Hit]:
        """Add the OCR lines that contain a word of `reads`."""
        from clipsearch.store.ocr_text import matching

        of = self.store.lines_of(hit.photo.image_id for hit in hits)
        return [hit._replace(lines=tuple(matching(of.get(hit.photo.image_id, ()), reads))) for hit in hits]

    def row(self, term: Term) -> Array:
        """The unit row (dim,) of a term, before weighting. Raises `BadRequest`."""
        if term.kind == CONCEPT:
            from clipsearch.search.concepts import Concepts

            if self.store.folder is None:
                raise BadRequest(f"@{term.content}: a collection has no concepts; query the index folder instead")
            return Concepts(self.store.folder).row(term.content, self.embedder)
        if term.kind == PHOTO:
            row = self.embedder.indexed(bytes.fromhex(term.content))
            if row is None:
                raise BadRequest("a photo in the query is no longer in the index")
            return row
        if term.kind == TEXT and isinstance(term.content, str):
            text: Array = self.embedder.texts([term.content])[0]
            return text
        return self.embedder.image(term.content, term.name)

    def embed(self, terms: Sequence[Term]) -> Array:
        """The unit row (dim,) of a query: the weighted sum of its terms, normalised. Raises `BadRequest`."""
        if not any(term.weight > 0 for term in terms):
            raise BadRequest("the query only says what to avoid; add a text or an image to look for")
        total = np.zeros(self.store.dim, np.float32)
        for term in terms:
            total += np.float32(term.weight) * self.row(term)
        if not np.linalg.norm(total) > 1e-6:
            raise BadRequest("the terms of the query cancel each other out; change their weights")
        return unit_rows(total)

    def _good(self, hits: list[Hit], terms: Sequence[Term], limits: Limits) -> list[Hit]:
        if limits.min_score is not None:
            hits = [hit for hit in hits if (hit.score or 0.0) >= limits.min_score]
        if limits.min_confidence is not None:
            least = limits.min_confidence
            hits = self.with_confidence(hits, terms)
            hits = [hit for hit in hits if hit.is_literal or (hit.confidence or 0) >= least]
        return hits

    def _answers(self, terms: Sequence[Term], first: int, limits: Limits) -> Iterator[list[Hit]]:
        """All photos that match, best first, in batches; all that have evidence are in the first batch."""
        found = self._with_evidence(terms, limits)
        if limits.only not in (None, LOOK):
            yield [hit for strength in sorted(found, reverse=True) for hit in found[strength]]
            return
        batches = self._ranked(terms, max(first, _AMONG) if found else first, limits)
        seen: set[tuple[bytes, float | None]] = set()
        if found:
            from clipsearch.search.evidence import Strength, fused

            look = next(batches, [])
            is_certain = found.keys() == {Strength.STRONG}  # then nothing is ranked by confidence
            sure = 0 if is_certain else self._count_sure(look, terms)
            yield list(_best(fused(found, look, sure), seen, frames=limits.frames))
        why = (Reason(LOOK),) if terms else ()
        for batch in batches:
            rest = [hit._replace(why=why) for hit in _best(batch, seen, frames=limits.frames)]
            if rest:
                yield rest

    def _count_sure(self, look: Sequence[Hit], terms: Sequence[Term]) -> int:
        """The number of hits that surely match: they come first, as confidence falls with the score."""
        return sum((hit.confidence or 0) >= STRICT for hit in self.with_confidence(list(look[:_AMONG]), terms))

    def _with_evidence(self, terms: Sequence[Term], limits: Limits) -> dict[Strength, list[Hit]]:
        """The photos with evidence for all texts to find, by strength, best look first.

        Empty if the query also has a concept or an image to find: only their look is known.
        """
        texts = [str(term.content) for term in terms if term.asks_for_text]
        is_mixed = len(texts) < sum(term.weight > 0 for term in terms) and limits.only is None
        if not texts or is_mixed or limits.only == LOOK:
            return {}
        from clipsearch.search.evidence import Evidence

        if limits.only == ONLY_TEXT:
            self.store.require_ocr()
        matches = Evidence(self.store, self.selection, limits.only, limits.k).of(texts)
        if not matches:
            return {}
        match_of = {(photo.image_id, photo.file): match for photo, match in matches}
        scores = self.store.scores_of({photo.image_id for photo, _ in matches}, self.embed(terms))
        hits = [
            Hit(0, min(1.0, max(-1.0, scores[photo.image_id])), photo, image_id=photo.image_id)
            for photo in self.files.existing([photo for photo, _ in matches])
            if photo.image_id in scores
        ]
        hits.sort(key=lambda hit: (-(hit.score or 0.0), hit.photo.file))
        found: dict[Strength, list[Hit]] = {}
        for hit in _best(hits, set(), frames=False):
            match = match_of[hit.photo.image_id, hit.photo.file]
            found.setdefault(match.strength, []).append(hit._replace(why=match.reasons))
        return found

    def _ranked(self, terms: Sequence[Term], first: int, limits: Limits) -> Iterator[list[Hit]]:
        """All photos, best first, in batches; each is three times as large as all before it together."""
        if terms:
            self.store.read_ahead()  # read the embeddings from disk while the model loads
        find = self._nearest(self.embed(terms), limits) if terms else self._first(limits.order or NEWEST)
        seen, wanted = 0, first
        while True:
            hits, found = find(seen, wanted)
            if hits:
                yield hits
            if found < wanted:
                return
            seen, wanted = wanted, 4 * wanted

    def _nearest(self, embedding: Array, limits: Limits) -> Callable[[int, int], tuple[list[Hit], int]]:
        seen: set[int] = set()
        found: set[tuple[bytes, float | None]] = set()

        def find(_: int, wanted: int) -> tuple[list[Hit], int]:
            ids, scores = self.store.nearest(embedding, wanted, self.selection, exact=limits.exact)
            # fp16 rows are not exactly unit length, so a cosine may come out slightly above 1.
            score_of = dict(zip(ids.tolist(), scores.clip(-1, 1).tolist(), strict=True))
            photos = self.files.existing(self.store.photos_of(score_of.keys() - seen, self.selection))
            seen.update(score_of)
            hits = [Hit(0, score_of[photo.image_id], photo, image_id=photo.image_id) for photo in photos]
            hits.sort(key=lambda hit: (-(hit.score or 0.0), hit.photo.file))
            return list(_best(hits, found, frames=limits.frames)), len(ids)

        return find

    def _first(self, order: Order) -> Callable[[int, int], tuple[list[Hit], int]]:
        def find(seen: int, wanted: int) -> tuple[list[Hit], int]:
            photos = self.store.first(self.selection, order, wanted)
            return [Hit(0, None, photo) for photo in self.files.existing(photos[seen:])], len(photos)

        return find

    def _rows(self, hits: Iterable[Hit]) -> Array:
        return self.store.unit_rows_of([hit.image_id or hit.photo.image_id for hit in hits])


def sort_hits(hits: Iterable[Hit], order: Order) -> list[Hit]:
    """Hits in another order than by rank."""
    return order.sorted(hits, lambda hit: hit.photo)


def _settled(hits: Sequence[Hit], accepted: Sequence[Hit], order: Order) -> int:
    """How many hits no later batch can precede: a best copy may come after the copy that was found first."""
    last = accepted[-1]._replace(rank=-1)
    return sort_hits([*hits, last], order).index(last)


def _best(hits: Iterable[Hit], seen: set[tuple[bytes, float | None]], *, frames: bool) -> Iterator[Hit]:
    """Keep the first hit of each file or, with `frames`, of each frame. `seen` has those of earlier batches."""
    for hit in hits:
        key = hit.photo.file, hit.photo.time if frames else None
        if key not in seen:
            seen.add(key)
            yield hit
