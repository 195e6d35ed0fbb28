"""An index of an older format is rebuilt in place, unless that would lose photos."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import damage
from indexes import MINI, StubEncoder, assert_as_new, contents, draw, encode_with

from clipsearch.errors import BadRequest, IndexOutdated
from clipsearch.indexing.update import Options, update_index

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
    damage(index, "UPDATE meta SET value = 1, mark = mark('format', 1) WHERE key = 'format'")
    return index


def test_an_outdated_index_is_made_anew_from_its_own_folders(outdated: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexOutdated):
        update_index(outdated)
    report = update_index(outdated, options=REBUILD)
    assert (report.added, report.embedded) == (3, 3)
    assert_as_new(outdated, photos, scratch=tmp_path / "scratch")
    assert update_index(outdated).unchanged == 3


def test_an_outdated_index_is_made_anew_from_the_folders_that_are_given(outdated: Path, tmp_path: Path) -> None:
    other = draw(tmp_path.resolve() / "other/x.png", 50).parent
    assert update_index(outdated, [other], REBUILD).added == 1
    assert_as_new(outdated, other, scratch=tmp_path / "scratch")


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
