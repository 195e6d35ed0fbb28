"""Saved searches: what comes back is what was saved, and a file that is something else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipsearch import Filter, Limits, Question
from clipsearch.errors import BadRequest, IndexUnusable
from clipsearch.search.question import IMAGE, PHOTO, Term, parse, text_terms
from clipsearch.search.saved import SavedSearches, restore

FILE = "saved.json"
QUESTION = Question(
    (*text_terms("2:a dog @grandma -people"), Term("/photos/a.jpg", -0.5, IMAGE), Term("ab" * 16, 1.0, PHOTO)),
    Filter(after="2023-06", keywords=("beach OR sea", "dog"), near="48.85,2.35,5", size="+2M"),
    Limits(50, unique=True, min_confidence=0.6, sort="-date"),
)


def test_a_question_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    SavedSearches(tmp_path).save("  Summer at the lake ", QUESTION)
    assert SavedSearches(tmp_path).all() == {"Summer at the lake": QUESTION}
    assert SavedSearches(tmp_path).question("Summer at the lake") == QUESTION
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_saving_replaces_and_removing_removes(tmp_path: Path) -> None:
    saved = SavedSearches(tmp_path)
    saved.save("b", QUESTION)
    saved.save("a", QUESTION)
    saved.save("b", Question(tuple(text_terms("a cat"))))
    assert list(saved.all()) == ["a", "b"]
    assert saved.question("b").terms == tuple(text_terms("a cat"))
    saved.remove("a")
    assert list(saved.all()) == ["b"]
    with pytest.raises(BadRequest, match="no saved search 'a'; existing ones: b"):
        saved.remove("a")


def test_paths_are_saved_so_that_they_mean_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SavedSearches(tmp_path).save("x", Question((Term("a.jpg", 1.0, IMAGE),), Filter(under="b", not_under=["c", "/d"])))
    question = SavedSearches(tmp_path).question("x")
    assert question.terms[0].content == str(tmp_path / "a.jpg")
    assert question.filter == Filter(under=str(tmp_path / "b"), not_under=[str(tmp_path / "c"), "/d"])


@pytest.mark.parametrize(
    "question",
    [
        Question((Term(b"an image", 1.0, IMAGE),)),
        Question((), Filter(files=["/a.jpg"])),
    ],
)
def test_what_exists_only_now_cannot_be_saved(tmp_path: Path, question: Question) -> None:
    with pytest.raises(BadRequest, match="cannot be saved"):
        SavedSearches(tmp_path).save("x", question)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("name", ["", "  ", "-x", "a\nb", "x" * 101, "\x1b[0m"])
def test_a_name_that_no_shell_or_list_can_show_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="not a valid name"):
        SavedSearches(tmp_path).save(name, QUESTION)


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    SavedSearches(tmp_path).save("x", QUESTION)
    good = json.loads((tmp_path / FILE).read_text())["saved"]

    def changed(**parts: object) -> bytes:
        return json.dumps({"x": good["x"] | parts}).encode()

    term = good["x"]["terms"][0]
    for bad in (
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"x": 1}',
        b'{"": {}}',
        changed(terms=[term | {"kind": "shell"}]),
        changed(terms=[term | {"weight": True}]),
        changed(terms=[term | {"weight": 0}]),
        changed(terms=[term | {"content": 5}]),
        changed(filters=[["files", "/etc/passwd"]]),
        changed(filters=[["after", "no date"]]),
        changed(filters=[["name", 3]]),
        changed(limits={"k": -1}),
        changed(limits={"k": "10"}),
        changed(limits={"unique": "yes"}),
        changed(limits={"sort": "colour"}),
        changed(limits={"other": 1}),
        json.dumps({"checksum": 1, "saved": good}).encode(),
    ):
        (tmp_path / FILE).write_bytes(bad)
        with pytest.raises(IndexUnusable, match="damaged"):
            SavedSearches(tmp_path).all()
        with pytest.raises(IndexUnusable, match="damaged"):
            SavedSearches(tmp_path).save("y", QUESTION)
        assert (tmp_path / FILE).read_bytes() == bad


def test_a_damaged_or_missing_file_is_restored_from_its_backup_and_the_other_way_round(tmp_path: Path) -> None:
    file, backup = tmp_path / FILE, tmp_path / "saved.kept.json"
    SavedSearches(tmp_path).save("x", QUESTION)
    good = file.read_bytes()
    for path in (file, backup):
        path.write_bytes(good.replace(b"a dog", b"a dof"))
        assert restore(tmp_path)
        assert (file.read_bytes(), backup.read_bytes()) == (good, good)
    assert not restore(tmp_path)
    file.unlink()
    SavedSearches(tmp_path).save("y", QUESTION)
    assert list(SavedSearches(tmp_path).all()) == ["x", "y"]
    file.write_text(json.dumps(json.loads(good)["saved"]))  # as older versions wrote it
    assert SavedSearches(tmp_path).all() == {"x": QUESTION}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = SavedSearches(tmp_path)
    saved.save("x", QUESTION)
    before = (tmp_path / FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IndexUnusable, match="cannot be written: no space left"):
        saved.save("y", QUESTION)
    assert (tmp_path / FILE).read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("cut", ["", "1", "strict", "0.6"])
def test_parameters_of_a_url_say_the_whole_question(cut: str) -> None:
    pairs = [
        *(("text", "2:a dog"), ("not", "people"), ("text", "@grandma"), ("like", "ab" * 16)),
        *(("after", "2023-06"), ("keyword", "beach OR sea"), ("cut", cut)),
        *(("unique", "1"), ("sort", "-date"), ("only", "tags")),
    ]
    question = parse(pairs)
    assert parse(question.all_parameters()) == question
