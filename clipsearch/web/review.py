"""Reviewing duplicates: groups to decide on, and moving away what is not kept.

A review is pinned: its groups stay as they were found, whatever is indexed meanwhile. The page names the files to keep,
never those to move, so a file of each group always stays; and it can only name files of the review.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.index import Index
from clipsearch.output import quarantine, text
from clipsearch.output.undo import undo
from clipsearch.search.copies import Group
from clipsearch.search.find import LeftOut
from clipsearch.search.question import Filter, filter_arguments, option
from clipsearch.web.actions import Actions, destination, index_option
from clipsearch.web.done import Done
from clipsearch.web.gallery import photo_object
from clipsearch.web.guard import new_token
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.limits import RateLimit, keep_newest
from clipsearch.web.moved import move_away

COPIES, SIMILAR = "copies", "similar"
_MAX_PART = 60  # groups in one answer
_MAX_REVIEWS = 4


class Found(NamedTuple):
    """The groups of a kind, under a filter, at a version of the index."""

    version: object
    kind: str
    filter: Filter
    groups: Sequence[Group]
    left_out: LeftOut


class Review:
    """Finds groups, in the thread of an index of its own: comparing pictures can take minutes."""

    def __init__(self, index: IndexThread, actions: Actions) -> None:
        self._index, self._actions = index, actions
        self._rate = RateLimit("review")
        self._reviews: OrderedDict[str, Found] = OrderedDict()

    async def find(self, kind: str, filter: Filter) -> dict[str, Any]:
        """Start a review, or continue one that nothing has changed. `review` is the ticket for the other methods."""
        if kind not in (COPIES, SIMILAR):
            raise BadRequest(f"the kind of duplicates must be {COPIES} or {SIMILAR}")
        self._rate.check()
        ticket = await self._index.call(self._find, kind, filter)
        found = self._reviews[ticket]
        others = [copy.photo for group in found.groups for copy in group[1:]]
        return {
            "review": ticket,
            "groups": len(found.groups),
            "copies": len(others),
            "bytes": sum(photo.size for photo in others),
            "left_out": _sentences(found.left_out),
        }

    def part(self, ticket: str, first: int, count: int) -> dict[str, Any]:
        """`count` groups of a review from number `first` on. Of copies, the first file is the one to keep."""
        if not 0 < count <= _MAX_PART:
            raise BadRequest(f"count must be 1 to {_MAX_PART}")
        groups = self._of(ticket).groups[first : first + count]
        return {"groups": [[_file(copy) for copy in group] for group in groups]}

    def command(self, index: Index, ticket: str, folder: str) -> str:
        """The shell command that moves all but the files to keep; `--keep FILE` for each of them is to follow."""
        found = self._of(ticket)
        path = _folder(index, folder)
        kind = ["--similar"] if found.kind == SIMILAR else []
        options = [*kind, *filter_arguments(found.filter), *index_option(index), *option("--move-to", path)]
        return text.command("duplicates", [], options)

    async def move(self, ticket: str, body: AsyncIterator[bytes]) -> dict[str, str]:
        """Move all but the files to keep, of the groups that have one. `body` names these, as that of an action."""
        found = self._of(ticket)

        def work(index: Index, names: Sequence[str], folder: str) -> Done:
            path = _folder(index, folder)
            files = {copy.photo.url_name: copy.photo.file for group in found.groups for copy in group}
            if not files.keys() >= set(names):
                raise BadRequest("a file to keep is not in this review; reload the page")
            groups = quarantine.with_kept(found.groups, [files[name] for name in names])
            moves = quarantine.move(groups, os.fsencode(path))
            return move_away(
                index, moves, folder, lambda done: undo(path, only={one.target for one in done if one.target})
            )

        return await self._actions.perform(body, work)

    def _find(self, index: Index, kind: str, filter: Filter) -> str:
        version = index.version()
        for ticket, found in self._reviews.items():
            if (found.version, found.kind, found.filter) == (version, kind, filter):
                return ticket
        groups = index.similar(filter=filter) if kind == SIMILAR else index.duplicates(filter=filter)
        ticket = new_token()
        keep_newest(self._reviews, ticket, Found(version, kind, filter, groups, index.left_out), _MAX_REVIEWS)
        return ticket

    def _of(self, ticket: str) -> Found:
        found = self._reviews.get(ticket)
        if found is None:
            raise BadRequest("this review has expired; reload the page")
        return found


def _folder(index: Index, folder: str) -> str:
    """Where copies may be moved to: a folder that actions may write to, outside the indexed ones."""
    path = str(destination(index, folder))
    return os.fsdecode(quarantine.destination(path, [root.path for root in index.folders()]))


def _file(copy: Any) -> dict[str, Any]:
    return {
        **photo_object(copy.photo),
        "kind": str(copy.kind),
        "similarity": round(copy.similarity, 4),
        "same_file": len(copy.same_file),
    }


def _sentences(left_out: LeftOut) -> list[str]:
    """What was not compared, and why."""
    found = [f"{sentence}." for sentence in text.not_searched(left_out.offline)]
    if left_out.unreadable:
        found.append(f"Not compared: {text.photos(sum(left_out.unreadable.values()))} in folders that cannot be read.")
    if left_out.changed:
        count = text.files(len(left_out.changed))
        found.append(f"Not compared: {count} changed since they were indexed. Run: clipsearch index")
    if left_out.damaged:
        count = text.files(len(left_out.damaged))
        found.append(f"Not compared: {count} damaged since they were indexed. Run: clipsearch index --look-again")
    return found
