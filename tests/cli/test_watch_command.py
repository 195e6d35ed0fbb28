"""`clipsearch watch`, run as a program."""

from __future__ import annotations

import contextlib
import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, save_scenes
from indexes import assert_as_new
from terminal import posix

from clipsearch.cli.watch import launchd_job, systemd_unit
from clipsearch.errors import BadRequest
from clipsearch.store.catalogue import Store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save_scenes(tmp_path.resolve() / "photos", 3)
    return tmp_path.resolve() / "photos"


@contextlib.contextmanager
def watching(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The program, which has said that it watches."""
    command = [sys.executable, "-m", "clipsearch", "watch", "--settle", "0.2", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            read_until(process, "watching; press Ctrl-C to stop")
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    for line in process.stderr:
        if words in line:
            return line
    pytest.fail(f"it never said {words!r}")


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@posix
def test_it_follows_what_happens_until_ctrl_c(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with watching(photos, "--model", "mini", "--index", index) as process:
        save_scenes(photos / "new", 2, first=5)
        line = read_until(process, "2 added")
        assert re.match(r"\d\d:\d\d:\d\d 2 added, .* embedded 2 images with mini", line)
        (photos / "new").rename(photos / "other")
        (photos / "00.png").unlink()
        read_until(process, "2 moved, 1 removed")
        photos.rename(tmp_path / "away")
        read_until(process, f"{photos} is missing")
        save_scenes(tmp_path / "away", 1, first=8)
        with Store.open(index, write=True):
            (tmp_path / "away").rename(photos)
            read_until(process, f"process {os.getpid()} is writing to the index at {index}; waiting")
        read_until(process, "1 added")
        assert ended(process, signal.SIGINT) == (130, "", "clipsearch: interrupted\n")
    assert_as_new(index, photos, scratch=tmp_path / "fresh")


@posix
def test_idle_it_uses_no_processor_time_and_ends_with_sigterm_as_a_service_does(
    drawn_index: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    shutil.copytree(drawn_index, index)
    with watching("--index", index) as process:
        time.sleep(1)  # what comes after a start
        before = _processor_seconds(process.pid)
        time.sleep(2)
        assert _processor_seconds(process.pid) - before < 0.2
        assert ended(process, signal.SIGTERM) == (0, "", "")


def _processor_seconds(pid: int) -> float:
    if sys.platform != "linux":
        pytest.skip("/proc is Linux's")
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["--poll=0"], "--poll must be more than 0 seconds"),
        (["--settle", "-1"], "--settle"),
        ([], "there is no index at"),
    ],
    ids=str,
)
def test_what_cannot_be_is_a_sentence(clipsearch: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = clipsearch("watch", *arguments, index=tmp_path / "index")
    assert (done.status, done.out, done.err.count("\n")) == (2, b"", 1)
    assert words in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_the_service_is_the_same_command(clipsearch: Run, photos: Path, tmp_path: Path) -> None:
    done = clipsearch("watch", photos, "--poll", "-q", "--settle", "5", "--service", index=tmp_path / "index")
    assert done.status == 0
    assert done.err.startswith("save it as ~/.config/systemd/user/clipsearch-watch.service, then run: systemctl --user")
    assert done.err.count("\n") == 1
    (command,) = re.findall(r"^ExecStart=(.*)$", done.out.decode(), re.MULTILINE)
    arguments = [argument.strip('"') for argument in command.split('" "')]
    program = [sys.executable, "-m", "clipsearch", "watch"]
    options = ["--settle=5", f"--index={tmp_path / 'index'}", "--poll=30", "--quiet"]
    assert arguments == [*program, *options, "--", str(photos)]
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "clipsearch-watch.service"
        unit.write_bytes(done.out)
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--user", "--man=no", unit], capture_output=True, text=True, check=False
        )
        assert unit.name not in checked.stderr, checked.stderr


def test_odd_names_in_a_unit() -> None:
    unit = systemd_unit(["/bin/a b", '50% "$x"', "back\\slash", "line\nbreak", os.fsdecode(b"\xff\xc3\xa9")])
    assert rb'ExecStart="/bin/a b" "50%% \"$$x\"" "back\\slash" "line\nbreak" "\xff' + b'\xc3\xa9"\n' in unit


def test_a_job_of_launchd() -> None:
    job = plistlib.loads(launchd_job(["/bin/clipsearch", "watch", "--", "a & b"], "/tmp/log"))
    assert job["ProgramArguments"] == ["/bin/clipsearch", "watch", "--", "a & b"]
    assert job["KeepAlive"] == {"SuccessfulExit": False}


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\udcff"])
def test_a_name_that_launchd_cannot_take_is_a_sentence(name: str) -> None:
    with pytest.raises(BadRequest, match="launchd cannot use names"):
        launchd_job(["/bin/clipsearch", "watch", "--", name], "/tmp/log")


@posix
@pytest.mark.slow
def test_thousands_of_files(tmp_path: Path, photos: Path) -> None:
    index = tmp_path / "index"
    save_scenes(tmp_path / "many", 40)
    with watching(photos, "--model", "mini", "--index", index) as process:
        for n in range(50):
            shutil.copytree(tmp_path / "many", photos / f"many/{n}")
        done = 0
        while done < 2_000:
            done += int(re.search(r"(\d+(,\d+)?) added", read_until(process, " added"))[1].replace(",", ""))
        (photos / "many").rename(photos / "more")
        read_until(process, "2,000 moved")
        shutil.rmtree(photos / "more")
        read_until(process, "removed")
        assert ended(process, signal.SIGTERM)[0] == 0
    assert_as_new(index, photos, scratch=tmp_path / "fresh")
