"""Read the text in photos: a separate pass, after they are embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipsearch.arrays import Pixels
from clipsearch.indexing.passes import Pass
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.ocr import LONG_SIDE, Reader
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Line


def read_photos(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Read the photos that were not read before, in `workers` threads."""

    def put(image_id: int, lines: Sequence[Line]) -> None:
        store.ocr_text.put(image_id, lines)
        report.read += 1
        report.with_text += bool(lines)

    images = store.ocr_text.unread()
    Pass(_reader, LONG_SIDE, workers).run(
        store, images, put, lambda done, total: on_progress(Progress("read", done, total))
    )


def _reader() -> Callable[[Pixels], list[Line]]:
    reader = Reader()
    return lambda pixels: [Line(text, *box) for text, box in reader(pixels)]
