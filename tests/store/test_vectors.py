"""Nearest neighbours against brute force, with the file of vectors in every state."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import FoundFile, Rules
from clipsearch.store import vectors
from clipsearch.store.catalogue import Store, Vectors

DIM = 64
SMALL, LARGE = 300, 20_000


@pytest.fixture(scope="module", autouse=True)
def every_file_is_used() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "SMALL", 0)
        yield


@pytest.fixture
def file_searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The k of every search that went through the file."""
    return counted(monkeypatch)


def counted(patch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def spy(file: Any, query: Any, k: int, *rest: Any) -> Any:
        calls.append(k)
        return real(file, query, k, *rest)

    real = vectors._search_file
    patch.setattr(vectors, "_search_file", spy)
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
    root = roots[0] if roots else store.add_root(b"/photos", Rules())
    ids = []
    for row in rows:
        number = store.database.execute("SELECT coalesce(max(id), 0) FROM photos").fetchone()[0] + 1
        name = b"%d.jpg" % number
        ids.append(store.add_image(name, Metadata(1, 1), row))
        store.put_photo(root, FoundFile(name, 1, 1), ids[-1], None)
    store.commit()
    return ids


def drop(store: Store, ids: Iterable[int]) -> None:
    [root] = store.roots()
    found = store.photos_of(ids)
    store.remove_photos(root, [photo.path.removeprefix(b"/photos/") for photo in found])
    store.prune()
    store.commit()


def stored(store: Store) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(store.embeddings())
    if not blocks:
        return np.empty(0, np.int64), np.empty((0, DIM))
    return np.concatenate([ids for ids, _ in blocks]), np.concatenate([rows for _, rows in blocks]).astype(np.float64)


def assert_nearest(store: Store, query: np.ndarray, k: int, only: np.ndarray | None = None) -> None:
    """`top_k` gives what sorting all products gives; it may swap two rows only where rounding to fp32 decides."""
    ids, scores = vectors.top_k(store, query, k, only)
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
        vectors.refresh(store)
    return folder


@pytest.fixture(scope="module")
def large_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "index"
    with Store.create(folder, "a model", DIM) as store:
        root = store.add_root(b"/photos", Rules())
        for n, row in enumerate(unit_rows(LARGE, 2)):
            name = b"%d.jpg" % n
            image_id = store.add_image(name, Metadata(1, 1), row)
            store.put_photo(root, FoundFile(name, 1, 1), image_id, None)
        store.commit()
        vectors.refresh(store)
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


# ------------------------------------------------------------------------------------------ top_k


def test_every_k_gives_what_brute_force_gives(small_index: Path, file_searches: list[int]) -> None:
    with Store.open(small_index) as store:
        for k in range(1, SMALL + 6):
            assert_nearest(store, text_like(k), k)
    assert len(file_searches) == SMALL // 4 - 16  # beyond, the catalogue is read instead


@pytest.mark.parametrize("k", [1, 2, 10, 100, 1000, LARGE // 4 - 16])
def test_a_large_index_gives_what_brute_force_gives(large_index: Path, file_searches: list[int], k: int) -> None:
    with Store.open(large_index) as store:
        assert_nearest(store, text_like(k), k)
        assert_nearest(store, unit_rows(1, 1000 + k)[0], k)
    assert file_searches == [k + 16] * 2


def test_a_tail_that_is_not_in_the_file_is_found(large_index: Path, writable: Opened, file_searches: list[int]) -> None:
    store = writable(large_index)
    query = text_like(7)
    near = query + 0.01 * unit_rows(30, 3)
    tail = add(store, near / np.linalg.norm(near, axis=1, keepdims=True))
    add(store, unit_rows(50, 4))
    ids, _ = vectors.top_k(store, query, 30)
    assert set(ids.tolist()) == set(tail)
    for k in (1, 29, 31, 200):
        assert_nearest(store, query, k)
    assert len(file_searches) == 5


def test_rows_that_went_since_the_file_was_written_are_not_found(
    large_index: Path, writable: Opened, file_searches: list[int]
) -> None:
    store = writable(large_index)
    query = text_like(8)
    best, _ = vectors.top_k(store, query, 150)
    drop(store, best.tolist())
    ids, _ = vectors.top_k(store, query, 100)
    assert not set(ids.tolist()) & set(best.tolist())
    for k in (1, 10, 200):
        assert_nearest(store, query, k)
    assert len(file_searches) == 5


@pytest.mark.parametrize("count", [0, 1, 5, 400, 10_000])
def test_a_choice_of_ids_is_kept_to(large_index: Path, writable: Opened, file_searches: list[int], count: int) -> None:
    store = writable(large_index)
    drop(store, range(1, 100, 3))
    add(store, unit_rows(40, 5))
    ids, _ = stored(store)
    only = np.sort(np.random.default_rng(count).choice(ids, count, replace=False))
    for k in (1, 10, 300):
        assert_nearest(store, text_like(k), k, only)
    assert len(file_searches) == 3


def test_ties_are_ordered_by_id(writable: Opened, small_index: Path, file_searches: list[int]) -> None:
    store = writable(small_index)
    query = text_like(1)
    in_file = add(store, np.tile(query, (6, 1)))
    vectors.refresh(store, force=True)
    in_tail = add(store, np.tile(query, (6, 1)))
    drop(store, [in_file[2]])
    ids, scores = vectors.top_k(store, query, 20)
    assert ids[:11].tolist() == [i for i in in_file + in_tail if i != in_file[2]]
    assert len(set(scores[:11].tolist())) == 1
    for k in (1, 3, 11, 20):
        assert_nearest(store, query, k)
    assert len(file_searches) == 5


def test_an_empty_store_has_no_neighbours(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        for _ in range(2):
            ids, scores = vectors.top_k(store, text_like(1), 5)
            assert len(ids) == len(scores) == 0
            vectors.refresh(store)


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
        vectors.refresh(self.store, force=number % 3 == 0)

    def query(self, k: int) -> None:
        self.seed += 1
        ids, _ = stored(self.store)
        assert_nearest(self.store, text_like(self.seed), k)
        assert_nearest(self.store, text_like(self.seed), k, ids[ids % 3 == 0])


ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "remove", "refresh", "query"]), st.integers(1, 60)), max_size=12)


def test_any_sequence_of_changes_gives_what_brute_force_gives(small_index: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = counted(patch)

        @settings(max_examples=25, deadline=None)
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


# ------------------------------------------------------------------------------------------ a file that is not right


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


def untrain(path: Path) -> None:
    file = faiss.read_index(str(path))
    faiss.downcast_index(file.index).is_trained = False  # searching it would raise
    faiss.write_index(file, str(path))


def of_another_kind(path: Path) -> None:
    path.write_bytes(faiss.serialize_index(faiss.IndexFlatIP(DIM)).tobytes().ljust(path.stat().st_size, b"\0"))


@pytest.mark.parametrize(
    "harm", [remove, cut, lengthen, garble, clear, rename, put_a_folder_there, untrain, of_another_kind]
)
def test_without_a_sound_file_the_answers_are_the_same(
    small_index: Path, writable: Opened, file_searches: list[int], harm: Callable[[Path], None]
) -> None:
    store = writable(small_index)
    add(store, unit_rows(5, 6))
    expected = [vectors.top_k(store, text_like(n), 10) for n in range(5)]
    assert len(file_searches) == 5
    recorded = store.vectors()
    assert recorded is not None
    harm(store.folder / recorded.file)
    for n, (ids, scores) in enumerate(expected):
        now = vectors.top_k(store, text_like(n), 10)
        assert np.array_equal(now[0], ids)
        assert np.array_equal(now[1], scores)
    assert len(file_searches) == 5
    assert not vectors.agrees(store)
    assert vectors.refresh(store, force=True)
    assert vectors.agrees(store)


def test_without_any_file_the_answers_are_the_same(tmp_path: Path, file_searches: list[int]) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        add(store, unit_rows(SMALL, 1))
        assert_nearest(store, text_like(1), 10)
        assert file_searches == []
        assert vectors.agrees(store)  # none was written yet, as after a kill, and none is missing
        assert not vectors.sound(store)
        assert vectors.refresh(store)
        assert vectors.agrees(store)
        assert_nearest(store, text_like(1), 10)
        assert file_searches == [26]


def test_a_small_index_is_read_without_faiss(
    small_index: Path, file_searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "SMALL", SMALL)
    monkeypatch.setattr(vectors, "_faiss", lambda: pytest.fail("faiss was imported"))
    with Store.open(small_index) as store:
        assert_nearest(store, text_like(1), 10)
    assert file_searches == []


# ------------------------------------------------------------------------------------------ refresh


def test_a_large_index_keeps_its_file_until_a_fiftieth_is_out_of_date(large_index: Path, writable: Opened) -> None:
    store = writable(large_index)
    [name] = vector_files(store)
    before = (store.folder / name).stat().st_mtime_ns
    assert not vectors.refresh(store)
    tail = add(store, unit_rows(300, 7))
    drop(store, range(1, 101))
    assert not vectors.refresh(store)  # 400 of 20,000
    assert vector_files(store) == [name]
    assert (store.folder / name).stat().st_mtime_ns == before
    drop(store, [200])
    assert vectors.refresh(store)
    [renewed] = vector_files(store)
    assert renewed != name
    recorded = store.vectors()
    assert recorded is not None
    size = (store.folder / renewed).stat().st_size
    assert recorded._replace(structure="") == Vectors(renewed, LARGE + 300 - 101, tail[-1], size)
    assert store.dropped().tolist() == []
    assert vectors.agrees(store)
    assert not vectors.refresh(store)


def test_a_small_index_is_written_anew_after_every_change(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    assert not vectors.refresh(store)
    add(store, unit_rows(7, 8))
    assert vectors.refresh(store)
    assert vectors.agrees(store)


@pytest.mark.parametrize("harm", [remove, cut])
def test_a_file_that_is_not_what_was_written_is_written_anew(
    large_index: Path, writable: Opened, harm: Callable[[Path], None]
) -> None:
    store = writable(large_index)
    assert vectors.sound(store)
    harm(store.folder / vector_files(store)[0])
    assert not vectors.sound(store)
    assert vectors.refresh(store)
    assert vectors.sound(store)


def test_refresh_leaves_nothing_but_the_new_file(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    for left in ("vectors-0.faiss", "vectors-2.faiss.tmp", ".vectors-7.faiss.81.tmp"):
        (store.folder / left).write_bytes(b"left by a killed process")
    names = {vector_files(store)[0]}
    for _ in range(3):
        vectors.refresh(store, force=True)
        [name] = vector_files(store)
        assert name not in names  # a reader may still be looking at the last one
        names.add(name)
        assert vectors.agrees(store)


def test_a_reader_of_an_older_generation_still_gets_its_answers(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    with Store.open(store.folder) as reader:
        ids, scores = vectors.top_k(reader, text_like(1), 10)
        drop(store, ids.tolist())
        assert vectors.refresh(store)
        again = vectors.top_k(reader, text_like(1), 10)
        assert np.array_equal(again[0], ids)
        assert np.array_equal(again[1], scores)


def test_a_failed_writing_leaves_the_old_file_in_use(
    small_index: Path, writable: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = writable(small_index)
    [name] = vector_files(store)
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.store.vectors.os.replace", fail)
        with pytest.raises(OSError, match="No space"):
            vectors.refresh(store, force=True)
    assert (store.folder / name).exists()
    assert vectors.agrees(store)
    assert_nearest(store, text_like(1), 10)


# ------------------------------------------------------------------------------------------ agrees


def patch_file(store: Store, what: bytes, offset: int) -> None:
    """Flip the lowest bit of a byte that lies `offset` after the only place of `what`."""
    path = store.folder / vector_files(store)[0]
    data = bytearray(path.read_bytes())
    at = data.find(what)
    assert at >= 0
    assert data.find(what, at + 1) < 0
    data[at + offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("number", [0, SMALL // 2, SMALL - 1])
def test_a_flipped_bit_in_an_embedding_is_noticed(small_index: Path, writable: Opened, number: int) -> None:
    store = writable(small_index)
    assert vectors.agrees(store)
    _, rows = next(iter(store.embeddings()))
    patch_file(store, rows[number].tobytes(), 2 * DIM - 1)
    assert vectors.sound(store)
    assert not vectors.agrees(store)


@pytest.mark.parametrize("number", [0, SMALL // 2, SMALL - 1])
def test_a_flipped_bit_in_an_id_is_noticed(small_index: Path, writable: Opened, number: int) -> None:
    store = writable(small_index)
    ids, _ = next(iter(store.embeddings()))
    patch_file(store, ids.tobytes(), 8 * number)
    assert not vectors.agrees(store)


def replace_file(store: Store, ids: np.ndarray, rows: np.ndarray, last: int, metric: int | None = None) -> None:
    metric = faiss.METRIC_INNER_PRODUCT if metric is None else metric
    flat = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, metric)
    index = faiss.IndexIDMap(flat)
    index.add_with_ids(rows.astype(np.float32), ids)
    name = store.new_vectors_name()
    faiss.write_index(index, str(store.folder / name))
    structure = vectors._structure(store.folder / name, store.dim, len(ids))
    store.adopt_vectors(Vectors(name, len(ids), last, (store.folder / name).stat().st_size, structure))


def test_a_file_with_the_right_rows_agrees(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.embeddings()))
    replace_file(store, ids, rows, SMALL)
    assert vectors.agrees(store)
    replace_file(store, ids[:-9], rows[:-9], SMALL - 9)
    assert vectors.agrees(store)
    drop(store, [1, 2, SMALL])
    assert vectors.agrees(store)


@pytest.mark.parametrize("lacking", [0, SMALL // 2, SMALL - 1])
def test_a_missing_row_is_noticed(small_index: Path, writable: Opened, lacking: int) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.embeddings()))
    replace_file(store, np.delete(ids, lacking), np.delete(rows, lacking, axis=0), SMALL)
    assert not vectors.agrees(store)


@pytest.mark.parametrize("number", [0, SMALL + 5])
def test_an_extra_row_is_noticed(small_index: Path, writable: Opened, number: int) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.embeddings()))
    order = np.argsort(np.append(ids, number))
    replace_file(store, np.append(ids, number)[order], np.vstack([rows, rows[:1]])[order], SMALL)
    assert not vectors.agrees(store)


def test_another_metric_or_length_is_noticed(small_index: Path, writable: Opened) -> None:
    store = writable(small_index)
    ids, rows = next(iter(store.embeddings()))
    replace_file(store, ids, rows, SMALL, faiss.METRIC_L2)
    assert not vectors.agrees(store)
    replace_file(store, ids, rows[:, : DIM // 2], SMALL)
    assert not vectors.agrees(store)
