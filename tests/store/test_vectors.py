"""Nearest neighbours compared with brute force, with segments in every state."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import IndexUnusable
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.store import nearest, segments, vectors
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Segment

DIM = 64
SMALL, LARGE = 300, 20_000


@pytest.fixture(scope="module", autouse=True)
def every_segment_is_used() -> Iterator[None]:
    """Also of small indexes, by their codes, and written after every change; no segment is large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "SMALL", 0)
        patch.setattr(nearest, "EXACT", 0)
        patch.setattr(nearest, "_CANDIDATES", 20)
        patch.setattr(nearest, "_FACTOR", 1)
        patch.setattr(nearest, "_MARGIN", 4)
        patch.setattr(vectors, "SEGMENT_BYTES", 2 * DIM * 6_000)
        yield


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How segments were scanned, each time."""
    return counted(monkeypatch)


def counted(patch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def spy(search: Any, query: Any, count: int, *, exact: bool) -> Any:
        calls.append("rows" if exact else "codes")
        return real(search, query, count, exact=exact)

    real = nearest.Search._scan
    patch.setattr(nearest.Search, "_scan", spy)
    return calls


def unit_rows(n: int, seed: int) -> np.ndarray:
    """As image embeddings lie: around a mean that is most of their length."""
    mean = np.random.default_rng(0).normal(size=DIM)
    rows = mean / np.linalg.norm(mean) + 0.12 * np.random.default_rng(seed).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def text_like(seed: int) -> np.ndarray:
    """As text embeddings lie: across a gap from the images, their cosines small and close together."""
    across = np.random.default_rng(99).normal(size=DIM)
    row = across / np.linalg.norm(across) + 0.05 * np.random.default_rng(seed).normal(size=DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


def add(store: Store, rows: np.ndarray) -> list[int]:
    roots = store.roots()
    root = roots[0] if roots else store.folders.add(b"/photos", Rules())
    ids = []
    for row in rows:
        number = store.database.execute("SELECT coalesce(max(id), 0) FROM photos").fetchone()[0] + 1
        name = b"%d.jpg" % number
        ids.append(store.images.add(name, Metadata(1, 1), row))
        store.photos.put(root, FoundFile(name, 1, 1), ids[-1], None)
    store.commit()
    return ids


def drop(store: Store, ids: Iterable[int]) -> None:
    [root] = store.roots()
    found = store.photos_of(ids)
    store.photos.remove(root, [photo.file.removeprefix(b"/photos/") for photo in found])
    store.prune()
    store.commit()


def stored(store: Store) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(store.images.embeddings())
    if not blocks:
        return np.empty(0, np.int64), np.empty((0, DIM))
    return np.concatenate([ids for ids, _ in blocks]), np.concatenate([rows for _, rows in blocks]).astype(np.float64)


def assert_nearest(store: Store, query: np.ndarray, k: int, only: np.ndarray | None = None, **how: bool) -> None:
    """`top_k` gives what sorting all products gives; it may swap two rows only where rounding to fp32 decides."""
    ids, scores = store.vectors.nearest(query, k, only, **how)
    all_ids, rows = stored(store)
    if only is not None:
        chosen = np.isin(all_ids, only)
        all_ids, rows = all_ids[chosen], rows[chosen]
    exact = rows @ query.astype(np.float64)
    best = np.lexsort((all_ids, -exact))[:k]
    assert len(ids) == len(scores) == len(best) == len(set(ids.tolist()))
    np.testing.assert_allclose(scores, exact[best], atol=1e-6, rtol=0)
    at = np.searchsorted(all_ids, ids)
    assert np.array_equal(all_ids[at], ids)
    swapped = ids != all_ids[best]
    gaps = np.abs(exact[at] - exact[best])[swapped]
    assert ((gaps > 0) & (gaps < 1e-6)).all()
    assert scores.dtype == np.float32


@pytest.fixture(scope="module")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "index"
    with Store.create(folder, "a model", DIM) as store:
        add(store, unit_rows(SMALL, 1))
        store.vectors.update()
    return folder


@pytest.fixture(scope="module")
def large_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "index"
    with Store.create(folder, "a model", DIM) as store:
        root = store.folders.add(b"/photos", Rules())
        for n, row in enumerate(unit_rows(LARGE, 2)):
            name = b"%d.jpg" % n
            image_id = store.images.add(name, Metadata(1, 1), row)
            store.photos.put(root, FoundFile(name, 1, 1), image_id, None)
        store.commit()
        store.vectors.update()
    return folder


Opened = Callable[[Path], Store]


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[Opened]:
    """Opens a copy of an index for writing."""
    opened: list[Store] = []

    def copy(folder: Path) -> Store:
        shutil.copytree(folder, tmp_path / "copy")
        opened.append(Store.open(tmp_path / "copy", write=True))
        return opened[-1]

    yield copy
    for store in opened:
        store.close()


def vector_files(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.name.startswith("vectors-"))


def recorded(store: Store) -> list[Segment]:
    found = store.vectors.segments()
    assert found is not None
    return found


def write_all_anew(store: Store) -> None:
    assert store.vectors.update(recorded(store))


# ------------------------------------------------------------------------------------------ top_k


def test_every_k_gives_what_brute_force_gives(small_index: Path, scans: list[str]) -> None:
    with Store.open(small_index) as store:
        for k in range(1, SMALL + 6):
            assert_nearest(store, text_like(k), k)
    assert scans.count("codes") >= 30
    assert "rows" in scans  # where the codes would leave little out


@pytest.mark.parametrize("k", [1, 2, 10, 100, 1000, LARGE])
def test_a_large_index_gives_what_brute_force_gives(large_index: Path, scans: list[str], k: int) -> None:
    with Store.open(large_index) as store:
        assert len(recorded(store)) == 4
        assert_nearest(store, text_like(k), k)
        assert_nearest(store, unit_rows(1, 1000 + k)[0], k)
    assert ("codes" in scans) == (k < LARGE // 8)


def test_every_row_is_looked_at_where_that_is_asked_for(large_index: Path, scans: list[str]) -> None:
    with Store.open(large_index) as store:
        for k in (1, 10, 3000):
            assert_nearest(store, text_like(k), k, exact=True)
    assert scans == ["rows"] * 3


def test_a_few_rows_more_than_a_small_index_has_are_scanned_by_themselves(
    small_index: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "EXACT", SMALL)
    with Store.open(small_index) as store:
        assert_nearest(store, text_like(1), 10)
    assert scans == ["rows"]


def test_a_scan_is_widened_until_its_error_is_too_small_to_matter(
    large_index: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = segments.Reader.scores

    def disturbed(self: Any, query: Any, chosen: Any = None, *, exact: bool) -> Any:
        rng = np.random.default_rng(0)
        for start, block in real(self, query, chosen, exact=exact):
            yield start, block if exact else block + rng.normal(0, 0.02, len(block)).astype(np.float32)

    monkeypatch.setattr(segments.Reader, "scores", disturbed)
    with Store.open(large_index) as store:
        for seed in range(5):
            assert_nearest(store, text_like(seed), 10)
    assert len(scans) > 5


def test_more_copies_than_candidates_are_ordered_by_id(writable: Opened, large_index: Path, scans: list[str]) -> None:
    store = writable(large_index)
    query = text_like(1)
    copies = add(store, np.tile(query, (200, 1)))
    write_all_anew(store)
    ids, scores = store.vectors.nearest(query, 10)
    assert ids.tolist() == copies[:10]
    assert len(set(scores.tolist())) == 1
    assert len(scans) > 1


def test_a_tail_that_is_in_no_segment_is_found(large_index: Path, writable: Opened, scans: list[str]) -> None:
    store = writable(large_index)
    query = text_like(7)
    near = query + 0.01 * unit_rows(30, 3)
    tail = add(store, near / np.linalg.norm(near, axis=1, keepdims=True))
    add(store, unit_rows(50, 4))
    ids, _ = store.vectors.nearest(query, 30)
    assert set(ids.tolist()) == set(tail)
    for k in (1, 29, 31, 200):
        assert_nearest(store, query, k)
    assert len(scans) >= 5


def test_rows_that_went_since_a_segment_was_written_are_not_found(
    large_index: Path, writable: Opened, scans: list[str]
) -> None:
    store = writable(large_index)
    query = text_like(8)
    best, _ = store.vectors.nearest(query, 150)
    drop(store, best.tolist())
    ids, _ = store.vectors.nearest(query, 100)
    assert not set(ids.tolist()) & set(best.tolist())
    for k in (1, 10, 200):
        assert_nearest(store, query, k)
        assert_nearest(store, query, k, exact=True)
    assert len(scans) >= 8


@pytest.mark.parametrize("count", [0, 1, 5, 400, 10_000])
def test_a_choice_of_ids_is_kept_to(large_index: Path, writable: Opened, count: int) -> None:
    store = writable(large_index)
    drop(store, range(1, 100, 3))
    write_all_anew(store)  # from here on, ids of the first segment have gaps
    drop(store, range(2, 100, 3))
    add(store, unit_rows(40, 5))
    ids, _ = stored(store)
    only = np.sort(np.random.default_rng(count).choice(ids, count, replace=False))
    for k in (1, 10, 300):
        assert_nearest(store, text_like(k), k, only)
        assert_nearest(store, text_like(k), k, only, exact=True)


def test_ties_are_ordered_by_id(writable: Opened, small_index: Path, scans: list[str]) -> None:
    store = writable(small_index)
    query = text_like(1)
    in_segment = add(store, np.tile(query, (6, 1)))
    write_all_anew(store)
    in_tail = add(store, np.tile(query, (6, 1)))
    drop(store, [in_segment[2]])
    ids, scores = store.vectors.nearest(query, 20)
    assert ids[:11].tolist() == [i for i in in_segment + in_tail if i != in_segment[2]]
    assert len(set(scores[:11].tolist())) == 1
    for k in (1, 3, 11, 20):
        assert_nearest(store, query, k)
    assert len(scans) >= 5


def test_an_empty_store_has_no_neighbours(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        for _ in range(2):
            ids, scores = store.vectors.nearest(text_like(1), 5)
            assert len(ids) == len(scores) == 0
            assert not store.vectors.update()
        assert recorded(store) == []


@pytest.mark.parametrize("dim", [1, 5, 24, 768])
def test_rows_of_any_length_are_searched(tmp_path: Path, scans: list[str], dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(400, dim)).astype(np.float32)
    with Store.create(tmp_path / "index", "a model", dim) as store:
        add(store, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        store.vectors.update()
        for row in rng.normal(size=(4, dim)).astype(np.float32):
            assert_nearest(store, row / np.linalg.norm(row), 3)
        assert store.vectors.damaged() == []
    assert "codes" in scans


class Sequence:
    """A store under a sequence of actions, and what the actions need to know of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seed = 0

    def add(self, count: int) -> None:
        self.seed += 1
        add(self.store, unit_rows(count, 10_000 + self.seed))

    def remove(self, share: int) -> None:
        self.seed += 1
        ids, _ = stored(self.store)
        drop(self.store, np.random.default_rng(self.seed).choice(ids, len(ids) * share // 100, replace=False).tolist())

    def refresh(self, number: int) -> None:
        self.store.vectors.update((self.store.vectors.segments() or [])[: number % 3])
        assert self.store.vectors.damaged() == []

    def query(self, k: int) -> None:
        self.seed += 1
        ids, _ = stored(self.store)
        assert_nearest(self.store, text_like(self.seed), k)
        assert_nearest(self.store, text_like(self.seed), k, ids[ids % 3 == 0])


ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "remove", "refresh", "query"]), st.integers(1, 60)), max_size=12)


def test_any_sequence_of_changes_gives_what_brute_force_gives(small_index: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = counted(patch)

        @examples(25)
        @given(actions=ACTIONS)
        def run(actions: list[tuple[str, int]]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(small_index, Path(folder) / "index")
                with Store.open(Path(folder) / "index", write=True) as store:
                    sequence = Sequence(store)
                    for action, number in [*actions, ("query", 9)]:
                        getattr(sequence, action)(number)

        run()
        assert calls


# ------------------------------------------------------------------------------------------ a segment that is not right


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def garble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def clear(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def rename(path: Path) -> None:
    path.rename(path.with_name("vectors-99.faiss"))


def put_a_folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [remove, cut, lengthen, garble, clear, rename, put_a_folder_there])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_without_a_sound_segment_the_answers_are_the_same(
    large_index: Path, writable: Opened, harm: Callable[[Path], None], number: int
) -> None:
    store = writable(large_index)
    add(store, unit_rows(5, 6))
    expected = [store.vectors.nearest(text_like(n), 10) for n in range(5)]
    before = recorded(store)
    harm(store.folder / before[number].file)
    for n, (ids, scores) in enumerate(expected):
        now = store.vectors.nearest(text_like(n), 10)
        assert np.array_equal(now[0], ids)
        assert np.array_equal(now[1], scores)
    assert store.vectors.damaged() == [before[number]]
    assert store.vectors.update()
    assert store.vectors.damaged() == []
    kept = [segment for segment in recorded(store) if segment in before]
    assert kept == [segment for segment in before if segment != before[number]]  # it alone is written again


@pytest.mark.parametrize("after", [0, 3, 30])
def test_a_disk_that_fails_costs_no_answers(
    large_index: Path, writable: Opened, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    store = writable(large_index)
    calls = 0
    real = segments.Reader._read

    def failing(self: Any, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after and self.segment.file == second.file:
            raise OSError(5, "Input/output error")
        real(self, *rest)

    second = recorded(store)[1]
    with monkeypatch.context() as patch:
        patch.setattr(segments.Reader, "_read", failing)
        assert_nearest(store, text_like(1), 10)
        assert store.vectors.damaged() == [second]
    assert calls > after


def test_what_is_read_ahead_are_the_codes_of_segments_that_are_there(
    large_index: Path, writable: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = writable(large_index)
    first, *others = recorded(store)
    remove(store.folder / first.file)
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr(segments.Reader, "read_ahead", lambda self, exact: asked.append((self.segment.file, exact)))
    store.vectors.read_ahead()
    assert asked == [(segment.file, False) for segment in others]
    monkeypatch.setattr(nearest, "SMALL", LARGE)
    store.vectors.read_ahead()
    assert len(asked) == len(others)


def test_without_any_segment_the_answers_are_the_same(tmp_path: Path, scans: list[str]) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        add(store, unit_rows(SMALL, 1))
        assert_nearest(store, text_like(1), 10)
        assert scans == []
        assert store.vectors.segments() is None
        assert store.vectors.damaged() == []  # none was written yet, as after a kill, and none is missing
        assert store.vectors.update()
        assert store.vectors.damaged() == []
        assert_nearest(store, text_like(1), 10)
        assert scans


def test_a_small_index_is_read_from_the_catalogue(
    small_index: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "SMALL", SMALL)
    with Store.open(small_index) as store:
        assert_nearest(store, text_like(1), 10)
        assert_nearest(store, text_like(1), 10, exact=True)
    assert scans == []


# ------------------------------------------------------------------------------------------ refresh


def test_a_large_index_keeps_its_segments_until_enough_is_out_of_date(large_index: Path, writable: Opened) -> None:
    store = writable(large_index)
    before = recorded(store)
    assert [segment.rows for segment in before] == [6_000, 6_000, 6_000, 2_000]
    assert not store.vectors.update()
    add(store, unit_rows(400, 7))  # a fiftieth
    drop(store, range(1, 751))  # an eighth of the first
    assert not store.vectors.update()
    assert recorded(store) == before
    tail = add(store, unit_rows(1, 8))
    assert store.vectors.update()
    assert recorded(store)[:3] == before[:3]
    assert recorded(store)[3].rows == 2_401  # the last was small
    assert recorded(store)[3].last == tail[0]
    drop(store, [751])
    assert store.vectors.update()
    assert [segment.rows for segment in recorded(store)] == [5_249, 6_000, 6_000, 2_401]
    assert recorded(store)[1:3] == before[1:3]
    assert store.vectors._dropped().tolist() == []
    assert store.vectors.damaged() == []
    assert vector_files(store) == sorted(segment.file for segment in recorded(store))
    assert not store.vectors.update()


def test_a_small_index_is_written_anew_after_every_change(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    assert not store.vectors.update()
    add(store, unit_rows(7, 8))
    assert store.vectors.update()
    assert store.vectors.damaged() == []


def test_what_came_later_is_put_together_so_that_there_are_few_segments_and_little_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "TAIL", 20)
    monkeypatch.setattr(vectors, "SEGMENT_BYTES", 2 * DIM * 500)
    written = 0
    real = segments.write_segment

    def spy(path: Path, ids: Any, rows: Any) -> Segment:
        nonlocal written
        written += len(ids)
        return real(path, ids, rows)

    monkeypatch.setattr(segments, "write_segment", spy)
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        for seed in range(100):
            add(store, unit_rows(21, seed))
            assert store.vectors.update()
            assert [segment.rows <= 500 for segment in recorded(store)]
        assert len(recorded(store)) <= 12
        assert written < 6 * 2_100
        assert_nearest(store, text_like(1), 10)
        assert store.vectors.damaged() == []


def test_a_segment_whose_images_are_all_gone_goes_too(large_index: Path, writable: Opened) -> None:
    store = writable(large_index)
    before = recorded(store)
    drop(store, range(before[1].first, before[1].last + 1))
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.update()
    assert recorded(store) == [before[0], *before[2:]]
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.damaged() == []
    drop(store, range(before[3].first, before[3].last + 1))
    assert store.vectors.update()
    assert recorded(store) == [before[0], before[2]]
    add(store, unit_rows(900, 5))
    assert store.vectors.update()
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.damaged() == []


def test_refresh_leaves_nothing_but_the_segments_in_use(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    lefts = ("vectors-0.faiss", "vectors-2.faiss.tmp", ".vectors-7.faiss.81.tmp", "vectors-3.faiss")
    for left in lefts:
        (store.folder / left).write_bytes(b"left by a killed process, or an older format")
    names = {vector_files(store)[0]}
    for _ in range(3):
        write_all_anew(store)
        [name] = vector_files(store)
        assert name not in names  # a reader may still be looking at the last one
        names.add(name)
        assert store.vectors.damaged() == []


def test_a_reader_of_older_segments_still_gets_its_answers(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    with Store.open(store.folder) as reader:
        ids, scores = reader.vectors.nearest(text_like(1), 10)
        drop(store, ids.tolist())
        write_all_anew(store)
        again = reader.vectors.nearest(text_like(1), 10)
        assert np.array_equal(again[0], ids)
        assert np.array_equal(again[1], scores)


def test_a_failed_writing_keeps_what_was_written_before_it(
    large_index: Path, writable: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = writable(large_index)
    before = recorded(store)
    add(store, unit_rows(13_000, 9))
    real = segments.write_segment
    calls = 0

    def fail(*rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return real(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(segments, "write_segment", fail)
        with pytest.raises(IndexUnusable, match="cannot be written: no space"):
            store.vectors.update()
    store.database.execute("ROLLBACK")
    assert recorded(store)[: len(before) - 1] == before[:-1]
    assert recorded(store)[-1].rows == 6_000
    assert store.vectors.damaged() == []
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.update()
    assert store.vectors.damaged() == []


# ------------------------------------------------------------------------------------------ damaged


@pytest.mark.parametrize("offset", [0, 8 * DIM - 1, 8 * DIM, -1, -2 * DIM * SMALL, -2 * DIM * SMALL - 1])
def test_a_flipped_bit_anywhere_is_noticed(small_index: Path, writable: Opened, offset: int) -> None:
    store = writable(small_index)
    path = store.folder / recorded(store)[0].file
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    assert store.vectors.damaged() == recorded(store)


def replace_segment(store: Store, ids: np.ndarray, rows: np.ndarray) -> None:
    segment = store.vectors._write_one(ids, rows)
    store.vectors._adopt([segment], SMALL + 1, None)


def test_a_segment_with_the_right_rows_is_not_damaged(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.images.embeddings()))
    replace_segment(store, ids, rows)
    assert store.vectors.damaged() == []
    replace_segment(store, ids[:-9], rows[:-9])
    assert store.vectors.damaged() == []
    drop(store, [1, 2, SMALL])
    assert store.vectors.damaged() == []


@pytest.mark.parametrize("lacking", [0, SMALL // 2])
def test_a_missing_row_is_noticed(small_index: Path, writable: Opened, lacking: int) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.images.embeddings()))
    replace_segment(store, np.delete(ids, lacking), np.delete(rows, lacking, axis=0))
    assert store.vectors.damaged() == recorded(store)


@pytest.mark.parametrize("number", [0, SMALL + 5])
def test_an_extra_row_is_noticed(small_index: Path, writable: Opened, number: int) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.images.embeddings()))
    order = np.argsort(np.append(ids, number))
    replace_segment(store, np.append(ids, number)[order], np.vstack([rows, rows[:1]])[order])
    assert store.vectors.damaged() == recorded(store)


def test_another_length_is_noticed(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.images.embeddings()))
    replace_segment(store, ids, rows[:, : DIM // 2])
    assert store.vectors.damaged() == recorded(store)


@pytest.mark.parametrize(
    "record", ["[", "{}", "[1]", "[[1, 2]]", "7", '["a"]', '[["vectors-1.faiss", "x", 1, 2, "", 0]]']
)
def test_a_record_that_makes_no_sense_costs_only_time(small_index: Path, writable: Opened, record: str) -> None:
    store = writable(small_index)
    store.database.execute("UPDATE meta SET value = ? WHERE key = 'vectors'", (record,))
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.update()
    assert_nearest(store, text_like(1), 10)
    assert store.vectors.damaged() == []
