"""Read the text in photos: a separate pass, after they are embedded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from clipsearch.errors import ImageUnusable
from clipsearch.images.read import content_hash, read
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.pipeline import commit_regularly
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.ocr import LONG_SIDE, Reader
from clipsearch.store.catalogue import Store
from clipsearch.store.ocr_text import Unread
from clipsearch.store.photo import Line
from clipsearch.threads import BoundedMap

_PREFETCH = 2  # photos in the queue of each thread

_Result = tuple[Unread, list[Line] | None]  # None if the file could not be read, or is not the one that was indexed


def read_photos(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Read the photos that were not read before, in `workers` threads."""
    unread = store.ocr_text.unread()
    with Decoders(workers) as decoders:
        results = commit_regularly(_read_all(unread, decoders, workers), store.commit)
        for done, (photo, lines) in enumerate(results, 1):
            if lines is not None:
                store.ocr_text.put(photo.image_id, lines)
                report.read += 1
                report.with_text += bool(lines)
            on_progress(Progress("read", done, len(unread)))


def _read_all(photos: list[Unread], decoders: Decoders, workers: int) -> Iterator[_Result | None]:
    """Results in the order in which they are done; None when nothing was done for a moment."""
    local = threading.local()

    def read_lines(photo: Unread) -> list[Line] | None:
        try:
            data = read(photo.path)
            if content_hash(data) != photo.content:
                return None
        except ImageUnusable:
            return None
        try:
            pixels = decoders.pixels(data, LONG_SIDE)
        except ImageUnusable:  # a later run would fail on the same bytes
            return []
        if not hasattr(local, "reader"):
            local.reader = Reader()
        return [Line(text, *box) for text, box in local.reader(pixels)]

    pool = ThreadPoolExecutor(workers)
    results = BoundedMap(pool, read_lines, photos)
    try:
        while results.fill(_PREFETCH * workers):
            yield results.next()
    finally:
        pool.shutdown(cancel_futures=True)
