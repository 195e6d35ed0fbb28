"""An open index in a thread of its own: a connection of SQLite stays in its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from clipsearch.paths import Collection
from clipsearch.search.opened import Opened

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class Desk:
    """Answers one question after the other. What it has loaded it keeps."""

    def __init__(self, place: Path | Collection, *, keep_texts: bool = True) -> None:
        """`keep_texts`: as `Embedder` has it."""
        self._thread = ThreadPoolExecutor(1, "desk")
        self._opened = Opened(place, keep_texts=keep_texts)

    async def ask(
        self,
        function: Callable[Concatenate[Opened, Parameters], Answer],
        *args: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Answer:
        """What the function says, called with the open index in this desk's thread."""

        def answer() -> Answer:
            try:
                return function(self._opened, *args, **options)
            finally:
                self._opened.end_snapshot()

        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)

    def close(self) -> None:
        """Let go of the files."""
        self._thread.submit(self._opened.close)
        self._thread.shutdown()
