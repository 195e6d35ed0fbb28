"""What the page does with selected photos. A new action is one entry of `ACTIONS`, and one in `actions.js`.

An action gets photos of the index, never paths, and uses a file only while it has the indexed contents. So the page
cannot be made to read other files of this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import BadRequest, ClipsearchError, ImageUnusable, counted
from clipsearch.index import Index
from clipsearch.indexing.people_changes import checked_name as checked_person_name
from clipsearch.output import text, trash
from clipsearch.output.archive import FOLDER, archive, check_size
from clipsearch.output.collect import collect
from clipsearch.output.pictures import open_indexed
from clipsearch.output.tags import Tagger, check_keyword
from clipsearch.paths import Collection, absolute, index_place, lies_in, relative_to
from clipsearch.search.concepts import checked_name
from clipsearch.search.hit import Photo
from clipsearch.search.question import option
from clipsearch.web.done import Done, changed, failures, some
from clipsearch.web.guard import new_token
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.limits import RateLimit, Value, keep_newest, read_body
from clipsearch.web.moved import move_away

MAX_SELECTED = 25_000
BODY_BYTES, BODY_SECONDS = 2_000_000, 30.0  # MAX_SELECTED names take 1.3 MB
_MAX_VALUE = 1_000  # characters
_MAX_DOWNLOADS = 8  # prepared ZIP archives; the oldest is forgotten
_MAX_UNDOS = 50  # actions that can be undone
_NAME = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{16}")  # `Photo.url_name`


class NotAllowed(BadRequest):
    """The server was started without the permission for this."""


class Action(NamedTuple):
    """Something to do with photos and a text that the user typed, such as the name of a folder.

    `command` is the shell command that does the same with the paths on its stdin, each ended by NUL, for a number of
    photos. Both raise `BadRequest` if the text makes no sense. An action that `deletes` needs the user's permission.
    """

    run: Callable[[Index, Sequence[Photo], str], Done]
    command: Callable[[Index, str, int], str]
    deletes: bool = False


class Actions:
    """Runs actions, one at a time, in the thread of an index of their own."""

    def __init__(self, index: IndexThread, *, allow_delete: bool = False) -> None:
        self._index, self._allow_delete = index, allow_delete
        self._rate = RateLimit("action")
        self._downloads: OrderedDict[str, Sequence[Photo]] = OrderedDict()
        self._undos: OrderedDict[str, Callable[[Index], Done]] = OrderedDict()

    async def run(self, name: str, body: AsyncIterator[bytes]) -> dict[str, str]:
        """Carry out an action. The body is that of `perform`, with the photos to use."""
        action = self._action(name)
        return await self.perform(body, lambda index, names, value: action.run(index, index.photos_named(names), value))

    async def perform(
        self, body: AsyncIterator[bytes], work: Callable[[Index, Sequence[str], str], Done]
    ) -> dict[str, str]:
        """Do something with photos. The body is JSON: `photos`, by their `url_name`s, and `value`, what was typed."""
        self._rate.check()
        names, value = _parsed(await read_body(body, "the selection", BODY_BYTES, BODY_SECONDS))
        return await self.carry_out(lambda index: work(index, names, value))

    async def carry_out(self, work: Callable[[Index], Done]) -> dict[str, str]:
        """Do something: its `message`, and tickets for `undo` and `download`."""
        done = await self._index.call(work)
        answer = {"message": done.message}
        if done.download:
            answer["download"] = _keep(self._downloads, done.download, _MAX_DOWNLOADS)
        if done.undo:
            answer["undo"] = _keep(self._undos, done.undo, _MAX_UNDOS)
        return answer

    async def undo(self, ticket: str) -> dict[str, str]:
        """Undo an action, once. Raises `BadRequest`."""
        self._rate.check()
        undo = self._undos.pop(ticket, None)
        if undo is None:
            raise BadRequest("this can no longer be undone here")
        return {"message": (await self._index.call(undo)).message}

    def download(self, ticket: str) -> Iterator[bytes]:
        """The parts of a ZIP archive that an action prepared. Raises `BadRequest`."""
        if ticket not in self._downloads:
            raise BadRequest("this download has expired; start it again")
        return archive(self._downloads[ticket])

    def command(self, index: Index, name: str, value: str, count: int) -> str:
        """The shell command of an action, as in `Action`. Raises `BadRequest`."""
        return self._action(name).command(index, _checked(value), count)

    def _action(self, name: str) -> Action:
        if name not in ACTIONS:
            raise BadRequest(f"there is no action {name}")
        if ACTIONS[name].deletes and not self._allow_delete:
            raise NotAllowed("deleting is not allowed; start the server with --allow-delete")
        return ACTIONS[name]


def _keep(cache: OrderedDict[str, Value], value: Value, most: int) -> str:
    """Keep a value, and return the ticket that a later request names it by."""
    ticket = new_token()
    keep_newest(cache, ticket, value, most)
    return ticket


def index_option(index: Index) -> list[str]:
    """`--index PATH`, or nothing for the default index."""
    return [] if index.place == index_place() else option("--index", str(index.place))


def _parsed(body: bytes) -> tuple[list[str], str]:
    try:
        request = json.loads(body)
        names, value = request["photos"], request["value"]
        is_valid = isinstance(names, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
    except (ValueError, TypeError, KeyError, RecursionError):
        is_valid = False
    if not is_valid or not isinstance(value, str):
        raise BadRequest("the request is not valid")
    if not names:
        raise BadRequest("no photo is selected")
    if len(names) > MAX_SELECTED:
        raise BadRequest(f"at most {MAX_SELECTED:,} photos can be selected")
    return names, _checked(value)


def _checked(value: str) -> str:
    if len(value) > _MAX_VALUE or "\0" in value:
        raise BadRequest(f"enter at most {_MAX_VALUE:,} characters")
    return value.strip()


# ------------------------------------------------------------------------------------------ files


def _usable(photos: Sequence[Photo]) -> tuple[list[Photo], str]:
    """The photos whose files are as they were indexed, and the end of a sentence about the others.

    Raises `BadRequest` if there are none.
    """
    usable, problems = [], []
    for photo in photos:
        try:
            open_indexed(photo).close()
            usable.append(photo)
        except ImageUnusable as error:
            problems.append(f"{photo.path.name}: {error}")
    if not usable:
        raise BadRequest(f"none of the files can be used: {some(problems)}; update the index")
    return usable, failures(problems)


def _from_stdin(index: Index, count: int, *options: str) -> list[str]:
    return ["--files-from", "-", "--from0", "-k", str(max(1, count)), *options, *index_option(index)]


# ------------------------------------------------------------------------------------------ a folder


def _copy(index: Index, photos: Sequence[Photo], folder: str) -> Done:
    return _collect(index, photos, folder, link=False)


def _link(index: Index, photos: Sequence[Photo], folder: str) -> Done:
    return _collect(index, photos, folder, link=True)


def _collect(index: Index, photos: Sequence[Photo], folder: str, *, link: bool) -> Done:
    path = destination(index, folder)
    usable, skipped = _usable(photos)
    collected = collect(usable, path, link=link, numbered=False)
    return Done(f"{'linked' if link else 'copied'} {text.photos(len(collected))} to {folder}{skipped}")


def destination(index: Index, folder: str) -> Path:
    """The folder that the user typed. Raises `BadRequest` for places where nobody keeps photos.

    It must be in the home folder or in an indexed folder, not hidden, and not in the index. A browser on another
    machine may have the page open, and must not add files to folders that configure programs or start them.
    """
    path = os.path.expanduser(folder)
    if not os.path.isabs(path):
        raise BadRequest("enter the folder as an absolute path, such as ~/Pictures/best")
    real, home = absolute(path), absolute("~")
    bases = [*(absolute(os.fsdecode(root.path)) for root in index.folders()), home]
    below = next((part for base in bases if (part := relative_to(real, base)) is not None), None)
    if below is None:
        raise BadRequest(
            f"{folder} is outside your home folder and the indexed folders; choose a folder in one of them"
        )
    if below.startswith(b".") or b"/." in below:
        raise BadRequest(f"{folder} is hidden; choose another folder")
    if not isinstance(index.place, Collection) and lies_in(real, absolute(index.place)):
        raise BadRequest(f"{folder} belongs to the index; choose another folder")
    return Path(path)


def _collect_command(name: str) -> Callable[[Index, str, int], str]:
    def command(index: Index, folder: str, count: int) -> str:
        path = str(destination(index, folder))
        return text.command("query", [], _from_stdin(index, count, *option(name, path)))

    return command


# ------------------------------------------------------------------------------------------ ZIP


def _zip(_: Index, photos: Sequence[Photo], __: str) -> Done:
    check_size(photos)
    usable, skipped = _usable(photos)
    return Done(f"downloading {text.files(len(usable))}, {text.amount(check_size(usable))}{skipped}", usable)


def _zip_command(index: Index, _: str, count: int) -> str:
    copy = text.command("query", [], _from_stdin(index, count, "--copy-to", FOLDER))
    return f"{copy} && [ ! -e {FOLDER}.zip ] && zip -0 -r {FOLDER}.zip {FOLDER}"  # zip would add to an archive


# ------------------------------------------------------------------------------------------ names and keywords


def _concept(index: Index, photos: Sequence[Photo], name: str) -> Done:
    count = index.name_photos(name, photos)
    return Done(f"@{checked_name(name)} has {text.photos(count)}")


def _concept_command(index: Index, name: str, _: int) -> str:
    return f"xargs -0 {text.command('concept', ['add', checked_name(name)], index_option(index))}"


def _person(index: Index, photos: Sequence[Photo], name: str) -> Done:
    changes = index.people_changes
    confirmed, left_out = changes.confirm_in(photos, name)
    rest = f"; left out {text.photos(left_out)} without a face or with several" if left_out else ""
    return changed(changes, f"confirmed {counted(confirmed, 'face')} of {name}{rest}")


def _person_command(index: Index, name: str, _: int) -> str:
    return f"xargs -0 {text.command('people', ['confirm', checked_person_name(name)], index_option(index))}"


def _add_keywords(_: Index, photos: Sequence[Photo], value: str) -> Done:
    keywords = _keywords(value)
    usable, skipped = _usable(photos)
    tagger, written, problems = Tagger(), 0, []
    for photo in usable:
        try:
            change = tagger.plan_addition(photo.file, keywords)
            tagger.apply(change)
            written += change.after != change.before
        except ClipsearchError as error:
            problems.append(str(error))
    unchanged = len(usable) - written - len(problems)
    sentence = f"wrote {counted(written, 'sidecar')}; {unchanged:,} already had these keywords"
    return Done(f"{sentence}{skipped}{failures(problems)}")


def _keywords_command(index: Index, value: str, _: int) -> str:
    options = ["--files-from", "-", "--from0", "--all", "--min-probability", "0", "--write-xmp"]
    return text.command("label", _keywords(value), [*options, *index_option(index)])


def _keywords(value: str) -> list[str]:
    keywords = list(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
    if not keywords:
        raise BadRequest("enter a keyword")
    for keyword in keywords:
        check_keyword(keyword)
    return keywords


# ------------------------------------------------------------------------------------------ the trash


def _trash(index: Index, photos: Sequence[Photo], _: str) -> Done:
    trash.check_supported()
    files = {photo.file: photo for photo in photos}  # a video once, whichever of its frames were found
    return move_away(index, trash.trash(files.values()), "the trash", trash.restore)


def _trash_command(_: Index, __: str, ___: int) -> str:
    return "xargs -0 gio trash --"


ACTIONS = {
    "copy": Action(_copy, _collect_command("--copy-to")),
    "link": Action(_link, _collect_command("--link-to")),
    "zip": Action(_zip, _zip_command),
    "concept": Action(_concept, _concept_command),
    "person": Action(_person, _person_command),
    "keywords": Action(_add_keywords, _keywords_command),
    "trash": Action(_trash, _trash_command, deletes=True),
}
