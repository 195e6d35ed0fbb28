"""Reading files, pipes and devices never blocks and never reads without a limit."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.errors import ImageUnusable
from clipsearch.images.read import read, read_head, read_stream

posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices have other names")


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1000)
    assert read(tmp_path / "a") == bytes(range(256)) * 1000
    assert read_head(os.fsencode(tmp_path / "a"), 16) == bytes(range(16))


@posix
@pytest.mark.parametrize("place", ["pipe", "/dev/zero", "/dev/null"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageUnusable, match=r"^not a regular file$"):
        read(tmp_path / place)  # an absolute path stays what it is
    assert read_head(os.fsencode(tmp_path / place), 16) == b""


@pytest.mark.parametrize(("name", "reason"), [("none", "no such file"), (".", "is a directory"), ("a\0b", "no such")])
def test_what_cannot_be_opened_has_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ImageUnusable, match=f"^{reason}"):
        read(tmp_path / name)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ImageUnusable, match=r"^too large: 3 GB$"):
        read(tmp_path / "huge")


@pytest.mark.parametrize("count", [0, 1, 200_000])
def test_a_pipe_is_read_to_its_end(count: int) -> None:
    code = f"import sys; sys.stdout.buffer.write(b'x' * {count})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert read_stream(process.stdout) == b"x" * count
    assert read_stream(io.BytesIO(b"x" * count)) == b"x" * count


@posix
def test_a_stream_without_an_end_is_refused() -> None:
    with open("/dev/zero", "rb") as file, pytest.raises(ImageUnusable, match=r"^larger than 1 MB$"):
        read_stream(file, max_bytes=1_000_000)


@posix
def test_a_pipe_that_says_nothing_is_not_waited_for_long() -> None:
    source, target = os.pipe()
    os.write(target, b"some")
    with open(source, "rb") as file, pytest.raises(ImageUnusable, match=r"^took longer than 1 s$"):
        read_stream(file, seconds=1)
    os.close(target)


def test_a_full_memory_is_a_reason() -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise MemoryError

    with pytest.raises(ImageUnusable, match=r"^too large for this machine's memory$"):
        read_stream(Full(b"x"))
