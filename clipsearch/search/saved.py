"""Saved searches: names for questions, in `saved.json` in the index folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipsearch.errors import BadArgument, BadRequest, SavedDamaged
from clipsearch.search.question import CONCEPT, IMAGE, OPTIONS, PHOTO, TEXT, Filter, Limits, Question, Term
from clipsearch.store.json_file import CheckedFile, locked

_MAX_SEARCHES, _MAX_NAME, _MAX_BYTES = 500, 100, 4 << 20
_KINDS = (TEXT, CONCEPT, IMAGE, PHOTO)
_FOLDERS = ("under", "not_under")  # filters


class SavedSearches:
    """The saved searches of an index. Each call reads the file, so it sees what other processes saved."""

    def __init__(self, folder: Path) -> None:
        self._file = _file(folder)

    def all(self) -> dict[str, Question]:
        """Every question by its name, sorted by name. Raises `IndexUnusable` if the file is damaged."""
        return dict(sorted(self._read().items()))

    def question(self, name: str) -> Question:
        """Raises `BadRequest` if there is no such search."""
        saved = self.all()
        if name not in saved:
            raise BadRequest(f"there is no saved search {name!r}; existing ones: {', '.join(saved) or 'none'}")
        return saved[name]

    def save(self, name: str, question: Question) -> None:
        """Save a question, in place of one with the same name. Raises `BadRequest` if it cannot be saved."""
        name, kept = checked_name(name), _from_anywhere(question)
        with self._changing() as saved:
            saved[name] = kept
            if len(saved) > _MAX_SEARCHES:
                raise BadRequest(f"there are {_MAX_SEARCHES} saved searches already; delete one first")

    def remove(self, name: str) -> None:
        """Delete a saved search. Raises `BadRequest` if there is no such search."""
        self.question(name)
        with self._changing() as saved:
            saved.pop(name, None)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Question]]:
        """Lock and read the file, then write what the block changed."""
        with locked(self._file.path):
            saved = self._read()
            yield saved
            value = {name: _to_json(saved[name]) for name in sorted(saved)}
            if len(json.dumps(value)) > _MAX_BYTES:
                raise BadRequest(f"saved searches can have at most {_MAX_BYTES:,} bytes; delete one first")
            self._file.write(value)

    def _read(self) -> dict[str, Question]:
        try:
            return {checked_name(name): _from_json(search) for name, search in (self._file.read() or {}).items()}
        except (BadRequest, ValueError, TypeError, KeyError, AttributeError):
            raise self._file.damaged() from None


def restore(folder: Path) -> bool:
    """As `CheckedFile.restore`."""
    return _file(folder).restore()


def _file(folder: Path) -> CheckedFile:
    return CheckedFile(folder, "saved", SavedDamaged, unchecked=True)


def checked_name(name: str) -> str:
    """The name of a saved search without spaces around it. Raises `BadRequest` if it is not valid."""
    bare = name.strip()
    if not bare or len(bare) > _MAX_NAME or bare.startswith("-") or not bare.isprintable():
        raise BadRequest(
            f"{name!r} is not a valid name for a search; use at most {_MAX_NAME} characters, the first not a minus"
        )
    return bare


def _from_anywhere(question: Question) -> Question:
    """The question with absolute paths, so that it means the same in every working directory."""
    if question.filter.files is not None:
        raise BadArgument("files_from", "cannot be saved: only queries and other filters can")
    folders = {name: [_absolute(folder) for folder in getattr(question.filter, name)] for name in _FOLDERS}
    return question._replace(terms=tuple(map(_saved_term, question.terms)), filter=replace(question.filter, **folders))


def _saved_term(term: Term) -> Term:
    if not isinstance(term.content, str):
        raise BadRequest("a query with an uploaded image or one from stdin cannot be saved; use an indexed photo")
    if term.kind == IMAGE and not term.content.startswith(("http://", "https://")):
        return term._replace(content=_absolute(term.content), name="")
    return term


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _to_json(question: Question) -> dict[str, Any]:
    usual = Limits()._asdict()
    return {
        "terms": [{"kind": one.kind, "content": one.content, "weight": one.weight} for one in question.terms],
        "filters": question.filter.spelled(),
        "limits": {name: value for name, value in question.limits._asdict().items() if value != usual[name]},
    }


def _from_json(search: dict[str, Any]) -> Question:
    """Raises `BadRequest`, `ValueError`, `TypeError`, `KeyError` or `AttributeError` for anything else."""
    terms = tuple(Term(one["content"], one["weight"], one["kind"]) for one in search["terms"])
    for term in terms:
        if not (isinstance(term.content, str) and term.content and term.kind in _KINDS and _is_weight(term.weight)):
            raise ValueError
    filters = [(option, text) for option, text in search["filters"]]
    if not all(option in OPTIONS and isinstance(text, str) for option, text in filters):
        raise ValueError
    limits = Limits(**search["limits"])
    for name, usual in Limits._field_defaults.items():
        if isinstance(usual, bool) and not isinstance(getattr(limits, name), bool):
            raise ValueError
    limits.check(terms)
    return Question(terms, Filter.parse(filters), limits)


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < abs(weight) < 1e9
