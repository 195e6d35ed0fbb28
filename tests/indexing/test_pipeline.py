"""The pipeline reads, decodes and embeds in parallel: in order, in bounded memory, each content once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from clipsearch import threads
from clipsearch.indexing import pipeline as pipeline_module
from clipsearch.indexing.pipeline import BATCH_ON_CPU, BATCH_ON_GPU, Pipeline, Stages, commit_regularly
from clipsearch.indexing.read_file import Contents


class Encoder:
    """The first pixel as a row; remembers who asked for what."""

    def __init__(self, device: str = "cpu", wait: Callable[[], object] = lambda: None) -> None:
        self.device, self.wait = device, wait
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        self.threads.add(threading.get_ident())
        self.wait()
        return pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError


def read(number: int) -> Contents:
    pixels = np.full((1, 2, 2, 3), number % 200, np.uint8)
    return Contents(str(number).encode(), pixels)


def pipeline(encoder: Encoder, read: Callable[[int], Contents] = read, **options: object) -> Pipeline[int]:
    options = {"is_indexed": lambda content: False, "stages": Stages(), "workers": 2, **options}
    return Pipeline(lambda: encoder, read, **options)


def all_of(run: Pipeline[int], items: Iterable[int]) -> list[tuple[int, Contents, np.ndarray | None]]:
    return [done for done in run.run(items) if done is not None]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_rows_come_in_the_order_of_the_items(count: int) -> None:
    encoder = Encoder()
    with pipeline(encoder) as run:
        found = [(item, contents.content, row) for item, contents, row in all_of(run, range(count))]
    assert [item for item, _, _ in found] == list(range(count))
    assert [content for _, content, _ in found] == [str(n).encode() for n in range(count)]
    assert [row.tolist() for _, _, row in found if row is not None] == [[[n % 200]] for n in range(count)]
    assert sum(encoder.batches) == count
    assert all(size == BATCH_ON_CPU for size in sorted(encoder.batches)[1:])


def test_each_content_is_embedded_once() -> None:
    encoder, seen = Encoder(), set()
    with pipeline(encoder, lambda n: read(n % 7), is_indexed=lambda content: content in seen) as run:
        rows = 0
        for done in run.run(range(500)):
            if done is not None:
                _, contents, row = done
                rows += row is not None
                assert (row is None) == (contents.content in seen)
                seen.add(contents.content)
    assert rows == 7
    assert sum(encoder.batches) == 7


def test_what_cannot_be_read_or_is_known_has_no_row() -> None:
    def some(number: int) -> Contents:
        return [Contents(error="broken"), Contents(b"known"), read(number)][number % 3]

    with pipeline(Encoder(), some) as run:
        rows = {item: row is not None for item, _, row in all_of(run, range(99))}
    assert rows == {number: number % 3 == 2 for number in range(99)}


@pytest.mark.parametrize("known", [False, True])
def test_a_bounded_number_of_files_is_in_memory(known: bool) -> None:
    begun, given, most = 0, 0, 0

    def counted(number: int) -> Contents:
        nonlocal begun
        begun += 1
        return Contents(b"known") if known and number else read(number)

    with pipeline(Encoder(), counted) as run:
        for done in run.run(range(5000)):
            given += done is not None
            most = max(most, begun - given)
    assert given == 5000
    assert most <= 2 * 64 + 2 + 4 * BATCH_ON_CPU


def test_on_a_cpu_batches_are_embedded_side_by_side() -> None:
    meet = threading.Barrier(2, timeout=30)  # breaks unless two threads embed at once
    encoder = Encoder(wait=meet.wait)
    with pipeline(encoder) as run:
        assert sum(row is not None for _, _, row in all_of(run, range(4 * BATCH_ON_CPU))) == 4 * BATCH_ON_CPU
    assert len(encoder.threads) == 2


def test_a_gpu_gets_larger_batches_from_one_thread() -> None:
    encoder = Encoder("cuda")
    with pipeline(encoder) as run:
        assert sum(row is not None for _, _, row in all_of(run, range(1000))) == 1000
    assert encoder.batches == [BATCH_ON_GPU] * (1000 // BATCH_ON_GPU) + [1000 % BATCH_ON_GPU]
    assert len(encoder.threads) == 1


def test_the_model_is_loaded_once_and_only_for_what_is_new() -> None:
    loaded = []

    def load() -> Encoder:
        loaded.append(1)
        return Encoder()

    for known, times in ((True, 0), (False, 1)):
        with Pipeline(load, read, lambda content, known=known: known, Stages(), 2) as run:
            assert len(all_of(run, range(100))) == 100
        assert len(loaded) == times


@pytest.mark.parametrize("where", ["load", "read", "encode"])
def test_an_error_ends_the_run(where: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(where)

    begun = []

    def counted(number: int) -> Contents:
        begun.append(number)
        if where == "read" and number == 40:
            fail()
        return read(number)

    encoder = Encoder(wait=fail if where == "encode" else lambda: None)
    run = Pipeline(fail if where == "load" else lambda: encoder, counted, lambda content: False, Stages(), 2)
    with pytest.raises(RuntimeError, match=where), run:
        list(run.run(range(5000)))
    assert len(begun) < 1000


def test_what_was_not_begun_is_not_done_when_a_run_is_left() -> None:
    begun = []

    def counted(number: int) -> Contents:
        begun.append(number)
        return read(number)

    with pipeline(Encoder(), counted) as run:
        next(run.run(range(5000)))
    assert len(begun) < 1000


# ------------------------------------------------------------------------------------------ commits


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, [1, "commit", 2, "commit", "commit", 3, "commit", "commit"]), (1000.0, [1, 2, "commit", 3, "commit"])],
)
def test_results_are_committed_regularly_when_idle_and_at_the_end(
    seconds: float, expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "COMMIT_SECONDS", seconds)
    seen: list[object] = []
    for result in commit_regularly([1, 2, None, 3], lambda: seen.append("commit")):
        seen.append(result)  # stored before it is committed
    assert seen == expected


# ------------------------------------------------------------------------------------------ slow files


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits for a slow file, and until the caller gets control back, to a fifth."""
    for name in ("_PATIENCE", "TICK"):
        monkeypatch.setattr(threads, name, getattr(threads, name) / 5)


class Slow:
    """Reads some numbers only when it is told to."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.go_on = set(numbers), threading.Event()

    def __call__(self, number: int) -> Contents:
        if number in self.numbers:
            assert self.go_on.wait(60)
        return read(number % 1000)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("slow", "before"),
    [({0}, set(range(1, 40))), ({7, 9}, set(range(7)) | {8}), ({20, 21}, set(range(20)))],
    ids=["first", "both threads", "both threads and a batch"],
)
def test_a_slow_file_holds_up_nothing_but_itself(slow: set[int], before: set[int]) -> None:
    """Where both threads wait for such files, what was read before is embedded in the caller's."""
    reading, given, until_then = Slow(*slow), set(), set()
    with pipeline(Encoder(), reading, workers=2) as run:
        for done in run.run(range(40)):
            if done is not None:
                given.add(done[0])
            elif given >= before and not until_then:
                until_then = set(given)
                reading.go_on.set()
    assert until_then == before
    assert given == set(range(40))


@pytest.mark.usefixtures("_impatient")
def test_the_caller_is_told_when_there_is_nothing_to_do() -> None:
    reading = Slow(0)
    with pipeline(Encoder(), reading) as run:
        found = run.run([0])
        assert next(found) is None
        reading.go_on.set()
        assert [done[0] for done in found if done is not None] == [0]


@pytest.mark.usefixtures("_impatient")
def test_what_has_the_contents_of_a_slow_file_comes_before_it_and_has_the_row() -> None:
    reading, seen, order = Slow(0), set(), []
    with pipeline(Encoder(), reading, is_indexed=lambda content: content in seen) as run:
        for done in run.run([0, 1000, 1, 2000]):
            if done is None:
                reading.go_on.set()
            else:
                item, contents, rows = done
                order.append((item, rows is not None))
                seen.add(contents.content)
    assert order == [(1000, True), (2000, False), (1, True), (0, False)]


@pytest.mark.usefixtures("_impatient")
def test_slow_files_do_not_fill_the_memory() -> None:
    reading, begun = Slow(0), []

    def counted(number: int) -> Contents:
        begun.append(number)
        return reading(number)

    with pipeline(Encoder(), counted) as run:
        given = 0
        for done in run.run(range(3000)):
            given += done is not None
            assert len(begun) - given <= 2 * 64 + 2 + 4 * BATCH_ON_CPU
            if given == 2999:
                reading.go_on.set()
    assert given == 3000
