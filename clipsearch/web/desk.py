"""One open index and its encoders, in a thread of their own: a connection of SQLite stays in its thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from clipsearch.errors import NoIndex
from clipsearch.search.embed import Embedder
from clipsearch.search.query import Searcher
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.filters import EVERYTHING, Filter

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class Desk:
    """Answers one question after the other. What it has loaded it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "desk")
        self._store: Store | None = None
        self._file: tuple[int, int] | None = None
        self._embedder: Embedder | None = None

    async def ask(
        self,
        function: Callable[Concatenate[Desk, Parameters], Answer],
        *args: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Answer:
        """What the function says, called with this desk in its thread."""

        def answer() -> Answer:
            try:
                return function(self, *args, **options)
            finally:  # a moment of the catalogue that is held keeps a writer's log of changes growing
                if self._store is not None:
                    self._store.commit()

        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)

    def close(self) -> None:
        """Let go of the files."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    # -------------------------------------------------------------------------------- in the thread

    def store(self) -> Store:
        """The index as it is at this moment. Raises `NoIndex` and `IndexUnusable`."""
        file = self._catalogue()
        if self._store is None or file != self._file:
            self._close()
            self._store, self._file = Store.open(self.folder), file
        else:
            self._store.renew()
        return self._store

    def version(self) -> tuple[object, ...]:
        """Another value after each change of the index."""
        return self._file, self.store().version()

    def embedder(self) -> Embedder:
        """The model of the index; another one when it was made anew with another."""
        store = self.store()
        if self._embedder is None or not self._embedder.serves(store):
            self._embedder = Embedder(store)
        return self._embedder

    def searcher(self, where: Filter = EVERYTHING) -> Searcher:
        """Asks about the photos that pass a filter. Raises `IndexEmpty`, `BadArgument` and `NotIndexed`."""
        embedder = self.embedder()
        return Searcher(embedder.store, where, embedder)

    def _catalogue(self) -> tuple[int, int]:
        """The file itself: one that was deleted and made again has its name and is another."""
        try:
            status = os.stat(self.folder / CATALOGUE)
        except OSError:
            raise NoIndex(f"there is no index at {self.folder} yet") from None
        return status.st_dev, status.st_ino

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None
