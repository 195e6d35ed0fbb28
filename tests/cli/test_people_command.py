"""`clipsearch people`: lists, changes and sidecars, and finding people by `@NAME`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, save_scenes

from clipsearch.images.box import Box
from clipsearch.images.xmp_facts import face_regions
from clipsearch.indexing.people import group_faces
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace

POINTS = ((0.2, 0.2),) * 5


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save_scenes(tmp_path.resolve() / "photos", 10)
    return tmp_path.resolve() / "photos"


@pytest.fixture
def index(mini_index, photos: Path) -> Path:
    """Drawn scenes, as if the first six had faces of three people and the seventh one of a fourth."""
    index = mini_index(photos)
    with Store.open(index, write=True) as store:
        store.faces.enable("a face model")
        unseen = sorted(store.faces.unseen(), key=lambda image: image.path)
        for number, image in enumerate(unseen[:7]):
            row = np.random.default_rng(number % 3 if number < 6 else 9).normal(size=128)
            store.faces.put(image.image_id, [NewFace(Box(0.1, 0.1, 0.4, 0.5), POINTS, 0.9, row / np.linalg.norm(row))])
        group_faces(store)
    return index


def names(run: Run, index: Path) -> list[tuple[int, str | None, int]]:
    listed = json.loads(run("people", "--all", "-f", "json", index=index).out)
    return [(one["number"], one["name"], one["photos"]) for one in listed]


def test_groups_are_listed_named_and_found(clipsearch: Run, index: Path, tmp_path: Path) -> None:
    listed = clipsearch("people", index=index)
    assert listed.lines == ["1\t\t2\t2", "2\t\t2\t2", "3\t\t2\t2"]
    assert "not shown: 1 group" in listed.err
    assert clipsearch("people", "name", "2", "Anna Maria", index=index).err == "2 is Anna Maria\n"
    assert clipsearch("people", "name", "3", "Ben", index=index).status == 0
    assert names(clipsearch, index) == [(2, "Anna Maria", 2), (3, "Ben", 2), (1, None, 2), (4, None, 1)]
    (first, second) = clipsearch("query", "--person", "anna maria", "-f", "paths", index=index).lines
    for text in ("@Anna Maria", "@anna maria a red circle"):
        found = clipsearch("query", text, "-f", "paths", "--only", "look", index=index)
        assert sorted(found.lines) == sorted([first, second]), text
    everything = clipsearch("query", "-k", "99", "-f", "paths", index=index).lines
    for arguments in (["--without-person", "Ben"], ["a star", "-@Ben"]):
        found = clipsearch("query", *arguments, "-k", "99", "-f", "paths", index=index)
        assert len(found.lines) == len(everything) - 2, arguments
    unknown = clipsearch("query", "@Carl at sea", index=index)
    assert unknown.err == "clipsearch: there is no concept or person @Carl; existing ones: @Anna Maria, @Ben\n"
    batch = clipsearch("query", "--batch", "-", "-f", "jsonl", index=index, stdin=b"@Ben\n@Carl\n")
    assert (batch.status, len(batch.lines)) == (2, 3)  # two photos and an error
    sheet = tmp_path / "faces.html"
    assert clipsearch("people", "--html", sheet, index=index).status == 0
    assert (sheet.stat().st_mode & 0o777, sheet.read_text().count("data:image/jpeg")) == (0o600, 6)


def test_faces_are_confirmed_and_rejected(clipsearch: Run, index: Path) -> None:
    def faces(who: str) -> list[tuple[int, bool]]:
        listed = json.loads(clipsearch("people", "show", who, "-f", "json", index=index).out)
        return [(one["face"], one["confirmed"]) for one in listed]

    (first, _), (second, _) = faces("2")
    confirmed = clipsearch("people", "confirm", "Anna", str(first), index=index)
    assert confirmed.err == "confirmed 1 face of Anna\n"
    assert faces("Anna") == [(second, False), (first, True)]  # it is as similar as can be
    assert clipsearch("people", "reject", "anna", str(second), index=index).err == "removed 1 face from anna\n"
    assert faces("Anna") == [(first, True)]
    again = clipsearch("people", "reject", "Anna", str(second), index=index)
    assert (again.status, again.err) == (2, f"clipsearch: Anna has no face {second}\n")
    assert clipsearch("people", "confirm", "Anna", str(second), "99", index=index).status == 2
    status = clipsearch("status", index=index).out.decode()
    assert "\npeople  1 named, 4 unnamed groups\n" in status
    found = json.loads(clipsearch("status", "--json", index=index).out)
    assert (found["people"], found["unnamed_groups"]) == (1, 4)
    assert clipsearch("people", "undo", index=index).err == f"undid: reject anna {second}\n"
    assert faces("Anna") == [(second, False), (first, True)]


def test_the_only_face_of_a_photo_is_named_by_its_path(clipsearch: Run, index: Path, photos: Path) -> None:
    done = clipsearch("people", "confirm", "Dora", photos / "06.png", photos / "07.png", index=index)
    assert done.err == "confirmed 1 face of Dora; left out 1 photo without a face or with several\n"
    assert clipsearch("query", "--person", "Dora", "-f", "paths", index=index).lines == [str(photos / "06.png")]
    for wrong in (["812", photos / "06.png"], [photos / "07.png"], [photos / "no.png"]):
        refused = clipsearch("people", "confirm", "Dora", *wrong, index=index)
        assert (refused.status, refused.err.count("\n")) == (2, 1), wrong


def test_a_concept_comes_before_a_person_of_that_name(clipsearch: Run, index: Path, drawn: Path) -> None:
    assert clipsearch("people", "name", "1", "Anna", index=index).status == 0
    assert len(clipsearch("query", "@Anna", "-f", "paths", index=index).lines) == 2
    assert clipsearch("concept", "add", "Anna", drawn / "07.png", index=index).status == 0
    assert len(clipsearch("query", "@Anna", "-f", "paths", index=index).lines) > 2


def test_names_are_written_to_sidecars_and_removed(clipsearch: Run, index: Path, photos: Path) -> None:
    assert clipsearch("people", "name", "1", "Zoë", index=index).status == 0
    before = sorted(os.listdir(photos))
    planned = clipsearch("people", "--write-xmp", "--dry-run", index=index)
    assert ("would write 2 sidecars" in planned.err, sorted(os.listdir(photos))) == (True, before)
    assert clipsearch("people", "--write-xmp", index=index).status == 0
    written = sorted(photos.glob("*.xmp"))
    assert [[region.name for region in face_regions(path.read_bytes())] for path in written] == [["Zoë"], ["Zoë"]]
    assert "wrote 0 sidecars" in clipsearch("people", "--write-xmp", index=index).err
    assert clipsearch("people", "forget", "Zoë", index=index).status == 0
    assert clipsearch("people", "--write-xmp", index=index).status == 0
    assert sorted(os.listdir(photos)) == before
    assert clipsearch("people", "undo", index=index).status == 0
    assert clipsearch("people", "--write-xmp", index=index).status == 0
    removed = clipsearch("people", "--remove", index=index)
    assert (removed.err, sorted(os.listdir(photos))) == ("cleaned 0 sidecars, deleted 2 that became empty\n", before)


def test_bad_input_gets_one_sentence(clipsearch: Run, index: Path, drawn_index: Path) -> None:
    for arguments, message in {
        ("people", "name", "9", "Ben"): "there is no person with the number 9",
        ("people", "show", "Ben"): "there is no person named 'Ben'; existing names: none",
        ("people", "split", "1", "99"): "1 has no face 99",
        ("people", "undo"): "there is nothing to undo",
        ("people", "--all", "undo"): "write options after the subcommand: clipsearch people undo ...",
        ("people", "--dry-run"): "--dry-run needs --write-xmp or --remove",
    }.items():
        done = clipsearch(*arguments, index=index)
        assert (done.status, done.out, done.err) == (2, b"", f"clipsearch: {message}\n")
    none = clipsearch("people", index=drawn_index)
    assert (none.status, "Run: clipsearch index --faces" in none.err) == (2, True)
