"""Images that users drop on the page: decoded in a separate process, embedded, and held in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import NamedTuple

from clipsearch.arrays import Array
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.index import Index
from clipsearch.output.pictures import SIZES, UPLOAD_BYTES, UPLOAD_SECONDS, Pictures, content_id
from clipsearch.search.question import IMAGE, PHOTO, Question, Term
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.limits import RateLimit, read_body

_MAX_UPLOADS = 64  # in memory; the oldest is evicted


class Upload(NamedTuple):
    """An uploaded image: its file name, unit row (dim,), the fingerprint of the model, and a JPEG thumbnail."""

    name: str
    row: Array
    model: str
    picture: bytes


class Uploads:
    """The latest uploads by id, the content hash in hex."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._rate = RateLimit("upload")
        self._lock = asyncio.Lock()

    def get(self, id: str) -> Upload | None:
        """The upload with this id; None if there is none or it was evicted."""
        return self._uploads.get(id)

    def resolve(self, question: Question, index: Index) -> Question:
        """Replace the ids of uploads in a question by their embeddings. Other ids are left: they may be indexed."""
        return question._replace(terms=tuple(self._resolved(term, index) for term in question.terms))

    def _resolved(self, term: Term, index: Index) -> Term:
        upload = self.get(term.content) if term.kind == PHOTO else None
        if upload is not None and upload.model == index.model_fingerprint():
            return Term(upload.row, term.weight, IMAGE, upload.name)
        return term

    async def take(self, index: IndexThread, name: str, parts: AsyncIterator[bytes]) -> str:
        """Receive, decode and embed an image; returns its id.

        Raises `BadRequest` if it is not an image, too large or too slow, and `TooManyRequests`.
        """
        self._rate.check()
        async with self._lock:  # only one undecoded file in memory at a time
            data = await read_body(parts, "the image", UPLOAD_BYTES, UPLOAD_SECONDS)
            try:
                picture = await asyncio.to_thread(self._pictures.jpeg, data, SIZES["small"])
                row, model = await index.call(_embedded, name, data)
            except ImageUnusable as error:
                raise BadRequest(f"{name} cannot be used as an image: {error}") from None
        id = content_id(data)
        self._uploads[id] = Upload(name, row, model, picture)
        while len(self._uploads) > _MAX_UPLOADS:
            self._uploads.popitem(last=False)
        return id


def _embedded(index: Index, name: str, data: bytes) -> tuple[Array, str]:
    return index.embed_images(data, untrusted=True, name=name)[0], index.model_fingerprint()
