"""Embed texts and images with the model of an index. Cached texts and indexed images are not embedded again."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.errors import BadRequest, ImageUnusable, reason
from clipsearch.images.read import content_hash
from clipsearch.models import cache
from clipsearch.models.model import Model
from clipsearch.store.searchable import Searchable
from clipsearch.threads import ordered_map, usable_cores

if TYPE_CHECKING:
    from clipsearch.images.preprocess import Preprocess
    from clipsearch.images.sandbox import Decoders
    from clipsearch.models.clip import ImageTower
    from clipsearch.models.convnet import ConvTower
    from clipsearch.models.encoders import Encoder
    from clipsearch.models.layers import Parts
    from clipsearch.models.siglip import SiglipImageTower

_MAX_CACHED = 4_000  # texts per call; more would evict the queries that people type
_DECODE_SECONDS = 20.0  # for an untrusted image
_FEW, _BATCH = 8, 16  # up to 8 images are embedded one by one, more in batches of 16


def cold_encoder(model: Model, *, texts: bool, images: bool) -> Encoder:
    """The encoder that starts fastest: NumPy if there are towers for the model, otherwise open_clip.

    Imported on first use: cached texts need none.
    """
    from clipsearch.models.encoders import numpy_encoder

    found = numpy_encoder(model, texts=texts, images=images)
    if found is not None:
        return found
    from clipsearch.models.open_clip_encoder import OpenClipEncoder

    return OpenClipEncoder(model)


class Embedder:
    """Embeds with the model of an index, which is loaded on first use and stays in memory."""

    def __init__(self, store: Searchable, *, cache_texts: bool = True) -> None:
        """`cache_texts` as for `Index`."""
        self.model = Model.from_json(store.model)
        self.store = store
        self._encoders: dict[bool, Encoder] = {}  # for texts, and for images
        self._recent: dict[str, Array] = {}
        self._cache_texts = cache_texts

    def serves(self, store: Searchable) -> bool:
        """Switch to another store if it has the same model. Returns whether it has."""
        if Model.from_json(store.model).fingerprint != self.model.fingerprint:
            return False
        self.store = store
        return True

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines before a softmax."""
        return self._encoder(texts=True).logit_scale

    def texts(self, texts: Sequence[str], *, always_cache: bool = False) -> Array:
        """Unit rows (n, dim). `always_cache`: cache new ones even if `cache_texts` is off."""
        fingerprint, dim = self.model.fingerprint, self.store.dim
        rows = {text: self._recent[text] for text in texts if text in self._recent}
        new = [text for text in dict.fromkeys(texts) if text not in rows]
        if new:
            stored = cache.text_embeddings(fingerprint, new)
            rows |= {text: row for text, row in stored.items() if len(row) == dim}
            new = [text for text in new if text not in rows]
        if new:
            fresh = dict(zip(new, self._encoder(texts=True).encode_texts(new), strict=True))
            if (always_cache or self._cache_texts) and len(new) <= _MAX_CACHED:
                cache.keep_text_embeddings(fingerprint, fresh)
            rows |= fresh
        self._recent = rows if len(rows) + len(self._recent) > _MAX_CACHED else self._recent | rows
        return np.stack([rows[text] for text in texts]) if texts else np.empty((0, dim), np.float32)

    def image(self, source: Any, name: str = "", decoders: Decoders | None = None) -> Array:
        """The unit row (dim,) of an image, from any source that `Term` accepts. Raises `BadRequest`, naming it `name`.

        Without `decoders`, the image is decoded in this process, which is faster for a single one.
        """
        if isinstance(source, np.ndarray):
            row: Array = source
            return row
        if hasattr(source, "convert"):
            return self.prepared(_model_input(source, self.model.preprocess))
        data, name = image_bytes(source), name or image_name(source)
        known = self.indexed(content_hash(data))
        return known if known is not None else self.prepared(_decoded(data, name, self.model.preprocess, decoders))

    def images(self, sources: Sequence[Any], *, untrusted: bool = False, name: str = "") -> Array:
        """Unit rows (n, dim) of images. Many are decoded in parallel and embedded in batches. Raises `BadRequest`.

        `untrusted`: always decode in a separate process. Error messages call an image without a path `name`.
        """
        out = np.empty((len(sources), self.store.dim), np.float32)
        if len(sources) <= _FEW:
            with self._decoder() if untrusted else contextlib.nullcontext() as decoder:
                for number, source in enumerate(sources):
                    out[number] = self.image(source, name, decoder)
            return out
        from clipsearch.images.sandbox import Decoders
        from clipsearch.models.engines import encoder_for

        cores, how = usable_cores(), self.model.preprocess
        encoder = encoder_for(self.model, "auto", "auto", cores, lambda engine, cosine: None)

        def loaded() -> Iterator[tuple[int, Any, str]]:  # runs in the calling thread, which owns the SQLite connection
            for number, source in enumerate(sources):
                if isinstance(source, np.ndarray) or hasattr(source, "convert"):
                    yield number, source, ""
                else:
                    data = image_bytes(source)
                    known = self.indexed(content_hash(data))
                    yield number, data if known is None else known, image_name(source)

        def decoded(item: tuple[int, Any, str]) -> tuple[int, Array | None, Pixels | None]:
            number, source, name = item
            if isinstance(source, np.ndarray):
                return number, source, None
            data = isinstance(source, bytes)
            return number, None, _decoded(source, name, how, decoders) if data else _model_input(source, how)

        def batches() -> Iterator[dict[int, Pixels]]:
            batch: dict[int, Pixels] = {}
            for number, row, pixels in ordered_map(decoding, decoded, loaded(), 4 * cores):
                if pixels is None:
                    out[number] = row
                    continue
                batch[number] = pixels
                if len(batch) == _BATCH:
                    yield batch
                    batch = {}
            if batch:
                yield batch

        def encoded(batch: dict[int, Pixels]) -> tuple[list[int], Array]:
            return list(batch), encoder.encode_images(np.stack(list(batch.values())))

        with (
            Decoders(cores, how) as decoders,
            ThreadPoolExecutor(cores) as decoding,
            ThreadPoolExecutor(cores) as encoding,
        ):
            for numbers, rows in ordered_map(encoding, encoded, batches(), cores):
                out[numbers] = rows
        return out

    def _decoder(self) -> Decoders:
        from clipsearch.images.sandbox import Decoders

        return Decoders(1, self.model.preprocess, seconds=_DECODE_SECONDS)

    def prepared(self, pixels: Pixels) -> Array:
        """The unit row (dim,) of a model input, (height, width, 3) uint8."""
        row: Array = self._encoder(texts=False).encode_images(pixels[None])[0]
        return row

    @functools.cached_property
    def _tower(self) -> ImageTower | ConvTower | SiglipImageTower:
        from clipsearch.models.encoders import numpy_encoder

        encoder = numpy_encoder(self.model, texts=False, images=True)
        if encoder is None:
            raise BadRequest(f"{self.model.name} cannot locate things in photos")
        return encoder.image_tower

    def parts(self, pixels: Pixels) -> Parts:
        """The embeddings of the patches of a model input, which must be preprocessed by `for_parts`."""
        return self._tower.parts(pixels)

    @property
    def for_parts(self) -> Preprocess:
        """The preprocessing for `parts`. Raises `BadRequest` if the model cannot locate things in photos."""
        how = self.model.preprocess
        return replace(how, size=(self._tower.zoom * how.size[0], self._tower.zoom * how.size[1]))

    def indexed(self, content: bytes) -> Array | None:
        """The unit row (dim,) of an indexed image by its content hash; None if it is not indexed."""
        image_id = self.store.find_image(content)
        if image_id is None:
            return None
        row: Array = self.store.unit_rows_of([image_id])[0]
        return row

    def _encoder(self, *, texts: bool) -> Encoder:
        if texts not in self._encoders:
            # NumPy encoders load one tower; the others load both, so one serves texts and images.
            loaded = next((encoder for encoder in self._encoders.values() if encoder.does_both), None)
            self._encoders[texts] = loaded or cold_encoder(self.model, texts=texts, images=not texts)
        return self._encoders[texts]


def image_bytes(source: Any) -> bytes:
    """The file contents of an image given by path, URL, bytes or open binary file. Raises `BadRequest`."""
    from clipsearch.images import read

    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and source.startswith(("https://", "http://")):
        from clipsearch.images.fetch import fetch

        return fetch(source)
    try:
        if not isinstance(source, str | os.PathLike):
            return read.read_stream(source)
        path = os.path.expanduser(source)
        if os.path.isfile(path) or not os.path.exists(path) or os.path.isdir(path):
            return read.read(path)
        with open(path, "rb") as file:  # a pipe, such as <(curl ...)
            return read.read_stream(file)
    except ImageUnusable as error:
        raise _unusable(image_name(source), error) from None
    except OSError as error:
        raise BadRequest(f"{image_name(source)} cannot be used as an image: {reason(error)}") from None


def image_name(source: Any) -> str:
    """What messages call an image: its path or URL, "the image on stdin" or "an image"."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return "an image" if isinstance(source, bytes) or not hasattr(source, "read") else "the image on stdin"


def _unusable(name: str, error: ImageUnusable) -> BadRequest:
    return BadRequest(f"{name} cannot be used as an image: {error}")


def _decoded(data: bytes, name: str, how: Preprocess, decoders: Decoders | None) -> Pixels:
    try:
        if decoders:
            whole: Pixels = decoders.decode(data).pixels[0]
            return whole
        from clipsearch.images.preprocess import decode_for, model_input

        return model_input(decode_for(data, how), how)
    except ImageUnusable as error:
        raise _unusable(name, error) from None


def _model_input(image: Any, how: Preprocess) -> Pixels:
    from clipsearch.images.preprocess import preprocess

    return preprocess(image.convert("RGB"), how)
