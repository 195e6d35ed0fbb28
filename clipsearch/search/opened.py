"""An index that stays open from one question to the next, with its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import NoIndex
from clipsearch.paths import Collection
from clipsearch.search.embed import Embedder
from clipsearch.search.query import Searcher
from clipsearch.store.catalogue import CATALOGUE
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.opening import open_index
from clipsearch.store.searchable import Searchable

if TYPE_CHECKING:
    from clipsearch.search.where import Finder


class Opened:
    """The store and the model of an index, opened when they are first needed and kept until `close`.

    What others write is seen, also an index that was deleted and made again. It belongs to one thread, as a connection
    of SQLite does.
    """

    def __init__(self, place: Path | Collection, *, keep_texts: bool = True) -> None:
        """`keep_texts`: as `Embedder` has it."""
        self.place, self._keep_texts = place, keep_texts
        self._store: Searchable | None = None
        self._file: tuple[int, int] | None = None
        self._embedder: Embedder | None = None
        self._finder: tuple[Embedder, Finder] | None = None

    def store(self) -> Searchable:
        """The index as it is at this moment. Raises `NoIndex` and `IndexUnusable`."""
        file = None if isinstance(self.place, Collection) else _catalogue(self.place)
        if self._store is None or file != self._file:
            self._close_store()
            self._store, self._file = open_index(self.place), file
        else:
            self._store.refresh()
        return self._store

    def version(self) -> tuple[object, ...]:
        """Another value after each change of the index."""
        return self._file, self.store().version()

    def embedder(self) -> Embedder:
        """The model of the index, loaded once; another one when the index was made anew with another."""
        store = self.store()
        if self._embedder is None or not self._embedder.serves(store):
            self._embedder = Embedder(store, keep_texts=self._keep_texts)
        return self._embedder

    def searcher(self, where: Filter = EVERYTHING) -> Searcher:
        """Asks about the photos that pass a filter. Raises `IndexEmpty`, `BadArgument` and `NotIndexed`."""
        embedder = self.embedder()
        return Searcher(embedder.store, where, embedder)

    def finder(self) -> Finder:
        """Says where something is in photos, with the model of the index and a process that goes on decoding."""
        embedder = self.embedder()
        if self._finder is None or self._finder[0] is not embedder:
            from clipsearch.search.where import Finder

            finder = Finder(embedder)
            self._close_finder()
            self._finder = embedder, finder
        return self._finder[1]

    def end_snapshot(self) -> None:
        """Let go of the moment of the catalogue that was seen: one that is held keeps a writer's log growing."""
        if self._store is not None:
            self._store.end_snapshot()

    def close(self) -> None:
        """Let go of the files and of the model."""
        self._close_store()
        self._close_finder()
        self._embedder = None

    def _close_finder(self) -> None:
        if self._finder is not None:
            self._finder[1].__exit__()
        self._finder = None

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None


def _catalogue(folder: Path) -> tuple[int, int]:
    """The file itself: one that was deleted and made again has its name and is another."""
    try:
        status = os.stat(folder / CATALOGUE)
    except OSError:
        raise NoIndex(f"there is no index at {folder} yet") from None
    return status.st_dev, status.st_ino
