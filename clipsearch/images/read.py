"""Reads files and streams within limits, and computes the hashes that identify contents."""

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
from typing import IO, BinaryIO

from clipsearch.errors import ImageUnusable, reason

_MAX_FILE = 2**31  # bytes

# Limits for everything but files: URLs, pipes, devices, uploads.
STREAM_BYTES = 100_000_000
STREAM_SECONDS = 30.0

_CHUNK = 1 << 16
_SAMPLES, _SAMPLE = 16, 1 << 20  # of a video: how many, and their bytes


# ------------------------------------------------------------------------------------------ files


def read(path: bytes | str | os.PathLike[str], *, follow_links: bool = True) -> bytes:
    """The bytes of a regular file; `follow_links` as in `open_regular`. Raises `ImageUnusable`."""
    try:
        with open_file(path, follow_links=follow_links) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE:
                raise ImageUnusable(f"too large: {size / 1e9:.0f} GB")
            return file.read()
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except MemoryError:
        raise ImageUnusable("too large for this machine's memory") from None


def open_file(path: bytes | str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """As `open_regular`, but raises `ImageUnusable`."""
    try:
        return open_regular(path, follow_links=follow_links)
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except ValueError:  # a NUL in the name
        raise ImageUnusable("no such file or directory") from None


def open_regular(path: bytes | str | os.PathLike[str], *, follow_links: bool = True) -> BinaryIO:
    """Open a regular file for reading. Raises `OSError`.

    Refuses pipes and devices without waiting for them, even if one has just replaced the file. Without `follow_links`,
    also refuses paths with a link in any part.
    """
    file = open(path, "rb", opener=nonblocking_opener if follow_links else _open_without_links)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


def path_of(file: BinaryIO) -> bytes:
    """A path that opens this very file, in any process while it is open here, even if another has taken its name.

    Only on Linux; elsewhere it is the path that the file was opened with.
    """
    path = b"/proc/%d/fd/%d" % (os.getpid(), file.fileno())
    return path if os.path.exists(path) else os.fsencode(file.name)


def read_head(path: bytes, length: int) -> bytes:
    """The first `length` bytes of a regular file; empty for pipes and devices. Raises `OSError`."""
    with open(path, "rb", buffering=0, opener=nonblocking_opener) as file:
        return file.read(length) or b"" if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def nonblocking_opener(path: str, flags: int) -> int:
    """An `opener` for `open` that does not wait for a pipe's writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open_without_links(path: str | bytes, flags: int) -> int:
    path = os.fsencode(path)
    if os.name == "nt":
        if os.path.realpath(path) != os.path.abspath(path):
            raise OSError(errno.ELOOP, "its path goes through a symbolic link")
        return os.open(path, flags)
    *folders, name = [part for part in path.split(b"/") if part]
    folder_flags = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW
    folder = os.open("/", folder_flags)
    try:
        for part in folders:
            below = os.open(part, folder_flags, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(errno.ELOOP, "its path goes through a symbolic link") from None
        raise
    finally:
        os.close(folder)


# ------------------------------------------------------------------------------------------ streams


def read_stream(file: IO[bytes], max_bytes: int = STREAM_BYTES, seconds: float = STREAM_SECONDS) -> bytes:
    """Read a pipe, a device or stdin to its end. Raises `ImageUnusable` beyond the limits."""
    return join_chunks(_chunks(file, time.monotonic() + seconds), max_bytes, seconds)


def join_chunks(chunks: Iterable[bytes], max_bytes: int, seconds: float) -> bytes:
    """Concatenate chunks as they arrive. Raises `ImageUnusable` beyond the limits."""
    deadline = time.monotonic() + seconds
    data = bytearray()
    try:
        for chunk in chunks:
            data += chunk
            if len(data) > max_bytes:
                raise ImageUnusable(f"larger than {max_bytes / 1e6:.0f} MB")
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(data)
    except TimeoutError:
        raise ImageUnusable(f"took longer than {seconds:.0f} s") from None
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except MemoryError:
        raise ImageUnusable("too large for this machine's memory") from None


def _chunks(file: IO[bytes], deadline: float) -> Iterator[bytes]:
    read_some = file.read1 if isinstance(file, io.BufferedReader) else file.read
    while True:
        if os.name != "nt" and isinstance(file, io.BufferedReader | io.FileIO):  # Windows can only wait for sockets
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
        chunk = read_some(_CHUNK)
        if not chunk:
            return
        yield chunk


# ------------------------------------------------------------------------------------------ hashes


def content_hash(data: bytes) -> bytes:
    """Half of the SHA-256, which identifies contents."""
    return content_hash_from(hashlib.sha256(data).digest())


def content_hash_from(sha256: bytes) -> bytes:
    """The content hash of a file with a known SHA-256."""
    return sha256[:16]


def file_hash(path: bytes) -> bytes:
    """The SHA-256 of a whole file. Raises `OSError`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_SAMPLE):
            digest.update(chunk)
    return digest.digest()


def video_hash(path: bytes) -> bytes:
    """Hash the size and 16 samples of a video, since reading gigabytes takes long. Raises `ImageUnusable`."""
    try:
        with open(path, "rb", opener=nonblocking_opener) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(struct.pack("<q", size))
            for number in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE) * number // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
            return content_hash_from(digest.digest())
    except OSError as error:
        raise ImageUnusable(reason(error)) from None


def frame_hash(file: bytes, place: float) -> bytes:
    """The content hash of a video's frame, from the video's hash and the time; of a photo's part, from its number."""
    return content_hash_from(hashlib.sha256(file + struct.pack("<d", place)).digest())
