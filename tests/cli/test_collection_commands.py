"""Commands give the same output for an index folder and for the collection published from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import videos
from conftest import SCENES, Run, save_scenes

from clipsearch.images.xmp import with_keywords
from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Line

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture(scope="module")
def folder_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, copies, keywords in sidecars, a video, and text as if OCR had read it."""
    photos = tmp_path_factory.mktemp("photos").resolve()
    save_scenes(photos, 20)
    shutil.copy(photos / "03.png", photos / "copy.png")
    for name in ("01.png", "04.png"):
        (photos / f"{name}.xmp").write_bytes(with_keywords(None, ["beach", "summer"]))
    videos.clip(photos / "film.mp4", [(SCENES[20].image, 2), (SCENES[21].image, 2)])
    index = tmp_path_factory.mktemp("folder") / "index"
    update_index(index, [photos], Options(model="mini"))
    with Store.open(index, write=True) as store:
        for unread, lines in zip(store.ocr_text.unread(), [[Line("Coffee 3.50", 0, 0.5, 1, 0.6)], []], strict=False):
            store.ocr_text.put(unread.image_id, lines)
        store.ocr_text.enable(True)
        store.commit()
    return index


@pytest.fixture(scope="module")
def published(folder_index: Path, tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> str:
    """Published by another process: Milvus Lite lets go of a collection when the process ends."""
    place = str(tmp_path_factory.mktemp("published") / "photos.db")
    command = [sys.executable, "-m", "clipsearch", "publish", place, "-q", "--index", str(folder_index)]
    subprocess.run(command, check=True)
    return place


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (("query", "a red circle", "--format", "jsonl"), 10),
        (("query", "a red circle", "--cut", "--format", "tsv"), None),
        (("query", "2:a star", "--not", "blue", "-k", "5", "--unique"), 5),
        (("query", "--type", "png", "-k", "3", "--format", "jsonl"), 3),
        (("query", "--keyword", "BEACH", "--format", "jsonl"), 2),
        (("query", "a page", "--reads", "coffee", "--format", "jsonl"), 1),
        (("query", "a circle", "--type", "video", "--format", "jsonl"), 1),
        (("query", "a circle", "--type", "video", "--frames", "--format", "jsonl"), 2),
        (("label", "a circle", "a square", "--format", "jsonl"), 22),
        (("duplicates", "--identical", "--format", "jsonl"), 1),
        (("query", "a star", "--after", "2100"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_folder_and_a_collection_say_the_same(
    clipsearch: Run, folder_index: Path, published: str, command: tuple[str, ...], lines: int | None
) -> None:
    of_folder = clipsearch(*command, "--index", str(folder_index))
    of_collection = clipsearch(*command, "--index", published)
    assert lines is None or len(of_folder.lines) == lines
    assert of_collection.status == of_folder.status == (0 if lines != 0 else 1)
    assert of_collection.out == of_folder.out
    assert of_collection.err == of_folder.err


def test_the_status_says_how_it_is_searched(clipsearch: Run, folder_index: Path, published: str) -> None:
    ours, theirs = (
        json.loads(clipsearch("status", "--json", "--index", str(place)).out) for place in (folder_index, published)
    )
    assert theirs.pop("search") == "FLAT, exact"
    assert ours.pop("search") == "exact"
    for field in ("index", "bytes"):
        ours.pop(field, None), theirs.pop(field, None)
    assert theirs == ours


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
        "except SystemExit as end: assert not end.code\n"
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
