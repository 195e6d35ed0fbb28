"""How people write dates, sizes and places, and which photos a filter lets through."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run, damage, save_scenes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from clipsearch.errors import BadRequest
from clipsearch.images.metadata import Metadata
from clipsearch.images.scan import IMAGE_SUFFIXES, FoundFile, Rules
from clipsearch.search.query import Searcher
from clipsearch.store import filters
from clipsearch.store.catalogue import Store, _km
from clipsearch.store.filters import Circle, Filter, parse_circle, parse_date, parse_orientation, parse_size, parse_type

NOW = datetime(2024, 3, 31, 15, 4, 5)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023", datetime(2023, 1, 1)),
        ("2023-06", datetime(2023, 6, 1)),
        ("2023-06-14", datetime(2023, 6, 14)),
        ("2023-06-14T18:03", datetime(2023, 6, 14, 18, 3)),
        ("2023-06-14 18:03:07", datetime(2023, 6, 14, 18, 3, 7)),
        ("today", datetime(2024, 3, 31)),
        ("Yesterday", datetime(2024, 3, 30)),
        ("1 month ago", datetime(2024, 2, 29, 15, 4, 5)),  # which has no 31st
        ("3 months ago", datetime(2023, 12, 31, 15, 4, 5)),
        ("2 years ago", datetime(2022, 3, 31, 15, 4, 5)),
        ("1y", datetime(2023, 3, 31, 15, 4, 5)),
        ("2 weeks ago", datetime(2024, 3, 17, 15, 4, 5)),
        ("2w", datetime(2024, 3, 17, 15, 4, 5)),
        ("10 days ago", datetime(2024, 3, 21, 15, 4, 5)),
        ("90min", datetime(2024, 3, 31, 13, 34, 5)),
        ("5 seconds ago", datetime(2024, 3, 31, 15, 4)),
        ("4h", datetime(2024, 3, 31, 11, 4, 5)),
    ],
)
def test_a_date(text: str, moment: datetime) -> None:
    assert parse_date(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "2023-13", "2023-02-30", "23", "soon", "5000 years ago", "3 fortnights ago", "-1d"]
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(BadRequest, match="is no date"):
        parse_date(text, NOW)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("+2M", 2_000_000, None),
        ("-500k", None, 500_000),
        ("10ki", 10_240, 10_240),
        ("0", 0, 0),
        ("+1GiB", 1 << 30, None),
        ("7b", 7, 7),
        ("1kb", 1000, 1000),
    ],
)
def test_a_size_is_as_in_fd(text: str, least: int | None, most: int | None) -> None:
    assert parse_size(text) == (least, most)


@pytest.mark.parametrize("text", ["", "M", "2.5M", "2X", "++2", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest, match="is no size"):
        parse_size(text)


def test_a_place() -> None:
    assert parse_circle("48.85,2.35") == Circle(48.85, 2.35, 10)
    assert parse_circle("-33.9, 18.4,1.5") == Circle(-33.9, 18.4, 1.5)
    for wrong in ("", "48.85", "91,0", "0,181", "0,0,-1", "a,b", "1,2,3,4", "nan,0", "0,0,inf"):
        with pytest.raises(BadRequest, match="is no place"):
            parse_circle(wrong)


def test_a_type_is_all_of_its_suffixes() -> None:
    assert parse_type("JPG") == parse_type("jpeg") == parse_type(".jpg") == (".jpg", ".jpeg", ".jpe", ".jfif")
    with pytest.raises(BadRequest, match="there are jpeg, png"):
        parse_type("raw")
    assert {suffix.encode() for suffixes in filters.TYPES.values() for suffix in suffixes} == IMAGE_SUFFIXES


def test_an_orientation_may_be_cut_short() -> None:
    assert [parse_orientation(text) for text in ("landscape", "PORTRAIT", "sq")] == ["landscape", "portrait", "square"]
    for wrong in ("", "wide"):
        with pytest.raises(BadRequest, match="no orientation"):
            parse_orientation(wrong)


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (parse_date, parse_size, parse_circle, parse_type, parse_orientation):
        with contextlib.suppress(BadRequest):
            parse(text)


def test_a_distance_on_the_earth() -> None:
    assert _km(48.8566, 2.3522, 51.5074, -0.1278) == pytest.approx(343.6, abs=0.5)  # Paris to London
    assert _km(0, 179.9, 0, -179.9) == pytest.approx(22.2, abs=0.1)  # across the date line
    assert _km(90, 0, 90, 120) == pytest.approx(0, abs=1e-6)
    assert _km("x", 0, 0, 0) is None


# ------------------------------------------------------------------------------------------ on an index

PHOTOS = {  # name: taken, camera, place, size in pixels, bytes
    "paris.jpg": ("2023-06-14T10:00:00", "Canon EOS 5D", (48.8584, 2.2945), (400, 300), 3_000_000),
    "london.JPEG": ("2023-06-30T23:59:59", "FUJIFILM X100V", (51.5, -0.12), (300, 400), 2_000_000),
    "fiji.png": ("2022-01-01T00:00:00", "Apple iPhone 12", (-17.0, -179.95), (300, 300), 1_000_000),
    "sub/scan.tif": (None, None, None, (400, 300), 500),
}


@pytest.fixture
def store(empty_store: Store) -> Store:
    """One photo of each kind; the scan has no date but its file's, the first of July 2023."""
    rng = np.random.default_rng(0)
    root = empty_store.add_root(b"/photos", Rules())
    changed = int(datetime(2023, 7, 1, 12).timestamp()) * 10**9
    for number, (name, (taken, camera, place, (width, height), size)) in enumerate(PHOTOS.items()):
        metadata = Metadata(width, height, taken, camera, *(place or (None, None)))
        row = rng.normal(size=empty_store.dim)
        image_id = empty_store.add_image(b"%016d" % number, metadata, (row / np.linalg.norm(row)).astype(np.float32))
        empty_store.put_photo(root, FoundFile(name.encode(), size, changed), image_id, None)
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
        (Filter(near=Circle(48.8566, 2.3522)), "paris"),
        (Filter(near=Circle(48.8566, 2.3522, 4)), ""),
        (Filter(near=Circle(48.8566, 2.3522, 345)), "paris london"),
        (Filter(near=Circle(-17, 179.99, 20)), "fiji"),
        (Filter(near=Circle(90, 0, 50_000)), "paris london fiji"),
        (Filter(near=Circle(48.8584 - 1000 / 111.1949, 2.2945, 1000.01)), "paris"),  # just inside, to the north
        (Filter(at_least=2_000_000), "paris london"),
        (Filter(at_most=1_000_000), "fiji scan"),
        (Filter(orientation="landscape"), "paris scan"),
        (Filter(orientation="portrait"), "london"),
        (Filter(orientation="square"), "fiji"),
        (Filter(types=parse_type("jpg")), "paris london"),
        (Filter(types=parse_type("png") + parse_type("tiff")), "fiji scan"),
        (Filter(files=(b"/photos/fiji.png", b"/photos/./sub/scan.tif", b"/elsewhere/paris.jpg")), "fiji scan"),
        (Filter(files=()), ""),
        (Filter(camera="canon", at_least=5_000_000), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_filter_lets_through(store: Store, where: Filter, expected: str) -> None:
    [root] = store.roots()
    selection = store.select([(root, b"")], where)
    names = [os.path.basename(photo.path).split(b".")[0].decode() for photo in store.newest(selection, 9)]
    assert sorted(names) == sorted(expected.split())
    ids = store.images_in(selection).tolist()
    of_ids = sorted(photo.path for photo in store.photos_of(ids, selection))
    assert of_ids == [photo.path for photo in store.by_path(selection)]
    assert len(ids) == len(names)


def test_the_newest_come_first(store: Store) -> None:
    [root] = store.roots()
    names = [os.path.basename(photo.path) for photo in store.newest(store.select([(root, b"")]), 9)]
    assert names == [b"scan.tif", b"london.JPEG", b"paris.jpg", b"fiji.png"]
    for count in (1, 2, 3):
        some = store.newest(store.select([(root, b"")]), count)
        assert [os.path.basename(photo.path) for photo in some] == names[:count]


def test_a_place_that_is_damaged_is_no_place(store: Store) -> None:
    store._db.execute("UPDATE images SET latitude = 'x' WHERE id = 1")
    [root] = store.roots()
    assert store.images_in(store.select([(root, b"")], Filter(near=Circle(48, 2, 20_000)))).tolist() == [2, 3]


# ------------------------------------------------------------------------------------------ with the program


@pytest.fixture
def dated(tmp_path: Path, mini_index) -> tuple[Path, Path]:
    """Forty photos of which four are of 2023, and their index."""
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    for n in range(40):
        exif = Picture.Exif()
        exif[0x0132] = f"{2023 if n % 10 == 3 else 2020}:05:{n % 28 + 1:02d} 12:00:00"
        SCENES[n].image.save(folder / f"{n:02d}.jpg", exif=exif)
    return folder, mini_index(folder)


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
    assert table.lines[0].split() == ["1", "2023-05-24", str(folder / "23.jpg")]
    assert clipsearch("query", "--before", "2024", "-k", "1", "--format", "tsv", index=index).out.startswith(b"1\t\t/")
    nothing = clipsearch("query", index=index)
    assert (nothing.status, nothing.out) == (2, b"")
    refused = clipsearch("query", "--before", "2024", "--min-score", "0.1", index=index)
    assert refused.err == "clipsearch: there is no score without something to look for\n"


def test_paths_from_another_program(clipsearch: Run, dated: tuple[Path, Path], tmp_path: Path) -> None:
    folder, index = dated
    some = [folder / "03.jpg", folder / "07.jpg", tmp_path / "not indexed.jpg"]
    for separator, options in ((b"\n", ()), (b"\0", ("--from0",))):
        listed = separator.join(os.fsencode(path) for path in some) + separator
        found = clipsearch("query", "a circle", "--files-from", "-", *options, index=index, stdin=listed)
        assert sorted(found.lines) == [str(path) for path in some[:2]]
        assert found.err == f"left out, not in the index: {some[2]}\n"
    link = tmp_path / "link"
    link.symlink_to(folder)
    garbage = clipsearch(
        "query", "a circle", "--files-from", "-", index=index, stdin=b"\0\xff\n" + b"x" * 9000 + b"\n//\n"
    )
    assert (garbage.status, garbage.out, garbage.err.count("\n")) == (1, b"", 1)
    assert clipsearch("query", "a circle", "--files-from", tmp_path / "gone", index=index).status == 2
    assert clipsearch("query", "a circle", "--from0", index=index).status == 2
    through = clipsearch("query", "a circle", "--files-from", "-", index=index, stdin=os.fsencode(link / "03.jpg"))
    assert through.lines == [str(folder / "03.jpg")]


@pytest.mark.parametrize(
    "options",
    [
        ("--after", "soon"),
        ("--near", "here"),
        ("--size", "big"),
        ("--orientation", "diagonal"),
        ("--type", "raw"),
        ("--under", "/nowhere"),
    ],
    ids=" ".join,
)
def test_a_filter_that_makes_no_sense_is_a_sentence(
    clipsearch: Run, drawn_index: Path, options: tuple[str, ...]
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
        assert said.err == f"not searched, offline: {away}\n"
        assert said.status == (1 if "--under" in command or "duplicates" in command else 0)
        assert str(away) not in said.out.decode()


def test_a_filter_from_a_program_is_checked(drawn_index: Path) -> None:
    with Store.open(drawn_index) as store:
        for where, words in (
            (Filter(orientation="Portrait"), "no orientation"),
            (Filter(near=(100, 2.35)), "is no place"),
            (Filter(after=date(2023, 1, 1)), "after is to be a datetime"),
            (Filter(before=datetime(2023, 1, 1, tzinfo=UTC)), "before is to be a datetime"),
            (Filter(types=("jpeg",)), "types are to be suffixes"),
            (Filter(types=".jpg"), "types are to be suffixes"),
            (Filter(files=("a.jpg",)), "files are to be paths as bytes"),
        ):
            with pytest.raises(BadRequest, match=words):
                Searcher(store, where)
        assert Searcher(store, Filter(near=(48, 2))).query() == []
        with pytest.raises(BadRequest, match="--unique is a cosine"):
            Searcher(store, Filter(types=(".png",))).query(unique=7)


def test_as_many_as_there_could_ever_be(clipsearch: Run, drawn_index: Path) -> None:
    for query in (("--type", "png"), ("a circle", "--cut"), ("a circle",)):
        found = clipsearch("query", *query, "-k", "99999999999999999999", index=drawn_index)
        assert found.status in (0, 1)
        assert found.err == ""


def test_a_camera_that_is_damaged_is_still_json(clipsearch: Run, dated: tuple[Path, Path]) -> None:
    _, index = dated
    damage(index, "UPDATE images SET camera = CAST(x'43ff' AS TEXT)")
    copies = ("duplicates", "--threshold", "0.2", "-f")
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


def test_a_batch_says_which_line_is_wrong(clipsearch: Run, dated: tuple[Path, Path]) -> None:
    _, index = dated
    for text, words in ((b"a dog\n0:cat\n", "the query is empty"), (b"a dog\n@x\n", "there is no concept @x")):
        found = clipsearch("query", "--batch", "-", "-k", "1", "--after", "2023", index=index, stdin=text)
        assert (found.status, len(found.lines)) == (2, 1)
        assert found.err.startswith("clipsearch: -, line 2: ")
        assert words in found.err


def test_a_long_list_of_files_is_looked_up_and_not_searched(store: Store) -> None:
    """Going through the list for each photo took minutes for 10,000 of a million."""
    [root] = store.roots()
    selection = store.select([(root, b"")], Filter(files=(b"/photos/fiji.png",)))
    query = f"EXPLAIN QUERY PLAN {selection.candidates.sql}"
    plan = [row[3] for row in store._db.execute(query, selection.candidates.values)]
    assert any("chosen" in step for step in plan)
    assert not any("CORRELATED" in step for step in plan)


def test_a_filter_reads_the_catalogue_once(drawn_index: Path) -> None:
    """Not photo by photo, which would take long for a million."""
    statements: list[str] = []
    with Store.open(drawn_index) as store:
        store._db.set_trace_callback(statements.append)
        Searcher(store, Filter(after=datetime(2000, 1, 1), types=(".png",)))
        assert len([s for s in statements if "FROM photos JOIN images" in s]) == 1
        store._db.set_trace_callback(None)
