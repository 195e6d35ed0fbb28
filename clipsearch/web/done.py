"""What an action reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from clipsearch.index import Index
from clipsearch.indexing.people_changes import Changes
from clipsearch.output import text
from clipsearch.search.hit import Photo

_MAX_NAMED = 5  # files that could not be used


class Done(NamedTuple):
    """What an action did, as a sentence; the photos to download, if that is what it prepared; how to undo it, if so."""

    message: str
    download: Sequence[Photo] = ()
    undo: Callable[[Index], Done] | None = None


def failures(problems: Sequence[str]) -> str:
    """The end of a sentence about files that were skipped; empty without any."""
    return f"; skipped {text.files(len(problems))}: {some(problems)}" if problems else ""


def some(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = f" and {len(problems) - _MAX_NAMED:,} more" if len(problems) > _MAX_NAMED else ""
    return text.printable(", ".join(problems[:_MAX_NAMED])) + more


def changed(changes: Changes, message: str) -> Done:
    """A change of people that was made. It can be undone while it is the last one."""
    title = changes.title
    return Done(f"{message}{_note(changes)}", undo=None if title is None else lambda index: _undo(index, title))


def _undo(index: Index, title: str) -> Done:
    changes = index.people_changes
    return Done(f"undid: {changes.undo(title)}{_note(changes)}")


def _note(changes: Changes) -> str:
    return "; another process is updating the index, and the change shows when it is done" if changes.pending else ""
