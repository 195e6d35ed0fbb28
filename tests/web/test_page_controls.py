"""What one sees and does on the page: messages, the large view, chips, keys."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import videos
from browsing import answered, ask, scroll
from conftest import SCENES

from clipsearch.indexing.update import Options, update_index

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


# ------------------------------------------------------------------------------------------ messages


def is_in_front(page: Any, selector: str) -> bool:
    """Whether the middle of an element is in the window, with nothing in front of it."""
    return page.evaluate(
        """(selector) => {
      const box = document.querySelector(selector), { left, top, width, height } = box.getBoundingClientRect();
      box.style.pointerEvents = "auto"; // else it would be passed over
      return box.contains(document.elementFromPoint(left + width / 2, top + height / 2));
    }""",
        selector,
    )


def test_a_confirmation_is_seen_in_the_large_view(page: Any) -> None:
    page.locator(".tile .open").first.click()
    page.get_by_role("button", name="Copy path").click()
    expect(page.locator("#toast")).to_have_text("1 path copied")
    page.wait_for_timeout(300)  # it fades in
    assert is_in_front(page, "#toast")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    assert is_in_front(page, "#toast")


def test_an_error_is_seen_wherever_one_has_scrolled_and_goes_with_its_cause(
    look: Callable[..., Any], many: Path
) -> None:
    page = look(many)
    scroll(page, 7_000)
    page.route("**/status", lambda route: route.abort())
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("No response from clipsearch serve; is it still running?")
    assert is_in_front(page, "#error")
    page.locator(".tile .open").nth(20).click()
    expect(page.locator("#viewer")).to_be_visible()
    page.wait_for_timeout(2_500)
    assert is_in_front(page, "#error")
    page.unroute("**/status")
    expect(alert).to_have_count(0)
    page.keyboard.press("Escape")
    page.route("**/search?*", lambda route: route.fulfill(status=500, json={"error": "the disk is full"}))
    page.locator("#unique").evaluate("(box) => box.click()")
    expect(alert).to_contain_text("The disk is full.")
    page.unroute("**/search?*")
    page.locator("#unique").evaluate("(box) => box.click()")
    expect(alert).to_have_count(0)


def test_an_error_can_be_dismissed(page: Any) -> None:
    page.route("**/search?*", lambda route: route.fulfill(status=500, json={"error": "the disk is full"}))
    page.locator("#unique").check()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_on_a_slow_network_the_page_is_there_before_its_results(look: Callable[..., Any], drawn_index: Path) -> None:
    page = look(drawn_index)

    def slowly(route: Any) -> None:
        time.sleep(0.3)
        route.continue_()

    page.route("**/search?*", slowly)
    page.route("**/static/page.js", slowly)
    page.goto(page.url, wait_until="commit")
    expect(page.locator(".skeleton span").first).to_be_visible()
    expect(page.locator(".progress")).to_have_css("opacity", "1")
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".skeleton")).to_be_hidden()
    loaded = page.evaluate("""performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".js"))
      .map(({ name, startTime }) => [name.split("/").at(-1), startTime])""")
    first = min(start for _, start in loaded)
    assert len(loaded) > 15
    assert all(start - first < 250 for _, start in loaded), loaded  # together, not one after the other imports it


# ------------------------------------------------------------------------------------------ the large view


@pytest.fixture(scope="module")
def odd_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "photos"
    folder.mkdir()
    SCENES[3].image.resize((60, 900)).save(folder / "narrow.png")
    SCENES[4].image.resize((1_600, 120)).save(folder / "wide.png")
    SCENES[5].image.resize((900, 600)).save(folder / "usual.png")
    videos.clip(folder / "film.mp4", [(SCENES[2].image, 3)])
    videos.clip(folder / "old.avi", [(SCENES[7].image, 2)], codec="mpeg4")
    update_index(folder.parent / "index", [folder], Options(model="mini"))
    return folder.parent / "index"


def test_the_large_view_has_no_edges_beside_a_photo(look: Callable[..., Any], odd_library: Path) -> None:
    page = look(odd_library)
    sizes = ({"width": 1280, "height": 800}, {"width": 390, "height": 844})
    ratios = (("narrow.png", 60 / 900), ("wide.png", 1_600 / 120), ("usual.png", 1.5))
    for size, (name, ratio) in itertools.product(sizes, ratios):
        page.set_viewport_size(size)
        page.locator(".tile .open", has_text=name).click()
        expect(page.locator("#large")).to_have_js_property("complete", True)
        box, stage = page.locator("#large").bounding_box(), page.locator(".stage").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(ratio, rel=0.03)
        assert stage["x"] <= box["x"]
        assert box["x"] + box["width"] <= stage["x"] + stage["width"] + 1
        assert box["height"] <= stage["height"]
        page.keyboard.press("Escape")


def test_a_click_beside_the_photo_closes_the_large_view(page: Any) -> None:
    page.locator(".tile .open").first.click()
    page.locator("#large").click()
    expect(page.locator("#viewer")).to_be_visible()
    page.locator(".stage").click(position={"x": 200, "y": 20})
    expect(page.locator("#viewer")).to_be_hidden()


def test_where_stays_on_while_one_steps(page: Any) -> None:
    ask(page, "a circle")
    page.locator(".tile .open").first.click()
    page.get_by_role("button", name="Show where").click()
    for _ in range(2):
        source = page.locator("#large").get_attribute("src")
        assert "/where.jpg" in source
        page.keyboard.press("ArrowRight")
        expect(page.locator("#large")).not_to_have_attribute("src", source)
    expect(page.get_by_role("button", name="Show where")).to_have_attribute("aria-pressed", "true")


def test_videos_have_a_badge_and_open_as_something_to_see(look: Callable[..., Any], odd_library: Path) -> None:
    page = look(odd_library)
    for name, length in (("film.mp4", "0:03"), ("old.avi", "0:02")):
        expect(page.locator(".tile", has_text=name).locator(".video")).to_have_text(length)
    expect(page.locator(".tile", has_text="usual.png").locator(".video")).to_have_count(0)
    page.locator(".tile .open", has_text="old.avi").click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open original").click()
    assert opened.value.evaluate("document.contentType") == "image/jpeg"


# ------------------------------------------------------------------------------------------ chips and keys


def test_chips_can_be_read(look: Callable[..., Any], many: Path) -> None:
    terms = "text=a+golden+retriever+on+grass&text=2:a+dog&not=people"
    filters = "camera=Camera+3&after=2016-05&orientation=landscape"
    page = look(many, f"{terms}&{filters}", viewport={"width": 390, "height": 800})
    for width in (390, 610, 800, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        for chip in page.locator(".chip bdi, .filter").all():
            assert chip.evaluate("(text) => text.scrollWidth <= text.clientWidth + 1 && text.clientHeight < 40")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_question_mark_in_the_empty_search_field_shows_the_help(page: Any) -> None:
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_have_value("")
    page.locator("#text").press_sequentially("what?")
    expect(page.locator("#text")).to_have_value("what?")
    expect(page.locator("#help")).to_be_hidden()


def test_escape_closes_one_thing_after_the_other(page: Any) -> None:
    page.locator(".tile").first.hover()
    page.locator(".tile .select").first.click()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Path contains").fill("png")
    page.get_by_label("Path contains").press("Escape")
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.locator("#selection-count")).to_have_text("1 selected")
    answered(page)
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    page.locator("#text").fill("a star")
    page.locator("#text").press("Escape")
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#text")).to_be_focused()
    page.locator("#text").press("Escape")
    expect(page.locator("#text")).not_to_be_focused()
