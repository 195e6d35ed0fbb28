"""A question as an address has it, and as a shell command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.output import text
from clipsearch.search.confidence import CUT
from clipsearch.search.query import weighted
from clipsearch.store.filters import OPTIONS, Filter

KINDS = ("text", "not", "like", "unlike")
_MOST_TERMS, _LONGEST = 32, 2_000
_ID = re.compile(r"[0-9a-f]{32}")


class Part(NamedTuple):
    """One term as it was asked: its kind of `KINDS`, its weight, and a text or the id of an image."""

    kind: str
    weight: float
    content: str

    @property
    def spelling(self) -> str:
        """As it is written with its weight before it."""
        return self.content if self.weight == 1 else f"{self.weight:g}:{self.content}"


class Question(NamedTuple):
    """What was asked: terms, the filter and how it was spelt, the least confidence if there is one, whether to fold."""

    parts: tuple[Part, ...] = ()
    where: Filter = Filter()
    spelt: tuple[tuple[str, str], ...] = ()
    cut: float | None = None
    unique: bool = False

    @property
    def is_about_text(self) -> bool:
        """Whether photos are to show a text, so that there is a confidence."""
        return any(part.kind == "text" for part in self.parts)


def parse(pairs: Sequence[tuple[str, str]]) -> Question:
    """The question of an address; parameters of other names say something else. Raises `BadRequest`."""
    if any(len(value) > _LONGEST for _, value in pairs):
        raise BadRequest("this is too long for a question")
    parts = tuple(_part(kind, value) for kind, value in pairs if kind in KINDS and value.strip())
    if len(parts) > _MOST_TERMS:
        raise BadRequest(f"a question has at most {_MOST_TERMS} terms")
    spelt = tuple((name, value) for name, value in pairs if name in OPTIONS and value.strip())
    where = Filter.parse(spelt)
    named = dict(pairs)
    question = Question(parts, where, spelt, unique=named.get("unique") == "1")
    return question._replace(cut=_least(named.get("cut", ""))) if question.is_about_text else question


def _least(spelling: str) -> float | None:
    """The confidence from which on photos are shown: 1 says the usual one."""
    if spelling in ("", "1"):
        return CUT if spelling else None
    try:
        least = float(spelling)
    except ValueError:
        least = 0
    if not 0 < least < 1:
        raise BadRequest(f"cut is 1 or a confidence between 0 and 1, not {spelling}")
    return least


def _part(kind: str, value: str) -> Part:
    if kind in ("text", "not"):
        weight, content = weighted(value)
        return Part(kind, weight, content.strip())
    weight, content = weighted(value) if ":" in value else (1.0, value)
    return Part(kind, weight, checked_id(content))


def checked_id(spelling: str) -> str:
    """The id of a photo, the hash of its contents in hex. Raises `BadRequest` for what is none."""
    if not _ID.fullmatch(spelling):
        raise BadRequest("this is no photo's id")
    return spelling


def command(question: Question, index: str | None, path_of: Callable[[str], str], count: int) -> str:
    """The same question for a shell; `path_of` gives the file of an image's id, `index` a folder to be named."""
    words: list[str] = []
    texts = [part.spelling for part in question.parts if part.kind == "text"]
    for part in question.parts:
        if part.kind == "not":
            words += _option("--not", part.spelling)
        elif part.kind in ("like", "unlike"):
            words += _option(f"--{part.kind}", part._replace(content=path_of(part.content)).spelling)
    for name, value in question.spelt:
        words += _option(f"--{name}", value)
    if question.cut is not None:
        words += ["--cut"] if question.cut == CUT else ["--min-confidence", f"{question.cut:g}"]
    words += ["--unique"] * question.unique + ["-k", str(count)]
    return _quoted("query", texts, words, index)


def label_command(labels: Sequence[str], question: Question, index: str | None, photo: str | None) -> str:
    """The command that labels one photo, by its path, or counts the labels of all that pass the filter."""
    if photo is not None:
        words = [*_option("--image", photo), "--all"]
    elif question.parts:
        words = ["--counts", "--files-from", "-", "--from0"]
    else:
        words = ["--counts", *(word for name, value in question.spelt for word in _option(f"--{name}", value))]
    return _quoted("label", labels, words, index)


def index_command(index: str | None) -> str:
    """The command that makes an index, of folders that are for the reader to name."""
    return "clipsearch index ~/Pictures" + ("" if index is None else f" --index {text.quoted(index)}")


def _quoted(verb: str, arguments: Sequence[str], options: Sequence[str], index: str | None) -> str:
    """A line for a shell. Arguments that look like options come last, after a --."""
    dashed = [argument for argument in arguments if argument.startswith("-")]
    words = ["clipsearch", verb, *(argument for argument in arguments if argument not in dashed), *options]
    words += _option("--index", index) if index is not None else []
    return " ".join(text.quoted(word) for word in [*words, *(["--", *dashed] if dashed else [])])


def _option(name: str, value: str) -> list[str]:
    """An option with its value, in one word where the value would be taken for another option."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
