"""Captions that a vision-language model wrote for photos, and the settings of the pass that writes them."""

from __future__ import annotations

import json
from typing import NamedTuple

from clipsearch.paths import join
from clipsearch.store.database import Database
from clipsearch.store.pending import Pending
from clipsearch.store.schema import OF_CAPTION, mark


class Captioning(NamedTuple):
    """Which model captions new photos, and the endpoint that runs it; None for a model in this program."""

    model: str
    endpoint: str | None


class Captions:
    """The captions of a catalogue's images."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def setting(self) -> Captioning | None:
        """The model that captions new photos; None if they are not captioned."""
        found = self._database.meta("captions")
        return Captioning(*json.loads(str(found))) if found else None

    def set_setting(self, setting: Captioning | None) -> None:
        """Record the model, or None to stop captioning."""
        self._database.set_meta("captions", json.dumps(setting) if setting else None)

    def count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM captions WHERE text != ''").fetchone()[0])

    def missing(self, captioner: str) -> list[Pending]:
        """The images without a caption by `captioner`: first those without any, then those indexed last."""
        rows = self._database.execute(
            "SELECT photos.image, roots.path, min(photos.path), images.content, time"
            " FROM photos JOIN roots ON roots.id = photos.root JOIN images ON images.id = photos.image"
            " LEFT JOIN captions ON captions.image = photos.image LEFT JOIN frames ON frames.image = photos.image"
            " WHERE captioner IS NOT ? GROUP BY photos.image"
            " ORDER BY captioner IS NOT NULL, photos.image DESC",
            (captioner,),
        )
        return [Pending(image, join(root, path), *others) for image, root, path, *others in rows]

    def put(self, image_id: int, text: str, captioner: str) -> None:
        """Record a caption; empty if the model wrote nothing, or the photo cannot be read."""
        self._database.begin()
        values = (image_id, text, captioner)
        # Not INSERT OR REPLACE, which would leave the old words in the full-text index.
        self._database.execute("DELETE FROM captions WHERE image = ?", (image_id,))
        self._database.execute("INSERT INTO captions VALUES (?, ?, ?, ?)", (*values, mark(*values)))

    def copy_to(self, other: Database) -> None:
        """Copy the captions of contents that another catalogue has, too."""
        copied = Captions(other)
        query = (
            "SELECT content, text, captioner FROM captions JOIN images ON images.id = captions.image"
            f" WHERE captions.mark = mark({OF_CAPTION})"
        )
        for content, text, captioner in self._database.execute(query):
            row = other.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
            if row is not None:
                copied.put(row[0], text, captioner)
