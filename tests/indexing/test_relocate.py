"""Folders are forgotten or get a new path, and nothing is embedded again."""

from __future__ import annotations

from pathlib import Path

import pytest
from indexes import MINI, StubEncoder, contents, draw, encode_with

from clipsearch.errors import BadRequest, NoIndex, NotIndexed
from clipsearch.indexing.relocate import Relocated, forget, relocate
from clipsearch.indexing.update import update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Line


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two folders of photos, `one` and `two`, and their index."""
    encode_with(monkeypatch, StubEncoder)
    folder = tmp_path.resolve()
    for n in range(3):
        draw(folder / f"one/{n}.png", n)
        draw(folder / f"two/{n}.png", 10 + n)
    (folder / "one/broken.png").write_bytes(b"no picture")
    update_index(folder / "index", [folder / "one", folder / "two"], MINI)
    return folder


def test_a_folder_that_is_forgotten_takes_its_files_with_it(top: Path) -> None:
    assert forget(top / "index", [top / "one", top / "two" / ".." / "one"]) == 4
    assert {path.parent.name for path in map(Path, map(bytes.decode, contents(top / "index")))} == {"two"}
    assert (top / "one/0.png").exists()


def test_nothing_of_a_folder_that_is_forgotten_remains(top: Path) -> None:
    index = top / "index"
    draw(top / "three/secretname.png", 20)
    update_index(index, [top / "three"], MINI)
    with Store.open(index, write=True) as store:
        (row,) = store.database.execute(
            "SELECT id, vector FROM images JOIN embeddings ON image = id ORDER BY id DESC LIMIT 1"
        )
        store.ocr_text.put(row[0], [Line("secrettext", 0, 0, 1, 1)])
        store.captions.put(row[0], "secretcaption", "a model")
        store.commit()
        store.vectors.update(store.vectors.segments() or ())
    traces = [b"secretname", b"secrettext", b"secretcaption", row[1], row[1][:64]]

    def found() -> list[bytes]:
        return [trace for trace in traces for path in index.iterdir() if trace in path.read_bytes()]

    assert set(found()) == set(traces)
    forget(index, [top / "three"])
    assert found() == []


def test_what_is_not_indexed_cannot_be_forgotten_and_nothing_else_is(top: Path) -> None:
    before = contents(top / "index")
    with pytest.raises(NotIndexed, match="three is not an indexed folder"):
        forget(top / "index", [top / "one", top / "three"])
    assert contents(top / "index") == before
    with pytest.raises(NoIndex):
        forget(top / "none", [top / "one"])


def test_a_folder_that_was_moved_keeps_its_embeddings(top: Path) -> None:
    before = contents(top / "index")
    (top / "one").rename(top / "new")
    (top / "new/0.png").unlink()
    assert relocate(top / "index", top / "one", top / "new") == Relocated(there=2, known=3)
    after = contents(top / "index")
    assert sorted(after.values()) == sorted(before.values())
    report = update_index(top / "index")
    assert (report.unchanged, report.removed, report.embedded) == (5, 1, 0)


def test_a_move_that_cannot_be_meant_is_refused(top: Path) -> None:
    before = contents(top / "index")
    (top / "empty").mkdir()
    (top / "file").touch()
    with pytest.raises(BadRequest, match=r"one is still there, so it cannot have moved$"):
        relocate(top / "index", top / "one", top / "empty")
    (top / "one").rename(top / "new")
    with pytest.raises(BadRequest, match=r"there is no folder .*nowhere$"):
        relocate(top / "index", top / "one", top / "nowhere")
    with pytest.raises(BadRequest, match=r"is a file, not a folder$"):
        relocate(top / "index", top / "one", top / "file")
    with pytest.raises(BadRequest, match=r"none of the photos of .*one are in .*empty$"):
        relocate(top / "index", top / "one", top / "empty")
    with pytest.raises(BadRequest, match=r"overlaps the indexed folder .*$"):
        relocate(top / "index", top / "one", top / "two")
    with pytest.raises(NotIndexed):
        relocate(top / "index", top / "three", top / "new")
    assert contents(top / "index") == before
