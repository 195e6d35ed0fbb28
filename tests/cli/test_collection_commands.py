"""Commands give the same output for an index folder and for the collection published from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture(scope="module")
def published(drawn_index: Path, tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> str:
    """Published by another process: Milvus Lite lets go of a collection when the process ends."""
    place = str(tmp_path_factory.mktemp("published") / "photos.db")
    command = [sys.executable, "-m", "clipsearch", "publish", place, "-q", "--index", str(drawn_index)]
    subprocess.run(command, check=True)
    return place


@pytest.mark.parametrize(
    "command",
    [
        ("query", "a red circle", "--format", "jsonl"),
        ("query", "2:a star", "--not", "blue", "-k", "5", "--unique", "-0"),
        ("query", "a house", "--cut", "--format", "tsv"),
        ("query", "--type", "png", "-k", "3", "--format", "json"),
        ("label", "a circle", "a square", "--format", "jsonl"),
        ("duplicates", "--identical", "--format", "jsonl"),
        ("query", "a star", "--after", "2100"),
    ],
    ids=" ".join,
)
def test_a_folder_and_a_collection_say_the_same(
    clipsearch: Run, drawn_index: Path, published: str, command: tuple[str, ...]
) -> None:
    of_folder = clipsearch(*command, "--index", str(drawn_index))
    of_collection = clipsearch(*command, "--index", published)
    assert of_collection.status == of_folder.status
    assert of_collection.out == of_folder.out
    assert of_collection.err == of_folder.err


def test_the_status_says_how_it_is_searched(clipsearch: Run, drawn_index: Path, published: str) -> None:
    ours, theirs = (
        json.loads(clipsearch("status", "--json", "--index", str(place)).out) for place in (drawn_index, published)
    )
    assert theirs["search"] == "FLAT, exact"
    for field in ("model", "fingerprint", "photos", "roots"):
        assert theirs[field] == ours[field], field


@pytest.mark.parametrize(
    "command", [("index",), ("verify",), ("forget", "x"), ("concept", "list"), ("publish", "x.db", "-q")], ids=" ".join
)
def test_what_needs_a_folder_says_so(clipsearch: Run, published: str, command: tuple[str, ...]) -> None:
    done = clipsearch(*command, "--index", published)
    assert (done.status, done.out) == (2, b"")
    assert done.err == f"clipsearch: --index must be an index folder here; {published} is a collection\n"


def test_a_concept_is_not_in_a_collection(clipsearch: Run, published: str) -> None:
    done = clipsearch("query", "@grandma", "--index", published)
    assert done.status == 2
    assert "a collection has no concepts" in done.err


def test_a_place_that_is_none(clipsearch: Run) -> None:
    done = clipsearch("publish", "somewhere")
    assert done.status == 2
    assert done.err == "clipsearch: URI must be milvus://HOST:PORT/NAME or a path ending in .db, not 'somewhere'\n"


def test_the_plain_program_imports_none_of_it(drawn_index: Path) -> None:
    code = (
        "import sys; sys.argv = ['clipsearch', 'query', 'a star', '--index', sys.argv[1]]\n"
        "from clipsearch.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'pymilvus', 'milvus_lite', 'ray', 'grpc', 'pandas'})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(drawn_index)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_folder_whose_name_ends_like_a_collections_is_a_folder(
    clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path
) -> None:
    shutil.copytree(drawn_index, tmp_path / "mine.db")
    assert clipsearch("query", "a star", "--index", str(tmp_path / "mine.db")).lines
    assert clipsearch("verify", "--index", str(tmp_path / "mine.db")).status == 0
