"""Drives that disappear before, during or after a scan cost no photo, wherever they are mounted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, damage, save_scenes
from indexes import MINI, StubEncoder, contents, draw, encode_with

from clipsearch.errors import BadRequest, FolderOffline
from clipsearch.images import scan as scanning
from clipsearch.images.left_out import LeftOut
from clipsearch.indexing import run
from clipsearch.indexing.drives import DeletionCheck
from clipsearch.indexing.relocate import forget, relocate
from clipsearch.indexing.report import Report
from clipsearch.indexing.status import status_of
from clipsearch.indexing.update import Options, update_index
from clipsearch.indexing.why import State, why_of
from clipsearch.store import mounts
from clipsearch.store.catalogue import Store
from clipsearch.store.drives import Offline
from clipsearch.store.filters import Filter


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    encode_with(monkeypatch, StubEncoder)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three photos, and an empty one in it for a drive."""
    folder = tmp_path.resolve() / "pictures"
    for n in range(3):
        draw(folder / f"{n}.png", n)
    (folder / "usb").mkdir()
    return folder


class Drive:
    """A tmpfs, whose photos are lost when it is unmounted, or a folder elsewhere that is mounted by a bind."""

    def __init__(self, point: Path, source: Path | None = None) -> None:
        self.point, self.source, self.mounted = point, source, False

    def mount(self) -> None:
        how = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"] if self.source is None else ["--bind", str(self.source)]
        subprocess.run(["mount", *how, str(self.point)], check=True, capture_output=True)
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.point)], check=True, capture_output=True)
        self.mounted = False


@pytest.fixture
def mounted() -> Iterator[Callable[..., Drive]]:
    """Mounts a drive; skips the test where that is not allowed."""
    made: list[Drive] = []

    def mount(point: Path, source: Path | None = None) -> Drive:
        drive = Drive(point, source)
        try:
            drive.mount()
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("nothing can be mounted here")
        made.append(drive)
        return drive

    yield mount
    for drive in reversed(made):
        drive.unmount()


def paths(index: Path) -> set[str]:
    return {os.path.basename(os.fsdecode(path)) for path in contents(index)}


def offline(report: Report) -> list[tuple[str, Offline]]:
    return [(os.fsdecode(path), why) for path, why in report.offline]


# ------------------------------------------------------------------------------------------ mounted drives


class Numbered(Drive):
    """A folder that has another device number while it is "mounted": what is mounted without being root."""

    def __init__(self, point: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(point, source)
        device_of, identity = mounts.device_of, scanning._identity

        def numbered(path: bytes) -> int | None:
            device, where = device_of(path), os.path.realpath(path)
            is_on_it = self.mounted and Path(os.fsdecode(where)).is_relative_to(self.point)
            return device if device is None or not is_on_it else 4711

        monkeypatch.setattr(mounts, "device_of", numbered)
        monkeypatch.setattr(scanning, "_identity", lambda path: (numbered(path) or 0, identity(path)[1]))

    def mount(self) -> None:
        shutil.rmtree(self.point)
        shutil.move(self.source, self.point)
        self.mounted = True

    def unmount(self) -> None:
        if self.mounted:
            shutil.move(self.point, self.source)
            self.point.mkdir()
        self.mounted = False


@pytest.fixture(params=["mounted", "numbered"])
def usb(
    request: pytest.FixtureRequest,
    pictures: Path,
    index: Path,
    mounted: Callable[..., Drive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Drive:
    """A drive in the pictures with two albums of two photos, indexed with them; it keeps its photos."""
    source = tmp_path.resolve() / "source"
    source.mkdir()
    if request.param == "mounted":
        mounted(source)
    for n in range(4):
        draw(source / f"album{n % 2}/u{n}.png", 10 + n)
    if request.param == "mounted":
        drive = mounted(pictures / "usb", source)
    else:
        drive = Numbered(pictures / "usb", source, monkeypatch)
        drive.mount()
    assert update_index(index, [pictures], MINI).added == 7
    return drive


ALL = {"0.png", "1.png", "2.png", "u0.png", "u1.png", "u2.png", "u3.png"}


@pytest.mark.parametrize("left", ["nothing", "a marker", "a photo", "no mount point"])
def test_a_drive_below_the_root_keeps_its_photos(usb: Drive, pictures: Path, index: Path, left: str) -> None:
    usb.unmount()
    if left == "a marker":
        (usb.point / ".not_mounted").touch()
    elif left == "a photo":
        draw(usb.point / "album0/u0.png", 99)  # named like one of the drive
    elif left == "no mount point":
        usb.point.rmdir()
    (pictures / "0.png").unlink()
    why = Offline.MISSING if left == "no mount point" else Offline.UNMOUNTED
    for _ in range(2):
        report = update_index(index)
        assert offline(report) == [(str(usb.point), why)]
        assert paths(index) == ALL - {"0.png"}
    usb.point.mkdir(exist_ok=True)
    usb.mount()
    report = update_index(index)
    assert (report.offline, report.removed) == ([], 0)
    assert paths(index) == ALL - {"0.png"}
    (usb.point / "album0/u0.png").unlink()
    shutil.rmtree(usb.point / "album1")
    assert update_index(index).removed == 3
    assert paths(index) == {"1.png", "2.png", "u2.png"}


@pytest.mark.parametrize("usb", ["mounted"], indirect=True)
def test_what_is_offline_in_a_root_is_said_everywhere(usb: Drive, pictures: Path, index: Path, clipsearch: Run) -> None:
    usb.unmount()
    place, root = str(usb.point), str(pictures)
    said = clipsearch("index", index=index).err
    assert f"offline: {place} is not mounted; photos kept in the index" in said
    report = json.loads(clipsearch("index", "--json", index=index).out)
    assert report["offline"] == [{"path": place, "reason": "is not mounted"}]
    status = json.loads(clipsearch("status", "--json", index=index).out)
    assert (status["photos"], status["roots"][0]["online"]) == (7, True)
    assert status["offline"] == [{"path": place, "reason": "is not mounted", "photos": 4}]
    assert f"4  of these in {place}  (offline: is not mounted)" in clipsearch("status", index=index).out.decode()
    for under, found in ((root, 3), (place, 0)):
        asked = clipsearch("query", "a circle", "--under", under, index=index)
        assert asked.err == f"not searched: {place} is not mounted\n"
        assert len(asked.lines) == found
    inside = clipsearch("query", "a circle", "--under", f"{place}/album0", index=index)
    assert inside.err == f"not searched: {place}/album0 is not mounted\n"
    with Store.open(index) as store:
        for path in ("album0/u0.png", "album0", ""):
            found = why_of(store, usb.point / path)
            assert (found.state, found.detail) == (State.OFFLINE, f"{place} is not mounted")
        assert why_of(store, pictures / "0.png").state is State.INDEXED


def test_a_drive_that_is_gone_for_good_can_be_forgotten(usb: Drive, pictures: Path, index: Path) -> None:
    usb.unmount()
    usb.point.rmdir()
    update_index(index, options=Options(prune=True))  # which believes what can be seen
    assert paths(index) == ALL
    assert forget(index, [usb.point]) == 4
    assert paths(index) == {"0.png", "1.png", "2.png"}
    assert update_index(index).offline == []


def test_prune_believes_a_mount_point_with_nothing_on_it(usb: Drive, index: Path) -> None:
    usb.unmount()
    report = update_index(index, options=Options(prune=True))
    assert (report.offline, report.removed) == ([], 4)


def test_prune_does_not_believe_a_drive_that_goes_away_during_the_run(
    usb: Drive, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scanning._list

    def unmount(*args: Any) -> Any:
        usb.unmount()
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_list", unmount)
        assert update_index(index, options=Options(prune=True)).removed == 0
    assert paths(index) == ALL


def test_a_drive_as_the_root_keeps_its_photos(pictures: Path, index: Path, usb: Drive, tmp_path: Path) -> None:
    other = tmp_path / "other"
    update_index(other, [usb.point], MINI)
    usb.unmount()
    (usb.point / ".DS_Store").touch()
    draw(usb.point / "new.png", 50)
    for _ in range(2):
        report = update_index(other)
        assert offline(report) == [(str(usb.point), Offline.UNMOUNTED)]
        assert paths(other) == {"u0.png", "u1.png", "u2.png", "u3.png", "new.png"}


def test_another_drive_at_the_same_place_takes_nothing_away(
    index: Path, tmp_path: Path, mounted: Callable[..., Drive]
) -> None:
    """As with two cards in one reader. The system may give both the same number."""
    reader = tmp_path.resolve() / "reader"
    reader.mkdir()
    card = mounted(reader)
    for n in range(2):
        draw(reader / f"a{n}.png", n)
    update_index(index, [reader], MINI)
    card.unmount()
    card.mount()
    draw(reader / "b.png", 5)
    for _ in range(3):
        report = update_index(index)
        assert offline(report) == [(str(reader), Offline.EMPTY)]
        assert paths(index) == {"a0.png", "a1.png", "b.png"}
    (reader / "b.png").unlink()
    draw(reader / "b2.png", 6)
    update_index(index)
    assert {"a0.png", "a1.png"} < paths(index)
    assert update_index(index, options=Options(prune=True)).offline == []
    assert paths(index) == {"b2.png"}


def test_another_drive_with_the_same_names_takes_nothing_away(
    index: Path, tmp_path: Path, mounted: Callable[..., Drive]
) -> None:
    """As cameras number their photos. Where a name is the same, the photo that is there now is indexed."""
    reader = tmp_path.resolve() / "reader"
    reader.mkdir()
    card = mounted(reader)
    for n in range(3):
        draw(reader / f"IMG_{n}.png", n)
    update_index(index, [reader], MINI)
    card.unmount()
    card.mount()
    draw(reader / "IMG_1.png", 5)
    with Store.open(index) as store:  # somebody may just have edited it
        assert store.select().offline == {}
    for _ in range(2):
        report = update_index(index)
        assert (report.removed, offline(report)) == (0, [(str(reader), Offline.EMPTY)])
        assert paths(index) == {"IMG_0.png", "IMG_1.png", "IMG_2.png"}
    assert update_index(index, options=Options(prune=True)).removed == 2


def test_a_bind_of_the_same_file_system_is_a_drive(
    pictures: Path, index: Path, tmp_path: Path, mounted: Callable[..., Drive]
) -> None:
    draw(tmp_path.resolve() / "elsewhere/x.png", 20)
    bound = mounted(pictures / "usb", tmp_path.resolve() / "elsewhere")
    update_index(index, [pictures], MINI)
    assert bound.point.stat().st_dev == pictures.stat().st_dev
    bound.unmount()
    assert offline(update_index(index)) == [(str(bound.point), Offline.UNMOUNTED)]
    assert "x.png" in paths(index)
    (tmp_path / "elsewhere/x.png").unlink()
    bound.mount()
    assert offline(update_index(index)) == [(str(bound.point), Offline.EMPTY)]


@pytest.mark.parametrize("of", ["a folder", "a file"])
def test_a_link_to_a_drive_keeps_its_photos(usb: Drive, tmp_path: Path, of: str) -> None:
    root, index = tmp_path.resolve() / "links", tmp_path / "other"
    draw(root / "own.png", 60)
    if of == "a folder":
        (root / "link").symlink_to(usb.point / "album0")
    else:
        (root / "u0.png").symlink_to(usb.point / "album0/u0.png")
    update_index(index, [root], Options(model="mini", follow_links=True))
    before = paths(index)
    assert "u0.png" in before
    usb.unmount()
    report = update_index(index)
    assert len(report.offline) == 1
    assert report.skipped == []
    assert paths(index) == before
    usb.mount()
    assert update_index(index).offline == []
    (usb.point / "album0/u0.png").unlink()
    (usb.point / "album0/u2.png").unlink()
    update_index(index, [root], Options(prune=True))
    assert paths(index) == {"own.png"}


def test_a_rebuild_waits_for_a_drive_in_a_root(usb: Drive, index: Path) -> None:
    before = contents(index)
    usb.unmount()
    with pytest.raises(FolderOffline, match=r"usb is not mounted; a rebuild now would lose its photos"):
        update_index(index, options=Options(rebuild=True))
    assert contents(index) == before
    usb.mount()
    assert update_index(index, options=Options(rebuild=True)).added == 7
    usb.unmount()
    update_index(index)
    assert contents(index) == before


def test_a_folder_takes_in_a_drive_that_was_a_root(usb: Drive, pictures: Path, tmp_path: Path) -> None:
    index = tmp_path / "other"
    update_index(index, [usb.point], MINI)
    assert update_index(index, [pictures]).unchanged == 4
    usb.unmount()
    assert offline(update_index(index)) == [(str(usb.point), Offline.UNMOUNTED)]
    assert paths(index) == ALL


def test_a_root_with_a_drive_in_it_can_move(usb: Drive, pictures: Path, index: Path, tmp_path: Path) -> None:
    usb.unmount()
    moved = tmp_path.resolve() / "moved"
    pictures.rename(moved)
    assert relocate(index, pictures, moved) == (3, 7)
    assert offline(update_index(index)) == [(str(moved / "usb"), Offline.UNMOUNTED)]
    usb.point = moved / "usb"
    usb.mount()
    report = update_index(index)
    assert (report.offline, report.unchanged) == ([], 7)


def _change_and_update(usb: Drive, index: Path) -> None:
    draw(usb.point / "album0/new.png", 70)
    (usb.point / "album1/u1.png").unlink()
    update_index(index)


@pytest.mark.parametrize("moment", range(7))
def test_a_drive_that_goes_away_during_a_run_costs_nothing(
    usb: Drive, index: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """At each listing of a folder, when the comparison has ended, and when anything is about to be removed."""
    seen = 0

    def then(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal seen
            if seen == moment:
                usb.unmount()
            seen += 1
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_list", then(scanning._list))
        patch.setattr(run, "DeletionCheck", then(run.DeletionCheck))
        patch.setattr(DeletionCheck, "is_deleted", then(DeletionCheck.is_deleted))
        _change_and_update(usb, index)
    assert seen > moment
    assert paths(index) >= ALL - {"u1.png"}
    usb.unmount()
    update_index(index)
    assert paths(index) >= ALL - {"u1.png"}
    usb.mount()
    update_index(index)
    assert paths(index) == ALL - {"u1.png"} | {"new.png"}


# ------------------------------------------------------------------------------------------ without mounting


def test_a_drive_that_is_away_for_a_moment_costs_nothing(
    pictures: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is not there while it is listed, and is back before anything is removed."""
    draw(pictures / "usb/x.png", 20)
    update_index(index, [pictures], MINI)
    real = scanning._list

    def without(root: bytes, folder: bytes, *rest: Any) -> Any:
        return ([], LeftOut()) if folder.endswith(b"usb") else real(root, folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_list", without)
        assert update_index(index).removed == 0
        with pytest.raises(
            BadRequest, match=r"usb/x.png was missing during the rebuild; .* lose 1 photo, so the index is unchanged"
        ):
            update_index(index, options=Options(rebuild=True))
    assert paths(index) == {"0.png", "1.png", "2.png", "x.png"}
    assert update_index(index).unchanged == 4


def test_a_file_that_is_gone_counts_only_beside_one_that_is_there(
    pictures: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole folder goes away after the scan has missed one photo, while the others are embedded."""
    update_index(index, [pictures], MINI)
    (pictures / "0.png").unlink()
    draw(pictures / "3.png", 3)
    real = run.Run._index_pending

    def unmount(self: run.Run) -> None:
        real(self)
        pictures.rename(tmp_path / "away")

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "_index_pending", unmount)
        assert offline(update_index(index)) == [(str(pictures), Offline.MISSING)]
    assert paths(index) == {"0.png", "1.png", "2.png", "3.png"}
    (tmp_path / "away").rename(pictures)
    assert update_index(index).removed == 1


def test_a_drive_that_goes_away_between_two_looks_takes_nothing_with_it(
    pictures: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan misses all photos but one, and when they are looked at again their folder is gone."""
    update_index(index, [pictures], MINI)
    real_list, real_call = scanning._list, DeletionCheck.is_deleted

    def unmount(*args: Any, **options: Any) -> bool:
        if pictures.exists():
            pictures.rename(tmp_path / "away")
        return real_call(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_list", lambda *args: (real_list(*args)[0][:1], real_list(*args)[1]))
        patch.setattr(DeletionCheck, "is_deleted", unmount)
        report = update_index(index)
    assert (report.removed, offline(report)) == (0, [(str(pictures), Offline.MISSING)])
    assert paths(index) == {"0.png", "1.png", "2.png"}


def test_a_changed_photo_that_cannot_be_read_keeps_what_is_known_of_it(
    pictures: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [pictures], MINI)
    before = contents(index)
    draw(pictures / "0.png", 30)
    real = run.read_file
    with monkeypatch.context() as patch:
        patch.setattr(run, "read_file", lambda path, *rest: real(b"/gone", *rest))
        report = update_index(index)
    assert ([path for path, _ in report.unreadable], report.skipped) == ([os.fsencode(pictures / "0.png")], [])
    assert contents(index) == before
    assert update_index(index).updated == 1


def test_an_album_that_is_deleted_or_renamed_is_gone(pictures: Path, index: Path) -> None:
    for n in range(4):
        draw(pictures / f"album/{n}a.png", 40 + n)
    update_index(index, [pictures], MINI)
    shutil.rmtree(pictures / "album")
    assert update_index(index).removed == 4
    for n in range(3):
        (pictures / "new").mkdir(exist_ok=True)
        (pictures / f"{n}.png").rename(pictures / f"new/{n}x.png")
    report = update_index(index)
    assert (report.moved, report.removed, report.offline) == (3, 0, [])
    assert paths(index) == {"0x.png", "1x.png", "2x.png"}


def test_a_folder_whose_photos_are_replaced_is_no_other_drive(pictures: Path, index: Path) -> None:
    """It lies on the drive that the index lies on: nobody has swapped that."""
    update_index(index, [pictures], MINI)
    for n in range(3):
        (pictures / f"{n}.png").unlink()
    assert offline(update_index(index)) == [(str(pictures), Offline.EMPTY)]
    draw(pictures / "new.png", 50)
    report = update_index(index)
    assert (report.added, report.removed, report.offline) == (1, 3, [])


def test_a_device_with_another_number_is_the_same_drive(pictures: Path, index: Path) -> None:
    """As after a reboot."""
    update_index(index, [pictures], MINI)
    statement = "UPDATE drives SET device = 77, mark = mark(id, root, mount, 77)"
    damage(index, statement)
    (pictures / "0.png").unlink()
    report = update_index(index)
    assert (report.unchanged, report.removed, report.offline) == (2, 1, [])
    with Store.open(index) as store:
        (drive,) = store.drives.of(store.roots()[0])
        assert drive.device == pictures.stat().st_dev
    damage(index, statement)
    for n in (1, 2):
        draw(pictures / f"{n}.png", 90 + n)  # on another device files with the same names prove nothing
    (pictures / "2.png").unlink()
    report = update_index(index)
    assert (report.updated, report.removed, offline(report)) == (1, 0, [(str(pictures), Offline.EMPTY)])


def test_names_that_a_disk_without_case_finds_again_are_not_kept(
    pictures: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [pictures], MINI)
    (pictures / "0.png").rename(pictures / "0.PNG")
    real = os.stat

    def stat(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if isinstance(path, bytes) and path.endswith(b"/0.png"):
            path = path.replace(b"0.png", b"0.PNG")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert update_index(index).moved == 1
    assert paths(index) == {"0.PNG", "1.png", "2.png"}


def test_what_is_left_out_by_now_is_removed(pictures: Path, index: Path) -> None:
    draw(pictures / "usb/x.png", 20)
    update_index(index, [pictures], MINI)
    assert update_index(index, options=Options(exclude=("usb/",))).removed == 1
    assert update_index(index, options=Options(exclude=("*.png",))).removed == 3
    assert paths(index) == set()


# ------------------------------------------------------------------------------------------ rebuilds


def test_a_rebuild_that_cannot_read_files_names_one_and_leaves_the_index(
    pictures: Path, index: Path, bound: Run
) -> None:
    real = pictures.parent / "real"
    save_scenes(real, 4)
    assert bound("index", real, "--model", "mini", index=index).status == 0
    for name in ("00.png", "02.png"):
        (real / name).chmod(0)
    refused = bound("index", "--rebuild", index=index)
    assert refused.status == 2
    assert (
        f"{real}/00.png cannot be read (permission denied); the rebuild would lose 2 photos, so the index"
        in refused.err
    )
    assert refused.err.count("\n") == 1
    assert len(paths(index)) == 4
    for name in ("00.png", "02.png"):
        (real / name).chmod(0o600)
    assert bound("index", "--rebuild", index=index).status == 0


def test_a_rebuild_lets_go_of_what_is_gone_or_spoilt(pictures: Path, index: Path) -> None:
    update_index(index, [pictures], MINI)
    (pictures / "0.png").unlink()
    (pictures / "1.png").write_bytes(b"no photo any more")
    report = update_index(index, options=Options(rebuild=True))
    assert (report.added, len(report.skipped)) == (1, 1)
    assert paths(index) == {"2.png"}


def test_a_rebuild_does_not_take_a_decoder_that_fails_for_a_spoilt_photo(
    pictures: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [pictures], MINI)
    before, real = contents(index), run.read_file

    def fails(path: bytes, *rest: Any) -> Any:
        found = real(path, *rest)
        return found._replace(pixels=None, error="took longer than 60 s") if path.endswith(b"1.png") else found

    with monkeypatch.context() as patch:
        patch.setattr(run, "read_file", fails)
        with pytest.raises(BadRequest, match=r"1.png cannot be read \(took longer than 60 s\); .* lose 1 photo,"):
            update_index(index, options=Options(rebuild=True))
    assert contents(index) == before


def test_the_selection_of_a_root_without_a_drive_has_the_rest(usb: Drive, pictures: Path, index: Path) -> None:
    usb.unmount()
    with Store.open(index) as store:
        for where, count in ((Filter(), 3), (Filter(under=str(pictures)), 3), (Filter(types="png"), 3)):
            chosen = store.select(where)
            assert [root.path for root in chosen.offline] == [os.fsencode(usb.point)]
            assert len(store.images_in(chosen)) == len(list(store.by_path(chosen))) == count
        (part,) = status_of(store).offline
        assert (part.photos, part.why) == (4, Offline.UNMOUNTED)
