"""Files in, embeddings out: reading, decoding and embedding at once, in bounded memory.

On a CPU, one pool of as many threads as there are cores does everything. A task is a file to decode, which the thread
leaves to a process and waits for, or a batch to embed with one thread of torch. So no core is idle while there is
work, and no thread of a batch waits for another whose core is decoding. On a GPU one thread feeds the device while the
pool decodes. `scripts/README.md` has what was tried instead, with figures.
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
from clipsearch.indexing.contents import Contents
from clipsearch.models.encoders import Encoder
from clipsearch.threads import TICK, BoundedMap

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
    sent: Pixels | None = None
    rows: Future[Array] | None = None


@dataclass(slots=True)
class _Entry(Generic[Item]):
    """A file that was read and has images to embed, with their places in batches; and others with the same contents."""

    item: Item
    contents: Contents
    places: list[tuple[_Batch, int]] = field(default_factory=list)
    copies: list[tuple[Item, Contents]] = field(default_factory=list)

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
        self._batch = _Batch()
        self._entries: dict[bytes, _Entry[Item]] = {}  # by their contents, in order
        self._waiting = 0  # entries and their copies
        self._pool = ThreadPoolExecutor(self._workers)
        self._device = ThreadPoolExecutor(1)  # the GPU's, if there is one

    def __enter__(self) -> Pipeline[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._device.shutdown(cancel_futures=True)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Each item with its contents, without pixels, and the unit rows (n, dim) of its images.

        They come as they are done: a file that takes long holds up nothing but itself. None is for a caller that has
        something to do meanwhile; it comes within two seconds. There are no rows for what could not be read, nor
        for contents that are known or that an item before it has.
        """
        ahead = BoundedMap(self._pool, self._read, items)
        while ahead.fill(self._most_ahead()):
            with self._stages("wait"):
                found = ahead.next()
            if found is None:  # all that is under way takes long
                self._send()
                self._take_over()
                yield from self._done(every=True)
                yield None
            else:
                self._stages.add(found[1].seconds)
                yield from self._taken(*found)
                yield from self._done()
            while self._waiting > self._most_entries():
                yield from self._waited()
        self._send()
        while self._entries:
            yield from self._waited()

    def _taken(self, item: Item, contents: Contents) -> Iterator[tuple[Item, Contents, None]]:
        """Put the images of a file that was read into batches. What has none to embed is done."""
        without = contents._replace(pixels=None)
        if contents.content in self._entries:
            self._entries[contents.content].copies.append((item, without))
            self._waiting += 1
        elif contents.pixels is None or self._known(contents.content):
            yield item, without, None
        else:
            if self._encoder is None:  # the pool decodes meanwhile
                with self._stages("load"):
                    self._encoder = self._load()
            entry = self._entries[contents.content] = _Entry(item, without)
            self._waiting += 1
            for pixels in contents.pixels:
                entry.places.append((self._batch, len(self._batch.pixels)))
                self._batch.pixels.append(pixels)
                if len(self._batch.pixels) == self._size():
                    self._send()

    def _waited(self) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Files whose rows came within a tick, and None."""
        first = next(iter(self._entries.values()))
        if any(batch is self._batch for batch, _ in first.places):  # it has waited among files that need no embedding
            self._send()
        with self._stages("wait"):
            wait([batch.rows for batch in self._sent() if batch.rows is not None], TICK, FIRST_COMPLETED)
        yield from self._done(every=True)
        yield None

    def _done(self, *, every: bool = False) -> Iterator[tuple[Item, Contents, Array | None]]:
        """The files whose images are all embedded, each before its copies, whose contents it makes known.

        In order, up to the first that is not ready, unless `every` one is asked for.
        """
        ready = []
        for content, entry in self._entries.items():
            if entry.ready:
                ready.append(content)
            elif not every:
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

    def _most_ahead(self) -> int:
        """How many files may be under way or read and not taken."""
        return self._workers + 2 * self._size() if self._encoder else self._workers * _AHEAD_AT_FIRST

    def _most_entries(self) -> int:
        """How many files may be read and not given out: a batch in every thread, one that waits and one to fill."""
        return (self._workers + 2) * self._size()

    def _send(self) -> None:
        """Have the batch embedded that is being filled."""
        if not self._batch.pixels:
            return
        assert self._encoder is not None
        batch, self._batch = self._batch, _Batch()
        batch.sent, batch.pixels = np.stack(batch.pixels), []
        pool = self._pool if self._encoder.device == "cpu" else self._device
        batch.rows = pool.submit(self._encode, self._encoder, batch)

    def _take_over(self) -> None:
        """Embed here a batch for which no thread is left: all of them wait for files that take long to decode."""
        for batch in self._sent():
            if batch.rows is not None and batch.rows.cancel():
                assert self._encoder is not None
                batch.rows = Future()
                batch.rows.set_result(self._encode(self._encoder, batch))
                return

    def _sent(self) -> list[_Batch]:
        """The batches that somebody waits for."""
        of = {id(batch): batch for entry in self._entries.values() for batch, _ in entry.places}
        return [batch for batch in of.values() if batch.rows is not None and not batch.rows.done()]

    def _encode(self, encoder: Encoder, batch: _Batch) -> Array:
        pixels, batch.sent = batch.sent, None
        assert pixels is not None
        with self._stages("encode"):
            return encoder.encode_images(pixels)
