"""Panoramas and long screenshots: what is at their ends is found, and each stays one photo."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from hypothesis import given
from hypothesis import strategies as st
from odd_photos import new_collection
from PIL import Image

from clipsearch.cluster.collection import open_collection
from clipsearch.cluster.publish import publish
from clipsearch.extras import is_installed
from clipsearch.images.decode import decode
from clipsearch.images.preprocess import Preprocess, model_input, model_inputs, parts_of
from clipsearch.images.sandbox import Decoders
from clipsearch.index import Index
from clipsearch.indexing.update import Options, update_index
from clipsearch.search.find import Searcher
from clipsearch.search.hit import Hit
from clipsearch.search.question import Limits, Term
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Line
from clipsearch.store.searchable import Searchable
from clipsearch.store.verify import verify

SIDE = 320
WIDE, TALL, TURNED = (0, 1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11)  # the scenes in each panorama
OTHERS = range(12, 40)
CROPPED = Preprocess((64, 64))  # sees the middle
SQUEEZED = Preprocess((64, 64), resize_mode="squash")


def strip(numbers: tuple[int, ...]) -> Image.Image:
    """Scenes side by side."""
    picture = Image.new("RGB", (SIDE * len(numbers), SIDE))
    for place, number in enumerate(numbers):
        picture.paste(SCENES[number].image.resize((SIDE, SIDE)), (SIDE * place, 0))
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A panorama, a tall picture with transparency, one that EXIF rotates, and ordinary pictures."""
    folder = tmp_path_factory.mktemp("panoramas")
    exif = Image.Exif()
    exif[0x0132], exif[0x0112] = "2023:05:06 07:08:09", 1
    strip(WIDE).save(folder / "wide.jpg", exif=exif, quality=95)
    tall = Image.new("RGBA", (SIDE, SIDE * len(TALL)))
    for place, number in enumerate(TALL):
        tall.paste(SCENES[number].image.resize((SIDE, SIDE)), (0, SIDE * place))
    tall.save(folder / "tall.png")
    exif[0x0112] = 6  # stored on its side
    strip(TURNED).transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=95)
    for number in OTHERS:
        SCENES[number].image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("index") / "index"
    report = update_index(index, [folder], Options(model="mini", precision="fp32"))
    assert (report.added, report.skipped) == (3 + len(OTHERS), [])
    return index


def nearest(store: Searchable, number: int, limits: Limits | None = None, where: Filter = EVERYTHING) -> list[Hit]:
    searcher = Searcher(store, where)
    return searcher.query([Term(searcher.embedder.image(SCENES[number].image))], limits or Limits(len(SCENES)))


# ------------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize(("name", "shown"), [("wide.jpg", WIDE), ("tall.png", TALL), ("turned.jpg", TURNED)])
def test_every_part_is_found_and_the_photo_is_one_result(
    index: Path, name: str, shown: tuple[int, ...], frames: bool
) -> None:
    with Store.open(index) as store:
        for number in shown:
            hits = nearest(store, number, Limits(len(SCENES), frames=frames))
            assert (hits[0].path.name, hits[0].photo.time) == (name, None)
            assert hits[0].score > 0.9
            assert len({hit.path for hit in hits}) == len(hits) == 3 + len(OTHERS)


def test_filters_texts_and_other_pages_of_results_see_the_parts(index: Path) -> None:
    last = WIDE[-1]
    with Store.open(index) as store:
        for where in (Filter(types=["jpeg"]), Filter(after="2023-05-06", before="2023-05-07"), Filter(name="wide")):
            assert nearest(store, last, where=where)[0].path.name == "wide.jpg"
        assert "wide.jpg" not in {hit.path.name for hit in nearest(store, last, where=Filter(types=["png"]))}
        searcher = Searcher(store)
        rank = {hit.path.name: hit.rank for hit in searcher.query([Term(SCENES[last].captions[0])], Limits(99))}
        assert rank["wide.jpg"] <= 3
        few = nearest(store, last, Limits(2))  # though parts of the panorama are the closest images
        assert [hit.path for hit in few] == [hit.path for hit in nearest(store, last)[:2]]


def test_a_collection_gives_the_same_answers(index: Path, tmp_path: Path) -> None:
    if not is_installed("milvus"):
        pytest.skip("needs pymilvus")
    place = new_collection(tmp_path)
    publish(index, place)
    with Store.open(index) as store, open_collection(place) as collection:
        for number in (*WIDE, *TALL, *TURNED):
            assert nearest(collection, number) == nearest(store, number)
        photo = nearest(store, WIDE[-1])[0].photo
        assert collection.find_image(photo.content) == store.find_image(photo.content) != photo.image_id
        assert collection.summary()[:2] == store.summary()[:2]
        some = store.select(Filter(types=["jpeg"])), collection.select(Filter(types=["jpeg"]))
        for frames, count in ((True, 1 + 9 + 1 + 5), (False, 2)):
            assert len(store.images_in(some[0], frames=frames)) == count
            assert (
                collection.images_in(some[1], frames=frames).tolist()
                == store.images_in(some[0], frames=frames).tolist()
            )


def test_where_points_into_the_part_that_matches(clipsearch: Run, index: Path) -> None:
    caption = SCENES[WIDE[-1]].captions[0]
    done = clipsearch("query", caption, "--where", "--name", "wide", "-f", "jsonl", index=index)
    box = json.loads(done.lines[0])["where"]["shares"]
    assert box["right"] - box["left"] <= 0.25
    assert box["left"] >= 0.7


# ------------------------------------------------------------------------------------------ one photo


def test_it_counts_as_one_photo_everywhere(clipsearch: Run, index: Path, folder: Path, tmp_path: Path) -> None:
    count = 3 + len(OTHERS)
    assert f"photos  {count} ({count} distinct)" in clipsearch("status", index=index).out.decode()
    assert json.loads(clipsearch("status", "--json", index=index).out)["photos"] == count
    assert len(clipsearch("label", "a circle", "a house", index=index).lines) == count
    with Index(index) as opened:
        assert sum(opened.count_labels(["a circle", "a house"]).values()) == count
        assert sum(opened.count_labels(["a circle", "a house"], filter=Filter(name="wide")).values()) == 1
    captions = tmp_path / "captions.tsv"
    captions.write_text("".join(f"{folder / f'{number}.png'}\t{SCENES[number].captions[0]}\n" for number in OTHERS))
    assert json.loads(clipsearch("eval", captions, "--json", index=index).out)["among"] == count
    assert (clipsearch("duplicates", index=index).status, clipsearch("verify", index=index).status) == (1, 0)


def test_copies_are_found_and_folded_with_the_confidence_of_the_part(
    clipsearch: Run, folder: Path, tmp_path: Path
) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    shutil.copy(folder / "wide.jpg", photos / "a.jpg")
    shutil.copy(folder / "wide.jpg", photos / "b.jpg")
    with Image.open(folder / "wide.jpg") as image:
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(photos / "small.jpg", quality=85)
    SCENES[20].image.save(photos / "other.png")
    assert update_index(index, [photos], Options(model="mini")).duplicates == 1
    groups = [line.split("\t") for line in clipsearch("duplicates", "-f", "tsv", index=index).lines]
    assert len(groups) == 3
    caption = SCENES[WIDE[-1]].captions[0]
    every = [json.loads(line) for line in clipsearch("query", caption, "-f", "jsonl", index=index).lines]
    unique = [json.loads(line) for line in clipsearch("query", caption, "--unique", "-f", "jsonl", index=index).lines]
    assert (len(every), len(unique)) == (4, 2)
    best = next(hit for hit in unique if not hit["path"].endswith("other.png"))
    assert best["confidence"] == max(hit["confidence"] for hit in every if hit["score"] == best["score"])


def test_text_is_read_once_and_shown_for_every_part(index: Path, tmp_path: Path) -> None:
    shutil.copytree(index, tmp_path / "index")
    with Store.open(tmp_path / "index", write=True) as store:
        store.ocr_text.enable(True)
        wide = [one for one in store.ocr_text.unread() if one.path.endswith(b"wide.jpg")]
        assert len(wide) == 1
        store.ocr_text.put(wide[0].image_id, [Line("Gate B42", 0, 0, 1, 1)])
        store.commit()
        hits = nearest(store, WIDE[-1], where=Filter(reads=["gate"]))
        assert [hit.path.name for hit in hits] == ["wide.jpg"]
        assert hits[0].photo.image_id != wide[0].image_id
        (with_lines,) = Searcher(store).with_lines(hits, ["gate"])
        assert [line.text for line in with_lines.lines] == ["Gate B42"]


def test_its_parts_stay_and_go_with_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    shutil.copy(folder / "wide.jpg", photos)
    shutil.copy(folder / "12.png", photos)
    assert update_index(index, [photos], Options(model="mini")).embedded == 1 + 9 + 1
    with monkeypatch.context() as patch:
        patch.setattr(Decoders, "decode", lambda *_: pytest.fail("decoded again"))
        (photos / "wide.jpg").rename(photos / "moved.jpg")
        assert update_index(index).moved == 1
    with Store.open(index) as store:
        assert nearest(store, WIDE[-1])[0].path.name == "moved.jpg"
    (photos / "moved.jpg").unlink()
    update_index(index)
    with Store.open(index, write=True) as store:
        assert (store.images.count(), store.images.has_frames()) == (1, False)
        assert verify(store).repairs == ()


# ------------------------------------------------------------------------------------------ the parts


@given(st.integers(1, 4000), st.floats(1, 60), st.booleans(), st.sampled_from([CROPPED, SQUEEZED]))
def test_parts_cover_a_panorama_and_are_few(short: int, ratio: float, upright: bool, how: Preprocess) -> None:
    long = round(short * ratio)
    width, height = (short, long) if upright else (long, short)
    parts = parts_of(how, width, height)
    assert len(parts) <= 32
    if long < 2 * short or short < 32:
        assert parts == []
        return
    edges = [(part.top, part.bottom) if upright else (part.left, part.right) for part in parts]
    if how is CROPPED:  # the whole shows the middle
        edges = sorted([*edges, (0.5 - short / long / 2, 0.5 + short / long / 2)])
    assert edges[0][0] == 0
    assert edges[-1][1] == pytest.approx(1)
    overlaps = [(before[1] - after[0]) * long / short for before, after in itertools.pairwise(edges)]
    assert min(overlaps) > (0.35 if ratio < 16 else -0.001 if ratio < 32 else -0.3 if ratio < 40 else -1)


def test_parts_are_squares_and_the_whole_is_as_it_was() -> None:
    picture = strip(WIDE)
    for how in (CROPPED, SQUEEZED):
        decoded = decode(encoded(picture))
        inputs = model_inputs(decoded, how)
        np.testing.assert_array_equal(inputs[0], model_input(decoded, how))
        for number, end in ((1, 0), (-1, SIDE * (len(WIDE) - 1))):
            square = picture.crop((end, 0, end + SIDE, SIDE))
            np.testing.assert_array_equal(inputs[number], model_inputs(decode(encoded(square)), how)[0])


def encoded(picture: Image.Image) -> bytes:
    from io import BytesIO

    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
