"""The people of an index: names for groups of faces, in `people.json` in the index folder.

A group of faces has a number. Most groups exist only in the catalogue; one is recorded here as a `Person` as soon as
somebody says something about it: its name, that it is hidden, which faces are sure to be in it and which are not. Faces
are recorded by content, box and unit row, so names survive a rebuild, another face model and moved files.
"""

from __future__ import annotations

import base64
import contextlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest, PeopleDamaged
from clipsearch.images.box import Box
from clipsearch.store.conditions import fold_line
from clipsearch.store.json_file import CheckedFile, checksum, locked

_MAX_NAME = 100  # characters
_MAX_CHANGES = 100  # that can be undone


class KnownFace(NamedTuple):
    """A face that somebody confirmed or rejected: the hash of its photo's contents, its box, its unit row.

    `row` is 16-bit floats; `model` is the fingerprint of the face model that made it. Both are empty while the index
    does not look for faces.
    """

    content: bytes
    box: Box
    model: str
    row: bytes


@dataclass(frozen=True, slots=True)
class Person:
    """A group of faces that somebody named or changed; `confirmed` and `rejected` are the ids of known faces."""

    number: int
    name: str | None = None
    hidden: bool = False
    confirmed: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The name or, without one, the number."""
        return self.name or str(self.number)


class _State(NamedTuple):
    """What a change can change. `forgotten` are names that the metadata of photos may not give to faces again."""

    people: Mapping[int, Person]
    forgotten: tuple[str, ...]


class _Change(NamedTuple):
    """A change that can be undone, and the state of what it changed before; None for a person that it created."""

    title: str
    time: str
    people: Mapping[int, Person | None]
    forgotten: tuple[str, ...]


class People:
    """The people of an index as of the last read. Methods that change them must be called inside `changing`."""

    _state: _State
    _faces: dict[int, KnownFace]
    _history: list[_Change]

    def __init__(self, folder: Path) -> None:
        """Raises `PeopleDamaged` or `IndexUnusable`."""
        self._file = _file(folder)
        self._read()

    # -------------------------------------------------------------------------------- reading

    def all(self) -> list[Person]:
        """By number."""
        return [self._state.people[number] for number in sorted(self._state.people)]

    def get(self, number: int) -> Person | None:
        return self._state.people.get(number)

    def named(self, name: str) -> Person | None:
        """The person with a name, in any case."""
        wanted = fold_line(name)
        return next((one for one in self.all() if one.name and fold_line(one.name) == wanted), None)

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(one.name for one in self.all() if one.name)

    def faces(self, ids: Iterable[int]) -> list[KnownFace]:
        """Known faces by their ids."""
        return [self._faces[face] for face in ids]

    def known(self) -> list[tuple[int, KnownFace]]:
        """All known faces with their ids."""
        return list(self._faces.items())

    def can_be_added(self, name: str) -> bool:
        """Whether metadata may add a person with this name: it is valid, new, and was not forgotten."""
        try:
            folded = fold_line(checked_name(name))
        except BadRequest:
            return False
        return self.named(name) is None and folded not in map(fold_line, self._state.forgotten)

    @property
    def version(self) -> int:
        """A number that changes with every change."""
        return self._version

    @property
    def last_change(self) -> str | None:
        """The title of the change that `undo` would undo."""
        return self._history[-1].title if self._history else None

    @property
    def largest_number(self) -> int:
        """The largest number in use, also by people that `undo` would bring back."""
        past = (number for change in self._history for number in change.people)
        return max((0, *self._state.people, *past))

    # -------------------------------------------------------------------------------- changing

    @contextlib.contextmanager
    def changing(self, title: str) -> Iterator[None]:
        """Lock and reload the file, then write what the block changed as one change. Raises `IndexUnusable`.

        Without a title, the change cannot be undone.
        """
        with locked(self._file.path):
            self._read()
            before, faces = self._state, dict(self._faces)
            try:
                yield
                if title and self._state != before:
                    self._remember(title, before)
                if self._state != before or self._faces != faces:
                    self._write()
            except BaseException:
                self._state, self._faces = before, faces
                raise

    def name(self, number: int, name: str, faces: Sequence[KnownFace]) -> Person:
        """Name a person and confirm faces; returns the person. Raises `BadRequest` if another has the name."""
        name = checked_name(name)
        other = self.named(name)
        if other is not None and other.number != number:
            raise BadRequest(f"{other.name} exists already as number {other.number}; merge the two instead")
        folded = fold_line(name)
        forgotten = tuple(one for one in self._state.forgotten if fold_line(one) != folded)
        self._state = self._state._replace(forgotten=forgotten)
        self._put(replace(self._person(number), name=name))
        return self.confirm(number, faces)

    def confirm(self, number: int, faces: Sequence[KnownFace]) -> Person:
        """Record faces as those of a person, and of no other."""
        ids = self._ids(faces)
        for other in self.all():
            if other.number != number and ids & set(other.confirmed):
                self._put(replace(other, confirmed=_without(other.confirmed, ids)))
        person = self._person(number)
        confirmed = tuple(dict.fromkeys((*person.confirmed, *sorted(ids))))
        return self._put(replace(person, confirmed=confirmed, rejected=_without(person.rejected, ids)))

    def reject(self, number: int, faces: Sequence[KnownFace]) -> Person:
        """Record that faces are not those of a person."""
        ids, person = self._ids(faces), self._person(number)
        rejected = tuple(dict.fromkeys((*person.rejected, *sorted(ids))))
        return self._put(replace(person, confirmed=_without(person.confirmed, ids), rejected=rejected))

    def merge(self, into: int, other: int) -> Person:
        """Make one person of two. The first keeps its number and, if it has one, its name."""
        first, second = self._person(into), self._person(other)
        people = {number: one for number, one in self._state.people.items() if number != other}
        self._state = self._state._replace(people=people)
        confirmed = tuple(dict.fromkeys((*first.confirmed, *second.confirmed)))
        rejected = _without(dict.fromkeys((*first.rejected, *second.rejected)), set(confirmed))
        return self._put(replace(first, name=first.name or second.name, confirmed=confirmed, rejected=rejected))

    def hide(self, number: int, hidden: bool, faces: Sequence[KnownFace]) -> Person:
        """Hide a person, or show it again. `faces` are those of a group that is not recorded yet."""
        self.confirm(number, faces)
        return self._put(replace(self._person(number), hidden=hidden))

    def forget(self, number: int) -> None:
        people = dict(self._state.people)
        name = people.pop(number).name
        self._state = _State(people, (*self._state.forgotten, name) if name else self._state.forgotten)

    def undo(self, title: str | None = None) -> str:
        """Undo the last change; returns its title. Raises `BadRequest` if there is none, or if it has another title."""
        if not self._history:
            raise BadRequest("there is nothing to undo")
        if title not in (None, self.last_change):
            raise BadRequest(f"there is a later change, which must be undone first: {self.last_change}")
        change = self._history.pop()
        people = {**self._state.people, **change.people}
        self._state = _State({number: one for number, one in people.items() if one is not None}, change.forgotten)
        return change.title

    def refresh(self, faces: Mapping[int, KnownFace]) -> None:
        """Replace what is recorded of known faces, such as rows by another face model."""
        self._faces.update(faces)

    def delete_rows(self) -> None:
        """Delete the rows of all known faces from the file and its backup. Names stay with contents and boxes."""
        with locked(self._file.path):
            if self._file.exists():
                self._read()
                self._faces = {number: face._replace(model="", row=b"") for number, face in self._faces.items()}
                self._write()

    def _person(self, number: int) -> Person:
        return self._state.people.get(number) or Person(number)

    def _put(self, person: Person) -> Person:
        self._state = self._state._replace(people={**self._state.people, person.number: person})
        return person

    def _ids(self, faces: Iterable[KnownFace]) -> set[int]:
        """The ids of faces, recorded now if they were not before."""
        known = {(face.content, face.box): number for number, face in self._faces.items()}
        out = set()
        for face in faces:
            number = known.setdefault((face.content, face.box), max(self._faces, default=0) + 1)
            self._faces.setdefault(number, face)
            out.add(number)
        return out

    def _remember(self, title: str, before: _State) -> None:
        changed = {
            number: before.people.get(number)
            for number in {*before.people, *self._state.people}
            if before.people.get(number) != self._state.people.get(number)
        }
        now = datetime.now().isoformat(timespec="seconds")
        self._history = [*self._history, _Change(title, now, changed, before.forgotten)][-_MAX_CHANGES:]

    # -------------------------------------------------------------------------------- file

    def _read(self) -> None:
        value = self._file.read()
        self._version = 0 if value is None else checksum(value)
        stored = value or {"faces": {}, "people": [], "forgotten": [], "history": []}
        try:
            people = map(_person_from, stored["people"])
            self._state = _State({one.number: one for one in people}, tuple(stored["forgotten"]))
            self._faces = {int(number): _face_from(face) for number, face in stored["faces"].items()}
            self._history = [_change_from(change) for change in stored["history"]]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._file.damaged() from None

    def _write(self) -> None:
        kept = [*self._state.people.values()]
        kept += [one for change in self._history for one in change.people.values() if one is not None]
        used = {face for one in kept for face in (*one.confirmed, *one.rejected)}
        value = {
            "people": [_person_to(one) for one in self.all()],
            "forgotten": list(self._state.forgotten),
            "faces": {str(number): _face_to(face) for number, face in self._faces.items() if number in used},
            "history": [_change_to(change) for change in self._history],
        }
        self._file.write(value)
        self._version = checksum(value)


def restore(folder: Path) -> bool:
    """As `CheckedFile.restore`."""
    return _file(folder).restore()


def checked_name(name: str) -> str:
    """A name with single spaces. Raises `BadRequest` if it is not valid: a number would name a group."""
    bare = unicodedata.normalize("NFC", " ".join(name.split()))
    is_number = bare.removeprefix("#").isdecimal()
    if not bare or len(bare) > _MAX_NAME or not bare.isprintable() or bare[0] in "-@" or is_number:
        raise BadRequest(
            f"{name!r} is not a valid name; use at most {_MAX_NAME} characters, not only digits, the first not - or @"
        )
    return bare


def _file(folder: Path) -> CheckedFile:
    return CheckedFile(folder, "people", PeopleDamaged)


def _without(ids: Iterable[int], removed: set[int]) -> tuple[int, ...]:
    return tuple(one for one in ids if one not in removed)


def _person_to(person: Person) -> dict[str, Any]:
    return {
        "number": person.number,
        "name": person.name,
        "hidden": person.hidden,
        "confirmed": list(person.confirmed),
        "rejected": list(person.rejected),
    }


def _person_from(one: dict[str, Any]) -> Person:
    number, name = one["number"], one["name"]
    if not isinstance(number, int) or not isinstance(name, str | None):
        raise TypeError
    confirmed, rejected = (tuple(map(int, one[key])) for key in ("confirmed", "rejected"))
    return Person(number, name, bool(one["hidden"]), confirmed, rejected)


def _face_to(face: KnownFace) -> dict[str, Any]:
    row = base64.b64encode(face.row).decode()
    return {"content": face.content.hex(), "box": list(face.box), "model": face.model, "row": row}


def _face_from(one: dict[str, Any]) -> KnownFace:
    row = base64.b64decode(one["row"])
    return KnownFace(bytes.fromhex(one["content"]), Box(*map(float, one["box"])), str(one["model"]), row)


def _change_to(change: _Change) -> dict[str, Any]:
    people = {str(number): None if one is None else _person_to(one) for number, one in change.people.items()}
    return {"title": change.title, "time": change.time, "people": people, "forgotten": list(change.forgotten)}


def _change_from(one: dict[str, Any]) -> _Change:
    people = {int(number): None if was is None else _person_from(was) for number, was in one["people"].items()}
    return _Change(str(one["title"]), str(one["time"]), people, tuple(one["forgotten"]))
