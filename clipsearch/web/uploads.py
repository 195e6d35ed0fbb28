"""Images that were dropped on the page: decoded in a separate process, embedded, and kept in memory for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from clipsearch.arrays import Array
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.index import Index
from clipsearch.output.pictures import SIZES, UPLOAD_BYTES, UPLOAD_SECONDS, Pictures, content_id
from clipsearch.search.question import IMAGE, PHOTO, Question, Term
from clipsearch.web.index_thread import IndexThread

_MOST = 64
_PER_MINUTE = 30


class TooMany(BadRequest):
    """More requests than one person makes."""


class Upload(NamedTuple):
    """An uploaded image: the name of its file, its unit row (dim,), the fingerprint of the model, and a thumbnail."""

    name: str
    row: Array
    model: str
    picture: bytes


class Uploads:
    """The latest uploads, by their content hash in hex."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._times: deque[float] = deque(maxlen=_PER_MINUTE)
        self._one = asyncio.Lock()

    def get(self, id: str) -> Upload | None:
        """None if it was not uploaded, or has been evicted."""
        return self._uploads.get(id)

    def resolve(self, question: Question, index: Index) -> Question:
        """The question with the rows of uploads in place of their ids. Raises `BadRequest` if one was evicted."""
        return question._replace(terms=tuple(self._resolved(term, index) for term in question.terms))

    def _resolved(self, term: Term, index: Index) -> Term:
        upload = self.get(term.content) if term.kind == PHOTO else None
        if upload is not None and upload.model == index.model_fingerprint():
            return Term(upload.row, term.weight, IMAGE, upload.name)
        return term

    async def take(self, index: IndexThread, name: str, parts: AsyncIterator[bytes]) -> str:
        """Receive an image; returns its id. Raises `BadRequest` if it is no image, too large, too slow or too many."""
        self._check_rate()
        async with self._one:  # so that only one is in memory
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    data = await _collected(parts)
                picture = await asyncio.to_thread(self._pictures.jpeg, data, SIZES["small"])
                row, model = await index.call(_embedded, name, data)
            except TimeoutError:
                raise BadRequest(f"{name} took longer than {UPLOAD_SECONDS:.0f} s") from None
            except ImageUnusable as error:
                raise BadRequest(f"{name} cannot be used as an image: {error}") from None
        id = content_id(data)
        self._uploads[id] = Upload(name, row, model, picture)
        while len(self._uploads) > _MOST:
            self._uploads.popitem(last=False)
        return id

    def _check_rate(self) -> None:
        now = time.monotonic()
        if len(self._times) == _PER_MINUTE and now - self._times[0] < 60:
            raise TooMany("too many images at once; wait a minute")
        self._times.append(now)


async def _collected(parts: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > UPLOAD_BYTES:
            raise BadRequest(f"this is larger than {UPLOAD_BYTES / 1e6:.0f} MB")
    return bytes(data)


def _embedded(index: Index, name: str, data: bytes) -> tuple[Array, str]:
    return index.embed_images(data, untrusted=True, name=name)[0], index.model_fingerprint()
