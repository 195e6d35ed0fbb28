"""What the page says about its results: counts, the timeline, labels, and texts that are still being typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import answered, ask, eventually, names
from conftest import save_scenes

from clipsearch.images.xmp import with_keywords
from clipsearch.index import open_index
from clipsearch.indexing.update import Options, update_index

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def summary(page: Any) -> Any:
    return expect(page.locator("#summary"))


def scroll_to_the_end(page: Any) -> None:
    height = -1
    while height != (height := page.evaluate("scrollTo(0, 1e6); document.documentElement.scrollHeight")):
        page.wait_for_timeout(100)
        page.wait_for_selector("body:not(.fetching)")


# ------------------------------------------------------------------------------------------ counts


def test_all_matches_are_counted_and_the_count_stays_while_one_scrolls(look: Callable[..., Any], crowd: Path) -> None:
    with open_index(crowd) as index:
        matches = len(index.query("a circle", k=900, min_confidence=0.5))
    assert 400 < matches < 900
    page = look(crowd, "q=a+circle")
    summary(page).to_have_text(f"{matches} confident matches in 900 photos")
    scroll_to_the_end(page)
    summary(page).to_have_text(f"{matches} confident matches in 900 photos")
    expect(page.locator(".tile[data-index='899']")).to_be_visible()
    page.locator("#cut").evaluate("(box) => box.click()")
    summary(page).to_have_text(f"{matches} confident matches in 900 photos")
    page.locator("#sort").select_option("-date")
    summary(page).to_have_text(f"{matches} confident matches in 900 photos, newest first")
    page.locator("#strict").evaluate("(box) => box.click()")
    summary(page).to_have_text(re.compile(r"^\d+ matches of at least 85% in 900 photos"))


def test_the_first_answer_says_that_there_are_more(look: Callable[..., Any], crowd: Path) -> None:
    page = look(crowd)
    page.route("**/count?*", lambda route: route.abort())
    ask(page, "2:a circle")  # not in the server's cache
    summary(page).to_have_text("More than 400 confident matches in 900 photos")


def test_the_sentence_agrees_with_the_numbers_beside_the_photos(page: Any) -> None:
    for text in ("a circle", "a star", "a boat"):
        ask(page, text)
        scroll_to_the_end(page)
        shown = page.locator(".tile .caption b").all_text_contents()
        confident = sum(int(percent.strip("<%")) >= 50 for percent in shown)
        what = {0: "No confident matches", 1: "1 confident match"}.get(confident, f"{confident} confident matches")
        summary(page).to_have_text(re.compile(f"^{what} in 40 photos"))
        page.evaluate("scrollTo(0, 0)")


def test_a_match_by_a_keyword_says_so(look: Callable[..., Any], tmp_path: Path) -> None:
    (path, *_) = save_scenes(tmp_path / "photos", 6)
    path.with_name("00.png.xmp").write_bytes(with_keywords(None, ["zeppelin"]))
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = look(tmp_path / "index", "q=zeppelin")
    summary(page).to_have_text("1 confident match in 6 photos")
    tile = page.locator(".tile").first
    expect(tile.locator(".caption b")).to_have_text("keyword")
    assert "matches by keyword" in tile.locator(".open").get_attribute("aria-label")


def test_counts_know_the_filter_and_the_order(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "camera=Camera+3")
    summary(page).to_have_text("400 of 2,000 photos, newest first")
    page.locator("#sort").select_option("name")
    summary(page).to_have_text("400 of 2,000 photos, by name")
    ask(page, "a boat")
    summary(page).to_have_text(re.compile("in 400 of 2,000 photos"))
    page.goto(page.url.partition("?")[0] + "?camera=Camera+3&after=2999")
    summary(page).to_have_text("0 of 2,000 photos, newest first")


def test_counts_know_that_copies_are_grouped(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "camera=Camera+1&after=2016&before=2017&unique=1")
    summary(page).to_have_text(re.compile(r"^[\d,]+ without duplicates, of [\d,]+ of 2,000 photos, newest first$"))
    folded = int(page.locator("#summary").inner_text().split()[0])
    scroll_to_the_end(page)
    assert page.locator(".tile").last.get_attribute("data-index") == str(folded - 1)
    page.goto(page.url.partition("?")[0] + "?unique=1")
    summary(page).to_have_text("2,000 photos, duplicates grouped, newest first")
    page.goto(page.url.partition("?")[0] + "?unique=1&q=a+boat")
    summary(page).to_have_text(re.compile(r"in 2,000 photos"))


def test_a_photo_to_look_for_has_no_confidence(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "cut=1&q=a+boat")
    expect(page.locator("#cut")).to_be_enabled()
    page.goto(page.url.partition("?")[0] + f"?cut=1&like={50:032x}")
    summary(page).to_have_text("2,000 photos, closest first")
    expect(page.locator("#cut")).to_be_disabled()
    expect(page.locator("#only")).to_be_disabled()
    page.locator("#sort").select_option("-date")
    summary(page).to_have_text("2,000 photos, the 400 closest, newest first")


# ------------------------------------------------------------------------------------------ the timeline


def found_bars(page: Any) -> int:
    return page.locator(".timeline .found").count()


def test_the_timeline_shows_what_is_found(look: Callable[..., Any], crowd: Path) -> None:
    page = look(crowd, "q=a+crocodile+in+a+river&cut=1")
    expect(page.locator("#message")).to_contain_text("No matches")
    assert found_bars(page) == 0
    page.locator("#cut").evaluate("(box) => box.click()")
    summary(page).to_have_text("No confident matches in 900 photos; closest first")
    assert found_bars(page) == 0
    page = look(crowd, "q=a+circle")
    eventually(page, lambda: found_bars(page) == 8)  # the matches beyond the first answer are counted later


def test_the_timeline_shows_the_dates_that_are_filtered(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    for filters, shown in (
        ("after=2019", "2019-01 to 2022-12"),
        ("before=2017", "2015-01 to 2016-12"),
        ("after=2016-03-15&before=2016-05-02", "2016-03 to 2016-05"),
        ("after=2016&after=2018", "2018-01 to 2022-12"),
        ("", "2015-01 to 2022-12"),
    ):
        page.goto(f"{page.url.partition('?')[0]}?{filters}")
        expect(page.locator(".range-text")).to_have_text(shown)
        expect(page.get_by_role("button", name="All time")).to_have_count(1 if filters else 0)


def test_files_without_a_date_do_not_stretch_the_timeline(look: Callable[..., Any], crowd: Path) -> None:
    page = look(crowd)
    expect(page.locator(".range-text")).to_have_text("2010-05 to 2017-05")
    expect(page.locator(".undated")).to_have_text("300 without a date")
    page.locator("#filters-button").click()
    expect(page.locator(".timeline .all")).to_have_count(8)


# ------------------------------------------------------------------------------------------ labels


def test_labels_count_all_matches_and_lead_to_the_label(look: Callable[..., Any], crowd: Path) -> None:
    with open_index(crowd) as index:
        matches = len(index.query("a circle", k=900, min_confidence=0.5))
    page = look(crowd, "q=a+circle&label=a+circle&label=a+star")
    expect(page.locator("#label-counts .note")).to_have_text(f"The most likely label of {matches} matches")
    counted = page.locator("#label-counts .value").all_text_contents()
    assert sum(map(int, counted)) == matches
    page.get_by_role("button", name="a star", exact=True).click()
    expect(page.locator("#command")).to_contain_text("'a circle' 'a star'")
    expect(page.locator(".chip")).to_have_count(2)
    page.goto(page.url.partition("?")[0] + f"?like={5:032x}&label=a+circle&label=a+star")
    expect(page.locator("#label-counts .note")).to_have_text("The most likely label of the 400 closest photos")


# ------------------------------------------------------------------------------------------ what is being typed


def test_a_minus_within_a_text_is_understood_and_shown(page: Any) -> None:
    page.get_by_role("button", name="a red car -people").click()
    expect(page.locator("#command")).to_contain_text("clipsearch query 'a red car' --not people")
    page.locator("#text").press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.locator(".chip.negative")).to_contain_text("people")
    assert re.search(r"\?text=a\+red\+car&not=people$", page.url)
    page.locator("#text").fill("2:a boat")
    page.locator("#text").press("Enter")
    expect(page.locator(".chip .weight").last).to_have_text("×2")
    expect(page.locator("#command")).to_contain_text("'a red car' '2:a boat' --not people")


def test_a_text_that_is_not_finished_is_no_error(page: Any) -> None:
    ask(page, "a star")
    found = names(page)
    for text in ("@gr", "-dog", "2:"):
        page.locator("#text").fill("")
        answered(page)
        page.locator("#text").press_sequentially(text)
        answered(page)
        expect(page.locator("#advice")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
        assert page.locator(".tile").count() > 5
        page.locator("#text").press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_role("button", name="Remove").first.click()
        expect(page.get_by_role("alert")).to_have_count(0)
        ask(page, "a star")
        assert names(page) == found
