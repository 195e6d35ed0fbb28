"""An index to be asked, wherever it lies."""

from __future__ import annotations

from pathlib import Path

from clipsearch.extras import cluster
from clipsearch.paths import Collection
from clipsearch.store.catalogue import Store
from clipsearch.store.searchable import Searchable


def open_index(place: Path | Collection) -> Searchable:
    """The index in a folder or in a collection.

    Raises `NoIndex`, `IndexUnusable`, `IndexOutdated`, and `BadRequest` where a package is missing.
    """
    if isinstance(place, Collection):
        opened: Searchable = cluster("open_collection")(place)
        return opened
    return Store.open(place)
