"""Read, decode and embed files concurrently, in bounded memory.

On a CPU, one pool with a thread per core does everything: a task is either a file, which the thread hands to a decoding
process and waits for, or a batch to embed on one core. So no core is idle while there is work, and no batch waits for
a core that is decoding. On a GPU, one thread feeds the device while the pool decodes. The alternatives that were
measured are in `scripts/README.md`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from clipsearch.arrays import Array, Pixels
from clipsearch.indexing.read_file import Contents
from clipsearch.models.encoders import Encoder
from clipsearch.threads import TICK, BoundedMap

BATCH_ON_CPU, BATCH_ON_GPU = 16, 64
COMMIT_SECONDS = 2.0  # if killed, a run loses at most this much work

_PREFETCH_WHILE_LOADING = 64  # files per thread; loading a model takes one or two seconds

Item = TypeVar("Item")


def commit_regularly(results: Iterable[Item | None], commit: Callable[[], None]) -> Iterator[Item]:
    """Pass on results; commit every `COMMIT_SECONDS`, at the end, and on None, which means idle."""
    committed = time.monotonic()
    for result in results:
        if result is not None:
            yield result
        if result is None or time.monotonic() - committed > COMMIT_SECONDS:
            commit()
            committed = time.monotonic()
    commit()


class Stages:
    """Seconds that a run spent in each stage. `wait`: for embeddings; `load`: the model."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("scan", "read", "decode", "resize", "load", "encode", "wait", "store"), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - began})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add times that were measured elsewhere."""
        with self._lock:
            for stage, spent in seconds.items():
                self.seconds[stage] += spent


@dataclass(slots=True)
class _Batch:
    """Images to embed together; after submission `rows` is set and `pixels` is empty."""

    pixels: list[Pixels] = field(default_factory=list)
    rows: Future[Array] | None = None


@dataclass(slots=True)
class _Entry(Generic[Item]):
    """A decoded file, the places of its images in batches, and later files with the same contents."""

    item: Item
    contents: Contents
    places: list[tuple[_Batch, int]] = field(default_factory=list)
    copies: list[tuple[Item, Contents]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return all(batch.rows is not None and batch.rows.done() for batch, _ in self.places)


class Pipeline(Generic[Item]):
    """A run over some files. Leaving the `with` block cancels what has not begun."""

    def __init__(
        self,
        load: Callable[[], Encoder],
        read: Callable[[Item], Contents],
        is_indexed: Callable[[bytes], bool],
        stages: Stages,
        workers: int,
        batch_size: int | None = None,
    ) -> None:
        """`load` is called once an encoder is needed; `read` in worker threads, the others in the caller's."""
        self._load, self._read, self._is_indexed, self._stages = load, read, is_indexed, stages
        self._workers = workers
        self._batch_size = batch_size
        self._encoder: Encoder | None = None
        self._batch = _Batch()
        self._entries: dict[bytes, _Entry[Item]] = {}  # by content hash, in order
        self._waiting = 0  # entries and their copies
        self._pool = ThreadPoolExecutor(self._workers)
        self._gpu_pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Pipeline[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._gpu_pool.shutdown(cancel_futures=True)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Yield each item as it is done, with its contents (without pixels) and the unit rows (n, dim) of its images.

        A slow file delays only itself. The rows are None for a file that could not be read, or whose contents are
        indexed or came before. The result is None when nothing was done for a moment, so that the caller can commit.
        """
        reading = BoundedMap(self._pool, self._read, items)
        while reading.fill(self._most_read_ahead()):
            with self._stages("wait"):
                found = reading.next()
            if found is None:  # every file in progress is slow
                self._submit_batch()
                self._embed_here()
                yield from self._done(in_order=False)
                yield None
            else:
                self._stages.add(found[1].seconds)
                yield from self._add(*found)
                yield from self._done()
            while self._waiting > self._most_waiting():
                yield from self._wait()
        self._submit_batch()
        while self._entries:
            yield from self._wait()

    def _add(self, item: Item, contents: Contents) -> Iterator[tuple[Item, Contents, None]]:
        """Put the images of a file into batches; a file with nothing to embed is done."""
        without_pixels = contents._replace(pixels=None)
        if contents.content in self._entries:
            self._entries[contents.content].copies.append((item, without_pixels))
            self._waiting += 1
        elif contents.pixels is None or self._is_indexed(contents.content):
            yield item, without_pixels, None
        else:
            if self._encoder is None:  # the pool goes on decoding meanwhile
                with self._stages("load"):
                    self._encoder = self._load()
            entry = self._entries[contents.content] = _Entry(item, without_pixels)
            self._waiting += 1
            for pixels in contents.pixels:
                entry.places.append((self._batch, len(self._batch.pixels)))
                self._batch.pixels.append(pixels)
                if len(self._batch.pixels) == self._size():
                    self._submit_batch()

    def _wait(self) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Wait for a batch, but no longer than a tick; ends with None."""
        first = next(iter(self._entries.values()))
        if any(batch is self._batch for batch, _ in first.places):  # a partial batch blocks the head of the queue
            self._submit_batch()
        with self._stages("wait"):
            wait([batch.rows for batch in self._submitted() if batch.rows is not None], TICK, FIRST_COMPLETED)
        yield from self._done(in_order=False)
        yield None

    def _done(self, *, in_order: bool = True) -> Iterator[tuple[Item, Contents, Array | None]]:
        """Embedded files, each before its copies. `in_order` stops at the first that is not ready."""
        ready = []
        for content, entry in self._entries.items():
            if entry.ready:
                ready.append(content)
            elif in_order:
                break
        for content in ready:
            entry = self._entries.pop(content)
            self._waiting -= 1 + len(entry.copies)
            rows = [batch.rows.result()[place] for batch, place in entry.places if batch.rows is not None]
            yield entry.item, entry.contents, np.stack(rows)
            for item, contents in entry.copies:
                yield item, contents, None

    def _size(self) -> int:
        on_gpu = self._encoder is not None and self._encoder.device != "cpu"
        return self._batch_size or (BATCH_ON_GPU if on_gpu else BATCH_ON_CPU)

    def _most_read_ahead(self) -> int:
        return self._workers + 2 * self._size() if self._encoder else self._workers * _PREFETCH_WHILE_LOADING

    def _most_waiting(self) -> int:
        """How many files may wait for embeddings: a batch in each thread, one in the queue, one to fill."""
        return (self._workers + 2) * self._size()

    def _submit_batch(self) -> None:
        if not self._batch.pixels:
            return
        assert self._encoder is not None
        batch, self._batch = self._batch, _Batch()
        pool = self._pool if self._encoder.device == "cpu" else self._gpu_pool
        batch.rows = pool.submit(self._encode, self._encoder, batch)

    def _embed_here(self) -> None:
        """Embed a batch in this thread if the pool has not begun it: its threads may all wait for slow files."""
        for batch in self._submitted():
            if batch.rows is not None and batch.rows.cancel():
                assert self._encoder is not None
                batch.rows = Future()
                batch.rows.set_result(self._encode(self._encoder, batch))
                return

    def _submitted(self) -> list[_Batch]:
        batches = {id(batch): batch for entry in self._entries.values() for batch, _ in entry.places}
        return [batch for batch in batches.values() if batch.rows is not None and not batch.rows.done()]

    def _encode(self, encoder: Encoder, batch: _Batch) -> Array:
        pixels, batch.pixels = batch.pixels, []
        with self._stages("encode"):
            return encoder.encode_images(np.stack(pixels))
