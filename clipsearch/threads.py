"""Map functions over items in threads, with a bound on how far ahead of the caller they run."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import islice
from typing import Generic, TypeVar

TICK = 0.5  # seconds after which a waiting caller gets control back
_PATIENCE = 1.0  # seconds before later results overtake the first; a decoding process starts in half of that

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may run on; containers and `taskset` allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Yield the results in the order of the items, with at most `most` calls running or waiting to be yielded."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


class BoundedMap(Generic[Item, Result]):
    """Like `ordered_map`, for a caller that has other work to do while it waits.

    Results come in the order of the items, so that runs are reproducible, but a slow call is overtaken by later ones.
    """

    def __init__(self, pool: Executor, function: Callable[[Item], Result], items: Iterable[Item]) -> None:
        self._pool, self._function, self._left = pool, function, iter(items)
        self._pending: list[tuple[Item, Future[Result]]] = []
        self._first_since = 0.0

    def fill(self, most: int) -> bool:
        """Submit items until `most` calls are pending or none is left. False when there is nothing to wait for."""
        for item in islice(self._left, max(0, most - len(self._pending))):
            self._pending.append((item, self._pool.submit(self._function, item)))
            if len(self._pending) == 1:
                self._first_since = time.monotonic()
        return bool(self._pending)

    def next(self) -> tuple[Item, Result] | None:
        """The next item and its result, or None if none is ready within `TICK` seconds. Raises a call's exception."""
        first = self._pending[0][1]
        patience = self._first_since + _PATIENCE - time.monotonic()
        if patience > 0 and not first.done():
            wait([first], patience)
        if (found := self._first_done()) is not None:
            return found
        wait([future for _, future in self._pending], TICK, FIRST_COMPLETED)
        return self._first_done()

    def _first_done(self) -> tuple[Item, Result] | None:
        for number, (item, future) in enumerate(self._pending):
            if future.done():
                del self._pending[number]
                if number == 0:
                    self._first_since = time.monotonic()
                return item, future.result()
        return None
