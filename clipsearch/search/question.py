"""`Question`: search terms, a filter and limits, parsed from what people type and written back as a command.

Terms are written the same way in a shell, a batch file, the page, MCP and Python: `2:dog` doubles the weight of a text,
`-people` steers away from one, `@grandma` is a concept or a person.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from clipsearch.errors import BadArgument, BadRequest
from clipsearch.images.kinds import kind_of
from clipsearch.search.reason import LOOK
from clipsearch.store.conditions import fold_line, is_unicode
from clipsearch.store.filters import EVERYTHING, FILTERS, OPTIONS, Filter, several
from clipsearch.store.order import BY_SCORE, NEWEST, Order, parse_order

__all__ = [  # includes the filters, as `cli` and `web` must not import the store
    "BY_SCORE",
    "CUT",
    "EVERYTHING",
    "FILTERS",
    "NEWEST",
    "OPTIONS",
    "STRICT",
    "TERMS",
    "Filter",
    "Limits",
    "Order",
    "Question",
    "Term",
    "image_term",
    "parse",
    "several",
    "text_terms",
]

TEXT, CONCEPT, IMAGE, PHOTO = "text", "concept", "image", "photo"
ONLY_TEXT: Final = "text"
ONLY_TAGS: Final = "tags"
ONLY_CAPTIONS: Final = "captions"
TERMS = ("text", "not", "like", "unlike")  # parameters of a URL, of terms that are complete
EVIDENCE = (LOOK, ONLY_TEXT, ONLY_TAGS, ONLY_CAPTIONS)
EMPTY = "the query is empty; enter something to look for"

# The thresholds of `--cut`, which is also the page's dividing line, and of `--strict`. Their precision and recall are
# measured by `scripts/measure_confidence.py`.
CUT, STRICT = 0.5, 0.85
DEFAULT_SIMILARITY = 0.98  # the minimum cosine of `duplicates --similar`

_MAX_TERMS, _MAX_LENGTH = 32, 2_000  # of the parameters of a URL
_ID = re.compile(r"[0-9a-f]{32}")
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):(?!\d)(.*)", re.DOTALL)  # 16:9 and 10:30 are text
_NEGATIVE = re.compile(r"(?:(?<=\s)|^)-(?=[^\W\d_]|@|(?:\d+(?:\.\d*)?|\.\d+):(?!\d))")


class Term(NamedTuple):
    """A part of a query. A negative weight steers away from it.

    If `content` is a str, `kind` tells whether it is a text, the name of a concept, the path or URL of an image, or the
    id of an indexed photo (its content hash in hex). Any other content is an image: a file as bytes, an open binary
    file, a Pillow image, or a unit row (dim,). Error messages call an image without a path `name`.
    """

    content: Any
    weight: float = 1.0
    kind: str = TEXT
    name: str = ""

    @property
    def asks_for_text(self) -> bool:
        """Whether the term is a text to find: only those have a confidence."""
        return self.kind == TEXT and isinstance(self.content, str) and self.weight > 0

    @property
    def spelling(self) -> str:
        """The term as people type it, without a minus."""
        text = f"@{self.content}" if self.kind == CONCEPT else str(self.name or self.content)
        return text if abs(self.weight) == 1 else f"{abs(self.weight):g}:{text}"


_RANGES = (("min_score", -1, "a cosine"), ("min_confidence", 0, "a probability"), ("similarity", 0, "a cosine"))


class Limits(NamedTuple):
    """How many hits to return, how good they must be, and in what order.

    `min_score` is a cosine, -1 to 1; `min_confidence` a probability, 0 to 1. `unique` groups copies and returns the
    best file; with `similarity`, a cosine, it also groups photos whose embeddings are at least that close. `frames`
    returns several frames of a video, not only the best. `exact` scores every embedding of a large index; otherwise
    4-bit codes preselect candidates. `sort` is `score`, `date`, `name`, `path` or `size`, or such as `-date` for the
    reverse. It orders the k best hits; without terms, it decides which photos are the first k. `with_self` also finds
    the indexed photos that are terms, and their identical copies. `only` restricts what counts as a match: `look`
    (CLIP), `text` in the photo, `tags` (keywords, people, title, caption, place, names), or generated `captions`.
    """

    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    unique: bool = False
    similarity: float | None = None
    exact: bool = False
    frames: bool = False
    sort: str = BY_SCORE
    with_self: bool = False
    only: str | None = None

    @property
    def order(self) -> Order | None:
        """The order other than by score. Raises `BadArgument`."""
        return parse_order(self.sort)

    def check(self, terms: Sequence[Term]) -> None:
        """Raise `BadArgument` if a value is out of range, or needs other terms."""
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadArgument("k", f"must be a whole number of at least 1, not {self.k!r}")
        parse_order(self.sort)
        if self.only is not None and self.only not in EVIDENCE:
            raise BadArgument("only", f"must be {', '.join(EVIDENCE[:-1])} or {EVIDENCE[-1]}, not {self.only!r}")
        if self.only not in (None, LOOK) and not any(term.asks_for_text for term in terms):
            raise BadArgument("only", f"{self.only} needs a text to look for")
        for name, least, what in _RANGES:
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and least <= value <= 1):
                raise BadArgument(name, f"must be {what}, {least} to 1, not {value!r}")
        if self.similarity is not None and not self.unique:
            raise BadArgument("similarity", "has no effect without unique")
        if self.min_score is not None and not terms:
            raise BadArgument("min_score", "needs something to look for; filters alone give no score")
        if self.min_confidence is not None and not any(term.asks_for_text for term in terms):
            raise BadArgument("min_confidence", "needs a text to look for; images and concepts have no confidence")


DEFAULT_LIMITS = Limits()


class Question(NamedTuple):
    """A search: terms, filter and limits. Without terms or another order, it asks for the newest photos."""

    terms: tuple[Term, ...] = ()
    filter: Filter = EVERYTHING
    limits: Limits = DEFAULT_LIMITS

    @property
    def asks_for_text(self) -> bool:
        """Whether a term is a text to find: only then do hits have a confidence."""
        return any(term.asks_for_text for term in self.terms)

    @property
    def texts(self) -> list[str]:
        """The texts to find and to steer away from."""
        return [str(term.content) for term in self.terms if term.kind == TEXT and isinstance(term.content, str)]

    def parameters(self) -> list[tuple[str, str]]:
        """The terms as parameters of a URL, one each: `parse` makes the same terms of them."""
        kinds = {PHOTO: ("unlike", "like")}
        return [(kinds.get(term.kind, ("not", "text"))[term.weight > 0], term.spelling) for term in self.terms]

    def all_parameters(self) -> list[tuple[str, str]]:
        """Terms, filters and limits as parameters of a URL; limits that `parse` does not read are left out."""
        limits, named = self.limits, {None: "", CUT: "1", STRICT: "strict"}
        pairs = [
            ("cut", named.get(limits.min_confidence, f"{limits.min_confidence}")),
            ("unique", "1" * limits.unique),
            ("sort", limits.sort if limits.order else ""),
            ("only", limits.only or ""),
        ]
        return [*self.parameters(), *self.filter.spelled(), *(pair for pair in pairs if pair[1])]

    def arguments(self, path_of: Callable[[str], str] = str) -> tuple[list[str], list[str]]:
        """The texts and options for `clipsearch query` that ask the same. `path_of` gives the path of a photo's id.

        `filter.files` is left out: a command line cannot list them.
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
            short = {CUT: ["--cut"], STRICT: ["--strict"]}
            options += short.get(limits.min_confidence, ["--min-confidence", f"{limits.min_confidence:g}"])
        for name, value in (("--min-score", limits.min_score), ("--similarity", limits.similarity)):
            options += [] if value is None else option(name, f"{value:g}")
        for name in ("unique", "frames", "exact", "with_self"):
            options += [f"--{name.replace('_', '-')}"] * getattr(limits, name)
        options += [] if limits.order is None else option("--sort", limits.sort)
        options += [] if limits.only is None else option("--only", limits.only)
        return texts, [*options, "-k", str(limits.k)]


def filter_arguments(filter: Filter) -> list[str]:
    """The command-line options for a filter."""
    return [word for name, text in filter.spelled() for word in option(OPTIONS[name].flag, text)]


def option(name: str, value: str) -> list[str]:
    """An option with its value: as one word if the value would look like an option itself."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


# ------------------------------------------------------------------------------------------ parsing


def text_terms(text: str, *, negative: bool = False, files: bool = False) -> list[Term]:
    """Parse a typed text, such as `2:@grandma on a beach -people`, into terms.

    A minus before a word negates the rest of the text, up to the next minus. With `files`, the path or URL of an image
    stands for that image; servers must not set it, or clients could read their files. Raises `BadRequest` if empty.
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


def with_people(question: Question, concepts: Collection[str], people: Collection[str]) -> Question:
    """Turn `@NAME` into a filter where NAME is a person and not a concept: "@Anna Maria on a beach".

    The longest name counts. Raises `BadRequest` for a name of neither, if there are people.
    """
    terms: list[Term] = []
    shown, not_shown = list(question.filter.people), list(question.filter.without_people)
    remaining = list(question.terms)
    while remaining:
        term = remaining.pop(0)
        if term.kind != CONCEPT or term.content in concepts or not people:
            terms.append(term)
            continue
        follows = bool(remaining) and remaining[0].kind == TEXT and remaining[0].weight == term.weight
        words = [term.content, *(str(remaining[0].content).split() if follows else ())]
        name = max((name for name in people if _starts_with(words, name)), key=len, default=None)
        if name is None:
            known = ", ".join(f"@{name}" for name in sorted({*concepts, *people}))
            raise BadRequest(f"there is no concept or person @{term.content}; existing ones: {known}")
        (shown if term.weight > 0 else not_shown).append(name)
        if follows:
            rest = " ".join(words[len(name.split()) :])
            remaining[:1] = [remaining[0]._replace(content=rest)] if rest else []
    filter = replace(question.filter, people=shown, without_people=not_shown)
    return question._replace(terms=tuple(terms), filter=filter)


def _starts_with(words: Sequence[str], name: str) -> bool:
    parts = name.split()
    return [fold_line(word) for word in words[: len(parts)]] == [fold_line(part) for part in parts]


def image_term(source: Any, *, negative: bool = False, name: str = "") -> Term:
    """The term for an image. A path or URL may start with a weight, unless a file with exactly that name exists."""
    weight, content = 1.0, source
    if isinstance(source, str) and not os.path.exists(source):
        weight, content = split_weight(source)
    if content == "":
        raise BadArgument("unlike" if negative else "image", "needs a name, not ''")
    return Term(content, -weight if negative else weight, IMAGE, name)


def split_weight(text: str) -> tuple[float, str]:
    """Split `2:golden retriever` into 2.0 and "golden retriever". The default weight is 1. Raises `BadRequest`."""
    match = _WEIGHT.match(text)
    if not match:
        return 1.0, text
    weight, rest = float(match[1]), match[2]
    if not 0 < weight < 1e9:
        raise BadRequest(f"the weight of {rest!r} must be more than 0" + " and less than 1e9" * (weight > 1))
    return weight, rest


def _names_an_image(text: str) -> bool:
    """Whether a text is a URL or the path of an image. A path with a slash need not exist: typos must be reported."""
    if text.startswith(("http://", "https://")):
        return True
    if "\0" in text or not os.path.splitext(text)[1] or kind_of(os.fsencode(text)) not in ("still", "raw"):
        return False
    return "/" in text or os.path.isfile(text)


def names_no_file(text: str) -> bool:
    """Whether a text that is read as words looks like the name of an image."""
    stem, suffix = os.path.splitext(text)
    is_name = bool(stem and suffix) and "\0" not in text and kind_of(os.fsencode(text)) in ("still", "raw")
    return is_name and not _names_an_image(text)


def parse(pairs: Iterable[tuple[str, str]]) -> Question:
    """Parse the parameters of a URL: `text`, `not`, `like`, `unlike`, the filters, `cut`, `unique`, `sort` and `only`.
    `q` is a text that is still being typed.

    Images are given by the ids of photos. Other parameters are ignored. Raises `BadRequest`.
    """
    pairs = [(name, value) for name, value in pairs if value.strip()]
    if any(len(value) > _MAX_LENGTH for _, value in pairs):
        raise BadRequest(f"a search term or filter can have at most {_MAX_LENGTH:,} characters")
    terms: list[Term] = []
    for name, value in pairs:
        if name in ("text", "q", "not"):
            terms += text_terms(value, negative=name == "not")
        elif name in ("like", "unlike"):
            weight, _, photo = value.rpartition(":")
            scale = split_weight(f"{weight}: ")[0] if weight else 1.0
            terms.append(Term(checked_id(photo), scale if name == "like" else -scale, PHOTO))
    if len(terms) > _MAX_TERMS:
        raise BadRequest(f"a query can have at most {_MAX_TERMS} terms")
    filter = Filter.parse((name, value) for name, value in pairs if name in OPTIONS)
    values = dict(pairs)
    limits = Limits(unique=values.get("unique") == "1", sort=values.get("sort", BY_SCORE))
    parse_order(limits.sort)
    question = Question(tuple(terms), filter, limits)
    if not question.asks_for_text:
        return question
    limits = limits._replace(min_confidence=_min_confidence(values.get("cut", "")), only=values.get("only"))
    limits.check(terms)
    return question._replace(limits=limits)


def _min_confidence(text: str) -> float | None:
    """The value of `cut`: a number, or 1 for `CUT` and strict for `STRICT`."""
    named = {"": None, "1": CUT, "strict": STRICT}
    if text in named:
        return named[text]
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise BadRequest(f"cut must be 1, strict or a confidence between 0 and 1, not {text}")
    return value


def checked_id(text: str) -> str:
    """Check that a text is a photo id: a content hash in hex. Raises `BadRequest`."""
    if not _ID.fullmatch(text):
        raise BadRequest("invalid photo id")
    return text
