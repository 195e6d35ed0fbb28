"""Boxes of a detector in the large view."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import videos
from browsing import ask, violations
from conftest import SCENES, Run, save_scenes
from starlette.testclient import TestClient
from tiny_vlms import save_vlm, tiny_owl

from clipsearch.index import Index, open_index
from clipsearch.indexing.update import Options, update_index
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.web.app import create_app

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra vlm")

LOADING = 120_000  # milliseconds for torch, transformers and the network on a busy machine
OWN = "http://127.0.0.1:8642"


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "owl"
    save_vlm(folder, *tiny_owl())
    return str(folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn photos and a video."""
    folder = tmp_path_factory.mktemp("library")
    save_scenes(folder / "photos", 2)
    videos.clip(folder / "photos/film.mp4", [(SCENES[2].image, 3), (SCENES[7].image, 3)])
    update_index(folder / "index", [folder / "photos"], Options(model="mini"))
    return folder / "index"


def test_detections_are_those_of_the_detector(library: Path, owl: str, tmp_path: Path) -> None:
    app = create_app(library, "the token", pictures=Pictures(ThumbnailCache(tmp_path)), detector=owl)
    with TestClient(app, base_url=OWN, headers={"Origin": OWN}) as client:
        client.get("/", params={"token": "the token"})
        photo = next(hit for hit in client.get("/search").json()["hits"] if not hit["is_video"])
        address = f"/photo/{photo['id']}"
        more = client.get(f"{address}/more").json()
        assert (more["can_ask"], more["can_detect"]) == (False, True)
        found = client.post(f"{address}/detections", params={"text": "a dog"}).json()
        preview = client.get(f"{address}/large.jpg").content
        expected, _ = Index(library).detect("a dog", preview, owl)
        assert found["text"] == "a dog"
        assert [one["box"] for one in found["detections"]] == [pytest.approx(one.box) for one in expected]
        assert [one["score"] for one in found["detections"]] == [pytest.approx(one.score) for one in expected]
        assert client.post(f"{address}/detections").status_code == 400
        assert client.post(f"{address}/detections", headers={"Origin": "http://evil"}).status_code == 403
        assert client.post(f"{address}/answer", params={"question": "?"}).status_code == 404
        assert client.post(f"/photo/{'0' * 32}/detections", params={"text": "a dog"}).status_code == 404


def test_without_a_detector_nothing_is_found(library: Path, tmp_path: Path) -> None:
    app = create_app(library, "the token", pictures=Pictures(ThumbnailCache(tmp_path)))
    with TestClient(app, base_url=OWN, headers={"Origin": OWN}) as client:
        client.get("/", params={"token": "the token"})
        address = f"/photo/{client.get('/search').json()['hits'][0]['id']}"
        assert client.get(f"{address}/more").json()["can_detect"] is False
        assert client.post(f"{address}/detections", params={"text": "a dog"}).status_code == 404


def test_a_model_that_cannot_detect_is_refused_at_the_start(clipsearch: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vilt"}')
    run = clipsearch("serve", "--port", 0, "--detector", tmp_path, index=library)
    assert (run.status, run.out) == (2, b"")
    assert (
        run.err == f"clipsearch: {tmp_path} is a model of type vilt, which cannot detect things in photos; "
        "owlv2 is a detector, clipseg a segmenter\n"
    )


def test_boxes_are_over_the_photo(look: Callable[..., Any], library: Path, owl: str) -> None:
    page = look(library, serving=("--detector", owl))
    ask(page, "a dog")
    photos = page.locator(".tile .open").filter(has_not_text="film.mp4")
    photos.first.click()
    field = page.get_by_label("Find in this photo")
    expect(field).to_have_value("a dog")
    with page.expect_response(re.compile("/detections"), timeout=LOADING) as answer:
        field.press("Enter")
    detections = answer.value.json()["detections"]
    boxes = page.locator("#detection-boxes .box")
    expect(boxes).to_have_count(len(detections))
    expect(page.locator(".question [role=status]")).to_have_text(re.compile(f"^{len(detections)} found: "))
    picture = page.locator("#large").bounding_box()  # a frame is 4 pixels wide or more
    for n, (left, top, right, bottom) in enumerate(one["box"] for one in detections):
        box = boxes.nth(n).bounding_box()
        assert box["x"] - picture["x"] == pytest.approx(left * picture["width"], abs=4)
        assert box["y"] - picture["y"] == pytest.approx(top * picture["height"], abs=4)
        assert box["width"] == pytest.approx((right - left) * picture["width"], abs=4)
        assert box["height"] == pytest.approx((bottom - top) * picture["height"], abs=4)
    assert not violations(page)
    page.locator(".question").get_by_label("Show boxes").uncheck()
    expect(boxes.first).to_be_hidden()
    switch = page.locator(".question").get_by_label("Show boxes")
    switch.press("Space")
    expect(boxes.first).to_be_visible()
    status = page.locator(".question [role=status]")
    send = page.get_by_role("button", name="Find", exact=True)
    for number, answer, shown in ((500, {"error": "it failed"}, "it failed"), (200, {"detections": []}, "None found")):
        page.route("**/detections?*", lambda route, _, n=number, json=answer: route.fulfill(status=n, json=json))
        send.press("Enter")
        expect(status).to_have_text(shown)
        expect(send).to_be_focused()
        expect(boxes).to_have_count(0)
        expect(switch).to_have_count(0)
        page.unroute("**/detections?*")
    with page.expect_response(re.compile("/detections"), timeout=LOADING):
        send.press("Enter")
    expect(boxes).to_have_count(len(detections))
    page.get_by_role("button", name="Next photo").click()
    expect(boxes).to_have_count(0)
    expect(page.locator(".question").get_by_label("Show boxes")).to_have_count(0)


def test_in_a_video_a_frame_is_searched(look: Callable[..., Any], library: Path, owl: str) -> None:
    page = look(library, serving=("--detector", owl, "--endpoint", "http://127.0.0.1:9/v1", "--vlm-model", "any"))
    page.locator(".tile .open", has_text="film.mp4").click()
    film, frames = page.locator("#film"), page.locator("#frames button")
    expect(film).to_be_visible()
    expect(frames).to_have_count(2)
    frames.last.click()
    page.get_by_label("Find in this photo").fill("a red <circle>")
    with page.expect_response(re.compile("/detections"), timeout=LOADING) as answer:
        page.get_by_role("button", name="Find", exact=True).click()
    with open_index(library) as index:
        (*_, last) = index.frames(next(photo for photo in index.photos() if photo.is_video).content.hex())
    assert last.content.hex() in answer.value.url
    boxes = page.locator("#detection-boxes .box")
    expect(boxes.first).to_have_attribute("aria-label", re.compile("a red <circle>, "))
    expect(film).to_be_hidden()
    expect(page.locator("#large")).to_have_attribute("src", re.compile(last.content.hex()))
    page.route("**/answer?*", lambda route: route.fulfill(json={"answer": route.request.url, "score": None}))
    page.get_by_label("Ask about this photo").fill("how many?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".question [role=status]").first).to_contain_text(last.content.hex())
    frames.first.click()
    expect(boxes).to_have_count(0)
    expect(film).to_be_visible()
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/detections?*", hold)
    film.evaluate("film => film.play()")
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.locator(".question [role=status]").last).to_have_text("Looking…")
    assert film.evaluate("film => film.paused")
    frames.last.click()
    held.pop().fulfill(json={"detections": [{"box": [0, 0, 1, 1], "score": 1}]})
    expect(page.locator(".question [role=status]").last).to_have_text("The picture has changed. Find again.")
    expect(boxes).to_have_count(0)
