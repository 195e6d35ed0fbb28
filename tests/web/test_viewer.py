"""The large view: zoom, gestures, slide show, facts, videos."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import videos
from browsing import ask, names, violations
from conftest import SCENES
from formats import exif
from PIL.TiffImagePlugin import IFDRational

from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store
from clipsearch.store.photo import Line

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ORIGINAL = re.compile(r"/original$")
PHONE = {"viewport": {"width": 390, "height": 664}, "has_touch": True}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with more pixels than its preview, and with everything known of it; small ones, and two videos."""
    folder = tmp_path_factory.mktemp("library").resolve() / "photos"
    (folder / "trip").mkdir(parents=True)
    about = exif(
        Model="Camera",
        DateTimeOriginal="2023:05:01 10:00:00",
        LensModel="EF 50mm",
        ExposureTime=IFDRational(1, 250),
        FNumber=IFDRational(28, 10),
        ISOSpeedRatings=400,
        FocalLength=IFDRational(50),
    )
    SCENES[0].image.resize((3_600, 2_400)).save(folder / "trip" / "large.jpg", exif=about)
    for number in (3, 4, 5):
        SCENES[number].image.resize((600, 400)).save(folder / f"small{number}.png")
    videos.clip(folder / "film.mp4", [(SCENES[2].image, 3), (SCENES[7].image, 3), (SCENES[0].image, 3)])
    videos.clip(folder / "old.avi", [(SCENES[11].image, 3), (SCENES[12].image, 3)], codec="mpeg4")
    index = folder.parent / "index"
    update_index(index, [folder], Options(model="mini"))
    with Store.open(index, write=True) as store:
        store.ocr_text.enable(True)
        (root,) = store.roots()
        lines = [Line("Total 3.50", 0.2, 0.2, 0.8, 0.4), Line("Thank you", 0.2, 0.5, 0.8, 0.7)]
        store.ocr_text.put(store.image_of(root, b"trip/large.jpg"), lines)
        store.commit()
    return index


def show(page: Any, name: str) -> None:
    page.locator(".tile .open", has_text=name).click()
    expect(page.locator("#details h2")).to_have_text(name)


def scale(page: Any) -> float:
    return page.evaluate("new DOMMatrix(getComputedStyle(document.querySelector('#large')).transform).a")


def scaled(page: Any, least: float, most: float) -> None:
    """Wait until the scale is in a range: browsers coalesce touches, and handle them with the next frame."""
    page.wait_for_function(
        f"""() => {{
          const scale = new DOMMatrix(getComputedStyle(document.querySelector('#large')).transform).a;
          return scale >= {least} && scale <= {most};
        }}"""
    )


def middle(page: Any, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


# ------------------------------------------------------------------------------------------ zoom


def test_the_original_is_loaded_once_its_preview_has_too_few_pixels(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    show(page, "large.jpg")
    image = page.locator("#large")
    expect(image).to_have_js_property("naturalWidth", 2048)
    for key in ("+", "+"):
        page.keyboard.press(key)
    assert scale(page) == pytest.approx(2.25)
    page.wait_for_timeout(200)
    assert not any(ORIGINAL.search(url) for url in loaded)
    page.keyboard.press("=")
    expect(image).to_have_attribute("src", ORIGINAL)
    expect(image).to_have_js_property("naturalWidth", 3600)
    assert image.evaluate("(image) => image.getBoundingClientRect().width") > 2048
    page.keyboard.press("-")
    assert scale(page) == pytest.approx(2.25)
    for _ in range(20):
        page.keyboard.press("+")
    assert image.evaluate("(image) => image.getBoundingClientRect().width") == pytest.approx(4 * 3600, rel=0.01)
    page.keyboard.press("0")
    assert scale(page) == 1
    page.keyboard.press("Escape")
    show(page, "small3.png")  # which has no more pixels than its preview
    loaded.clear()
    page.get_by_role("button", name="Actual size").click()
    assert scale(page) >= 2
    page.wait_for_timeout(200)
    assert not any(ORIGINAL.search(url) for url in loaded)


def test_wheel_and_double_click_zoom_at_the_mouse(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    show(page, "large.jpg")
    box = page.locator("#large").bounding_box()
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.6 * box["height"]

    def below_mouse() -> list[float]:
        now = page.locator("#large").bounding_box()
        return [(x - now["x"]) / now["width"], (y - now["y"]) / now["height"]]

    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    page.wait_for_function("() => document.querySelector('#stage').classList.contains('zoomed')")
    assert scale(page) == pytest.approx(np.exp(0.8), rel=0.01)
    assert below_mouse() == pytest.approx([0.25, 0.6], abs=0.005)
    page.mouse.wheel(0, 4_000)
    page.wait_for_function("() => !document.querySelector('#stage').classList.contains('zoomed')")
    page.mouse.dblclick(x, y)
    width = page.locator("#large").bounding_box()["width"]
    assert width == pytest.approx(3600, rel=0.01)  # each pixel has one of the screen
    assert below_mouse() == pytest.approx([0.25, 0.6], abs=0.005)
    expect(page.get_by_role("button", name="Actual size")).to_have_attribute("aria-pressed", "true")
    page.mouse.dblclick(x, y)
    assert scale(page) == 1


def test_a_zoomed_photo_moves_as_far_as_its_edges(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    show(page, "large.jpg")
    page.get_by_role("button", name="Actual size").click()
    before = page.locator("#large").bounding_box()
    x, y = middle(page, "#stage")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y - 60, steps=4)
    page.mouse.up()
    moved = page.locator("#large").bounding_box()
    assert [moved["x"] - before["x"], moved["y"] - before["y"]] == pytest.approx([-100, -60], abs=20)
    expect(page.locator("#viewer")).to_be_visible()  # a drag is no click beside the photo
    page.keyboard.press("ArrowRight")
    assert page.locator("#large").bounding_box()["x"] == pytest.approx(moved["x"] - 80, abs=1)
    expect(page.locator("#details h2")).to_have_text("large.jpg")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    corner, stage = page.locator("#large").bounding_box(), page.locator("#stage").bounding_box()
    assert [corner["x"], corner["y"]] == pytest.approx([stage["x"], stage["y"]], abs=1)
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details h2")).not_to_have_text("large.jpg")


# ------------------------------------------------------------------------------------------ fingers


class Fingers:
    """Touches the screen, as Chromium's protocol does."""

    def __init__(self, page: Any) -> None:
        self.session = page.context.new_cdp_session(page)

    def _send(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def move(self, *paths: tuple[tuple[float, float], tuple[float, float]], steps: int = 6) -> None:
        """Move one finger along each path."""
        self._send("touchStart", *[start for start, _ in paths])
        for step in range(1, steps + 1):
            along = step / steps
            self._send("touchMove", *[(a + (c - a) * along, b + (d - b) * along) for (a, b), (c, d) in paths])
        self._send("touchEnd")


def test_swipes_show_the_next_photo_the_one_before_the_facts_and_close(look: Callable[..., Any], library: Path) -> None:
    page = look(library, **PHONE)
    order = names(page, 6)
    show(page, order[3])
    fingers, (x, y) = Fingers(page), middle(page, "#large")
    fingers.move(((x, y), (x - 120, y + 10)))
    expect(page.locator("#details h2")).to_have_text(order[4])
    fingers.move(((x, y), (x + 120, y + 10)))
    expect(page.locator("#details h2")).to_have_text(order[3])
    fingers.move(((x, y), (x + 20, y)))  # not far enough
    page.wait_for_timeout(100)
    expect(page.locator("#details h2")).to_have_text(order[3])
    assert page.evaluate("getComputedStyle(document.querySelector('#large')).translate") in ("none", "0px")
    page.get_by_role("button", name="Details").click()
    expect(page.locator("#details")).to_be_hidden()
    fingers.move(((x, y), (x, y - 150)))
    expect(page.locator("#details")).to_be_visible()
    fingers.move(((x, y), (x + 10, y + 150)))
    expect(page.locator("#viewer")).to_be_hidden()


def test_two_fingers_zoom_and_one_then_moves(look: Callable[..., Any], library: Path) -> None:
    page = look(library, **PHONE)
    show(page, "large.jpg")
    fingers, (x, y) = Fingers(page), middle(page, "#large")
    fingers.move(((x - 40, y), (x - 120, y)), ((x + 40, y), (x + 120, y)))
    scaled(page, 2.7, 3.3)
    left = page.locator("#large").bounding_box()["x"]
    fingers.move(((x, y), (x - 60, y)))
    page.wait_for_function(
        "([least, most]) => { const { x } = document.querySelector('#large').getBoundingClientRect();"
        " return x >= least && x <= most; }",
        arg=[left - 72, left - 48],
    )
    expect(page.locator("#details h2")).to_have_text("large.jpg")
    fingers.move(((x, y - 150), (x, y - 10)), ((x, y + 150), (x, y + 10)))
    scaled(page, 1, 1)
    expect(page.locator("#details h2")).to_have_text("large.jpg")  # pinching is no swipe


# ------------------------------------------------------------------------------------------ slide show, full screen


def test_a_slide_show_goes_on_to_the_end_and_escape_ends_it_first(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    order = names(page, 6)
    page.clock.install()
    show(page, order[-2])
    page.keyboard.press("Space")
    button = page.get_by_role("button", name="Slide show")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Seconds per photo").select_option("10")
    page.clock.run_for(9_000)
    expect(page.locator("#details h2")).to_have_text(order[-2])
    page.clock.run_for(1_500)
    expect(page.locator("#details h2")).to_have_text(order[-1])
    page.clock.run_for(11_000)
    expect(page.locator("#toast")).to_have_text("End of the results")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_label("Seconds per photo")).to_be_hidden()
    button.click()
    page.keyboard.press("Escape")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#viewer")).to_be_visible()
    button.click()
    page.keyboard.press("Space")  # on the button, it is a click
    expect(button).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#viewer")).to_be_hidden()


def test_full_screen_and_back(page: Any) -> None:
    page.locator(".tile .open").first.click()
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement !== null")
    expect(page.locator("#large")).to_be_visible()
    assert page.evaluate("document.elementFromPoint(innerWidth / 3, innerHeight / 2).closest('#viewer') !== null")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("() => document.fullscreenElement === null")
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement !== null")
    page.get_by_role("button", name="Close").click()
    page.wait_for_function("() => document.fullscreenElement === null")
    page.keyboard.press("f")  # in the results, it opens the filters
    expect(page.locator("#filters")).to_be_visible()


# ------------------------------------------------------------------------------------------ facts


def test_the_facts_have_exposure_and_text_and_can_be_hidden(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(page, "large.jpg")
    facts = page.locator("#details dl")
    for name, value in (
        ("Lens", "EF 50mm"),
        ("Exposure", "1/250 s"),
        ("Aperture", "f/2.8"),
        ("ISO", "400"),
        ("Focal length", "50 mm"),
        ("Dimensions", "3600 × 2400"),
    ):
        expect(facts.locator("div", has=page.locator("dt", has_text=name)).locator("dd")).to_have_text(value)
    text = page.get_by_role("textbox", name="Text in the photo")
    expect(text).to_have_text("Total 3.50\nThank you")
    text.click(click_count=3, position={"x": 30, "y": 18})
    assert page.evaluate("getSelection().toString()").startswith("Total 3.50")
    page.get_by_role("button", name="Copy text").click()
    assert page.evaluate("navigator.clipboard.readText()") == "Total 3.50\nThank you"
    width = page.locator("#stage").bounding_box()["width"]
    page.keyboard.press("i")
    expect(page.locator("#details")).to_be_hidden()
    assert page.locator("#stage").bounding_box()["width"] > width + 300
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details")).to_be_hidden()
    page.get_by_role("button", name="Details").click()
    expect(page.locator("#details")).to_be_visible()
    expect(page.get_by_role("textbox", name="Text in the photo")).to_have_count(0)


def test_a_folder_is_shown_at_the_photo_and_back_leads_to_it(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    page.locator(".tile .select").first.click()
    page.locator(".tile .open", has_text="large.jpg").press("Enter")
    link = page.get_by_role("link", name="Show in folder")
    folder = library.parent / "photos" / "trip"
    link.click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#command")).to_contain_text(f"--under {folder}")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("#selection-count")).to_have_text("1 selected")
    page.go_back()
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#details h2")).to_have_text("large.jpg")
    with page.context.expect_page() as opened:
        link.click(modifiers=["Control"])
    expect(opened.value.locator(".filter")).to_contain_text(str(folder))


# ------------------------------------------------------------------------------------------ videos


def film(page: Any, what: str) -> Any:
    return page.locator("#film").evaluate(f"(film) => film.{what}")


def test_a_video_plays_from_the_second_that_was_found(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    ask(page, SCENES[7].captions[0])
    parts: list[str | None] = []
    page.on("response", lambda answer: parts.append(answer.headers.get("content-range")))
    show(page, "film.mp4")
    expect(page.locator("#film")).to_be_visible()
    expect(page.locator("#large")).to_be_hidden()
    frames = page.locator("#frames button")
    expect(frames).to_have_count(3)
    current = page.locator("#frames [aria-current=true]")
    page.wait_for_function("() => document.querySelector('#film').readyState >= 2")
    assert 3 <= film(page, "currentTime") <= 6
    assert any(part and part.startswith("bytes ") for part in parts)
    expect(current).to_have_attribute("aria-label", re.compile("0:0[3-5]"))
    frames.last.click()
    page.wait_for_function("() => document.querySelector('#film').currentTime >= 6")
    page.keyboard.press("Home")  # in the strip, keys go through the frames
    page.wait_for_function("() => document.querySelector('#film').currentTime < 1")
    page.keyboard.press("ArrowRight")
    expect(current).to_be_focused()
    page.wait_for_function("() => document.querySelector('#film').currentTime >= 3")
    expect(page.locator("#details h2")).to_have_text("film.mp4")
    assert film(page, "paused")
    page.locator("#film").focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => !document.querySelector('#film').paused")
    expect(page.get_by_role("button", name="Slide show")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Show where").click()
    expect(page.locator("#film")).to_be_hidden()
    assert film(page, "paused")
    expect(page.locator("#large")).to_have_attribute("src", re.compile(r"/where\.jpg"))
    page.get_by_role("button", name="Show where").click()
    page.get_by_role("button", name="Next photo").click()
    expect(page.locator("#film")).to_be_hidden()
    expect(page.locator("#large")).to_be_visible()
    expect(page.locator("#frames")).to_be_hidden()
    assert not film(page, "hasAttribute('src')")


def test_a_video_that_browsers_do_not_play_is_shown_by_its_frames(look: Callable[..., Any], library: Path) -> None:
    page = look(library)
    show(page, "old.avi")
    image, frames = page.locator("#large"), page.locator("#frames button")
    expect(frames).to_have_count(2)
    expect(image).to_be_visible()
    expect(page.locator("#film")).to_be_hidden()
    frames.last.focus()
    frames.last.press("Enter")
    expect(frames.last).to_have_attribute("aria-current", "true")
    last = image.get_attribute("src")
    expect(image).to_have_js_property("complete", True)
    page.keyboard.press("ArrowLeft")
    expect(frames.first).to_be_focused()
    expect(image).not_to_have_attribute("src", last)
    page.keyboard.press("ArrowRight")
    expect(image).to_have_attribute("src", last)
    assert page.locator("#large-missing").is_hidden()
    page.get_by_role("button", name="Actual size").click()
    assert scale(page) > 1
    assert image.get_attribute("src") == last  # its original is no picture


# ------------------------------------------------------------------------------------------ for everybody


@pytest.mark.parametrize("width", [360, 1440])
def test_the_large_view_has_no_barriers(look: Callable[..., Any], library: Path, width: int) -> None:
    page = look(library, "text=a+circle", viewport={"width": width, "height": 800})

    def check() -> None:
        assert not violations(page)
        assert page.evaluate("document.querySelector('#viewer').scrollWidth") <= width
        for button in page.locator("#stage .overlay:visible").all():
            inside = button.bounding_box()
            assert inside["x"] >= 0
            assert inside["x"] + inside["width"] <= page.evaluate("document.documentElement.clientWidth")

    show(page, "large.jpg")
    expect(page.get_by_role("textbox", name="Text in the photo")).to_be_visible()
    check()
    page.keyboard.press("Space")
    page.keyboard.press("+")
    check()
    page.keyboard.press("Space")
    page.keyboard.press("i")
    check()
    page.keyboard.press("Escape")
    show(page, "film.mp4")
    expect(page.locator("#frames button")).to_have_count(3)
    check()
