"""Files decoded in processes of their own: one that crashes, stalls or swells a decoder costs that file and no more.

A decoding process gets the bytes of a file and answers with pixels and metadata, or with the reason why there are none.
A message is the length of its header, the header in JSON, and the bytes that the header announces. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.read import read

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.arrays import Pixels
    from clipsearch.images.compare import Sketch
    from clipsearch.images.metadata import Metadata

SECONDS_FOR_A_FILE = 60.0
_STEPS = 60  # in which the time of a file is counted
_LEAST_MEMORY = 2 << 30  # bytes; a photo of 200 megapixels needs about half of it

# Not `-m`: that would look for modules in the current folder first, which may be one of photos.
_COMMAND = [
    sys.executable,
    "-P",
    "-c",
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\n"
    "from clipsearch.images.sandbox import serve; serve()",
]


class Prepared(NamedTuple):
    """A model's input (height, width, 3) uint8, what the photo says of itself, and the seconds that each stage took.

    `hash` is the perceptual hash of the whole picture (`compare.perceptual_hash`), or of a video's first frame. Of a
    video, `pixels` are frames (n, height, width, 3), and `times` the seconds from its start at which they come.
    """

    pixels: Pixels
    metadata: Metadata
    seconds: Mapping[str, float]
    hash: int
    times: tuple[float, ...] = ()


class Decoders:
    """As many decoding processes as there are threads that decode at the same time."""

    def __init__(
        self,
        how: Preprocess,
        workers: int,
        *,
        seconds: float = SECONDS_FOR_A_FILE,
        memory: int | None = None,
        gives_way: bool = False,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """`seconds` and `memory` (bytes; by default a share of half the machine's) are what one file may take.

        `gives_way`: whether whatever else this machine has to do comes first.
        """
        self._command, self._seconds = command, seconds
        self._memory = memory or max(_LEAST_MEMORY, _all_memory() // 2 // workers)
        self._start = {"how": asdict(how), "memory": self._memory, "gives_way": gives_way}
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes and drop what they were doing. A thread that waits for one gets its error and ends it."""
        self._closed = True
        idle, self._idle = self._idle, []
        for process in idle:
            process.end()
        for process in self._all - set(idle):
            process.kill()

    def decode(self, data: bytes) -> Prepared:
        """An image file's bytes as a model's input; may be called in many threads. Raises `ImageUnusable`."""
        return _prepared(*self._ask(data, {}))

    def video(self, path: bytes) -> Prepared:
        """The frames of a video that `video.frames_of` chooses. Raises `ImageUnusable`."""
        return _prepared(*self._ask(b"", {"video": os.fsdecode(path)}))

    def frame(self, path: bytes, seconds: float, long_side: int) -> bytes:
        """The frame of a video at a time as an upright JPEG, at most so long. Raises `ImageUnusable`."""
        return self._ask(b"", {"video": os.fsdecode(path), "at": seconds, "long_side": long_side})[1]

    def small_jpeg(self, data: bytes, long_side: int) -> bytes:
        """An image file's bytes as a JPEG, upright, at most `long_side` pixels long. Raises `ImageUnusable`."""
        return self._ask(data, {"long_side": long_side})[1]

    def picture(self, data: bytes, long_side: int) -> Pixels:
        """An image file's bytes as pixels (height, width, 3) uint8, upright, at most `long_side` long.

        Raises `ImageUnusable`.
        """
        header, pixels = self._ask(data, {"long_side": long_side, "raw": True})
        return _array(header, pixels)

    def sketch(self, data: bytes) -> Sketch:
        """An image file's bytes as a `compare.Sketch`. Raises `ImageUnusable`."""
        from clipsearch.images.compare import Facts, Sketch

        header, grey = self._ask(data, {"sketch": True})
        return Sketch(header["width"], header["height"], _array(header, grey), Facts(*header["facts"]))

    def copy_similarity(self, a: bytes, b: bytes) -> float | None:
        """As `compare.copy_similarity`. Raises `ImageUnusable`."""
        header, _ = self._ask(a + b, {"compare": len(a)})
        return header["similarity"]  # type: ignore[no-any-return]

    def video_similarity(self, a: bytes, b: bytes) -> float | None:
        """As `video.copy_similarity`, for two paths. Raises `ImageUnusable`."""
        header, _ = self._ask(b"", {"video": os.fsdecode(a), "compare": os.fsdecode(b)})
        return header["similarity"]  # type: ignore[no-any-return]

    def thumbnail(self, path: bytes, long_side: int, time: float | None = None) -> Image | None:
        """A photo, or a video at a time, upright, in sRGB, at most `long_side` long; None when it cannot be read."""
        if not os.path.isfile(path):  # opening a pipe that has taken its place would wait for ever
            return None
        from PIL import Image

        try:
            if time is not None:
                return Image.open(io.BytesIO(self.frame(path, time, long_side)), formats=["JPEG"])
            return Image.fromarray(self.picture(read(path), long_side))
        except ImageUnusable:
            return None

    def _ask(self, data: bytes, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        if len(data) > self._memory // 2:
            raise ImageUnusable("too large for the memory")
        header, answer = self._answer(data, wanted)
        if "error" in header:
            raise ImageUnusable(header["error"])
        return header, answer

    def _answer(self, data: bytes, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        if self._closed:
            raise ImageUnusable("interrupted")
        process = self._ready()
        answered = False
        try:
            answer = process.ask(data, wanted, self._seconds)
            answered = True
            return answer
        finally:
            if answered and not self._closed:
                self._idle.append(process)
            else:
                self._drop(process)

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
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy would start threads that nothing uses
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):  # it is gone already: the first file will show it
            _send(self._to, start)

    def ask(self, data: bytes, wanted: Mapping[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a file's bytes. Raises `ImageUnusable` when the process is lost over them."""
        done, late = threading.Event(), threading.Event()
        watcher = threading.Thread(target=self._watch, args=(seconds, done, late))
        watcher.start()
        answer = None
        try:
            _send(self._to, wanted, data)
            answer = _receive(self._from)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            done.set()
            watcher.join()
        if late.is_set():
            raise ImageUnusable(f"took longer than {seconds:.0f} s")
        if answer is None:
            raise ImageUnusable("crashed its decoder")
        return answer

    def _watch(self, seconds: float, done: threading.Event, late: threading.Event) -> None:
        for _ in range(_STEPS):  # of the time in which Ctrl-Z has stopped the program, one step counts
            if done.wait(seconds / _STEPS):
                return
        late.set()
        self.kill()

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


# ------------------------------------------------------------------------------------------ in the decoding process


def serve() -> None:
    """Decode what comes on stdin until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; ours says when to end
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, OSError):
        start, _ = _receive(source)
        _limit_memory(start["memory"])
        if start["gives_way"] and hasattr(os, "nice"):
            os.nice(10)
        how = Preprocess.from_json(start["how"])
        while True:
            wanted, data = _receive(source)
            _send(target, *_answer(data, how, wanted))


def _answer(data: bytes, how: Preprocess, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        if "compare" in wanted:
            return _compared(data, wanted), b""
        if "sketch" in wanted:
            return _sketch(data)
        if "video" in wanted:
            return _frame(wanted) if "at" in wanted else _frames(wanted["video"], how)
        return _picture(data, wanted) if "long_side" in wanted else _input(data, how)
    except ImageUnusable as error:  # all that a bad file can raise
        return {"error": str(error)}, b""


def _input(data: bytes, how: Preprocess) -> tuple[dict[str, Any], bytes]:
    """The model's input."""
    from clipsearch.images.compare import perceptual_hash
    from clipsearch.images.preprocess import decode_for, pixels_of

    began = time.perf_counter()
    decoded = decode_for(data, how)
    between = time.perf_counter()
    pixels = pixels_of(decoded, how)
    about = {"metadata": decoded.metadata, "hash": perceptual_hash(decoded.image)}
    seconds = {"decode": between - began, "resize": time.perf_counter() - between}
    return {"size": pixels.shape, **about, "seconds": seconds}, pixels.tobytes()


def _sketch(data: bytes) -> tuple[dict[str, Any], bytes]:
    from clipsearch.images.compare import sketch_of

    sketch = sketch_of(data)
    header = {"width": sketch.width, "height": sketch.height, "facts": sketch.facts, "size": sketch.grey.shape}
    return header, sketch.grey.tobytes()


def _compared(data: bytes, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Two image files, one after the other in `data`, or two videos by their paths."""
    if "video" in wanted:
        from clipsearch.images import video

        return {"similarity": video.copy_similarity(wanted["video"], wanted["compare"])}
    from clipsearch.images.compare import copy_similarity

    length = wanted["compare"]
    return {"similarity": copy_similarity(data[:length], data[length:])}


def _picture(data: bytes, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A small JPEG or, `raw`, its pixels."""
    from clipsearch.images.thumbnail import as_jpeg, thumbnail_of

    small = thumbnail_of(data, wanted["long_side"])
    return ({"size": (*small.size[::-1], 3)}, small.tobytes()) if "raw" in wanted else ({}, as_jpeg(small))


def _frames(path: str, how: Preprocess) -> tuple[dict[str, Any], bytes]:
    """The model's input for the frames of a video."""
    from clipsearch.images.video import frames_of

    began = time.perf_counter()
    video = frames_of(path, how)
    seconds = {"decode": time.perf_counter() - began}
    about = {"times": video.times, "metadata": video.metadata, "hash": video.hash, "seconds": seconds}
    return {"size": video.pixels.shape, **about}, video.pixels.tobytes()


def _frame(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A frame of a video as a small JPEG."""
    from clipsearch.images.thumbnail import as_jpeg
    from clipsearch.images.video import frame_at

    return {}, as_jpeg(frame_at(wanted["video"], wanted["at"], wanted["long_side"]))


def _limit_memory(most: int) -> None:
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):  # not every system lets it be lowered
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


# ------------------------------------------------------------------------------------------ messages


def _prepared(header: Mapping[str, Any], pixels: bytes) -> Prepared:
    from clipsearch.images.metadata import Metadata

    times = tuple(header.get("times", ()))
    return Prepared(_array(header, pixels), Metadata(*header["metadata"]), header["seconds"], header["hash"], times)


def _array(header: Mapping[str, Any], pixels: bytes) -> Pixels:
    import numpy as np

    return np.frombuffer(pixels, np.uint8).reshape(header["size"])


def _send(file: IO[bytes], header: Mapping[str, Any], data: bytes = b"") -> None:
    text = json.dumps({**header, "bytes": len(data)}).encode()
    file.write(struct.pack("<I", len(text)) + text)
    file.write(data)
    file.flush()


def _receive(file: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<I", _exactly(file, 4))
    header: dict[str, Any] = json.loads(_exactly(file, length))
    return header, _exactly(file, header["bytes"])


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _all_memory() -> int:
    """Bytes of memory that this machine has; 0 where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
