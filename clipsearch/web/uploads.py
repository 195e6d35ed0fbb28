"""Images that were dropped on the page: decoded in a process of its own, embedded, and kept in memory for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from clipsearch.arrays import Array
from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.output.pictures import SIZES, UPLOAD_BYTES, UPLOAD_SECONDS, Pictures, content_id, model_input
from clipsearch.search.opened import Opened
from clipsearch.web.desk import Desk

_KEPT = 64
_A_MINUTE = 30  # uploads


class TooMany(BadRequest):
    """More was asked than one person can."""


class Upload(NamedTuple):
    """An image by the name of its file: its unit row (dim,), the model that made it, and a small picture of it."""

    name: str
    row: Array
    fingerprint: str
    picture: bytes


class Uploads:
    """The last images that came in, by the hash of their contents."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._times: deque[float] = deque(maxlen=_A_MINUTE)
        self._one = asyncio.Lock()

    def get(self, id: str) -> Upload | None:
        """What is kept under an id."""
        return self._kept.get(id)

    async def take(self, desk: Desk, name: str, parts: AsyncIterator[bytes]) -> str:
        """The id of an image that comes in. Raises `BadRequest` for none, a large one, a slow one, or too many."""
        self._check_rate()
        async with self._one:  # so that one is in memory at a time
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    data = await _collected(parts)
                return await self._embedded(desk, name, data)
            except TimeoutError:
                raise BadRequest(f"{name} took longer than {UPLOAD_SECONDS:.0f} s") from None
            except ImageUnusable as error:
                raise BadRequest(f"{name} cannot be used as an image: {error}") from None

    async def _embedded(self, desk: Desk, name: str, data: bytes) -> str:
        id = content_id(data)
        embedder = await desk.ask(Opened.embedder)
        picture = await asyncio.to_thread(self._pictures.jpeg, data, SIZES["small"])
        pixels = await asyncio.to_thread(model_input, data, embedder.model.preprocess)
        row = await desk.ask(lambda index: index.embedder().prepared(pixels))
        self._kept[id] = Upload(name, row, embedder.model.fingerprint, picture)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return id

    def _check_rate(self) -> None:
        now = time.monotonic()
        if len(self._times) == _A_MINUTE and now - self._times[0] < 60:
            raise TooMany("these are too many images at a time; wait a minute")
        self._times.append(now)


async def _collected(parts: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > UPLOAD_BYTES:
            raise BadRequest(f"this is larger than {UPLOAD_BYTES / 1e6:.0f} MB")
    return bytes(data)
