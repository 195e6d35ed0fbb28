"""From what was asked for to ranked photos: terms, one query embedding, hits."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipsearch import cache, search
from clipsearch.encode import Encoder, TorchEncoder, cold_encoder
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.models import Model
from clipsearch.store import IndexedPhoto, Root, Store, absolute, content_hash, relative_to
from clipsearch.towers import Array, unit_rows

EMPTY = "the query is empty; say what to look for, such as: clipsearch query 'a dog on a beach'"


class Term(NamedTuple):
    """One part of a query: a text, or the bytes of an image and its name for messages. A negative weight leads away."""

    content: str | bytes
    weight: float = 1.0
    name: str = ""


class Hit(NamedTuple):
    """A photo that was found. `score` is the cosine between its embedding and the query's, -1 to 1."""

    rank: int
    score: float
    photo: IndexedPhoto

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
    if any("\ud800" <= character <= "\udfff" for character in words):  # bytes of the command line that are no text
        raise BadRequest("the query is not text in this terminal's encoding (UTF-8)")
    if not words.strip():
        raise BadRequest(EMPTY)
    return Term(words, sign * weight)


def image_term(path: str | Path, weight: float = 1.0) -> Term:
    """A term from an image file. Raises `BadRequest` when it cannot be read; whether it is an image shows later."""
    from clipsearch.decode import read

    try:
        return Term(read(path), weight, str(path))
    except ImageUnusable as error:
        raise BadRequest(f"{path} cannot be used as a query image: {error}") from None


class Searcher:
    """Asks one index, loading its model once and only when it is needed."""

    def __init__(self, store: Store, under: str | os.PathLike[str] | None = None) -> None:
        """`under`: a folder to stay in. Raises `BadRequest` when nothing of it was indexed."""
        self._store = store
        self._model = Model.from_json(store.model)
        self._encoders: dict[bool, Encoder] = {}  # for texts, and for images
        roots = store.roots()
        store.require_photos()
        places = [(root, b"") for root in roots] if under is None else self._places_in(roots, under)
        self._places = [(root, below) for root, below in places if not store.offline(root)]
        everything = under is None and len(self._places) == len(roots)
        self._only = None if everything else store.images_in(self._places)

    def _places_in(self, roots: list[Root], under: str | os.PathLike[str]) -> list[tuple[Root, bytes]]:
        """What to search for `under`. As it is spelt first: a folder behind a link is indexed by the link's name."""
        places: list[tuple[Root, bytes]] = []
        for folder in (os.path.abspath(os.fsencode(under)), absolute(under)):
            places = _places(roots, folder)
            if self._store.images_in(places).size:
                return places
        if places and os.path.isdir(under):
            return places
        raise BadRequest(f"nothing in {os.fspath(under)} was indexed; clipsearch status lists the folders that were")

    def query(self, terms: Sequence[Term], k: int = 10, min_score: float | None = None) -> list[Hit]:
        """The `k` best hits, best first; fewer if there are fewer, or if the others score below `min_score`.

        Files that are gone since they were indexed are left out. Raises `BadRequest`, or what encoding raises.
        """
        if k < 1:
            raise BadRequest(f"-k must be at least 1, not {k}")
        embedding = self.embed(terms)
        wanted = k
        while True:
            ids, scores = search.top_k(self._store, embedding, wanted, self._only)
            score_of = dict(zip(ids.tolist(), scores.tolist(), strict=True))
            found = [p for p in self._store.photos_of(score_of, self._places) if os.path.exists(p.path)]
            if len(found) >= k or len(ids) < wanted:
                break
            wanted *= 4
        found.sort(key=lambda photo: (-score_of[photo.image_id], photo.path))
        hits = [Hit(n, score_of[photo.image_id], photo) for n, photo in enumerate(found[:k], 1)]
        return hits if min_score is None else [hit for hit in hits if hit.score >= min_score]

    def embed(self, terms: Sequence[Term]) -> Array:
        """The unit row (dim,) of a query: the weighted sum of its terms' unit rows, made a unit row again."""
        if not any(term.weight > 0 for term in terms):
            raise BadRequest(EMPTY)
        total = np.zeros(self._store.dim, np.float32)
        for term in terms:
            total += np.float32(term.weight) * self._embed_one(term.content, term.name)
        if not np.linalg.norm(total) > 1e-6:
            raise BadRequest("the terms of the query cancel each other out; change their weights")
        row: Array = unit_rows(total[None])[0]
        return row

    def _embed_one(self, content: str | bytes, name: str) -> Array:
        if isinstance(content, bytes):
            return self._embed_image(content, name)
        known = cache.text_embedding(self._model.fingerprint, content)
        if known is not None and len(known) == self._store.dim:
            return known
        row: Array = self._encoder(texts=True).encode_texts([content])[0]
        cache.keep_text_embedding(self._model.fingerprint, content, row)
        return row

    def _embed_image(self, data: bytes, name: str) -> Array:
        image_id = self._store.find_image(content_hash(data))
        if image_id is not None:
            stored: Array = unit_rows(self._store.rows_of(np.array([image_id])))[0]
            return stored
        from clipsearch.preprocess import decode_for, pixels_of

        try:
            pixels = pixels_of(decode_for(data, self._model.preprocess), self._model.preprocess)
        except ImageUnusable as error:
            raise BadRequest(f"{name} cannot be used as a query image: {error}") from None
        fresh: Array = self._encoder(texts=False).encode_images(np.stack([pixels]))[0]
        return fresh

    def _encoder(self, *, texts: bool) -> Encoder:
        if texts not in self._encoders:
            whole = next((e for e in self._encoders.values() if isinstance(e, TorchEncoder)), None)
            self._encoders[texts] = whole or cold_encoder(self._model, texts=texts, images=not texts)
        return self._encoders[texts]


def _places(roots: list[Root], folder: bytes) -> list[tuple[Root, bytes]]:
    """The roots that lie in a folder, whole, and the one that it lies in, with the part of it that is the folder."""
    places = []
    for root in roots:
        below = relative_to(folder, root.path)
        if below is not None:
            places.append((root, below))
        elif relative_to(root.path, folder) is not None:
            places.append((root, b""))
    return places
