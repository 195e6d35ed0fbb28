"""An index with a thread of its own: SQLite connections must stay in the thread that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from clipsearch.index import Index
from clipsearch.paths import Collection

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class IndexThread:
    """Runs functions on an index from asyncio, one at a time."""

    def __init__(self, place: Path | Collection, *, cache_texts: bool = True) -> None:
        """`cache_texts` as in `Index`."""
        self._thread = ThreadPoolExecutor(1, "index")
        self._index = Index(place, cache_texts=cache_texts)

    async def call(
        self,
        function: Callable[Concatenate[Index, Parameters], Answer],
        *args: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Answer:
        """`function(index, ...)`, run in the thread; it may be a method, such as `Index.status`."""

        def call() -> Answer:
            try:
                return function(self._index, *args, **options)
            finally:
                self._index.end_snapshot()

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Close the index in its thread, after the running call, and end the thread."""
        self._thread.submit(self._index.close)
        self._thread.shutdown()
