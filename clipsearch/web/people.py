"""People on the page: groups of faces, and changes to them, all of which can be undone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest, counted
from clipsearch.index import Index
from clipsearch.indexing.people_changes import Changes, FaceGroup
from clipsearch.web.actions import Actions
from clipsearch.web.done import Done, changed
from clipsearch.web.gallery import face_object, photo_object
from clipsearch.web.limits import RateLimit, read_body

PER_MINUTE = 120  # changes: keys confirm faces quickly
MAX_FACES = 400  # in one request or answer
BODY_BYTES, BODY_SECONDS = 20_000, 10.0
_MAX_GROUPS = 200  # unnamed ones in one answer


class Said(NamedTuple):
    """A change: the group, by name or number, the ids of faces, and a name."""

    group: str
    faces: list[int]
    name: str


class People:
    """Reads groups of faces, and carries out changes, one at a time, among the other actions."""

    def __init__(self, actions: Actions) -> None:
        self._actions, self._rate = actions, RateLimit("change", PER_MINUTE)

    def groups(self, index: Index) -> dict[str, Any]:
        """Named people and unnamed groups, the largest first, without those that are hidden or have a single photo.

        `single` and `hidden` count what is left out of the unnamed groups. `advice` says why there are no faces.
        """
        try:
            found = index.people()
        except BadRequest as error:  # no faces were sought, or the index is a collection
            return {"people": [], "unnamed": [], "single": 0, "hidden": 0, "advice": str(error)}
        shown = [group for group in found if not group.hidden and group.best and group.photo]
        unnamed = [group for group in shown if group.name is None]
        return {
            "people": [_group(group) for group in shown if group.name is not None],
            "unnamed": [_group(group) for group in unnamed if group.photos > 1][:_MAX_GROUPS],
            "single": sum(group.photos == 1 for group in unnamed),
            "hidden": sum(group.hidden for group in found),
            "advice": None,
        }

    def faces(self, index: Index, who: str, count: int) -> dict[str, Any]:
        """The least certain faces of a person or group, each with its photo. Raises `BadRequest`."""
        if not 0 < count <= MAX_FACES:
            raise BadRequest(f"count must be 1 to {MAX_FACES}")
        found = index.faces_of(who)
        faces = [{**face_object(face, photo), "of": photo_object(photo)} for face, photo in found[:count]]
        return {"total": len(found), "confirmed": sum(face.confirmed for face, _ in found), "faces": faces}

    async def change(self, name: str, body: AsyncIterator[bytes]) -> dict[str, str]:
        """Carry out a change, one of `CHANGES`. The body is JSON: `group`, `faces` and `name`, of which it needs some.

        The answer has a `message` and, if anything has changed, a ticket for `Actions.undo`.
        """
        if name not in CHANGES:
            raise BadRequest(f"there is no change {name}")
        self._rate.check()
        said = _parsed(await read_body(body, "the change", BODY_BYTES, BODY_SECONDS))

        def work(index: Index) -> Done:
            changes = index.people_changes
            return changed(changes, CHANGES[name](changes, said))

        return await self._actions.carry_out(work)


def _name(changes: Changes, said: Said) -> str:
    return f"named {changes.name(said.group, said.name).title}"


def _hide(changes: Changes, said: Said) -> str:
    person = changes.hide(said.group)
    return f"hid {person.name or f'group {person.number}'}"


def _confirm(changes: Changes, said: Said) -> str:
    count = _count(said)
    return f"{count} confirmed: {changes.confirm(said.faces, said.name).title}"


def _reject(changes: Changes, said: Said) -> str:
    count = _count(said)
    changes.reject(said.faces, said.name)
    return f"{count} rejected: not {said.name}"


def _count(said: Said) -> str:
    if not said.faces:
        raise BadRequest("no face is chosen")
    return counted(len(said.faces), "face")


CHANGES: dict[str, Callable[[Changes, Said], str]] = {
    "name": _name,
    "hide": _hide,
    "confirm": _confirm,
    "reject": _reject,
}


def _parsed(body: bytes) -> Said:
    try:
        request = json.loads(body)
        said = Said(request.get("group", ""), request.get("faces", []), request.get("name", ""))
        is_valid = isinstance(said.group, str) and isinstance(said.name, str) and isinstance(said.faces, list)
        is_valid = is_valid and all(type(face) is int and 0 < face < 1 << 63 for face in said.faces)
    except (ValueError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise BadRequest("the request is not valid")
    if len(said.faces) > MAX_FACES:
        raise BadRequest(f"at most {MAX_FACES} faces can be changed at once")
    return said


def _group(group: FaceGroup) -> dict[str, Any]:
    assert group.best
    assert group.photo
    counts = {"faces": group.faces, "photos": group.photos}
    picture = {"photo": group.photo.content.hex(), "box": group.best.box}
    return {"number": group.number, "name": group.name, **counts, **picture}
