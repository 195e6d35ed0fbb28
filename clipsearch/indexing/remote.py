"""Embed on the machines of a cluster: the worker, and the run that collects its results.

Paths travel, not pixels: a worker reads, decodes and embeds like a local run, so every machine must see the same files.
The one process that writes the index gets the embeddings back.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array
from clipsearch.errors import BadRequest
from clipsearch.extras import cluster
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.options import Options
from clipsearch.indexing.pipeline import Pipeline, Stages
from clipsearch.indexing.read_file import Contents, read_file
from clipsearch.models.encoders import Encoder, Engine
from clipsearch.models.engines import encoder_for
from clipsearch.models.model import Model

Hashes = NDArray[np.uint64]  # (n, 2), the two halves of each content hash, sorted

KILLS = "killed its worker twice"

_CHECKED = 16  # files of a worker's first batch; at least one must have the same size as here
_DELIVER_SECONDS = 1.0  # how often a worker delivers the finished part of a batch

Results = list[tuple[int, tuple[Contents, Array | None]]]


class Seen(Protocol):
    """A file to read, as the scan found it."""

    @property
    def path(self) -> bytes:
        """Absolute."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...


Item = TypeVar("Item", bound=Seen)


class Note(NamedTuple):
    """What a worker reports after a batch: seconds per stage, its precision, and the precisions that it rejected."""

    seconds: Mapping[str, float]
    engine: Engine | None
    disagreed: list[tuple[Engine, float]]


class NotSeen(BadRequest):
    """A worker does not have the files."""


class Worker:
    """Reads, decodes and embeds files on one machine of the cluster."""

    def __init__(self, model: str, options: Options, known: Hashes, threads: int) -> None:
        self._model, self._options, self._known, self._threads = Model.from_json(model), options, known, threads
        self._decoders = Decoders(threads, self._model.preprocess)
        self._encoder: Encoder | None = None
        self._disagreed: list[tuple[Engine, float]] = []
        self._is_checked = False

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        """Yield contents and unit rows of files, which are given as pairs of path and size."""
        if not self._is_checked:
            _check(files[:_CHECKED])
            self._is_checked = True
        stages = Stages()
        found: Results = []
        delivered = time.monotonic()
        with Pipeline(self._load, self._read, self._is_known, stages, self._threads, self._options.batch_size) as run:
            for done in run.run((number, path) for number, (path, _) in enumerate(files)):
                if done is not None:
                    (number, _), contents, rows = done
                    found.append((number, (contents, rows)))
                if found and time.monotonic() - delivered > _DELIVER_SECONDS:
                    yield found, None
                    found, delivered = [], time.monotonic()
        disagreed, self._disagreed = self._disagreed, []
        yield found, Note(stages.seconds, self._encoder.engine if self._encoder else None, disagreed)

    def _load(self) -> Encoder:
        if self._encoder is None:
            self._encoder = encoder_for(
                self._model, self._options.device, self._options.precision, self._threads,
                lambda engine, cosine: self._disagreed.append((engine, cosine)),
            )  # fmt: skip
        return self._encoder

    def _read(self, file: tuple[int, bytes]) -> Contents:
        return read_file(file[1], self._is_known, self._decoders)

    def _is_known(self, content: bytes) -> bool:
        return is_among(content, self._known)


def is_among(content: bytes, known: Hashes) -> bool:
    """Whether a content hash is in a sorted array."""
    first = np.frombuffer(content[:8], ">u8")[0]
    low, high = np.searchsorted(known[:, 0], first), np.searchsorted(known[:, 0], first, "right")
    return bool((known[low:high, 1] == np.frombuffer(content[8:], ">u8")[0]).any())


def _check(files: list[tuple[bytes, int]]) -> None:
    for path, size in files:
        try:
            if os.stat(path).st_size == size:
                return
        except OSError:
            continue
    raise NotSeen(f"{os.fsdecode(files[0][0])} on {platform.node()} is missing or differs from the one here")


class Remote(Generic[Item]):
    """A run over some files on the cluster `options.ray`. Leaving the `with` block ends the workers."""

    def __init__(
        self, model: Model, options: Options, stages: Stages, known: Hashes, worker: type[Worker] = Worker
    ) -> None:
        """`known`: the contents that are indexed. Raises what `cluster.ray.Workers` raises."""
        self._workers = cluster("Workers")(options.ray, options.workers, worker, (model.to_json(), options, known))
        self._stages = stages
        self.engine: Engine | None = None
        self.disagreed: list[tuple[Engine, float]] = []

    def __enter__(self) -> Remote[Item]:
        return self

    def __exit__(self, *error: Any) -> None:
        self._workers.__exit__(*error)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Like `Pipeline.run`. Raises `NotSeen`, `EncodingFailed`, and what loading and running the model raise."""
        results = self._workers.run(items, lambda item: (item.path, item.size), self._take)
        while True:
            with self._stages("wait"):
                result = next(results, ...)
            if result is ...:
                return
            if result is None:
                yield None
            else:
                item, found = result
                yield item, *(found or (Contents(error=KILLS), None))

    def _take(self, note: Note) -> None:
        self._stages.add(note.seconds)
        self.engine = note.engine or self.engine
        self.disagreed += note.disagreed
