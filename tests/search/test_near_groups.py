"""Groups of near rows against all pairs, one by one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.search import duplicates
from clipsearch.search.duplicates import TIE, NearGroup, near_groups


def unit(rows: np.ndarray) -> np.ndarray:
    """Unit rows as the catalogue gives them: rounded to fp16, made unit rows again; zero rows stay zero."""
    rows = np.asarray(rows, np.float64)
    rows = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float16).astype(np.float32)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def photo_like(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """As image embeddings lie: around a mean, in some directions more than in others."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(n, dim)) * np.arange(1, dim + 1) ** -0.5
    return unit(rng.normal(size=dim) / np.sqrt(dim) + spread / np.sqrt((np.arange(1, dim + 1) ** -1.0).sum()))


def near(row: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """A row at a cosine from a unit row."""
    away = np.random.default_rng(seed).normal(size=len(row))
    away -= (away @ row) * row
    return cosine * row + np.sqrt(1 - cosine**2) * away / np.linalg.norm(away)


def reference(rows: np.ndarray, threshold: float) -> list[NearGroup]:
    free = np.ones(len(rows), bool)
    groups = []
    for head, row in enumerate(rows):
        if free[head]:
            cosines = np.einsum("nd,d->n", rows, row)
            free[: head + 1] = False
            members = np.flatnonzero(free & (cosines >= threshold - TIE)).tolist()
            members.sort(key=lambda n: (-cosines[n], n))
            free[members] = False
            if members:
                groups.append(NearGroup(head, members, cosines[members].tolist()))
    return groups


@pytest.fixture
def always_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_SMALL", 0)


@pytest.fixture(params=["whole rows", "shortened rows"])
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small cases through both of the ways that small and large ones take."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "shortened rows":
            patch.setattr(duplicates, "_SMALL", 0)
            patch.setattr(duplicates, "_SHORT", 2)
            patch.setattr(duplicates, "_FEW", 1)
        patch.setattr(duplicates, "_PAIRS", 5)
        yield


def test_any_rows_are_grouped_as_all_pairs_say(either_way: None) -> None:
    @settings(max_examples=200, deadline=None)
    @given(
        n=st.integers(0, 30),
        dim=st.integers(1, 12),
        kinds=st.integers(1, 12),
        noise=st.sampled_from([0.0, 1e-4, 0.05, 0.3]),
        zeros=st.sampled_from([0.0, 0.2]),
        threshold=st.sampled_from([1.0, 0.9999, 0.99, 0.9, 0.5, 0.0, -0.3, -1.0]),
        block=st.integers(1, 9),
        seed=st.integers(0, 10_000),
    )
    def run(n: int, dim: int, kinds: int, noise: float, zeros: float, threshold: float, block: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(kinds, dim))[rng.integers(kinds, size=n)] + noise * rng.normal(size=(n, dim))
        rows[rng.random(n) < zeros] = 0
        rows = unit(rows)
        assert near_groups(rows, threshold, block=block) == reference(rows, threshold)

    run()


@pytest.mark.parametrize("n", [6, 7, 8, 14, 15, 60])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
def test_blocks_make_no_difference(either_way: None, n: int, threshold: float) -> None:
    rows = photo_like(n, 16)
    expected = reference(rows, threshold)
    assert all(near_groups(rows, threshold, block=block) == expected for block in (1, 7, 2048))


@pytest.mark.parametrize("few", [0.0, duplicates._FEW, 1.0])
def test_planted_groups_are_found_among_3000(
    always_shortened: None, monkeypatch: pytest.MonkeyPatch, few: float
) -> None:
    monkeypatch.setattr(duplicates, "_FEW", few)
    rows = photo_like(3000, 192)
    rng = np.random.default_rng(1)
    places = rng.permutation(3000)[:600].reshape(150, 4)
    for group in places:
        group.sort()
        for number in group[1:]:
            rows[number] = near(rows[group[0]], rng.uniform(0.96, 0.9999), number)
    rows = unit(rows)
    found = near_groups(rows, 0.95, block=700)
    assert found == reference(rows, 0.95)
    assert sorted([group.head, *sorted(group.members)] for group in found) == sorted(places.tolist())


class Elsewhere:
    """Rows that are read when they are asked for; counts how many at once, and how many in all."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows, self.shape = rows, rows.shape
        self.read: list[int] = []

    def __getitem__(self, which: np.ndarray, /) -> np.ndarray:
        self.read.append(len(which))
        return self._rows[which]


def test_rows_that_lie_elsewhere_are_never_all_in_memory(
    always_shortened: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_SAMPLE", 512)
    rows = photo_like(3000, 192)
    rows[2000:2050] = rows[:50]
    rows[70] = np.nan
    elsewhere = Elsewhere(rows)
    order = np.random.default_rng(0).permutation(3000)
    assert near_groups(elsewhere, 0.99, block=500, order=order) == reference(rows, 0.99)
    assert max(elsewhere.read) <= 1024
    assert sum(elsewhere.read) < 2 * 3000


def test_few_pairs_are_multiplied_whole(always_shortened: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(*arguments: np.ndarray) -> np.ndarray:
        found.append(len(real(*arguments)))
        return real(*arguments)

    found: list[int] = []
    real = duplicates._Claims._candidates
    monkeypatch.setattr(duplicates._Claims, "_candidates", spy)
    monkeypatch.setattr(duplicates, "_FEW", 1)
    assert near_groups(photo_like(3000, 512), 0.9) == []
    assert sum(found) < 3000 + 3000**2 / 2 / 10_000  # each row meets itself


def test_grouped_rows_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(claims: object, heads: np.ndarray, others: np.ndarray) -> np.ndarray:
        compared.append(len(heads) * len(others))
        return real(claims, heads, others)

    compared: list[int] = []
    real = duplicates._Claims._candidates
    monkeypatch.setattr(duplicates._Claims, "_candidates", spy)
    near_groups(np.repeat(photo_like(1, 64), 2000, axis=0), 0.95, block=100)
    assert sum(compared) == 100 * 100 + 1900


def test_products_of_shortened_rows_are_at_least_the_cosines() -> None:
    rows = np.concatenate([photo_like(500, 200), photo_like(3, 200, seed=9), np.zeros((1, 200), np.float32)])
    rows = np.concatenate([rows, rows[:100]])
    short = duplicates._shortened(rows, np.arange(len(rows)))
    assert short.shape == (len(rows), duplicates._SHORT + 1)
    assert (short @ short.T >= rows @ rows.T - 4 * 200 * 2.0**-24).all()


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def members(rows: np.ndarray, degrees: float) -> list[tuple[int, list[int]]]:
    return [(group.head, group.members) for group in near_groups(rows, float(np.cos(np.deg2rad(degrees))))]


def test_a_member_is_near_its_head_not_only_near_a_member() -> None:
    assert members(at_angles(0, 10, 20, 30), 12) == [(0, [1]), (2, [3])]
    assert members(at_angles(0, 10, 20), 12) == [(0, [1])]


def test_the_row_that_comes_first_is_the_head() -> None:
    assert members(at_angles(10, 0, 20), 12) == [(0, [1, 2])]
    assert members(at_angles(50, 0, 20, 10, 58), 12) == [(0, [4]), (1, [3])]  # 10 is as near to 20, which comes later


def test_the_nearest_member_comes_first_and_among_equals_the_lower_number() -> None:
    [group] = near_groups(at_angles(0, 8, 3, 8, 1, 3), 0.9)
    assert group.members == [4, 2, 5, 1, 3]
    np.testing.assert_allclose(group.cosines, np.cos(np.deg2rad([1, 3, 3, 8, 8])), atol=1e-6)


@pytest.mark.parametrize("dim", [64, 256, 512, 768, 1024])
def test_identical_rows_are_near_at_a_threshold_of_1(dim: int) -> None:
    rows = photo_like(100, dim)
    twice = np.concatenate([rows, rows])
    assert [(group.head, group.members) for group in near_groups(twice, 1.0)] == [
        (n, [n + len(rows)]) for n in range(len(rows))
    ]


def test_the_threshold_itself_is_near_and_what_rounding_cannot_explain_is_not() -> None:
    rows = photo_like(2, 512)
    cosine = float(np.einsum("d,d->", *rows))
    assert near_groups(rows, cosine) == [NearGroup(0, [1], [cosine])]
    assert near_groups(rows, cosine + TIE / 2) == [NearGroup(0, [1], [cosine])]
    assert near_groups(rows, cosine + 2 * TIE) == []


def test_rows_that_say_nothing_are_in_no_group(either_way: None) -> None:
    rows = photo_like(40, 16)
    rows[20:] = rows[:20]
    expected = near_groups(rows, 0.99, block=7)
    empty = np.zeros((9, 16), np.float32)
    empty[3:5], empty[5:7, 0], empty[7:, 3] = np.nan, np.inf, -np.inf
    assert near_groups(np.concatenate([rows, empty]), 0.99, block=7) == expected
    assert near_groups(empty, 0.99) == []
    assert near_groups(empty, 0.0) == [NearGroup(0, [1, 2], [0.0, 0.0])]


@pytest.mark.parametrize("n", [0, 1])
def test_without_two_rows_there_is_no_group(n: int) -> None:
    assert near_groups(photo_like(n, 8), -1.0) == []


def test_the_rows_stay_as_they_were() -> None:
    rows = photo_like(50, 16)
    rows.flags.writeable = False
    assert near_groups(rows, 0.5) == reference(rows, 0.5)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_large_group_takes_no_memory_for_its_pairs(threshold: float) -> None:
    rows = np.repeat(photo_like(1, 256), 20_000, axis=0)
    [group], peak = grouped_with_peak(rows, threshold)
    assert (group.head, group.members) == (0, list(range(1, 20_000)))
    assert peak < 90e6  # bytes, for 200 million pairs


def test_many_pairs_that_are_nearly_near_take_no_memory_either() -> None:
    _, peak = grouped_with_peak(photo_like(9_000, 256), 0.6)
    assert peak < 90e6


def grouped_with_peak(rows: np.ndarray, threshold: float) -> tuple[list[NearGroup], int]:
    tracemalloc.start()
    try:
        return near_groups(rows, threshold), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
