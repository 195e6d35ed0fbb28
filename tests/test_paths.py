"""Replacing and renaming files, and restricting who can read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipsearch.paths import make_tree_private, private_file, private_folder, replacing

posix = pytest.mark.skipif(os.name == "nt", reason="modes and links")


@pytest.fixture(params=[0o000, 0o022], ids=["umask 000", "umask 022"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "before"
    with replacing(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["file"]


@posix
@pytest.mark.parametrize("link", [False, True])
def test_a_new_file_replaces_nothing(tmp_path: Path, link: bool) -> None:
    path = tmp_path / "file"

    def taken() -> None:
        with replacing(path, new=True) as temporary:
            temporary.write_text("ours")
            path.symlink_to("nowhere") if link else path.write_text("theirs")

    with pytest.raises(FileExistsError):
        taken()
    assert path.is_symlink() if link else path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["file"]
    with replacing(tmp_path / "other", new=True) as temporary:
        temporary.write_text("ours")
    assert (tmp_path / "other").read_text() == "ours"


@posix
def test_what_is_private_is_so_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    private_folder(tmp_path / "a/b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a/b") == 0o700
    private_file(tmp_path / "file")
    assert mode(tmp_path / "file") == 0o600
    with replacing(tmp_path / "private", private=True) as temporary:
        assert mode(temporary) == 0o600
    with replacing(tmp_path / "public") as temporary:
        assert mode(temporary) == 0o666 & ~umask
    assert mode(tmp_path / "private") == 0o600
    assert mode(tmp_path / "public") == 0o666 & ~umask


@posix
def test_a_folder_that_was_open_is_closed_with_what_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not in the folder")
    outside.chmod(0o644)
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below/file").touch(0o644)
    (folder / "link").symlink_to(outside)
    for path in (folder, folder / "below"):
        path.chmod(0o755)
    private_folder(folder)
    assert [mode(path) for path in (folder, folder / "below", folder / "below/file", outside)] == [
        0o700,
        0o700,
        0o600,
        0o644,
    ]


@posix
def test_what_belongs_to_others_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch(0o644)
    (tmp_path / "file").chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    private_file(tmp_path / "file")
    make_tree_private(tmp_path)
    assert mode(tmp_path / "file") == 0o644


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OSError, match=r"exists|directory"):
            private_folder(path)
