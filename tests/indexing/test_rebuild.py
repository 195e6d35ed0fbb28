"""An index of an older format is rebuilt in place, unless that would lose photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import damage
from indexes import MINI, StubEncoder, assert_as_new, contents, draw, encode_with

from clipsearch.errors import BadRequest, IndexOutdated
from clipsearch.indexing.run import Run
from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.schema import OF_PHOTO

REBUILD = Options(model="mini", rebuild=True)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    encode_with(monkeypatch, StubEncoder)
    folder = tmp_path.resolve() / "photos"
    for n in range(3):
        draw(folder / f"{n}.png", n)
    return folder


@pytest.fixture
def outdated(photos: Path, tmp_path: Path) -> Path:
    """An index of the photos that says it has an older format."""
    index = tmp_path / "index"
    update_index(index, [photos], MINI)
    age(index)
    return index


def age(index: Path) -> None:
    """Let an index say that it has an older format."""
    damage(index, "UPDATE meta SET value = 1, mark = mark('format', 1) WHERE key = 'format'")


def test_an_outdated_index_is_made_anew_from_its_own_folders(outdated: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexOutdated):
        update_index(outdated)
    report = update_index(outdated, options=REBUILD)
    assert (report.added, report.embedded) == (3, 3)
    assert_as_new(outdated, photos, scratch=tmp_path / "scratch")
    assert update_index(outdated).unchanged == 3


def test_an_outdated_index_keeps_its_folders_beside_those_that_are_given(
    outdated: Path, photos: Path, tmp_path: Path
) -> None:
    other = draw(tmp_path.resolve() / "other/x.png", 50).parent
    assert update_index(outdated, [other], REBUILD).added == 4
    age(outdated)
    away = photos.rename(photos.with_name("unmounted"))
    report = update_index(outdated, [other], REBUILD)
    assert (report.added, [os.fsdecode(place) for place, _ in report.offline]) == (1, [str(photos)])
    away.rename(photos)
    assert update_index(outdated).added == 3


def test_an_outdated_index_keeps_its_model_and_settings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the rebuild is killed before it has embedded anything."""
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini", exclude=("1.png",), raw=False, hidden=True, faces=True))
    damage(index, "UPDATE meta SET value = 1, mark = mark('reads', 1) WHERE key = 'reads'")
    with Store.open(index) as store:
        before = store.model, store.roots()[0].rules
    age(index)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "update", lambda *_: os.readlink(index))
        with pytest.raises(OSError, match="Invalid argument"):
            update_index(index, options=Options(rebuild=True))
    with Store.open(index) as store:
        assert (store.model, store.roots()[0].rules) == before
        assert store.has_ocr()
        assert store.faces.model() is not None
    assert update_index(index, options=Options(ocr=False)).added == 2


def test_an_outdated_index_waits_for_a_drive_in_its_folders(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    draw(photos / "usb/x.png", 20)
    update_index(index, [photos], MINI)
    damage(index, f"INSERT INTO drives SELECT 99, root, CAST('{photos}/usb' AS BLOB), 12345, 0 FROM drives")
    damage(index, "UPDATE drives SET mark = mark(id, root, mount, device)")
    damage(index, f"UPDATE photos SET drive = 99, mark = mark({OF_PHOTO}) WHERE path = CAST('usb/x.png' AS BLOB)")
    (photos / "usb/x.png").unlink()
    age(index)
    for directories in ([], [photos]):
        with pytest.raises(BadRequest, match=r"reconnect it, or add --prune"):
            update_index(index, directories, REBUILD)
    assert update_index(index, options=Options(model="mini", rebuild=True, prune=True)).added == 3


def test_an_outdated_index_stays_while_one_of_its_folders_is_away(outdated: Path, photos: Path) -> None:
    before = (outdated / "catalogue.sqlite").read_bytes()
    photos.rename(photos.with_name("unmounted"))
    with pytest.raises(BadRequest, match=r"there is no folder .*photos"):
        update_index(outdated, options=REBUILD)
    assert (outdated / "catalogue.sqlite").read_bytes() == before


def test_an_outdated_index_of_no_folder_says_that_it_is_outdated(outdated: Path) -> None:
    damage(outdated, "DELETE FROM photos; DELETE FROM roots")
    with pytest.raises(IndexOutdated):
        update_index(outdated, options=REBUILD)


def test_a_model_that_fails_leaves_the_folders_for_the_next_run(
    outdated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StubEncoder, "fail_at", len(StubEncoder.batches))
        with pytest.raises(RuntimeError, match="out of memory"):
            update_index(outdated, options=REBUILD)
    assert update_index(outdated).added == 3
    assert len(contents(outdated)) == 3
