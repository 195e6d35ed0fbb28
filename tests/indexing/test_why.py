"""The reasons why a path is or is not indexed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import Run, save_scenes
from indexes import touch

from clipsearch.indexing.why import State, why_of
from clipsearch.store.catalogue import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "photos"
    save_scenes(folder / "sub", 2, first=6)
    save_scenes(folder / "scans", 1, first=3)
    save_scenes(folder, 3)
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / ".hidden.png").write_bytes(b"nothing")
    save_scenes(folder / "#recycle", 1, first=8)
    (folder / "notes.txt").write_bytes(b"nothing")
    return folder


def state(index: Path, path: Path) -> tuple[State, str]:
    with Store.open(index) as store:
        found = why_of(store, path)
    return found.state, found.detail


def test_each_state(folder: Path, tmp_path: Path, mini_index) -> None:
    index = mini_index(folder, exclude=("scans/", "hidden"), raw=False, video=False)
    touch(folder / "01.png")
    (folder / "02.png").unlink()
    save_scenes(folder, 1, first=9)
    (folder / "link").symlink_to(folder / "sub")
    for name in ("a.NEF", "a.mov", "hidden"):
        (folder / name).write_bytes(b"nothing")
    for name in ("IMG_1", "a.jpg_large", "a.heics", "none"):
        (folder / name).write_bytes(b"nothing" if name == "none" else (folder / "00.png").read_bytes())
    for name, expected in {
        "00.png": (State.INDEXED, ""),
        "sub": (State.INDEXED, "2 photos, 0 files skipped"),
        ".": (State.INDEXED, "5 photos, 1 file skipped"),
        "01.png": (State.CHANGED, ""),
        "02.png": (State.GONE, ""),
        "broken.png": (State.SKIPPED, "not an image that can be read"),
        "09.png": (State.NEW, ""),
        "scans/03.png": (State.EXCLUDED, "by the pattern 'scans/'"),
        "scans": (State.EXCLUDED, "by the pattern 'scans/'"),
        "a.NEF": (State.EXCLUDED, "RAW files are turned off for this folder"),
        "a.mov": (State.EXCLUDED, "videos are turned off for this folder"),
        "hidden": (State.EXCLUDED, "by the pattern 'hidden'"),
        ".hidden.png": (State.EXCLUDED, "the file or a folder above it is hidden"),
        "#recycle/08.png": (State.EXCLUDED, "in a folder for trash, which is left out like hidden folders"),
        "#recycle": (State.EXCLUDED, "in a folder for trash, which is left out like hidden folders"),
        "IMG_1": (State.EXCLUDED, "without the suffix of a photo; add --any-name"),
        "a.jpg_large": (State.EXCLUDED, "without the suffix of a photo; rename to .jpg"),
        "a.heics": (State.EXCLUDED, ".heics files cannot be read"),
        "none": (State.NO_PHOTO, ""),
        "notes.txt": (State.NO_PHOTO, ""),
        "nowhere.png": (State.MISSING, ""),
    }.items():
        assert state(index, folder / name) == expected, name
    assert state(index, folder / "link/06.png")[0] is State.INDEXED  # by the folder that the link leads to
    elsewhere = tmp_path.resolve() / "elsewhere"
    save_scenes(elsewhere, 1)
    for name in ("one", "two"):
        (folder / name).symlink_to(elsewhere)
    index = mini_index(folder, exclude=("scans/", "hidden"), raw=False, video=False, follow_links=True)
    assert state(index, folder / "one/00.png") == (State.INDEXED, "")
    assert state(index, folder / "two/00.png") == (
        State.EXCLUDED,
        f"its folder is scanned under another path, as {folder}/one/00.png",
    )
    outside = tmp_path / "outside.png"
    assert state(index, outside)[0] is State.MISSING
    outside.write_bytes(b"x")
    assert state(index, outside)[0] is State.OUTSIDE
    folder.rename(tmp_path / "away")
    assert state(index, folder / "00.png") == (State.OFFLINE, f"{folder} is not there")


def test_the_command(folder: Path, clipsearch: Run, mini_index) -> None:
    index = mini_index(folder)
    fine = clipsearch("why", folder / "00.png", index=index)
    assert (fine.status, fine.lines) == (0, [f"{folder / '00.png'}: indexed"])
    both = clipsearch("why", folder / "00.png", folder / "broken.png", "--json", index=index)
    assert both.status == 1
    first, second = json.loads(both.out)["paths"]
    assert first == {"path": str(folder / "00.png"), "state": "indexed", "reason": None, "root": str(folder)}
    assert (second["state"], second["reason"]) == ("skipped", "not an image that can be read")


@pytest.mark.skipif(sys.platform != "linux", reason="root is bound in another way")
def test_what_may_not_be_read_is_said(folder: Path, mini_index, bound: Run) -> None:
    index = mini_index(folder)
    (folder / "sub").chmod(0)
    asked = bound("query", "-k", 50, index=index)
    assert (asked.status, len(asked.lines)) == (0, 4)
    assert asked.err == f"not shown: 2 photos in {folder / 'sub'}, which cannot be read\n"
    assert "2 photos in" in bound("label", "a", "b", index=index).err
    assert "2 photos in" in bound("duplicates", index=index).err
    assert f"2  of these in {folder / 'sub'}  (offline: cannot be read)" in bound("status", index=index).out.decode()
    assert bound("why", folder / "sub/06.png", index=index).out.decode().endswith("cannot be read: permission denied\n")
    said = bound("index", index=index)
    assert f"unreadable, photos kept in the index: {folder / 'sub'}: permission denied" in said.err
    report = json.loads(bound("index", "--json", index=index).out)
    assert [one["path"] for one in report["unreadable"]] == [str(folder / "sub")]
    assert report["removed"] == 0
    (folder / "sub").chmod(0o444)  # its files can be listed, but not looked at
    report = json.loads(bound("index", "--json", index=index).out)
    assert [one["path"] for one in report["unreadable"]] == [str(folder / "sub")]
    assert "cannot be read" in bound("why", folder / "sub", index=index).out.decode()
    (folder / "sub").chmod(0o755)
    (folder / "00.png").chmod(0)  # which changes a time of it too
    assert (
        bound("why", folder / "00.png", index=index)
        .out.decode()
        .endswith("00.png: cannot be read: permission denied\n")
    )
    (folder / "00.png").chmod(0o644)
    folder.chmod(0)
    for command in (("query", "-k", 50), ("label", "a", "b"), ("duplicates",)):
        closed = bound(*command, index=index)
        assert (closed.status, closed.err) == (1, f"not searched: {folder} cannot be read\n")
    assert f"{folder}  (offline: cannot be read)" in bound("status", index=index).out.decode()
    report = json.loads(bound("index", "--json", index=index).out)
    assert report["offline"] == [{"path": str(folder), "reason": "cannot be read"}]
    folder.chmod(0o755)
    assert len(bound("query", "-k", 50, index=index).lines) == 6
