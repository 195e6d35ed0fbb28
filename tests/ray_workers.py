"""Failing Ray workers. They need their own module, as Ray imports the class of a worker by module name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from clipsearch.errors import WeightsUnusable
from clipsearch.indexing.read_file import Contents
from clipsearch.indexing.remote import Note, Results, Worker


class DiesOnce(Worker):
    """Ends in the middle of its first batch, once among all workers."""

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        mark = os.path.dirname(files[0][0]) + b"/died"
        if any(path.endswith(b"05.jpg") for path, _ in files) and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().work(files)


class DiesOfOne(Worker):
    """One photo ends whatever reads it."""

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        if any(path.endswith(b"05.jpg") for path, _ in files):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().work(files)


class DiesOfAll(Worker):
    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield from super().work(files)


class SeesNothing(Worker):
    """As on a machine that has other files, or none."""

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        yield from super().work([(b"/elsewhere" + path, size) for path, size in files])


class CannotLoad(Worker):
    def _load(self) -> None:  # type: ignore[override]
        raise WeightsUnusable("the weights are not there")


class WaitsForOne(Worker):
    """One photo takes long, until a file appears beside it."""

    def _read(self, file: tuple[int, bytes]) -> Contents:
        if file[1].endswith(b"05.jpg"):
            until = time.monotonic() + 60
            while not os.path.exists(os.path.dirname(file[1]) + b"/go on") and time.monotonic() < until:
                time.sleep(0.05)
        return super()._read(file)
