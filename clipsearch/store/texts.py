"""What is written in photos: lines as they were read, and how they are looked up."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.arrays import parts
from clipsearch.paths import join
from clipsearch.store import schema
from clipsearch.store.photo import Line

if TYPE_CHECKING:
    from clipsearch.store.tables import Tables

_SHORTEST = 3  # letters of a word that the trigrams of `words` can find


class Unread(NamedTuple):
    """An image that nobody has looked for writing in, and a file that has it."""

    image_id: int
    path: bytes
    content: bytes


def fold(text: str) -> str:
    """A text as it is compared: small letters without accents, wide letters as narrow ones, single spaces."""
    letters = unicodedata.normalize("NFKD", text)
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).casefold().split())


def conditions(reads: str) -> Iterator[tuple[str, str]]:
    """SQL that is true for the `images.id` of photos that have all words of a text in them, each with its value."""
    words = fold(reads).split()
    long = [f'"{word.replace(chr(34), chr(34) * 2)}"' for word in words if len(word) >= _SHORTEST]
    if long:
        yield "images.id IN (SELECT rowid FROM words WHERE words MATCH ?)", " AND ".join(long)
    for word in words:
        if len(word) < _SHORTEST:
            yield "images.id IN (SELECT image FROM texts WHERE instr(folded, ?))", word


def matching(lines: Iterable[Line], reads: Iterable[str]) -> list[Line]:
    """The lines that have a word of some texts in them."""
    words = [word for text in reads for word in fold(text).split()]
    return [line for line in lines if any(word in fold(line.text) for word in words)]


def put(store: Tables, image_id: int, lines: Sequence[Line]) -> None:
    """Record what is written in an image, which may be nothing."""
    written = json.dumps(lines, ensure_ascii=False, separators=(",", ":")) if lines else ""
    _insert(store, image_id, written, fold(" \n".join(line.text for line in lines)))


def of_images(store: Tables, ids: Iterable[int]) -> dict[int, list[Line]]:
    """The lines of images; those that were not read, or have none, are left out."""
    out: dict[int, list[Line]] = {}
    for part in parts(ids):
        query = f"SELECT image, lines FROM texts WHERE lines != '' AND image IN ({','.join('?' * len(part))})"
        for image, lines in store.database.execute(query, part):
            try:
                out[image] = [Line(*line) for line in json.loads(lines)]
            except (ValueError, TypeError):
                raise store.damaged() from None
    return out


def unread(store: Tables) -> list[Unread]:
    """The images of photos that nobody has looked for writing in; frames of videos are not."""
    rows = store.database.execute(
        "SELECT photos.image, roots.path, min(photos.path), content FROM photos JOIN roots ON roots.id = photos.root"
        " JOIN images ON images.id = photos.image"
        " WHERE photos.image NOT IN (SELECT image FROM texts)"
        " AND photos.image NOT IN (SELECT image FROM frames) GROUP BY photos.image"
    )
    return [Unread(image, join(root, path), content) for image, root, path, content in rows]


def copy(old: Tables, new: Tables) -> None:
    """What was read of the contents that both have."""
    query = "SELECT content, lines, folded FROM texts JOIN images ON images.id = texts.image"
    for content, lines, folded in old.database.execute(query):
        image_id = new.find_image(content)
        if image_id is not None:
            _insert(new, image_id, lines, folded)


def _insert(store: Tables, image_id: int, lines: str, folded: str) -> None:
    store.begin()
    values = (image_id, lines, folded)
    store.database.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)", (*values, schema.mark(*values)))


def is_read(store: Tables) -> bool:
    """Whether the photos of an index are looked through for writing, as `index --ocr` has asked for."""
    return bool(store.meta("reads"))


def set_read(store: Tables, reads: bool) -> None:
    """Record whether they are to be."""
    if reads != is_read(store):
        store.set_meta("reads", int(reads))


def counts(store: Tables) -> tuple[int, int]:
    """How many images were read, and how many have writing in them."""
    row = store.database.execute("SELECT count(*), count(nullif(folded, '')) FROM texts").fetchone()
    return int(row[0]), int(row[1])
