"""Videos: found by the right frame, dropped when deleted, and hostile ones are skipped quickly."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from conftest import SCENES, Run
from formats import bag, xmp
from PIL import Image
from stores import DIM, put, row

from clipsearch.errors import ImageUnusable
from clipsearch.images import read, video
from clipsearch.images.found_file import FoundFile
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Preprocess, preprocess
from clipsearch.images.rules import Rules
from clipsearch.images.sandbox import Decoders, VideoFrame
from clipsearch.indexing.update import Options, update_index
from clipsearch.indexing.why import State, why_of
from clipsearch.models.encoders import numpy_encoder
from clipsearch.models.model import mini
from clipsearch.search.find import Searcher
from clipsearch.search.hit import Hit
from clipsearch.search.question import Limits, Term
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.verify import Damage, verify

HOW = Preprocess((32, 32))
SHOWN = [scene.image for scene in SCENES[:4]]
TEXTS = {"title": "Sea", "description": "At the sea", "keywords": "dog, beach"}
ABOUT = {"creation_time": "2023-05-06T07:08:09Z", "location": "+48.8577-002.2950/"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of four scenes, three seconds each, a photo of the third, and another film."""
    folder = tmp_path_factory.mktemp("films")
    videos.clip(folder / "film.mp4", [(picture, 3) for picture in SHOWN], metadata=ABOUT)
    videos.clip(folder / "other.webm", [(SCENES[5].image, 2)], codec="libvpx")
    SHOWN[2].resize(videos.SIZE).save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def film_index(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("index") / "index"
    report = update_index(index, [films], Options(model="mini"))
    assert (report.added, report.embedded, report.skipped) == (3, 6, [])
    return index


def nearest(index: Path, picture: Image.Image, limits: Limits | None = None, where: Filter = EVERYTHING) -> list[Hit]:
    with Store.open(index) as store:
        searcher = Searcher(store, where)
        return searcher.query([Term(searcher.embedder.image(picture.resize(videos.SIZE)))], limits or Limits())


# ------------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("number", range(4))
def test_a_film_is_found_at_the_second_that_shows_it(film_index: Path, number: int) -> None:
    hits = nearest(film_index, SHOWN[number])
    film = next(hit for hit in hits if hit.path.name == "film.mp4")
    assert film.photo.time == pytest.approx(3 * number, abs=0.2)
    assert sorted(hit.path.name for hit in hits) == ["film.mp4", "other.webm", "photo.png"]  # once each


def test_all_its_frames_are_found_when_they_are_asked_for(film_index: Path) -> None:
    hits = nearest(film_index, SHOWN[1], Limits(frames=True))
    times = [hit.photo.time for hit in hits if hit.path.name == "film.mp4"]
    assert sorted(times) == pytest.approx([0, 3, 6, 9], abs=0.2)
    assert times[0] == pytest.approx(3, abs=0.2)
    assert len({hit.photo.image_id for hit in hits}) == len(hits) == 6


CONTAINERS = [
    *(("00001.MTS", "mpegts", "libx264"), ("00002.m2ts", "mpegts", "libx264"), ("tv.ts", "mpegts", "mpeg2video")),
    *(("MOV001.MOD", "vob", "mpeg2video"), ("VTS_01_1.VOB", "vob", "mpeg2video"), ("CLIP.MPG", "mpeg", "mpeg2video")),
    *(("Video000.3gp", "3gp", "mpeg4"), ("film.3g2", "3g2", "mpeg4"), ("VID.insv", "mp4", "libx264")),
    *(("film.wmv", "asf", "wmv2"), ("clip.flv", "flv", "flv"), ("film.mxf", "mxf", "mpeg2video")),
    *(("raw.m2v", "mpeg2video", "mpeg2video"), ("film.ogv", "ogg", "libvpx")),
    *(("ivf.webm", "ivf", "libvpx"), ("raw.m4v", "m4v", "mpeg4")),
    *(("asf.avi", "asf", "wmv2"), ("ts.mpg", "mpegts", "mpeg2video"), ("mp4.mod", "mp4", "libx264")),
]


@pytest.mark.parametrize(("name", "form", "codec"), CONTAINERS)
def test_every_container_is_read_also_under_the_name_of_another(
    tmp_path: Path, name: str, form: str, codec: str
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    videos.clip(folder / name, [(picture, 3) for picture in SHOWN[:2]], rate=25, keys=12, codec=codec, form=form)
    report = update_index(tmp_path / "index", [folder], Options(model="mini"))
    assert (report.added, report.skipped) == (1, [])
    (found,) = nearest(tmp_path / "index", SHOWN[1], where=Filter(types=["video"]))
    assert 2.9 < found.photo.time < 6  # a key frame of the second scene
    assert found.score > 0.85  # old codecs lose detail


def test_as_many_as_are_asked_for_though_one_film_has_them_all(films: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    videos.clip(folder / "long.mp4", [(picture, 1) for _ in range(10) for picture in SHOWN[:2]])
    for number in range(6, 12):
        SCENES[number].image.save(folder / f"{number}.png")
    update_index(tmp_path / "index", [folder], Options(model="mini"))
    hits = nearest(tmp_path / "index", SHOWN[0], Limits(3))
    assert len(hits) == 3
    assert hits[0].path.name == "long.mp4"
    assert len({hit.path for hit in hits}) == 3


def test_filters_choose_among_films_and_all_their_frames(film_index: Path) -> None:
    for where in (
        Filter(types=["video"]),
        Filter(after="2023-05-06", before="2023-05-07"),
        Filter(near="48.8577,-2.295"),
        Filter(name="film"),
    ):
        hits = nearest(film_index, SHOWN[1], where=where)
        assert hits[0].path.name == "film.mp4"
        assert hits[0].photo.time == pytest.approx(3, abs=0.2)
    assert [hit.path.name for hit in nearest(film_index, SHOWN[1], where=Filter(types=["png"]))] == ["photo.png"]


def test_the_command_says_the_time_and_paths_say_the_file(clipsearch: Run, film_index: Path, films: Path) -> None:
    done = clipsearch("query", "--image", films / "photo.png", "-f", "jsonl", index=film_index)
    film = next(hit for line in done.lines if (hit := json.loads(line))["path"].endswith("film.mp4"))
    assert film["time"] == pytest.approx(6, abs=0.2)
    assert (film["width"], film["height"], film["latitude"], film["longitude"]) == (*videos.SIZE, 48.8577, -2.295)
    assert "photos  3 (3 distinct)" in clipsearch("status", index=film_index).out.decode()
    paths = clipsearch("query", "--type", "video", index=film_index)
    assert sorted(os.path.basename(path) for path in paths.lines) == ["film.mp4", "other.webm"]
    several = clipsearch("query", SCENES[0].captions[0], "--frames", "--type", "video", "-f", "jsonl", index=film_index)
    assert len(several.lines) == 5
    table = clipsearch("query", "--image", films / "photo.png", "-f", "table", index=film_index)
    assert "film.mp4  [0:12]  at 0:06" in table.out.decode()
    newest = clipsearch("query", "--type", "video", "-f", "table", index=film_index).out.decode()
    assert "film.mp4  [0:12]" in newest
    assert "at 0:06" not in newest
    assert "other.webm  [0:02]\n" in newest


def test_the_sheet_shows_the_frame_and_leads_to_its_time(
    clipsearch: Run, film_index: Path, films: Path, tmp_path: Path
) -> None:
    page = tmp_path / "sheet.html"
    done = clipsearch("query", "--image", films / "photo.png", "--html", page, index=film_index)
    assert done.status == 0
    text = page.read_text()
    assert "film.mp4#t=6" in text
    assert "at 0:06" in text
    assert text.count('<span class="video">') == 2
    assert '<span class="video">0:12</span>' in text
    assert text.count("data:image/jpeg;base64") == 2  # without the photo itself


def test_copies_are_of_the_file_once(clipsearch: Run, film_index: Path, tmp_path: Path) -> None:
    done = clipsearch("query", "a film", "--frames", "--type", "video", "--copy-to", tmp_path / "out", index=film_index)
    assert done.status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film.mp4", "other.webm"]


def test_where_labels_and_duplicates_work_on_films(clipsearch: Run, film_index: Path, films: Path) -> None:
    done = clipsearch("query", SCENES[0].captions[0], "--where", "-f", "jsonl", "--type", "video", index=film_index)
    assert all(json.loads(line)["where"]["box"]["right"] <= videos.SIZE[0] for line in done.lines)
    assert len(clipsearch("label", "a film", "a cat", "--type", "video", index=film_index).lines) == 2
    assert clipsearch("duplicates", index=film_index).status == 1
    similar = clipsearch("duplicates", "--similar", "--similarity", "0", "-f", "table", index=film_index, COLUMNS="300")
    assert "other.webm  [0:02]" in similar.out.decode()
    assert clipsearch("duplicates", "--similar", index=film_index).status in (0, 1)


# ------------------------------------------------------------------------------------------ the index


def test_what_is_known_is_not_decoded_again_and_goes_when_the_file_goes(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = shutil.copytree(films, tmp_path / "films"), tmp_path / "index"
    update_index(index, [folder], Options(model="mini"))
    with monkeypatch.context() as patch:
        patch.setattr(Decoders, "decode_video", lambda *_: pytest.fail("decoded again"))
        shutil.move(folder / "film.mp4", folder / "moved.mp4")
        shutil.copy(folder / "moved.mp4", folder / "copy.mp4")
        report = update_index(index)
    assert (report.moved, report.duplicates, report.embedded) == (1, 1, 0)
    (folder / "moved.mp4").unlink()
    (folder / "copy.mp4").unlink()
    update_index(index)
    with Store.open(index, write=True) as store:
        assert store.images.count() == 2
        assert store.database.execute("SELECT count(*) FROM frames").fetchone() == (1,)
        assert verify(store).repairs == ()
    assert {hit.path.name for hit in nearest(index, SHOWN[0])} == {"other.webm", "photo.png"}


def test_without_the_package_films_are_left_out_and_those_known_are_kept(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = shutil.copytree(films, tmp_path / "films"), tmp_path / "index"
    update_index(index, [folder], Options(model="mini"))
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: False)
    report = update_index(index)
    assert (report.removed, report.unchanged) == (0, 3)
    assert update_index(index, (), Options(video=False)).removed == 2  # which needs no look at them
    assert update_index(tmp_path / "other", [folder], Options(model="mini")).added == 1
    with Store.open(tmp_path / "other") as store:
        why = why_of(store, folder / "film.mp4")
    assert why.state is State.EXCLUDED
    assert "pip install '.[video]'" in why.detail


def test_videos_can_be_left_out(films: Path, tmp_path: Path) -> None:
    folder, index = shutil.copytree(films, tmp_path / "films"), tmp_path / "index"
    shutil.copy(folder / "film.mp4", folder / "LOUD.MP4")
    assert update_index(index, [folder], Options(model="mini", video=False)).added == 1
    assert update_index(index).added == 0  # it is remembered
    assert update_index(index, (), Options(video=True)).added == 3


def test_frames_without_a_video_are_no_damage_only_with_one(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", "a model", DIM) as store:
        root = store.folders.add(b"/photos", Rules())
        put(store, root, b"a.jpg")
        film = store.images.add(b"1" * 16, Metadata(1, 1), row(1))
        store.images.add_frames(film, Metadata(1, 1), [(0.0, b"1" * 16, row(1)), (2.0, b"2" * 16, row(2))])
        store.photos.put(root, FoundFile(b"v.mp4", 1, 1), film, None)
        store.vectors.update()
        assert verify(store).repairs == ()
        store.database.execute("DELETE FROM photos WHERE path = ?", (b"v.mp4",))
        store.database.execute("DELETE FROM loose")  # as if a disk had lost it
        assert [(one.damage, one.count) for one in verify(store).repairs] == [(Damage.NO_PHOTO, 2)]


# ------------------------------------------------------------------------------------------ decoding


def times(path: Path) -> list[float]:
    return list(video.distinct_frames(str(path), HOW).times)


def test_frames_are_taken_where_the_picture_changes(tmp_path: Path) -> None:
    assert times(videos.clip(tmp_path / "a.mp4", [(SHOWN[0], 25), (SHOWN[1], 2)])) == pytest.approx([0, 10, 20, 25])
    fast = videos.clip(tmp_path / "b.mp4", [(SHOWN[n % 3], 0.25) for n in range(24)], keys=1)
    found = times(fast)
    assert all(later - sooner >= 1 for sooner, later in itertools.pairwise(found))
    assert 4 <= len(found) <= 6


def test_a_film_with_one_key_frame_is_decoded_between(tmp_path: Path) -> None:
    shown = videos.clip(tmp_path / "a.mkv", [(SHOWN[0], 12), (SHOWN[1], 12)], keys=10_000)
    assert times(shown) == pytest.approx([0, 10, 12, 22], abs=0.5)


def test_times_are_those_of_the_frames_where_the_rate_changes(tmp_path: Path) -> None:
    shown = [(SHOWN[0], 0), (SHOWN[1], 1.5), (SHOWN[2], 7.25), (SHOWN[3], 40)]
    assert times(videos.irregular(tmp_path / "a.mp4", shown)) == pytest.approx([0, 1.5, 7.25, 40], abs=0.01)


def test_ten_hours_in_a_few_kilobytes_take_no_time(tmp_path: Path) -> None:
    long = videos.irregular(tmp_path / "a.mp4", [(SHOWN[n % 4], 300 * n) for n in range(120)])
    found = times(long)
    assert os.path.getsize(long) < 2_000_000
    assert 100 <= len(found) <= video.MAX_FRAMES
    assert found[-1] > 35_000


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_films_are_shown_upright(tmp_path: Path, degrees: int) -> None:
    picture = Image.new("RGB", videos.SIZE, "blue")
    picture.paste("red", (0, 0, 160, 120))  # the upper left
    path = videos.clip(tmp_path / "a.mp4", [(picture, 1)], rotation=degrees)
    found = video.distinct_frames(str(path), Preprocess((64, 64), resize_mode="squash"))
    turned = picture.rotate(degrees, expand=True)
    assert (found.metadata.width, found.metadata.height) == turned.size
    expected = np.asarray(turned.resize((64, 64))).astype(int)
    assert np.abs(found.pixels[0].astype(int) - expected).mean() < 12
    assert video.frame_at(str(path), 0.0, 100).size == tuple(side * 100 // 320 for side in turned.size)


def scene() -> Image.Image:
    """Nothing like its own reflections and rotations."""
    picture = Image.new("RGB", videos.SIZE, (40, 90, 200))
    picture.paste((230, 60, 30), (0, 0, 160, 120))
    picture.paste((250, 240, 200), (220, 30, 300, 100))
    return picture


def seen(path: Path, seconds: float = 0.0) -> np.ndarray:
    return np.asarray(video.frame_at(str(path), seconds, 320)).astype(int)


ONE = 1 << 16
TURNS = Image.Transpose


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((-ONE, 0, 0, ONE), TURNS.FLIP_LEFT_RIGHT),
        ((ONE, 0, 0, -ONE), TURNS.FLIP_TOP_BOTTOM),
        ((-ONE, 0, 0, -ONE), TURNS.ROTATE_180),
        ((0, ONE, -ONE, 0), TURNS.ROTATE_270),
        ((0, -ONE, ONE, 0), TURNS.ROTATE_90),
        ((0, ONE, ONE, 0), TURNS.TRANSPOSE),
        ((0, -ONE, -ONE, 0), TURNS.TRANSVERSE),
    ],
)
def test_a_display_matrix_turns_and_mirrors(tmp_path: Path, matrix: tuple[int, int, int, int], turn: TURNS) -> None:
    path = with_matrix(videos.clip(tmp_path / "a.mov", [(scene(), 1)]), matrix)
    expected = np.asarray(scene().transpose(turn)).astype(int)
    assert np.abs(seen(path) - expected).mean() < 6
    found = video.distinct_frames(str(path), HOW).metadata
    assert (found.height, found.width) == expected.shape[:2]


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Change the display matrix of the track in a MOV."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = matrix
    assert struct.unpack_from(">9i", data, at) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_a_display_matrix_stretches(tmp_path: Path) -> None:
    path = with_matrix(videos.clip(tmp_path / "a.mov", [(scene(), 1)]), (3 * ONE // 2, 0, 0, ONE))
    found = video.distinct_frames(str(path), HOW).metadata
    assert (found.width, found.height) == (480, 240)
    assert video.frame_at(str(path), 0.0, 320).size == (320, 160)


def faded(seconds: float) -> list[tuple[Image.Image, float]]:
    black = Image.new("RGB", videos.SIZE)
    return [(Image.blend(black, scene(), min(1, n / 8 / seconds)), 1 / 8) for n in range(64)]


@pytest.mark.parametrize("seconds", [0.5, 2, 5])
def test_a_clip_that_fades_in_from_black_is_seen(tmp_path: Path, seconds: float) -> None:
    path = videos.clip(tmp_path / "a.mp4", faded(seconds), keys=10_000)
    pixels = video.distinct_frames(str(path), Preprocess((64, 64), resize_mode="squash")).pixels.astype(int)
    expected = np.asarray(scene().resize((64, 64))).astype(int)
    assert min(np.abs(one - expected).mean() for one in pixels) < 15


def test_a_live_photo_that_begins_black_is_seen(tmp_path: Path) -> None:
    path = videos.clip(tmp_path / "a.mp4", [(Image.new("RGB", videos.SIZE), 0.5), (scene(), 0.75)], keys=10_000)
    assert len(times(path)) == 2


def test_a_change_between_distant_keyframes_is_seen(tmp_path: Path) -> None:
    path = videos.clip(tmp_path / "a.mp4", [(SHOWN[0], 3), (SHOWN[1], 2), (SHOWN[2], 3)], keys=10_000)
    assert times(path) == pytest.approx([0, 3, 5], abs=0.5)


def test_without_time_only_keyframes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = videos.clip(tmp_path / "a.mp4", [(SHOWN[0], 3), (SHOWN[1], 2), (SHOWN[2], 3)], keys=40)
    monkeypatch.setattr(video, "_PATIENCE", 0.0)
    assert times(path) == [0]
    ticks = itertools.count()
    monkeypatch.setattr(video, "_PATIENCE", 40.0)
    monkeypatch.setattr(video.time, "monotonic", lambda: 0.0 if next(ticks) == 0 else 30.0)
    assert times(path) == [0, 5]


def test_damaged_packets_are_skipped(tmp_path: Path) -> None:
    path = videos.clip(tmp_path / "a.mkv", [(SHOWN[n], 4) for n in range(3)], codec="mjpeg", keys=1, pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    assert len(starts) == 96
    for start in starts[33:60]:
        data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    assert times(path) == pytest.approx([0, 4, 8])


COLOURS = {
    "HLG": ("yuv420p10le", {"matrix": 9, "primaries": 9, "transfer": videos.HLG}),
    "PQ": ("yuv420p10le", {"matrix": 9, "primaries": 9, "transfer": videos.PQ}),
    "HLG, 4:2:2, full range": ("yuv422p10le", {"matrix": 9, "primaries": 9, "transfer": videos.HLG, "full": True}),
    "PQ, 4:4:4, P3": ("yuv444p10le", {"matrix": 9, "primaries": 12, "transfer": videos.PQ}),
    "BT.2020 without HDR": ("yuv420p10le", {"matrix": 9, "primaries": 9, "transfer": 14}),
    "P3 without HDR": ("yuv420p", {"matrix": 1, "primaries": 12}),
    "BT.709": ("yuv422p", {"matrix": 1}),
    "BT.709, full range": ("yuv420p", {"matrix": 1, "full": True}),
    "BT.709, 10 bits": ("yuv444p10le", {"matrix": 1}),
    "BT.601": ("yuv420p", {"matrix": 5, "primaries": 6, "transfer": 6}),
    "BT.601, full range, 10 bits": ("yuv422p10le", {"matrix": 5, "primaries": 6, "transfer": 6, "full": True}),
    "unsaid": ("yuv420p", {"matrix": 5, "tagged": False}),
}


@pytest.mark.parametrize(("pix_fmt", "colours"), COLOURS.values(), ids=COLOURS)
def test_colours_are_those_of_srgb(tmp_path: Path, pix_fmt: str, colours: dict[str, object]) -> None:
    picture = SHOWN[0].convert("RGB").resize(videos.SIZE)
    path = videos.lossless(tmp_path / "a.mkv", picture, pix_fmt, **colours)
    # Tone mapping darkens what is nearly white, to leave room for highlights.
    most = 8 if colours.get("transfer") in (videos.PQ, videos.HLG) else 3
    assert np.abs(seen(path) - np.asarray(picture)).mean() < most
    frame, encoder = video.frame_at(str(path), 0, 320), numpy_encoder(mini(), texts=False, images=True)
    assert encoder is not None
    rows = encoder.encode_images(np.stack([preprocess(one, mini().preprocess) for one in (picture, frame)]))
    assert rows[0] @ rows[1] >= 0.98


def test_hd_that_says_nothing_has_the_matrix_of_hd(tmp_path: Path) -> None:
    picture = SHOWN[0].convert("RGB").resize((1280, 720))
    path = videos.lossless(tmp_path / "a.mkv", picture, "yuv420p", matrix=1, tagged=False)
    assert np.abs(np.asarray(video.frame_at(str(path), 0, 1280), int) - np.asarray(picture)).mean() < 3


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"com.apple.quicktime.creationdate": "2019-07-24T21:25:40+1000"}, "2019-07-24T21:25:40"),
        ({"com.apple.quicktime.creationdate": "2019-01-24T21:25:40+0000"}, "2019-01-24T21:25:40"),
        ({"creation_time": "2019-07-24T11:25:40Z", "date": "2019-07-24T21:25:40+10:00"}, "2019-07-24T21:25:40"),
        ({"creation_time": "2019-07-24T11:25:40Z"}, "2019-07-24T13:25:40"),
        ({"creation_time": "2019-07-24T11:25:40Z", "date": "2019"}, "2019-07-24T13:25:40"),
        ({"date": "2019-07-24"}, "2019-07-24T00:00:00"),
        ({"creation_time": "1904-01-01T00:00:00Z"}, None),
        ({"creation_time": "1970-01-01T00:00:09Z"}, None),
        ({"com.apple.quicktime.creationdate": "1965-06-01T12:00:00+0100"}, "1965-06-01T12:00:00"),  # a digitized film
        ({"date": "2019"}, "2019-01-01T00:00:00"),
        ({"date": "2003:03:10 15:04:43"}, "2003-03-10T15:04:43"),
        ({"date_recorded": "2019-07-24"}, "2019-07-24T00:00:00"),
    ],
)
def test_a_film_is_dated_by_the_clock_of_its_camera(
    said: dict[str, str], taken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert video._taken(said) == taken
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_a_film_says_of_itself(tmp_path: Path) -> None:
    said = {"creation_time": "1904-01-01T00:00:00Z", "location": "+91.0+000.0/"}
    about = video.distinct_frames(str(videos.clip(tmp_path / "a.mp4", [(SHOWN[0], 1)], metadata=said)), HOW).metadata
    assert about == Metadata(*videos.SIZE, duration=1.0)


@pytest.mark.parametrize(
    ("place", "latitude", "longitude"),
    [
        ("+48.8577+002.2950/", 48.8577, 2.295),
        ("-33.8577-151.2950+035.000CRSWGS_84/", -33.8577, -151.295),
        ("+4851.462+00217.700/", 48.8577, 2.295),  # degrees and minutes
        ("+485127.72-0021742.0/", 48.8577, -2.295),  # and seconds
        ("+8.5-2.3/", 8.5, -2.3),
        ("+00.0000+000.0000/", None, None),
        ("+48857+002.2950/", None, None),
        ("+91.0+000.0/", None, None),
        ("Paris", None, None),
    ],
)
def test_a_film_says_where_it_was_taken(place: str, latitude: float | None, longitude: float | None) -> None:
    assert video._position(place) == (latitude, longitude)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a.mov", {f"com.apple.quicktime.{key}": text for key, text in TEXTS.items()}),
        ("a.mp4", TEXTS),
    ],
)
def test_a_film_has_a_title_a_caption_and_keywords(path: str, said: dict[str, str], tmp_path: Path) -> None:
    options = {"movflags": "use_metadata_tags"} if path == "a.mov" else {}
    film = videos.clip(tmp_path / path, [(SHOWN[0], 0.5)], metadata=said, options=options)
    about = xmp(f"<dc:subject>{bag('cat')}</dc:subject>", 'xmp:Rating="4"')
    box = b"uuid" + bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + about
    film.write_bytes(film.read_bytes() + (len(box) + 4).to_bytes(4, "big") + box)
    found = video.distinct_frames(str(film), HOW).metadata
    assert (found.title, found.caption, found.keywords, found.rating) == ("Sea", "At the sea", "dog\nbeach\ncat", 4)


def test_a_camcorder_writes_the_date_into_the_stream(tmp_path: Path) -> None:
    def unit(*pairs: str) -> bytes:
        uuid = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66")
        message = uuid + b"MDPM" + bytes([len(pairs)]) + b"".join(map(bytes.fromhex, pairs))
        message = message.replace(b"\0\0", b"\0\0\3")  # zeros are escaped
        return b"\0\0\0\1\x06\x05" + bytes([len(message)]) + message + b"\x80"

    dated = unit("1302200902", "1812201102", "1914101112", "7000000000")
    film = videos.clip(tmp_path / "00001.MTS", [(SHOWN[0], 0.5)], form="mpegts", before_packets=dated)
    found = video.distinct_frames(str(film), HOW).metadata
    assert (found.taken, found.taken_from) == ("2011-02-14T10:11:12", "video")
    for damaged in (unit("1812201102"), unit("1812201113", "1914101112"), dated[:-20], dated[:27], b""):
        assert video._camcorder_time(damaged) is None


class Listening(HTTPServer):
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Ask)


class _Ask(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.usefixtures("decoding_processes")
def test_hostile_files_cost_themselves(films: Path, tmp_path: Path, listening: Listening) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    whole = (films / "film.mp4").read_bytes()
    (folder / "half.mkv").write_bytes(videos.clip(tmp_path / "w.mkv", [(SHOWN[0], 4)]).read_bytes()[:-3000])
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # what says where things are is at its end
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(100_000))
    (folder / "empty.avi").touch()
    (folder / "list.mkv").write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{listening.server_port}/a.ts\n")
    (folder / "files.mkv").write_text(f"#EXTM3U\n#EXTINF:1,\n{films / 'film.mp4'}\n")
    (folder / "concat.avi").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    sound(folder / "sound.mp4")
    rng = np.random.default_rng(1)
    for number in range(8):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 40):
            data[place] = rng.integers(256)
        (folder / f"damaged{number}.mp4").write_bytes(data)
    SHOWN[0].save(folder / "fine.png")
    report = update_index(tmp_path / "index", [folder], Options(model="mini"))
    reasons = {os.path.basename(os.fsdecode(path)): reason for path, reason in report.skipped}
    assert reasons["cut.mp4"] == reasons["noise.mp4"] == "not a video that can be read"
    assert {reasons[name] for name in ("list.mkv", "files.mkv", "concat.avi")} == {"not a video that can be read"}
    assert listening.asked == []
    assert reasons["sound.mp4"] == "has sound but no picture"
    assert reasons["empty.avi"] == "empty file"
    assert {"half.mkv", "fine.png"}.isdisjoint(reasons)


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    """An audio file with a picture of its cover, under the name of a video."""
    cover = SHOWN[0].convert("RGB").resize(videos.SIZE)
    with av.open(str(tmp_path / "song.m4v"), "w", format="mp4") as container:
        streams = container.add_stream("mjpeg", 1), container.add_stream("aac", 44100)
        streams[0].width, streams[0].height, streams[0].pix_fmt = *videos.SIZE, "yuvj420p"
        streams[0].disposition = av.stream.Disposition.attached_pic
        frames = (
            av.VideoFrame.from_ndarray(np.asarray(cover), "rgb24"),
            av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), "fltp", "mono"),
        )
        frames[0].pts, frames[1].sample_rate = 0, 44100
        for stream, frame in zip(streams, frames, strict=True):
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with pytest.raises(ImageUnusable, match="has sound but no picture"):
        video.distinct_frames(str(tmp_path / "song.m4v"), HOW)


@pytest.mark.parametrize(("name", "options"), [("a.mov", {"movflags": "faststart"}), ("a.mkv", {})])
def test_a_film_with_a_hole_or_without_its_end_is_known_as_such(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    path = videos.clip(tmp_path / name, [(SHOWN[n], 3) for n in range(4)], rate=25, options=options)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "whole": whole,
        "hole": whole[:middle] + bytes(2000) + whole[middle + 2000 :],
        "cut": whole[: len(whole) * 6 // 10 - 100],
    }
    found = {}
    for what, data in damaged.items():
        path.write_bytes(data)
        found[what] = video.distinct_frames(str(path), HOW)
    assert {what: film.is_partial for what, film in found.items()} == {"whole": False, "hole": True, "cut": True}
    assert len(found["whole"].times) > len(found["cut"].times) > 0


@pytest.mark.usefixtures("decoding_processes")
def test_a_film_that_stalls_its_decoder_costs_its_time(films: Path) -> None:
    with (
        Decoders(1, HOW, seconds=0.01) as decoders,
        pytest.raises(ImageUnusable, match="took longer than"),
    ):
        decoders.decode_video(os.fsencode(films / "film.mp4"))


def test_a_still_of_a_film_is_what_it_shows_then(films: Path, tmp_path: Path) -> None:
    with Decoders(1) as decoders:
        (tmp_path / "a.jpg").write_bytes(decoders.jpeg(VideoFrame(os.fsencode(films / "film.mp4"), 9.0), 160))
        with pytest.raises(ImageUnusable):
            decoders.jpeg(VideoFrame(os.fsencode(tmp_path / "none.mp4"), 1.0), 100)
    with Image.open(tmp_path / "a.jpg") as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    differences = [np.abs(shown - np.asarray(picture.resize((160, 120)).convert("RGB"))).mean() for picture in SHOWN]
    assert int(np.argmin(differences)) == 3


def test_contents_are_known_by_size_and_parts(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(40_000_000)
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b.mp4").write_bytes(data)
    (tmp_path / "c.mp4").write_bytes(data[:-1])
    a, b, c = (read.video_hash(os.fsencode(tmp_path / f"{name}.mp4")) for name in "abc")
    assert a == b != c
    assert read.frame_hash(a, 1.0) != read.frame_hash(a, 2.0)
    with pytest.raises(ImageUnusable, match="no such file"):
        read.video_hash(os.fsencode(tmp_path / "none.mp4"))
    assert [is_video_name(name) for name in (b"a.MP4", b"a.jpg", b"mp4")] == [True, False, False]
