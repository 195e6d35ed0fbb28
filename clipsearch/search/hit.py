"""A search result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.images.metadata import Metadata
from clipsearch.store.photo import Photo

if TYPE_CHECKING:
    from clipsearch.search.where import Where
    from clipsearch.store.texts import Line


class Hit(NamedTuple):
    """A photo that was found.

    `score` is the cosine between its embedding and the query's, -1 to 1, or None without a query. `confidence` is the
    probability, 0 to 1, that it shows the query's texts, if that was asked for. `similar` are the photos folded into
    it, `same_file` other paths of its file. `where` is the part that the query is about, and `lines` the lines of text
    that matched, if they were asked for.
    """

    rank: int
    score: float | None
    photo: Photo
    confidence: float | None = None
    similar: tuple[Photo, ...] = ()
    same_file: tuple[bytes, ...] = ()
    where: Where | None = None
    lines: tuple[Line, ...] | None = None

    @property
    def path(self) -> Path:
        """Absolute path; bytes that are not text are surrogates, as in Python's own file names."""
        return Path(os.fsdecode(self.photo.path))

    @property
    def metadata(self) -> Metadata:
        """Size in pixels, time, camera and place."""
        return self.photo.metadata
