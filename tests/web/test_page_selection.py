"""Selecting photos on the page, what one does with them, and the list of searches."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import answered, ask, names, violations
from conftest import save_scenes

from clipsearch.index import open_index
from clipsearch.indexing.update import Options, update_index

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def selected(page: Any) -> list[int]:
    """The positions of the selected tiles."""
    return sorted(int(tile.get_attribute("data-index")) for tile in page.locator(".tile.selected").all())


def middle(page: Any, number: int) -> tuple[float, float]:
    box = page.locator(f".tile[data-index='{number}']").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def select(page: Any, number: int) -> None:
    page.locator(f".tile[data-index='{number}']").hover()
    page.locator(f".tile[data-index='{number}'] .select").click()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An index of six photos that a test may change."""
    save_scenes(tmp_path / "photos", 6)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    return tmp_path / "index"


# ------------------------------------------------------------------------------------------ selecting


def test_shift_and_a_click_select_a_range_that_can_shrink(page: Any) -> None:
    select(page, 1)
    page.locator(".tile[data-index='5'] .open").click(modifiers=["Shift"])
    assert selected(page) == [1, 2, 3, 4, 5]
    page.locator(".tile[data-index='3'] .open").click(modifiers=["Shift"])
    assert selected(page) == [1, 2, 3]
    page.locator(".tile[data-index='7'] .open").click()
    page.locator(".tile[data-index='6'] .open").click(modifiers=["Shift"])
    assert selected(page) == [1, 2, 3, 6, 7]
    expect(page.locator("#selection-count")).to_have_text("5 selected")


def test_shift_and_arrows_select_a_range(page: Any) -> None:
    page.locator(".tile[data-index='2'] .open").focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == [2, 3, 4, 5]
    page.keyboard.press("Shift+ArrowLeft")
    assert selected(page) == [2, 3, 4]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")  # a second range
    assert selected(page) == [2, 3, 4, 6, 7]
    expect(page.locator(".tile[data-index='7'] .open")).to_be_focused()


def test_dragging_over_tiles_selects_them_and_opens_nothing(page: Any) -> None:
    page.mouse.move(*middle(page, 1))
    page.mouse.down()
    for number in (2, 4, 3):
        page.mouse.move(*middle(page, number), steps=5)
    page.mouse.up()
    assert selected(page) == [1, 2, 3]
    expect(page.locator("#viewer")).to_be_hidden()
    page.locator(".tile[data-index='5'] .open").click()  # the next click counts
    assert selected(page) == [1, 2, 3, 5]


def test_a_drag_to_the_edge_scrolls(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    x, y = middle(page, 1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, page.viewport_size["height"] - 90, steps=5)
    page.wait_for_function("() => scrollY > 300")
    page.mouse.up()
    assert int(page.locator("#selection-count").inner_text().split()[0]) > 15


def test_a_long_press_selects_and_a_sweep_goes_on(look: Callable[..., Any], many: Path) -> None:
    page = look(many, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    start, end = middle(page, 0), middle(page, 3)
    send("touchStart", start)
    page.wait_for_timeout(600)
    expect(page.locator("#selection-count")).to_have_text("1 selected")
    for step in range(1, 6):
        send("touchMove", tuple(a + (b - a) * step / 5 for a, b in zip(start, end, strict=True)))
    send("touchEnd")
    expect(page.locator("#selection-count")).to_have_text("4 selected")
    assert page.evaluate("scrollY") == 0
    expect(page.locator("#viewer")).to_be_hidden()
    page.locator(".tile[data-index='5'] .open").tap()
    expect(page.locator("#selection-count")).to_have_text("5 selected")
    send("touchStart", middle(page, 4))  # a short one scrolls
    send("touchMove", (200, 300))
    send("touchEnd")
    expect(page.locator("#selection-count")).to_have_text("5 selected")


def test_all_matches_are_selected_and_not_only_the_loaded_ones(look: Callable[..., Any], crowd: Path) -> None:
    page = look(crowd)
    ask(page, "a circle")
    matches = page.evaluate("fetch('/matches?text=a+circle').then((answer) => answer.json())")["photos"]
    assert len(matches) > 400
    page.locator(".tile .open").first.focus()
    page.keyboard.press("Control+a")
    expect(page.locator("#selection-count")).to_have_text(f"{len(matches):,} selected")
    page.get_by_role("button", name="Copy paths").click()
    expect(page.locator("#action-command")).to_contain_text(f"query 'a circle' -k {len(matches)}")
    page.locator(".tile[data-index='0'] .open").click()  # no longer all
    expect(page.locator("#selection-count")).to_have_text(f"{len(matches) - 1:,} selected")
    expect(page.locator("#action-command")).to_contain_text("printf")
    ask(page, "a star")
    page.get_by_role("button", name="Select all matches").click()
    expect(page.locator("#selection-count")).not_to_have_text(f"{len(matches) - 1:,} selected")


# ------------------------------------------------------------------------------------------ doing


def test_photos_are_copied_into_the_folder_that_one_types(look: Callable[..., Any], own: Path) -> None:
    page = look(own)
    chosen = names(page, 2)
    select(page, 0)
    select(page, 1)
    page.get_by_role("button", name="Copy to folder").click()
    expect(page.locator("#action-value")).to_be_focused()
    page.locator("#action-value").fill("/etc/somewhere")
    expect(page.locator("#action-problem")).to_contain_text("outside your home folder")
    target = own.parent / "photos" / "best of"
    page.locator("#action-value").fill(str(target))
    expect(page.locator("#action-problem")).to_be_hidden()
    expect(page.locator("#action-command")).to_contain_text(f"--copy-to '{target}'")
    assert not target.exists()
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Copied 2 photos to")
    assert sorted(os.listdir(target)) == sorted(chosen)
    expect(page.locator("#action")).to_be_hidden()
    expect(page.locator("#selection-count")).to_have_text("2 selected")


def test_photos_are_downloaded_as_zip(look: Callable[..., Any], own: Path, tmp_path: Path) -> None:
    page = look(own)
    chosen = names(page, 3)
    page.locator(".tile .open").first.focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("button", name="Download ZIP").click()
    expect(page.locator("#action-command")).to_contain_text("zip -0 -r photos.zip photos")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    download.value.save_as(tmp_path / "got.zip")
    with zipfile.ZipFile(tmp_path / "got.zip") as read:
        assert sorted(read.namelist()) == sorted(f"photos/{name}" for name in chosen)
        for name in chosen:
            assert read.read(f"photos/{name}") == (own.parent / "photos" / name).read_bytes()


def test_photos_get_a_name_and_keywords(look: Callable[..., Any], own: Path) -> None:
    page = look(own)
    select(page, 0)
    page.get_by_role("button", name="Name as concept").click()
    page.get_by_label("Name of the concept").fill("two words")
    expect(page.locator("#action-problem")).to_contain_text("not a valid concept name")
    page.get_by_label("Name of the concept").fill("thing")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("@thing has 1 photo")
    page.get_by_role("button", name="Add keywords").click()
    page.get_by_label("Keywords, separated by commas").fill("one, two")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("Wrote 1 sidecar")
    [sidecar] = (own.parent / "photos").glob("*.xmp")
    assert sidecar.stem == names(page, 1)[0]
    with open_index(own) as index:
        assert index.concepts.names() == ["thing"]


def test_escape_closes_the_form_before_it_clears_the_selection(page: Any) -> None:
    select(page, 0)
    page.get_by_role("button", name="Add keywords").click()
    page.keyboard.press("Escape")
    expect(page.locator("#action")).to_be_hidden()
    expect(page.get_by_role("button", name="Add keywords")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()


def test_a_photo_that_is_gone_is_a_sentence_in_the_form(look: Callable[..., Any], own: Path) -> None:
    page = look(own)
    select(page, 0)
    shutil.rmtree(own.parent / "photos")
    page.get_by_role("button", name="Download ZIP").click()
    page.get_by_role("button", name="Download", exact=True).click()
    expect(page.locator("#action-problem")).to_contain_text("None of the files can be used")


# ------------------------------------------------------------------------------------------ searches


def test_searches_are_saved_found_again_and_deleted(look: Callable[..., Any], own: Path) -> None:
    page = look(own, "text=a+star&not=dots&type=png&cut=1")
    page.get_by_role("button", name="Recent and saved searches").click()
    page.get_by_label("Save this search as").fill("my stars")
    page.keyboard.press("Enter")
    expect(page.locator("#saved-searches").get_by_role("button", name="my stars", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#searches")).to_be_hidden()
    with open_index(own) as index:
        assert list(index.saved_searches.all()) == ["my stars"]
    page.get_by_role("link", name="clipsearch: new search").click()
    answered(page)
    page.locator("#text").click()
    page.get_by_role("button", name="my stars", exact=True).click()
    answered(page)
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.locator("#cut")).to_be_checked()
    expect(page.locator("#command")).to_contain_text("'a star' --not dots --type png --cut")
    page.locator("#text").click()
    page.get_by_role("button", name="Delete my stars").click()
    expect(page.locator("#saved-searches")).to_be_hidden()
    assert json.loads((own / "saved.json").read_text())["saved"] == {}


def test_recent_searches_are_listed_without_those_typed_in_passing(page: Any) -> None:
    ask(page, "a ci")
    ask(page, "a circle")
    page.wait_for_timeout(3_300)
    page.locator("#text").fill("")
    page.locator("#text").click()
    expect(page.locator("#recent-searches li")).to_have_text(["a circle"])
    page.get_by_role("button", name="a circle", exact=True).click()
    expect(page.locator("#text")).to_have_value("a circle")


def test_the_list_goes_when_one_types_or_clicks_elsewhere(page: Any) -> None:
    leaves: list[Any] = [lambda: page.keyboard.type("a"), page.get_by_role("button", name="Filters").click]
    for leave in leaves:
        page.locator("#text").fill("")
        page.locator("#text").click()
        expect(page.locator("#searches")).to_be_visible()
        leave()
        expect(page.locator("#searches")).to_be_hidden()


# ------------------------------------------------------------------------------------------ for everybody


@pytest.mark.parametrize("width", [360, 1440])
def test_bar_and_list_stand_in_nobodys_way(look: Callable[..., Any], own: Path, width: int) -> None:
    def check(page: Any) -> None:
        assert not violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    page = look(own, "text=a+star", viewport={"width": width, "height": 800})
    page.locator(".tile .open").first.focus()
    page.keyboard.press("x")
    check(page)
    page.get_by_role("button", name="Copy to folder").click()
    page.locator("#action-value").fill("/etc/x")
    expect(page.locator("#action-problem")).to_be_visible()
    check(page)
    page.locator("#action-value").fill(str(own.parent / "photos" / "best"))
    expect(page.locator("#action-line")).to_be_visible()
    check(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Recent and saved searches").click()
    page.get_by_label("Save this search as").fill("stars")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Delete stars")).to_be_visible()
    check(page)
