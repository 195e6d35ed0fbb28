"""Limits: how often requests come, how large and slow they are, and how much is cached for them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import TypeVar

from clipsearch.errors import BadRequest, counted

PER_MINUTE = 30

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep_newest(cache: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Add a value to an LRU cache of `most` entries."""
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)


class TooManyRequests(BadRequest):
    """Requests arrive faster than the rate limit."""


class RateLimit:
    """At most `PER_MINUTE` requests of one kind."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._times: deque[float] = deque(maxlen=PER_MINUTE)

    def check(self) -> None:
        """Count a request. Raises `TooManyRequests`."""
        now = time.monotonic()
        if len(self._times) == PER_MINUTE and now - self._times[0] < 60:
            raise TooManyRequests(f"more than {counted(PER_MINUTE, self._what)} in a minute; wait and try again")
        self._times.append(now)


async def read_body(parts: AsyncIterator[bytes], what: str, most: int, seconds: float) -> bytes:
    """The body of a request. Raises `BadRequest` if it has more than `most` bytes or takes too long to arrive."""
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in parts:
                data += part
                if len(data) > most:
                    raise BadRequest(f"{what} is larger than {most / 1e6:.0f} MB")
    except TimeoutError:
        raise BadRequest(f"{what} took longer than {seconds:.0f} s to upload") from None
    return bytes(data)
