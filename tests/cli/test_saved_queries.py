"""`query --save`, `--saved` and `--unsave`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SCENES


@pytest.fixture
def index(drawn_index: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn_index, tmp_path / "index")
    return tmp_path / "index"


def test_a_saved_query_runs_again_with_other_limits(clipsearch: Callable[..., Any], index: Path) -> None:
    def query(*words: str) -> Any:
        return clipsearch("query", *words, "--index", str(index))

    first = query(SCENES[3].captions[0], "-stripes", "--type", "png", "-k", "7", "--unique", "--save", "my dogs")
    assert len(first.out.splitlines()) == 7
    assert "clipsearch query --saved 'my dogs'" in first.err
    assert query("--saved", "my dogs").out == first.out
    assert query("--saved", "my dogs", "-k", "3").out.splitlines() == first.out.splitlines()[:3]
    assert query("--saved", "my dogs", "--min-confidence", "0.999999").status == 1
    assert query("--saved", "my dogs", "-k", "2", "--save", "two").out.splitlines() == first.out.splitlines()[:2]
    listed = dict(line.split("\t") for line in query("--saved").out.decode().splitlines())
    assert list(listed) == ["my dogs", "two"]
    assert clipsearch("query", index=index).status == 0  # no argument at all: the newest photos
    assert listed["my dogs"].endswith("--not stripes --type png --unique -k 7")
    assert query("--unsave", "my dogs").status == 0
    assert query("--saved", "my dogs").err.strip().endswith("there is no saved search 'my dogs'; existing ones: two")


@pytest.mark.parametrize(
    "words",
    [
        ("a dog", "--saved", "x"),
        ("--saved", "x", "--type", "png"),
        ("--saved", "x", "--batch", "-"),
        ("a", "--unsave", "x"),
    ],
)
def test_a_saved_query_is_a_whole_one(clipsearch: Callable[..., Any], index: Path, words: tuple[str, ...]) -> None:
    done = clipsearch("query", *words, "--index", str(index))
    assert (done.status, done.out) == (2, b"")
    assert "leave out texts, images and filters" in done.err


def test_what_cannot_be_saved_is_a_sentence(clipsearch: Callable[..., Any], index: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("/a.jpg\n")
    done = clipsearch("query", "a", "--files-from", str(tmp_path / "list"), "--save", "x", "--index", str(index))
    assert done.status == 2
    assert "--files-from cannot be saved" in done.err
    assert not (index / "saved.json").exists()
