"""Assign faces to groups and people: by confirmed faces, by face regions in metadata, and by similarity.

Everything here is derived from `people.json`, the photos' metadata and the faces' rows, and may be done again at any
time: faces that somebody confirmed come first, then the face regions in metadata, then faces close to those, then
clusters of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, Ids, unit_rows
from clipsearch.images.box import Box, overlap
from clipsearch.images.regions import SAME_PLACE, regions_in, upright
from clipsearch.indexing.face_clusters import LINK, cluster, nearest
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import Face
from clipsearch.store.people import People, Person

_SAME_FACE = 0.985  # cosine of the rows of a face in two versions of a photo
_EXAMPLES = 256  # confirmed faces that others are compared with, per person


class _Anchors(NamedTuple):
    """What is known for sure: each face's person by number (n,), 0 if none, and the numbers that it must not get."""

    numbers: Ids
    rejected: dict[int, set[int]]


class _Faces:
    """All faces of a catalogue: unit rows (n, dim) and, for each row, the face."""

    def __init__(self, store: Store) -> None:
        ids, rows = store.faces.embeddings()
        found = {face.id: face for face in store.faces.all()}
        sound = [number for number, face in enumerate(ids.tolist()) if face in found]
        self.all: list[Face] = [found[face] for face in ids[sound].tolist()]
        self.rows: Array = unit_rows(rows[sound]) if sound else np.empty((0, 0), np.float32)
        self.model = store.faces.model_key()
        self.of_image: dict[int, list[int]] = {}
        for number, face in enumerate(self.all):
            self.of_image.setdefault(face.image, []).append(number)

    def at(self, image: int | None, box: Box, taken: Iterable[int] = ()) -> int | None:
        """The face in an image that overlaps a box the most, if it overlaps enough."""
        found = [
            (overlap(self.all[number].box, box), -number)
            for number in self.of_image.get(image or 0, ())
            if number not in taken
        ]
        best, number = max(found, default=(0.0, 0))
        return -number if best >= SAME_PLACE else None


def is_current(store: Store) -> bool:
    """Whether the catalogue has the names in `people.json`."""
    return bool(store.database.meta("people") == People(store.folder).version)


def group_faces(store: Store) -> None:
    """Bring the groups and names of all faces, and the names of photos, up to date, and commit.

    Raises `PeopleDamaged` or `IndexUnusable`.
    """
    if store.faces.model() is None:
        store.photos.set_names({})
        store.commit()
        return
    people, faces = People(store.folder), _Faces(store)
    number_of = _recorded(store, people, faces)
    _record_new_rows(people, faces, number_of)
    anchors = _confirmed(people, number_of, len(faces.all))
    tagged = list(_tagged(store, faces))
    last = max(store.database.number("groups"), store.faces.largest_cluster(), people.largest_number)
    last = _add_people(people, (name for _, name in tagged), last)
    _anchor_tagged(people, tagged, anchors)
    names = {person.number: person for person in people.all()}
    numbers = _pulled(faces, anchors, people, number_of)
    before = np.array([face.cluster or 0 for face in faces.all], np.int64)
    automatic = numbers == 0
    # Faces that are in no person's group any more are free; other groups stay as they are.
    labels = np.where(np.isin(before, list(names)), 0, before)[automatic]
    numbers[automatic] = cluster(faces.rows[automatic], labels, last + 1)
    store.database.set_meta("groups", int(max(last, numbers.max(initial=0))))
    store.faces.assign(_changes(faces, numbers, names))
    store.photos.set_names(store.faces.names())
    store.database.set_meta("people", people.version)
    store.commit()


# ------------------------------------------------------------------------------------------ known faces


def _recorded(store: Store, people: People, faces: _Faces) -> dict[int, int]:
    """The faces in the catalogue of the known faces in `people.json`, by their ids there.

    By content and place or, if the file was changed since, by a row that is nearly the same.
    """
    found: dict[int, int] = {}
    lost: list[int] = []
    for number, known in people.known():
        image = store.find_image(known.content)
        face = None if image is None else faces.at(image, known.box)
        if face is not None:
            found[number] = face
        elif known.model == faces.model and image is None and len(faces.all):
            lost.append(number)
    if lost:
        rows = rows_of([known.row for known in people.faces(lost)], faces.rows.shape[1])
        for part, cosines in nearest(rows, faces.rows):
            best = cosines.argmax(1)
            for number, face, cosine in zip(lost[part], best.tolist(), cosines.max(1).tolist(), strict=True):
                if cosine >= _SAME_FACE:
                    found[number] = face
    return found


def rows_of(known: Sequence[bytes], dim: int) -> Array:
    """Unit rows (n, dim) of rows as they are stored; zeros for one of another length."""
    stored = [np.frombuffer(row if len(row) == 2 * dim else bytes(2 * dim), "<f2") for row in known]
    return np.stack(stored).astype(np.float32) if stored else np.empty((0, dim), np.float32)


def _record_new_rows(people: People, faces: _Faces, number_of: Mapping[int, int]) -> None:
    """Keep the rows of the current model, so that names survive the loss of the photos that they were given on."""
    new = {
        number: known._replace(model=faces.model, row=faces.rows[number_of[number]].astype("<f2").tobytes())
        for number, known in people.known()
        if number in number_of and known.model != faces.model
    }
    if new:
        with people.changing(""):
            people.refresh(new)


def _confirmed(people: People, number_of: Mapping[int, int], count: int) -> _Anchors:
    anchors = _Anchors(np.zeros(count, np.int64), {})
    for person in people.all():
        for known in person.rejected:
            if known in number_of:
                anchors.rejected.setdefault(number_of[known], set()).add(person.number)
    for person in people.all():
        for known in person.confirmed:
            face = number_of.get(known)
            if face is not None and person.number not in anchors.rejected.get(face, ()):
                anchors.numbers[face] = person.number
    return anchors


def _tagged(store: Store, faces: _Faces) -> Iterator[tuple[int, str]]:
    """The faces that a region in a photo's metadata names, with the name."""
    for image, metadata in store.photos.with_regions():
        found: set[int] = set()
        for region in regions_in(metadata.regions):
            face = faces.at(image, upright(region, metadata), found)
            if face is not None:
                found.add(face)
                yield face, region.name


def _add_people(people: People, names: Iterable[str], last: int) -> int:
    """Record the people that only metadata names, so that they keep their number; returns the last number."""
    new = {name: None for name in names if people.can_be_added(name)}
    if new:
        with people.changing(""):
            for name in new:
                if people.can_be_added(name):
                    last += 1
                    people.name(last, name, [])
    return last


def _anchor_tagged(people: People, tagged: Iterable[tuple[int, str]], anchors: _Anchors) -> None:
    """Names given in clipsearch take precedence over those in metadata."""
    for face, name in tagged:
        person = people.named(name)
        if person and not anchors.numbers[face] and person.number not in anchors.rejected.get(face, ()):
            anchors.numbers[face] = person.number


# ------------------------------------------------------------------------------------------ similar faces


def _pulled(faces: _Faces, anchors: _Anchors, people: People, number_of: Mapping[int, int]) -> Ids:
    """The person's number of each face, 0 if none: that of the most similar confirmed face, if it is similar enough.

    Unless a face that was rejected for that person is even more similar.
    """
    numbers = anchors.numbers.copy()
    free = np.flatnonzero(numbers == 0)
    if not len(free):
        return numbers
    best, best_number = np.full(len(free), LINK, np.float32), np.zeros(len(free), np.int64)
    for person in people.all():
        examples = faces.rows[anchors.numbers == person.number]
        examples = np.concatenate([examples, _gone(people, person, faces, number_of)])
        if not len(examples):
            continue
        against = faces.rows[[face for face, barred in anchors.rejected.items() if person.number in barred]]
        closest = closest_cosines(faces.rows[free], examples)
        wins = closest >= best
        if len(against):
            wins &= closest > closest_cosines(faces.rows[free], against)
        barred = {face for face, others in anchors.rejected.items() if person.number in others}
        wins &= ~np.isin(free, list(barred))
        best[wins], best_number[wins] = closest[wins], person.number
    numbers[free] = best_number
    return numbers


def _gone(people: People, person: Person, faces: _Faces, number_of: Mapping[int, int]) -> Array:
    """The rows of confirmed faces whose photos are no longer indexed."""
    gone = people.faces(face for face in person.confirmed if face not in number_of)
    return rows_of([face.row for face in gone if face.model == faces.model], faces.rows.shape[1])


def closest_cosines(rows: Array, examples: Array) -> Array:
    """The cosine of each unit row with the most similar of up to `_EXAMPLES` examples."""
    step = -(-len(examples) // _EXAMPLES)
    return np.concatenate([cosines.max(1) for _, cosines in nearest(rows, examples[::step])])


# ------------------------------------------------------------------------------------------ recording


def _changes(faces: _Faces, numbers: Ids, names: Mapping[int, Person]) -> Iterator[tuple[int, int, str | None]]:
    for face, number in zip(faces.all, numbers.tolist(), strict=True):
        name = names[number].name if number in names else None
        if (face.cluster, face.person) != (number, name):
            yield face.id, number, name
