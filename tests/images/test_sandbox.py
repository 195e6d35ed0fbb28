"""Decoder processes may crash, hang or use too much memory."""

from __future__ import annotations

import io
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES
from PIL import Image

from clipsearch.errors import ImageUnusable
from clipsearch.images import sandbox as decoder
from clipsearch.images.decode import decode
from clipsearch.images.preprocess import Preprocess, decode_for, model_input
from clipsearch.images.sandbox import Decoders

pytestmark = pytest.mark.usefixtures("decoding_processes")

HOW = Preprocess(size=(64, 96), interpolation="bilinear", mean=(0.5, 0.5, 0.5))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Camera", 6
    SCENES[0].image.resize((300, 200)).save(path, exif=exif)
    return path


def pretend(tmp_path: Path, code: str) -> list[str]:
    """The command of a decoding process that does something else with bytes that begin with "bad"."""
    script = tmp_path / "decoder.py"
    script.write_text(
        "import os, time, clipsearch.images.preprocess as preprocess\n"
        "real = preprocess.decode_for\n"
        "def decode_for(data, how):\n"
        f"    if data.startswith(b'bad'): {code}\n"
        "    return real(data.removeprefix(b'bad'), how)\n"
        "preprocess.decode_for = decode_for\n"
        "clipsearch.images.worker.serve()\n"
    )
    return [sys.executable, "-c", f"import clipsearch.images.worker; exec(open({str(script)!r}).read())"]


def test_a_file_is_decoded_as_it_would_be_here(photo: Path) -> None:
    with Decoders(1, HOW) as decoders:
        found = decoders.decode(photo.read_bytes())
    here = decode_for(photo.read_bytes(), HOW)
    np.testing.assert_array_equal(found.pixels, model_input(here, HOW)[None])
    assert found.metadata == here.metadata
    assert found.metadata.camera == "Camera"
    assert found.seconds.keys() == {"decode", "resize"}


def test_a_file_that_is_no_image_has_a_reason(tmp_path: Path, photo: Path) -> None:
    with Decoders(1, HOW) as decoders:
        for data in (b"this is not a picture", b"", photo.read_bytes()[:900]):
            with pytest.raises(ImageUnusable, match=r"\w"):
                decoders.decode(data)
        assert decoders.decode(photo.read_bytes()).metadata.width == 200
        assert len(decoders._all) == 1


def test_a_decoder_knows_no_index(photo: Path) -> None:
    code = (
        "import sys, clipsearch.images.worker as worker\n"
        "from clipsearch.images.preprocess import Preprocess\n"
        f"data = open({str(photo)!r}, 'rb').read()\n"
        "header, pixels = worker.answer({'task': 'model_input'}, data, Preprocess((64, 64)))\n"
        "assert header['size'] == (1, 64, 64, 3) and len(pixels) == 3 * 64 * 64\n"
        "print('clipsearch.store' in sys.modules, 'sqlite3' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == ["False", "False"]


def test_a_crash_costs_one_file(tmp_path: Path, photo: Path) -> None:
    with Decoders(1, HOW, command=pretend(tmp_path, "os.abort()")) as decoders:
        with pytest.raises(ImageUnusable, match=r"^crashed its decoder$"):
            decoders.decode(b"bad")
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"


def test_a_stall_costs_one_file_and_its_time(tmp_path: Path, photo: Path) -> None:
    with Decoders(1, HOW, seconds=3, command=pretend(tmp_path, "time.sleep(60)")) as decoders:
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"
        with pytest.raises(ImageUnusable, match=r"^took longer than 3 s$"):
            decoders.decode(b"bad")
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"


@pytest.mark.skipif(os.name == "nt", reason="no job control")
def test_time_in_which_the_program_is_stopped_does_not_count(tmp_path: Path, photo: Path) -> None:
    """Ctrl-Z stops the decoder too, and later both go on."""
    (tmp_path / "bad").write_bytes(b"bad" + photo.read_bytes())
    slow = pretend(tmp_path, f"open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(0.5)")
    program = (
        "import os, sys\n"
        "from clipsearch.images.sandbox import Decoders\n"
        "from clipsearch.images.preprocess import Preprocess\n"
        f"how = Preprocess(size=(64, 96), interpolation='bilinear', mean=(0.5, 0.5, 0.5))\n"
        f"with Decoders(1, how, seconds=4, command={slow!r}) as decoders:\n"
        f"    print(decoders.decode(open({str(tmp_path / 'bad')!r}, 'rb').read()).metadata.camera)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, process_group=0, cwd=Path(__file__).parent
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4.5)
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=60)[0].strip() == "Camera"


def test_one_thread_limits_the_time_of_all_files_and_ends_when_there_are_none(photo: Path) -> None:
    started: list[threading.Thread] = []
    before = set(threading.enumerate())
    with Decoders(1, HOW, seconds=60) as decoders:
        for _ in range(5):
            decoders.decode(photo.read_bytes())
            started += set(threading.enumerate()) - before - set(started)
    assert len(started) == 1
    with Decoders(1, HOW, seconds=3) as decoders:
        decoders.decode(photo.read_bytes())
        [clock] = set(threading.enumerate()) - before - set(started)
        clock.join(timeout=30)
        assert not clock.is_alive()
        decoders.decode(photo.read_bytes())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_process_keeps_its_memory_for_the_next_file() -> None:
    out = io.BytesIO()
    SCENES[0].image.resize((800, 600)).save(out, "JPEG")
    with Decoders(1, Preprocess(size=(224, 224))) as decoders:
        for _ in range(3):
            decoders.decode(out.getvalue())
        [process] = decoders._all
        before = page_faults(process._process.pid)
        for _ in range(10):
            decoders.decode(out.getvalue())
        assert page_faults(process._process.pid) - before < 1000  # not 900 for each


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited in another way, or not at all")
def test_a_file_has_only_so_much_memory(tmp_path: Path, photo: Path) -> None:
    Image.new("1", (16_000, 16_000)).save(tmp_path / "large.png")  # in a few kilobytes, 768 MB of RGB
    with Decoders(1, HOW, memory=600_000_000) as decoders:
        with pytest.raises(ImageUnusable, match=r"^too large for this machine's memory$"):
            decoders.decode((tmp_path / "large.png").read_bytes())
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"


def test_a_process_that_cannot_start_is_a_reason_too(photo: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit"]
    with Decoders(1, HOW, command=command) as decoders, pytest.raises(ImageUnusable, match=r"^crashed its decoder$"):
        decoders.decode(photo.read_bytes())


def test_there_are_as_many_processes_as_threads_that_read_and_none_afterwards(photo: Path) -> None:
    with Decoders(3, HOW) as decoders, ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: decoders.decode(photo.read_bytes()), range(40)))
        assert all(one.metadata.camera == "Camera" for one in found)
        processes = set(decoders._all)
        assert 1 <= len(processes) <= 3
    assert all(process._process.returncode is not None for process in processes)


def test_an_end_does_not_wait_for_a_stalled_file(tmp_path: Path) -> None:
    found: list[str] = []

    def decode_bad() -> None:
        with pytest.raises(ImageUnusable) as caught:
            decoders.decode(b"bad")
        found.append(str(caught.value))

    with Decoders(1, HOW, seconds=50, command=pretend(tmp_path, "time.sleep(60)")) as decoders:
        thread = threading.Thread(target=decode_bad)
        thread.start()
        while not decoders._all:
            time.sleep(0.01)
        [process] = decoders._all
    thread.join()
    assert found == ["crashed its decoder"]  # and did not take longer than 50 s
    with pytest.raises(ImageUnusable, match=r"^interrupted$"):
        decoders.decode(b"another")
    assert process._process.returncode is not None


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    process = subprocess.Popen(decoder._COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


def test_modules_in_the_current_folder_are_not_run(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one of photos that somebody sent."""
    for name in ("json", "PIL", "struct", "clipsearch", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with Decoders(1, HOW) as decoders:
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"
    assert not (tmp_path / "was run").exists()
    assert decode(photo.read_bytes()).metadata.camera == "Camera"


def test_the_standalone_program_is_its_own_decoder(photo: Path) -> None:
    """In it, `sys.executable` is not Python."""
    code = "import sys; sys.frozen, sys.executable = True, 'program'; from clipsearch.images import sandbox as s"
    code += "; from clipsearch.cli import watch; print(watch._program(), *s._COMMAND)"
    command = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert command[:2] == ["['program']", "program"]
    with Decoders(1, HOW, command=[sys.executable, "-m", "clipsearch", *command[2:]]) as decoders:
        assert decoders.decode(photo.read_bytes()).metadata.camera == "Camera"
