"""The text in photos: lines as OCR read them, and how they are searched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from clipsearch.arrays import parts
from clipsearch.store.conditions import alternatives, fold
from clipsearch.store.database import Database
from clipsearch.store.pending import Pending, pending
from clipsearch.store.photo import Line
from clipsearch.store.schema import OF_TEXT, mark

_TRIGRAM = 3  # characters of the shortest word that the full-text index finds


class OcrText:
    """The text of a catalogue's images."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enabled(self) -> bool:
        """Whether updates of this index read the text in photos."""
        return bool(self._database.meta("reads"))

    def enable(self, reads: bool) -> None:
        """Record whether updates read the text in photos."""
        if reads != self.enabled():
            self._database.set_meta("reads", int(reads))

    def counts(self) -> tuple[int, int]:
        """The number of images that were read, and of those with text."""
        row = self._database.execute("SELECT count(*), count(nullif(folded, '')) FROM texts").fetchone()
        return int(row[0]), int(row[1])

    def unread(self) -> list[Pending]:
        """The images of photos that have not been read; videos never are."""
        return pending(self._database, "texts")

    def put(self, image_id: int, lines: Sequence[Line]) -> None:
        """Record the lines in an image; there may be none."""
        written = json.dumps(lines, ensure_ascii=False, separators=(",", ":")) if lines else ""
        self._insert(image_id, written, fold(" \n".join(line.text for line in lines)))

    def copy_to(self, other: Database) -> None:
        """Copy the text of contents that another catalogue has, too."""
        copied = OcrText(other)
        query = (
            "SELECT content, lines, folded FROM texts JOIN images ON images.id = texts.image"
            f" WHERE texts.mark = mark({OF_TEXT})"
        )
        for content, lines, folded in self._database.execute(query):
            row = other.execute("SELECT id FROM images WHERE content = ?", (content,)).fetchone()
            if row is not None:
                copied._insert(row[0], lines, folded)

    def _insert(self, image_id: int, lines: str, folded: str) -> None:
        self._database.begin()
        values = (image_id, lines, folded)
        # Not INSERT OR REPLACE, which would leave the old words in the full-text index.
        self._database.execute("DELETE FROM texts WHERE image = ?", (image_id,))
        self._database.execute("INSERT INTO texts VALUES (?, ?, ?, ?)", (*values, mark(*values)))

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        """The lines of images, or of the photos that they are parts of; those without text are left out."""
        out: dict[int, list[Line]] = {}
        for part in parts(ids):
            query = (
                f"SELECT images.id, lines, texts.mark = mark({OF_TEXT})"
                " FROM images LEFT JOIN frames ON frames.image = images.id"
                " CROSS JOIN texts ON texts.image = coalesce(frames.whole, images.id)"
                f" WHERE lines != '' AND images.id IN ({','.join('?' * len(part))})"
            )
            for image, lines, is_sound in self._database.execute(query, part):
                if not is_sound:
                    raise self._database.damaged()
                try:
                    out[image] = lines_from(lines)
                except (ValueError, TypeError):
                    raise self._database.damaged() from None
        return out


def lines_from(written: str) -> list[Line]:
    """The lines that `OcrText.put` has written as JSON."""
    return [Line(*line) for line in json.loads(written)] if written else []


def conditions(reads: str) -> Iterator[tuple[str, str]]:
    """SQL conditions on `images.id`, each with its value, that hold for photos with all words of a text in them."""
    words = fold(reads).split()
    long = [f'"{word.replace(chr(34), chr(34) * 2)}"' for word in words if len(word) >= _TRIGRAM]
    if long:
        yield "images.id IN (SELECT rowid FROM words WHERE words MATCH ?)", " AND ".join(long)
    for word in words:
        if len(word) < _TRIGRAM:
            yield "images.id IN (SELECT image FROM texts WHERE instr(folded, ?))", word


def matching(lines: Iterable[Line], reads: Iterable[str]) -> list[Line]:
    """The lines with a word of some texts in them; each may be `coffee OR tea`."""
    words = [word for text in reads for one in alternatives(text) for word in fold(one).split()]
    return [line for line in lines if any(word in fold(line.text) for word in words)]
