"""Spread work over a Ray cluster: batches of items go to workers, results come back one by one.

Uses Ray's actors rather than Ray Data, which cannot tell which item kills its worker. When a worker dies, its
batches are done again by a new one: the batch it was working on item by item, so that a deadly item is found.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import clipsearch
from clipsearch.errors import BadArgument, ClipsearchError, EncodingFailed, first_line
from clipsearch.extras import needs
from clipsearch.threads import TICK, usable_cores

LOCAL = "local"  # the address that means a cluster of this machine alone

_BATCH = 64  # items
_AHEAD = 2  # batches a worker has: one in progress, one waiting
_MAX_KILLS = 2  # workers that an item may kill before it is given up
_MAX_KILLS_IN_A_ROW = 12  # workers that may die before any of them delivers something
_CONNECT_SECONDS = 5.0

Item = TypeVar("Item", bound=Hashable)


class _Share(NamedTuple):
    """What a worker gets of its machine."""

    threads: int
    gpus: int


class _Actor:
    """Runs a worker on one machine. The caller asks for answers one by one: Ray's client cannot wait for generators."""

    def __init__(self, worker: type, *arguments: Any) -> None:
        self._worker = worker(*arguments)
        self._batches: deque[list[Any]] = deque()
        self._answers: Iterator[Any] | None = None

    def put(self, batch: list[Any]) -> None:
        self._batches.append(batch)

    def more(self) -> Any:
        """The next answer of the oldest batch; None when that batch is done."""
        if self._answers is None:
            self._answers = self._worker.work(self._batches.popleft())
        answer = next(self._answers, None)
        if answer is None:
            self._answers = None
        return answer


@dataclass(slots=True, eq=False)
class _Hand(Generic[Item]):
    """A worker, the batches it has (without the items that are done), and the answers it has been asked for."""

    actor: Any
    share: _Share
    batches: deque[dict[int, Item]] = field(default_factory=deque)
    answers: deque[Any] = field(default_factory=deque)


class Workers(Generic[Item]):
    """Workers on every machine of a cluster. They end with the `with` block.

    A worker class takes the `arguments` and the number of threads it may use. Its `work(batch)` yields, every few
    seconds, a list of results, each with the number of its item in the batch, and a note for the caller or None.
    """

    def __init__(self, address: str, count: int | None, worker: type, arguments: tuple[Any, ...]) -> None:
        """`count` is the number of workers; by default one per GPU, or one per machine.

        Raises `BadRequest` when Ray is not installed, `BadArgument` when no cluster answers.
        """
        self._ray = _connect(address)
        self._class = self._ray.remote(max_restarts=0, max_task_retries=0)(_Actor)
        self._arguments = [worker, *(self._ray.put(argument) for argument in arguments)]
        self._hands: list[_Hand[Item]] = [self._start(share) for share in _shares(self._ray.nodes(), count)]
        if not self._hands:
            raise EncodingFailed("no machine of the cluster has a core for a worker")
        self._again: deque[list[Item]] = deque()  # what dead workers had
        self._kills: Counter[Item] = Counter()  # by items that were alone with their worker
        self._kills_in_a_row = 0

    def __enter__(self) -> Workers[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()  # ends the workers too

    def _start(self, share: _Share) -> _Hand[Item]:
        actor = self._class.options(num_cpus=share.threads, num_gpus=share.gpus)
        return _Hand(actor.remote(*self._arguments, share.threads), share)

    def run(
        self, items: Iterable[Item], sent: Callable[[Item], Any], on_note: Callable[[Any], None]
    ) -> Iterator[tuple[Item, Any] | None]:
        """Each item with its result, in the order of completion; the result of an item that kills workers is None.

        `sent` makes what a worker gets for an item. Yields None instead when nothing is done for half a second.
        Raises the `ClipsearchError` that a worker raised, and `EncodingFailed` for other failures.
        """
        left = iter(items)
        while waiting := self._send(left, sent):
            ready, _ = self._ray.wait(list(waiting), timeout=TICK)
            if not ready:
                yield None
                continue
            hand = waiting[ready[0]]
            try:
                answer = self._ray.get(hand.answers.popleft())
            except self._ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise EncodingFailed(f"a worker of the cluster did not start: {_last_line(error)}") from None
                yield from self._replace(hand)
                continue
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            self._kills_in_a_row = 0
            if answer is None:
                hand.batches.popleft()
                continue
            hand.answers.append(hand.actor.more.remote())
            results, note = answer
            if note is not None:
                on_note(note)
            for number, result in results:
                yield hand.batches[0].pop(number), result

    def _send(self, left: Iterator[Item], sent: Callable[[Item], Any]) -> dict[Any, _Hand[Item]]:
        """Keep every worker busy. Returns the next answer of each that has something to do."""
        for hand in self._hands:
            while len(hand.batches) < _AHEAD:
                items = self._again.popleft() if self._again else list(islice(left, _BATCH))
                if not items:
                    break
                hand.batches.append(dict(enumerate(items)))
                hand.actor.put.remote([sent(item) for item in items])
                hand.answers.append(hand.actor.more.remote())
        return {hand.answers[0]: hand for hand in self._hands if hand.answers}

    def _replace(self, dead: _Hand[Item]) -> Iterator[tuple[Item, None]]:
        """Start another worker and queue what the dead one had: the current batch item by item, the next as it was."""
        self._kills_in_a_row += 1
        if self._kills_in_a_row > _MAX_KILLS_IN_A_ROW:
            raise EncodingFailed("every worker of the cluster dies, on any photo")
        self._hands[self._hands.index(dead)] = self._start(dead.share)
        current, *waiting = [list(batch.values()) for batch in dead.batches]
        self._again.extendleft(items for items in waiting if items)
        if len(current) == 1:
            self._kills[current[0]] += 1
            if self._kills[current[0]] == _MAX_KILLS:
                yield current[0], None
                return
        self._again.extendleft([item] for item in current)


def _connect(address: str) -> Any:
    """Ray, connected to the cluster at an address; `LOCAL` starts one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"  # print nothing: Ray reports dead workers on stdout
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with needs("ray"):
        import ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL + 1, "ignore_reinit_error": True}
    try:
        if address == LOCAL:
            only_here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            ray.init(address="local", num_cpus=usable_cores(), **only_here, **quiet)
        else:
            _knock(address)
            # Other machines need only the packages that clipsearch depends on; they run the code of this one.
            code = {"py_modules": [str(Path(clipsearch.__file__).parent)]}
            ray.init(address=address, runtime_env=code, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise BadArgument("ray", f"names no cluster that answers, {address}: {first_line(error)}") from None
    return ray


def _knock(address: str) -> None:
    """Raise `OSError` or `ValueError` unless something answers: Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("write HOST:PORT or ray://HOST:PORT")
    socket.create_connection((place.hostname, place.port), _CONNECT_SECONDS).close()


def _shares(nodes: list[dict[str, Any]], wanted: int | None) -> list[_Share]:
    """One worker per GPU with an equal share of the cores, or one per machine without GPUs.

    A `wanted` number of workers divides all cores evenly; fewer start if they do not fit.
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
    """The line with the cause, which Ray puts last."""
    return first_line(Exception(str(error).strip().splitlines()[-1]))


def _cause(error: Any) -> Exception:
    """The exception that a worker raised."""
    if isinstance(error.cause, ClipsearchError):
        return error.cause
    return EncodingFailed(f"a worker of the cluster failed: {first_line(error.cause)}")
