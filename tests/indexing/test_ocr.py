"""OCR: each photo is read once, its words are found, and nothing else in the index changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import measure_ocr
import numpy as np
import pytest
from conftest import SCENES, Run
from PIL import Image, ImageDraw, ImageFont
from stores import DIM, put, row

from clipsearch.arrays import Pixels
from clipsearch.errors import BadArgument, BadRequest, DecoderFailed, ImageUnusable
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash
from clipsearch.images.rules import Rules
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.passes import read_photos
from clipsearch.indexing.report import Report
from clipsearch.indexing.update import Options, update_index
from clipsearch.models import ocr
from clipsearch.output.annotate import annotated
from clipsearch.store import ocr_text
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.conditions import fold
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Line
from clipsearch.store.verify import Damage, verify

WHOLE = (0.0, 0.0, 1.0, 1.0)


def written(*lines: str, size: int = 40) -> Image.Image:
    """A white page with lines of writing."""
    page = Image.new("RGB", (1000, 700), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((80, 60 + 3 * size * number), line, "black", ImageFont.load_default(size))
    return page


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    written("BOARDING PASS", "Gate B42 to Berlin").save(folder / "pass.jpg")
    written("Coffee 3.50", "Total 3.50", size=24).save(folder / "receipt.png")
    SCENES[0].image.save(folder / "scene.png")
    return folder


@pytest.fixture(scope="module")
def read_index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("read") / "index"
    report = update_index(index, [photos], Options(model="mini", ocr=True))
    assert (report.read, report.with_text) == (3, 2)
    return index


def names(index: Path, reads: str | tuple[str, ...]) -> set[str]:
    with Store.open(index) as store:
        chosen = store.select(Filter(reads=reads))
        return {os.path.basename(os.fsdecode(photo.file)) for photo in store.by_path(chosen)}


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ("boarding pass", {"pass.jpg"}),
        ("PASS boarding", {"pass.jpg"}),  # all words, in any order and case
        ("berlin", {"pass.jpg"}),
        ("erli", {"pass.jpg"}),  # a part of a word
        ("3.50", {"receipt.png"}),
        ("to", {"pass.jpg", "receipt.png"}),  # shorter than three letters
        ("boarding coffee", set()),
        ('"', set()),
        ("OR boarding", set()),  # what a query of FTS5 would take for its own words is text here
        ("boarding*", set()),
        (("boarding pass", "3.50"), {"pass.jpg", "receipt.png"}),  # any of several texts
        (("boarding coffee", "to 3.50", "to"), {"pass.jpg", "receipt.png"}),
        (("nothing", "to gate"), {"pass.jpg"}),
    ],
)
def test_photos_are_found_by_what_is_written_in_them(
    read_index: Path, reads: str | tuple[str, ...], found: set[str]
) -> None:
    assert names(read_index, reads) == found


def test_status_says_how_many_were_read(clipsearch: Run, read_index: Path, drawn_index: Path) -> None:
    assert "text    in 2 of 3 with OCR" in clipsearch("status", index=read_index).out.decode()
    said = json.loads(clipsearch("status", "--json", index=read_index).out)
    assert (said["read"], said["with_text"]) == (3, 2)
    assert "writing" not in clipsearch("status", index=drawn_index).out.decode()


def test_the_command_finds_shows_and_adds_it_to_other_filters(clipsearch: Run, read_index: Path) -> None:
    done = clipsearch("query", "--reads", "gate", "-f", "json", index=read_index)
    (hit,) = json.loads(done.out)
    (line,) = hit["lines"]
    assert hit["path"].endswith("/pass.jpg")
    assert line["text"].startswith("Gate B42")
    assert 60 < line["box"]["left"] < 100
    assert 160 < line["box"]["top"] < 200  # the second line
    assert line["box"]["bottom"] - line["box"]["top"] < 80
    assert line["shares"]["top"] == pytest.approx(line["box"]["top"] / 700, abs=0.001)
    assert clipsearch("query", "white paper", "--reads", "gate", "--type", "png", index=read_index).status == 1
    both = clipsearch("query", "a page", "--reads", "3.50", "-f", "jsonl", index=read_index)
    assert [json.loads(one)["path"].rpartition("/")[2] for one in both.lines] == ["receipt.png"]
    several = clipsearch("query", "--reads", "gate", "--reads", "3.50", "-f", "jsonl", index=read_index)
    lines = {Path(hit["path"]).name: [line["text"] for line in hit["lines"]] for hit in map(json.loads, several.lines)}
    assert set(lines) == {"pass.jpg", "receipt.png"}
    assert len(lines["receipt.png"]) == 2
    assert "lines" not in json.loads(clipsearch("query", "a page", "-k", "1", "-f", "jsonl", index=read_index).out)


def test_a_plain_query_finds_writing(clipsearch: Run, read_index: Path) -> None:
    done = clipsearch("query", "boarding pass", "-k", "2", "-f", "json", index=read_index)
    first, second = json.loads(done.out)
    assert first["path"].endswith("/pass.jpg")
    assert {"kind": "text", "matched": "BOARDING PASS"} in first["why"]
    assert second["why"] == [{"kind": "look"}]
    table = clipsearch("query", "coffee", "--only", "text", "-f", "table", index=read_index).lines
    assert table[1].endswith("/receipt.png")
    assert table[2].strip() == "text: Coffee 3.50"
    assert len(table) == 3  # with the header
    by_look = clipsearch("query", "boarding pass", "--only", "look", "-f", "jsonl", index=read_index)
    assert {json.dumps(json.loads(line)["why"]) for line in by_look.lines} == {'[{"kind": "look"}]'}
    assert clipsearch("query", "nowhere", "--only", "text", index=read_index).status == 1
    refused = clipsearch("query", "coffee", "--only", "sound", index=read_index)
    assert (refused.status, refused.err) == (
        2,
        "clipsearch: --only must be look, text, tags or captions, not 'sound'\n",
    )
    batch = clipsearch("query", "--batch", "-", "-k", "1", stdin=b"coffee\ngate b42\n", index=read_index)
    assert [Path(json.loads(line)["path"]).name for line in batch.lines] == ["receipt.png", "pass.jpg"]


def test_all_the_text_in_photos(
    clipsearch: Run, photos: Path, read_index: Path, drawn: Path, drawn_index: Path
) -> None:
    one = clipsearch("text", photos / "pass.jpg", index=read_index)
    assert (one.status, one.lines) == (0, ["BOARDING PASS", "Gate B42 to Berlin"])
    two = clipsearch("text", photos / "scene.png", photos / "receipt.png", index=read_index)
    heads = [f"==> {photos / name} <==" for name in ("scene.png", "receipt.png")]
    assert (two.status, two.lines[:4]) == (0, [heads[0], "", heads[1], "Coffee 3.50"])
    (found,) = json.loads(clipsearch("text", photos / "pass.jpg", "-f", "json", index=read_index).out)
    assert (found["width"], found["height"], len(found["lines"])) == (1000, 700, 2)
    assert 60 < found["lines"][0]["box"]["left"] < 100
    nothing = clipsearch("text", photos / "scene.png", index=read_index)
    assert (nothing.status, nothing.out, nothing.err) == (1, b"", "")
    missing = clipsearch("text", photos / "no.jpg", photos / "pass.jpg", index=read_index)
    assert (missing.status, len(missing.lines)) == (2, 2)
    assert f"{photos / 'no.jpg'} is not in the index" in missing.err
    unread = clipsearch("text", drawn / "00.png", index=drawn_index)
    assert (unread.status, unread.out) == (2, b"")
    assert "no text has been read yet. Run: clipsearch index --ocr" in unread.err


def test_an_index_that_was_not_read_says_so(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    done = clipsearch("query", "--reads", "total", index=drawn_index)
    assert (done.status, done.out) == (2, b"")
    assert "no text has been read yet. Run: clipsearch index --ocr" in done.err
    assert clipsearch("query", "--reads", "  ", index=drawn_index).status == 2
    with pytest.raises(BadArgument, match="reads must not be empty"):
        Filter(reads=" ")


def test_only_what_is_new_is_read_and_what_was_chosen_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "index"
    assert update_index(index, [folder], Options(model="mini")).read == 0
    assert update_index(index, (), Options(ocr=True)).read == 3
    written("A new one").save(folder / "new.png")
    shutil.copy(folder / "pass.jpg", folder / "copy.jpg")  # the same contents are not read twice
    assert update_index(index).read == 1
    assert names(index, "boarding") == {"pass.jpg", "copy.jpg"}
    (folder / "new.png").unlink()
    update_index(index)
    assert names(index, "new one") == set()
    with Store.open(index) as store:
        assert store.database.execute("SELECT count(*) FROM texts").fetchone() == (3,)
    written("Another").save(folder / "new.png")
    assert update_index(index, (), Options(ocr=False)).read == 0
    assert update_index(index).read == 0
    monkeypatch.setattr(ocr, "Reader", lambda: pytest.fail("read again"))
    update_index(index, (), Options(rebuild=True))  # what was read is kept
    with Store.open(index) as store:
        assert store.database.execute("SELECT count(*) FROM texts").fetchone() == (3,)


def test_without_the_package_a_sentence_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini", ocr=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r"pip install '\.\[ocr\]'$"):
        update_index(tmp_path / "other", [photos], Options(model="mini", ocr=True))
    assert not (tmp_path / "other").exists()
    with pytest.raises(BadRequest, match=r"or give --no-ocr$"):
        update_index(index)
    assert update_index(index, (), Options(ocr=False)).unchanged == 3


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_kill_loses_at_most_a_few_photos(tmp_path: Path, kills: int) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6 * kills):
        written(f"Number {number:04d}").save(tmp_path / f"photos/{number:04d}.jpg")
    index = tmp_path / "index"
    update_index(index, [tmp_path / "photos"], Options(model="mini"))
    command = [sys.executable, "-m", "clipsearch", "index", "--ocr", "--index", index]
    for _ in range(kills):
        before = _read(index)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            limit = time.monotonic() + 60
            while _read(index) == before and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        assert _read(index) >= before
    update_index(index)
    assert _read(index) == 6 * kills
    assert names(index, "number 0003") == {"0003.jpg"}
    with Store.open(index, write=True) as store:
        assert verify(store).repairs == ()


def _read(index: Path) -> int:
    with sqlite3.connect(f"file:{index / CATALOGUE}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT count(*) FROM texts").fetchone()
    database.close()
    return int(count)


def test_a_photo_that_has_changed_since_is_not_read_for_what_it_was(photos: Path, tmp_path: Path) -> None:
    folder, index = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "index"
    update_index(index, [folder], Options(model="mini"))
    with Store.open(index, write=True) as store:
        written("Something else").save(folder / "pass.jpg")
        report = Report()
        read_photos(store, 2, report, lambda progress: None)
    assert report.read == 2


# ------------------------------------------------------------------------------------------ the parts


@pytest.mark.parametrize(("error", "left"), [(DecoderFailed("crashed its decoder"), 1), (ImageUnusable("bad"), 0)])
def test_a_photo_whose_decoder_was_killed_is_read_by_the_next_run(
    error: ImageUnusable, left: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(tmp_path / "index", [photos], Options(model="mini"))

    def fail_once(*_: object) -> Pixels:
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(Decoders, "pixels", fail_once)
    with Store.open(tmp_path / "index", write=True) as store:
        read_photos(store, 1, Report(), lambda _: None)
        assert len(store.ocr_text.unread()) == left


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Größe  Café", "grosse cafe"), ("ＡＢＣ １", "abc 1"), ("ÉCOLE\n№", "ecole no"), ("北京", "北京"), ("", "")],
)
def test_texts_are_compared_without_case_accents_and_width(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_lines_of_any_text_come_back_and_are_found(empty_store: Store) -> None:
    root = empty_store.folders.add(b"/photos", Rules())
    lines = [Line('He said "no" — 100% [x]', *WHOLE), Line("日本の夏 1/2", 0.1, 0.2, 0.3, 0.4)]
    image = put(empty_store, root, b"a.jpg")
    other = put(empty_store, root, b"b.jpg")
    empty_store.ocr_text.put(image, lines)
    empty_store.ocr_text.put(other, [])
    empty_store.commit()
    assert empty_store.lines_of([image, other]) == {image: lines}
    assert empty_store.ocr_text.unread() == []
    for word in ('"no"', "100%", "[x]", "の夏", "日", "1/2", "said 日本の"):
        where = ocr_text.conditions(word)
        sql, values = zip(*where, strict=True)
        query = f"SELECT images.id FROM images WHERE {' AND '.join(sql)}"
        assert empty_store.database.execute(query, values).fetchall() == [(image,)]
    assert ocr_text.matching(lines, ["nothing", "夏 nope"]) == [lines[1]]


def test_text_that_is_read_again_replaces_what_was_found(empty_store: Store) -> None:
    image = put(empty_store, empty_store.folders.add(b"/photos", Rules()), b"a.jpg")
    for text in ("before", "after"):
        empty_store.ocr_text.put(image, [Line(text, 0, 0, 1, 1)])
    query = "SELECT rowid FROM words WHERE words MATCH ?"
    found = [empty_store.database.execute(query, (text,)).fetchall() for text in ("before", "after")]
    assert found == [[], [(image,)]]


def test_damaged_text_is_forgotten_and_read_again(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        image = put(store, store.folders.add(b"/photos", Rules()), b"a.jpg")
        store.ocr_text.put(image, [Line("total", *WHOLE)])
        store.vectors.update()
        assert verify(store).repairs == ()
        store.database.execute("UPDATE texts SET lines = '[]'")
        assert [(one.damage, one.count) for one in verify(store).repairs] == [(Damage.TEXT, 1)]
        assert [one.image_id for one in store.ocr_text.unread()] == [image]


def test_the_reader_says_where_lines_are() -> None:
    page = written("BOARDING PASS", "Gate B42")
    (first, box), (second, below) = ocr.Reader()(np.asarray(page))
    assert (first, second) == ("BOARDING PASS", "Gate B42")
    assert 0.05 < box.left < 0.1 < box.right < 0.6
    assert box.bottom < below.top
    assert ocr.Reader()(np.full((300, 400, 3), 200, np.uint8)) == []


def test_pictures_come_whole_from_the_decoders(photos: Path) -> None:

    with Decoders(1) as decoders:
        pixels = decoders.pixels((photos / "pass.jpg").read_bytes(), 2400)
        small = decoders.pixels((photos / "pass.jpg").read_bytes(), 500)
    assert (pixels.shape, small.shape) == ((700, 1000, 3), (350, 500, 3))
    with Image.open(photos / "pass.jpg") as image:
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_boxes_are_drawn_around_lines() -> None:
    drawn = np.asarray(annotated(Image.new("RGB", (100, 100), "red"), [], [Line("a", 0.2, 0.4, 0.6, 0.5)]))
    marked = np.argwhere((drawn != (255, 0, 0)).any(-1))
    assert (marked.min(0).tolist(), marked.max(0).tolist()) == ([37, 17], [52, 62])


def test_words_of_drawn_pictures_are_found() -> None:
    """The short form of `scripts/measure_ocr.py`, with the fonts that there are."""
    reader, asked = ocr.Reader(), 0
    for number in (0, 1, 2, 5, 6, 10):
        try:
            picture = measure_ocr.draw(number)
        except (OSError, IndexError):
            continue  # its font is not installed
        read = fold(" ".join(text for text, _ in reader(np.asarray(picture.image))))
        missing = [word for word in picture.words if fold(word) not in read]
        assert len(missing) <= len(picture.words) // 8, (number, missing, read)
        asked += 1
    if not asked:
        pytest.skip("none of the fonts is installed")


def test_rows_of_frames_are_not_read(empty_store: Store) -> None:
    root = empty_store.folders.add(b"/photos", Rules())
    video = empty_store.images.add(content_hash(b"v"), Metadata(1, 1), row(1))
    empty_store.images.add_frames(
        video, Metadata(1, 1), [(0.0, content_hash(b"v"), row(1)), (1.0, content_hash(b"w"), row(2))]
    )
    empty_store.photos.put(root, FoundFile(b"v.mp4", 1, 1), video, None)
    assert empty_store.ocr_text.unread() == []
