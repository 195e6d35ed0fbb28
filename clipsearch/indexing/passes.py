"""Passes over the photos of an index after they are embedded: reading text, looking for faces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from clipsearch.arrays import Pixels
from clipsearch.errors import ImageUnusable
from clipsearch.images.read import content_hash, read, video_hash
from clipsearch.images.sandbox import Decoders, Picture, picture_of
from clipsearch.indexing.pipeline import commit_regularly
from clipsearch.store.catalogue import Store
from clipsearch.store.pending import Pending
from clipsearch.threads import BoundedMap

_PREFETCH = 2  # images in the queue of each thread

Found = TypeVar("Found")


class Pass(Generic[Found]):
    """Looks at images in several threads, and has what is found in each recorded.

    `load` returns what finds something in an upright RGB image (height, width, 3) of at most `long_side` pixels. It is
    called once per thread.
    """

    def __init__(self, load: Callable[[], Callable[[Pixels], Sequence[Found]]], long_side: int, workers: int) -> None:
        self._load, self._long_side, self._workers = load, long_side, workers
        self._local = threading.local()

    def run(
        self,
        store: Store,
        images: list[Pending],
        put: Callable[[int, Sequence[Found]], None],
        on_done: Callable[[int, int], None],
    ) -> None:
        """Call `put` with each image's id and what was found in it, and commit regularly.

        A file that cannot be read now, or is no longer the one that was indexed, is left for the next run. `on_done`
        gets the number of images done and the total.
        """
        with Decoders(self._workers) as decoders:
            results = commit_regularly(self._look_at_all(images, decoders), store.commit)
            for done, (image, found) in enumerate(results, 1):
                if found is not None:
                    put(image.image_id, found)
                on_done(done, len(images))

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
