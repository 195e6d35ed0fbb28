"""Look through photos for what is written in them: a pass of its own, after they are embedded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from clipsearch.errors import ImageUnusable
from clipsearch.images.read import content_hash, read
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.ocr import LONG_SIDE, Reader
from clipsearch.store.catalogue import Store
from clipsearch.store.ocr_text import Unread
from clipsearch.store.photo import Line
from clipsearch.threads import BoundedMap

_COMMIT_SECONDS = 2.0
_AHEAD = 2  # photos that wait for each thread


def read_photos(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Read the photos that nobody has read, with so many threads; counts them in the report."""
    todo = store.ocr_text.unread()
    committed = time.monotonic()
    with Decoders(workers) as decoders:
        done = 0
        for photo in _in_threads(_Reading(decoders), todo, workers):
            if photo is not None:
                done += 1
                _keep(store, report, *photo)
                on_progress(Progress("read", done, len(todo)))
            if photo is None or time.monotonic() - committed > _COMMIT_SECONDS:
                store.commit()
                committed = time.monotonic()
    store.commit()


def _keep(store: Store, report: Report, image_id: int, lines: list[Line] | None) -> None:
    if lines is not None:
        store.ocr_text.put(image_id, lines)
        report.read += 1
        report.with_text += bool(lines)


class _Reading:
    """Reads one photo in any thread."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders, self._of_thread = decoders, threading.local()

    def __call__(self, photo: Unread) -> tuple[int, list[Line] | None]:
        """Its image and lines; None where its file is not what was indexed, and may be later."""
        try:
            data = read(photo.path)
            if content_hash(data) != photo.content:
                return photo.image_id, None
        except ImageUnusable:
            return photo.image_id, None
        try:
            pixels = self._decoders.pixels(data, LONG_SIDE)
        except ImageUnusable:  # though it was embedded: it would be no other the next time
            return photo.image_id, []
        if not hasattr(self._of_thread, "reader"):
            self._of_thread.reader = Reader()
        return photo.image_id, [Line(text, *box) for text, box in self._of_thread.reader(pixels)]


def _in_threads(
    reading: Callable[[Unread], tuple[int, list[Line] | None]], todo: list[Unread], workers: int
) -> Iterator[tuple[int, list[Line] | None] | None]:
    """What is in each photo, as it is read; None while all that is under way takes long."""
    pool = ThreadPoolExecutor(workers)
    ahead = BoundedMap(pool, reading, todo)
    try:
        while ahead.fill(_AHEAD * workers):
            found = ahead.next()
            yield None if found is None else found[1]
    finally:
        pool.shutdown(cancel_futures=True)
