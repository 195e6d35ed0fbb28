"""Photos that were moved away, to the trash or to a folder: the index follows, and all of it can be undone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from clipsearch.errors import BadRequest, ClipsearchError, IndexLocked, counted
from clipsearch.index import Index
from clipsearch.output import text
from clipsearch.output.safe_move import Move
from clipsearch.paths import Collection, relative_to
from clipsearch.web.done import Done, failures


def move_away(
    index: Index, moves: Iterable[Move], place: str, restore: Callable[[Sequence[Move]], Iterable[Move]]
) -> Done:
    """Carry out `moves` and remove the moved files from the index. `restore` puts back those that were moved.

    Raises `BadRequest` if every file stays.
    """
    done, problems = _carried_out(moves)
    moved = [one for one in done if one.moved]
    if not moved:
        raise BadRequest(f"nothing was moved{failures(problems)}" if problems else "there is nothing to move")
    note = _follow(index, lambda: index.forget_gone([one.source for one in moved]))
    message = f"moved {_amounts(moved)} to {place}{failures(problems)}{note}"
    return Done(message, undo=lambda index: _put_back(index, restore(moved)))


def _put_back(index: Index, moves: Iterable[Move]) -> Done:
    done, problems = _carried_out(moves)
    moved = [one for one in done if one.moved and one.target]
    if not moved:
        raise BadRequest(f"nothing was moved back{failures(problems)}")
    note = _follow(index, lambda: index.update(_folders(index, moved)))
    return Done(f"moved {_amounts(moved)} back{failures(problems)}{note}")


def _folders(index: Index, moved: Sequence[Move]) -> list[str]:
    """The folders to index again, or none, for all: one behind a link would be indexed as a new folder."""
    folders = {os.path.realpath(os.path.dirname(one.target)) for one in moved if one.target}
    roots = [root.path for root in index.folders()]
    is_inside = all(any(relative_to(folder, root) is not None for root in roots) for folder in folders)
    return sorted(map(os.fsdecode, folders)) if is_inside else []


def _carried_out(moves: Iterable[Move]) -> tuple[list[Move], list[str]]:
    """The moves that were tried, and why files stay. An error ends the moves; those before it count."""
    done: list[Move] = []
    problems = []
    try:
        done.extend(moves)
    except ClipsearchError as error:
        problems.append(str(error))
    for one in done:
        if not one.moved:
            problems.append(f"{os.fsdecode(os.path.basename(one.source))}: {one.reason}")
    return done, problems


def _amounts(moves: Sequence[Move]) -> str:
    sidecars = sum(one.is_sidecar for one in moves)
    files = text.files(len(moves) - sidecars)
    more = f" and {counted(sidecars, 'sidecar')}" if sidecars else ""
    return f"{files}{more} ({text.amount(sum(one.size for one in moves))})"


def _follow(index: Index, update: Callable[[], object]) -> str:
    """Bring the index up to date; returns the end of a sentence if it could not be."""
    if isinstance(index.place, Collection):  # results leave out files that are gone
        return ""
    try:
        update()
    except IndexLocked:  # by `watch` or `index`, which notice the change
        return ""
    except ClipsearchError as error:
        return f"; the index was not updated: {error}"
    return ""
