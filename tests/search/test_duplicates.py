"""Copies: groups, the best of each, and the results of a query folded by them."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from PIL import Image

from clipsearch.arrays import unit_rows
from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import Rules, found_file
from clipsearch.models.model import mini
from clipsearch.search import duplicates
from clipsearch.search.duplicates import Copy, NearGroup, Rows, find_duplicates, near_groups
from clipsearch.search.present import Present
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Photo


@pytest.fixture
def burst(tmp_path: Path, mini_index) -> tuple[Path, Path]:
    """Twenty photos; of the first there are a small one, a re-save and a copy, of the second a copy."""
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    for n in range(20):
        SCENES[n].image.save(folder / f"{n:02d}.png")
    SCENES[0].image.resize((120, 120), Image.Resampling.LANCZOS).save(folder / "00-small.png")
    SCENES[0].image.save(folder / "00-again.jpg", quality=98, subsampling=0)
    shutil.copy2(folder / "00.png", folder / "00 copy.png")
    shutil.copy2(folder / "01.png", folder / "01-copy.png")
    return folder, mini_index(folder)


def groups(folder: Path, index: Path, threshold: float | None) -> list[list[tuple[str, float]]]:
    with Store.open(index) as store:
        found = find_duplicates(store, store.select(), threshold)
    return [[(os.path.relpath(os.fsdecode(copy.photo.path), folder), copy.similarity) for copy in g] for g in found]


def test_groups_have_the_best_first(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    first, second = groups(folder, index, 0.93)
    assert [name for name, _ in second] == ["01-copy.png", "01.png"]
    names = [name for name, _ in first]
    assert set(names) == {"00.png", "00 copy.png", "00-again.jpg", "00-small.png"}
    assert names[-1] == "00-small.png" or names.index("00-small.png") > 0
    sizes = {name: (folder / name).stat().st_size for name in names if name != "00-small.png"}
    assert names[0] == min(sizes, key=lambda name: (-sizes[name], name))
    cosines = dict(first)
    assert cosines["00.png"] == cosines["00 copy.png"]
    assert all(0.93 <= cosine <= 1 for cosine in cosines.values())


def test_identical_files_alone(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    expected = [[("00 copy.png", 1.0), ("00.png", 1.0)], [("01-copy.png", 1.0), ("01.png", 1.0)]]
    assert groups(folder, index, None) == expected


def test_a_file_that_is_gone_is_no_copy(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    (folder / "01.png").unlink()
    assert [names[0][0] for names in groups(folder, index, None)] == ["00 copy.png"]


def test_the_command_in_every_format(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    folder, index = burst
    one, two = (str(folder / name) for name in ("00 copy.png", "00.png"))
    three, four = (str(folder / name) for name in ("01-copy.png", "01.png"))
    run = ("duplicates", "--identical")
    assert clipsearch(*run, index=index).lines == [one, two, "", three, four, ""]
    assert clipsearch(*run, "-0", index=index).out.decode() == f"{one}\0{two}\0\0{three}\0{four}\0\0"
    assert clipsearch(*run, "-f", "tsv", index=index).lines == [
        *(f"1\t1.0000\t{path}" for path in (one, two)),
        *(f"2\t1.0000\t{path}" for path in (three, four)),
    ]
    objects = [json.loads(line) for line in clipsearch(*run, "-f", "jsonl", index=index).lines]
    assert json.loads(clipsearch(*run, "-f", "json", index=index).out) == objects
    assert [[photo["path"] for photo in group["photos"]] for group in objects] == [[one, two], [three, four]]
    assert (objects[0]["group"], objects[0]["photos"][0]["similarity"], objects[0]["photos"][0]["width"]) == (1, 1, 160)
    table = clipsearch(*run, "-f", "table", index=index, COLUMNS="300").lines
    assert table[0].split(maxsplit=4) == ["best", "160x160", *table[0].split()[2:4], one]
    assert table[1].split(maxsplit=4)[0] == "identical"
    assert table[2] == ""


def test_no_copies_is_status_1(clipsearch: Run, drawn_index: Path, burst: tuple[Path, Path]) -> None:
    folder, index = burst
    nothing = clipsearch("duplicates", "--identical", index=drawn_index)
    assert (nothing.status, nothing.out, nothing.err) == (1, b"", "")
    assert clipsearch("duplicates", "--type", "jpg", index=index).status == 1
    (folder / "sub").mkdir()
    assert clipsearch("duplicates", "--similarity", "2", index=index).status == 2
    assert clipsearch("duplicates", "--similarity", "near", index=index).status == 2


def test_unique_folds_copies_into_the_best_hit(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    folder, index = burst
    query = ("query", "--image", folder / "00.png", "-f", "json")
    plain = json.loads(clipsearch(*query, index=index).out)
    assert {os.path.basename(hit["path"]) for hit in plain[:4]} >= {"00.png", "00 copy.png"}
    for unique in (("--unique", "--similarity=0.93"), ("--similarity", "0.93", "--unique")):
        hits = json.loads(clipsearch(*query, *unique, index=index).out)
        assert len(hits) == 10  # others take the places of what was folded
        similar = {os.path.basename(one["path"]) for one in hits[0]["similar"]}
        folded = {os.path.basename(hits[0]["path"])} | similar
        assert folded == {"00.png", "00 copy.png", "00-again.jpg", "00-small.png"}
        paths = [hit["path"] for hit in hits]
        assert len(set(paths)) == 10
        assert not {str(folder / name) for name in similar} & set(paths)
        assert [hit["rank"] for hit in hits] == list(range(1, 11))
    table = clipsearch(
        "query", "--image", folder / "00.png", "--unique", "--similarity", "0.93", "-f", "table", index=index
    )
    assert table.lines[0].endswith("  +3")
    usual = clipsearch("query", "--unique", "a red circle", "-k", "3", index=index)  # no threshold, then a text
    assert (usual.status, len(usual.lines)) == (0, 3)
    alone = clipsearch("query", "a circle", "--similarity", "0.9", index=index)
    assert (alone.status, alone.err) == (2, "clipsearch: --similarity says how near --unique folds; give both\n")


def test_unique_holds_without_a_query_too(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    _, index = burst
    hits = json.loads(clipsearch("query", "--type", "png", "--unique", "-k", "100", "-f", "json", index=index).out)
    every = [hit["path"] for hit in hits] + [one["path"] for hit in hits for one in hit["similar"]]
    assert len(every) == len(set(every)) == 23
    assert len(hits) < 23


@pytest.mark.parametrize("content", ["another picture", "nothing", "the same size and time"])
def test_a_file_that_shows_something_else_by_now_is_no_copy(
    clipsearch: Run, burst: tuple[Path, Path], content: str
) -> None:
    """Or a script would delete the last file that still shows it."""
    folder, index = burst
    changed = folder / "01-copy.png"  # the best of its group, by its name
    before = changed.stat()
    if content == "another picture":
        SCENES[30].image.save(changed)
    elif content == "nothing":
        changed.write_bytes(b"")
    else:
        changed.write_bytes(bytes(before.st_size))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = clipsearch("duplicates", "--identical", index=index)
    assert "01.png" not in found.out.decode()
    assert found.err == f"not shown, changed since indexed: {changed}. Run: clipsearch index\n"
    folded = clipsearch("query", "--image", folder / "01.png", "--unique", "-k", 30, "-f", "jsonl", index=index)
    hits = {Path(hit["path"]).name: hit for hit in map(json.loads, folded.lines)}
    assert hits["01.png"]["similar"] == [] == hits["01-copy.png"]["similar"]
    assert clipsearch("index", index=index).status == 0
    assert clipsearch("duplicates", "--identical", index=index).err == ""


# ------------------------------------------------------------------------------------------ names of one file


@pytest.fixture
def linked(tmp_path: Path, mini_index) -> tuple[Path, Path]:
    """One photo under four names: its own, a link, a hard link, and through a linked folder; and a copy of it."""
    folder = tmp_path.resolve() / "dl"
    (folder / "real").mkdir(parents=True)
    SCENES[0].image.save(folder / "real/z.png")
    (folder / "a.png").symlink_to("real/z.png")
    os.link(folder / "real/z.png", folder / "m.png")
    (folder / "b").symlink_to("real")
    for n in range(1, 4):
        SCENES[n].image.save(folder / f"{n}.png")
    return folder, mini_index(folder, follow_links=True)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_script_that_deletes_copies_never_deletes_the_last_name_of_a_photo(
    clipsearch: Run, linked: tuple[Path, Path]
) -> None:
    folder, index = linked
    alone = clipsearch("duplicates", "--format", "jsonl", index=index)
    assert (alone.status, alone.out) == (1, b"")  # four names of one file are no copies
    shutil.copy(folder / "real/z.png", folder / "copy.png")
    assert clipsearch("index", index=index).status == 0
    [group] = [json.loads(line) for line in clipsearch("duplicates", "-f", "jsonl", index=index).lines]
    kept, doomed = group["photos"]
    names = {str(folder / name) for name in ("m.png", "a.png", "real/z.png", "b/z.png")}
    by_path = {photo["path"]: {one["path"] for one in photo["same_file"]} for photo in (kept, doomed)}
    assert by_path.pop(str(folder / "copy.png")) == set()
    [(own, others)] = by_path.items()
    assert own in (str(folder / "m.png"), str(folder / "real/z.png"))  # no link
    assert {own} | others == names
    table = clipsearch("duplicates", "-f", "table", index=index, COLUMNS="300").out.decode()
    assert table.count("same file") == 3
    for line in clipsearch("duplicates", index=index).lines[1:]:
        if line:
            os.unlink(line)
    assert all((folder / name).exists() for name in ("copy.png",)) or (folder / "real/z.png").exists()
    left = [path for path in folder.rglob("*.png") if path.is_file()]
    assert any(path.read_bytes() == (Path(kept["path"])).read_bytes() for path in left)
    assert Path(kept["path"]).is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_unique_counts_a_file_once(clipsearch: Run, linked: tuple[Path, Path]) -> None:
    folder, index = linked
    found = clipsearch("query", "--image", folder / "1.png", "--unique", "-k", "9", "-f", "json", index=index)
    hits = {hit["path"]: hit for hit in json.loads(found.out)}
    assert len(hits) == 4
    [own] = [path for path in hits if path in (str(folder / "m.png"), str(folder / "real/z.png"))]
    assert len(hits[own]["same_file"]) == 3
    assert hits[own]["similar"] == []


# ------------------------------------------------------------------------------------------ many photos


def many(folder: Path, index: Path, photos: int, kinds: int, seed: int) -> Store:
    """An index of small files in two roots: every fifth has the contents of another, many are near one of `kinds`."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, 192))
    store = Store.create(index, mini().to_json(), 192)
    for name in (b"b", b"b-c"):  # whose files are in another order by root and path than by whole paths
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(path)
        root = store.add_root(path, Rules())
        for number in range(photos // 2):
            content = b"%d" % (rng.integers(photos) if number % 5 == 0 else seed + number + photos * root.id)
            file = os.path.join(path, b"%d.png" % number)
            Path(os.fsdecode(file)).write_bytes(bytes(rng.integers(1, 3)))
            os.utime(file, ns=(0, int(rng.integers(2))))
            metadata = Metadata(int(rng.integers(1, 3)), 1, None, None, None, None)
            vector = unit_rows(centres[rng.integers(kinds)] + rng.normal(size=192) * rng.choice([1e-3, 0.1]))
            image_id = store.find_image(content) or store.add_image(content, metadata, vector)
            store.put_photo(root, found_file(os.path.basename(file), os.stat(file)), image_id, None)
    store.commit()
    return store


def all_at_once(store: Store, threshold: float) -> list[tuple[Copy, ...]]:
    """The same groups, with all photos and all rows in memory."""
    files = [file for file in Present().files(store.by_path(store.select())) if not file.changed]
    of_image: dict[int, list[Copy]] = {}
    for photo, names, _ in sorted(files, key=lambda file: (*_order(file.photo), file.photo.path)):
        of_image.setdefault(photo.image_id, []).append(Copy(photo, 1.0, names))
    images = list(of_image)
    for group in near_groups(store.unit_rows_of(images), threshold):
        for member, cosine in zip(group.members, group.cosines, strict=True):
            near = of_image.pop(images[member])
            of_image[images[group.head]] += [file._replace(similarity=min(cosine, 1.0)) for file in near]
    return sorted((tuple(g) for g in of_image.values() if len(g) > 1), key=lambda group: group[0].photo.path)


def _order(photo: Photo) -> tuple[int, int, int]:
    return -photo.metadata.width * photo.metadata.height, -photo.size, photo.mtime_ns


@pytest.mark.parametrize("seed", range(4))
def test_the_groups_are_those_of_all_photos_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(duplicates, "_SMALL", 0)
    with many(tmp_path / "photos", tmp_path / "index", 120, 30, seed) as store:
        names = sorted(store.by_path(store.select()))
        for photo in names[:7]:
            os.unlink(photo.path)
        for photo in names[10:14]:
            Path(os.fsdecode(photo.path)).write_bytes(b"something else")
        for threshold in (0.9, 0.99999):
            expected = all_at_once(store, threshold)
            assert find_duplicates(store, store.select(), threshold) == expected
            assert len(expected) > 5


def test_of_photos_without_copies_little_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(rows: Rows, *_: object, **__: object) -> list[NearGroup]:
        held.append((tracemalloc.get_traced_memory()[1] - before) / rows.shape[0])
        return []

    held: list[float] = []
    monkeypatch.setattr(duplicates, "near_groups", measure)
    with many(tmp_path / "photos", tmp_path / "index", 2000, 2000, 0) as store:
        tracemalloc.start()
        try:
            for threshold in (None, 0.99):
                before = tracemalloc.get_traced_memory()[0]
                find_duplicates(store, store.select(), threshold)
        finally:
            tracemalloc.stop()
    assert held[0] < 200  # bytes a photo
