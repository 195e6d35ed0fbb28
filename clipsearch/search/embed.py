"""Texts and images to the unit rows of an index's model. Each is embedded once: earlier texts are in the cache, and an
image may be in the index.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.images.read import content_hash
from clipsearch.models import cache
from clipsearch.models.model import Model
from clipsearch.store.searchable import Searchable

if TYPE_CHECKING:
    from PIL import Image

    from clipsearch.images.preprocess import Preprocess
    from clipsearch.images.sandbox import Decoders
    from clipsearch.models.clip import ImageTower
    from clipsearch.models.convnet import ConvTower
    from clipsearch.models.encoders import Encoder
    from clipsearch.models.layers import Parts
    from clipsearch.models.siglip import SiglipImageTower
    from clipsearch.search.term import Term

_MOST_KEPT = 4_000  # texts of one call; more would push what people asked for out of the cache


def is_text(text: str) -> bool:
    """Whether it is text, and not bytes of another encoding, which Python keeps as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def cold_encoder(model: Model, *, texts: bool, images: bool) -> Encoder:
    """The encoder that is ready soonest. What comes with it is not imported for texts that the cache has."""
    from clipsearch.models import encoders

    return encoders.cold_encoder(model, texts=texts, images=images)


class Embedder:
    """The model of an index. It is loaded when something has to be embedded that is not known yet, and kept."""

    def __init__(self, store: Searchable, *, keep_texts: bool = True) -> None:
        """`keep_texts`: whether new texts go to the cache; those that somebody is still typing should not."""
        self.model = Model.from_json(store.model)
        self.store = store
        self._encoders: dict[bool, Encoder] = {}  # for texts, and for images
        self._recent: dict[str, Array] = {}
        self._keep_texts = keep_texts

    def serves(self, store: Searchable) -> bool:
        """Whether it can go on with a store, which is from now on the one that it looks images up in."""
        if Model.from_json(store.model).fingerprint != self.model.fingerprint:
            return False
        self.store = store
        return True

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with before a softmax."""
        return self._encoder(texts=True).logit_scale

    def row(self, term: Term) -> Array:
        """The unit row (dim,) of a term of a query."""
        if isinstance(term.content, str):
            text: Array = self.texts([term.content])[0]
            return text
        return self.image(term.content, term.name) if isinstance(term.content, bytes) else term.content

    def texts(self, texts: Sequence[str], *, keep: bool = False) -> Array:
        """Unit rows (n, dim). `keep`: new ones go to the cache, whatever becomes of others."""
        fingerprint, dim = self.model.fingerprint, self.store.dim
        rows = {text: self._recent[text] for text in texts if text in self._recent}
        new = [text for text in dict.fromkeys(texts) if text not in rows]
        if new:
            kept = cache.text_embeddings(fingerprint, new)
            rows |= {text: row for text, row in kept.items() if len(row) == dim}
            new = [text for text in new if text not in rows]
        if new:
            fresh = dict(zip(new, self._encoder(texts=True).encode_texts(new), strict=True))
            if (keep or self._keep_texts) and len(new) <= _MOST_KEPT:
                cache.keep_text_embeddings(fingerprint, fresh)
            rows |= fresh
        self._recent = rows if len(rows) + len(self._recent) > _MOST_KEPT else self._recent | rows
        return np.stack([rows[text] for text in texts]) if texts else np.empty((0, dim), np.float32)

    def image(self, data: bytes, name: str, decoders: Decoders | None = None) -> Array:
        """The unit row (dim,) of a file's bytes. Raises `BadRequest` that says `name` when they are no image.

        Without `decoders`, which take a moment to start, this process decodes: for the one image of a question.
        """
        known = self.indexed(content_hash(data))
        if known is not None:
            return known
        from clipsearch.images.preprocess import decode_for, model_input

        how = self.model.preprocess
        try:
            pixels = decoders.decode(data).pixels if decoders else model_input(decode_for(data, how), how)
        except ImageUnusable as error:
            raise BadRequest(f"{name} cannot be used as an image: {error}") from None
        return self.prepared(pixels)

    def picture(self, image: Image.Image) -> Array:
        """The unit row (dim,) of an image in memory."""
        from clipsearch.images.preprocess import preprocess

        return self.prepared(preprocess(image.convert("RGB"), self.model.preprocess))

    def prepared(self, pixels: Pixels) -> Array:
        """The unit row (dim,) of an image that is prepared for the model, (height, width, 3) uint8."""
        row: Array = self._encoder(texts=False).encode_images(pixels[None])[0]
        return row

    @functools.cached_property
    def _tower(self) -> ImageTower | ConvTower | SiglipImageTower:
        from clipsearch.models.encoders import in_numpy

        encoder = in_numpy(self.model, texts=False, images=True)
        if encoder is None:
            raise BadRequest(f"{self.model.name} cannot say where in a photo something is")
        return encoder.image_tower

    def parts(self, pixels: Pixels) -> Parts:
        """What the model makes of the parts of an image that was prepared as `for_parts` says."""
        return self._tower.parts(pixels)

    @property
    def for_parts(self) -> Preprocess:
        """How an image is prepared for `parts`. Raises `BadRequest` for a model that has no way to tell parts apart."""
        how = self.model.preprocess
        return replace(how, size=(self._tower.zoom * how.size[0], self._tower.zoom * how.size[1]))

    def indexed(self, content: bytes) -> Array | None:
        """The unit row (dim,) that the index has for a content hash."""
        image_id = self.store.find_image(content)
        if image_id is None:
            return None
        row: Array = self.store.unit_rows_of([image_id])[0]
        return row

    def _encoder(self, *, texts: bool) -> Encoder:
        if texts not in self._encoders:
            # An encoder that is not in NumPy does both.
            whole = next((e for e in self._encoders.values() if e.does_both), None)
            self._encoders[texts] = whole or cold_encoder(self.model, texts=texts, images=not texts)
        return self._encoders[texts]
