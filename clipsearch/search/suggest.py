"""Suggestions for a text that is being typed: filters and terms that its parts could mean."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.store import gazetteer, periods
from clipsearch.store.conditions import Circle, fold, kilometres
from clipsearch.store.dates import spell_date
from clipsearch.store.facets import Facets
from clipsearch.store.filters import parse_circle
from clipsearch.store.places import towns_called

_MOST, _MOST_OF_A_KIND = 8, 3
_MOST_WORDS = 12  # of a text: the last ones
_MOST_IN_A_DATE, _MOST_IN_A_TOWN = 4, 3  # words
_SHORTEST, _SHORTEST_TOWN = 2, 3  # letters of a name
_MOST_TOWNS = 500  # that are compared with the places of photos
_KINDS = ("after", "person", "near", "under", "camera", "keyword")  # the first comes first
_NOT_NAMES = ("rating",)  # facets whose values are not typed
_END = "\U0010ffff"

_WORD = re.compile(r"[^\W_]+")
_AVOIDED = re.compile(r"(?:(?<=\s)|^)-(?=[^\W\d_])([^-@]{2,})$")
_CONCEPT = re.compile(r"(?:(?<=\s)|^)(-?)@([\w.-]*)$")
_LINKS = frozenset(
    ["in", "at", "on", "near", "from", "of", "with", "during", "by"]
)  # words before a name that leave with it


class Suggestion(NamedTuple):
    """A part of a text as a filter or a term.

    `pairs` are parameters of a URL, as `question.parse` takes them; `rest` is the text without that part. `detail` says
    what the label leaves open, `photos` how many photos pass the filter, None if not counted.
    """

    label: str
    detail: str
    pairs: tuple[tuple[str, str], ...]
    rest: str
    photos: int | None = None


class _Name(NamedTuple):
    option: str
    value: str
    label: str
    detail: str
    words: tuple[str, ...]
    photos: int


class _Word(NamedTuple):
    """A word as it is compared, and the number of the typed word that it is in."""

    folded: str
    number: int


class _Found(NamedTuple):
    """A suggestion, the first and the last word of its part of the text, and how many letters that has.

    `from_start`: the text has the beginning of the name, not only of a later word.
    """

    suggestion: Suggestion
    first: int
    last: int
    letters: int
    from_start: bool = True

    @property
    def option(self) -> str:
        return self.suggestion.pairs[0][0]

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        """What explains more of the text comes first; dates stay in their order."""
        photos = 0 if self.option == "after" else self.suggestion.photos or 0
        return -self.letters, not self.from_start, _order(self.option), -photos

    def lies_in(self, other: _Found) -> bool:
        """Whether another one explains the same words and more."""
        return (
            other.first <= self.first
            and self.last <= other.last
            and (self.first, self.last) != (other.first, other.last)
        )


class Suggester:
    """Finds suggestions among the facets of an index."""

    def __init__(self, facets: Facets) -> None:
        self.facets = facets
        self._names = list(_names(facets))
        self._index = sorted(
            (word, place, number) for number, name in enumerate(self._names) for place, word in enumerate(name.words)
        )

    def suggestions(
        self, text: str, concepts: Callable[[], Iterable[str]], now: datetime | None = None
    ) -> list[Suggestion]:
        """At most eight, the best first. `concepts`, which gives the names of concepts, is called only for @."""
        if match := _CONCEPT.search(text):
            names = (name for name in concepts() if name.startswith(match[2]))
            return [_term(f"@{name}", text[: match.start()], negative=bool(match[1])) for name in names][:_MOST]
        out = []
        if match := _AVOIDED.search(text):
            out.append(_term(match[1].strip(), text[: match.start()], negative=True))
        every, typing = text.split(), not text[-1:].isspace()
        before, words = every[:-_MOST_WORDS], every[-_MOST_WORDS:]
        parts = [
            _Word(part, number)
            for number, word in enumerate(words)
            if not word.startswith(("-", "@"))
            for part in _WORD.findall(fold(word))
        ]
        found = [
            *self._dates(words, now or datetime.now(), typing=typing),
            *self._named(parts, typing=typing),
            *self._towns(parts, typing=typing),
        ]
        best: list[_Found] = []
        for one in sorted(found, key=lambda one: one.rank):
            of_kind = sum(other.option == one.option for other in best)
            if of_kind < _MOST_OF_A_KIND and not any(one.lies_in(other) for other in best):
                best.append(one)
                rest = " ".join([*before, *_without(words, one.first, one.last)])
                out.append(one.suggestion._replace(rest=rest))
        return out[:_MOST]

    # -------------------------------------------------------------------------------- names

    def _named(self, parts: Sequence[_Word], *, typing: bool) -> Iterator[_Found]:
        """Names that the end of a text begins, and those that are in it as a whole."""
        matches: dict[int, tuple[int, int, int, bool]] = {}  # by name: the end of `_Found`
        for first in range(len(parts)):
            for number, place, count in self._starting(parts, first, typing=typing):
                is_whole = place == 0 and count == len(self._names[number].words)
                if is_whole or first + count == len(parts):
                    letters = sum(len(one.folded) for one in parts[first : first + count])
                    match = (letters, first, first + count - 1, place == 0)
                    matches[number] = max(match, matches.get(number, match))
        taken: set[tuple[str, ...]] = set()  # names of people are often keywords, too
        for number, (letters, first, last, from_start) in sorted(matches.items()):
            name = self._names[number]
            if name.option != "keyword" or name.words not in taken:
                taken.add(name.words)
                found = Suggestion(name.label, name.detail, ((name.option, name.value),), "", name.photos)
                yield _Found(found, parts[first].number, parts[last].number, letters, from_start)

    def _starting(self, parts: Sequence[_Word], first: int, *, typing: bool) -> Iterator[tuple[int, int, int]]:
        """Names with the words from `first` on: their number, the place of the first word, and how many words."""
        word, last = parts[first].folded, len(parts) - 1 if typing else len(parts)
        if len(word) < _SHORTEST and word.isascii():
            return
        start = bisect_left(self._index, (word,))
        end = bisect_left(self._index, (word + (_END if first == last else "\0"),))
        for _, place, number in self._index[start:end]:
            words, count = self._names[number].words[place:], 1
            while count < len(words) and first + count < len(parts):
                typed = parts[first + count].folded
                if not (words[count].startswith(typed) if first + count == last else words[count] == typed):
                    break
                count += 1
            yield number, place, count

    # -------------------------------------------------------------------------------- dates and places

    def _dates(self, words: Sequence[str], now: datetime, *, typing: bool) -> Iterator[_Found]:
        years = sorted({int(month[:4]) for month in self.facets.months if month > "1900"}, reverse=True)
        taken: set[int] = set()
        for first, last in _spans(len(words), _MOST_IN_A_DATE):
            if taken & set(range(first, last + 1)):
                continue
            text = " ".join(words[first : last + 1])
            for period in periods.periods(text, now, years, typing=typing and last == len(words) - 1):
                photos = self._photos_in(period)
                if photos or re.search(r"\d{4}|last |this ", text.lower()):  # others are those that have photos
                    pairs = (("after", spell_date(period.start)), ("before", spell_date(period.end)))
                    is_of_months = period.start.day == period.end.day == 1
                    found = Suggestion(period.title, period.detail, pairs, "", photos if is_of_months else None)
                    taken |= set(range(first, last + 1))
                    yield _Found(found, first, last, len(text))

    def _photos_in(self, period: periods.Period) -> int:
        """The photos in the months of a period."""
        first, end = (f"{moment:%Y-%m-%d}" for moment in (period.start, period.end))
        return sum(count for month, count in self.facets.months.items() if first[:7] <= month and f"{month}-01" < end)

    def _towns(self, parts: Sequence[_Word], *, typing: bool) -> Iterator[_Found]:
        """Towns near which photos were taken."""
        if not (len(self.facets.positions) and gazetteer.is_available()):
            return
        known: set[str] = set()
        for first, last in _spans(len(parts), _MOST_IN_A_TOWN):
            text = " ".join(part.folded for part in parts[first : last + 1])
            if len(text) < _SHORTEST_TOWN:
                continue
            for title, photos in self._with_photos(text, typing=typing and last == len(parts) - 1):
                if title not in known:
                    known.add(title)
                    found = Suggestion(title, "within 10 km", (("near", title),), "", photos)
                    yield _Found(found, parts[first].number, parts[last].number, len(text))

    def _with_photos(self, name: str, *, typing: bool) -> Iterator[tuple[str, int]]:
        try:
            towns = towns_called(name, _MOST_TOWNS, typing=typing)
        except BadRequest:  # the table cannot be built
            return
        found: list[Circle] = []
        for town in towns:
            place = Circle(town.latitude, town.longitude)
            is_part = any((kilometres(*place[:2], *other[:2]) or 0) < other.km for other in found)  # a district
            if is_part or not self.facets.photos_near(place):
                continue
            try:
                circle = parse_circle(town.title)
            except BadRequest:  # a name that has to be spelled another way
                continue
            if photos := self.facets.photos_near(circle):
                found.append(circle)
                yield town.title, photos
            if len(found) == _MOST_OF_A_KIND:
                return


def _names(facets: Facets) -> Iterator[_Name]:
    """Names of folders and of all other facets, those of people before keywords."""
    options = [option for option in facets.values if option not in _NOT_NAMES]
    for option in sorted(options, key=_order):
        for value, photos in facets.values[option].items():
            if words := tuple(_WORD.findall(fold(value))):
                yield _Name(option, value, value, "", words, photos)
    for folder, photos, _ in facets.folders.values():
        try:
            path = folder.decode("utf-8")
        except UnicodeDecodeError:  # no URL can have it
            continue
        parent, name = os.path.split(path)
        if words := tuple(_WORD.findall(fold(name))):
            yield _Name("under", path, name, f"in {parent}", words, photos)


def _order(option: str) -> int:
    return _KINDS.index(option) if option in _KINDS else len(_KINDS)


def _spans(count: int, most: int) -> list[tuple[int, int]]:
    """The first and last number of all runs of up to `most` things, the longest first, then from the end."""
    spans = [(first, last) for first in range(count) for last in range(first, min(count, first + most))]
    return sorted(spans, key=lambda span: (span[0] - span[1], -span[1]))


def _without(words: Sequence[str], first: int, last: int) -> list[str]:
    """The words of a text without some, and without a preposition before them."""
    kept = list(words[:first])
    while kept and kept[-1].lower() in _LINKS:
        kept.pop()
    return kept + list(words[last + 1 :])


def _term(content: str, rest: str, *, negative: bool) -> Suggestion:
    pair = ("not" if negative else "text", content)
    return Suggestion(content, "steer away" if negative else "concept", (pair,), rest.strip())
