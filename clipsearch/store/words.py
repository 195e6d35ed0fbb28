"""The words of a query, and how they are recognised in tags, names and text read by OCR."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

from clipsearch.store.conditions import fold

# They say nothing about what a photo must have; "a photo of a dog" is about "dog".
_STOP_WORDS = frozenset(
    """a an and are as at be by for from her his in into is it its me my near of on or our over that the their these
    this those to under with der die das ein eine und mit im am le la les un une des du de et el los las una y con
    image images photo photograph photographs photos pic pics picture pictures""".split()  # noqa: SIM905
)
_STEM = 6  # letters from which on a word is also found inside others: OCR drops spaces, and German compounds
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"
_TRIGRAM = 3


class Word(NamedTuple):
    """A word of a query.

    `spelling` is what was typed, in lower case; `parts` are its letters and digits, folded, without a plural s; `plain`
    is a pattern for these. `tag` finds it as a whole word, `written` also inside a longer one.
    """

    spelling: str
    parts: tuple[str, ...]
    plain: str
    tag: re.Pattern[str]
    written: re.Pattern[str]


def words_of(text: str) -> tuple[Word, ...]:
    """The distinct words that matter in a text."""
    found: dict[tuple[str, ...], Word] = {}
    for token in unicodedata.normalize("NFC", text).lower().split():
        spelling = re.sub(r"['\N{RIGHT SINGLE QUOTATION MARK}]s$", "", token)
        *parts, last = re.findall(r"[^\W_]+", fold(spelling)) or [""]
        if last and not (not parts and last in _STOP_WORDS):
            word = _word(spelling, (*parts, _singular(last)))
            found.setdefault(word.parts, word)
    return tuple(found.values())


def _word(spelling: str, parts: tuple[str, ...]) -> Word:
    plain = r"[\W_]*".join(parts)
    if not plain.isascii():  # many scripts have endings, or no spaces
        return Word(spelling, parts, plain, re.compile(_BEFORE + plain), re.compile(plain))
    plain += "(?:e?s)?" if parts[-1].isalpha() else ""
    whole = re.compile(_BEFORE + plain + _AFTER)
    return Word(spelling, parts, plain, whole, re.compile(plain) if len("".join(parts)) >= _STEM else whole)


def _singular(part: str) -> str:
    if not (part.isascii() and part.isalpha() and len(part) > 3):
        return part
    return re.sub(r"(?<=ch|sh|ss)es$|(?<=[xz])es$|(?<!s)s$", "", part)


@functools.lru_cache(maxsize=64)
def _phrase(words: tuple[Word, ...]) -> re.Pattern[str]:
    between = r"[\W_]*(?:(?:" + "|".join(sorted(_STOP_WORDS)) + r")(?:[\W_]+|$))*"
    return re.compile(
        _BEFORE + between.join(word.plain for word in words) + (_AFTER if words[-1].plain.isascii() else "")
    )


def are_a_phrase(words: tuple[Word, ...], text: str) -> bool:
    """Whether a folded text has words next to each other, in order, stop words aside: OCR may have lost the spaces."""
    return len(words) > 1 and _phrase(words).search(text) is not None


def are_in_text(words: tuple[Word, ...], text: str) -> bool:
    """Whether a folded text that OCR read has all words."""
    return all(word.written.search(text) for word in words) or are_a_phrase(words, text)


def are_only(words: tuple[Word, ...], text: str) -> bool:
    """Whether a text consists of these words."""
    theirs = words_of(text)
    return {word.parts for word in theirs} == {word.parts for word in words}


# ------------------------------------------------------------------------------------------ full-text queries


def of_tags(words: tuple[Word, ...]) -> str:
    """The FTS5 query for texts with all words, by whole tokens."""
    return " AND ".join(f"({_either_spelling(word)})" for word in words)


def _either_spelling(word: Word) -> str:
    """Tokens keep wide letters and the German sharp s, which `fold` changes."""
    typed = tuple(re.findall(r"[^\W_]+", word.spelling))
    sharp = tuple(part.replace("ss", "\N{LATIN SMALL LETTER SHARP S}") for part in word.parts)
    return " OR ".join(f"({_tokens(parts)})" for parts in dict.fromkeys((word.parts, typed, sharp)))


def _tokens(parts: tuple[str, ...]) -> str:
    *first, last = parts
    ending = f'"{last}" *'
    if last.isascii():
        ending = f'("{last}" OR "{last}s" OR "{last}es")' if last.isalpha() else f'"{last}"'
    return " AND ".join([*(f'"{part}"' for part in first), ending])


def of_text(words: tuple[Word, ...]) -> list[str]:
    """FTS5 queries on trigrams: for the whole phrase, then for all words. Empty if all words are too short."""
    pieces = [piece for word in words for piece in word.parts if len(piece) >= _TRIGRAM]
    typed = fold(" ".join(word.spelling for word in words)).replace('"', '""').replace("\0", "")
    queries = [f'"{typed}"'] if len(words) > 1 and len(typed) >= _TRIGRAM else []
    return [*queries, " AND ".join(f'"{piece}"' for piece in pieces)] if pieces else queries
