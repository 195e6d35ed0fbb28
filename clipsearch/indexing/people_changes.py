"""Changes to people: name, merge, split, hide and forget groups of faces, confirm and reject faces, and undo."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from clipsearch.errors import BadRequest, IndexLocked
from clipsearch.images.box import Box, overlap
from clipsearch.images.regions import SAME_PLACE, regions_in, upright
from clipsearch.indexing.people import closest_cosines, group_faces, is_current, rows_of
from clipsearch.models.faces import SAME_PERSON
from clipsearch.store.catalogue import Store
from clipsearch.store.conditions import fold_line
from clipsearch.store.faces import Face
from clipsearch.store.people import KnownFace, People, Person, checked_name
from clipsearch.store.photo import Photo

__all__ = ["Changes", "FaceGroup", "NamedFace", "checked_name", "confirmed_faces", "faces_in", "faces_of", "groups"]

# Of the confidence: even odds between the cosines of pairs of one person and of two, 69% at the threshold.
_MIDDLE, _STEEPNESS = SAME_PERSON - 0.008, 100.0

Result = TypeVar("Result")


class FaceGroup(NamedTuple):
    """A group of faces that are probably of one person: counts, how many were confirmed, and its best face.

    `name` is None until somebody names it. `photo` is one of the photos with the best face.
    """

    number: int
    name: str | None
    hidden: bool
    faces: int
    photos: int
    confirmed: int
    best: Face | None
    photo: Photo | None


class NamedFace(NamedTuple):
    """A face, and whose it is: the group's number, its name if it has one, and how sure that is.

    `confidence` is a probability: 1 if somebody confirmed the face, or a photo program named it; None without a name.
    """

    id: int
    image: int
    box: Box
    quality: float
    number: int | None
    name: str | None
    confirmed: bool
    confidence: float | None


# ------------------------------------------------------------------------------------------ reading


def groups(store: Store) -> list[FaceGroup]:
    """All groups: those with a name first, then the largest."""
    people = People(store.folder)
    counts = {one.number: one for one in store.faces.clusters()}
    best = store.faces.get(one.best for one in counts.values())
    photos = {photo.image_id: photo for photo in store.photos_of(face.image for face in best.values())}
    out = []
    for number in {*counts, *(person.number for person in people.all())}:
        person, count = people.get(number) or Person(number), counts.get(number)
        face = best.get(count.best) if count else None
        photo = photos.get(face.image) if face else None
        about = (count.faces, count.photos) if count else (0, 0)
        out.append(FaceGroup(number, person.name, person.hidden, *about, len(person.confirmed), face, photo))
    return sorted(out, key=lambda group: (group.name is None, -group.photos, -group.faces, group.number))


def faces_of(store: Store, photo: Photo) -> list[NamedFace]:
    """The faces in a photo, from left to right."""
    faces = sorted(store.faces.of(photo.image_id), key=lambda face: face.box)
    return _described(store, People(store.folder), faces, [photo])


def faces_in(store: Store, who: str) -> list[NamedFace]:
    """The faces of a group, the least certain first, so that mistakes are found. Raises `BadRequest`."""
    people = People(store.folder)
    faces = store.faces.in_cluster(_number(store, people, who))
    described = _described(store, people, faces, store.photos_of({face.image for face in faces}))
    return sorted(described, key=lambda face: (face.confirmed, face.confidence or 0, face.id))


def confirmed_faces(store: Store) -> Iterator[tuple[Photo, list[NamedFace]]]:
    """The photos with faces or face regions, by path, and the faces in them that somebody confirmed in clipsearch."""
    people = People(store.folder)
    faces: dict[int, list[Face]] = {}
    for face in store.faces.all():
        faces.setdefault(face.image, []).append(face)
    images = faces.keys() | {image for image, _ in store.photos.with_regions()}
    photos = sorted(store.photos_of(sorted(images)), key=lambda photo: photo.file)
    for photo in photos:
        if not photo.is_video:
            named = _described(store, people, [face for face in faces.get(photo.image_id, ()) if face.person], [])
            yield photo, [face for face in named if face.confirmed]


def _described(store: Store, people: People, faces: Sequence[Face], photos: Sequence[Photo]) -> list[NamedFace]:
    """Faces with their names. Regions in the metadata of `photos` count as confirmation, too."""
    model = store.faces.model_key()
    photo_of = {photo.image_id: photo for photo in photos}
    recorded = store.faces.known(face.id for face in faces)
    known_of = functools.cache(lambda number: _Known.of(people, number, model))
    out = []
    for face in faces:
        confirmed, confidence = False, None
        if face.person and face.cluster and face.id in recorded:
            known: _Known = known_of(face.cluster)
            confirmed = known.has(recorded[face.id]) or _is_tagged(face, photo_of.get(face.image))
            confidence = 1.0 if confirmed else known.confidence(recorded[face.id].row)
        about = (face.id, face.image, face.box, face.quality, face.cluster, face.person)
        out.append(NamedFace(*about, confirmed, confidence))
    return out


class _Known(NamedTuple):
    """The confirmed faces of a person: their boxes by content, and the rows of those by the current model."""

    boxes: dict[bytes, list[Box]]
    rows: list[bytes]

    @staticmethod
    def of(people: People, number: int, model: str) -> _Known:
        person, boxes = people.get(number), dict[bytes, list[Box]]()
        faces = people.faces(person.confirmed) if person else []
        for face in faces:
            boxes.setdefault(face.content, []).append(face.box)
        return _Known(boxes, [face.row for face in faces if face.model == model])

    def has(self, face: KnownFace) -> bool:
        return any(overlap(box, face.box) >= SAME_PLACE for box in self.boxes.get(face.content, ()))

    def confidence(self, row: bytes) -> float | None:
        """The probability that a face is of this person; None if there are no rows to compare with."""
        dim = len(row) // 2
        if not self.rows:
            return None
        return probability(float(closest_cosines(rows_of([row], dim), rows_of(self.rows, dim))[0]))


def _is_tagged(face: Face, photo: Photo | None) -> bool:
    """Whether a region in the photo's metadata gives the face its name."""
    if photo is None or face.person is None:
        return False
    regions = (one for one in regions_in(photo.metadata.regions) if fold_line(one.name) == fold_line(face.person))
    return any(overlap(upright(one, photo.metadata), face.box) >= SAME_PLACE for one in regions)


def probability(cosine: float) -> float:
    """The probability that two faces are of one person, given the cosine of their rows."""
    return 1 / (1 + math.exp(_STEEPNESS * (_MIDDLE - cosine)))


def _number(store: Store, people: People, who: str) -> int:
    """The number of the group with a name or number. Raises `BadRequest`."""
    text = who.strip().removeprefix("#")
    if text.isdecimal() and len(text) < 18:
        number = int(text)
        if people.get(number) is not None or store.faces.in_cluster(number):
            return number
        raise BadRequest(f"there is no person with the number {number}")
    person = people.named(" ".join(who.split()).removeprefix("@"))
    if person is None:
        raise BadRequest(f"there is no person named {who!r}; existing names: {', '.join(people.names()) or 'none'}")
    return person.number


# ------------------------------------------------------------------------------------------ changing


class Changes:
    """Changes of people. Each is written to `people.json` at once, then applied to the catalogue.

    If another process is writing to the catalogue, it applies the change when it is done; `pending` is then true.
    `title` is that of the last change made here; None if it changed nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pending = False
        self.title: str | None = None

    def name(self, who: str, name: str) -> Person:
        """Name a group, or rename a person. A group gets an existing name by joining that person."""
        name = checked_name(name)

        def change(people: People, store: Store) -> Person:
            number, other = _number(store, people, who), people.named(name)
            if other is not None and other.number != number:
                return people.merge(other.number, number)
            return people.name(number, name, [])

        return self._change(f"name {who} {name}", change, who)

    def merge(self, into: str, others: Sequence[str]) -> Person:
        """Make one person of several groups; the first keeps its number and name."""

        def change(people: People, store: Store) -> Person:
            number = _number(store, people, into)
            for other in others:
                second = _number(store, people, other)
                if second == number:
                    raise BadRequest(f"{into} and {other} are the same person")
                people.merge(number, second)
            return people.get(number) or Person(number)

        return self._change(f"merge {into} {' '.join(others)}", change, into, *others)

    def split(self, who: str, faces: Sequence[int]) -> Person:
        """Move faces, by their ids, out of a group into a new one; returns the new one."""

        def change(people: People, store: Store) -> Person:
            number = _number(store, people, who)
            inside = {face.id for face in store.faces.in_cluster(number)}
            if strange := sorted(set(faces) - inside):
                raise BadRequest(f"{who} has no face {strange[0]}")
            if inside <= set(faces):
                raise BadRequest(f"these are all faces of {who}; leave at least one")
            known = list(store.faces.known(faces).values())
            people.reject(number, known)
            return people.confirm(_new_number(store, people), known)

        return self._change(f"split {who} {' '.join(map(str, faces))}", change, who)

    def hide(self, who: str, *, hidden: bool = True) -> Person:
        """Leave a group out of lists, or show it again. Searches still find it by its name."""

        def change(people: People, store: Store) -> Person:
            return people.hide(_number(store, people, who), hidden, [])

        return self._change(f"{'hide' if hidden else 'show'} {who}", change, who)

    def forget(self, who: str) -> Person:
        """Remove a name and everything that was said about the person; returns the person."""

        def change(people: People, store: Store) -> Person:
            person = people.get(_number(store, people, who))
            if person is None:
                raise BadRequest(f"{who} has no name to forget")
            people.forget(person.number)
            return person

        return self._change(f"forget {who}", change)

    def confirm(self, faces: Sequence[int], name: str) -> Person:
        """Say that faces, by their ids, are those of a person, who need not exist yet."""
        name = checked_name(name)

        def change(people: People, store: Store) -> Person:
            person, known = people.named(name), _existing(store, faces)
            if person is not None:
                return people.confirm(person.number, known)
            return people.name(_new_number(store, people), name, known)

        return self._change(f"confirm {' '.join(map(str, faces))} {name}", change)

    def confirm_in(self, photos: Iterable[Photo], name: str) -> tuple[int, int]:
        """Say that the only face in each photo is a person's, who need not exist yet.

        Returns the number of faces, and of photos that have none or several. Raises `BadRequest` if there is no face.
        """
        with Store.open(self._folder) as store:
            found = [store.faces.of(photo.image_id) for photo in photos]
        alone = [faces[0].id for faces in found if len(faces) == 1]
        if not alone:
            raise BadRequest("no photo has exactly one face; name the faces in the photos one by one")
        self.confirm(alone, name)
        return len(alone), len(found) - len(alone)

    def reject(self, faces: Sequence[int], who: str | None = None) -> None:
        """Say that faces, by their ids, are not those of the people whose names they have, or of this one."""

        def change(people: People, store: Store) -> None:
            _existing(store, faces)
            number = None if who is None else _number(store, people, who)
            for face in store.faces.get(faces).values():
                if number not in (None, face.cluster):
                    raise BadRequest(f"{who} has no face {face.id}")
                if face.cluster is None or people.get(face.cluster) is None:
                    raise BadRequest(f"face {face.id} has no name to reject")
                people.reject(face.cluster, list(store.faces.known([face.id]).values()))

        return self._change(f"reject {f'{who} ' if who else ''}{' '.join(map(str, faces))}", change)

    def undo(self, title: str | None = None) -> str:
        """Undo the last change; returns what it was. Raises `BadRequest` if there is none.

        With `title`, only if that is the last change, so that no change made since by another program is undone.
        """
        return self._change("", lambda people, _: people.undo(title))

    def apply_pending(self) -> None:
        """Apply changes that are not in the catalogue yet, maybe after a kill, unless another process writes to it."""
        self.pending = False
        with Store.open(self._folder) as store:
            if is_current(store):
                return
        try:
            with Store.open(self._folder, write=True) as store:
                group_faces(store)
        except IndexLocked:
            self.pending = True

    def _change(self, title: str, change: Callable[[People, Store], Result], *recorded: str) -> Result:
        """Change people. The faces of the groups `recorded` are confirmed first, so that undoing restores them."""
        self.apply_pending()
        people = People(self._folder)
        # The catalogue is opened under the lock, so that embeddings are not recorded after all faces were deleted.
        with people.changing(""), Store.open(self._folder) as store:
            for who in recorded:
                self._record(people, store, _number(store, people, who))
        before = people.last_change, people.version
        with people.changing(title), Store.open(self._folder) as store:
            result = change(people, store)
        self.title = title if (people.last_change, people.version) != before else None
        self.apply_pending()
        return result

    def _record(self, people: People, store: Store, number: int) -> None:
        """Confirm the faces of a group that has no name: from now on it consists of these."""
        person = people.get(number)
        if person is None or person.name is None:
            faces = store.faces.known(face.id for face in store.faces.in_cluster(number))
            people.confirm(number, list(faces.values()))


def _new_number(store: Store, people: People) -> int:
    return 1 + max(store.database.number("groups"), store.faces.largest_cluster(), people.largest_number)


def _existing(store: Store, faces: Sequence[int]) -> list[KnownFace]:
    known = store.faces.known(faces)
    if gone := sorted(set(faces) - known.keys()):
        raise BadRequest(f"there is no face {gone[0]}")
    return list(known.values())
