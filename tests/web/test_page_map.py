"""The map of the page in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import answered, violations
from conftest import Run

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def cluster(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=re.compile(name))


def zoom_in_url(page: Any) -> float:
    return float(re.search(r"map=[^&]*%2C([\d.]+)", page.url)[1])


def listed(page: Any, clipsearch: Run, index: Path) -> int:
    """The number of photos that the command line lists in the box of the page."""
    [box] = re.findall(r"--within[ =](\S+)", page.locator("#command").inner_text())
    return len(clipsearch("query", f"--within={box}", "-k", 100, "-f", "paths", index=index).lines)


def test_clusters_lead_to_their_photos(look: Callable[..., Any], travelled: Path, clipsearch: Run) -> None:
    page = look(travelled)
    page.get_by_role("button", name="Map").click()
    expect(page.locator("#map-note")).to_have_text("32 of 40 photos have a place")
    expect(cluster(page, "16 photos near Rome, Italy")).to_be_visible()
    before = zoom_in_url(page)
    cluster(page, "16 photos near Rome").click()
    expect(page.locator(".cluster")).not_to_have_count(0)
    expect(cluster(page, "16 photos near Rome")).to_have_count(0)  # spread out
    assert zoom_in_url(page) > before + 3
    page.go_back()
    cluster(page, "10 photos near Paris").click()
    expect(page.locator("#summary")).to_contain_text("10 of 40 photos")
    expect(page.locator("#map-note")).to_have_text("10 photos, all with a place")
    assert listed(page, clipsearch, travelled) == 10
    page.get_by_role("button", name="Remove filter Area").click()
    expect(page.locator("#map-note")).to_have_text("32 of 40 photos have a place")
    page.reload()
    expect(cluster(page, "10 photos near Paris")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#map")).to_be_hidden()
    assert "map=" not in page.url


def test_the_visible_box_is_a_filter(look: Callable[..., Any], travelled: Path, clipsearch: Run) -> None:
    page = look(travelled, "map=-17,180,5")
    page.get_by_role("application").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("%2C6"))
    page.get_by_role("button", name="Search this area").click()
    expect(page.locator("#summary")).to_contain_text("6 of 40 photos")
    assert listed(page, clipsearch, travelled) == 6
    page.mouse.move(*(page.locator("#map-stage").bounding_box()[edge] + 100 for edge in ("x", "y")))
    page.mouse.wheel(0, 600)
    expect(page).not_to_have_url(re.compile("%2C6"))


@pytest.mark.parametrize("width", [360, 1440])
def test_a_photo_is_shown_on_the_map(look: Callable[..., Any], travelled: Path, width: int) -> None:
    def check() -> None:
        assert not violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    page = look(travelled, "within=48,2,49,3", viewport={"width": width, "height": 800})
    page.locator(".tile .open").first.click()
    check()
    page.get_by_role("button", name="Show on the map").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(cluster(page, "photos near Paris").first).to_be_visible()
    answered(page)
    assert "map=48.8" in page.url
    check()
