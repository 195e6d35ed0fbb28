"""A question as a value: what to look for, among which photos, and how many. Its parser and its speller.

People write terms the same way in a shell, a batch file, the page, MCP and Python: `2:dog` weighs a text, `-people`
steers away from one, `@grandma` names a concept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images.kinds import kind_of
from clipsearch.store.filters import EVERYTHING, FILTERS, OPTIONS, Filter, several

__all__ = [  # the filters too: commands and the page get them from here, not from the store
    "CUT",
    "EVERYTHING",
    "FILTERS",
    "OPTIONS",
    "Filter",
    "Limits",
    "Question",
    "Term",
    "image_term",
    "parse",
    "several",
    "text_terms",
]

TEXT, CONCEPT, IMAGE, PHOTO = "text", "concept", "image", "photo"
EMPTY = "the query is empty; say what to look for"

# The minimum confidence of `--cut` and of the page's dividing line. Measured with mini by `scripts/measure_mini.py`:
# 61% of what is kept is right, and 44% of what is right is kept. F1 is the same from 0.70 to 0.76.
CUT = 0.75

_MOST_TERMS, _LONGEST = 32, 2_000
_ID = re.compile(r"[0-9a-f]{32}")
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):(?!\d)(.*)", re.DOTALL)  # 16:9 and 10:30 are words
_NEGATIVE = re.compile(r"(?:(?<=\s)|^)-(?=[^\W\d_]|@|(?:\d+(?:\.\d*)?|\.\d+):(?!\d))")


class Term(NamedTuple):
    """One part of a query. A negative weight steers away from it.

    `kind` says what a str in `content` is: a text, a concept's name, an image's path or URL, or the id of an indexed
    photo (its content hash in hex). Any other content is an image: the bytes of a file, an open binary file, a Pillow
    image, or a unit row (dim,). `name` is for messages.
    """

    content: Any
    weight: float = 1.0
    kind: str = TEXT
    name: str = ""

    @property
    def asks_for_text(self) -> bool:
        """Whether photos must show a text, so that there is a confidence that they do."""
        return self.kind == TEXT and isinstance(self.content, str) and self.weight > 0

    @property
    def spelling(self) -> str:
        """As people write it, without its sign."""
        text = f"@{self.content}" if self.kind == CONCEPT else str(self.name or self.content)
        return text if abs(self.weight) == 1 else f"{abs(self.weight):g}:{text}"


_RANGES = (("min_score", -1, "a cosine"), ("min_confidence", 0, "a probability"), ("similarity", 0, "a cosine"))


class Limits(NamedTuple):
    """How many hits are wanted and which are good enough.

    `min_score` is a cosine, -1 to 1; `min_confidence` a probability, 0 to 1. `unique` folds copies into the best of
    them and, with `similarity`, a cosine, also photos whose embeddings are that near to a better hit's. With `frames` a
    video may be found at several times, not only by its best frame. `exact` scores every embedding of a large index;
    otherwise 4-bit codes preselect candidates.
    """

    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    unique: bool = False
    similarity: float | None = None
    exact: bool = False
    frames: bool = False

    def check(self, terms: Sequence[Term]) -> None:
        """Raise `BadArgument` if the limits make no sense for these terms."""
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadArgument("k", f"must be a whole number of at least 1, not {self.k!r}")
        for name, least, what in _RANGES:
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and least <= value <= 1):
                raise BadArgument(name, f"must be {what}, {least} to 1, not {value!r}")
        if self.similarity is not None and not self.unique:
            raise BadArgument("similarity", "has no effect without unique")
        if self.min_score is not None and not terms:
            raise BadArgument("min_score", "needs something to look for: without it there is no score")
        if self.min_confidence is not None and not any(term.asks_for_text for term in terms):
            raise BadArgument("min_confidence", "is about texts; images and concepts have no confidence")


DEFAULT_LIMITS = Limits()


class Question(NamedTuple):
    """What is asked of an index. Without terms, the newest photos that pass the filter come first."""

    terms: tuple[Term, ...] = ()
    filter: Filter = EVERYTHING
    limits: Limits = DEFAULT_LIMITS

    @property
    def asks_for_text(self) -> bool:
        """Whether photos must show a text, so that hits have a confidence."""
        return any(term.asks_for_text for term in self.terms)

    def arguments(self, path_of: Callable[[str], str] = str) -> tuple[list[str], list[str]]:
        """The texts and the options of `clipsearch query` that ask the same; `path_of` gives the path of a photo's id.

        Files that the filter lists are left out: they have no option of their own.
        """
        texts: list[str] = []
        options: list[str] = []
        for term in self.terms:
            if term.kind in (TEXT, CONCEPT):
                if term.weight > 0:
                    texts.append(term.spelling)
                else:
                    options += option("--not", term.spelling)
            else:
                named = term._replace(content=path_of(term.content), kind=IMAGE) if term.kind == PHOTO else term
                options += option("--like" if term.weight > 0 else "--unlike", named.spelling)
        options += filter_arguments(self.filter)
        limits = self.limits
        if limits.min_confidence is not None:
            is_cut = limits.min_confidence == CUT
            options += ["--cut"] if is_cut else ["--min-confidence", f"{limits.min_confidence:g}"]
        for name, value in (("--min-score", limits.min_score), ("--similarity", limits.similarity)):
            options += [] if value is None else option(name, f"{value:g}")
        for name, is_set in (("--unique", limits.unique), ("--frames", limits.frames), ("--exact", limits.exact)):
            options += [name] * is_set
        return texts, [*options, "-k", str(limits.k)]


def filter_arguments(filter: Filter) -> list[str]:
    """The options that a command takes for a filter."""
    return [word for name, text in filter.spelled() for word in option(f"--{name}", text)]


def option(name: str, value: str) -> list[str]:
    """An option with its value, in one word if the value looks like another option."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


# ------------------------------------------------------------------------------------------ parsing


def text_terms(text: str, *, negative: bool = False, files: bool = False) -> list[Term]:
    """The terms of what somebody typed: `2:@grandma on a beach -people`.

    A minus before a word steers away from all that follows, up to the next one. With `files`, the path or URL of an
    image is that image; a server must not pass it, as anybody could read its files. Raises `BadRequest` without text.
    """
    if not is_unicode(text):
        raise BadRequest("the query is not UTF-8")
    if files and _names_an_image(text):
        return [image_term(text, negative=negative)]
    starts = [match.start() for match in _NEGATIVE.finditer(text)]
    parts = [text[start:end] for start, end in zip([0, *starts], [*starts, None], strict=True)]
    if starts:
        parts = [part for part in parts if part.strip()]
    terms = []
    for part in parts:
        avoids = bool(_NEGATIVE.match(part))
        terms += _terms(part[1:] if avoids else part, -1 if avoids or negative else 1)
    return terms


def _terms(text: str, sign: int) -> list[Term]:
    weight, words = split_weight(text)
    words = words.strip()
    if not words:
        raise BadRequest(EMPTY)
    if not words.startswith("@"):
        return [Term(words, sign * weight)]
    name, _, rest = words[1:].partition(" ")
    terms = [Term(name, sign * weight, CONCEPT)]
    return [*terms, Term(rest.strip(), sign * weight)] if rest.strip() else terms


def image_term(source: Any, *, negative: bool = False, name: str = "") -> Term:
    """An image to look for or to avoid; a path or URL may have a weight, unless there is a file of that very name."""
    weight, content = 1.0, source
    if isinstance(source, str) and not os.path.exists(source):
        weight, content = split_weight(source)
    if content == "":
        raise BadArgument("unlike" if negative else "image", "needs a name, not ''")
    return Term(content, -weight if negative else weight, IMAGE, name)


def split_weight(text: str) -> tuple[float, str]:
    """`2:golden retriever` as 2.0 and "golden retriever"; without a number the weight is 1. Raises `BadRequest`."""
    match = _WEIGHT.match(text)
    if not match:
        return 1.0, text
    weight, rest = float(match[1]), match[2]
    if not 0 < weight < 1e9:
        raise BadRequest(f"the weight of {rest!r} must be more than 0" + " and less than 1e9" * (weight > 1))
    return weight, rest


def is_unicode(text: str) -> bool:
    """False for bytes of another encoding, which Python keeps as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _names_an_image(text: str) -> bool:
    """Whether a text is a URL, an existing image file, or the path of one: a typo in a path must not become words."""
    if text.startswith(("http://", "https://")):
        return True
    if "\0" in text or not os.path.splitext(text)[1] or kind_of(os.fsencode(text)) not in ("still", "raw"):
        return False
    return "/" in text or os.path.isfile(text)


def parse(pairs: Iterable[tuple[str, str]]) -> Question:
    """The question in the parameters of an address: `text`, `not`, `like` and `unlike`, filters, `cut`, `unique`.

    Images are ids of photos. Other parameters are ignored. Raises `BadRequest`.
    """
    pairs = [(name, value) for name, value in pairs if value.strip()]
    if any(len(value) > _LONGEST for _, value in pairs):
        raise BadRequest("this question is too long")
    terms: list[Term] = []
    for name, value in pairs:
        if name in ("text", "not"):
            terms += text_terms(value, negative=name == "not")
        elif name in ("like", "unlike"):
            weight, _, photo = value.rpartition(":")
            scale = split_weight(f"{weight}: ")[0] if weight else 1.0
            terms.append(Term(checked_id(photo), scale if name == "like" else -scale, PHOTO))
    if len(terms) > _MOST_TERMS:
        raise BadRequest(f"a question has at most {_MOST_TERMS} terms")
    chosen = Filter.parse((name, value) for name, value in pairs if name in OPTIONS)
    named = dict(pairs)
    question = Question(tuple(terms), chosen, Limits(unique=named.get("unique") == "1"))
    if not question.asks_for_text:
        return question
    return question._replace(limits=question.limits._replace(min_confidence=_least(named.get("cut", ""))))


def _least(text: str) -> float | None:
    """The minimum confidence; 1 stands for the usual one."""
    if text in ("", "1"):
        return CUT if text else None
    try:
        least = float(text)
    except ValueError:
        least = 0
    if not 0 < least < 1:
        raise BadRequest(f"cut is 1 or a confidence between 0 and 1, not {text}")
    return least


def checked_id(text: str) -> str:
    """The id of a photo, its content hash in hex. Raises `BadRequest` for anything else."""
    if not _ID.fullmatch(text):
        raise BadRequest("this is not the id of a photo")
    return text
