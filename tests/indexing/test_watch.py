"""Keeping an index up to date while folders change, in a thread and with a free encoder."""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import watchfiles
from indexes import MINI, StubEncoder, assert_as_new, contents, draw, encode_with, touch

from clipsearch.errors import BadRequest, NoIndex
from clipsearch.images.rules import Rules
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing import run, watch
from clipsearch.indexing.relocate import forget
from clipsearch.indexing.update import Options, Report, update_index
from clipsearch.indexing.watch import Watch
from clipsearch.models.model import mini
from clipsearch.store import mounts
from clipsearch.store.catalogue import CATALOGUE, Offline, Root, Store

LONG = 60  # seconds, of which a quiet machine needs one


class Stopped(Exception):
    pass


class Watching:
    """A watch that goes on in a thread: its reports, what it notes, and the folders of its updates."""

    def __init__(self, index: Path, *directories: Path, settle: float = 0.15, **settings: object) -> None:
        self.index = index
        self._notes: queue.Queue[str] = queue.Queue()
        self._said: queue.Queue[Report | Exception] = queue.Queue()
        self._watch = Watch(index, directories, MINI, settle, on_note=self._notes.put, **settings)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.first = self.report()

    def _run(self) -> None:
        try:
            for report in self._watch.reports():
                self._said.put(report)
        except Exception as error:
            self._said.put(error)

    def report(self) -> Report:
        found = self._said.get(timeout=LONG)
        if isinstance(found, Exception):
            raise found
        return found

    def note(self) -> str:
        return self._notes.get(timeout=LONG)

    def until_it_has(self, *photos: Path) -> None:
        """A change may take more than one update."""
        while set(contents(self.index)) != {os.fsencode(photo) for photo in photos}:
            self.report()


Start = Callable[..., Watching]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a watch that sees everything soon, and ends it with the test."""
    going: list[Watching] = []
    begun, stop = threading.Event(), threading.Event()

    def events(folders: set[bytes]) -> Iterator[object]:
        for changes in real(folders):
            if stop.is_set():
                raise Stopped
            yield changes
            begun.set()

    def make(*arguments: object, **settings: object) -> Watching:
        going.append(Watching(*arguments, **settings))
        assert begun.wait(LONG)
        return going[-1]

    real = watch._events
    monkeypatch.setattr(watch, "_events", events)
    monkeypatch.setattr(watch, "_TICK", 0.06)
    monkeypatch.setattr(watch, "_STEP", 0.02)
    yield make
    stop.set()
    for one in going:
        one.thread.join(LONG)
        assert not one.thread.is_alive()


class Lasting(Decoders):
    """Processes that go on from one update to the next, which makes the tests twice as fast."""

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    found = Lasting(2, mini().preprocess)
    yield found
    Decoders.close(found)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, decoders: Decoders) -> type[StubEncoder]:
    class Fresh(StubEncoder):
        loaded = 0
        batches: list[int] = []  # noqa: RUF012

    encode_with(monkeypatch, Fresh)
    monkeypatch.setattr(run, "Decoders", lambda *_: decoders)
    return Fresh


@pytest.fixture
def photos(tmp_path: Path, stub: type[StubEncoder]) -> Path:
    folder = tmp_path.resolve() / "photos"
    for n, name in enumerate(("a.png", "b.png", "sub/c.png")):
        draw(folder / name, n)
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The folders of each update: an empty set for all."""
    found: list[set[str]] = []

    def update(folder: Path, directories: list[str], *rest: object) -> Report:
        found.append(set(map(str, directories)))
        return update_index(folder, directories, *rest)

    monkeypatch.setattr(watch, "update_index", update)
    return found


# ------------------------------------------------------------------------------------------ what changes


def test_files_that_are_copied_renamed_and_deleted(
    start: Start, index: Path, photos: Path, stub: type[StubEncoder], tmp_path: Path
) -> None:
    watching = start(index, photos)
    assert watching.first.added == 3
    for n in range(4):  # so few that one encoder is enough
        draw(tmp_path / f"new/{n}.png", 100 + n)
    shutil.copytree(tmp_path / "new", photos / "deep/er")
    new = [photos / f"deep/er/{n}.png" for n in range(4)]
    watching.until_it_has(photos / "a.png", photos / "b.png", photos / "sub/c.png", *new)
    (photos / "deep").rename(photos / "other")
    assert watching.report().moved == 4
    (photos / "a.png").rename(photos / "z.png")
    assert watching.report().moved == 1
    draw(photos / "b.png", 50)
    touch(photos / "b.png")
    assert watching.report().updated == 1
    shutil.rmtree(photos / "other")
    assert watching.report().removed == 4
    assert_as_new(index, photos, scratch=tmp_path / "fresh")
    assert stub.loaded == 2  # the second for the fresh index


def test_only_the_folders_in_which_something_changed_are_looked_at(
    start: Start, index: Path, photos: Path, updates: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = start(index, photos)
    draw(photos / "sub/new.png", 10)
    watching.report()
    assert updates[-1] == {str(photos / "sub")}
    for n in range(watch._MANY_FOLDERS + 1):
        shutil.copytree(photos / "sub", photos / f"{n}")
    watching.until_it_has(*photos.rglob("*.png"))
    assert {str(photos)} in updates[2:]
    monkeypatch.setattr(watch, "_MANY_PATHS", 1)  # of more events some may have been lost
    for path in list((photos / "sub").iterdir()):
        path.unlink()
    watching.until_it_has(*photos.rglob("*.png"))
    assert updates[-1] == {str(photos)}


def test_what_is_no_photo_or_left_out_causes_nothing(
    start: Start, index: Path, photos: Path, updates: list[set[str]], tmp_path: Path
) -> None:
    update_index(index, [photos], Options(model="mini", exclude=("out/", "no.png")))
    (photos / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    watching = start(index, photos)
    before = len(updates)
    (photos / "sub/text.txt").write_text("x")
    (photos / "sub/text.txt").unlink()
    draw(photos / "sub/.hidden/a.png", 10)
    draw(photos / "out/a.png", 11)
    draw(photos / "sub/no.png", 12)
    draw(photos / "sub/node_modules/a.png", 13)
    draw(tmp_path / "elsewhere/a.png", 14)
    with pytest.raises(queue.Empty):
        watching._said.get(timeout=0.7)
    draw(photos / "new.png", 15)
    assert watching.report().added == 1
    assert updates[before:] == [{str(photos)}]


def test_a_folder_that_is_chosen_is_watched_alone(
    start: Start, index: Path, photos: Path, updates: list[set[str]]
) -> None:
    update_index(index, [photos], MINI)
    watching = start(index, photos / "sub")
    draw(photos / "new.png", 10)
    draw(photos / "sub/new.png", 11)
    assert watching.report().added == 1
    assert set().union(*updates) == {str(photos / "sub")}
    assert os.fsencode(photos / "new.png") not in contents(index)


def test_an_encoder_is_kept_for_a_while(
    start: Start, index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = start(index, photos)
    draw(photos / "x.png", 10)
    watching.report()
    assert stub.loaded == 1
    monkeypatch.setattr(watch, "_ENCODER_SECONDS", 0)
    for _ in range(200):
        if watching._watch._encoders._cached is None:
            break
        watching.thread.join(0.1)
    draw(photos / "y.png", 11)
    watching.report()
    assert stub.loaded == 2


# ------------------------------------------------------------------------------------------ what goes away


def test_a_folder_that_goes_away_keeps_its_photos_and_is_watched_when_it_is_back(
    start: Start, index: Path, photos: Path, tmp_path: Path
) -> None:
    other = draw(tmp_path.resolve() / "other/x.png", 5).parent
    update_index(index, [photos, other], MINI)
    watching = start(index)
    photos.rename(tmp_path / "away")
    assert watching.report().offline == [(os.fsencode(photos), Offline.MISSING)]
    draw(other / "y.png", 6)
    assert watching.report().added == 1
    assert len(contents(index)) == 5
    draw(tmp_path / "away/new.png", 7)
    (tmp_path / "away").rename(photos)
    report = watching.report()
    assert (report.offline, report.added) == ([], 1)
    draw(photos / "sub/newer.png", 8)
    assert watching.report().added == 1
    assert_as_new(index, photos, other, scratch=tmp_path / "fresh")


def test_a_link_in_the_place_of_a_folder_adds_no_other(
    start: Start, index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    update_index(index, [photos], MINI)
    watching = start(index)
    photos.rename(tmp_path / "moved")
    photos.symlink_to(tmp_path / "moved")
    draw(tmp_path / "moved/sub/new.png", 10)
    while not watching.report().added:
        pass
    with Store.open(index) as store:
        assert [root.path for root in store.roots()] == [os.fsencode(photos)]
    photos.unlink()
    (tmp_path / "moved").rename(photos)
    draw(photos / "sub/newer.png", 11)
    while not watching.report().added:
        pass


def test_folders_that_others_index_or_forget(start: Start, index: Path, photos: Path, tmp_path: Path) -> None:
    other = draw(tmp_path.resolve() / "other/x.png", 5).parent
    update_index(index, [photos], MINI)
    watching = start(index)
    update_index(index, [other], MINI)
    draw(other / "y.png", 6)
    watching.until_it_has(*photos.rglob("*.png"), *other.iterdir())
    forget(index, [other])
    draw(other / "z.png", 7)
    draw(photos / "new.png", 8)
    watching.until_it_has(*photos.rglob("*.png"))


def test_what_ends_it(start: Start, index: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="there is no folder"):
        start(index, tmp_path / "nowhere")
    with pytest.raises(NoIndex):
        start(index)
    watching = start(index, photos)
    (index / CATALOGUE).unlink()
    draw(photos / "new.png", 10)
    with pytest.raises(NoIndex):
        watching.report()


def test_it_waits_for_another_writer(start: Start, index: Path, photos: Path) -> None:
    watching = start(index, photos)
    with Store.open(index, write=True):
        draw(photos / "new.png", 10)
        assert "is writing to the index" in watching.note()
        draw(photos / "newer.png", 11)
    watching.until_it_has(*photos.rglob("*.png"))
    with pytest.raises(queue.Empty):
        watching._notes.get_nowait()


# ------------------------------------------------------------------------------------------ without events


def test_looking_every_so_often(
    start: Start, index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchfiles, "watch", lambda *_, **__: pytest.fail("it need not"))
    watching = start(index, photos, poll=0.2)
    draw(photos / "new.png", 10)
    assert watching.report().added == 1
    (photos / "sub").rename(photos / "other")
    assert watching.report().moved == 1


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("OS file watch limit reached. about []", "more folders than the system can watch"),
        ('Permission denied about ["PHOTOS/sub"]', "a folder in it cannot be read"),
    ],
)
def test_what_cannot_be_watched_is_looked_at(
    start: Start, index: Path, photos: Path, message: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[set[object]]:
        raise OSError(message.replace("PHOTOS", str(photos)))
        yield

    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(watchfiles, "watch", refuse)
    watching = start(index, photos)
    note = watching.note()
    assert note.startswith(f"polling {photos} every 0.2 s: ")
    assert words in note
    draw(photos / "new.png", 10)
    assert watching.report().added == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
def test_names_that_are_not_utf_8(
    start: Start, index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.2)
    other = draw(tmp_path.resolve() / "other/x.png", 5).parent
    watching = start(index, photos, other)
    shutil.copy(photos / "a.png", os.fsencode(photos) + b"/\xff.png")
    while not watching.report().added:
        pass
    note = watching.note()
    assert note.startswith(f"polling {photos} every")
    assert "not UTF-8" in note
    draw(other / "y.png", 6)
    assert watching.report().added == 1


@pytest.mark.parametrize(
    ("mount", "polled"),
    [
        ("server:/share /mnt/my\\040drive nfs4 rw 0 0", True),
        ("user@host: /mnt fuse.sshfs rw 0 0", True),
        ("/dev/sdb1 /mnt fuseblk rw 0 0", False),
        ("server:/share /mnt/other nfs4 rw 0 0", False),
        ("server:/share /mnt nfs4 rw 0 0\n/dev/sdb1 /mnt/my\\040drive ext4 rw 0 0", False),
    ],
)
def test_network_drives_are_looked_at(
    mount: str, polled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\n{mount}\n")
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mounts")
    assert watch._is_on_network(b"/mnt/my drive/photos") is polled


@pytest.mark.parametrize("how", ["mounted", "unmounted", "listed"])
def test_a_drive_in_a_watched_folder_makes_all_be_looked_at(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's events say nothing of it."""
    usb = tmp_path / "usb"
    root = Root(1, os.fsencode(tmp_path), Rules())
    if how != "mounted":
        usb.mkdir()
    places = watch._Folders([root], [], lambda path: False, {os.fsencode(usb)})
    assert not places.are_stale(set())
    if how == "mounted":
        usb.mkdir()
    elif how == "unmounted":
        usb.rmdir()
    else:
        monkeypatch.setattr(watch, "mount_points", lambda: {b"/": b"ext4", os.fsencode(usb): b"vfat"})
    assert places.are_stale(set())


# ------------------------------------------------------------------------------------------ many


@pytest.mark.slow
def test_thousands_of_files(start: Start, index: Path, photos: Path, tmp_path: Path) -> None:
    for n in range(2_000):
        draw(tmp_path / f"many/{n % 20}/{n}.png", 100 + n)
    watching = start(index, photos)
    shutil.copytree(tmp_path / "many", photos / "many")
    watching.until_it_has(*photos.rglob("*.png"))
    (photos / "many").rename(photos / "more")
    for path in list((photos / "more").rglob("*.png"))[:500]:
        path.rename(path.with_name(f"new {path.name}"))
    watching.until_it_has(*photos.rglob("*.png"))
    for path in list((photos / "more").rglob("*.png"))[:1_000]:
        path.unlink()
    watching.until_it_has(*photos.rglob("*.png"))
    assert_as_new(index, photos, scratch=tmp_path / "fresh")
