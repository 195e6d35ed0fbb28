"""Suggestions below the search field, filters that are chosen from lists, and the command behind a button."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import answered, violations
from conftest import save_scenes

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, places_table: Path) -> Path:
    """An index of 40 photos in folders, with people, keywords, ratings and color labels."""
    folder, model = tmp_path_factory.mktemp("family").resolve(), mini()
    rows = np.random.default_rng(0).normal(size=(40, model.dim)).astype(np.float32)
    with Store.create(folder / "index", model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(folder / "photos"), Rules())
        for number, scene in enumerate(save_scenes(folder / "scenes")):
            path = folder / "photos" / ("2022", "2023/Rome", "2023/Oslo")[number % 3] / scene.name
            path.parent.mkdir(parents=True, exist_ok=True)
            scene.rename(path)
            about = Metadata(160, 160, f"202{2 + number % 2}-07-0{1 + number % 9}T10:00:00", f"Camera {number % 14}")
            about = about._replace(
                latitude=48.86,
                longitude=2.35,
                people="Anna Smith" if number % 4 == 0 else None,
                keywords="beach\ndog" if number % 2 else "beach",
                rating=(None, 3, 5)[number % 3],
                color_label=("Red", "Blue", None)[number % 3],
            )
            row = rows[number] / np.linalg.norm(rows[number])
            image, status = store.images.add(number.to_bytes(16, "big"), about, row), path.stat()
            below = os.fsencode(path.relative_to(folder / "photos"))
            file = FoundFile(below, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            store.photos.put(root, file, image, None)
        store.commit()
    return folder / "index"


@pytest.fixture
def page(look: Callable[..., Any], family: Path) -> Any:
    return look(family)


def typed(page: Any, text: str) -> Any:
    """Type a text, and wait for its suggestions."""
    page.locator("#text").press_sequentially(text)
    expect(page.locator("#text")).to_have_attribute("aria-expanded", "true")
    return page.locator("#suggestions [role=option]")


def test_a_date_in_the_text_becomes_a_filter_when_it_is_chosen(page: Any) -> None:
    options = typed(page, "dog July 2023")
    expect(options.first).to_contain_text("Date July 2023 20")
    expect(page.locator("#suggestion-status")).to_contain_text("suggestion")
    assert page.locator(".filter, .chip").count() == 0
    expect(page.locator("#command")).to_contain_text("clipsearch query 'dog July 2023'")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#text")).to_have_attribute("aria-activedescendant", "suggestion-0")
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value("dog")
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#suggestions")).to_be_hidden()
    expect(page.locator(".filter")).to_have_text(["From: July 2023", "To: July 2023"])
    expect(page.locator("#command")).to_contain_text("query dog --after 2023-07 --before 2023-08")
    typed(page, " 2022").first.click()  # takes the place of the other date
    expect(page.locator(".filter")).to_have_text(["From: January 2022", "To: December 2022"])


def test_enter_and_escape_leave_the_text_as_it_is(page: Any) -> None:
    typed(page, "anna")
    page.keyboard.press("Escape")
    expect(page.locator("#suggestions")).to_be_hidden()
    expect(page.locator("#text")).to_have_value("anna")
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_have_value("")
    options = typed(page, "anna")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#text")).not_to_have_attribute("aria-activedescendant", "suggestion-0")
    expect(options.first).to_have_attribute("aria-selected", "false")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_contain_text("anna")
    expect(page.locator(".filter")).to_have_count(0)
    expect(page.locator("#suggestions")).to_be_hidden()


def test_people_places_folders_and_what_to_avoid(page: Any, family: Path) -> None:
    expect(typed(page, "anna").first).to_have_text("Person Anna Smith 10")
    page.locator("#suggestions [role=option]").first.click()
    typed(page, "in paris").first.click()
    typed(page, "oslo").first.click()
    expect(page.locator(".filter")).to_have_text(
        ["Person: Anna Smith", "Near: Paris, France", f"Folder: {family.parent}/photos/2023/Oslo"]
    )
    typed(page, "a star -dots").first.click()
    expect(page.locator(".chip.negative")).to_contain_text("dots")
    expect(page.locator("#text")).to_have_value("a star")
    answered(page)
    for _ in range(9):  # past the suggestions
        page.keyboard.press("ArrowDown")
    expect(page.locator(".tile .open").first).to_be_focused()


def test_slow_suggestions_wait_for_nobody(page: Any) -> None:
    page.route("**/suggest?*", lambda route: None)  # never answered
    page.locator("#text").press_sequentially("a star")
    expect(page.locator("#command")).to_contain_text("query 'a star'")
    answered(page)
    page.locator("#text").press("Enter")
    expect(page.locator(".chip")).to_contain_text("a star")


def picker(page: Any, option: str) -> Any:
    """Open a list of values."""
    found = page.locator(f".picker[data-filter={option}]")
    found.locator("summary").click()
    return found


def test_values_are_chosen_from_lists_with_counts(page: Any) -> None:
    page.get_by_role("button", name="Filters").click()
    keywords = picker(page, "keyword")
    expect(keywords.locator("li")).to_have_text(["beach40", "dog20", "Anna Smith10"])
    keywords.get_by_label("dog").check()
    rating = picker(page, "rating")
    expect(rating.locator(".name")).to_have_text(
        [" 5 stars", *(f"or more {n} stars" for n in (4, 3, 2)), "or more 1 star", "Unrated"]
    )
    rating.get_by_label("3 stars").check()
    expect(page.locator("#summary")).to_contain_text("13 of 40 photos")
    expect(page.locator("#command")).to_contain_text("--keyword dog --rating 3-5")
    page.locator(".picker[data-filter=rating]").get_by_label("5 stars").check()  # one rating at a time
    expect(page.locator("#command")).to_contain_text("--keyword dog --rating 5")
    keywords.get_by_label("dog").uncheck()
    camera = picker(page, "camera")
    camera.get_by_label("Find").fill("12")
    expect(camera.locator("li")).to_have_text(["Camera 122"])
    camera.get_by_label("Find").press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#command")).to_contain_text("--camera 'Camera 12'")
    expect(camera.locator(".chosen")).to_have_text("Camera 12")
    page.get_by_role("button", name="Clear filters").click()
    expect(camera.locator(".chosen")).to_have_text("Any")
    expect(camera.locator(":checked")).to_have_count(0)


def test_a_folder_is_found_in_a_tree_by_keyboard(page: Any, family: Path) -> None:
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    tree = page.locator(".picker[data-filter=under]")
    expect(tree.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(tree.locator("li")).to_have_text(["photos40"])
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(tree.locator("li")).to_have_count(3)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(tree.locator("li").last).to_have_text("Rome13")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#command")).to_contain_text(f"--under {family.parent}/photos/2023/Oslo")
    expect(page.locator("#summary")).to_contain_text("13 of 40 photos")


def test_values_that_no_photo_has_are_shown_and_can_go(look: Callable[..., Any], family: Path) -> None:
    page = look(family, "camera=Leica&after=2023-06-14")
    page.get_by_role("button", name="Filters", exact=True).click()
    expect(page.locator("[data-filter=after]")).to_have_value("2023-06-14")
    camera = picker(page, "camera")
    camera.get_by_label("Leica").click()
    expect(page.locator(".filter")).to_have_text(["From: 2023-06-14"])


def test_the_command_is_behind_a_button_and_not_on_phones(look: Callable[..., Any], family: Path) -> None:
    page = look(family, "q=a+star")
    expect(page.locator("#command")).to_be_hidden()
    assert page.locator("footer").bounding_box()["height"] == 0
    page.get_by_role("button", name="Command", exact=True).click()
    expect(page.locator("#command")).to_be_visible()
    page.locator("#text").fill("a boat")
    expect(page.locator("#command")).to_contain_text("query 'a boat'")
    page.set_viewport_size({"width": 390, "height": 800})
    expect(page.get_by_role("button", name="Command", exact=True)).to_be_hidden()


@pytest.mark.parametrize("width", [360, 1440])
def test_suggestions_and_pickers_stand_in_nobodys_way(look: Callable[..., Any], family: Path, width: int) -> None:
    def check(page: Any) -> None:
        assert not violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    page = look(family, "rating=3%2B&text=a+star", viewport={"width": width, "height": 900})
    typed(page, "dog anna in oslo 2023")
    page.keyboard.press("ArrowDown")
    check(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Filters").click()
    for option in ("under", "camera", "rating", "color_label"):
        picker(page, option)
    page.locator(".expand").first.click()
    expect(page.locator(".tree .tree")).to_be_visible()
    check(page)
    if width > 640:
        page.get_by_role("button", name="Command", exact=True).click()
        check(page)
