"""Search local photo folders by content.

    import clipsearch

    with clipsearch.open_index() as index:
        index.update(["~/Pictures"])
        for hit in index.query("a dog on a beach", k=10):
            print(hit.score, hit.path)

An open index keeps its model loaded and always sees the latest commit of other processes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipsearch.errors import ClipsearchError
from clipsearch.index import Index, open_index

if TYPE_CHECKING:
    from clipsearch.indexing.status import Status
    from clipsearch.indexing.update import Options, Progress, Report
    from clipsearch.search.copies import Copy
    from clipsearch.search.hit import Hit
    from clipsearch.search.label import Labelled
    from clipsearch.search.question import Limits, Question, Term
    from clipsearch.search.vqa import Vlm
    from clipsearch.store.conditions import Circle
    from clipsearch.store.filters import Filter
    from clipsearch.store.photo import Photo

_HOMES = {
    "Circle": "store.conditions",
    "Copy": "search.copies",
    "Filter": "store.filters",
    "Hit": "search.hit",
    "Labelled": "search.label",
    "Limits": "search.question",
    "Options": "indexing.update",
    "Photo": "store.photo",
    "Progress": "indexing.update",
    "Question": "search.question",
    "Report": "indexing.update",
    "Status": "indexing.status",
    "Term": "search.question",
    "Vlm": "search.vqa",
}

__all__ = [
    "Circle",
    "ClipsearchError",
    "Copy",
    "Filter",
    "Hit",
    "Index",
    "Labelled",
    "Limits",
    "Options",
    "Photo",
    "Progress",
    "Question",
    "Report",
    "Status",
    "Term",
    "Vlm",
    "__version__",
    "open_index",
]


def __getattr__(name: str) -> Any:
    """Import the public types on first use: they need NumPy, which would slow down `import clipsearch`."""
    if name == "__version__":
        from importlib.metadata import version

        return version("clipsearch")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"clipsearch.{_HOMES[name]}"), name)
