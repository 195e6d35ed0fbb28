"""Files in, embeddings out: reading, decoding and embedding at once, in bounded memory.

On a CPU, one pool of as many threads as there are cores does everything. A task is a file to decode, which the thread
leaves to a process and waits for, or a batch to embed with one thread of torch. So no core is idle while there is
work, and no thread of a batch waits for another whose core is decoding. On a GPU one thread feeds the device while the
pool decodes. `scripts/README.md` has what was tried instead, with figures.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.indexing.contents import Contents
from clipsearch.models.encoders import Encoder

BATCH_ON_CPU, BATCH_ON_GPU = 16, 64

# Files that each thread may decode ahead while the model loads, which takes a second or two.
_AHEAD_AT_FIRST = 64

Item = TypeVar("Item")


class Stages:
    """Where the seconds of a run went. `wait` is for photos that are not embedded yet, `load` for the model."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("scan", "read", "decode", "resize", "load", "encode", "wait", "store"), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - began})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what was measured elsewhere."""
        with self._lock:
            for stage, spent in seconds.items():
                self.seconds[stage] += spent


@dataclass(slots=True)
class _Batch:
    """Pixels to embed at once and, once they are sent, the rows to come."""

    pixels: list[Pixels] = field(default_factory=list)
    rows: Future[Array] | None = None


@dataclass(slots=True)
class _Entry(Generic[Item]):
    """A file that was read, and the places of its images in batches if they are to be embedded."""

    item: Item
    contents: Contents
    places: list[tuple[_Batch, int]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return all(batch.rows is not None and batch.rows.done() for batch, _ in self.places)


class Pipeline(Generic[Item]):
    """One run over some files. When its `with` block ends, what has not begun is never done."""

    def __init__(
        self,
        load: Callable[[], Encoder],
        read: Callable[[Item], Contents],
        known: Callable[[bytes], bool],
        stages: Stages,
        workers: int,
        batch_size: int | None = None,
    ) -> None:
        """`load` makes the encoder and is called when it is first needed. `read` is called in threads. `known` is
        called in the caller's thread and says whether contents have an embedding already.
        """
        self._load, self._read, self._known, self._stages = load, read, known, stages
        self._workers = workers
        self._batch_size = batch_size
        self._encoder: Encoder | None = None
        self._pool = ThreadPoolExecutor(self._workers)
        self._device = ThreadPoolExecutor(1)  # the GPU's, if there is one

    def __enter__(self) -> Pipeline[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._device.shutdown(cancel_futures=True)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None]]:
        """Each item with its contents, without pixels, and the unit rows (n, dim) of its images, in order.

        There are no rows for what could not be read, nor for contents that are known or that an earlier item has.
        """
        entries: deque[_Entry[Item]] = deque()
        under_way: set[bytes] = set()  # contents that will have a row
        batch = _Batch()
        for item, contents in self._read_ahead(items):
            self._stages.add(contents.seconds)
            entry = _Entry(item, contents._replace(pixels=None))
            entries.append(entry)
            if contents.pixels is not None and not (contents.content in under_way or self._known(contents.content)):
                if self._encoder is None:  # the pool decodes meanwhile
                    with self._stages("load"):
                        self._encoder = self._load()
                under_way.add(contents.content)
                for pixels in contents.pixels:
                    entry.places.append((batch, len(batch.pixels)))
                    batch.pixels.append(pixels)
                    if len(batch.pixels) == self._size():
                        self._send(batch)
                        batch = _Batch()
            while entries and (entries[0].ready or len(entries) > self._most_entries()):
                # It has waited long among files that need no embedding.
                if any(waits is batch for waits, _ in entries[0].places):
                    self._send(batch)
                    batch = _Batch()
                under_way.discard(entries[0].contents.content)
                yield self._finished(entries.popleft())
        if batch.pixels:
            self._send(batch)
        while entries:
            yield self._finished(entries.popleft())

    def _read_ahead(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents]]:
        """The items with their contents, in order; a bounded number of them is in memory."""
        reading: deque[tuple[Item, Future[Contents]]] = deque()
        left = iter(items)
        while True:
            ahead = self._workers + 2 * self._size() if self._encoder else self._workers * _AHEAD_AT_FIRST
            for item in itertools.islice(left, max(0, ahead - len(reading))):
                reading.append((item, self._pool.submit(self._read, item)))
            if not reading:
                return
            item, contents = reading.popleft()
            with self._stages("wait"):
                found = contents.result()
            yield item, found

    def _size(self) -> int:
        on_gpu = self._encoder is not None and self._encoder.device != "cpu"
        return self._batch_size or (BATCH_ON_GPU if on_gpu else BATCH_ON_CPU)

    def _most_entries(self) -> int:
        """How many files may be read and not given out: a batch in every thread, one that waits and one to fill."""
        return (self._workers + 2) * self._size()

    def _send(self, batch: _Batch) -> None:
        assert self._encoder is not None
        pixels, batch.pixels = np.stack(batch.pixels), []
        pool = self._pool if self._encoder.device == "cpu" else self._device
        batch.rows = pool.submit(self._encode, self._encoder, pixels)

    def _encode(self, encoder: Encoder, pixels: Pixels) -> Array:
        with self._stages("encode"):
            return encoder.encode_images(pixels)

    def _finished(self, entry: _Entry[Item]) -> tuple[Item, Contents, Array | None]:
        if not entry.places:
            return entry.item, entry.contents, None
        rows = []
        with self._stages("wait"):
            for batch, place in entry.places:
                assert batch.rows is not None
                rows.append(batch.rows.result()[place])
        return entry.item, entry.contents, np.stack(rows)
