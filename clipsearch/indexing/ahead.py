"""Call a function ahead of when its results are needed. No result waits long for one that takes longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import islice
from typing import Generic, TypeVar

TICK = 0.5  # seconds after which a caller that waits is told that there is nothing yet
_PATIENCE = 1.0  # seconds that the first may take before others pass it; a process that decodes starts in half of that

Item = TypeVar("Item")
Result = TypeVar("Result")


class Ahead(Generic[Item, Result]):
    """Calls a function for some items in the threads of a pool and hands out each result once.

    Results come in the order of their items, so that a run is like the one before; but where the first takes long,
    others pass it.
    """

    def __init__(self, pool: Executor, function: Callable[[Item], Result], items: Iterable[Item]) -> None:
        self._pool, self._function, self._left = pool, function, iter(items)
        self._under_way: list[tuple[Item, Future[Result]]] = []
        self._first_since = 0.0

    def submit(self, most: int) -> bool:
        """Have so many calls under way, as far as there are items; says whether there is anything to wait for."""
        for item in islice(self._left, max(0, most - len(self._under_way))):
            self._under_way.append((item, self._pool.submit(self._function, item)))
            if len(self._under_way) == 1:
                self._first_since = time.monotonic()
        return bool(self._under_way)

    def next(self) -> tuple[Item, Result] | None:
        """An item with its result; None when nothing is done within a tick. Raises what the call has raised."""
        first = self._under_way[0][1]
        patience = self._first_since + _PATIENCE - time.monotonic()
        if patience > 0 and not first.done():
            wait([first], patience)
        if (found := self._first_done()) is not None:
            return found
        wait([one[1] for one in self._under_way], TICK, FIRST_COMPLETED)
        return self._first_done()

    def _first_done(self) -> tuple[Item, Result] | None:
        for number, (item, result) in enumerate(self._under_way):
            if result.done():
                del self._under_way[number]
                if number == 0:
                    self._first_since = time.monotonic()
                return item, result.result()
        return None
