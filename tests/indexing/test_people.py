"""People: faces with made-up rows are grouped and named; names outlive everything else; nothing jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from fuzz import examples
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stores import DIM, METADATA, row

from clipsearch.errors import BadRequest
from clipsearch.images.box import Box
from clipsearch.images.found_file import FoundFile
from clipsearch.images.read import content_hash
from clipsearch.images.regions import Region
from clipsearch.images.rules import Rules
from clipsearch.indexing.face_clusters import cluster
from clipsearch.indexing.people import group_faces
from clipsearch.indexing.people_changes import Changes, faces_in, faces_of, groups
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace
from clipsearch.store.filters import Filter
from clipsearch.store.people import People

POINTS = ((0.2, 0.2), (0.4, 0.2), (0.3, 0.3), (0.25, 0.4), (0.35, 0.4))


def face_row(person: int, variant: int, model: int = 0) -> np.ndarray:
    """Rows as those of dlib: the faces of a person have cosines of 0.96 or so, of two people of 0.8."""
    draw = np.random.default_rng([person, model]).normal(size=128) + 2
    draw += 0.4 * np.random.default_rng([person, variant, model]).normal(size=128)
    return (draw / np.linalg.norm(draw)).astype(np.float32)


class Library:
    """An index of photos named `3-1.jpg`: the first variant of a face of person 3; `3-1+4-2.jpg` has two faces."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, 0
        with Store.create(folder, "a model", DIM) as store:
            self.photos = folder.parent / "photos"
            self.photos.mkdir(exist_ok=True)
            self.root = store.folders.add(os.fsencode(self.photos.resolve()), Rules())
            store.faces.enable("model 0")
            store.vectors.update()

    def add(self, *names: str, **facts: str) -> None:
        with Store.open(self.folder, write=True) as store:
            for name in names:
                self._put(store, name, **facts)
            group_faces(store)

    def _put(self, store: Store, name: str, path: str = "", **facts: str) -> None:
        content = content_hash(name.encode())
        image = store.find_image(content)
        if image is None:
            image = store.images.add(content, METADATA._replace(**facts), row(len(name)))
        path = path or f"{name}.jpg"
        (self.photos / os.path.basename(path)).touch()
        store.photos.put(self.root, FoundFile(path.encode(), 1, 1), image, None)
        if not store.faces.of(image):
            store.faces.put(image, [self._face(place, who) for place, who in enumerate(name.split("+"))])

    def _face(self, place: int, who: str) -> NewFace:
        person, variant = map(int, who.split("-"))
        box = Box(0.1 + place * 0.4, 0.1, 0.4 + place * 0.4, 0.5)
        return NewFace(box, POINTS, 0.5 + variant / 100, face_row(person, variant, self.model))

    def people(self) -> dict[str, set[str]]:
        """The photos of each group, by its name or number."""
        with Store.open(self.folder) as store:
            return {
                group.name or str(group.number): {
                    os.path.basename(photo.file).decode().removesuffix(".jpg")
                    for face in faces_in(store, str(group.number))
                    for photo in store.photos_of([face.image])
                }
                for group in groups(store)
            }

    def ids(self, who: str, *names: str) -> list[int]:
        """The faces of a group in photos."""
        with Store.open(self.folder) as store:
            wanted = {store.find_image(content_hash(name.encode())) for name in names}
            return [face.id for face in faces_in(store, who) if face.image in wanted]

    def found(self, **filters: str) -> set[str]:
        with Store.open(self.folder) as store:
            return {photo.path.stem for photo in store.by_path(store.select(Filter(**filters)))}

    @property
    def change(self) -> Changes:
        return Changes(self.folder)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "index")


def test_faces_form_groups_that_keep_their_numbers(library: Library) -> None:
    library.add("1-1", "1-2", "2-1", "2-2", "3-1")
    assert library.people() == {"1": {"1-1", "1-2"}, "2": {"2-1", "2-2"}, "3": {"3-1"}}
    library.add("2-3", "4-1", "3-2+1-3")
    assert library.people() == {
        "1": {"1-1", "1-2", "3-2+1-3"},
        "2": {"2-1", "2-2", "2-3"},
        "3": {"3-1", "3-2+1-3"},
        "4": {"4-1"},
    }


def test_a_new_photo_of_a_named_person_gets_the_name_unconfirmed(library: Library) -> None:
    library.add("1-1", "1-2", "2-1")
    library.change.name("1", "  Zoë   Müller ")
    library.add("1-3+2-2")
    assert library.people() == {"Zoë Müller": {"1-1", "1-2", "1-3+2-2"}, "2": {"2-1", "1-3+2-2"}}
    with Store.open(library.folder) as store:
        first = faces_in(store, "zoë müller")[0]
        assert (first.confirmed, 0.9 < (first.confidence or 0) < 1) == (False, True)
        (photo,) = store.photos_of([first.image])
        assert photo.people == ("Zoë Müller",)
        assert [face.name for face in faces_of(store, photo)] == ["Zoë Müller", None]
    assert library.found(people="ZOË MÜLLER") == {"1-1", "1-2", "1-3+2-2"}
    assert library.found(without_people="Zoë Müller") == {"2-1"}
    assert library.found(keywords="zoë müller", without_people="Nobody") == {"1-1", "1-2", "1-3+2-2"}


def test_several_people_and_both_of_them(library: Library) -> None:
    library.add("1-1", "2-1", "1-2+2-2")
    library.change.name("1", "Anna")
    library.change.name("2", "Ben")
    assert library.found(people=["Anna", "Ben"]) == {"1-2+2-2"}
    assert library.found(people="Anna OR Ben") == {"1-1", "2-1", "1-2+2-2"}
    assert library.found(people="Anna", without_people="Ben") == {"1-1"}


def test_split_faces_never_come_back_and_take_their_like_along(library: Library) -> None:
    library.add("1-1", "1-2", "2-1", "2-2")
    library.change.name("1", "Anna")
    library.change.merge("Anna", ["2"])
    assert library.people() == {"Anna": {"1-1", "1-2", "2-1", "2-2"}}
    library.change.split("Anna", library.ids("Anna", "2-1", "2-2"))
    library.add("2-3", "1-3")
    assert library.people() == {"Anna": {"1-1", "1-2", "1-3"}, "3": {"2-1", "2-2", "2-3"}}
    for wrong in ([999], library.ids("Anna", "1-1", "1-2", "1-3")):
        with pytest.raises(BadRequest, match=r"no face 999|all faces of Anna"):
            library.change.split("Anna", wrong)


def test_every_change_can_be_undone(library: Library) -> None:
    library.add("1-1", "1-2", "2-1", "2-2", "3-1", "4-1")
    states = [library.people()]
    for change in (
        lambda: library.change.merge("2", ["3"]),
        lambda: library.change.split("2", library.ids("2", "3-1")),
        lambda: library.change.name("1", "Anna"),
        lambda: library.change.name("5", "Anna"),
        lambda: library.change.name("2", "Ben"),
        lambda: library.change.name("Ben", "Benjamin"),
        lambda: library.change.merge("Anna", ["Benjamin"]),
        lambda: library.change.split("Anna", library.ids("Anna", "1-1")),
        lambda: library.change.forget("Anna"),
    ):
        change()
        states.append(library.people())
    for before in reversed(states[:-1]):
        library.change.undo()
        assert library.people() == before
    with pytest.raises(BadRequest, match="nothing to undo"):
        library.change.undo()


def test_names_outlive_another_face_model_moved_files_and_a_lost_catalogue(library: Library, tmp_path: Path) -> None:
    library.add("1-1", "1-2", "2-1")
    library.change.name("1", "Anna")
    library.change.hide("2")
    with Store.open(library.folder, write=True) as store:
        library.model = 1
        store.faces.enable("model 1")
        store.photos.remove(library.root, [b"1-1.jpg", b"1-2.jpg", b"2-1.jpg"])
        for name in ("1-1", "1-2", "2-1", "1-3"):
            library._put(store, name, f"moved/{name}.jpg")
        group_faces(store)
    assert library.people() == {"Anna": {"1-1", "1-2", "1-3"}, "2": {"2-1"}}
    with Store.open(library.folder, write=True) as store:  # the photos that were confirmed are deleted
        store.photos.remove(library.root, [b"moved/1-1.jpg", b"moved/1-2.jpg"])
        store.prune()
        group_faces(store)
    assert library.people()["Anna"] == {"1-3"}  # their rows by the new model are recorded
    other = Library(tmp_path / "other")
    other.model = 1
    with Store.open(other.folder, write=True) as store:
        store.faces.enable("model 1")
    for name in ("people.json", "people.kept.json"):
        shutil.copy(library.folder / name, other.folder / name)
        assert (library.folder / name).stat().st_mode & 0o777 == 0o600
    other.add("1-1", "1-4", "2-1")
    assert other.people() == {"Anna": {"1-1", "1-4"}, "2": {"2-1"}}
    with Store.open(other.folder) as store:
        assert [group.hidden for group in groups(store)] == [False, True]


def test_regions_in_metadata_name_faces_unless_somebody_says_otherwise(library: Library) -> None:
    region = Region("Anna", Box(0.08, 0.05, 0.42, 0.55), 30, 20).as_line()
    elsewhere = Region("Ben", Box(0.8, 0.8, 0.9, 0.9), 30, 20).as_line()
    library.add("1-1+2-1", regions=f"{region}\n{elsewhere}", people="Anna\nBen")
    library.add("1-2", "2-2")
    assert library.people() == {"Anna": {"1-1+2-1", "1-2"}, "2": {"1-1+2-1", "2-2"}}
    library.change.forget("Anna")
    library.add("1-3")
    assert library.people() == {"1": {"1-1+2-1", "1-2", "1-3"}, "2": {"1-1+2-1", "2-2"}}
    library.change.undo()
    library.change.reject(library.ids("Anna", "1-1+2-1"))
    assert "1-1+2-1" not in library.people()["Anna"]
    library.change.confirm(library.ids("2", "1-1+2-1"), "Anna")
    assert library.people()["Anna"] >= {"1-1+2-1"}


def test_names_are_kept_without_faces_but_find_nothing(library: Library) -> None:
    library.add("1-1", "2-1")
    library.change.name("1", "Anna")
    with Store.open(library.folder, write=True) as store:
        store.faces.enable(None)
        group_faces(store)
    assert library.found(people="Anna") == set()
    with Store.open(library.folder, write=True) as store:
        store.faces.enable("model 0")
        for name in ("2-1", "1-1"):
            library._put(store, name)
        group_faces(store)
    assert library.found(people="Anna") == {"1-1"}
    assert library.people().keys() == {"Anna", "3"}  # the number 2 is not used twice


def test_what_makes_no_sense_is_refused(library: Library) -> None:
    library.add("1-1", "2-1")
    library.change.name("1", "Anna")
    for what, change in {
        "no person with the number 9": lambda: library.change.name("9", "Ben"),
        "no person named 'Carl'; existing names: Anna": lambda: library.change.merge("Anna", ["Carl"]),
        "not a valid name": lambda: library.change.name("2", "17"),
        "are the same person": lambda: library.change.merge("Anna", ["1"]),
        "has no name": lambda: library.change.forget("2"),
        "no face 99": lambda: library.change.confirm([99], "Ben"),
    }.items():
        before = (library.folder / "people.json").read_bytes()
        with pytest.raises(BadRequest, match=what):
            change()
        assert (library.folder / "people.json").read_bytes() == before


def test_a_change_while_another_process_writes_is_applied_by_it(library: Library) -> None:
    library.add("1-1", "2-1")
    with Store.open(library.folder, write=True) as store:
        changes = library.change
        changes.name("1", "Anna")
        assert changes.pending
        group_faces(store)
    assert library.people() == {"Anna": {"1-1"}, "2": {"2-1"}}


_CHANGES = """
import itertools, sys
from pathlib import Path
from clipsearch.indexing.people_changes import Changes
changes = Changes(Path(sys.argv[1]))
for number in itertools.count(1):
    changes.name("Anna", "Anne")
    changes.undo()
    changes.merge("Anna", ["2"])
    changes.undo()
    changes.forget("Anna")
    changes.undo()
    print(number, flush=True)
"""


def test_a_kill_leaves_the_people_before_or_after_a_change(library: Library) -> None:
    library.add("1-1", "1-2", "2-1")
    library.change.name("1", "Anna")
    before = library.people()
    after = {
        "name 1 Anna": before,
        "name Anna Anne": {"Anne": {"1-1", "1-2"}, "2": {"2-1"}},
        "merge Anna 2": {"Anna": {"1-1", "1-2", "2-1"}},
        "forget Anna": {"1": {"1-1", "1-2"}, "2": {"2-1"}},
    }
    for delay in (0.0, 0.02, 0.05):
        with subprocess.Popen([sys.executable, "-c", _CHANGES, library.folder], stdout=subprocess.PIPE) as changing:
            assert changing.stdout is not None
            assert changing.stdout.readline() == b"1\n"
            time.sleep(delay)
            changing.kill()
        done = People(library.folder).last_change
        assert done in after
        library.change.apply_pending()
        assert library.people() == after[done]
        if done != "name 1 Anna":
            library.change.undo()
        assert library.people() == before


def test_a_damaged_file_is_restored_from_its_backup(library: Library, clipsearch: Run) -> None:
    library.add("1-1", "2-1")
    library.change.name("1", "Anna")
    path = library.folder / "people.json"
    path.write_bytes(path.read_bytes().replace(b"Anna", b"Anne"))
    refused = clipsearch("people", "name", "2", "Ben", index=library.folder)
    assert (refused.status, "restore the backup with: clipsearch verify" in refused.err) == (2, True)
    repaired = clipsearch("verify", index=library.folder)
    assert repaired.lines[0] == "repaired: damaged people, restored from the backup"
    assert People(library.folder).names() == ["Anna"]


def test_clusters_do_not_chain(tmp_path: Path) -> None:
    """A row of faces, each like the next one: single links would join the first and the last."""
    one, other = np.random.default_rng(0).normal(size=(2, 128)).astype(np.float32)
    steps = [one * (1 - t) + other * t for t in np.linspace(0, 1, 40)]
    rows = np.stack([step / np.linalg.norm(step) for step in steps])
    assert (rows[:-1] * rows[1:]).sum(1).min() > 0.99
    labels = cluster(rows, np.zeros(40, np.int64), 1)
    assert labels[0] != labels[-1]
    assert np.array_equal(cluster(rows, labels, 50), labels)


NAMES = ("Anna", "Ben", "Carl")


class Changing(RuleBasedStateMachine):
    """Random changes, new photos, rebuilds and kills: a face that was confirmed keeps its person and its name.

    `confirmed` has the person's number of each face, by photo and place; `names` the names of the numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.library = Library(Path(self._folder.name) / "index")
        self.confirmed: dict[tuple[str, int], int] = {}
        self.names: dict[int, str | None] = {}
        self.history: list[tuple[dict[tuple[str, int], int], dict[int, str | None]]] = []
        self.photos: list[str] = []

    def teardown(self) -> None:
        self._folder.cleanup()

    @initialize()
    def first_photos(self) -> None:
        self.add_photos("1-1", "1-2", "2-1+1-3", "3-1")

    def add_photos(self, *names: str) -> None:
        self.photos += [name for name in names if name not in self.photos]
        self.library.add(*names)

    def groups(self) -> dict[int, set[tuple[str, int]]]:
        """The faces of each group, by photo and place."""
        with Store.open(self.library.folder) as store:
            photo = {store.find_image(content_hash(name.encode())): name for name in self.photos}
            found: dict[int, set[tuple[str, int]]] = {}
            for face in store.faces.all():
                found.setdefault(face.cluster or 0, set()).add((photo[face.image], int(face.box.left > 0.3)))
            return found

    def changed(self) -> None:
        self.history.append((dict(self.confirmed), dict(self.names)))

    def record(self, number: int, faces: set[tuple[str, int]], into: int) -> None:
        """What a change of a group without a name confirms."""
        if self.names.get(number) is None:
            self.confirmed |= dict.fromkeys(faces, into)
        self.confirmed |= {face: into for face, of in self.confirmed.items() if of == number}
        self.names.setdefault(into, None)

    @rule(person=st.integers(1, 4), other=st.integers(0, 4), variant=st.integers(1, 9))
    def add(self, person: int, other: int, variant: int) -> None:
        self.add_photos(f"{person}-{variant}" + f"+{other}-{variant}" * bool(other))

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def name(self, data: st.DataObject, name: str) -> None:
        groups = self.groups()
        number = data.draw(st.sampled_from(sorted(groups)))
        other = next((one for one, known in self.names.items() if known == name), number)
        if self.names.get(number) == name:
            return
        self.changed()
        self.record(number, groups[number], other)
        if other != number:
            self.names.pop(number, None)
        self.names[other] = name
        self.library.change.name(str(number), name)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        groups = self.groups()
        if len(groups) < 2:
            return
        first, second = data.draw(st.permutations(sorted(groups)))[:2]
        self.changed()
        self.record(first, groups[first], first)
        self.record(second, groups[second], first)
        name = self.names.pop(second, None)
        self.names[first] = self.names[first] or name
        self.library.change.merge(str(first), [str(second)])

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        groups = {number: faces for number, faces in self.groups().items() if len(faces) > 1}
        if not groups:
            return
        number = data.draw(st.sampled_from(sorted(groups)))
        face = data.draw(st.sampled_from(sorted(groups[number])))
        self.changed()
        self.record(number, groups[number], number)
        new = self.library.change.split(str(number), [self.id_of(*face)]).number
        assert new not in self.names
        self.confirmed[face] = new
        self.names[new] = None

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def confirm(self, data: st.DataObject, name: str) -> None:
        known = next((number for number, one in self.names.items() if one == name), None)
        of_others = {face for face, number in self.confirmed.items() if number != known}
        face = data.draw(st.sampled_from(sorted(of_others or set().union(*self.groups().values()))))
        if known is not None and self.confirmed.get(face) == known:
            return
        self.changed()
        number = self.library.change.confirm([self.id_of(*face)], name).number
        assert number == known or number not in self.names
        self.confirmed[face] = number
        self.names[number] = name

    def id_of(self, photo: str, place: int) -> int:
        with Store.open(self.library.folder) as store:
            image = store.find_image(content_hash(photo.encode()))
            (face,) = (one.id for one in store.faces.of(image) if int(one.box.left > 0.3) == place)
            return face

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.names)))
        self.changed()
        del self.names[number]
        self.confirmed = {face: of for face, of in self.confirmed.items() if of != number}
        self.library.change.forget(str(number))

    @precondition(lambda self: self.history)
    @rule()
    def undo(self) -> None:
        self.confirmed, self.names = self.history.pop()
        self.library.change.undo()

    @rule()
    def rebuild_with_another_model(self) -> None:
        self.library.model += 1
        with Store.open(self.library.folder, write=True) as store:
            store.faces.enable(f"model {self.library.model}")
            for number, name in enumerate(self.photos):
                self.library._put(store, name, f"{self.library.model}/{number}.jpg")
            group_faces(store)

    @rule(name=st.sampled_from(NAMES))
    def name_and_be_killed(self, name: str) -> None:
        """After `people.json` was written, and before the catalogue was."""
        groups = self.groups()
        number = max(groups)
        if name in self.names.values() or self.names.get(number) is not None:
            return
        self.changed()
        self.record(number, groups[number], number)
        self.names[number] = name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("clipsearch.indexing.people_changes.group_faces", _killed)
            with pytest.raises(KeyboardInterrupt):
                self.library.change.name(str(number), name)

    @invariant()
    def names_stay_where_they_were_put(self) -> None:
        if not self.photos:
            return
        self.library.change.apply_pending()
        people = People(self.library.folder)
        assert people.names() == sorted(name for name in self.names.values() if name)
        confirmed = [face for person in people.all() for face in person.confirmed]
        assert len(confirmed) == len(set(confirmed)), "a face is confirmed for two people"
        of_face = {face: number for number, faces in self.groups().items() for face in faces}
        assert self.confirmed.items() <= of_face.items()
        with Store.open(self.library.folder) as store:
            for face in store.faces.all():
                assert face.person == self.names.get(face.cluster or 0)


def _killed(_: Store) -> None:
    raise KeyboardInterrupt


class TestChanging(Changing.TestCase):  # type: ignore[valid-type]  # made by Hypothesis
    """Runs the state machine."""

    settings = examples(40, stateful_step_count=12, suppress_health_check=list(HealthCheck))
