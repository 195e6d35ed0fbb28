"""Photos whose tags, names, text or captions have the words of a query: candidates, found by full-text indexes."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from clipsearch.store import words as full_text
from clipsearch.store.database import Database
from clipsearch.store.selection import Clause, Selection
from clipsearch.store.words import Word

_MOST_READ = 10_000  # photos whose text is compared: a short word is part of many others
_TAGS = "keywords people named title caption location"
_OF_IMAGE = (
    "CROSS JOIN images ON images.id = found CROSS JOIN photos INDEXED BY photos_image ON photos.image = images.id"
)


class Mentions:
    """The full-text indexes of a catalogue. Images of a file with several (frames, parts) are all listed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def in_tags(self, words: tuple[Word, ...], chosen: Selection, most: int) -> list[int]:
        """Images of a selection with all words in tags, then in tags and path together."""
        query = full_text.of_tags(words)
        found = "SELECT rowid AS found FROM tags WHERE tags MATCH ?"
        photos = "CROSS JOIN photos ON photos.id = found CROSS JOIN images ON images.id = photos.image"
        images: dict[int, None] = {}
        for match in (f"{{{_TAGS}}} : ({query})", query):
            if len(images) < most:
                images.update(dict.fromkeys(self._images(Clause(found, (match,)), photos, chosen, most)))
        return list(images)[:most]

    def in_captions(self, words: tuple[Word, ...], chosen: Selection, most: int) -> list[int]:
        """Images of a selection with all words in their generated caption."""
        found = "SELECT rowid AS found FROM caption_words WHERE caption_words MATCH ?"
        return list(dict.fromkeys(self._images(Clause(found, (full_text.of_tags(words),)), _OF_IMAGE, chosen, most)))

    def in_text(self, words: tuple[Word, ...], chosen: Selection, most: int) -> list[int]:
        """Images of a selection with all words in the text that was read in them."""
        images: dict[int, None] = {}
        for candidates in _with_text(words):
            if len(images) < most:
                found = Clause("SELECT value AS found FROM json_each(?)", (json.dumps(self._read(candidates, words)),))
                images.update(dict.fromkeys(self._images(found, _OF_IMAGE, chosen, most)))
        return list(images)[:most]

    def _read(self, candidates: Clause, words: tuple[Word, ...]) -> list[int]:
        query = f"SELECT found, (SELECT folded FROM texts WHERE image = found) FROM ({candidates.sql})"
        rows = self._execute(query, candidates.values)
        return [image for image, text in rows if text and full_text.are_in_text(words, text)]

    def _images(self, found: Clause, photos: str, chosen: Selection, most: int) -> list[int]:
        query = (
            f"SELECT coalesce(frames.image, photos.image) FROM ({found.sql}) {photos}"
            f" LEFT JOIN frames ON frames.whole = photos.image WHERE {chosen.holds.sql} LIMIT ?"
        )
        values = (*found.values, *chosen.holds.values, most)
        return [image for (image,) in self._execute(query, values)]

    def _execute(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # a full-text index can be made again
            raise self._database.damaged() from None


def _with_text(words: tuple[Word, ...]) -> list[Clause]:
    matches = full_text.of_text(words)
    sql = f"SELECT rowid AS found FROM words WHERE words MATCH ? LIMIT {_MOST_READ}"
    if matches:
        return [Clause(sql, (match,)) for match in matches]
    # Trigrams do not find words of one or two letters. In Chinese most words are.
    short = [part for word in words for part in word.parts if not part.isascii()]
    scan = f"SELECT image AS found FROM texts WHERE instr(folded, ?) LIMIT {_MOST_READ}"
    return [Clause(scan, (short[0],))] if short else []
