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
    """At most `most` requests of one kind in a minute."""

    def __init__(self, what: str, most: int = PER_MINUTE) -> None:
        self._what, self._most = what, most
        self._times: deque[float] = deque(maxlen=most)

    def check(self) -> None:
        """Count a request. Raises `TooManyRequests`."""
        now = time.monotonic()
        if len(self._times) == self._most and now - self._times[0] < 60:
            raise TooManyRequests(f"more than {counted(self._most, self._what)} in a minute; wait and try again")
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
