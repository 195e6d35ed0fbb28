"""Files decoded in processes of their own: one that crashes, stalls or swells a decoder costs that file and no more.

Each process reads a file, says its hash, and decodes it if it is told to. Messages are a length in four bytes and
JSON; pixels follow as they are. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import ImageUnusable
from clipsearch.images.preprocess import Preprocess

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels
    from clipsearch.images.metadata import Metadata

SECONDS_FOR_A_FILE = 60.0
_STEPS = 60  # that its time is counted in
_LEAST_MEMORY = 2 << 30  # bytes; a photo of 200 megapixels needs about half of it

# Not `-m`: that would look for modules in the current folder first, which may be one of photos.
_COMMAND = [
    sys.executable,
    "-P",
    "-c",
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\n"
    "from clipsearch.images.sandbox import serve; serve()",
]


class Contents(NamedTuple):
    """What was found in a file: its hash, and pixels unless they are known already; or why it cannot be used.

    `seconds` are those that the stages of reading it took.
    """

    content: bytes = b""
    pixels: Pixels | None = None
    metadata: Metadata | None = None
    error: str | None = None
    unread: bool = False  # the error is that of the disk, not of the image
    seconds: Mapping[str, float] = MappingProxyType({})


class Decoders:
    """As many decoding processes as there are threads that read at the same time."""

    def __init__(
        self,
        how: Preprocess,
        workers: int,
        *,
        seconds: float = SECONDS_FOR_A_FILE,
        memory: int | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """`seconds` and `memory` (bytes; by default a share of half the machine's) are what one file may take."""
        self._command, self._seconds = command, seconds
        memory = memory or max(_LEAST_MEMORY, _all_memory() // 2 // workers)
        self._start = {"how": asdict(how), "memory": memory}
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; what they were doing is not done. A thread that waits for one ends it."""
        self._closed = True
        idle, self._idle = self._idle, []
        for process in idle:
            process.end()
        for process in self._all - set(idle):
            process.kill()

    def read(self, path: bytes, known: Callable[[bytes], bool]) -> Contents:
        """A file's contents, decoded unless `known` says that there is no need to."""
        if self._closed:
            return Contents(error="interrupted")
        process = self._ready()
        found = None
        try:
            found = process.read(path, known, self._seconds)
        finally:
            if found is not None and process.sound and not self._closed:
                self._idle.append(process)
            else:
                self._drop(process)
        return found

    def _ready(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if not process.gone:
                return process
            self._drop(process)
        process = _Process(self._command, self._start)
        self._all.add(process)
        return process

    def _drop(self, process: _Process) -> None:
        process.end()
        self._all.discard(process)


class _Process:
    def __init__(self, command: Sequence[str], start: Mapping[str, Any]) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy would start threads that nothing uses
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.sound = True
        with contextlib.suppress(OSError):  # it is gone already: the first file will show it
            _write(self._to, start)

    def read(self, path: bytes, known: Callable[[bytes], bool], seconds: float) -> Contents:
        done, late = threading.Event(), threading.Event()

        def watch() -> None:
            for _ in range(_STEPS):  # of the time in which Ctrl-Z has stopped the program, one step counts
                if done.wait(seconds / _STEPS):
                    return
            late.set()
            self.kill()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            return self._ask(path, known)
        except (OSError, EOFError, ValueError):
            self.sound = False
            return Contents(error=f"took longer than {seconds:.0f} s" if late.is_set() else "crashed its decoder")
        finally:
            done.set()
            watcher.join()
            self.sound = self.sound and not late.is_set()

    def _ask(self, path: bytes, known: Callable[[bytes], bool]) -> Contents:
        _write(self._to, {"path": path.hex()})
        first = _read(self._from)
        if "error" in first:
            return Contents(error=first["error"], unread=True)
        content = bytes.fromhex(first["content"])
        wanted = not known(content)
        _write(self._to, {"wanted": wanted})
        if not wanted:
            return Contents(content, seconds=first["seconds"])
        second = _read(self._from)
        if "error" in second:
            return Contents(error=second["error"])
        return _received(content, second, self._from)

    @property
    def gone(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()  # it has nothing to lose

    def end(self) -> None:
        self.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()


def _received(content: bytes, message: Mapping[str, Any], file: IO[bytes]) -> Contents:
    import numpy as np

    from clipsearch.images.metadata import Metadata

    height, width = message["size"]
    pixels = np.frombuffer(_exactly(file, 3 * height * width), np.uint8).reshape(height, width, 3)
    return Contents(content, pixels, Metadata(*message["metadata"]), seconds=message["seconds"])


def serve() -> None:
    """What a decoding process does, until its stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; ours says when to end
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, OSError):
        start = _read(source)
        _limit_memory(start["memory"])
        how = Preprocess.from_json(start["how"])
        while True:
            _serve_one(bytes.fromhex(_read(source)["path"]), how, source, target)


def _serve_one(path: bytes, how: Preprocess, source: IO[bytes], target: IO[bytes]) -> None:
    from clipsearch.images.preprocess import decode_for, pixels_of
    from clipsearch.images.read import content_hash, read

    began = time.perf_counter()
    seconds = {}

    def passed(stage: str) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds[stage], began = now - began, now

    try:
        data = read(path)
        content = content_hash(data)
        passed("read")
        _write(target, {"content": content.hex(), "seconds": seconds})
        if not _read(source)["wanted"]:
            return
        began = time.perf_counter()
        decoded = decode_for(data, how)
        passed("decode")
        pixels = pixels_of(decoded, how)
        passed("resize")
    except ImageUnusable as error:  # all that a bad file can raise
        _write(target, {"error": str(error)})
        return
    _write(target, {"size": pixels.shape[:2], "metadata": decoded.metadata, "seconds": seconds}, pixels.tobytes())


def _write(file: IO[bytes], message: Mapping[str, Any], data: bytes = b"") -> None:
    text = json.dumps(message).encode()
    file.write(struct.pack("<I", len(text)) + text + data)
    file.flush()


def _read(file: IO[bytes]) -> dict[str, Any]:
    (length,) = struct.unpack("<I", _exactly(file, 4))
    message: dict[str, Any] = json.loads(_exactly(file, length))
    return message


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _limit_memory(most: int) -> None:
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):  # not everywhere can it be lowered
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _all_memory() -> int:
    """Bytes of memory that this machine has; 0 where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
