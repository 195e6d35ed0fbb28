"""Decodes files in separate processes, so that a file that crashes, stalls or bloats its decoder costs only itself.

A decoding process gets requests on stdin and answers with pixels and metadata, or with the reason why it failed. A
message is the length of its header, the header in JSON, and the bytes that the header announces. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import DecoderFailed, ImageUnusable
from clipsearch.extras import IS_STANDALONE
from clipsearch.images import DECODER
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.read import open_file, read

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.arrays import Pixels
    from clipsearch.images.compare import Sketch
    from clipsearch.images.metadata import Exposure, Metadata

SECONDS_PER_FILE = 60.0
THUMBNAIL_SIDE = 320  # pixels

_STEPS = 60  # parts in which a file's time is counted
_LEAST_MEMORY = 2 << 30  # bytes; a photo of 200 megapixels needs about half
# Not `-m`, which would first look for modules in the current folder: it may be full of photos from strangers.
_PYTHON_COMMAND = [
    sys.executable,
    "-P",
    "-c",
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\n"
    "from clipsearch.images.worker import serve; serve()",
]
_COMMAND = [sys.executable, DECODER] if IS_STANDALONE else _PYTHON_COMMAND
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # NumPy would start threads that nothing uses
    # Keep freed memory for the next picture: glibc would return it, and a photo of 2 MP would cause 900 page faults.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # its largest; larger blocks are still returned at once
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
_PIPE = 1 << 18  # bytes, where it can be set: with the usual 64 KB, 3 MB take 100 switches between the processes

Message = tuple[dict[str, Any], bytes]


class Prepared(NamedTuple):
    """A model's inputs (n, height, width, 3) uint8, the file's metadata, and the seconds that each stage took.

    The first input is the whole picture, and `hash` its perceptual hash; others are parts of a panorama. For a video,
    the inputs are frames at the `times` in seconds, and `hash` is that of the first frame. `is_partial`: the file is
    cut short or damaged.
    """

    pixels: Pixels
    metadata: Metadata
    seconds: Mapping[str, float]
    hash: int
    is_partial: bool
    times: tuple[float, ...] = ()


class VideoFrame(NamedTuple):
    """The frame of a video at a time in seconds."""

    path: bytes
    time: float


Picture = bytes | VideoFrame  # the bytes of an image file, or a frame


def picture_of(path: bytes, time: float | None) -> Picture:
    """What to decode for a photo: its file, or the frame of a video at `time`. Raises `ImageUnusable`."""
    if time is None:
        return read(path)
    open_file(path).close()  # refuses a pipe, which the decoder would wait for
    return VideoFrame(path, time)


class Decoders:
    """Decoding processes, started when needed: one per thread that decodes at the same time. Thread-safe."""

    def __init__(
        self,
        workers: int,
        settings: Preprocess | None = None,
        *,
        seconds: float = SECONDS_PER_FILE,
        memory: int | None = None,
        low_priority: bool = False,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """`settings` are those of a model, for `decode` and `decode_video`. `workers` is the most threads.

        One file may take `seconds`, and `memory` in bytes (default: a worker's share of half the machine's).
        """
        self._command, self._clock = command, _Clock(seconds)
        self._memory = memory or max(_LEAST_MEMORY, _total_memory() // 2 // workers)
        self._start = {
            "settings": settings and asdict(settings),
            "memory": self._memory,
            "low_priority": low_priority,
        }
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the processes. Threads that wait for one get `ImageUnusable`."""
        self._closed = True
        idle, self._idle = self._idle, []
        for process in idle:
            process.end()
        for process in self._all - set(idle):
            process.kill()

    def decode(self, data: bytes) -> Prepared:
        """An image file's bytes as a model's input. Raises `ImageUnusable`, as all methods do but `thumbnail`."""
        return _prepared(*self._ask("model_input", data))

    def decode_video(self, path: bytes) -> Prepared:
        """The frames of a video that `video.distinct_frames` selects, as a model's input."""
        return _prepared(*self._ask("model_input", VideoFrame(path, 0)))

    def pixels(self, picture: Picture, long_side: int) -> Pixels:
        """A picture as (height, width, 3) uint8, upright, in sRGB, at most `long_side` pixels long."""
        return _array(*self._ask("pixels", picture, long_side=long_side))

    def jpeg(self, picture: Picture, long_side: int) -> bytes:
        """A picture as a JPEG without metadata, upright, in sRGB, at most `long_side` pixels long."""
        return self._ask("jpeg", picture, long_side=long_side)[1]

    def thumbnail(self, path: bytes, time: float | None = None, long_side: int = THUMBNAIL_SIDE) -> Image | None:
        """A small picture of a photo, or of a video at `time`; None if the file cannot be read."""
        from PIL import Image

        try:
            return Image.fromarray(self.pixels(picture_of(path, time), long_side))
        except ImageUnusable:
            return None

    def exposure(self, data: bytes) -> Exposure:
        """As `decode.exposure`."""
        from clipsearch.images.metadata import Exposure

        return Exposure(*self._ask("exposure", data)[0]["exposure"])

    def sketch(self, data: bytes) -> Sketch:
        """As `compare.sketch_of`."""
        from clipsearch.images.compare import Facts, Sketch

        header, grey = self._ask("sketch", data)
        return Sketch(header["width"], header["height"], _array(header, grey), Facts(*header["facts"]))

    def copy_similarity(self, a: bytes, b: bytes) -> float | None:
        """As `compare.copy_similarity`."""
        return self._ask("compare", a + b, length=len(a))[0]["similarity"]  # type: ignore[no-any-return]

    def video_similarity(self, a: bytes, b: bytes) -> float | None:
        """As `video.copy_similarity`, for two paths."""
        header, _ = self._ask("compare", VideoFrame(a, 0), other=os.fsdecode(b))
        return header["similarity"]  # type: ignore[no-any-return]

    def _ask(self, task: str, picture: Picture, **parameters: Any) -> Message:
        data = b""
        if isinstance(picture, VideoFrame):
            parameters |= {"video": os.fsdecode(picture.path), "time": picture.time}
        else:
            data = picture
        if len(data) > self._memory // 2:
            raise DecoderFailed("too large for this machine's memory")
        if self._closed:
            raise DecoderFailed("interrupted")
        process = self._ready()
        is_reusable = False
        try:
            with self._clock.limit(process):
                header, answer = process.ask({"task": task, **parameters}, data)
            is_reusable = not self._closed
        finally:
            if is_reusable:
                self._idle.append(process)
            else:
                self._drop(process)
        if "error" in header:
            raise ImageUnusable(header["error"])
        return header, answer

    def _ready(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
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
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            pipesize=_PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):  # it has died already: the first file will show that
            send(self._to, start)

    def ask(self, request: Mapping[str, Any], data: bytes) -> Message:
        """The answer to a request. Raises `ImageUnusable` if the process dies."""
        try:
            send(self._to, request, data)
            return receive(self._from)
        except (OSError, EOFError, ValueError):
            raise DecoderFailed("crashed its decoder") from None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()  # it has nothing to lose

    def end(self) -> None:
        self.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()


class _Clock:
    """Kills processes that take too long, from one thread: a thread per file would cost 0.2 ms."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left: dict[_Process, int] = {}  # steps; below zero for a process that was killed
        self._lock = threading.Lock()
        self._is_running = False

    @contextlib.contextmanager
    def limit(self, process: _Process) -> Iterator[None]:
        """Limit the time of a block that waits for a process. Raises `ImageUnusable` if it was exceeded."""
        with self._lock:
            self._left[process] = _STEPS
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                is_late = self._left.pop(process) < 0
            if is_late:
                raise DecoderFailed(f"took longer than {self._seconds:.0f} s") from None

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds / _STEPS)  # time in which Ctrl-Z has stopped the program counts as one step
            with self._lock:
                if not self._left:
                    self._is_running = False
                    return
                for process in self._left:
                    self._left[process] -= 1
                    if self._left[process] < 0:
                        process.kill()


# ------------------------------------------------------------------------------------------ messages


def _prepared(header: Mapping[str, Any], pixels: bytes) -> Prepared:
    from clipsearch.images.metadata import Metadata

    times = tuple(header.get("times", ()))
    facts = (Metadata(*header["metadata"]), header["seconds"], header["hash"], header["is_partial"])
    return Prepared(_array(header, pixels), *facts, times)


def _array(header: Mapping[str, Any], pixels: bytes) -> Pixels:
    import numpy as np

    return np.frombuffer(pixels, np.uint8).reshape(header["size"])


def send(file: IO[bytes], header: Mapping[str, Any], data: bytes = b"") -> None:
    """Write a message. Raises `OSError` if the reader has died."""
    text = json.dumps({**header, "bytes": len(data)}).encode()
    file.write(struct.pack("<I", len(text)) + text)
    file.write(data)
    file.flush()


def receive(file: IO[bytes]) -> Message:
    """Read a message. Raises `EOFError` if the writer has died."""
    (length,) = struct.unpack("<I", _exactly(file, 4))
    header: dict[str, Any] = json.loads(_exactly(file, length))
    return header, _exactly(file, header["bytes"])


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _total_memory() -> int:
    """Bytes of memory in this machine; 0 if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
