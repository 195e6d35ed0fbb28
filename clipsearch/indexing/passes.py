"""Passes over the photos of an index after they are embedded: OCR, and finding faces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from clipsearch.arrays import Pixels
from clipsearch.errors import DecoderFailed, ImageUnusable
from clipsearch.images.read import content_hash, read, video_hash
from clipsearch.images.sandbox import Decoders, Picture, picture_of
from clipsearch.indexing.pipeline import commit_regularly
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace
from clipsearch.store.pending import Pending
from clipsearch.store.photo import Line
from clipsearch.threads import BoundedMap

_PREFETCH = 2  # images in the queue of each thread

Found = TypeVar("Found")


def read_photos(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Read the text in photos that have not been read yet, in `workers` threads."""
    from clipsearch.models.ocr import LONG_SIDE, Reader

    def reader() -> Callable[[Pixels], list[Line]]:
        read = Reader()
        return lambda pixels: [Line(text, *box) for text, box in read(pixels)]

    def put(image_id: int, lines: Sequence[Line]) -> None:
        store.ocr_text.put(image_id, lines)
        report.read += 1
        report.with_text += bool(lines)

    Pass(reader, LONG_SIDE, workers).run(store, store.ocr_text.unread(), put, "read", on_progress)


def find_faces(store: Store, workers: int, report: Report, on_progress: OnProgress) -> None:
    """Find the faces in images that have not been searched yet, in `workers` threads."""
    from clipsearch.models.faces import LONG_SIDE, FaceFinder, FoundFace

    def put(image_id: int, faces: Sequence[FoundFace]) -> None:
        store.faces.put(image_id, [NewFace(*face) for face in faces])
        report.face_scans += 1
        report.faces += len(faces)

    if images := store.faces.unseen():
        finder = FaceFinder()
        Pass(lambda: finder, LONG_SIDE, workers).run(store, images, put, "faces", on_progress)


class Pass(Generic[Found]):
    """Runs a finder on images in several threads.

    `load` is called once per thread and returns the finder: it gets an upright RGB image (height, width, 3) of at most
    `long_side` pixels and returns what it found.
    """

    def __init__(self, load: Callable[[], Callable[[Pixels], Sequence[Found]]], long_side: int, workers: int) -> None:
        self._load, self._long_side, self._workers = load, long_side, workers
        self._local = threading.local()

    def run(
        self,
        store: Store,
        images: list[Pending],
        put: Callable[[int, Sequence[Found]], None],
        stage: str,
        on_progress: OnProgress,
    ) -> None:
        """Call `put` with each image's id and what was found in it, and commit regularly.

        A file that cannot be read now, or is no longer the one that was indexed, is left for the next run. `stage` is
        the name in `Progress`.
        """
        with Decoders(self._workers) as decoders:
            results = commit_regularly(self._look_at_all(images, decoders), store.commit)
            for done, (image, found) in enumerate(results, 1):
                if found is not None:
                    put(image.image_id, found)
                on_progress(Progress(stage, done, len(images)))

    def _look_at_all(
        self, images: list[Pending], decoders: Decoders
    ) -> Iterator[tuple[Pending, Sequence[Found] | None] | None]:
        """Results in the order in which they are done; None when nothing was done for a moment."""
        pool = ThreadPoolExecutor(self._workers)
        results = BoundedMap(pool, lambda image: self._look_at(image, decoders), images)
        try:
            while results.fill(_PREFETCH * self._workers):
                yield results.next()
        finally:
            pool.shutdown(cancel_futures=True)

    def _look_at(self, image: Pending, decoders: Decoders) -> Sequence[Found] | None:
        try:
            picture = unchanged(image)
        except ImageUnusable:
            return None
        if picture is None:
            return None
        try:
            pixels = decoders.pixels(picture, self._long_side)
        except DecoderFailed:
            return None
        except ImageUnusable:  # a later run would fail on the same bytes
            return []
        if not hasattr(self._local, "look"):
            self._local.look = self._load()
        found: Sequence[Found] = self._local.look(pixels)
        return found


def unchanged(image: Pending) -> Picture | None:
    """What to decode, or None if the file is no longer the one that was indexed. Raises `ImageUnusable`."""
    if image.time is not None:
        return picture_of(image.path, image.time) if video_hash(image.path) == image.content else None
    data = read(image.path)
    return data if content_hash(data) == image.content else None
