"""Only one process writes to an index at a time; others are told which."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import DIM

from clipsearch.errors import IndexLocked, IndexUnusable
from clipsearch.images.rules import Rules
from clipsearch.store import lock
from clipsearch.store.catalogue import Store

WRITER = """
import sys
from pathlib import Path
from clipsearch.images.metadata import Metadata
from clipsearch.images.found_file import FoundFile
from clipsearch.images.rules import Rules
from clipsearch.store.catalogue import Store

store = Store.open(Path(sys.argv[1]), write=True)
root = store.folders.add(b"/committed", Rules())
store.commit()
store.folders.add(b"/uncommitted", Rules())
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.create(folder, "a model", DIM) as made:
        yield made


@pytest.fixture
def other_writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    Store.create(folder, "a model", DIM).close()
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_process_cannot_write_and_is_told_who_does(folder: Path, other_writer: subprocess.Popen[str]) -> None:
    with pytest.raises(IndexLocked, match=rf"process {other_writer.pid} is writing"):
        Store.open(folder, write=True)
    with pytest.raises(IndexLocked, match=rf"process {other_writer.pid} is writing"):
        Store.create(folder, "a model", DIM)
    with Store.open(folder) as reader:
        assert [root.path for root in reader.roots()] == [b"/committed"]


def test_the_lock_of_a_killed_process_is_taken_over_and_its_uncommitted_work_is_gone(
    folder: Path, other_writer: subprocess.Popen[str]
) -> None:
    other_writer.kill()
    other_writer.wait()
    with Store.open(folder, write=True) as store:
        assert [root.path for root in store.roots()] == [b"/committed"]
        store.folders.add(b"/more", Rules())
        store.commit()
        assert (folder / "writer.pid").read_text().split() == [str(os.getpid()), "0", "0"]
        store.show_progress(3, 40)
        assert lock.writer(folder) == (os.getpid(), 3, 40)
    assert lock.writer(folder) is None


def test_a_second_writer_in_the_same_process_is_refused_until_the_first_is_closed(store: Store) -> None:
    with pytest.raises(IndexLocked, match=f"process {os.getpid()} "):
        Store.open(store.folder, write=True)
    store.close()
    Store.open(store.folder, write=True).close()


def test_where_nothing_can_be_written_the_message_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    Store.create(folder, "a model", DIM).close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)  # as root, no permission would make it fail
        with pytest.raises(IndexUnusable, match=r"cannot be written to: read-only file system$"):
            Store.open(folder, write=True)
    Store.open(folder, write=True).close()


def test_on_a_full_disk_the_lock_holds_without_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Store.create(folder, "a model", DIM).close()
    (folder / lock.OWNER).write_text("1\n")  # of a process that was killed
    monkeypatch.setattr(lock.WriterLock, "_write", refuse)
    with Store.open(folder, write=True), pytest.raises(IndexLocked, match=r"^another process is writing to the index"):
        Store.open(folder, write=True)
    Store.open(folder, write=True).close()


def test_a_reader_takes_no_lock(folder: Path) -> None:
    Store.create(folder, "a model", DIM).close()
    (folder / lock.LOCK).unlink(missing_ok=True)
    Store.open(folder).close()
    assert not (folder / lock.LOCK).exists()
