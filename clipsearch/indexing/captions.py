"""Caption photos with a vision-language model: a separate pass, after they are embedded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipsearch.arrays import Pixels
from clipsearch.errors import ClipsearchError, EncodingFailed, EndpointFailed, ImageUnusable
from clipsearch.images.sandbox import Decoders, picture_of
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.describe import LONG_SIDE, Captioner
from clipsearch.store.captions import Uncaptioned
from clipsearch.store.catalogue import Store
from clipsearch.threads import ordered_map

_DECODERS = 2  # each caption takes longer than decoding a photo
_MOST_FAILURES = 3  # in a row

_Decoded = tuple[Uncaptioned, Pixels | None]  # None if the file cannot be read, or is not the one that was indexed


def caption_photos(
    store: Store, name: str, load: Callable[[], Captioner], report: Report, on_progress: OnProgress
) -> None:
    """Caption the photos without a caption by the captioner with a name. Commits after each batch.

    If the captioner cannot be loaded, or fails several times in a row, the pass ends early, but not the run:
    `Report.captions_stopped` says why. The next run continues.
    """
    missing = store.captions.missing(name)
    failures = done = 0
    began = time.monotonic()
    try:
        captioner = load() if missing else None
        loaded = time.monotonic()
        for batch in _batches(missing, captioner.batch_size if captioner else 1):
            readable = {photo: pixels for photo, pixels in batch if pixels is not None}
            try:
                captions = captioner.captions(list(readable.values())) if captioner and readable else []
                failures = 0
            except (EndpointFailed, EncodingFailed):
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
                captions = []
            for photo, caption in zip(readable, captions, strict=False):  # none after a failure
                store.captions.put(photo.image_id, caption, name)
            store.commit()
            report.captioned += len(captions)
            done += len(batch)
            left = (time.monotonic() - loaded) / done * (len(missing) - done)
            on_progress(Progress("caption", done, len(missing), left))
    except ClipsearchError as error:
        report.captions_stopped = str(error)
    report.captioning_seconds = time.monotonic() - began
    report.uncaptioned = len(missing) - report.captioned


def _batches(photos: Sequence[Uncaptioned], size: int) -> Iterator[list[_Decoded]]:
    """Decoded photos, in order; the next ones are decoded meanwhile."""
    batch: list[_Decoded] = []
    pool = ThreadPoolExecutor(_DECODERS)
    try:
        with Decoders(_DECODERS) as decoders:
            for one in ordered_map(pool, lambda photo: (photo, _pixels(photo, decoders)), photos, size + _DECODERS):
                batch.append(one)
                if len(batch) == size:
                    yield batch
                    batch = []
            if batch:
                yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(photo: Uncaptioned, decoders: Decoders) -> Pixels | None:
    try:
        status = os.stat(photo.path)
        if (status.st_size, status.st_mtime_ns) != (photo.size, photo.mtime_ns):
            return None
        return decoders.pixels(picture_of(photo.path, photo.time), LONG_SIDE)
    except (ImageUnusable, OSError):
        return None
