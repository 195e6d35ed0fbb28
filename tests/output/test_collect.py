from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clipsearch.errors import BadRequest, ClipsearchError
from clipsearch.images.metadata import Metadata
from clipsearch.output.collect import collect, label_folders
from clipsearch.search.hit import Hit
from clipsearch.store.catalogue import Photo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
needs_raw_names = pytest.mark.skipif(sys.platform != "linux", reason="names here are not any bytes")


def hits_of(*paths: Path | bytes, first: int = 1) -> list[Hit]:
    return [Hit(n, 0.5, Photo(n, os.fsencode(path), 1, 1, b"", Metadata(1, 1))) for n, path in enumerate(paths, first)]


def write(path: Path, contents: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(contents or str(path))
    return path


def listing(folder: Path) -> dict[str, tuple[str, int]]:
    """Names, with contents and inodes: a file that is written anew is another one."""
    return {path.name: (path.read_text(), path.lstat().st_ino) for path in folder.iterdir()}


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "photos" / name) for name in ("a/one.jpg", "a/two.jpg", "b/three.jpg")]


# ------------------------------------------------------------------------------------------ copies and links


def test_copies_have_contents_and_times(tmp_path: Path, photos: list[Path]) -> None:
    os.utime(photos[0], ns=(1_000_000_000, 1_234_567_890))
    folder = tmp_path / "new" / "folder"
    assert collect(hits_of(*photos), folder, link=False, numbered=False) == [folder / p.name for p in photos]
    for photo in photos:
        copied = folder / photo.name
        assert copied.read_text() == photo.read_text()
        assert not copied.is_symlink()
        assert not copied.samefile(photo)
        assert copied.stat().st_mtime_ns == photo.stat().st_mtime_ns
        assert copied.stat().st_mode == photo.stat().st_mode
    assert len(list(folder.iterdir())) == 3


def test_links_lead_to_the_photos_from_anywhere(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = collect(hits_of(*photos), Path("links"), link=True, numbered=False)
    assert made == [Path("links") / p.name for p in photos]
    assert [os.readlink(path) for path in made] == [str(path) for path in photos]


def test_numbers_come_first_with_zeros(tmp_path: Path, photos: list[Path]) -> None:
    collect(hits_of(*photos), tmp_path / "to", link=False, numbered=True)
    assert sorted(listing(tmp_path / "to")) == ["001-one.jpg", "002-two.jpg", "003-three.jpg"]
    collect(hits_of(*photos)[::-1], tmp_path / "back", link=False, numbered=True)  # in another order than by rank
    assert sorted(listing(tmp_path / "back")) == ["001-three.jpg", "002-two.jpg", "003-one.jpg"]
    collect(hits_of(*photos[:2] * 500), tmp_path / "many", link=True, numbered=True)
    assert sorted(listing(tmp_path / "many"))[998:] == ["0999-one.jpg", "1000-two.jpg"]


def test_no_hits_are_an_empty_folder(tmp_path: Path) -> None:
    assert collect([], tmp_path / "to", link=False, numbered=True) == []
    assert listing(tmp_path / "to") == {}


# ------------------------------------------------------------------------------------------ what is there already


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("numbered", [False, True])
def test_a_second_time_adds_and_changes_nothing(tmp_path: Path, photos: list[Path], link: bool, numbered: bool) -> None:
    photos.append(write(tmp_path / "photos/c/one.jpg", "another"))
    write(tmp_path / "to" / "one.jpg", "somebody's")
    first = collect(hits_of(*photos), tmp_path / "to", link=link, numbered=numbered)
    before = listing(tmp_path / "to")
    assert len(set(first)) == 4
    assert collect(hits_of(*photos), tmp_path / "to", link=link, numbered=numbered) == first
    assert listing(tmp_path / "to") == before


@pytest.mark.parametrize("link", [False, True])
def test_files_of_others_keep_their_names(tmp_path: Path, photos: list[Path], link: bool) -> None:
    to = tmp_path / "to"
    write(to / "one.jpg", "somebody's")
    os.symlink("nowhere", to / "two.jpg")
    (to / "three.jpg").mkdir()
    write(to / "one-2.jpg", "x" * len(str(photos[0])))  # as long and as old as the photo
    shutil.copystat(photos[0], to / "one-2.jpg")
    made = collect(hits_of(*photos), to, link=link, numbered=False)
    assert [path.name for path in made] == ["one-3.jpg", "two-2.jpg", "three-2.jpg"]
    assert (to / "one.jpg").read_text() == "somebody's"
    assert os.readlink(to / "two.jpg") == "nowhere"
    assert (to / "three.jpg").is_dir()
    assert [path.read_text() for path in made] == [path.read_text() for path in photos]
    assert not (tmp_path / "nowhere").exists()


def test_photos_with_one_name_are_all_collected(tmp_path: Path) -> None:
    same = [write(tmp_path / f"{n}/IMG.jpg", f"contents {n}") for n in range(4)]
    copy = write(tmp_path / "4/IMG.jpg", "contents 2")
    made = collect(hits_of(*same, copy), tmp_path / "to", link=False, numbered=False)
    assert [path.name for path in made] == ["IMG.jpg", "IMG-2.jpg", "IMG-3.jpg", "IMG-4.jpg", "IMG-3.jpg"]
    assert [path.read_text() for path in made] == [path.read_text() for path in [*same, copy]]


def test_a_link_is_no_copy(tmp_path: Path, photos: list[Path]) -> None:
    collect(hits_of(photos[0]), tmp_path / "to", link=True, numbered=False)
    (copied,) = collect(hits_of(photos[0]), tmp_path / "to", link=False, numbered=False)
    assert copied.name == "one-2.jpg"
    assert not copied.is_symlink()


@pytest.mark.parametrize("link", [False, True])
def test_a_photo_in_the_folder_itself_is_collected_already(tmp_path: Path, photos: list[Path], link: bool) -> None:
    folder = photos[0].parent
    before = listing(folder)
    assert collect(hits_of(photos[0]), folder, link=link, numbered=False) == [photos[0]]
    assert listing(folder) == before


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_name_that_is_taken_in_between_is_left_alone(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    """Another process takes the name after it was seen to be free."""
    to = tmp_path / "to"

    def late(source: Any, target: Any) -> None:
        real_copy(source, target)
        if not (to / "one.jpg").exists():
            write(to / "one.jpg", "somebody's")

    real_copy = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", late)
    if not hard_links:
        forbid_hard_links(monkeypatch)
    (made,) = collect(hits_of(photos[0]), to, link=False, numbered=False)
    assert {name: contents for name, (contents, _) in listing(to).items()} == {
        "one.jpg": "somebody's",
        "one-2.jpg": str(photos[0]),
    }
    assert made == to / "one-2.jpg"


def test_many_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    photos = [write(tmp_path / f"{n}/IMG.jpg", f"contents {n}") for n in range(8)]
    made: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda photo=photo: made.extend(collect(hits_of(photo), tmp_path / "to", link=False, numbered=False))
        )
        for photo in photos
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8
    assert sorted(contents for contents, _ in listing(tmp_path / "to").values()) == [f"contents {n}" for n in range(8)]


def forbid_hard_links(patch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    patch.setattr(os, "link", link)


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_hard_links(monkeypatch)
    to = tmp_path / "to"
    write(to / "one.jpg", "somebody's")
    first = collect(hits_of(*photos), to, link=False, numbered=False)
    assert [path.name for path in first] == ["one-2.jpg", "two.jpg", "three.jpg"]
    assert [path.read_text() for path in first] == [path.read_text() for path in photos]
    before = listing(to)
    assert len(before) == 4
    assert collect(hits_of(*photos), to, link=False, numbered=False) == first
    assert listing(to) == before


# ------------------------------------------------------------------------------------------ names


@needs_raw_names
@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"line\nbreak\t.jpg", b"-rf", b".hidden", "\u00e4 \U0001f436.jpg".encode()]
)
def test_names_survive_byte_for_byte(tmp_path: Path, name: bytes, link: bool) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_text("a photo")
    collect(hits_of(path), tmp_path / "plain", link=link, numbered=False)
    collect(hits_of(path), tmp_path / "numbered", link=link, numbered=True)
    assert os.listdir(os.fsencode(tmp_path / "plain")) == [name]
    assert os.listdir(os.fsencode(tmp_path / "numbered")) == [b"001-" + name]


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".jpg", "\u00e4" * 125 + ".jpg", "\U0001f436" * 62 + ".jpeg", "a." + "x" * 253, "x" * 255]
)
def test_long_names_are_shortened_by_whole_characters(tmp_path: Path, name: str) -> None:
    photos = [write(tmp_path / folder / name) for folder in ("a", "b")]
    made = collect(hits_of(*photos), tmp_path / "to", link=False, numbered=True)
    made += collect(hits_of(*photos), tmp_path / "to", link=False, numbered=False)
    again = collect(hits_of(*photos), tmp_path / "to", link=False, numbered=False)
    assert made[2:] == again
    assert len(set(made)) == len(listing(tmp_path / "to")) == 4
    suffix = Path(name).suffix if len(Path(name).suffix) < 10 else ""
    for path in made:
        assert path.name.endswith(suffix)
        assert 250 <= len(os.fsencode(path.name)) <= 255
        path.name.encode("utf-8")
    assert made[0].name.startswith("001-" + name[:50])
    assert made[3].name.endswith("-2" + suffix)


@needs_raw_names
def test_a_folder_of_any_name_will_do(tmp_path: Path, photos: list[Path]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n"))
    collect(hits_of(photos[0]), folder, link=False, numbered=False)
    assert listing(folder)["one.jpg"][0] == str(photos[0])


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("link", [False, True])
def test_a_photo_that_is_gone_ends_it_and_what_was_collected_stays(
    tmp_path: Path, photos: list[Path], link: bool
) -> None:
    photos[1].unlink()
    with pytest.raises(ClipsearchError, match=r"two\.jpg cannot be (linked|copied) to .*/to: no such file"):
        collect(hits_of(*photos), tmp_path / "to", link=link, numbered=False)
    assert list(listing(tmp_path / "to")) == ["one.jpg"]


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "no space left on device"), (errno.EACCES, "permission denied")]
)
def test_half_a_copy_is_never_left(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    seen = []

    def half(source: Any, target: Any) -> None:
        if Path(source).name == "two.jpg":
            Path(target).write_text("hal")
            seen.extend(path.name for path in (tmp_path / "to").iterdir() if not path.name.startswith("."))
            raise OSError(number, os.strerror(number), source)
        real(source, target)

    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(ClipsearchError) as caught:
        collect(hits_of(*photos), tmp_path / "to", link=False, numbered=False)
    assert str(caught.value) == f"{photos[1]} cannot be copied to {tmp_path / 'to'}: {reason}"
    assert seen == ["one.jpg"]
    assert list(listing(tmp_path / "to")) == ["one.jpg"]


def test_an_interrupt_leaves_nothing_half_done(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    forbid_hard_links(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        collect(hits_of(*photos), tmp_path / "to", link=False, numbered=False)
    assert listing(tmp_path / "to") == {}


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_no_folder(tmp_path: Path, photos: list[Path], below: str) -> None:
    file = write(tmp_path / "to", "a file")
    with pytest.raises(BadRequest, match=r"/to.*cannot be created: it or a parent is a file"):
        collect(hits_of(*photos), file / below, link=False, numbered=False)
    assert file.read_text() == "a file"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("folder", ["/proc/1/photos", "/proc"])
def test_a_folder_that_cannot_be_written_to_is_named(photos: list[Path], folder: str) -> None:
    for link in (False, True):
        with pytest.raises(ClipsearchError, match=folder) as caught:
            collect(hits_of(*photos), Path(folder), link=link, numbered=False)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_the_place_of_a_photo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ClipsearchError, match=r"a\.jpg cannot be copied"):
        collect(hits_of(tmp_path / "a.jpg"), tmp_path / "to", link=False, numbered=False)
    assert listing(tmp_path / "to") == {}


def test_the_photos_themselves_are_never_changed(tmp_path: Path, photos: list[Path]) -> None:
    before = [(path.stat().st_mtime_ns, path.stat().st_ino, path.stat().st_nlink, path.read_text()) for path in photos]
    for link in (False, True):
        for numbered in (False, True):
            collect(hits_of(*photos), tmp_path / f"to{link}{numbered}", link=link, numbered=numbered)
    after = [(path.stat().st_mtime_ns, path.stat().st_ino, path.stat().st_nlink, path.read_text()) for path in photos]
    assert after == before


# ------------------------------------------------------------------------------------------ a folder per label


def test_folders_of_labels_are_safe_names() -> None:
    labels = [
        "a dog",
        "animal|dog",
        "animal | cat",
        "../../etc",
        "..",
        "a/b",
        "a\\b",
        ".hidden",
        "x\0y",
        "CON",
        "nul.txt",
    ]
    labels += ["COM1", "what?", "end. ", "|", "\u202egpj", "a" * 300, "é" * 300]
    folders = label_folders(labels)
    assert list(folders) == labels
    assert [path.as_posix() for path in folders.values()][:16] == [
        *("a dog", "animal/dog", "animal/cat", "_.._etc", "_", "a_b", "a_b-2", "hidden", "x_y", "CON_", "nul_.txt"),
        *("COM1_", "what_", "end", "_-2", "_gpj"),
    ]
    assert all(len(os.fsencode(part)) <= 210 for path in folders.values() for part in path.parts)


def test_no_two_labels_share_a_folder() -> None:
    labels = [
        "Dog",
        "dog",
        "DOG",
        "dog-2",
        "stra\u00dfe",
        "STRASSE",
        "caf\u00e9",
        "cafe\u0301",
        "Animal|dog",
        "animal|DOG",
    ]
    folders = [path.as_posix().casefold() for path in label_folders(labels).values()]
    assert len(set(folders)) == len(labels)
