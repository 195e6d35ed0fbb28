from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import forbid

from clipsearch.images import scan as scan_module
from clipsearch.images.found_file import FoundFile
from clipsearch.images.rules import Rules
from clipsearch.images.scan import Exclusions, Links, Unreadable, scan

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not allow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def put(root: Path, *names: str | bytes, content: bytes = b"x") -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def found(root: Path, under: bytes = b"", **rules: object) -> list[FoundFile | Unreadable]:
    return list(scan(os.fsencode(root), Rules(**rules), under))


def paths(root: Path, under: bytes = b"", **rules: object) -> list[bytes]:
    return [entry.path for entry in found(root, under, **rules)]


def test_paths_come_in_bytewise_order_of_the_whole_path(root: Path) -> None:
    put(root, "b.jpg", "a/z.jpg", "a.jpg", "a/b/c.jpg", "a-1/x.jpg", "a0.jpg", "B.jpg", "a/b.jpg", "ä.jpg", "a b.jpg")
    put(root, b"\xff.jpg", "a/b-c.jpg", "a.d/1.jpg")
    assert paths(root) == sorted(paths(root))
    assert len(paths(root)) == 13
    assert paths(root)[:7] == [
        b"B.jpg",
        b"a b.jpg",
        b"a-1/x.jpg",
        b"a.d/1.jpg",
        b"a.jpg",
        b"a/b-c.jpg",
        b"a/b.jpg",
    ]


def test_a_photo_carries_its_size_and_times(root: Path) -> None:
    put(root, "a.jpg", content=b"12345")
    os.utime(root / "a.jpg", ns=(1, 1_234_567_890_000_000_000))
    status = (root / "a.jpg").stat()
    assert found(root) == [FoundFile(b"a.jpg", 5, 1_234_567_890_000_000_000, status.st_ctime_ns, device=status.st_dev)]


def test_a_folder_that_becomes_another_one_while_it_is_listed_is_listed_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a drive is mounted; one that does not come to rest is not believed."""
    put(root, "a.jpg", "sub/b.jpg")
    real, changes = scan_module._identity, iter([1])

    def identity(folder: bytes) -> tuple[int, int]:
        return (real(folder)[0] + next(changes, 0), 1) if folder.endswith(b"sub") else real(folder)

    monkeypatch.setattr(scan_module, "_identity", identity)
    assert paths(root) == [b"a.jpg", b"sub/b.jpg"]
    changes = iter(range(1, 99))
    items = list(scan(os.fsencode(root)))
    assert [item.path for item in items] == [b"a.jpg", b"sub"]
    assert items[1] == Unreadable(b"sub", "mounted or unmounted while it was listed")


def test_only_files_named_like_photos_are_found_whatever_the_case(root: Path) -> None:
    put(root, "a.JPG", "b.Jpeg", "c.HEIC", "d.png", "e.txt", "jpg", "f.jpg.part", ".jpg", "g.mp3")
    assert paths(root, hidden=True) == [b"a.JPG", b"b.Jpeg", b"c.HEIC", b"d.png"]


def test_hidden_files_thumbnails_and_packages_are_left_out(root: Path) -> None:
    left_out = [
        ".git/a.jpg",
        ".hidden.jpg",
        "@eaDir/b.jpg",
        "node_modules/c.png",
        "sub/.trash/d.jpg",
        "sub/@eaDir/e.jpg",
    ]
    put(root, "sub/seen.jpg", *left_out)
    assert paths(root) == [b"sub/seen.jpg"]
    assert paths(root, hidden=True) == sorted(name.encode() for name in ["sub/seen.jpg", *left_out])


@pytest.mark.parametrize(
    "folder",
    [
        *(
            "#recycle",
            "@Recycle/2023",
            "$RECYCLE.BIN/S-1-5-21",
            "RECYCLER",
            "RECYCLED",
            "Network Trash Folder",
            "trashbox",
        ),
        *(
            ".Trash-1000/files",
            ".Trashes/501",
            "files_trashbin/files",
            "#snapshot/GMT+02-2026.01.01",
            "@Recently-Snapshot",
        ),
        *("~snapshot", ".zfs/snapshot/a", "@GMT-2026.01.01-00.00.00", "Backups.backupdb/Mac", ".@__thumb", "@__thumb"),
        *(".thumbnails", "Catalog Previews.lrdata/1", "Smart Previews.lrdata", "appdata_oc1a2b/preview"),
        *("Photos Library.photoslibrary/resources/derivatives/F", "Photos Library.photoslibrary/scopes"),
        *("iPhoto Library.photolibrary/Thumbnails/2008", "a.migratedphotolibrary/Previews", "a.aplibrary/Previews"),
        "System Volume Information",
    ],
)
def test_folders_that_are_not_the_library_are_left_out(root: Path, folder: str) -> None:
    put(root, "a.jpg", f"{folder}/b.jpg", f"2023/{folder}/c.jpg")
    assert paths(root) == [b"a.jpg"]
    assert len(paths(root, hidden=True)) == 3


@pytest.mark.parametrize(
    "folder",
    [
        *(
            "Photos Library.photoslibrary/originals/F",
            "Photos Library.photoslibrary/Masters/2015",
            "b.photolibrary/Originals",
        ),
        *(
            "Recycled",
            "recycling",
            "Trash",
            "trash metal",
            "Deleted scenes",
            "snapshots",
            "Versions",
            "Previews",
            "resources",
        ),
        *("thumbs", "Photos Library/resources", "lost+found"),
    ],
)
def test_folders_that_people_may_have_named_so_are_scanned(root: Path, folder: str) -> None:
    put(root, f"{folder}/b.jpg", f"2023/{folder}/c.jpg")
    assert len(paths(root)) == 2


def test_only_the_originals_of_a_library_are_scanned_when_it_is_the_indexed_folder(tmp_path: Path) -> None:
    library = tmp_path / "Photos Library.photoslibrary"
    put(library, "originals/0/a.heic", "resources/derivatives/0/a.jpg")
    assert paths(library) == [b"originals/0/a.heic"]


def test_excluding_a_name_leaves_it_out_everywhere(root: Path) -> None:
    put(root, "raw/a.jpg", "x/raw/b.jpg", "x/c.jpg", "x/c_thumb.jpg")
    assert paths(root, exclude=("raw", "*_thumb.*")) == [b"x/c.jpg"]


def test_excluding_a_relative_path_leaves_out_that_one_only(root: Path) -> None:
    put(root, "raw/a.jpg", "x/raw/b.jpg", "x/c.jpg", "y/c.jpg")
    assert paths(root, exclude=("x/raw", "y/*.jpg")) == [b"raw/a.jpg", b"x/c.jpg"]


def test_a_question_mark_excludes_one_letter_and_not_one_byte(root: Path) -> None:
    put(root, "é.jpg", "ab.jpg", b"\xff.jpg", "[red].jpg")
    assert paths(root, exclude=("?.jpg",)) == [b"[red].jpg", b"ab.jpg"]
    assert b"\xc3\xa9.jpg" not in paths(root, exclude=("[é].jpg",))
    assert b"[red].jpg" not in paths(root, exclude=("[[]red].jpg",))


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("sub/",), ["a.gif", "a.jpg", "x/sub"]),  # folders alone
        (("/sub",), ["a.gif", "a.jpg", "x/sub", "x/sub.d/sub/c.jpg"]),
        (("**/sub/**",), ["a.gif", "a.jpg", "x/sub"]),
        (("sub",), ["a.gif", "a.jpg"]),
        (("*.gif", "sub"), ["a.jpg"]),
        (("*", "!a.jpg"), ["a.jpg"]),
        (("sub/", "!sub/a.jpg"), ["a.gif", "a.jpg", "x/sub"]),  # below a folder that is left out nothing is taken back
        (("/a", "gif"), ["a.gif", "a.jpg", "sub/a.jpg", "x/sub", "x/sub.d/sub/c.jpg"]),
    ],
)
def test_patterns_are_those_of_a_gitignore_file(root: Path, exclude: tuple[str, ...], left: list[str]) -> None:
    put(root, "a.jpg", "a.gif", "sub/a.jpg", "x/sub.d/sub/c.jpg")
    put(root, "x/sub", content=b"\xff\xd8\xff" + bytes(20))
    assert paths(root, exclude=exclude, any_name=True) == [name.encode() for name in left]
    for name in ("a.jpg", "a.gif", "sub/a.jpg", "x/sub", "x/sub.d/sub/c.jpg"):
        reason = Exclusions(Rules(exclude=exclude), b"").rule_for(name.encode())
        assert (reason is None) == (name in left)
        assert reason is None or reason in exclude


def test_patterns_and_names_may_have_anything_in_them(root: Path) -> None:
    put(root, "#tag.jpg", "two\nlines/sub/a.jpg", b"\xff/sub/a.jpg", "!a.jpg")
    assert paths(root, exclude=("#tag.jpg", "sub")) == [b"!a.jpg"]
    assert b"two\nlines/sub/a.jpg" not in paths(root, exclude=("two\nlines",))
    assert b"!a.jpg" not in paths(root, exclude=("\\!a.jpg",))


def test_raw_files_and_videos_are_left_out_by_settings_of_their_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: True)
    put(root, "a.CR2", "b.dng", "c.MOV", "d/e.jpg", "f.nef/g.jpg", "raw", "video")
    assert paths(root, raw=False) == [b"c.MOV", b"d/e.jpg", b"f.nef/g.jpg"]
    assert paths(root, video=False, exclude=("f.*",)) == [b"a.CR2", b"b.dng", b"d/e.jpg"]
    assert paths(root, raw=False, video=False) == [b"d/e.jpg", b"f.nef/g.jpg"]


def test_a_pattern_that_matched_is_told_from_one_that_did_not(root: Path) -> None:
    put(root, "a.gif", "sub/b.gif", "c.jpg")
    exclusions = Exclusions(Rules(exclude=("*.gif", "a.*", "none", "/sub")), b"")
    assert [entry.path for entry in scan(os.fsencode(root), exclusions=exclusions)] == [b"c.jpg"]
    assert exclusions.matched == {"*.gif", "a.*", "/sub"}


def test_what_is_left_out_has_its_reason() -> None:
    rules = Rules(exclude=("*.gif", "/raw/"))
    for path, reason in (
        (b"a.jpg", None),
        (b"x/a.gif", "*.gif"),
        (b"raw/x/a.jpg", "/raw/"),
        (b"raw", None),
        (b"raw/", "/raw/"),
        (b"x/.git/a.jpg", "hidden"),
        (b"@eaDir/a.jpg", "thumbnails and previews"),
        (b"2023/#recycle/x/a.jpg", "trash"),
        (b"#recycle", None),  # a file
    ):
        assert Exclusions(rules, b"/photos").rule_for(path) == reason


def test_files_without_an_extension_are_known_by_their_first_bytes(root: Path) -> None:
    put(root, "photo", "sub/IMG 1", content=b"\xff\xd8\xff" + bytes(20))
    put(root, "text", "photo.bak", content=b"\xff\xd8 no photo")
    put(root, "x.jpg")
    (root / "link").symlink_to("photo")
    (root / "broken").symlink_to("none")
    os.mkfifo(root / "pipe")
    assert paths(root) == [b"x.jpg"]
    assert paths(root, any_name=True) == [b"link", b"photo", b"sub/IMG 1", b"x.jpg"]


def test_a_suffix_that_videos_share_is_checked_against_the_first_bytes(root: Path) -> None:
    put(root, "main.ts", content=b"export const a = 1\n")
    put(root, "film.ts", content=b"G@\x11\x10\0B\xf0%\0\x01\xc1\0\0\xff\x01\xff")
    (root / "modules.ts").mkdir()
    put(root, "modules.ts/a.jpg")
    assert paths(root) == [b"film.ts", b"modules.ts/a.jpg"]


def test_a_file_without_an_extension_that_cannot_be_read_is_not_taken_for_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: bytes, length: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    put(root, "photo", content=b"\xff\xd8\xff" + bytes(20))
    monkeypatch.setitem(scan.__globals__, "read_head", refuse)
    assert found(root, any_name=True) == [Unreadable(b"photo", "permission denied")]


def test_a_link_to_a_file_is_that_file(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/target", content=b"123")
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere" / "target")
    assert [(entry.path, entry.size, entry.error) for entry in found(root)] == [(b"link.jpg", 3, None)]


def test_a_link_to_a_folder_is_followed_only_on_request(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.jpg")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert paths(root) == []
    assert paths(root, follow_links=True) == [b"link/a.jpg"]


def test_links_never_lead_round_in_a_loop(root: Path) -> None:
    put(root, "a/b/c.jpg", "d/e.jpg")
    (root / "a" / "b" / "up").symlink_to(root / "a")
    (root / "a" / "top").symlink_to(root)
    (root / "d" / "self").symlink_to(".")
    (root / "side").symlink_to(root / "d")
    assert paths(root, follow_links=True) == [b"a/b/c.jpg", b"d/e.jpg"]


def test_folders_that_link_to_each_other_are_walked_once(root: Path) -> None:
    names = [f"{n:02}" for n in range(12)]
    put(root, *(f"{name}/a.jpg" for name in names))
    for name in names:
        for other in names:
            (root / name / f"to {other}").symlink_to(root / other)
    assert paths(root, follow_links=True) == [f"{name}/a.jpg".encode() for name in names]
    assert paths(root, b"05", follow_links=True) == [b"05/a.jpg"]


def test_a_folder_that_several_links_lead_to_is_walked_under_the_path_that_people_expect(
    root: Path, tmp_path: Path
) -> None:
    put(tmp_path, "drive/album/a.jpg", "drive/b.jpg", "other/c.jpg")
    put(root, "z/real/d.jpg", ".hidden/e.jpg")
    (root / "0 album").symlink_to(tmp_path / "drive" / "album")  # before the link to the folder around it
    (root / "drive").symlink_to(tmp_path / "drive")
    (root / "drive 2").symlink_to(tmp_path / "drive")
    (root / "a").symlink_to("z/real")  # a real path comes before a link
    (tmp_path / "drive" / "0 other").symlink_to(tmp_path / "other")
    (root / "other").symlink_to(tmp_path / "other")  # one link comes before two
    (root / "hidden").symlink_to(".hidden")  # whose own path is left out
    expected = [b"drive/album/a.jpg", b"drive/b.jpg", b"hidden/e.jpg", b"other/c.jpg", b"z/real/d.jpg"]
    assert paths(root, follow_links=True) == expected
    links = Links(os.fsencode(root), Rules(follow_links=True))
    for path, found in (
        (b"0 album/a.jpg", b"drive/album/a.jpg"),
        (b"drive 2/0 other/c.jpg", b"other/c.jpg"),
        (b"a/d.jpg", b"z/real/d.jpg"),
        (b"drive/b.jpg", None),
    ):
        assert links.elsewhere(path) == found


def test_what_is_under_a_folder_is_what_a_whole_scan_finds_there(root: Path) -> None:
    put(root, "a/b/c.jpg", "a/b/d/e.jpg", "a/b.jpg", "a/z.jpg", "top.jpg")
    (root / "a" / "b" / "top").symlink_to(root)
    (root / "a" / "b" / "above").symlink_to(root / "a")
    whole = paths(root, follow_links=True)
    assert paths(root, b"a/b", follow_links=True) == [p for p in whole if p.startswith(b"a/b/")]
    assert paths(root, b"a/b") == [b"a/b/c.jpg", b"a/b/d/e.jpg"]


def test_a_broken_link_is_reported(root: Path) -> None:
    (root / "gone.jpg").symlink_to("nowhere")
    assert [(entry.path, entry.error) for entry in found(root)] == [(b"gone.jpg", "broken link")]


def test_a_link_to_itself_is_reported(root: Path) -> None:
    (root / "round.jpg").symlink_to("round.jpg")
    (entry,) = found(root)
    assert entry.path == b"round.jpg"
    assert entry.error


def test_an_empty_file_is_reported(root: Path) -> None:
    put(root, "empty.jpg", content=b"")
    assert [(entry.path, entry.error) for entry in found(root)] == [(b"empty.jpg", "empty file")]


def test_a_folder_named_like_a_photo_is_reported_and_walked(root: Path) -> None:
    put(root, "x.jpg/inner.png", "x.jpg-2.jpg", "x.jpg0.png")
    assert [(entry.path, entry.error) for entry in found(root)] == [
        (b"x.jpg", "a folder, not an image"),
        (b"x.jpg-2.jpg", None),
        (b"x.jpg/inner.png", None),
        (b"x.jpg0.png", None),
    ]


def test_a_pipe_named_like_a_photo_is_reported_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.jpg")
    assert [(entry.path, entry.error) for entry in found(root)] == [(b"pipe.jpg", "not a regular file")]


def test_a_folder_that_cannot_be_listed_is_reported_and_the_others_are_walked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, "a/1.jpg", "closed/2.jpg", "z/3.jpg")
    if os.geteuid() == 0:  # who may read everything
        forbid(monkeypatch, root / "closed")
    else:
        (root / "closed").chmod(0)
    try:
        a, closed, z = found(root)
    finally:
        (root / "closed").chmod(0o700)
    assert closed == Unreadable(b"closed", "permission denied")
    assert [a.path, z.path] == [b"a/1.jpg", b"z/3.jpg"]


def test_a_root_that_is_not_there_is_an_unreadable_folder(tmp_path: Path) -> None:
    assert found(tmp_path / "none") == [Unreadable(b"", "no such file or directory")]


@pytest.mark.parametrize(
    "name",
    [
        b"a photo.jpg",
        b"two\nlines.jpg",
        b"[red].jpg",
        "🐕.jpg".encode(),
        b"\xff\xfe.jpg",
        b"-rf.jpg",
        b"a\\b.jpg",
        b"~.jpg",
    ],
)
def test_any_name_is_kept_as_it_is(root: Path, name: bytes) -> None:
    put(root, name, b"folder " + name[:-4] + b"/" + name)
    assert sorted(paths(root)) == sorted([name, b"folder " + name[:-4] + b"/" + name])
    assert paths(root, exclude=("*",)) == []
