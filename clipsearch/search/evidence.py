"""Evidence, besides the look, that a photo matches a text: OCR text, caption, tags, people, place and names.

A photo has evidence for a text if all of its significant words are in the photo's text, in its generated caption, or in
its tags and path. The strength decides where the photo ranks among those that look right (`fused`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from clipsearch.paths import relative_to
from clipsearch.search.hit import Hit
from clipsearch.search.question import ONLY_CAPTIONS, ONLY_TAGS, ONLY_TEXT
from clipsearch.search.reason import GENERATED_CAPTION, LOOK, NAME, Reason
from clipsearch.store.conditions import fold
from clipsearch.store.photo import Line, Photo
from clipsearch.store.searchable import Part, Searchable
from clipsearch.store.selection import Selection
from clipsearch.store.words import Word, are_a_phrase, are_in_text, are_only, words_of

# Photos with evidence that are compared, of each kind: as many as are wanted, but within these limits.
_LEAST, _MOST = 2_000, 50_000
_MOST_PARTS = 32  # of the words of a text; FTS5 refuses long queries, and longer texts are in no tags
# Matches by look before each photo with good evidence, if they are confident, or with weak evidence, if they are not.
# Measured with `scripts/measure_evidence.py`.
_SPACING, _SPACING_UNSURE = 3, 2
_LONG_LINE = 8  # words: in a longer line, words that stand apart may have nothing to do with each other


class Strength(IntEnum):
    """Where evidence puts a photo: first, among the confident matches by look, or after them."""

    WEAK = 1
    GOOD = 2
    STRONG = 3


class Match(NamedTuple):
    """Why a photo matches a text."""

    strength: Strength
    reasons: tuple[Reason, ...]


class Evidence:
    """Looks for evidence in the photos of a selection."""

    def __init__(self, store: Searchable, selection: Selection, only: str | None, wanted: int) -> None:
        """`only`: `text`, `captions` or `tags` to look at nothing else."""
        self._store, self._selection, self._only, self._most = store, selection, only, min(max(wanted, _LEAST), _MOST)

    def of(self, texts: Iterable[str]) -> list[tuple[Photo, Match]]:
        """The photos with evidence for each of some texts, as weak as for the text with the least."""
        found: dict[tuple[int, bytes], tuple[Photo, Match]] | None = None
        for text in texts:
            one = {(photo.image_id, photo.file): (photo, match) for photo, match in self._of(words_of(text))}
            found = one if found is None else {key: _both(found[key], one[key]) for key in found if key in one}
        return list((found or {}).values())

    def _of(self, words: tuple[Word, ...]) -> Iterator[tuple[Photo, Match]]:
        if not 0 < sum(len(word.parts) for word in words) <= _MOST_PARTS:
            return
        matches: dict[tuple[int, bytes], tuple[Photo, list[Match]]] = {}
        for photo, match in (*self._in_text(words), *self._in_captions(words), *self._in_tags(words)):
            matches.setdefault((photo.image_id, photo.file), (photo, []))[1].append(match)
        for photo, every in matches.values():
            yield photo, Match(max(one.strength for one in every), tuple(why for one in every for why in one.reasons))

    def _in_text(self, words: tuple[Word, ...]) -> Iterator[tuple[Photo, Match]]:
        photos = self._candidates(words, ONLY_TEXT)
        lines = self._store.lines_of(photo.image_id for photo in photos) if photos else {}
        for photo in photos:
            match = in_text(lines.get(photo.image_id, ()), words)
            if match is not None:
                yield photo, match

    def _in_captions(self, words: tuple[Word, ...]) -> Iterator[tuple[Photo, Match]]:
        for photo in self._candidates(words, ONLY_CAPTIONS):
            match = in_caption(photo.generated_caption or "", words)
            if match is not None:
                yield photo, match

    def _in_tags(self, words: tuple[Word, ...]) -> Iterator[tuple[Photo, Match]]:
        photos = self._candidates(words, ONLY_TAGS)
        roots = [root.path for root in self._selection.roots.values()]
        for photo in photos:
            path = next((below for root in roots if (below := relative_to(photo.file, root)) is not None), photo.file)
            match = in_tags(photo, path, words)
            if match is not None:
                yield photo, match

    def _candidates(self, words: tuple[Word, ...], part: Part) -> list[Photo]:
        if self._only not in (None, part):
            return []
        images = self._store.mentioning(words, self._selection, self._most, part)
        return self._store.photos_of(images, self._selection) if images else []


def in_text(lines: Sequence[Line], words: tuple[Word, ...]) -> Match | None:
    """The evidence in the lines of text of a photo. Several words are strong as a phrase or in a short line."""
    folded = [fold(line.text) for line in lines]
    whole = " ".join(folded)
    if not are_in_text(words, whole):
        return None
    counts = [sum(re.search(word.plain, text) is not None for word in words) for text in folded]
    together = [number for number, count in enumerate(counts) if count == len(words)]
    shown = together or [number for number, count in enumerate(counts) if count]
    if len(words) == 1:
        strength = Strength.GOOD
    elif are_a_phrase(words, whole) or any(len(folded[number].split()) <= _LONG_LINE for number in together):
        strength = Strength.STRONG
    else:
        strength = Strength.WEAK
    return Match(strength, tuple(Reason("text", lines[number].text) for number in shown))


def in_caption(caption: str, words: tuple[Word, ...]) -> Match | None:
    """The evidence in the caption that a model wrote. Never strong: the model may be wrong, and so may be CLIP."""
    if not words or not all(word.tag.search(fold(caption)) for word in words):
        return None
    return Match(Strength.GOOD, (Reason(GENERATED_CAPTION, caption),))


def in_tags(photo: Photo, path: bytes, words: tuple[Word, ...]) -> Match | None:
    """The evidence in what people and programs wrote about a photo, and in its path below the indexed folder.

    Several words in tags, or a tag that consists of the one word, are strong; a single word in a path is weak.
    """
    tags = _matching(_tags_of(photo), words)
    names = _matching([(NAME, part) for part in os.fsdecode(path).split("/")], words)
    reasons = tuple(Reason(kind, text) for kind, text, _ in tags)
    if _covers(tags, words):
        is_strong = len(words) > 1 or any(are_only(words, text) for _, text, _ in tags)
        return Match(Strength.STRONG if is_strong else Strength.GOOD, reasons)
    if not _covers([*tags, *names], words):
        return None
    reasons += tuple(Reason(kind, text) for kind, text, _ in names)
    return Match(Strength.GOOD if len(words) > 1 else Strength.WEAK, reasons)


_Item = tuple[str, str, list[Word]]


def _tags_of(photo: Photo) -> Iterator[tuple[str, str]]:
    of = photo.metadata
    yield from (("keyword", keyword) for keyword in photo.keywords)
    yield from (("person", person) for person in photo.people)
    for kind, text in (("title", of.title), ("caption", of.caption)):
        if text:
            yield kind, text
    yield from (("place", part.strip()) for part in (of.location or "").split(",") if part.strip())


def _matching(items: Iterable[tuple[str, str]], words: tuple[Word, ...]) -> list[_Item]:
    """The items with some of the words, each with those."""
    found = ((kind, text, fold(text)) for kind, text in items)
    every = [(kind, text, [word for word in words if word.tag.search(folded)]) for kind, text, folded in found]
    return [item for item in every if item[2]]


def _covers(items: Iterable[_Item], words: tuple[Word, ...]) -> bool:
    return {word for _, _, some in items for word in some} == set(words)


def _both(one: tuple[Photo, Match], other: tuple[Photo, Match]) -> tuple[Photo, Match]:
    photo, (strength, reasons) = one
    return photo, Match(min(strength, other[1].strength), tuple(dict.fromkeys((*reasons, *other[1].reasons))))


# ------------------------------------------------------------------------------------------ fusion


def fused(found: Mapping[Strength, Sequence[Hit]], look: Sequence[Hit], sure: int) -> list[Hit]:
    """The hits with evidence, best first, among those by look. Of the latter the first `sure` are confident matches.

    Strong evidence comes first. A photo with good evidence follows each third confident match, and the others come
    before the matches that are not confident. Among these, every third photo has weak evidence. `why` of a hit has
    "look" if its look alone puts it that far up.
    """
    good, weak = iter(found.get(Strength.GOOD, ())), iter(found.get(Strength.WEAK, ()))
    order = [
        *found.get(Strength.STRONG, ()),
        *_interleaved(look[:sure], good, _SPACING),
        *good,
        *islice(weak, 1),
        *_interleaved(look[sure:], weak, _SPACING_UNSURE),
        *weak,
    ]
    why = {hit.photo.file: hit.why for hits in found.values() for hit in hits}
    rank = {hit.key: number for number, hit in enumerate(look)}
    out: dict[tuple[bytes, float | None], Hit] = {}
    for hit in order:
        if hit.key not in out:
            reasons = why.get(hit.photo.file, ())
            by_look = [Reason(LOOK)] if rank.get(hit.key, len(order)) <= len(out) or not reasons else []
            out[hit.key] = hit._replace(why=(*reasons, *by_look))
    return list(out.values())


def _interleaved(look: Sequence[Hit], others: Iterator[Hit], spacing: int) -> Iterator[Hit]:
    for number, hit in enumerate(look, 1):
        yield hit
        if number % spacing == 0:
            yield from islice(others, 1)
