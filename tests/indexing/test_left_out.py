"""Nothing is left out without a word: an update and the status count what a scan does not look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Run, save_scenes
from PIL import Image

from clipsearch.images.left_out import LeftOut
from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.verify import verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "photos"
    save_scenes(folder, 1)
    for name in ("a.psb", "b.PSB", "c.ai", "sub/d.xcf", "notes.txt", "a.xmp", "a.json", "a.zip", ".hidden.psb", "none"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"text")
    Image.new("RGB", (8, 8)).save(folder / "IMG_1", "PNG")
    for name in ("a.jpg_large", "a.jpg?w=640", "a.jpg~", "a.jpg_original", "a.jpgx"):
        (folder / name).touch()
    for name in (
        "#recycle",
        "sub/#recycle",
        "@eaDir",
        "Film.trickplay",
        "node_modules",
        "L.photoslibrary/database",
        "L.photoslibrary/private",
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "e.psb").write_bytes(b"text")
    return folder


def recorded(index: Path) -> tuple[dict[str, int], dict[str, int]]:
    with Store.open(index) as store:
        known = store.summary().left_out
    return dict(known.files), dict(known.folders)


FILES = {".psb": 2, ".ai": 1, ".xcf": 1, "": 1, ".jpg_large": 1, ".jpg?w=640": 1}
FOLDERS = {"#recycle": 2, "@eaDir": 1, "Film.trickplay": 1, "L.photoslibrary": 2}


def test_an_update_and_the_index_count_what_is_left_out(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    report = update_index(index, [folder], Options(model="mini"))
    assert (report.left_out.files, report.left_out.folders) == (FILES, FOLDERS)
    assert recorded(index) == (FILES, FOLDERS)
    (folder / "sub/f.psb").touch()
    assert update_index(index, [folder / "sub"]).left_out.files == {".xcf": 1, ".psb": 1}
    assert recorded(index) == (FILES, FOLDERS)  # a part does not speak for the whole
    update_index(index, (), Options(rebuild=True))
    assert recorded(index) == (FILES | {".psb": 3}, FOLDERS)
    for name in ("a.psb", "b.PSB", "sub/f.psb", "c.ai", "sub/d.xcf", "IMG_1", "a.jpg_large", "a.jpg?w=640"):
        (folder / name).unlink()
    assert update_index(index, (), Options(hidden=True)).left_out.folders == {}
    assert recorded(index) == ({".psb": 8}, {})


def test_what_a_forgotten_folder_left_out_is_forgotten(folder: Path, tmp_path: Path) -> None:
    index, other = tmp_path / "index", tmp_path / "other"
    save_scenes(other, 1, first=3)
    update_index(index, [folder, other], Options(model="mini"))
    with Store.open(index, write=True) as store:
        root = next(root for root in store.roots() if root.path == os.fsencode(folder))
        store.folders.remove(root)
        store.commit()
    assert recorded(index) == ({}, {})


def test_videos_that_need_the_extra_are_counted_and_source_code_is_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clipsearch: Run
) -> None:
    for name in ("a.mov", "b.MTS", "main.ts"):
        (folder / name).write_bytes(b"import a\n" if name == "main.ts" else b"\0\0\0\1G@\0\x10" + bytes(8))
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: False)
    report = update_index(tmp_path / "index", [folder], Options(model="mini"))
    assert report.left_out.files == FILES | {".mov": 1, ".mts": 1}
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: True)
    status = json.loads(clipsearch("status", "--json", index=tmp_path / "index").out)
    assert {"suffix": ".mov", "files": 1, "remedy": "run: clipsearch index"} in status["left_out"]
    assert {"name": "#recycle", "folders": 2} in status["skipped_folders"]
    assert update_index(tmp_path / "index", (), Options(video=False)).left_out.files == FILES  # as was asked for


def test_a_folder_without_photos_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    save_scenes(tmp_path / "photos", 1)
    report = update_index(tmp_path / "index", [tmp_path / "empty", tmp_path / "photos"], Options(model="mini"))
    assert report.empty == [os.fsencode((tmp_path / "empty").resolve())]


def test_a_damaged_record_is_repaired(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    update_index(index, [folder], Options(model="mini"))
    with Store.open(index, write=True) as store:
        store.database.begin()
        store.database.execute("UPDATE meta SET value = ? WHERE key = 'left_out'", (json.dumps({"x": 1}),))
        store.commit()
        assert [repair.count for repair in verify(store).repairs] == [1]
        assert store.folders.left_out() == LeftOut()
