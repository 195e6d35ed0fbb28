"""The home of the page: a timeline of all photos, of which only those near the window are loaded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import first_visible, noted, scroll, violations

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ENTRIES = 1_960  # of `many`: 2,000 files, 40 of them identical copies


def loaded(page: Any) -> None:
    """Wait until all tiles are photos."""
    expect(page.locator(".tile").first).to_be_visible()
    expect(page.locator(".pending")).to_have_count(0)


def test_months_are_scrolled_to_and_only_their_photos_are_loaded(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    expect(page.locator("#summary")).to_have_text("2,000 photos, 40 identical copies folded, newest first")
    loaded(page)
    assert page.locator(".heading").first.inner_text().split("\n")[0] == "December 2022"
    counted = page.evaluate("fetch('/search?layout=1').then((answer) => answer.json())")["layout"]
    assert (sum(n for _, n in counted["days"]), len(counted["shapes"])) == (ENTRIES, ENTRIES)
    slider, asked = page.get_by_role("slider", name="Scroll to month"), []
    page.on("request", lambda request: asked.append(request.url) if "/search" in request.url else None)
    command = page.locator("#command").inner_text()
    height = page.evaluate("document.documentElement.scrollHeight")
    slider.focus()
    for key, month in (("PageDown", "November 2021"), ("ArrowDown", "July 2021"), ("End", "January 2015")):
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuetext", month)
        loaded(page)
    expect(page.locator(".heading", has_text="January 2015")).to_be_in_viewport()
    assert page.locator(".tile").count() < 160
    assert sum(int(re.search(r"count=(\d+)", url)[1]) for url in asked) < ENTRIES / 2
    assert page.locator("#command").inner_text() == command
    page.keyboard.press("PageUp")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("2015"))
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "December 2022")
    assert page.evaluate("document.documentElement.scrollHeight") == height  # nothing has moved


def test_the_slider_is_dragged_and_says_the_month(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    box = page.locator("#scrubber").bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=3)
    expect(page.locator(".bubble")).to_have_css("opacity", "1")
    month = page.locator(".bubble").inner_text()
    page.mouse.up()
    loaded(page)
    assert month.split()[1] in ("2018", "2019")
    assert page.locator("#scrubber").get_attribute("aria-valuetext") == month
    page.mouse.move(600, 500)
    expect(page.locator(".bubble")).to_have_css("opacity", "1")  # it has the focus
    page.locator("#text").focus()
    expect(page.locator(".bubble")).to_have_css("opacity", "0")


def test_a_range_over_photos_that_are_not_loaded(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    page.locator(".tile .open").nth(1).focus()
    page.keyboard.press("x")
    page.keyboard.press("End")
    last = page.locator(f".tile[data-index='{ENTRIES - 1}']")
    expect(last.locator(".open")).to_be_focused()
    last.locator(".open").click(modifiers=["Shift"])
    expect(page.locator("#selection-count")).to_have_text(f"{ENTRIES - 1:,} selected")
    page.keyboard.press("Home")
    expect(page.locator(".tile[data-index='0'] .open")).to_be_focused()
    expect(page.locator(".tile[data-index='0']")).not_to_have_class(re.compile("selected"))
    expect(page.locator(".tile[data-index='1']")).to_have_class(re.compile("selected"))


def test_a_photo_far_down_keeps_its_place(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    page.locator("#scrubber").focus()
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    scroll(page, 333)
    before = first_visible(page)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    loaded(page)
    assert first_visible(page) == pytest.approx(before, abs=1)
    page.locator(".tile .open", has_text=before[0]).click()
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#details h2")).not_to_have_text(before[0])
    for _ in range(2):
        page.get_by_role("button", name="Next photo").click()
    expect(page.locator("#details h2")).to_have_text(before[0])
    page.reload()  # a link to the photo
    expect(page.locator("#details h2")).to_have_text(before[0])
    expect(page.get_by_role("button", name="Previous photo")).to_be_enabled()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#command")).to_contain_text("--like")
    page.go_back()
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#details h2")).to_have_text(before[0])
    page.keyboard.press("Escape")
    expect(page.locator(".tile .open", has_text=before[0])).to_be_focused()


def test_days_sizes_and_orders(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    page.get_by_label("By day").check()
    expect(page.locator(".heading h2").first).to_have_text("Mon, December 5, 2022")
    widths = page.locator(".tile").first.bounding_box()["height"]
    page.get_by_label("Size of photos").fill("-3")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".heading h2").first).to_have_text("Mon, December 5, 2022")
    assert page.locator(".tile").first.bounding_box()["height"] < 0.7 * widths
    page.get_by_label("By day").uncheck()
    page.get_by_label("Order").select_option("date")
    expect(page.locator("#summary")).to_contain_text("oldest first")
    expect(page.locator(".heading h2").first).to_have_text("January 2015")
    page.get_by_label("Order").select_option("name")
    expect(page.locator(".heading")).to_have_count(0)
    expect(page.locator("#scrubber")).to_be_hidden()


def test_what_is_not_loaded_yet_is_a_skeleton(look: Callable[..., Any], many: Path) -> None:
    page = look(many)

    def slowly(route: Any) -> None:
        time.sleep(0.8)
        route.continue_()

    page.route("**/search?*", slowly)
    page.evaluate("scrollTo(0, 30_000)")
    expect(page.locator(".pending")).not_to_have_count(0)
    expect(page.locator(".progress")).to_have_css("opacity", "1")
    loaded(page)
    expect(page.locator(".progress")).to_have_css("opacity", "0")


def test_identical_files_are_folded_and_unfold(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "sort=date")  # the first two are copies
    loaded(page)
    expect(page.locator(".tile").first.locator(".group")).to_have_text("+1")
    page.locator(".group").first.click()
    expect(page.locator(".tile[data-index='1']")).to_have_class(re.compile("copy"))
    expect(page.locator(".tile[data-index='1'] .open")).to_have_attribute("aria-label", re.compile("copy of number 1"))
    name = page.locator(".tile[data-index='1'] bdi").inner_text()
    page.locator(".tile[data-index='1'] .open").click()
    expect(page.locator("#details h2")).to_have_text(name)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details h2")).not_to_have_text(name)
    page.keyboard.press("Escape")
    page.locator(".group").first.click()
    expect(page.locator(".tile.copy")).to_have_count(0)


def test_photos_without_a_date_come_last_and_deleted_ones_not_at_all(
    look: Callable[..., Any], crowd: Path, tmp_path: Path
) -> None:
    page = look(crowd)
    page.locator("#scrubber").focus()
    page.keyboard.press("End")
    expect(page.locator("#scrubber")).to_have_attribute("aria-valuetext", "Without a date")
    expect(page.locator(".heading", has_text="Without a date")).to_contain_text("300 photos")
    loaded(page)
    gone = page.evaluate("fetch('/search?first=600&count=1').then((answer) => answer.json())")["hits"][0]
    path = Path(gone["path"])
    path.rename(tmp_path / path.name)
    try:
        noted(page)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        loaded(page)
        expect(page.locator(".heading", has_text="Without a date")).to_contain_text("299 photos")
    finally:
        (tmp_path / path.name).rename(path)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".heading", has_text="Without a date")).to_contain_text("300 photos")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_timeline_is_for_everybody(look: Callable[..., Any], crowd: Path, width: int) -> None:
    page = look(crowd, viewport={"width": width, "height": 800})
    page.locator("#scrubber").focus()
    page.keyboard.press("PageDown")
    loaded(page)
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
