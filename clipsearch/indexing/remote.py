"""Embed on other machines: what a worker of a cluster does with files, and how a run gets it back.

Paths travel, not pixels: a worker reads, decodes and embeds as a run at home does, so every machine must see the same
files. Rows come back to the one process that writes the index.
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
from clipsearch.models.encoders import Encoder
from clipsearch.models.model import Model
from clipsearch.models.precision import encoder_for

Hashes = NDArray[np.uint64]  # (n, 2), the two halves of each content hash, sorted

KILLS = "killed its worker twice"

_CHECKED = 16  # files of a worker's first batch, of which at least one must have the size that it has here
_DELIVER = 1.0  # seconds after which a worker delivers what is done of a batch

Results = list[tuple[int, tuple[Contents, Array | None]]]


class Seen(Protocol):
    """A file to read, as the scan saw it."""

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
    """What a worker reports at the end of a batch: seconds per stage, the precision, and those it rejected."""

    seconds: Mapping[str, float]
    precision: str | None
    disagreed: list[tuple[str, float]]


class NotSeen(BadRequest):
    """A worker does not see the files."""


class Worker:
    """Reads, decodes and embeds files; lives on one machine of the cluster."""

    def __init__(self, model: str, options: Options, known: Hashes, threads: int) -> None:
        self._model, self._options, self._known, self._threads = Model.from_json(model), options, known, threads
        self._decoders = Decoders(threads, self._model.preprocess)
        self._encoder: Encoder | None = None
        self._disagreed: list[tuple[str, float]] = []
        self._is_checked = False

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[tuple[Results, Note | None]]:
        """The contents and rows of files, each given as its path and the size that the scan saw."""
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
                if found and time.monotonic() - delivered > _DELIVER:
                    yield found, None
                    found, delivered = [], time.monotonic()
        disagreed, self._disagreed = self._disagreed, []
        yield found, Note(stages.seconds, self._encoder.precision if self._encoder else None, disagreed)

    def _load(self) -> Encoder:
        if self._encoder is None:
            self._encoder = encoder_for(
                self._model, self._options.device, self._options.precision, self._threads,
                lambda precision, cosine: self._disagreed.append((precision, cosine)),
            )  # fmt: skip
        return self._encoder

    def _read(self, file: tuple[int, bytes]) -> Contents:
        return read_file(file[1], self._is_known, self._decoders)

    def _is_known(self, content: bytes) -> bool:
        return is_among(content, self._known)


def is_among(content: bytes, known: Hashes) -> bool:
    """Whether a content hash is one of some sorted ones."""
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
    raise NotSeen(f"{os.fsdecode(files[0][0])} is not on the machine {platform.node()} as it is here")


class Remote(Generic[Item]):
    """One run over some files, on the cluster that the options name. Its workers end with the `with` block."""

    def __init__(
        self, model: Model, options: Options, stages: Stages, known: Hashes, worker: type[Worker] = Worker
    ) -> None:
        """`known` are the contents that have an embedding already. Raises what `cluster.ray.Workers` raises."""
        self._workers = cluster("Workers")(options.ray, options.workers, worker, (model.to_json(), options, known))
        self._stages = stages
        self.precision: str | None = None
        self.disagreed: list[tuple[str, float]] = []

    def __enter__(self) -> Remote[Item]:
        return self

    def __exit__(self, *error: Any) -> None:
        self._workers.__exit__(*error)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Each item with its contents and the unit rows (n, dim) of their images, as they are done; None when none is.

        Raises `NotSeen`, `EncodingFailed`, and what loading and running the model raise.
        """
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
        self.precision = note.precision or self.precision
        self.disagreed += note.disagreed
