"""The bytes of a file or a stream, within limits, and the hash that contents are known by."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import select
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from io import FileIO
from typing import IO, BinaryIO

from clipsearch.errors import ImageUnusable, reason

MAX_BYTES = 2**31

# The limits of what is not a file: an address, a pipe, a device.
MOST_BYTES = 100_000_000
SECONDS = 30.0

_PART = 1 << 16
_PARTS, _SAMPLE = 16, 1 << 20  # of a video: how many, and their bytes


def read(path: bytes | str | os.PathLike[str], *, follow_links: bool = True) -> bytes:
    """The bytes of a regular file; `follow_links` as in `open_file`. Raises `ImageUnusable` when it cannot be read."""
    try:
        with open_file(path, follow_links=follow_links) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageUnusable(f"too large: {size / 1e9:.0f} GB")
            return file.read()
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except MemoryError:
        raise ImageUnusable("too large for the memory") from None


def open_file(path: bytes | str | os.PathLike[str], *, follow_links: bool = True) -> FileIO:
    """A regular file, open. Raises `ImageUnusable`.

    A pipe or a device is refused and never waited for, even if it took the file's place a moment ago. Without
    `follow_links`, so is a path of which any part is a link.
    """
    try:
        file = FileIO(os.fspath(path), opener=open_at_once if follow_links else _open_without_links)
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except ValueError:  # a NUL in the name
        raise ImageUnusable("no such file or directory") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImageUnusable("not a regular file")
    return file


def path_of(file: FileIO) -> bytes:
    """A path that leads to a file while it is open, in this and in other processes, whatever takes the file's place.

    Only Linux has one; elsewhere it is the path that the file was opened by.
    """
    path = b"/proc/%d/fd/%d" % (os.getpid(), file.fileno())
    return path if os.path.exists(path) else os.fsencode(file.name)


def open_regular(path: bytes) -> BinaryIO:
    """Open a regular file to read. Raises `OSError`, also for a pipe or a device, which is never waited for."""
    file = open(path, "rb", opener=open_at_once)  # noqa: SIM115  # the caller's to close
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


def read_head(path: bytes, length: int) -> bytes:
    """The first `length` bytes of a file, and nothing of a pipe or a device. Raises `OSError`."""
    with open(path, "rb", buffering=0, opener=open_at_once) as file:
        return file.read(length) or b"" if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def read_stream(file: IO[bytes], most: int = MOST_BYTES, seconds: float = SECONDS) -> bytes:
    """All that comes from a pipe, a device or stdin, at most `most` bytes in `seconds`. Raises `ImageUnusable`."""
    return collect(_parts(file, time.monotonic() + seconds), most, seconds)


def collect(parts: Iterable[bytes], most: int, seconds: float) -> bytes:
    """The parts as one. Raises `ImageUnusable` when they are more than `most` bytes or take longer than `seconds`."""
    ends = time.monotonic() + seconds
    data = bytearray()
    try:
        for part in parts:
            data += part
            if len(data) > most:
                raise ImageUnusable(f"larger than {most / 1e6:.0f} MB")
            if time.monotonic() > ends:
                raise TimeoutError
        return bytes(data)
    except TimeoutError:
        raise ImageUnusable(f"took longer than {seconds:.0f} s") from None
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except MemoryError:
        raise ImageUnusable("too large for the memory") from None


def content_hash(data: bytes) -> bytes:
    """What contents are known by: half of their SHA-256."""
    return content_of(hashlib.sha256(data).digest())


def content_of(sha256: bytes) -> bytes:
    """The content hash of a file whose SHA-256 is known."""
    return sha256[:16]


def video_hash(path: bytes) -> bytes:
    """What a video is known by: half of the SHA-256 of its size and of parts of it, for gigabytes take long to read.

    Raises `ImageUnusable`.
    """
    try:
        with open(path, "rb", opener=open_at_once) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(struct.pack("<q", size))
            for part in range(_PARTS):
                file.seek(max(0, size - _SAMPLE) * part // (_PARTS - 1))
                digest.update(file.read(_SAMPLE))
            return digest.digest()[:16]
    except OSError as error:
        raise ImageUnusable(reason(error)) from None


def frame_hash(video: bytes, seconds: float) -> bytes:
    """What a frame of a video is known by, by the video's hash and its time."""
    return hashlib.sha256(video + struct.pack("<d", seconds)).digest()[:16]


def open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to is opened too, where waiting for a writer might last for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open_without_links(path: str | bytes, flags: int) -> int:
    path = os.fsencode(path)
    if os.name == "nt":
        if os.path.realpath(path) != os.path.abspath(path):
            raise OSError(errno.ELOOP, "a link leads to it")
        return os.open(path, flags)
    *folders, name = [part for part in path.split(b"/") if part]
    to_pass = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW
    folder = os.open("/", to_pass)
    try:
        for part in folders:
            below = os.open(part, to_pass, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(errno.ELOOP, "a link leads to it") from None
        raise
    finally:
        os.close(folder)


def _parts(file: IO[bytes], ends: float) -> Iterator[bytes]:
    read_part = file.read1 if isinstance(file, io.BufferedReader) else file.read
    while True:
        if os.name != "nt" and isinstance(file, io.BufferedReader | io.FileIO):  # Windows can wait for sockets only
            ready, _, _ = select.select([file], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise TimeoutError
        part = read_part(_PART)
        if not part:
            return
        yield part
