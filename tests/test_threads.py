"""Mapping functions over items in threads, in bounded memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clipsearch import threads
from clipsearch.threads import BoundedMap, ordered_map


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_results_come_in_order(pool) -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.2 if number == 0 else 0)
        return number * number

    assert list(ordered_map(pool, slow_first, range(20), 4)) == [number * number for number in range(20)]


def test_no_more_than_the_bound_is_taken_ahead(pool) -> None:
    taken = []
    results = ordered_map(pool, lambda number: number, (taken.append(number) or number for number in range(100)), 5)
    assert taken == []
    assert next(results) == 0
    assert len(taken) == 5
    assert next(results) == 1
    assert len(taken) == 6


def test_an_error_is_raised_in_its_place(pool) -> None:
    results = ordered_map(pool, lambda number: 1 // number, (2, 1, 0, 1), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_bounded_map_is_in_order_too(pool) -> None:
    results = BoundedMap(pool, lambda number: -number, range(10))
    found = []
    while results.fill(3):
        found.append(results.next())
    assert found == [(number, -number) for number in range(10)]


def test_a_slow_call_is_overtaken_and_the_caller_gets_control_back(pool, monkeypatch) -> None:
    monkeypatch.setattr(threads, "_PATIENCE", 0.05)
    monkeypatch.setattr(threads, "TICK", 0.05)
    release = threading.Event()
    results = BoundedMap(pool, lambda number: release.wait(30) if number == 0 else number, range(3))
    assert results.fill(3)
    assert [results.next(), results.next()] == [(1, 1), (2, 2)]
    assert results.fill(3)
    assert results.next() is None
    release.set()
    assert results.next() == (0, True)
    assert not results.fill(3)
