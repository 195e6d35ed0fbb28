"""Workers that fail, for the tests of the spread. They are in a module of their own, which Ray imports by its name."""

from __future__ import annotations

import os
import signal

from clipsearch.errors import WeightsUnusable
from clipsearch.indexing.spread import Done, Worker


class DiesOnce(Worker):
    """Ends in the middle of its first batch, once among all workers."""

    def work(self, files: list[tuple[bytes, int]]) -> Done:
        mark = os.path.dirname(files[0][0]) + b"/died"
        if any(path.endswith(b"05.jpg") for path, _ in files) and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(files)


class DiesOfOne(Worker):
    """One photo ends whatever reads it."""

    def work(self, files: list[tuple[bytes, int]]) -> Done:
        if any(path.endswith(b"05.jpg") for path, _ in files):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(files)


class DiesOfAll(Worker):
    def work(self, files: list[tuple[bytes, int]]) -> Done:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().work(files)


class SeesNothing(Worker):
    """As on a machine that has other files, or none."""

    def work(self, files: list[tuple[bytes, int]]) -> Done:
        return super().work([(b"/elsewhere" + path, size) for path, size in files])


class CannotLoad(Worker):
    def _load(self) -> None:  # type: ignore[override]
        raise WeightsUnusable("the weights are not there")
