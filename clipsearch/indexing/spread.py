"""Embedding on many machines: files are spread over the workers of a Ray cluster, and what is in them comes back.

Paths go out, not pixels: a worker reads, decodes and embeds as a run at home does, so that all machines need to see the
same files. Ray's actors are used as they are, not Ray Data, which gives no way to find the one file that kills its
worker. What a worker had when it died is done again; a batch that was under way, photo by photo.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array
from clipsearch.errors import BadArgument, BadRequest, ClipsearchError, EncodingFailed, first_line
from clipsearch.extras import needs
from clipsearch.images.sandbox import Decoders, usable_cores
from clipsearch.indexing.ahead import TICK
from clipsearch.indexing.options import Options
from clipsearch.indexing.pipeline import Pipeline, Stages
from clipsearch.indexing.read_file import Contents, read_file
from clipsearch.models.encoders import Encoder
from clipsearch.models.model import Model
from clipsearch.models.precision import encoder_for

Hashes = NDArray[np.uint64]  # (n, 2), the two halves of each, sorted

LOCAL = "local"
KILLS = "killed its worker twice"

_AT_ONCE = 64  # files of a batch
_AHEAD = 2  # batches that a worker has: one under way, one that waits
_LOOKED_AT = 16  # files of a worker's first batch, of which one at least must be as it is here
_TWICE = 2
_SECONDS = 5.0  # for a cluster to answer
_HAND_IN = 1.0  # seconds after which a worker answers what is done of a batch
_MOST_IN_A_ROW = 12  # workers that die while none does anything


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


class Done(NamedTuple):
    """What a worker answers: of each file its number in the batch, what is in it, and its rows; seconds of stages, the
    precision, and what it left.
    """

    files: list[tuple[int, Contents, Array | None]]
    seconds: Mapping[str, float]
    precision: str | None
    disagreed: list[tuple[str, float]]


class NotSeen(BadRequest):
    """A worker does not see the files."""


class Worker:
    """Reads, decodes and embeds files; lives on one machine of the cluster."""

    def __init__(self, model: str, options: Options, known: Hashes, threads: int) -> None:
        self._model, self._options, self._known, self._threads = Model.from_json(model), options, known, threads
        self._decoders = Decoders(self._model.preprocess, threads)
        self._encoder: Encoder | None = None
        self._disagreed: list[tuple[str, float]] = []
        self._is_checked = False

    def work(self, files: list[tuple[bytes, int]]) -> Iterator[Done]:
        """The contents of files, each a path and the size that the scan saw, and their rows; every few seconds some."""
        if not self._is_checked:
            _check(files[:_LOOKED_AT])
            self._is_checked = True
        stages = Stages()
        found: list[tuple[int, Contents, Array | None]] = []
        handed_in = time.monotonic()
        with Pipeline(self._load, self._read, self._is_known, stages, self._threads, self._options.batch_size) as run:
            for done in run.run((number, path) for number, (path, _) in enumerate(files)):
                if done is not None:
                    (number, _), contents, rows = done
                    found.append((number, contents, rows))
                if found and time.monotonic() - handed_in > _HAND_IN:
                    yield Done(found, {}, None, [])
                    found, handed_in = [], time.monotonic()
        disagreed, self._disagreed = self._disagreed, []
        yield Done(found, stages.seconds, self._encoder.precision if self._encoder else None, disagreed)

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
    """Whether a hash is one of those, which are sorted."""
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


class _Share(NamedTuple):
    """What a worker has of its machine."""

    threads: int
    gpus: int


class _Batch(NamedTuple, Generic[Item]):
    """What is left of a batch, by number, and the worker that has it."""

    items: dict[int, Item]
    worker: Any


class Spread(Generic[Item]):
    """One run over some files, on a cluster. When its `with` block ends, the workers end."""

    def __init__(
        self, model: Model, options: Options, stages: Stages, known: Hashes, worker: type[Worker] = Worker
    ) -> None:
        """`known` are the contents that have an embedding already.

        Raises `BadRequest` where the package is missing, `BadArgument` where there is no cluster.
        """
        self._ray = _connected(options)
        self._class = self._ray.remote(max_restarts=0, max_task_retries=0)(worker)
        self._arguments = (model.to_json(), options, self._ray.put(known))
        self._workers = {self._made(share): share for share in _shares(self._ray.nodes(), options.workers)}
        if not self._workers:
            raise EncodingFailed("no machine of the cluster has a core for a worker")
        self._stages = stages
        self._killed_by: Counter[bytes] = Counter()  # workers that did nothing but this file
        self._killed_in_a_row = 0
        self.precision: str | None = None
        self.disagreed: list[tuple[str, float]] = []

    def __enter__(self) -> Spread[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()  # which ends the workers too

    def _made(self, share: _Share) -> Any:
        where = self._class.options(num_cpus=share.threads, num_gpus=share.gpus)
        return where.remote(*self._arguments, share.threads)

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Contents, Array | None] | None]:
        """Each item with its contents and the unit rows (n, dim) of their images, as they are done; None when none is.

        Raises `NotSeen`, `EncodingFailed`, and what loading and running the model raise.
        """
        left = iter(items)
        again: deque[list[Item]] = deque()  # what dead workers had
        sent: dict[Any, _Batch[Item]] = {}  # in this order
        while self._send(left, again, sent):
            with self._stages("wait"):
                ready, _ = self._ray.wait(list(sent), timeout=TICK)
            if not ready:
                yield None
                continue
            batch = sent[ready[0]]
            try:
                done: Done = self._ray.get(next(ready[0]))
            except StopIteration:
                del sent[ready[0]]
            except self._ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise EncodingFailed(f"a worker of the cluster did not start: {_last_line(error)}") from None
                yield from self._bury(batch.worker, again, sent)
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            else:
                self._count(done)
                for number, contents, rows in done.files:
                    yield batch.items.pop(number), contents, rows

    def _send(self, left: Iterator[Item], again: deque[list[Item]], sent: dict[Any, _Batch[Item]]) -> bool:
        """Give every worker enough to do; says whether there is anything to wait for."""
        for worker in self._workers:
            while sum(batch.worker is worker for batch in sent.values()) < _AHEAD:
                items = again.popleft() if again else list(islice(left, _AT_ONCE))
                if not items:
                    break
                answers = worker.work.remote([(item.path, item.size) for item in items])
                sent[answers] = _Batch(dict(enumerate(items)), worker)
        return bool(sent)

    def _count(self, done: Done) -> None:
        self._killed_in_a_row = 0
        self._stages.add(done.seconds)
        self.precision = done.precision or self.precision
        self.disagreed += done.disagreed

    def _bury(
        self, dead: Any, again: deque[list[Item]], sent: dict[Any, _Batch[Item]]
    ) -> Iterator[tuple[Item, Contents, None]]:
        """Put another in its place. What it was doing is done photo by photo, what waited as it was."""
        self._killed_in_a_row += 1
        if self._killed_in_a_row > _MOST_IN_A_ROW:
            raise EncodingFailed("the workers of the cluster end whatever they are given")
        share = self._workers.pop(dead)
        self._workers[self._made(share)] = share
        refs = [ref for ref, batch in sent.items() if batch.worker is dead]
        doing, *waiting = [list(sent.pop(ref).items.values()) for ref in refs]
        again.extendleft(items for items in waiting if items)
        if len(doing) == 1:
            self._killed_by[doing[0].path] += 1
            if self._killed_by[doing[0].path] == _TWICE:
                yield doing[0], Contents(error=KILLS), None
                return
        again.extendleft([item] for item in doing)


def _connected(options: Options) -> Any:
    """Ray, connected to the cluster that is wanted, or to one made here."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with needs("ray"):
        import ray
    if hasattr(ray._private.worker, "print_to_stdstream"):  # says, whatever is asked for, that a worker died
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL + 1, "ignore_reinit_error": True}
    try:
        if options.ray == LOCAL:
            ray.init(num_cpus=usable_cores(), include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            _knock(options.ray or "")
            ray.init(address=options.ray, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise BadArgument("ray", f"names no cluster that answers, {options.ray}: {first_line(error)}") from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError or `ValueError` unless something answers: Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("write HOST:PORT or ray://HOST:PORT")
    socket.create_connection((place.hostname, place.port), _SECONDS).close()


def _shares(nodes: list[dict[str, Any]], wanted: int | None) -> list[_Share]:
    """What each worker has: a GPU with its share of the cores, or else all cores of a machine.

    Where a number of workers is wanted, they have as many cores each as they can, and there are no more than fit.
    """
    machines = [
        (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))) for node in nodes if node["Alive"]
    ]
    if wanted is None:
        return [
            _Share(max(1, cores // max(gpus, 1)), int(gpus > 0))
            for cores, gpus in machines
            for _ in range(min(max(gpus, 1), cores))
        ]
    with_gpu = sum(gpus for _, gpus in machines) >= wanted
    each = max(1, sum(cores for cores, _ in machines) // wanted)
    fit = [min(cores // each, gpus) if with_gpu else cores // each for cores, gpus in machines]
    return [_Share(each, int(with_gpu))] * min(wanted, sum(fit))


def _last_line(error: Exception) -> str:
    """The end of what Ray reports, which is where the cause stands."""
    return first_line(Exception(str(error).strip().splitlines()[-1]))


def _cause(error: Any) -> Exception:
    """What a worker has raised."""
    if isinstance(error.cause, ClipsearchError):
        return error.cause
    return EncodingFailed(f"a worker of the cluster failed: {first_line(error.cause)}")
