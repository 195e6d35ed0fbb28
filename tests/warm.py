"""Runs the program without starting Python: a server process that has imported it forks for each run.

Each run still has its own process, streams, environment, working directory and exit status, but takes 0.02 s of CPU
time instead of 0.15 s. Its decoding processes are forked too, and mini is loaded before all of them: a run that indexes
a few photos takes 0.1 s instead of 0.75 s. As a script, `warm.py SOCKET` is the server and `warm.py SOCKET ARGUMENT...`
asks it for a run.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.arrays import Array, Pixels
    from clipsearch.models.encoders import Engine, NumpyEncoder
    from clipsearch.models.model import Model

_MAX_REQUEST = 1 << 20  # bytes


def run(
    address: str, arguments: Sequence[str], environment: dict[str, str], stdin: bytes | int, stdout: int, stderr: int
) -> int:
    """Run the program in the current folder; returns its exit status. `stdin` is a descriptor, or bytes for a pipe."""
    if isinstance(stdin, int):
        return Process(address, arguments, environment, (stdin, stdout, stderr)).wait()
    source, pipe = os.pipe()
    process = Process(address, arguments, environment, (source, stdout, stderr))
    os.close(source)
    with contextlib.suppress(BrokenPipeError), open(pipe, "wb") as file:
        file.write(stdin)
    return process.wait()


class Process:
    """A run of the program in the current folder, or without `arguments` a decoding process, like a `Popen`."""

    def __init__(
        self, address: str, arguments: Sequence[str] | None, environment: dict[str, str], streams: Sequence[int]
    ) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.connect(address)
        request = {"arguments": arguments, "environment": environment, "folder": os.getcwd()}
        socket.send_fds(self._server, [json.dumps(request).encode()], streams)
        self.pid = int(self._server.recv(64))
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with contextlib.suppress(BlockingIOError):
            self._receive(socket.MSG_DONTWAIT)
        return self._status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> int:
        self._server.settimeout(timeout)
        return self._receive()

    def _receive(self, flags: int = 0) -> int:
        if self._status is None:
            self._status = int(self._server.recv(64, flags))
            self._server.close()
        return self._status


def serve(address: str) -> None:
    """Import the program, say so on stdout, and fork for each request until stdin ends."""
    import gc
    import importlib
    import pkgutil
    import selectors

    import clipsearch

    for module in pkgutil.walk_packages(clipsearch.__path__, "clipsearch."):
        importlib.import_module(module.name)
    _load(os.path.dirname(address))
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    running: dict[int, socket.socket] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listening:
                asking, _ = listening.accept()
                request, streams, *_ = socket.recv_fds(asking, _MAX_REQUEST, 3)
                child = os.fork()
                if not child:
                    _run_here(json.loads(request), streams, address)
                for stream in streams:
                    os.close(stream)
                with contextlib.suppress(OSError):  # it may have stopped waiting, here and below
                    asking.send(str(child).encode())
                running[child] = asking
                waiting.register(os.pidfd_open(child), selectors.EVENT_READ, child)
            elif key.fileobj is sys.stdin:
                for child in running:
                    os.kill(child, signal.SIGKILL)
                return
            else:
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                _, status = os.waitpid(key.data, 0)
                with running.pop(key.data) as asking, contextlib.suppress(OSError):
                    asking.send(str(os.waitstatus_to_exitcode(status)).encode())


def _load(folder: str) -> None:
    """Load what most runs need, but nothing that starts threads: only the forking one goes on in a child."""
    import io

    import faiss  # noqa: F401
    from PIL import Image

    from clipsearch.images import worker
    from clipsearch.models.model import mini

    keep_mini(folder)(mini(), texts=True, images=True)
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "JPEG")
    worker.answer({"task": "model_input"}, picture.getvalue(), mini().preprocess)


Embed = Callable[["Pixels"], "Array"]


def keep_mini(folder: str) -> Callable[..., NumpyEncoder | None]:
    """Load mini once for all index runs of this process and its children, and keep what it embeds in a folder.

    Hundreds of indexes are of the same drawn scenes, which take 0.01 to 0.05 s of CPU time each.
    """
    from clipsearch.indexing import run
    from clipsearch.models import engines, graph_encoders
    from clipsearch.models.encoders import numpy_encoder
    from clipsearch.models.graph_encoders import FP32
    from clipsearch.models.model import mini

    start = graph_encoders._onnx_runtime
    loaded: list[NumpyEncoder] = []
    started: list[Embed] = []

    def kept_numpy(model: Model, *, texts: bool, images: bool) -> NumpyEncoder | None:
        if model.fingerprint != mini().fingerprint:
            return numpy_encoder(model, texts=texts, images=images)
        if not loaded:
            encoder = numpy_encoder(model, texts=True, images=True)
            assert encoder is not None
            vars(encoder)["encode_images"] = _remembering(encoder.encode_images, os.path.join(folder, "numpy"))
            loaded.append(encoder)
        return loaded[0]

    def kept_onnx(encoder: NumpyEncoder, engine: Engine) -> Embed:
        if encoder.model.fingerprint != mini().fingerprint or engine != FP32:
            return start(encoder, engine)

        def embed(pixels: Pixels) -> Array:
            if not started:
                started.append(start(encoder, engine))
            return started[0](pixels)

        return _remembering(embed, os.path.join(folder, "onnx"))

    vars(run)["numpy_encoder"] = vars(engines)["numpy_encoder"] = kept_numpy
    vars(graph_encoders)["_onnx_runtime"] = kept_onnx
    return kept_numpy


def _remembering(embed: Embed, folder: str) -> Embed:
    import hashlib

    import numpy as np

    rows: dict[str, Array] = {}
    os.makedirs(folder, exist_ok=True)

    def row_of(image: Pixels) -> Array:
        name = hashlib.sha256(image.tobytes()).hexdigest()
        if name not in rows:
            path = os.path.join(folder, name)
            try:
                rows[name] = np.load(path)
            except FileNotFoundError:
                rows[name] = embed(image[None])[0]
                with open(f"{path}-{threading.get_native_id()}", "wb") as file:
                    np.save(file, rows[name])
                os.replace(file.name, path)
        return rows[name]

    return lambda pixels: np.stack([row_of(image) for image in pixels])


def _run_here(request: dict[str, Any], streams: Sequence[int], address: str) -> None:
    """Do what Python does before and after the program, except for taking down what the parent has imported."""
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    status = 1
    try:
        if request["arguments"] is None:
            _decode()
        else:
            _run_program(request["arguments"], address)
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads
        atexit._run_exitfuncs()
        os._exit(status)


def _run_program(arguments: Sequence[str], address: str) -> None:
    import subprocess
    import types

    from clipsearch import __main__ as program
    from clipsearch.images import sandbox

    def popen(command: Sequence[str], **options: Any) -> Any:
        return _Decoder(address) if command is sandbox._COMMAND else subprocess.Popen(command, **options)

    vars(sandbox)["subprocess"] = types.SimpleNamespace(**vars(subprocess) | {"Popen": popen})
    sys.argv = [program.__file__, *arguments]
    program.main()


def _decode() -> None:
    from clipsearch.images import worker

    worker.serve()


class _Decoder(Process):
    """A decoding process, which the server forks: this process has threads."""

    def __init__(self, address: str) -> None:
        source, stdin = os.pipe()
        stdout, target = os.pipe()
        with open(os.devnull, "wb") as nothing:
            super().__init__(address, None, dict(os.environ), (source, target, nothing.fileno()))
        os.close(source)
        os.close(target)
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        status = run(sys.argv[1], sys.argv[2:], dict(os.environ), 0, 1, 2)
        if status < 0:
            os.kill(os.getpid(), -status)
        sys.exit(status)
