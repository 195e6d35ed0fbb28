"""Moving copies away and back: what may move, what must stay, and that no failure loses a file."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, save_scenes
from fuzz import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from terminal import in_terminal, posix

from clipsearch.errors import BadArgument, BadRequest, ClipsearchError
from clipsearch.images import siblings
from clipsearch.images.found_file import found_file
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash, video_hash
from clipsearch.output import manifest, quarantine, safe_move
from clipsearch.output import undo as undoing
from clipsearch.output.quarantine import destination, move, with_kept
from clipsearch.output.safe_move import Move
from clipsearch.output.undo import undo
from clipsearch.search.copies import Copy, Group, Kind
from clipsearch.store.photo import Photo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths here are those of Unix")
linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, and names of any bytes")

OLD = 1_234_567_890_123_456_789
State = dict[bytes, tuple[bytes, int, int]]


def write(path: Path | bytes, contents: str = "a photo") -> bytes:
    """A file from years ago."""
    name = os.fsencode(path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "w") as file:
        file.write(contents)
    os.utime(name, ns=(OLD, OLD + len(name)))
    return name


def photo(path: bytes | Path) -> Photo:
    """A file as it would be indexed."""
    name = os.fsencode(path)
    file = found_file(name, os.stat(name))
    content = video_hash(name) if is_video_name(name) else content_hash(Path(os.fsdecode(name)).read_bytes())
    return Photo(1, name, file.size, file.mtime_ns, content, Metadata(1, 1), file.ctime_ns)


def group(*paths: bytes | Path, **names: Any) -> Group:
    return tuple(Copy(photo(path), Kind.IDENTICAL, 1.0, **names) for path in paths)


def state(*folders: Path) -> State:
    """All files, with contents, times and modes."""
    found = {}
    for folder in folders:
        for place, _, names in os.walk(os.fsencode(folder)):
            for name in names:
                path = os.path.join(place, name)
                status = os.lstat(path)
                with open(path, "rb") as file:
                    found[path] = (file.read(), status.st_mtime_ns, status.st_mode)
    return found


def moved(done: list[Move]) -> list[str]:
    return [os.path.basename(os.fsdecode(one.source)) for one in done if one.moved]


def reasons(done: list[Move]) -> list[str]:
    return [one.reason for one in done if not one.moved]


def to(place: Path, path: Path | bytes) -> Path:
    """Where a file goes."""
    return Path(os.fsdecode(os.fsencode(place) + os.fsencode(path)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "photos"


@pytest.fixture(params=["same drive", "another drive"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to move to: on the file system of the photos, and on another one."""
    if request.param == "same drive":
        yield tmp_path.resolve() / "away"
    elif os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield Path(folder) / "away"
    else:
        for name in ("replace", "link"):
            monkeypatch.setattr(os, name, across(getattr(os, name), os.fsencode(tmp_path.resolve() / "away")))
        yield tmp_path.resolve() / "away"


def across(real: Callable[..., None], drive: bytes) -> Callable[..., None]:
    def rename(source: Any, target: Any) -> None:
        if os.fsencode(source).startswith(drive) != os.fsencode(target).startswith(drive):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    return rename


# ------------------------------------------------------------------------------------------ what stays


def test_the_files_to_keep_stay_and_so_do_groups_without_one(home: Path, place: Path) -> None:
    one, two, three, other, more = (write(home / name) for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"))
    groups = [group(one, two, three), group(other, more)]
    done = list(move(with_kept(groups, [three, two]), os.fsencode(place)))
    assert moved(done) == ["1.jpg"]
    assert done[0].best == two
    assert with_kept(groups, []) == []
    assert not list(move(with_kept(groups, [other, more]), os.fsencode(place)))
    with pytest.raises(BadRequest, match="in none of the groups"):
        with_kept(groups, [one, os.fsencode(home / "6.jpg")])


# ------------------------------------------------------------------------------------------ there and back


def test_copies_move_with_their_folders_and_come_back(home: Path, place: Path) -> None:
    names = [b"2023/best.jpg", b"2023/copy.jpg", b"old/line\nbreak.jpg", b"old/\xc3\xa4 \xf0\x9f\x90\xb6.jpg"]
    if sys.platform == "linux":
        names.append(b"\xff\xfe/\xff.jpg")
    best, *copies = (write(os.fsencode(home) + b"/" + name) for name in names)
    os.chmod(copies[0], 0o640)
    before = state(home)
    groups = [group(best, *copies)]

    tried = list(move(groups, os.fsencode(place), dry_run=True))
    assert state(home) == before
    assert not place.exists()
    done = list(move(groups, os.fsencode(place)))
    assert done == tried
    assert [(one.source, one.target, one.best) for one in done] == [
        (path, os.fsencode(place) + path, best) for path in copies
    ]
    assert all(one.moved and not one.failed and one.size == 7 for one in done)
    assert state(home) == {best: before[best]}
    there = {path.removeprefix(os.fsencode(place)): held for path, held in state(place).items()}
    assert {path: there[path] for path in copies} == {path: before[path] for path in copies}
    assert all(os.path.isdir(os.path.dirname(path)) for path in copies)  # emptied folders stay

    shutil.rmtree(home / "old")  # and where somebody tidies up, they are made again
    tried = list(undo(str(place), dry_run=True))
    assert len(state(place)) == len(copies) + 2
    assert list(undo(str(place))) == tried
    assert [(one.target, one.moved) for one in tried] == [(path, True) for path in reversed(copies)]
    assert state(home) == before
    assert list(place.iterdir()) == []
    assert list(undo(str(place))) == []


def test_the_journal_says_what_is_needed_before_each_move(home: Path, place: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    list(move([group(best, copy)], os.fsencode(place)))
    head, began, ended = map(json.loads, (place / "clipsearch-moved.jsonl").read_text().splitlines())
    assert head["format"] == 1
    assert (began["from"], began["to"], began["best"]) == tuple(map(os.fsdecode, (copy, to(place, copy), best)))
    assert (began["step"], began["size"], ended["step"]) == ("move", 7, "moved")
    assert began["sha256"] == hashlib.sha256(b"a photo").hexdigest()


def test_several_runs_append(home: Path, place: Path) -> None:
    best, *copies = (write(home / name) for name in ("best.jpg", "1.jpg", "2.jpg", "3.jpg"))
    before = state(home)
    for copy in copies:
        assert moved(list(move([group(best, copy)], os.fsencode(place))))
    assert len(list(undo(str(place)))) == 3
    assert state(home) == before


def test_nothing_in_the_folder_is_overwritten(home: Path, place: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    sidecar = write(home / "copy.jpg.xmp", "its own")
    theirs = write(to(place, sidecar), "somebody's")
    done = list(move([group(best, copy)], os.fsencode(place)))
    assert [one.target for one in done] == [os.fsencode(to(place / "2", path)) for path in (copy, sidecar)]
    write(copy)
    done = list(move([group(best, copy)], os.fsencode(place)))
    assert [one.target for one in done] == [os.fsencode(to(place, copy))]
    assert Path(os.fsdecode(theirs)).read_text() == "somebody's"
    back = list(undo(str(place)))
    assert [one.moved for one in back] == [True, True, False]
    assert reasons(back) == ["an identical file is in its original place already"]


def test_a_drive_letter_becomes_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import ntpath

    monkeypatch.setattr(os.path, "splitdrive", ntpath.splitdrive)
    assert quarantine._below(b"D:/away", b"C:/Users/a/x.jpg") == b"D:/away/C/Users/a/x.jpg"
    assert quarantine._below(b"D:/away", b"//nas/photos/x.jpg") == b"D:/away/nas/photos/x.jpg"


def test_folders_are_for_their_owner_alone(home: Path, place: Path) -> None:
    list(move([group(write(home / "best.jpg"), write(home / "copy.jpg"))], os.fsencode(place)))
    assert place.stat().st_mode & 0o777 == 0o700


# ------------------------------------------------------------------------------------------ what never moves


def change_size(path: Path) -> None:
    path.write_text("another photo")


def change_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def change_mode(path: Path) -> None:
    os.chmod(path, 0o600)  # which changes its ctime alone


def replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [change_size, change_time, change_mode, replace, Path.unlink])
@pytest.mark.parametrize("which", ["best", "copy"])
def test_what_was_changed_since_it_was_indexed_keeps_the_copy(
    home: Path, place: Path, change: Callable[[Path], None], which: str
) -> None:
    paths = {name: Path(os.fsdecode(write(home / f"{name}.jpg"))) for name in ("best", "copy", "other")}
    groups = [group(paths["best"], paths["copy"]), group(paths["other"], write(home / "second.jpg"))]
    change(paths[which])
    before = state(home)
    for dry_run in (True, False):
        done = list(move(groups, os.fsencode(place), dry_run=dry_run))
        assert moved(done) == ["second.jpg"]  # the others go on
        (reason,) = reasons(done)
        assert reason.endswith("is gone" if change is Path.unlink else "was changed since it was indexed")
        assert (str(paths["best"]) in reason) == (which == "best")
        assert done[0].failed
    assert list(undo(str(place)))
    assert state(home) == before


@pytest.mark.parametrize("which", [0, 1])
def test_contents_are_read_again_whatever_the_times_say(home: Path, place: Path, which: int) -> None:
    paths = write(home / "best.jpg", "a photo"), write(home / "copy.jpg", "a photo")
    stale = list(group(*paths))
    stale[which] = stale[which]._replace(photo=stale[which].photo._replace(content=content_hash(b"a phoTo")))
    before = state(home)
    done = list(move([tuple(stale)], os.fsencode(place)))
    assert "was changed since it was indexed" in reasons(done)[0]
    assert state(home) == before


def test_identical_copies_are_compared_byte_by_byte(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "content_hash_from", lambda _: b"one hash for all")
    best, copy = write(home / "best.jpg", "a photo"), write(home / "copy.jpg", "a Photo")
    same = tuple(one._replace(photo=one.photo._replace(content=b"one hash for all")) for one in group(best, copy))
    assert reasons(list(move([same], os.fsencode(place)))) == [
        f"it differs from the best, {os.fsdecode(best)}, byte by byte"
    ]


def test_other_copies_need_not_be_identical(home: Path, place: Path) -> None:
    best, copy = write(home / "best.png", "many pixels"), write(home / "copy.jpg", "few")
    assert moved(list(move([group(best, copy)], os.fsencode(place)))) == ["copy.jpg"]


def test_a_video_moves_only_if_it_is_its_best_byte_for_byte(home: Path, place: Path) -> None:
    """A video is known by samples of it: two that differ between them have one hash."""
    size = 40_000_000
    for name in ("best", "copy", "other"):
        with open(write(home / f"{name}.mp4"), "r+b") as file:
            file.truncate(size)
            if name == "other":
                file.seek(2_000_000)
                file.write(b"x")
    paths = [os.fsencode(home / f"{name}.mp4") for name in ("best", "copy", "other")]
    assert len({video_hash(path) for path in paths}) == 1
    done = list(move([group(*paths)], os.fsencode(place)))
    assert moved(done) == ["copy.mp4"]
    assert "byte by byte" in reasons(done)[0]
    still = write(home / "still.jpg")
    assert "byte by byte" in reasons(list(move([group(paths[0], still)], os.fsencode(place))))[0]
    assert "byte by byte" in reasons(list(move([group(still, paths[0])], os.fsencode(place))))[0]


def test_other_names_of_a_file_stay(home: Path, place: Path) -> None:
    best, copy, linked = (write(home / f"{name}.jpg") for name in ("best", "copy", "linked"))
    os.symlink(copy, home / "name.jpg")
    os.link(linked, home / "hard.jpg")
    groups = [
        (group(best)[0], Copy(photo(copy), Kind.IDENTICAL, 1.0, (os.fsencode(home / "name.jpg"),))),
        group(best, linked),
        group(linked, home / "hard.jpg"),
        group(best, home / "name.jpg"),
        group(home / "name.jpg", best),
    ]
    before = state(home)
    done = list(move([groups[0]], os.fsencode(place)))
    assert reasons(done) == [f"{home / 'name.jpg'} is another name of it"]
    for one in groups[1:]:
        done += list(move([one], os.fsencode(place)))
    assert all("name" in why or "link" in why for why in reasons(done))
    assert not any(one.moved or one.failed for one in done)  # they stay on purpose
    assert state(home) == before


def test_one_file_on_two_devices_stays(home: Path, place: Path) -> None:
    """A network folder that is mounted twice shows one file as two: other devices, but one size and the same times."""
    one, other = os.stat(write(home / "a.jpg")), os.stat(write(home / "b.jpg"))
    seen = list(one)
    seen[2] += 1  # st_dev
    again = os.stat_result(seen, {"st_mtime_ns": one.st_mtime_ns, "st_ctime_ns": one.st_ctime_ns})
    assert safe_move.may_be_one_file(one, one)
    assert safe_move.may_be_one_file(one, again)
    assert not safe_move.may_be_one_file(one, other)


MOUNTED = """
import os, subprocess, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_quarantine import group, move, reasons, moved, state, write
top = Path(sys.argv[1])
for name in ("tmp", "bound"):
    (top / name).mkdir()
def mount(*arguments):
    if subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode:
        sys.exit(77)
mount("-t", "tmpfs", "none", top / "tmp")
for name in ("lower", "upper", "work", "merged"):
    (top / "tmp" / name).mkdir()
write(top / "tmp/lower/x.jpg"), write(top / "tmp/lower/y.jpg")
options = ",".join(f"{name}dir={top / 'tmp' / name}" for name in ("lower", "upper", "work"))
mount("-t", "overlay", "none", "-o", options, top / "tmp/merged")
mount("--bind", top / "tmp/lower", top / "bound")
before = state(top / "tmp/lower")
pairs = [("tmp/lower", "bound"), ("tmp/lower", "tmp/merged"), ("tmp/merged", "tmp/lower"), ("bound", "tmp/merged")]
for one, other in pairs:
    done = list(move([group(top / one / "x.jpg", top / other / "x.jpg")], os.fsencode(top / "away")))
    assert not moved(done) and "may be the same file" in reasons(done)[0], done
assert state(top / "tmp/lower") == before
"""


@linux
def test_one_file_in_two_mounts_stays(home: Path) -> None:
    home.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", MOUNTED, home, *paths], capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert done.returncode == 0, done.stderr


def test_when_the_best_goes_with_its_copy_the_copy_is_put_back(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, copy, sidecar = write(home / "best.jpg"), write(home / "copy.jpg"), write(home / "copy.jpg.xmp", "tags")
    before = state(home)

    def rename(source: bytes, target: bytes) -> None:
        os.rename(best, best + b".gone")
        real(source, target)

    real = quarantine.rename_new
    monkeypatch.setattr(quarantine, "rename_new", rename)
    done = list(move([group(best, copy)], os.fsencode(place)))
    why = f"the best, {os.fsdecode(best)}, was gone or changed after the move; the copy was put back"
    assert [(one.source, one.reason, one.failed) for one in done] == [(copy, why, True)]
    os.rename(best + b".gone", best)
    assert state(home) == before
    assert sidecar in before
    assert list(place.iterdir()) == []


def test_a_file_that_is_saved_while_it_is_copied_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, copy, away = write(home / "best.jpg"), write(home / "copy.jpg"), tmp_path / "away"

    def link(source: bytes, target: bytes) -> None:
        real(source, target)
        write(copy, "a better version")

    real = safe_move.link_new
    monkeypatch.setattr(safe_move, "link_new", link)
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, across(getattr(os, name), os.fsencode(away)))
    assert reasons(list(move([group(best, copy)], os.fsencode(away)))) == ["it was changed while being copied"]
    assert Path(os.fsdecode(copy)).read_text() == "a better version"
    assert list(away.iterdir()) == []


def test_a_file_that_is_replaced_while_it_is_moved_comes_back(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")

    def rename(source: bytes, target: bytes) -> None:
        if source == copy and os.path.getsize(copy) == 7:
            write(home / "new", "a better version")
            os.replace(home / "new", copy)
        real(source, target)

    real = quarantine.rename_new
    monkeypatch.setattr(quarantine, "rename_new", rename)
    done = list(move([group(best, copy)], os.fsencode(tmp_path / "away")))
    assert reasons(done) == ["it was changed while being moved"]
    assert Path(os.fsdecode(copy)).read_text() == "a better version"
    assert list((tmp_path / "away").iterdir()) == []


def test_the_best_of_another_group_and_the_only_one_stay(home: Path, place: Path) -> None:
    a, b, c = (write(home / f"{name}.jpg") for name in "abc")
    done = list(move([group(a, b), group(b, c), group(a)], os.fsencode(place)))
    assert moved(done) == ["c.jpg"]
    assert reasons(done) == ["it is the best of another group"]


def test_what_is_in_a_folder_of_moved_copies_does_not_count(home: Path, place: Path, tmp_path: Path) -> None:
    """It was moved there to be deleted one day, so it is neither kept for another copy nor moved again."""
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    list(move([group(best, copy)], os.fsencode(place)))
    (tmp_path / "link").symlink_to(place)
    there = to(tmp_path / "link", copy)
    for folder in (place, tmp_path / "second"):
        done = list(move([group(there, best)], os.fsencode(folder)))
        assert "in a folder of moved copies" in reasons(done)[0]
        assert moved(list(move([group(best, there)], os.fsencode(folder)))) == []
    assert os.path.exists(best)
    assert there.exists()


# ------------------------------------------------------------------------------------------ sidecars


@pytest.mark.parametrize(
    ("name", "others", "moves"),
    [
        ("x.jpg", "x.jpg.xmp x.jpg.XMP x.xmp x.Xmp x.AAE x.jpg.json x.jpg.supplemental-metadata.json", "all"),
        ("x.jpg", "x.jpg.supplemental-metad.json", "all"),
        ("x.jpg", "x.JPG.xmp", "all"),
        ("x.jpg", "x.JPG x.JPG.xmp x.jpg.xmp", "x.jpg.xmp"),
        ("x(1).jpg", "x.jpg(1).json x(1).jpg.xmp", "all"),
        ("x(1).jpg", "x.jpg.supplemental-metadata(1).json", "all"),
        ("x.jpg", "x.CR2 x.xmp x.AAE x.jpg.json x.jpg.xmp", "x.jpg.xmp"),
        ("x.jpg", "x.MOV x.xmp", ""),
        ("x.jpg", "x-bearbeitet.jpg x.jpg.json x.xmp", "x.xmp"),
        ("x.jpg", "x.json metadata.json x.jpg(1).json x(1).jpg y.jpg.xmp x1.xmp x1.AAE x.jpg.txt.xmp x_01.jpg.xmp", ""),
        ("x", "x.xmp", "all"),
        (".jpg", ".jpg.xmp", "all"),
    ],
)
def test_sidecars_that_belong_to_a_photo_alone_go_with_it(
    home: Path, tmp_path: Path, name: str, others: str, moves: str
) -> None:
    best, copy = write(tmp_path / "best.jpg"), write(home / name)
    for other in others.split():
        write(home / other, f"of {other}")
    before = state(home)
    tried = list(move([group(best, copy)], os.fsencode(tmp_path / "away"), dry_run=True))
    done = list(move([group(best, copy)], os.fsencode(tmp_path / "away")))
    assert done == tried
    assert sorted(moved(done)) == sorted([name, *(others if moves == "all" else moves).split()])
    assert [one.is_sidecar for one in done] == [False, *[True] * (len(done) - 1)]
    assert len(list(undo(str(tmp_path / "away")))) == len(done)
    assert state(home) == before


def test_a_shared_sidecar_goes_with_the_last_photo(home: Path, tmp_path: Path) -> None:
    best = write(tmp_path / "best.jpg")
    one, two = write(home / "x.jpg"), write(home / "x.png")
    write(home / "x.xmp", "tags")
    for dry_run in (True, False):
        done = list(move([group(best, one, two)], os.fsencode(tmp_path / "away"), dry_run=dry_run))
        assert moved(done) == ["x.jpg", "x.png", "x.xmp"]


def test_links_to_sidecars_stay(home: Path, tmp_path: Path) -> None:
    best, copy = write(tmp_path / "best.jpg"), write(home / "x.jpg")
    shared = write(tmp_path / "shared.xmp")
    os.symlink(shared, home / "x.jpg.xmp")
    os.link(shared, home / "x.xmp")
    assert moved(list(move([group(best, copy)], os.fsencode(tmp_path / "away")))) == ["x.jpg"]


def test_a_sidecar_that_cannot_be_moved_is_said(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, copy, sidecar = write(home / "best.jpg"), write(home / "x.jpg"), write(home / "x.jpg.xmp")
    read = quarantine.read

    def fails(path: bytes) -> Any:
        if path == sidecar:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(quarantine, "read", fails)
    photo_, of_it = move([group(best, copy)], os.fsencode(place))
    assert photo_.moved
    assert (of_it.reason, of_it.failed, of_it.source) == ("permission denied", True, sidecar)


def test_a_folder_is_listed_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[bytes] = []
    monkeypatch.setattr(siblings, "_sorted_names", lambda folder: listed.append(folder) or [])
    best, *copies = (write(home / f"{n}.jpg") for n in range(5))
    list(move([group(best, *copies)], os.fsencode(tmp_path / "away")))
    assert listed == [os.fsencode(home)]


# ------------------------------------------------------------------------------------------ where to


def test_a_folder_in_or_around_an_indexed_one_is_refused(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    roots = [os.fsencode(tmp_path.resolve() / "other"), os.fsencode(home)]
    for folder in (home, home / "away", home / "a/b", tmp_path / "link", tmp_path / "link/away"):
        with pytest.raises(BadRequest, match="lies in an indexed folder; choose one outside, or the next index would"):
            destination(str(folder), roots)
    for folder in (tmp_path, Path("/")):
        with pytest.raises(BadRequest, match="contains the indexed folder"):
            destination(str(folder), roots)
    assert destination(str(tmp_path / "photos2"), roots) == os.fsencode(tmp_path.resolve() / "photos2")
    with pytest.raises(BadArgument):
        destination("", roots)


def test_folders_are_compared_by_what_they_are(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bind mount has it, or a file system on which case does not matter."""
    home.mkdir()
    (tmp_path / "PHOTOS").symlink_to(home)
    monkeypatch.setattr(quarantine, "absolute", lambda folder: os.fsencode(os.path.abspath(folder)))
    with pytest.raises(BadRequest, match="lies in an indexed folder"):
        destination(str(tmp_path / "PHOTOS/away"), [os.fsencode(home)])


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_no_folder(home: Path, below: str) -> None:
    write(home / "file", "a file")
    with pytest.raises(BadRequest, match="file is a file, not a folder"):
        destination(str(home / "file" / below), [])
    assert (home / "file").read_text() == "a file"


@linux
def test_a_folder_that_cannot_be_written_to_is_refused(home: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    with pytest.raises(BadRequest, match="/proc/away cannot be written to"):
        list(move([group(best, copy)], b"/proc/away"))
    assert os.path.exists(copy)


def test_no_groups_make_no_folder(home: Path, place: Path) -> None:
    assert list(move([], os.fsencode(place))) == []
    assert list(move([group(write(home / "only.jpg"))], os.fsencode(place))) == []
    assert not place.exists()


def test_two_runs_at_once_are_refused(home: Path, place: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    groups = [group(best, copy)]
    with manifest.journal(os.fsencode(place)):
        with pytest.raises(ClipsearchError, match="another process is moving files"):
            list(move(groups, os.fsencode(place)))
        assert os.path.exists(copy)
    list(move(groups, os.fsencode(place)))
    with manifest.journal(os.fsencode(place)), pytest.raises(ClipsearchError, match="another process is moving files"):
        list(undo(str(place)))
    assert list(undo(str(place)))


def test_a_lock_that_was_deleted_is_not_enough(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undo that is done deletes the lock, while the next process may have opened it."""
    deleted = []

    def acquire(lock: Any) -> Any:
        held = real(lock)
        if not deleted:
            deleted.append(lock.lock_file)
            os.unlink(lock.lock_file)
        return held

    real = manifest.FileLock.acquire
    monkeypatch.setattr(manifest.FileLock, "acquire", acquire)
    with manifest.journal(os.fsencode(place)):
        assert os.path.exists(deleted[0])


# ------------------------------------------------------------------------------------------ faults


def test_a_full_disk_ends_it_before_anything_is_moved_unrecorded(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, *copies = (write(home / f"{n}.jpg") for n in range(4))
    before = state(home)

    def full(handle: int, data: bytes) -> int:
        if copies[1] in data:
            real(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    real = os.write
    groups = [group(best, *copies)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(ClipsearchError, match=r"clipsearch-moved\.jsonl cannot be written: no space left"):
            list(move(groups, os.fsencode(place)))
    assert sorted(state(home)) == [best, *copies[1:]]
    assert moved(list(move([group(best, *copies[1:])], os.fsencode(place)))) == ["2.jpg", "3.jpg"]
    assert len(list(undo(str(place)))) == 3
    assert state(home) == before


def test_a_full_disk_can_be_emptied_by_undoing(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, *copies = (write(home / f"{n}.jpg") for n in range(4))
    before = state(home)
    list(move([group(best, *copies)], os.fsencode(place)))
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if len(state(home)) == 1:  # until the first file has left
            real(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert len(moved(list(undo(str(place))))) == 3
    assert state(home) == before
    assert list(place.iterdir()) == []


def test_a_file_that_does_not_fit_is_skipped(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best, *copies = (write(home / f"{n}.jpg") for n in range(4))

    def full(source: Any, target: Any) -> None:
        if source == copies[1]:
            Path(os.fsdecode(target)).write_text("hal")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    away = tmp_path / "away"
    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", full)
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, across(getattr(os, name), os.fsencode(away)))
    done = list(move([group(best, *copies)], os.fsencode(away)))
    assert moved(done) == ["1.jpg", "3.jpg"]
    assert (reasons(done), done[1].failed) == (["no space left on device"], True)
    assert not [path for path in away.rglob("*") if path.name.startswith(".clipsearch")]
    assert len(list(undo(str(away)))) == 2


@pytest.mark.parametrize("fault", ["source stays", "copy is damaged"])
def test_a_copy_on_another_drive_that_fails_leaves_the_photo(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    before = state(home)
    away = tmp_path / "away"
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, across(getattr(os, name), os.fsencode(away)))
    unlink, copyfile = os.unlink, shutil.copyfile

    def read_only(path: Any) -> None:
        if path == copy:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path)

    def damaged(source: Any, target: Any) -> None:
        copyfile(source, target)
        Path(os.fsdecode(target)).write_text("a phoTo")

    if fault == "source stays":
        monkeypatch.setattr(os, "unlink", read_only)
    else:
        monkeypatch.setattr(shutil, "copyfile", damaged)
    (done,) = move([group(best, copy)], os.fsencode(away))
    assert done.failed
    assert state(home) == before
    assert list(away.iterdir()) == []


def test_a_rename_that_worked_and_reports_a_failure_loses_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a network, where the answer is lost and the question is asked again; Ctrl-C may come then, too."""
    best, *copies = (write(home / f"{n}.jpg") for n in range(3))
    before = state(home)
    failures = iter([FileNotFoundError(errno.ENOENT, "No such file or directory"), KeyboardInterrupt()])
    real = os.replace

    def reports(source: Any, target: Any) -> None:
        real(source, target)
        raise next(failures)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", reports)
        with pytest.raises(KeyboardInterrupt):
            list(move([group(best, *copies)], os.fsencode(tmp_path / "away")))
    whole(before, home, tmp_path / "away")
    list(undo(str(tmp_path / "away")))
    assert state(home) == before


def test_a_file_system_without_hard_links_will_do(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    before = state(home)
    monkeypatch.setattr(os, "link", link)
    theirs = write(to(place, copy), "somebody's")
    (done,) = move([group(best, copy)], os.fsencode(place))
    assert (done.moved, done.target) == (True, os.fsencode(to(place / "2", copy)))
    assert len(list(undo(str(place)))) == 1
    assert state(home) == before
    assert Path(os.fsdecode(theirs)).read_text() == "somebody's"


def test_what_cannot_be_kept_by_the_other_drive_is_restored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory card rounds times and has no modes; the journal has both."""
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    os.chmod(copy, 0o640)
    before = state(home)
    away = tmp_path / "away"
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, across(getattr(os, name), os.fsencode(away)))
    assert [one.moved for one in move([group(best, copy)], os.fsencode(away))] == [True]
    there = to(away, copy)
    os.utime(there, ns=(OLD, OLD // 10**9 * 10**9))
    there.chmod(0o777)
    assert [one.moved for one in undo(str(away))] == [True]
    assert state(home) == before


@linux
def test_attributes_go_along(home: Path, place: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    try:
        os.setxattr(copy, "user.rating", b"5")
    except OSError:
        pytest.skip("no extended attributes here")
    groups = [group(best, copy)]
    assert moved(list(move(groups, os.fsencode(place))))
    try:
        assert os.getxattr(to(place, copy), "user.rating") == b"5"
    except OSError:
        return  # the other drive has none
    list(undo(str(place)))
    assert os.getxattr(copy, "user.rating") == b"5"


# ------------------------------------------------------------------------------------------ kills

EVENTS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "os.chmod", "open"}


@pytest.fixture
def _unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system outlives the process here, so nothing has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def killed(n: int, act: Callable[[], object]) -> bool:
    """Do something in a process that ends before its n-th step: a system call, or half of a write."""
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 9), "the process has failed"
        return status == 9
    try:
        steps = itertools.count(1)
        write = os.write

        def step(event: str, arguments: tuple[Any, ...] = ()) -> None:
            reads = event == "open" and arguments and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in EVENTS and not reads and next(steps) == n:
                os._exit(9)

        def half(handle: int, data: bytes) -> int:
            if next(steps) == n:
                write(handle, data[: len(data) // 2])
                os._exit(9)
            return write(handle, data)

        os.write, os.fsync = half, lambda _: step("open")
        sys.addaudithook(step)
        act()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(3)


def whole(before: State, *folders: Path) -> None:
    """Every file that there was is in one of its places, byte for byte."""
    there = {held[0] for held in state(*folders).values()}
    assert {held[0] for held in before.values()} <= there


def only_the_lock(place: Path) -> bool:
    return not place.exists() or {path.name for path in place.iterdir()} <= {"clipsearch-moved.lock"}


@pytest.fixture
def three(home: Path) -> list[Group]:
    """Two groups with three copies, no two files with the same contents, and a sidecar."""
    best, a, b = (write(home / name, f"in {name}") for name in ("best.jpg", "sub/a.jpg", "sub/deeper/b.jpg"))
    write(home / "sub/a.jpg.xmp", "tags")
    other, c = write(home / "other.jpg", "same"), write(home / "c.jpg", "same")
    return [group(best, a, b), group(other, c)]


every_third = pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])


@every_third
@pytest.mark.usefixtures("_unflushed")
@pytest.mark.parametrize(("then", "first"), [("undo", 1), ("go on", 2)])
def test_a_kill_at_any_step_of_a_move_loses_nothing(
    home: Path, place: Path, three: list[Group], then: str, first: int, stride: int
) -> None:
    before = state(home)
    for n in itertools.count(min(first, stride), stride):
        was_killed = killed(n, lambda groups=three: list(move(groups, os.fsencode(place))))
        whole(before, home, place)
        if not was_killed:
            assert n > 40
            assert len(state(home)) == 2
        if then == "go on":  # with what the next index sees
            left = [
                tuple(Copy(photo(one.photo.file), Kind.IDENTICAL, 1.0) for one in g if os.path.exists(one.photo.file))
                for g in three
            ]
            done = list(move(left, os.fsencode(place)))
            assert not any(one.failed for one in done)
            whole(before, home, place)
            assert not [path for path in state(place) if b".tmp" in path]
        if place.exists():
            done = list(undo(str(place)))
            assert not reasons(done), n
        assert state(home) == before, n
        assert only_the_lock(place), n
        three = [group(*(one.photo.file for one in g)) for g in three]  # moving changes the ctime
        if not was_killed:
            break


@every_third
@pytest.mark.usefixtures("_unflushed")
def test_a_kill_at_any_step_of_an_undo_loses_nothing(home: Path, place: Path, three: list[Group], stride: int) -> None:
    before = state(home)
    for n in itertools.count(1, stride):
        assert all(one.moved for one in move(three, os.fsencode(place)))
        was_killed = killed(n, lambda: list(undo(str(place))))
        whole(before, home, place)
        tried = list(undo(str(place), dry_run=True))
        done = list(undo(str(place)))
        assert not reasons(done + tried), n
        assert state(home) == before, n
        assert only_the_lock(place), n
        three = [group(*(one.photo.file for one in g)) for g in three]
        if not was_killed:
            assert n > 40
            break


def test_an_interrupt_never_deletes_the_journal_of_moved_files(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(dict[bytes, manifest.Entry]):
        def __setitem__(self, target: bytes, entry: manifest.Entry) -> None:
            if entry.step == manifest.RESTORE:
                raise KeyboardInterrupt
            super().__setitem__(target, entry)

    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    list(move([group(best, copy)], os.fsencode(place)))
    restore = undoing._restore

    def interrupted(entry: manifest.Entry, journal: manifest.Manifest, *, dry_run: bool) -> bool:
        journal.entries = Interrupted(journal.entries)
        return restore(entry, journal, dry_run=dry_run)

    with monkeypatch.context() as patch:
        patch.setattr(undoing, "_restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(undo(str(place)))
    assert moved(list(undo(str(place)))) == ["copy.jpg"]
    assert os.path.exists(copy)


@pytest.mark.parametrize("cut", [1, 5, 50])
def test_a_torn_last_line_is_tolerated(home: Path, place: Path, cut: int) -> None:
    best, *copies = (write(home / f"{n}.jpg") for n in range(4))
    before = state(home)
    list(move([group(best, *copies[:2])], os.fsencode(place)))
    journal = place / "clipsearch-moved.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    list(move([group(best, copies[2])], os.fsencode(place)))
    assert len(list(undo(str(place)))) == 3
    assert state(home) == before


def test_a_long_torn_line_is_cut_off(home: Path, place: Path) -> None:
    best, *copies = (write(home / f"{n}.jpg") for n in range(3))
    list(move([group(best, copies[0])], os.fsencode(place)))
    with open(place / "clipsearch-moved.jsonl", "a") as file:
        file.write('{"step": "move", "from": "/' + "long/" * 1000)
    list(move([group(best, copies[1])], os.fsencode(place)))
    assert len(moved(list(undo(str(place))))) == 2


def test_a_torn_first_line_is_tolerated(home: Path, place: Path) -> None:
    best, copy = write(home / "best.jpg"), write(home / "copy.jpg")
    place.mkdir()
    (place / "clipsearch-moved.jsonl").write_bytes(b'{"clipsearch": "mov')
    assert moved(list(move([group(best, copy)], os.fsencode(place))))
    assert moved(list(undo(str(place))))


# ------------------------------------------------------------------------------------------ undo


@pytest.fixture
def away(home: Path, tmp_path: Path) -> Path:
    """A folder with two copies that were moved."""
    best, *copies = (write(home / "sub" / f"{n}.jpg") for n in range(3))
    list(move([group(best, *copies)], os.fsencode(tmp_path / "away")))
    return tmp_path / "away"


def test_a_place_that_is_taken_is_left_alone(home: Path, away: Path) -> None:
    (home / "sub/1.jpg").write_text("somebody's")
    (home / "sub/2.jpg").write_text("a photo")
    before = state(home, away)
    for dry_run in (True, False):
        identical, other = undo(str(away), dry_run=dry_run)
        assert identical.reason == "an identical file is in its original place already"
        assert other.reason == "another file is in its original place"
        assert (identical.failed, other.failed) == (False, True)
        assert state(home, away) == before
    (home / "sub/1.jpg").unlink()
    (home / "sub/1.jpg").symlink_to("2.jpg")
    assert reasons(list(undo(str(away))))[1] == "another file is in its original place"
    (home / "sub/1.jpg").unlink()
    assert moved(list(undo(str(away)))) == ["1.jpg"]
    (home / "sub/2.jpg").unlink()
    assert moved(list(undo(str(away)))) == ["2.jpg"]
    assert list(away.iterdir()) == []


def test_what_was_changed_or_is_gone_is_said(home: Path, away: Path) -> None:
    one, two = (to(away, home / f"sub/{n}.jpg") for n in (1, 2))
    one.write_text("a phoTo")
    two.rename(home / "elsewhere.jpg")
    for dry_run in (True, False):
        done = list(undo(str(away), dry_run=dry_run))
        assert all(one.failed for one in done)
        assert reasons(done) == [
            "it is gone, and not in its original place either",
            "it was changed since it was moved",
        ]
    assert one.read_text() == "a phoTo"
    (home / "sub/2.jpg").write_text("another")
    assert "another file is in its original place" in reasons(list(undo(str(away))))[0]
    os.replace(home / "elsewhere.jpg", home / "sub/2.jpg")  # put back by hand
    one.write_text("a photo")
    assert moved(list(undo(str(away)))) == ["1.jpg"]
    assert list(away.iterdir()) == []


def test_a_drive_that_is_not_mounted_is_waited_for(home: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the photos would lie below its mount point, out of sight once it is back."""
    before = state(home, away)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda _: False)
        done = list(undo(str(away)))
    assert len(done) == 2
    assert all(one.failed and one.reason.endswith("is not mounted") for one in done)
    assert state(home, away) == before
    assert len(moved(list(undo(str(away))))) == 2


def test_one_that_cannot_be_put_back_does_not_stop_the_others(
    home: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Any, target: Any) -> None:
        if target.endswith(b"2.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    real = undoing.link_new
    with monkeypatch.context() as patch:
        patch.setattr(undoing, "link_new", link)
        done = list(undo(str(away)))
    assert (moved(done), reasons(done)) == (["1.jpg"], ["permission denied"])
    assert moved(list(undo(str(away)))) == ["2.jpg"]


def test_a_damaged_line_is_named_and_the_rest_put_back(home: Path, away: Path) -> None:
    journal = away / "clipsearch-moved.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], lines[1].replace("from", "frm"), *lines[2:]]))
    done = list(undo(str(away)))
    assert moved(done) == ["2.jpg"]
    assert reasons(done) == ["line 2 is damaged", "line 3 is damaged"]
    assert to(away, home / "sub/1.jpg").read_text() == "a photo"
    assert journal.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not written by clipsearch"),
        ("{}\n", "not written by clipsearch"),
        ("somebody's notes", "not written by clipsearch"),
        ('{"clipsearch": "moved files", "format": 2, "id": "0"}\n', "newer clipsearch"),
        ('{"clipsearch": "moved files", "format": 1, "id": "../../x"}\n', "not written by clipsearch"),
    ],
)
def test_a_journal_of_others_is_left_alone(home: Path, away: Path, text: str, words: str) -> None:
    journal = away / "clipsearch-moved.jsonl"
    journal.write_text(text or "\x00" * 100)
    best = write(home / "best.jpg")
    acts: tuple[Callable[[], object], ...] = (
        lambda: list(undo(str(away))),
        lambda: list(undo(str(away), dry_run=True)),
        lambda: list(move([group(best, home / "sub/0.jpg")], os.fsencode(away))),
        lambda: list(move([group(best, home / "sub/0.jpg")], os.fsencode(away), dry_run=True)),
    )
    for act in acts:
        with pytest.raises(BadRequest, match=words):
            act()
    assert journal.read_text() == (text or "\x00" * 100)


def test_a_folder_that_was_renamed_says_so(home: Path, away: Path) -> None:
    before = state(home)
    other = away.rename(away.with_name("renamed"))
    done = list(undo(str(other)))
    assert len(done) == 2
    assert all(one.failed and "it is not there" in one.reason for one in done)
    assert state(home) == before
    with pytest.raises(BadRequest, match="there is no folder"):
        list(undo(str(away)))


NAMES = st.sampled_from(["a.jpg", "a.png", "b.jpg", "sub/a.jpg", "sub/\u00e4\n.jpg", "sub/deeper/c.heic", "v.mp4", "d"])
SIDECARS = st.sampled_from(["a.xmp", "a.jpg.xmp", "a.AAE", "sub/a.jpg.json", "v.mp4.XMP"])


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    photos=st.lists(st.tuples(NAMES, st.sampled_from("xyz")), unique_by=lambda one: one[0], min_size=2),
    sidecars=st.sets(SIDECARS),
    runs=st.integers(1, 3),
)
def test_moving_and_undoing_leaves_everything_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, photos: list[tuple[str, str]], sidecars: set[str], runs: int
) -> None:
    top = tmp_path_factory.mktemp("tree").resolve()
    paths = [(write(top / "photos" / name, f"contents {held}"), held) for name, held in photos]
    for name in sidecars:
        write(top / "photos" / name, name)
    before = state(top)
    away = top / "away"
    expected = 0
    for run in range(runs):
        groups = [[path for path, held in paths if held == which and os.path.exists(path)] for which in "xyz"]
        some = [group(*one[: run + 2]) for one in groups if one]
        done = list(move(some, os.fsencode(away)))
        assert not reasons(done)
        expected += len(done)
        assert all(any(os.path.exists(path) for path in one) for one in groups if one)
    if away.exists():
        assert len(moved(list(undo(str(away))))) == expected
        assert list(away.iterdir()) == []
    assert state(top) == before


# ------------------------------------------------------------------------------------------ the program


@pytest.fixture
def library(home: Path, mini_index: Callable[..., Path]) -> Path:
    """The index of three photos, of which two have copies in `sub`."""
    save_scenes(home, 3)
    (home / "sub").mkdir()
    for n in (0, 1):
        shutil.copy2(home / f"0{n}.png", home / f"sub/copy-{n}.png")
    write(home / "sub/copy-0.png.xmp", "tags")
    return mini_index(home)


def test_the_program_moves_and_puts_back(clipsearch: Run, library: Path, home: Path, tmp_path: Path) -> None:
    before = state(home)
    away = tmp_path / "away it's"
    names = [str(home / "sub" / name) for name in ("copy-0.png", "copy-0.png.xmp", "copy-1.png")]
    size = sum(len(before[os.fsencode(name)][0]) for name in names)

    tried = clipsearch("duplicates", "--move-to", away, "--dry-run", index=library)
    assert (tried.status, tried.lines) == (0, [f"would move {name} to {away}{name}" for name in names])
    assert tried.err.startswith("would move 2 copies and 1 sidecar (")
    assert state(home) == before
    assert not away.exists()
    done = clipsearch("duplicates", "--move-to", away, index=library)
    assert (done.status, done.lines) == (0, [f"moved {name} to {away}{name}" for name in names])
    quoted = str(away).replace("'", "'\"'\"'")
    what = f"moved 2 copies and 1 sidecar ({size / 1000:.1f} KB) to {away}"
    assert done.err == f"{what}; to undo, run: clipsearch duplicates --undo '{quoted}'\n"
    assert clipsearch("duplicates", "--move-to", away, index=library).status == 1  # the files are gone
    assert str(home / "sub/copy-0.png") not in clipsearch("query", "-k", "9", index=library).lines

    back = clipsearch("duplicates", "--undo", away, "--dry-run", "-f", "jsonl", index=tmp_path / "no index")
    assert back.status == 0
    assert [json.loads(line)["to"] for line in back.lines] == names[::-1]
    assert state(home) != before
    back = clipsearch("duplicates", "--undo", away, index=tmp_path / "no index")
    assert (back.status, back.lines) == (0, [f"moved {away}{name} to {name}" for name in reversed(names)])
    assert back.err.endswith("to update the index, run: clipsearch index\n")
    assert state(home) == before
    again = clipsearch("duplicates", "--undo", away)
    assert (again.status, again.out, again.err.count("\n")) == (1, b"", 1)


def test_objects_for_other_programs(clipsearch: Run, library: Path, home: Path, tmp_path: Path) -> None:
    (home / "01.png").write_bytes(b"changed")
    os.link(home / "sub/copy-0.png", tmp_path / "another name.png")
    before = state(home)
    run = ("duplicates", "--move-to", tmp_path / "away", "-f")
    assert clipsearch(*run, "jsonl", "--under", home / "sub", index=library).status == 1
    clipsearch("index", "-q", index=library)
    done = clipsearch(*run, "json", index=library)
    (one,) = json.loads(done.out)
    assert done.status == 0  # a file with another name stays on purpose
    assert list(one) == ["from", "to", "best", "size", "moved", "reason"]
    assert (one["from"], one["to"], one["best"]) == (str(home / "sub/copy-0.png"), None, str(home / "00.png"))
    assert (one["moved"], "hard link" in one["reason"]) == (False, True)
    assert state(home) == before


@posix
def test_a_name_cannot_act_on_a_terminal(home: Path, mini_index: Callable[..., Path], tmp_path: Path) -> None:
    save_scenes(home, 1)
    (home / "sub").mkdir()
    evil = os.fsencode(home) + b"/sub/\x1b]0;x\x07\xff.png"
    shutil.copy2(home / "00.png", evil)
    shown = in_terminal("duplicates", "--move-to", tmp_path / "away", index=mini_index(home))
    assert r"\x1b]0;x\x07" in shown
    assert not any(unsafe in shown for unsafe in ("\x1b]", "\x07"))
    objects = (tmp_path / "away/clipsearch-moved.jsonl").read_text().splitlines()
    assert "from_b64" in json.loads(objects[1])


def test_a_read_only_folder_skips_its_files(bound: Run, library: Path, home: Path, tmp_path: Path) -> None:
    (home / "locked").mkdir()
    (home / "sub/copy-0.png").rename(home / "locked/copy-0.png")
    assert bound("index", "-q", index=library).status == 0
    (home / "locked").chmod(0o555)
    for options in (("--dry-run",), ()):
        done = bound("duplicates", "--move-to", tmp_path / "away", *options, index=library)
        assert (done.status, len(done.lines)) == (3, 1)
        assert f"not moved: {home / 'locked/copy-0.png'}: its folder cannot be written to\n" in done.err
    (home / "locked").chmod(0o755)
    assert (home / "locked/copy-0.png").exists()
    assert bound("duplicates", "--undo", tmp_path / "away", index=library).status == 0


def test_a_folder_without_permission_moves_nothing(bound: Run, library: Path, home: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for options in (("--dry-run",), ()):
        done = bound("duplicates", "--move-to", locked / "away", *options, index=library)
        assert (done.status, done.out) == (2, b"")
        assert done.err == f"clipsearch: {locked}/away cannot be written to: permission denied\n"
    assert (home / "sub/copy-0.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--move-to", "a", "--undo", "a"), "not both"),
        (("--dry-run",), "--dry-run needs --move-to or --undo"),
        (("--move-to", "a", "--similar"), "choose which ones stay with --keep"),
        (("--keep", "a"), "--keep needs --move-to"),
        (("--move-to", "a", "--keep", "/etc/passwd"), "is not in the index"),
        (("--move-to", "a", "--html", "x.html"), "leave out --html and -0"),
        (("--undo", "a", "-0"), "leave out --html and -0"),
        (("--undo", "a", "--type", "png"), "leave out --identical and filters"),
        (("--undo", "a", "--identical"), "leave out --identical and filters"),
        (("--undo", "nowhere"), "there is no folder nowhere"),
        (("--undo", ""), "--undo needs the name of a folder"),
        (("--move-to", ""), "--move-to needs the name of a folder"),
        (("--move-to", "a", "-f", "paths"), "unknown format 'paths'; choose from table, json, jsonl"),
    ],
)
def test_what_makes_no_sense_is_refused(
    clipsearch: Run, drawn_index: Path, options: tuple[str, ...], words: str
) -> None:
    refused = clipsearch("duplicates", *options, index=drawn_index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert words in refused.err


def test_an_indexed_folder_is_refused(clipsearch: Run, library: Path, home: Path) -> None:
    before = state(home)
    for options in ((), ("--dry-run",)):
        refused = clipsearch("duplicates", "--move-to", home / "sub/away", *options, index=library)
        assert (refused.status, refused.out) == (2, b"")
        assert "lies in an indexed folder" in refused.err
    assert state(home) == before
