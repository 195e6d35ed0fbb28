"""An index in a thread of its own, as a SQLite connection must stay in one thread."""

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
    """Calls an index from asyncio, one call at a time."""

    def __init__(self, place: Path | Collection, *, cache_texts: bool = True) -> None:
        """`cache_texts` as for `Index`."""
        self._thread = ThreadPoolExecutor(1, "index")
        self._index = Index(place, cache_texts=cache_texts)

    async def call(
        self,
        function: Callable[Concatenate[Index, Parameters], Answer],
        *args: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Answer:
        """Call a function with the index, or a method such as `Index.status`, in the thread."""

        def call() -> Answer:
            try:
                return function(self._index, *args, **options)
            finally:
                self._index.end_snapshot()

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Close the index and end the thread."""
        self._thread.submit(self._index.close)
        self._thread.shutdown()
