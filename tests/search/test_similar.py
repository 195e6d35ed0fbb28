"""Similar photos: groups compared with brute force over all pairs, and the output of the program."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipsearch.arrays import unit_rows
from clipsearch.images.found_file import found_file
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.indexing.update import Options, update_index
from clipsearch.models.model import mini
from clipsearch.search import similar
from clipsearch.search.copies import Copy, Kind
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.preference import preference
from clipsearch.search.similar import TIE, NearGroup, Rows, find_similar, near_groups
from clipsearch.store.catalogue import Store


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
    monkeypatch.setattr(similar, "_SMALL", 0)


@pytest.fixture(params=["whole rows", "shortened rows"])
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small cases through both of the ways that small and large ones take."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "shortened rows":
            patch.setattr(similar, "_SMALL", 0)
            patch.setattr(similar, "_SHORT", 2)
            patch.setattr(similar, "_FEW", 1)
        patch.setattr(similar, "_PAIRS", 5)
        yield


def test_any_rows_are_grouped_as_all_pairs_say(either_way: None) -> None:
    @examples(200)
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


@pytest.mark.parametrize("few", [0.0, similar._FEW, 1.0])
def test_planted_groups_are_found_among_3000(
    always_shortened: None, monkeypatch: pytest.MonkeyPatch, few: float
) -> None:
    monkeypatch.setattr(similar, "_FEW", few)
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
    monkeypatch.setattr(similar, "_SAMPLE", 512)
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
    real = similar._Claims._candidates
    monkeypatch.setattr(similar._Claims, "_candidates", spy)
    monkeypatch.setattr(similar, "_FEW", 1)
    assert near_groups(photo_like(3000, 512), 0.9) == []
    assert 3000 <= sum(found) < 3000 + 3000**2 / 2 / 10_000  # each row meets itself


def test_grouped_rows_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(claims: object, heads: np.ndarray, others: np.ndarray) -> np.ndarray:
        compared.append(len(heads) * len(others))
        return real(claims, heads, others)

    compared: list[int] = []
    real = similar._Claims._candidates
    monkeypatch.setattr(similar._Claims, "_candidates", spy)
    near_groups(np.repeat(photo_like(1, 64), 2000, axis=0), 0.95, block=100)
    assert sum(compared) == 100 * 100 + 1900


def test_products_of_shortened_rows_are_at_least_the_cosines() -> None:
    rows = np.concatenate([photo_like(500, 200), photo_like(3, 200, seed=9), np.zeros((1, 200), np.float32)])
    rows = np.concatenate([rows, rows[:100]])
    short = similar._shortened(rows, np.arange(len(rows)))
    assert short.shape == (len(rows), similar._SHORT + 1)
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


# ------------------------------------------------------------------------------------------ many photos


def many(folder: Path, index: Path, photos: int, kinds: int, seed: int) -> Store:
    """An index of small files in two roots: every fifth has the contents of another, many are near one of `kinds`."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, 192))
    store = Store.create(index, mini().to_json(), 192)
    for name in (b"b", b"b-c"):  # whose files are in another order by root and path than by whole paths
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(path)
        root = store.folders.add(path, Rules())
        for number in range(photos // 2):
            content = b"%d" % (rng.integers(photos) if number % 5 == 0 else seed + number + photos * root.id)
            file = os.path.join(path, b"%d.png" % number)
            Path(os.fsdecode(file)).write_bytes(bytes(rng.integers(1, 3)))
            os.utime(file, ns=(0, int(rng.integers(2))))
            metadata = Metadata(int(rng.integers(1, 3)), 1, None, None, None, None)
            vector = unit_rows(centres[rng.integers(kinds)] + rng.normal(size=192) * rng.choice([1e-3, 0.1]))
            image_id = store.find_image(content) or store.images.add(content, metadata, vector)
            store.photos.put(root, found_file(os.path.basename(file), os.stat(file)), image_id, None)
    store.commit()
    return store


def all_at_once(store: Store, threshold: float) -> list[tuple[Copy, ...]]:
    """The same groups, with all photos and all rows in memory."""
    files = list(FilesOnDisk().unmodified(store.by_path(store.select())))
    of_image: dict[int, list[Copy]] = {}
    for photo, names, _ in sorted(files, key=lambda file: preference(file.photo)):
        same = of_image.setdefault(photo.image_id, [])
        same.append(Copy(photo, Kind.IDENTICAL if same else Kind.SIMILAR, 1.0, names))
    images = list(of_image)
    for group in near_groups(store.unit_rows_of(images), threshold):
        for member, cosine in zip(group.members, group.cosines, strict=True):
            near = of_image.pop(images[member])
            of_image[images[group.head]] += [
                file._replace(kind=Kind.SIMILAR, similarity=min(cosine, 1.0)) for file in near
            ]
    return sorted((tuple(g) for g in of_image.values() if len(g) > 1), key=lambda group: group[0].photo.file)


@pytest.mark.parametrize("seed", range(4))
def test_the_groups_are_those_of_all_photos_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(similar, "_SMALL", 0)
    with many(tmp_path / "photos", tmp_path / "index", 120, 30, seed) as store:
        names = sorted(store.by_path(store.select()))
        for photo in names[:7]:
            os.unlink(photo.file)
        for photo in names[10:14]:
            Path(os.fsdecode(photo.file)).write_bytes(b"something else")
        for threshold in (0.9, 0.99999):
            expected = all_at_once(store, threshold)
            assert find_similar(store, store.select(), threshold, FilesOnDisk()) == expected
            assert len(expected) > 5


def test_of_photos_without_copies_little_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(rows: Rows, *_: object, **__: object) -> list[NearGroup]:
        held.append((tracemalloc.get_traced_memory()[1] - before) / rows.shape[0])
        return []

    held: list[float] = []
    monkeypatch.setattr(similar, "near_groups", measure)
    with many(tmp_path / "photos", tmp_path / "index", 2000, 2000, 0) as store:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            find_similar(store, store.select(), 0.99, FilesOnDisk())
        finally:
            tracemalloc.stop()
    assert held[0] < 400  # bytes a photo


# ------------------------------------------------------------------------------------------ the program


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five different photos; of the first also a crop, a mirrored one, one in grey, and the same file again."""
    folder = tmp_path_factory.mktemp("edited").resolve() / "photos"
    folder.mkdir()
    for n in (0, 4, 8, 12, 16):
        SCENES[n].image.save(folder / f"{n:02d}.png")
    photo = SCENES[0].image
    photo.crop((6, 6, 154, 154)).save(folder / "00-crop.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "00-mirrored.png")
    Image.blend(photo, Image.new("RGB", photo.size, "white"), 0.4).save(folder / "00-pale.png")
    shutil.copy2(folder / "00.png", folder / "00 copy.png")
    index = folder.parent / "index"
    update_index(index, [folder], Options(model="mini"))
    return folder, index


SIMILAR = ("duplicates", "--similar", "--similarity", "0.6")


def test_similar_photos_are_labelled_in_every_format(
    clipsearch: Run, edited: tuple[Path, Path], tmp_path: Path
) -> None:
    _, index = edited
    page = tmp_path / "similar.html"
    groups = [json.loads(line) for line in clipsearch(*SIMILAR, "-f", "jsonl", "--html", page, index=index).lines]
    (group,) = [group for group in groups if any("00-crop" in photo["path"] for photo in group["similar"])]
    assert {Path(photo["path"]).name for photo in group["similar"]} >= {
        "00.png",
        "00 copy.png",
        "00-crop.png",
        "00-mirrored.png",
        "00-pale.png",
    }
    assert not any("photos" in group for group in groups)  # what scripts delete by
    assert {group["kind"] for group in groups} == {"similar"}
    kinds = {Path(photo["path"]).name: photo["kind"] for photo in group["similar"]}
    assert "best" not in kinds.values()
    assert kinds["00-crop.png"] == "similar"
    assert "<title>Similar photos" in page.read_text()
    assert "similar 0." in page.read_text()
    table = clipsearch(*SIMILAR, "-f", "table", index=index, COLUMNS="300").out.decode()
    assert "similar 0." in table
    assert "best" not in table
    rows = [line.split("\t") for line in clipsearch(*SIMILAR, index=index).lines]  # in a pipe
    assert len(rows) == sum(len(group["similar"]) for group in groups)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert {row[1] for row in rows} == {"similar"}
    copies = [json.loads(line) for line in clipsearch("duplicates", "-f", "jsonl", index=index).lines]
    assert [[Path(photo["path"]).name for photo in group["photos"]] for group in copies] == [["00.png", "00 copy.png"]]


@pytest.mark.parametrize("asked", [["-0"], ["-f", "paths"], ["-0", "-f", "paths"]])
def test_similar_photos_are_never_bare_paths(
    clipsearch: Run, edited: tuple[Path, Path], asked: tuple[str, ...]
) -> None:
    refused = clipsearch(*SIMILAR, *asked, index=edited[1])
    assert (refused.status, refused.out) == (2, b"")
    assert "not copies" in refused.err
