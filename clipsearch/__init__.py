"""Find photos in local folders by what is in them.

import clipsearch

index = clipsearch.open_index()
report = clipsearch.update_index(index, ["~/Pictures"])
for hit in index.query("a dog on a beach", k=10):
    print(hit.score, hit.path)
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import ClipsearchError
from clipsearch.paths import index_folder

if TYPE_CHECKING:
    from clipsearch.indexing.update import OnNote, OnProgress, Progress, Report
    from clipsearch.search.query import Hit
    from clipsearch.store.filters import Circle, Filter

__all__ = ["Circle", "ClipsearchError", "Filter", "Hit", "Index", "Progress", "Report", "open_index", "update_index"]


def __getattr__(name: str) -> Any:
    """The result types, imported when they are asked for: with them comes NumPy."""
    homes = {
        "Circle": "store.filters",
        "Filter": "store.filters",
        "Hit": "search.query",
        "Progress": "indexing.update",
        "Report": "indexing.update",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"clipsearch.{homes[name]}"), name)


@dataclass(frozen=True, slots=True)
class Index:
    """An index by the folder that it lies in; the folder need not exist before the first `update_index`."""

    folder: Path

    def query(
        self,
        *texts: str,
        images: Sequence[str | os.PathLike[str]] = (),
        without: Sequence[str] = (),
        k: int = 10,
        under: str | os.PathLike[str] | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        unique: float | None = None,
        where: Filter | None = None,
    ) -> list[Hit]:
        """The `k` photos nearest to the sum of the texts and images, less `without`; best first.

        A text may begin with a weight, as in "2:golden retriever". `min_confidence` (0 to 1) also has the confidence of
        each hit computed; `unique` is the cosine from which on photos are folded into a better one; `where` are other
        conditions. Raises a `ClipsearchError` that says what is wrong.
        """
        from clipsearch.search.query import Searcher, image_term, text_term
        from clipsearch.store.catalogue import Store
        from clipsearch.store.filters import EVERYTHING

        terms = [text_term(text) for text in texts]
        terms += [image_term(Path(path).expanduser()) for path in images]
        terms += [text_term(text, -1) for text in without]
        with Store.open(self.folder) as store:
            chosen = (where or EVERYTHING)._replace(under=os.fspath(under)) if under else where or EVERYTHING
            return Searcher(store, chosen).query(terms, k, min_score, min_confidence, unique)


def open_index(folder: str | os.PathLike[str] | None = None) -> Index:
    """The index in a folder; without one, the user's own: `CLIPSEARCH_INDEX` or the data folder."""
    return Index(index_folder(folder))


def update_index(
    index: Index,
    directories: Sequence[str | os.PathLike[str]] = (),
    *,
    on_progress: OnProgress | None = None,
    on_note: OnNote = warnings.warn,
    **options: Any,
) -> Report:
    """Index directories, or bring all that were indexed up to date; makes the index if there is none.

    `on_note` is told what a user should know, such as that another model than the default is used. `options` are
    those of `clipsearch.indexing.Options`. Raises a `ClipsearchError` that says what is wrong; photos that cannot be
    read are in `Report.skipped`.
    """
    from clipsearch.indexing import update

    return update.update_index(index.folder, directories, update.Options(**options), on_progress, on_note)
