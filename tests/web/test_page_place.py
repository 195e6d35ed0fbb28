"""The page keeps what its user has: the place in the results, the selection, and the photo in the large view."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import answered, ask, eventually, first_visible, names, scroll
from conftest import SCENES, save_scenes

from clipsearch.indexing.update import Options, update_index

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


HEADING = 64  # pixels, the most between the edge of the window and the first photo below it


# ------------------------------------------------------------------------------------------ the place


def test_a_panel_opens_where_one_is(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    scroll(page, 4_000)
    before = first_visible(page)
    for name in ("Filters", "Labels", "Command"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.locator(".panel:visible :focus")).to_be_in_viewport()
        eventually(page, lambda: first_visible(page) == pytest.approx(before, abs=1))
        page.keyboard.press("Escape")
        expect(page.locator(".panel:visible")).to_have_count(0)
        expect(page.get_by_role("button", name=name, exact=True)).to_be_focused()
        eventually(page, lambda: first_visible(page) == pytest.approx(before, abs=1))


def test_back_after_more_like_this_leads_to_the_same_photos(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "q=a+boat")
    for _ in range(5):
        scroll(page, 1_500)
    before = first_visible(page)
    chosen = page.evaluate("document.elementFromPoint(300, 500).closest('.tile').querySelector('bdi').textContent")
    page.locator(".tile .open", has_text=chosen).click()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#command")).to_contain_text("--like")
    answered(page)
    assert page.evaluate("scrollY") < 300
    page.go_back()
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#details h2")).to_have_text(chosen)
    page.go_back()
    expect(page.locator("#viewer")).to_be_hidden()
    answered(page)
    assert first_visible(page) == pytest.approx(before, abs=1)


def test_a_reload_and_back_from_another_question_keep_the_place(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "q=a+boat")
    for _ in range(6):
        scroll(page, 1_500)
    before = first_visible(page)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert first_visible(page) == pytest.approx(before, abs=1)
    page.locator("#unique").evaluate("(box) => box.click()")
    answered(page)
    assert "at=" not in page.url
    page.go_back()
    expect(page.locator("#unique")).not_to_be_checked()
    answered(page)
    assert first_visible(page) == pytest.approx(before, abs=1)


def test_a_rotation_keeps_the_place(look: Callable[..., Any], many: Path) -> None:
    page = look(many, viewport={"width": 390, "height": 844})
    scroll(page, 2_500)
    (before, _) = first_visible(page)
    for size in ({"width": 844, "height": 390}, {"width": 390, "height": 844}):
        page.set_viewport_size(size)
        page.wait_for_timeout(300)
        row = page.locator(f".tile:has-text('{before}')").bounding_box()
        edge = page.evaluate("document.querySelector('header').getBoundingClientRect().bottom")
        assert row["y"] - HEADING - 1 <= edge <= row["y"] + row["height"] + 1


def test_a_link_to_photo_301_has_arrows_that_work(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    address = page.url
    hit = page.evaluate("fetch('/search?first=300&count=3').then((answer) => answer.json())")["hits"]
    page.goto(f"{address}?photo={hit[0]['id']}.{hit[0]['file']}")
    expect(page.locator("#details h2")).to_have_text(hit[0]["name"])
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details h2")).to_have_text(hit[1]["name"])
    page.get_by_role("button", name="Previous photo").click()
    page.get_by_role("button", name="Previous photo").click()
    expect(page.locator("#details h2")).not_to_have_text(hit[0]["name"])
    page.keyboard.press("Escape")
    expect(page.locator(".tile[data-index='299'] .open")).to_be_focused()
    expect(page.locator(".tile[data-index='299']")).to_be_in_viewport()


def test_identical_files_have_addresses_of_their_own(look: Callable[..., Any], tmp_path: Path) -> None:
    (path, _) = save_scenes(tmp_path / "photos", 2)
    for name in ("a.png", "z.png"):
        shutil.copy(path, path.with_name(name))
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = look(tmp_path / "index", "sort=name")
    for name in ("z.png", "a.png"):
        page.locator(".tile .open", has_text=name).click()
        address = page.url
        page.reload()
        expect(page.locator("#details h2")).to_have_text(name)
        page.goto(f"{address}&name=.png&not_under={tmp_path}/nothing")  # no results: only the address is left
        expect(page.locator("#details h2")).to_have_text(name)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()


# ------------------------------------------------------------------------------------------ the selection


def copied(page: Any) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy paths").click()
    expect(page.locator("#toast")).to_contain_text("copied")
    return page.evaluate("navigator.clipboard.readText()")


def test_what_was_selected_stays_selected_whatever_is_asked_next(page: Any, drawn: Path) -> None:
    ask(page, "a circle")
    chosen = names(page, 2)
    for number in (0, 1):
        page.locator(f".tile[data-index='{number}']").hover()
        page.locator(f".tile[data-index='{number}'] .select").click()
    ask(page, "a boat")
    assert names(page, 2) != chosen
    expect(page.locator("#selection-count")).to_have_text("2 selected")
    assert copied(page).splitlines() == [str(drawn / name) for name in chosen]
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()


def test_paths_that_are_no_line_of_text_are_copied_for_a_shell(look: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    files = [b"plain.png", b"it's a\nnew line.png", b"latin-\xe9.png", b"back\\slash \x07.png"]
    paths = [os.path.join(os.fsencode(tmp_path / "photos"), name) for name in files]
    for number, path in enumerate(paths):
        with open(path, "wb") as file:
            SCENES[number].image.save(file, "PNG")
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = look(tmp_path / "index")
    page.locator(".tile .open").first.focus()
    for _ in files:
        page.keyboard.press("x")
        page.keyboard.press("ArrowRight")
    lines = copied(page).splitlines()
    assert len(lines) == len(files)
    out = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(lines)}"], capture_output=True, check=True).stdout
    assert set(out.removesuffix(b"\0").split(b"\0")) == set(paths)


def test_enter_opens_a_photo_while_others_are_selected(page: Any) -> None:
    page.locator(".tile").first.hover()
    page.locator(".tile .select").first.click()
    page.locator(".tile .open").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".tile .open").nth(3).click()
    expect(page.locator("#selection-count")).to_have_text("2 selected")
