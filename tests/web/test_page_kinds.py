"""The page with videos, OCR text and keywords."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import videos
from conftest import SCENES
from PIL import Image
from starlette.testclient import TestClient

from clipsearch.images.xmp import with_keywords
from clipsearch.indexing.update import Options, update_index
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Line
from clipsearch.web.app import create_app

LINES = [Line("Total 3.50", 0.25, 0.25, 0.75, 0.5), Line("Coffee", 0.25, 0.6, 0.75, 0.9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    SCENES[0].image.save(folder / "receipt.png")
    SCENES[1].image.save(folder / "tagged.png")
    (folder / "tagged.png.xmp").write_bytes(with_keywords(None, ["grandma", "beach"]))
    videos.clip(folder / "film.mp4", [(SCENES[2].image, 3), (SCENES[3].image, 3)])
    update_index(tmp_path / "index", [folder], Options(model="mini"))
    with Store.open(tmp_path / "index", write=True) as store:
        store.ocr_text.enable(True)
        (root,) = store.roots()
        store.ocr_text.put(store.image_of(root, b"receipt.png"), LINES)
        store.commit()
    return folder


@pytest.fixture
def page(folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(tmp_path / "index", "the token", pictures=Pictures(ThumbnailCache(tmp_path / "pictures")))
    with TestClient(app, base_url="http://127.0.0.1:8642", follow_redirects=False) as client:
        assert client.get("/", params={"token": "the token"}).status_code == 303
        yield client


def picture(answer: object) -> np.ndarray:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def test_writing_is_a_filter_and_has_boxes(page: TestClient) -> None:
    found = page.get("/search", params={"reads": "total"}).json()
    (hit,) = found["hits"]
    assert hit["name"] == "receipt.png"
    assert "--reads total" in found["command"]
    plain = picture(page.get(f"/photo/{hit['id']}/large.jpg"))
    marked = picture(page.get(f"/photo/{hit['id']}/where.jpg", params={"reads": "total"}))
    rows, columns = np.nonzero(np.abs(marked - plain).sum(-1) > 150)
    height, width = plain.shape[:2]
    assert rows.min() / height == pytest.approx(0.25, abs=0.05)
    assert rows.max() / height == pytest.approx(0.5, abs=0.05)  # and none around the coffee
    assert columns.min() / width == pytest.approx(0.25, abs=0.05)
    both = page.get(f"/photo/{hit['id']}/where.jpg", params={"reads": "total", "text": SCENES[0].captions[0]})
    assert np.abs(picture(both) - marked).mean() > 1
    assert page.get(f"/photo/{hit['id']}/where.jpg", params={"type": "png"}).status_code == 400


def test_more_is_told_of_one_photo_than_of_results(page: TestClient, folder: Path) -> None:
    hits = {hit["name"]: hit for hit in page.get("/search").json()["hits"]}
    assert page.get(f"/photo/{hits['receipt.png']['id']}/more").json() == {
        "can_ask": False,
        "can_detect": False,
        "exposure": dict.fromkeys(("lens", "time", "aperture", "iso", "focal_length")),
        "lines": ["Total 3.50", "Coffee"],
        "frames": [],
        "faces": [],
        "people": [],
    }
    tagged = f"/photo/{hits['tagged.png']['id']}/more"
    assert page.get(tagged).json()["lines"] == []
    (folder / "tagged.png").write_bytes(b"no image")
    assert page.get(tagged).json()["exposure"] is None
    shutil.rmtree(folder)
    assert page.get(tagged).json()["exposure"] is None


def test_a_video_has_the_frames_that_were_indexed(page: TestClient) -> None:
    found = page.get("/search", params={"type": "video", "text": SCENES[3].captions[0]}).json()["hits"]
    more = page.get(f"/photo/{found[0]['id']}/more").json()
    assert (more["exposure"], more["lines"]) == (None, [])
    times = [frame["time"] for frame in more["frames"]]
    assert len(times) == 2
    assert times == sorted(times)
    assert {"id": found[0]["id"], "time": found[0]["time"]} in more["frames"]
    pictures = [picture(page.get(f"/photo/{frame['id']}/small.jpg")) for frame in more["frames"]]
    assert np.abs(pictures[0] - pictures[1]).mean() > 10
    assert page.get(f"/photo/{more['frames'][0]['id']}/more").json()["frames"] == more["frames"]


def test_keywords_are_filters(page: TestClient) -> None:
    found = page.get("/search", params={"keyword": ["Grandma", "beach"]}).json()
    assert [hit["name"] for hit in found["hits"]] == ["tagged.png"]
    assert found["hits"][0]["keywords"] == ["grandma", "beach"]
    assert "--keyword Grandma --keyword beach" in found["command"]


def test_a_video_is_shown_by_its_frame_and_played_in_parts(page: TestClient, folder: Path) -> None:
    found = page.get("/search", params={"type": "video", "text": SCENES[3].captions[0]}).json()
    (hit,) = found["hits"]
    id = hit["id"]
    shown = [SCENES[2].image, SCENES[3].image][round(hit["time"] / 3)]
    small = picture(page.get(f"/photo/{id}/small.jpg"))
    expected = np.asarray(shown.convert("RGB").resize(videos.SIZE)).astype(int)
    assert small.shape == expected.shape
    assert np.abs(small - expected).mean() < 12
    whole = (folder / "film.mp4").read_bytes()
    answer = page.get(f"/photo/{id}/original", headers={"Range": "bytes=10-29"})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (206, "video/mp4", whole[10:30])
    assert page.get(f"/photo/{id}/original").content == whole


def test_what_has_taken_the_place_of_a_video_does_not_go_out(page: TestClient, folder: Path) -> None:
    id = page.get("/search", params={"type": "video"}).json()["hits"][0]["id"]
    (folder / "film.mp4").write_text("<html><script>alert(1)</script>")
    assert page.get(f"/photo/{id}/original").status_code == 404
    assert page.get(f"/photo/{id}/small.jpg").status_code == 404
    (folder / "film.mp4").unlink()
    assert page.get(f"/photo/{id}/original").status_code == 404
    os.mkfifo(folder / "film.mp4")
    assert page.get(f"/photo/{id}/original").status_code == 404
    shutil.rmtree(folder)
    assert page.get(f"/photo/{id}/small.jpg").status_code == 404


def test_a_video_goes_out_only_while_it_is_what_was_indexed(tmp_path: Path) -> None:
    path = tmp_path / "photos" / "a.mp4"
    path.parent.mkdir()
    videos.clip(path, [(SCENES[2].image, 2)])
    update_index(tmp_path / "index", [path.parent], Options(model="mini"))
    data = path.read_bytes()
    pictures = Pictures(ThumbnailCache(tmp_path / "pictures"))
    app = create_app(tmp_path / "index", "the token", pictures=pictures)
    with TestClient(app, base_url="http://127.0.0.1:8642") as page:
        page.get("/", params={"token": "the token"})
        id = page.get("/search").json()["hits"][0]["id"]
        original, frame = f"/photo/{id}/original", f"/photo/{id}/large.jpg"

        def statuses() -> list[int]:
            return [page.get(address).status_code for address in (original, frame)]

        assert page.get(original).content == data
        part = page.get(original, headers={"range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        path.rename(tmp_path / "moved.mp4")
        shutil.copyfile(tmp_path / "moved.mp4", path)  # other times, the same contents
        assert page.get(original).content == data
        path.unlink()
        path.symlink_to(tmp_path / "moved.mp4")  # a link, the same contents
        assert page.get(original).content == data
        videos.clip(tmp_path / "moved.mp4", [(SCENES[7].image, 3)])
        assert statuses() == [404, 404]
        path.unlink()
        videos.clip(path, [(SCENES[7].image, 3)])
        assert statuses() == [404, 200]
