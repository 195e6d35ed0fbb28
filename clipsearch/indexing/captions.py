"""Caption photos with a vision-language model: a separate pass, after they are embedded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from clipsearch.arrays import Pixels
from clipsearch.errors import BadRequest, EncodingFailed, EndpointFailed, ImageUnusable, VlmUnusable
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.passes import unchanged
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.models.describe import LONG_SIDE, Captioner, Vlm
from clipsearch.store.catalogue import Store
from clipsearch.store.pending import Pending
from clipsearch.threads import ordered_map

_DECODERS = 2  # each caption takes longer than decoding a photo
_MOST_FAILURES = 3  # in a row
_STOPPING = (BadRequest, VlmUnusable, EndpointFailed, EncodingFailed)  # a package, a device, the model, the server


def caption_photos(store: Store, vlm: Vlm, report: Report, on_progress: OnProgress) -> None:
    """Caption the photos without a caption by this model. Commits after each batch.

    If the model cannot be loaded, or fails several times in a row, the pass ends early, but not the run:
    `Report.captions_stopped` says why. The next run continues. Files that cannot be read, such as those on an offline
    drive, wait until they can.
    """
    missing = store.captions.missing(vlm.captioner_name)
    began, unreadable = time.monotonic(), 0
    try:
        for done, skipped in _caption(store, vlm, missing, report):
            unreadable += skipped
            left = (time.monotonic() - began) / done * (len(missing) - done)
            on_progress(Progress("caption", done, len(missing), left))
    except _STOPPING as error:
        report.captions_stopped = str(error)
    report.captioning_seconds = time.monotonic() - began
    report.uncaptioned = len(missing) - report.captioned - unreadable


def _caption(store: Store, vlm: Vlm, missing: Sequence[Pending], report: Report) -> Iterator[tuple[int, int]]:
    """After each batch, the number of photos done in all, and of unreadable ones in the batch."""
    captioner: Captioner | None = None
    failures = done = 0
    for batch in _batches(missing, vlm.batch_size):
        readable = [(photo, pixels) for photo, pixels in batch if pixels is not None]
        if readable:
            captioner = captioner or vlm.captioner()
            try:
                captions = captioner.captions([pixels for _, pixels in readable])
            except (EndpointFailed, EncodingFailed):
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
            else:
                failures = 0
                for (photo, _), caption in zip(readable, captions, strict=True):
                    store.captions.put(photo.image_id, caption, vlm.captioner_name)
                store.commit()
                report.captioned += len(captions)
        done += len(batch)
        yield done, len(batch) - len(readable)


def _batches(photos: Sequence[Pending], size: int) -> Iterator[list[tuple[Pending, Pixels | None]]]:
    """Photos with their pixels, in order; the next ones are decoded meanwhile.

    None if the file cannot be read, or is not the one that was indexed.
    """
    pool = ThreadPoolExecutor(_DECODERS)
    try:
        with Decoders(_DECODERS) as decoders:
            decoded = ordered_map(pool, lambda photo: (photo, _pixels(photo, decoders)), photos, size + _DECODERS)
            while batch := list(islice(decoded, size)):
                yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _pixels(photo: Pending, decoders: Decoders) -> Pixels | None:
    try:
        picture = unchanged(photo)
        return None if picture is None else decoders.pixels(picture, LONG_SIDE)
    except ImageUnusable:
        return None
