"""The public surface: what a notebook uses, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SCENES, save_scenes

import clipsearch
from clipsearch import errors


def test_the_public_surface_is_this() -> None:
    public = {name for name in dir(clipsearch) if not name.startswith("_")}
    assert set(clipsearch.__all__) == {
        *("Circle", "ClipsearchError", "Filter", "Hit", "Index", "Progress", "Report", "open_index", "update_index")
    }
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name).__doc__
    with pytest.raises(AttributeError):
        clipsearch.nothing  # noqa: B018
    assert {"Index", "open_index", "update_index", "ClipsearchError"} <= public


def test_an_index_is_made_asked_and_brought_up_to_date(tmp_path: Path) -> None:
    paths = save_scenes(tmp_path / "photos", 8)
    index = clipsearch.open_index(tmp_path / "index")
    seen: list[clipsearch.Progress] = []
    report = clipsearch.update_index(index, [tmp_path / "photos"], on_progress=seen.append, model="mini")
    assert isinstance(report, clipsearch.Report)
    assert report.added == 8
    assert seen[-1].done == seen[-1].total == 8
    hits = index.query(images=[paths[3]], without=["2:" + SCENES[5].captions[0]], k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert isinstance(hits[0], clipsearch.Hit)
    assert index.query(images=[paths[3]])[0].path == str(paths[3].resolve())
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert index.query(SCENES[2].captions[0], under=tmp_path / "photos", min_score=2) == []
    paths[3].unlink()
    assert clipsearch.update_index(index).removed == 1


def test_another_model_than_the_default_is_not_used_silently(tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 1)
    with pytest.warns(UserWarning, match="mini is used"):
        clipsearch.update_index(clipsearch.open_index(tmp_path / "index"), [tmp_path / "photos"])


def test_every_error_is_a_clipsearch_error_with_an_exit_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    assert all(issubclass(kind, clipsearch.ClipsearchError) and kind.exit_code == 2 for kind in kinds)
    with pytest.raises(clipsearch.ClipsearchError, match="no index"):
        clipsearch.open_index("/nowhere").query("a dog")


def test_the_users_own_index_is_the_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home in clipsearch.open_index().folder.parents
    monkeypatch.setenv("CLIPSEARCH_INDEX", "~/elsewhere")
    assert clipsearch.open_index().folder == home / "elsewhere"
    assert clipsearch.open_index("~/here").folder == home / "here"
    with pytest.raises(clipsearch.ClipsearchError, match="empty"):
        clipsearch.open_index("")
