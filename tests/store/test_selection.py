"""The photos that a filter selects, and the folders that are offline."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SCENES, Once, Run, damage, forbid, save_scenes
from fuzz import examples
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from PIL import Image as Picture

from clipsearch.cli.query import query as query_command
from clipsearch.errors import BadRequest, NotIndexed
from clipsearch.images.found_file import FoundFile
from clipsearch.images.kinds import TYPES
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.indexing.update import Options, update_index
from clipsearch.search.find import Searcher
from clipsearch.search.question import Term
from clipsearch.store.catalogue import Offline, Store
from clipsearch.store.conditions import Circle, box_of, kilometres
from clipsearch.store.filters import FILTERS, ORIENTATIONS, Filter, Size
from clipsearch.store.order import NEWEST
from clipsearch.store.photo import Line
from clipsearch.store.select import _in_box
from clipsearch.store.selection import all_of


def test_a_distance_on_the_earth() -> None:
    assert kilometres(48.8566, 2.3522, 51.5074, -0.1278) == pytest.approx(343.6, abs=0.5)  # Paris to London
    assert kilometres(0, 179.9, 0, -179.9) == pytest.approx(22.2, abs=0.1)  # across the date line
    assert kilometres(90, 0, 90, 120) == pytest.approx(0, abs=1e-6)
    assert kilometres("x", 0, 0, 0) is None


# ------------------------------------------------------------------------------------------ on an index

REPEATED = {  # two values of each filter, each of which one of two photos passes, and the other does not
    "under": ("{root}/a", "{root}/b"),
    "not_under": ("{root}/b", "{root}/a"),
    "after": ("2023-06", "2022-06"),
    "before": ("2023-01", "2024-01"),
    "camera": ("Canon", "Nikon"),
    "near": ("48,2", "-17,179"),
    "within": ("47,1,49,3", "-18,178,-16,180"),
    "size": ("+2M", "-1M"),
    "orientation": ("landscape", "portrait"),
    "type": ("jpeg", "png"),
    "name": ("first", "second"),
    "caption": ("sea", "hill"),
    "reads": ("hello", "goodbye"),
    "keyword": ("red", "blue"),
    "person": ("Anna", "Ben"),
    "without_person": ("Ben", "Anna"),
    "rating": ("5", "2"),
    "color_label": ("Red", "Blue"),
}


def test_a_repeated_filter_takes_any_of_its_values_or_all(empty_store: Store, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    root = empty_store.folders.add(os.fsencode(folder), Rules())
    first = ("2023-07-01T00:00:00", "Canon", 48.0, 2.0, "red", None, None, None, "Anna", 5, "Red", None, "sea")
    second = ("2022-07-01T00:00:00", "Nikon", -17.0, 179.0, "blue", None, None, None, "Ben", 2, "Blue", None, "hill")
    for number, (path, of, width, size, text) in enumerate(
        ((b"a/first.jpg", first, 400, 3_000_000, "hello"), (b"b/second.png", second, 200, 500, "goodbye"))
    ):
        (folder / os.fsdecode(path)).parent.mkdir()
        (folder / os.fsdecode(path)).touch()
        row = np.eye(empty_store.dim, dtype=np.float32)[number]
        image = empty_store.images.add(b"%016d" % number, Metadata(width, 300, *of), row)
        empty_store.photos.put(root, FoundFile(path, size, 0), image, None)
        empty_store.ocr_text.put(image, [Line(text, 0, 0, 1, 1)])
    empty_store.ocr_text.enable(True)
    empty_store.commit()

    def passing(option: str, *values: str) -> set[int]:
        texts = [(option, value.format(root=folder)) for value in values]
        return set(empty_store.images_in(empty_store.select(Filter.parse(texts))).tolist())

    for entry in FILTERS:
        values = REPEATED[entry.option]
        one, other = (passing(entry.option, value) for value in values)
        assert one != other, entry.option
        for order in (values, values[::-1]):
            assert passing(entry.option, *order) == (one & other if entry.every else one | other), entry.option
    help_of_all = re.search(r"all of (--.*?) must", " ".join((query_command.__doc__ or "").split()))
    assert help_of_all
    assert set(re.findall("--[a-z-]+", help_of_all[1])) == {entry.flag for entry in FILTERS if entry.every}


PHOTOS = {  # name: taken, camera, place, size in pixels, bytes
    "paris.jpg": ("2023-06-14T10:00:00", "Canon EOS 5D", (48.8584, 2.2945), (400, 300), 3_000_000),
    "london.JPEG": ("2023-06-30T23:59:59", "FUJIFILM X100V", (51.5, -0.12), (300, 400), 2_000_000),
    "fiji.png": ("2022-01-01T00:00:00", "Apple iPhone 12", (-17.0, -179.95), (300, 300), 1_000_000),
    "sub/scan.tif": (None, None, None, (400, 300), 500),
}


@pytest.fixture
def store(empty_store: Store, tmp_path: Path) -> Store:
    """One photo of each kind; the scan has no date but its file's, the first of July 2023."""
    rng = np.random.default_rng(0)
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    (folder / "paris.jpg").touch()  # so that it is no empty mount point
    root = empty_store.folders.add(os.fsencode(folder), Rules())
    changed = int(datetime(2023, 7, 1, 12).timestamp()) * 10**9
    for number, (name, (taken, camera, place, (width, height), size)) in enumerate(PHOTOS.items()):
        metadata = Metadata(width, height, taken, camera, *(place or (None, None)))
        row = rng.normal(size=empty_store.dim)
        image_id = empty_store.images.add(b"%016d" % number, metadata, (row / np.linalg.norm(row)).astype(np.float32))
        empty_store.photos.put(root, FoundFile(name.encode(), size, changed), image_id, None)
    empty_store.commit()
    return empty_store


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), "paris london fiji scan"),
        (Filter(after=datetime(2023, 6, 14, 10)), "paris london scan"),
        (Filter(after=datetime(2023, 6, 14, 10, 0, 1)), "london scan"),
        (Filter(before=datetime(2023, 7, 1)), "paris london fiji"),
        (Filter(before=datetime(2023, 6, 30, 23, 59, 59)), "paris fiji"),
        (Filter(after=datetime(2023, 7, 1), before=datetime(2023, 7, 2)), "scan"),
        (Filter(after=datetime(1, 1, 1), before=datetime(9999, 1, 1)), "paris london fiji scan"),
        (Filter(camera="canon"), "paris"),
        (Filter(camera="X100"), "london"),
        (Filter(camera="%"), ""),
        (Filter(camera=" eos   5d "), "paris"),
        (Filter(near=Circle(48.8566, 2.3522)), "paris"),
        (Filter(near=Circle(48.8566, 2.3522, 4)), ""),
        (Filter(near=Circle(48.8566, 2.3522, 345)), "paris london"),
        (Filter(near=Circle(-17, 179.99, 20)), "fiji"),
        (Filter(near=Circle(90, 0, 50_000)), "paris london fiji"),
        (Filter(near=Circle(48.8584 - 1000 / 111.1949, 2.2945, 1000.01)), "paris"),  # just inside, to the north
        (Filter(near=Circle(-17, -179.95, 0)), "fiji"),
        (Filter(near=Circle(-17, -179.85, 20)), "fiji"),
        (Filter(near=Circle(-17, 0, 20)), ""),
        (Filter(near=Circle(-17, -179.95, 15_000)), "fiji"),
        (Filter(near=Circle(89.95, 100, 4_700)), "paris london"),
        (Filter(within=(48.8584, 2.2945, 48.8584, 2.2945)), "paris"),
        (Filter(within=(48, -1, 52, 2.29)), "london"),
        (Filter(within="-20,170,-10,-170"), "fiji"),  # across the antimeridian
        (Filter(within="-20,-170,-10,170"), ""),
        (Filter(within=(-90, -180, 90, 180)), "paris london fiji"),
        (Filter(within=((48, 2, 49, 3), (-90, -180, 0, -179.9))), "paris fiji"),
        (Filter(size="+2M"), "paris london"),
        (Filter(size=Size(most=1_000_000)), "fiji scan"),
        (Filter(orientation="landscape"), "paris scan"),
        (Filter(orientation="portrait"), "london"),
        (Filter(orientation="square"), "fiji"),
        (Filter(types="jpg"), "paris london"),
        (Filter(types=("png", "tiff")), "fiji scan"),
        (Filter(files=(b"/photos/fiji.png", b"/photos/./sub/scan.tif", b"/elsewhere/paris.jpg")), "fiji scan"),
        (Filter(files=()), ""),
        (Filter(camera="canon", size="+5M"), ""),
        (Filter(camera=("canon", "apple", "none")), "paris fiji"),
        (Filter(name=("PARIS jpg", "sub")), "paris scan"),
        (Filter(near=(Circle(48.8566, 2.3522), Circle(-17, 179.99, 20))), "paris fiji"),
        (Filter(near=((48.8566, 2.3522), (-17, 179.99, 20))), "paris fiji"),
        (Filter(orientation=("square", "portrait")), "london fiji"),
        (Filter(camera=("canon", "apple"), orientation=("square", "portrait")), "fiji"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_filter_lets_through(store: Store, where: Filter, expected: str) -> None:
    if where.files:
        where = replace(where, files=[path.replace(b"/photos", store.roots()[0].path) for path in where.files])
    selection = store.select(where)
    names = [os.path.basename(photo.file).split(b".")[0].decode() for photo in store.first(selection, NEWEST, 9)]
    assert sorted(names) == sorted(expected.split())
    ids = store.images_in(selection).tolist()
    of_ids = sorted(photo.file for photo in store.photos_of(ids, selection))
    assert of_ids == [photo.file for photo in store.by_path(selection)]
    assert len(ids) == len(names)


@given(st.data())
@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_several_values_one_must_hold(store: Store, data: st.DataObject) -> None:
    top = os.fsdecode(store.roots()[0].path)
    (Path(top) / "sub").mkdir(exist_ok=True)

    def some(*values: Any) -> Any:
        return tuple(data.draw(st.lists(st.sampled_from(values), max_size=3)))

    under = some(top, f"{top}/sub", f"{top}/sub/", os.path.dirname(top))
    not_under = some(f"{top}/sub", f"{top}/sub/", f"{top}/../photos/sub", "/usr", f"{top}/sub/../sub")
    cameras = some("canon", "X100", "1", "none", "none OR canon OR X100")
    names = some("paris", "jpg", "l n", "scan sub", "none", "scan sub OR paris JPG", "none OR fiji", "jpg or png")
    circles = some(Circle(48.8566, 2.3522), Circle(51, 0, 100), Circle(-17, 179.99, 20), Circle(0, 0, 1))
    boxes = some((48, -1, 52, 2), (-90, 170, 49, -170), (-90, -180, 90, 180), (51.5, -0.12, 51.5, -0.12))
    orientations, types = some(*ORIENTATIONS), some("jpeg", "tiff")
    where = Filter(under=under, not_under=not_under, camera=cameras, near=circles, name=names, types=types)
    where = replace(where, orientation=orientations, within=boxes)

    def either(values: Any) -> list[str]:
        return [one for value in values for one in value.split(" OR ")]

    def is_inside(place: tuple[float, float], box: tuple[float, ...]) -> bool:
        south, west, north, east = box
        width = 360 if east - west == 360 else (east - west) % 360
        return south <= place[0] <= north and (place[1] - west) % 360 <= width

    def passes(path: str) -> bool:
        _, camera, place, (width, height), _ = PHOTOS[path]
        shape = ORIENTATIONS[(width < height) + 2 * (width == height)]
        return all(
            (
                not under or path.startswith("sub/") or not all("/sub" in folder for folder in under),
                not path.startswith("sub/") or all("sub" not in folder for folder in not_under),
                not cameras or any(one.lower() in (camera or "").lower() for one in either(cameras)),
                not circles or (place and any(kilometres(*place, *one[:2]) <= one.km for one in circles)),
                not boxes or (place and any(is_inside(place, box) for box in boxes)),
                not orientations or shape in orientations,
                not types or path.lower().endswith(tuple(suffix for kind in types for suffix in TYPES[kind])),
                not names or any(all(word in path.lower() for word in one.lower().split()) for one in either(names)),
            )
        )

    selection = store.select(where)
    found = {os.fsdecode(photo.file).removeprefix(f"{top}/") for photo in store.by_path(selection)}
    assert found == {path for path in PHOTOS if passes(path)}
    assert len(store.images_in(selection)) == len(found)
    everywhere = not under or not all("/sub" in folder for folder in under)
    everywhere = everywhere and all("sub" not in folder for folder in not_under)
    assert selection.everything == (everywhere and replace(where, under=(), not_under=()) == Filter())


def test_the_newest_come_first(store: Store) -> None:
    names = [os.path.basename(photo.file) for photo in store.first(store.select(), NEWEST, 9)]
    assert names == [b"london.JPEG", b"paris.jpg", b"fiji.png", b"scan.tif"]  # the last one has no date
    for count in (1, 2, 3):
        some = store.first(store.select(), NEWEST, count)
        assert [os.path.basename(photo.file) for photo in some] == names[:count]


def test_a_place_that_is_damaged_is_no_place(store: Store) -> None:
    store.database.execute("UPDATE photos SET latitude = 'x' WHERE id = 1")
    assert store.images_in(store.select(Filter(near=Circle(48, 2, 20_000)))).tolist() == [2, 3]


# ------------------------------------------------------------------------------------------ with the program


@pytest.fixture
def dated(once: Once, tmp_path: Path) -> tuple[Path, Path]:
    """Forty photos of which four are of 2023, read only, and a copy of their index."""

    def make(folder: Path) -> None:
        (folder / "photos").mkdir(parents=True)
        for n in range(40):
            exif = Picture.Exif()
            exif[0x0132] = f"{2023 if n % 10 == 3 else 2020}:05:{n % 28 + 1:02d} 12:00:00"
            SCENES[n].image.save(folder / "photos" / f"{n:02d}.jpg", exif=exif)
        update_index(folder / "index", [folder / "photos"], Options(model="mini"))

    made = once("dated", make)
    return made / "photos", shutil.copytree(made / "index", tmp_path / "index")


def test_a_filtered_query_finds_as_many_as_there_are(clipsearch: Run, dated: tuple[Path, Path]) -> None:
    folder, index = dated
    found = clipsearch("query", "a red circle", "--after", "2023", "--before", "2024", "-k", "4", index=index)
    assert sorted(found.lines) == [str(folder / f"{n:02d}.jpg") for n in (3, 13, 23, 33)]
    everything = clipsearch("query", "a red circle", "-k", "40", index=index).lines
    assert [line for line in everything if line in found.lines] == found.lines  # in the same order
    assert clipsearch("query", "a red circle", "--after", "2024", "--before", "2025", index=index).status == 1


def test_filters_alone_list_the_newest(clipsearch: Run, dated: tuple[Path, Path]) -> None:
    folder, index = dated
    found = clipsearch("query", "--before", "2024", "-k", "5", "--format", "json", index=index)
    hits = json.loads(found.out)
    assert [hit["path"] for hit in hits[:4]] == [str(folder / f"{n:02d}.jpg") for n in (23, 13, 33, 3)]
    assert [hit["taken"] for hit in hits] == sorted((hit["taken"] for hit in hits), reverse=True)
    assert {(hit["score"], hit["confidence"]) for hit in hits} == {(None, None)}
    table = clipsearch("query", "--before", "2024", "-k", "1", "--format", "table", index=index, COLUMNS="300")
    assert table.lines[1].split() == ["1", "2023-05-24", str(folder / "23.jpg")]
    assert clipsearch("query", "--before", "2024", "-k", "1", "--format", "tsv", index=index).out.startswith(b"1\t\t/")
    refused = clipsearch("query", "--before", "2024", "--min-score", "0.1", index=index)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "--min-score needs something to look for" in refused.err


def test_paths_from_another_program(clipsearch: Run, dated: tuple[Path, Path], tmp_path: Path) -> None:
    folder, index = dated
    some = [folder / "03.jpg", folder / "07.jpg", tmp_path / "not indexed.jpg"]
    for separator, options in ((b"\n", ()), (b"\0", ("--from0",))):
        listed = separator.join(os.fsencode(path) for path in some) + separator
        found = clipsearch("query", "a circle", "--files-from", "-", *options, index=index, stdin=listed)
        assert sorted(found.lines) == [str(path) for path in some[:2]]
        assert found.err == f"not in the index, ignored: {some[2]}\n"
    link = tmp_path / "link"
    link.symlink_to(folder)
    garbage = clipsearch(
        "query", "a circle", "--files-from", "-", index=index, stdin=b"\0\xff\n" + b"x" * 9000 + b"\n//\n"
    )
    assert (garbage.status, garbage.out, garbage.err.count("\n")) == (1, b"", 1)
    assert clipsearch("query", "a circle", "--files-from", tmp_path / "gone", index=index).status == 2
    assert clipsearch("query", "a circle", "--from0", index=index).status == 2
    for name, path in (("one", some[0]), ("two", some[1])):
        (tmp_path / name).write_text(f"{path}\n")
    lists = ("--files-from", tmp_path / "one", "--files-from", tmp_path / "two")
    assert sorted(clipsearch("query", "a circle", *lists, index=index).lines) == [str(path) for path in some[:2]]
    twice = clipsearch("query", "a circle", *("--files-from", "-") * 2, index=index, stdin=b"x\n")
    assert (twice.status, twice.err) == (2, "clipsearch: only one option can read stdin; give the others a file\n")
    through = clipsearch("query", "a circle", "--files-from", "-", index=index, stdin=os.fsencode(link / "03.jpg"))
    assert through.lines == [str(folder / "03.jpg")]


def test_filters_may_be_given_several_times(clipsearch: Run, tmp_path: Path, mini_index) -> None:
    folder = tmp_path.resolve() / "photos"
    for number, name in enumerate(("a/x.png", "b/y.png", "c/z.jpg", "c/w.webp")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Picture.Exif()
        exif[0x010F], exif[0x0132] = f"Maker {number}", f"202{number}:05:06 12:00:00"
        SCENES[number].image.resize((160, 120 + 20 * number)).save(folder / name, exif=exif)
    index = mini_index(folder)

    def names(*options: object) -> str:
        found = clipsearch("query", *options, index=index)
        assert found.err == ""
        return " ".join(sorted(os.path.basename(line)[0] for line in found.lines))

    assert names("--under", folder / "a", "--under", folder / "b") == "x y"
    assert names("--under", folder / "a", "--under", folder) == "w x y z"
    assert names("--camera", "maker 0", "--camera", "maker 2") == "x z"
    assert names("--name", "x png", "--name", "c webp", "--name", "none") == "w x"
    assert names("--not-under", folder / "a", "--not-under", folder / "b") == "w z"
    assert names("--name", "x png OR c webp OR none") == "w x"
    assert names("--camera", "maker 0 OR maker 2", "--not-under", folder / "c") == "x"
    assert names("--orientation", "square", "--orientation", "portrait") == "w z"
    assert names("--type", "png", "--type", "webp") == "w x y"
    assert names("--after", "2021", "--after", "2019", "--before", "2023", "--before", "2099") == "y z"
    assert names("--camera", "maker 0", "--camera", "maker 3", "--under", folder / "c") == "w"
    (folder / "c/v.png").write_bytes((folder / "a/x.png").read_bytes())
    mini_index(folder)
    for command in (("query", "a circle"), ("duplicates", "--identical"), ("label", "a", "b", "--all")):
        found = clipsearch(*command, "--name", "x", "--name", "v", "-f", "json", index=index)
        assert set(re.findall(r"/(.)\.(?:png|jpg|webp)", found.out.decode())) == {"v", "x"}, command


@pytest.mark.parametrize(
    "options",
    [
        ("--after", "soon"),
        ("--near", "here"),
        ("--size", "big"),
        ("--orientation", "diagonal"),
        ("--type", "docx"),
        ("--under", "/nowhere"),
        ("--not-under", "/nowhere"),
        ("--sort", "colour"),
        ("--sort", "-score"),
    ],
    ids=" ".join,
)
def test_a_filter_that_makes_no_sense_is_a_sentence(
    clipsearch: Run, drawn_index: Path, places_table: Path, options: tuple[str, ...]
) -> None:
    refused = clipsearch("query", "a circle", *options, index=drawn_index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert options[1] in refused.err


def test_what_is_offline_is_said(clipsearch: Run, tmp_path: Path, mini_index) -> None:
    here, away = tmp_path.resolve() / "here", tmp_path.resolve() / "away"
    save_scenes(here, 3)
    save_scenes(away, 3, first=5)
    index = mini_index(here, away)
    away.rename(tmp_path / "elsewhere")
    for command in (
        ("query", "a circle"),
        ("label", "a", "b"),
        ("duplicates",),
        ("query", "a circle", "--under", away),
    ):
        said = clipsearch(*command, index=index)
        assert said.err == f"not searched: {away} is not there\n"
        assert said.status == (1 if "--under" in command or "duplicates" in command else 0)
        assert str(away) not in said.out.decode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"orientation": "wide"}, "unknown orientation 'wide'"),
        ({"near": (100, 2.35)}, "near must be"),
        ({"near": (float("nan"), 2.35)}, "near must be"),
        ({"near": (1, 2, float("inf"))}, "near must be"),
        ({"near": "48;2"}, "'48;2' is not a valid place"),
        ({"near": ((1, 2), (100, 2))}, "near must be"),
        ({"near": 5}, "near must be"),
        ({"within": (2, 0, 1, 0)}, "within must be"),
        ({"within": "1,2,3"}, "'1,2,3' is not a valid box"),
        ({"size": float("nan")}, "size must be"),
        ({"size": Size(2**64)}, "size must be"),
        ({"under": "a\0b"}, "under contains a NUL character"),
        ({"reads": "a\0b"}, "reads contains a NUL character"),
        ({"name": "a\0b"}, "name contains a NUL character"),
        ({"people": ["Anna", "\udcff"]}, "person is not UTF-8"),
        ({"under": ("/", 5)}, "under must be the path"),
        ({"after": 2023}, "after must be a date"),
        ({"types": 5}, "type must be text"),
        ({"camera": ("canon", "")}, "camera must not be empty"),
        ({"name": b"canon"}, "name must be text"),
        ({"files": (5,)}, "files must be paths"),
    ],
)
def test_a_filter_from_a_program_is_checked(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        Filter(**values)


def test_as_many_as_there_could_ever_be(clipsearch: Run, drawn_index: Path) -> None:
    for query in (("--type", "png"), ("a circle", "--cut"), ("a circle",)):
        found = clipsearch("query", *query, "-k", "99999999999999999999", index=drawn_index)
        assert found.status in (0, 1)
        assert found.err == ""


def test_a_camera_that_is_damaged_is_still_json(clipsearch: Run, dated: tuple[Path, Path]) -> None:
    _, index = dated
    damage(index, "UPDATE images SET camera = CAST(x'43ff' AS TEXT)")
    copies = ("duplicates", "--similar", "--similarity", "0.2", "-f")
    for command in (
        ("query", "a circle", "-f", "json"),
        ("query", "--after", "2000", "-f", "jsonl"),
        (*copies, "json"),
        (*copies, "jsonl"),
    ):
        found = clipsearch(*command, index=index)
        assert found.status == 0
        assert b'"camera": "C?"' in found.out


def test_a_link_to_a_photo_is_that_photo(clipsearch: Run, dated: tuple[Path, Path], tmp_path: Path) -> None:
    folder, index = dated
    (tmp_path / "link.jpg").symlink_to(folder / "07.jpg")
    found = clipsearch("query", "a", "--files-from", "-", index=index, stdin=os.fsencode(tmp_path / "link.jpg"))
    assert found.lines == [str(folder / "07.jpg")]


def test_a_long_list_of_files_is_looked_up_and_not_searched(store: Store) -> None:
    """Going through the list for each photo took minutes for 10,000 of a million."""
    selection = store.select(Filter(files=(store.roots()[0].path + b"/fiji.png",)))
    query = f"EXPLAIN QUERY PLAN {selection.candidates.sql}"
    plan = [row[3] for row in store.database.execute(query, selection.candidates.values)]
    assert any("chosen" in step for step in plan)
    assert not any("CORRELATED" in step for step in plan)


def test_a_filter_reads_the_catalogue_once(drawn_index: Path) -> None:
    """Not photo by photo, which would take long for a million."""
    statements: list[str] = []
    with Store.open(drawn_index) as store:
        row = np.eye(1, store.dim, dtype=np.float32)[0]
        store.database._connection.set_trace_callback(statements.append)
        searcher = Searcher(store, Filter(after="2000", types=".png"))
        for term in (Term(row), Term(-row)):
            assert searcher.query([term])
        assert len([s for s in statements if "SELECT DISTINCT image FROM photos" in s]) == 1
        store.database._connection.set_trace_callback(None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("italy", {b"2023 Italy/Cafe\xcc\x81.jpg", b"2023 Italy/b.jpg"}),
        ("2023 B.JPG", {b"2023 Italy/b.jpg"}),
        ("caf\u00e9", {b"2023 Italy/Cafe\xcc\x81.jpg"}),  # one letter here, a letter and an accent there
        ("\u00dcBUNG", {"\u00fcbung/a.jpg".encode()}),
        ("100%", {b"100%_/\xff.jpg"}),
        ("nothing", set()),
    ],
)
def test_words_of_a_path(empty_store: Store, tmp_path: Path, name: str, expected: set[bytes]) -> None:
    root = empty_store.folders.add(os.fsencode(tmp_path), Rules())
    for path in (b"2023 Italy/Cafe\xcc\x81.jpg", b"2023 Italy/b.jpg", "\u00fcbung/a.jpg".encode(), b"100%_/\xff.jpg"):
        image = empty_store.images.add(path.ljust(16)[:16], Metadata(1, 1), np.ones(empty_store.dim, np.float32))
        empty_store.photos.put(root, FoundFile(path, 1, 1), image, None)
        (tmp_path / os.fsdecode(path)).parent.mkdir(exist_ok=True)
        (tmp_path / os.fsdecode(path)).touch()
    found = empty_store.by_path(empty_store.select(Filter(name=name)))
    assert {photo.file[len(os.fsencode(tmp_path)) + 1 :] for photo in found} == expected


# ------------------------------------------------------------------------------------------ places


def test_a_meridian_has_two_names(store: Store) -> None:
    for longitude in (-180.0, 180.0):
        store.database.execute("UPDATE photos SET latitude = 0, longitude = ? WHERE id = 1", (longitude,))
        for asked in (-180, 180):
            assert store.images_in(store.select(Filter(within=(0, asked, 1, asked)))).tolist() == [1]
            for km in (0, 1):
                assert store.images_in(store.select(Filter(near=Circle(0, asked, km)))).tolist() == [1]


@given(
    st.tuples(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([0, 0.001, 1, 50, 3000, 9000, 19_000, 21_000])),
    st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)) | st.tuples(st.floats(-180, 180), st.floats(-360, 360)),
)
@example((0.0, 0.0, 0), (2.2250738585e-313, 0.0))
def test_the_box_around_a_circle_leaves_nothing_out(
    asked: tuple[float, float, float], away: tuple[float, float]
) -> None:
    latitude = max(-90, min(asked[0] + away[0], 90))
    longitude = (asked[1] + away[1] + 180) % 360 - 180
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE images (latitude REAL, longitude REAL)")
        database.execute("INSERT INTO images VALUES (?, ?)", (latitude, longitude))
        box = all_of(_in_box(box_of(Circle(*asked))))
        is_in = database.execute(f"SELECT count(*) FROM images WHERE {box.sql}", box.values).fetchone()[0]
    if kilometres(latitude, longitude, asked[0], asked[1]) <= asked[2]:
        assert is_in


def test_a_selection_says_what_it_leaves_out(empty_store: Store, tmp_path: Path, monkeypatch) -> None:
    here, away = tmp_path.resolve() / "here", tmp_path.resolve() / "away"
    roots = {}
    for number, folder in enumerate((here, away)):
        (folder / "sub").mkdir(parents=True)
        roots[folder] = empty_store.folders.add(os.fsencode(folder), Rules())
        for name in ("a.jpg", "sub/b.jpg"):
            row = np.full(empty_store.dim, empty_store.dim**-0.5, np.float32)
            image_id = empty_store.images.add(f"{number}{name}".encode(), Metadata(1, 1), row)
            empty_store.photos.put(roots[folder], FoundFile(name.encode(), 1, 1), image_id, None)
            (folder / name).touch()
    whole = empty_store.select()
    assert (whole.everything, whole.offline, len(whole.roots)) == (True, {}, 2)
    assert not empty_store.select(Filter(camera="x")).everything
    part = empty_store.select(Filter(under=str(here / "sub")))
    assert (part.everything, empty_store.images_in(part).tolist()) == (False, [2])
    assert empty_store.images_in(empty_store.select(Filter(under=str(tmp_path)))).tolist() == [1, 2, 3, 4]
    with pytest.raises(NotIndexed, match=f"^nothing in {tmp_path}/other was indexed$"):
        empty_store.select(Filter(under=f"{tmp_path}/other"))
    with monkeypatch.context() as patch:
        forbid(patch, here / "sub")
        closed = empty_store.select(Filter(under=str(here / "sub")))
        expected = roots[here]._replace(path=os.fsencode(here / "sub"))
        assert (closed.offline, empty_store.images_in(closed).tolist()) == ({expected: Offline.UNREADABLE}, [])
    away.rename(tmp_path / "elsewhere")
    without = empty_store.select()
    assert without.offline == {roots[away]: Offline.MISSING}
    assert (without.everything, empty_store.images_in(without).tolist()) == (False, [1, 2])
    assert empty_store.select(Filter(under=str(away))).offline == {roots[away]: Offline.MISSING}
    both = empty_store.select(Filter(under=(str(away), str(here / "sub"))))
    assert (both.offline, empty_store.images_in(both).tolist()) == ({roots[away]: Offline.MISSING}, [2])
    with pytest.raises(NotIndexed, match=f"^nothing in {tmp_path}/other was indexed$"):
        empty_store.select(Filter(under=(str(here), f"{tmp_path}/other")))
