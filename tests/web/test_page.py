"""The page in a browser: asking, looking, odd names, accessibility."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import answered, ask, names, violations
from conftest import SCENES, save_scenes

from clipsearch.indexing.update import Options, update_index
from clipsearch.store.catalogue import Store

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


# ------------------------------------------------------------------------------------------ asking


def test_results_change_while_one_types_as_the_address_and_the_command_do(page: Any, look: Callable[..., Any]) -> None:
    assert page.locator(".tile").count() > 20
    expect(page.locator("#summary")).to_contain_text("40 photos, newest first")
    page.locator("#text").press_sequentially("a red circle")
    expect(page.locator("#command")).to_contain_text("clipsearch query 'a red circle'")
    answered(page)
    first = names(page)
    assert page.url.endswith("/?q=a+red+circle")
    expect(page).to_have_title("a red circle")
    ask(page, "a blue star")
    assert names(page) != first
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#text")).to_have_value("a blue star")
    expect(page.locator("#command")).to_contain_text("a blue star")


def test_an_answer_that_comes_late_does_not_take_the_place_of_a_later_one(page: Any) -> None:
    def slowly(route: Any) -> None:
        if "q=a+red" in route.request.url and "circle" not in route.request.url:
            time.sleep(0.5)
        with contextlib.suppress(playwright.Error):  # the page has given it up
            route.continue_()

    page.route("**/search?*", slowly)
    page.locator("#text").press_sequentially("a red")
    page.locator("#text").press_sequentially(" circle")
    expect(page.locator("#command")).to_contain_text("'a red circle'")
    page.wait_for_timeout(700)
    expect(page.locator("#command")).to_contain_text("'a red circle'")


def test_terms_become_chips_that_turn_round_weigh_and_go(page: Any) -> None:
    page.locator("#text").fill("a circle")
    page.keyboard.press("Enter")
    page.locator("#text").fill("-a star")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.locator("#command")).to_contain_text("'a circle' --not 'a star'")
    page.get_by_role("button", name="Weight of a circle").click()
    expect(page.locator("#command")).to_contain_text("'2:a circle'")
    page.get_by_role("button", name="Not a star").click()
    expect(page.locator("#command")).to_contain_text("'2:a circle' 'a star'")
    page.get_by_role("button", name="Remove a star").click()
    expect(page.locator(".chip")).to_have_count(1)
    page.locator("#text").press("Backspace")
    expect(page.locator("#text")).to_have_value("2:a circle")
    expect(page.locator(".chip")).to_have_count(0)


def test_back_and_forward_lead_through_the_questions(page: Any) -> None:
    ask(page, "a circle")
    page.keyboard.press("Enter")
    circles = names(page)
    page.locator("#unique").check()
    answered(page)
    page.get_by_role("button", name="Remove a circle").click()
    answered(page)
    page.go_back()
    page.go_back()
    answered(page)
    expect(page.locator("#unique")).not_to_be_checked()
    expect(page.get_by_role("button", name="Edit a circle")).to_be_visible()
    assert names(page) == circles
    page.go_forward()
    expect(page.locator("#unique")).to_be_checked()


def test_filters_as_the_command_has_them(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("From").select_option("2019-01")
    page.get_by_label("Path contains").fill("7.png")
    page.get_by_label("Path contains").press("Enter")
    expect(page.locator("#command")).to_contain_text("--after 2019 --name 7.png")
    expect(page.locator(".filter")).to_have_text(["From: January 2019", "Path contains: 7.png"])
    page.get_by_label("Near").fill("95, 200")
    page.get_by_label("Near").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("is not a valid place")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator(".filter")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_dragging_over_the_time_line_keeps_a_part_of_it(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    box = page.locator(".chart").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], middle, steps=4)
    page.mouse.up()
    expect(page.locator("#command")).to_contain_text("--after 2017 --before 2018-04")
    page.get_by_label("First month").press("ArrowRight")
    expect(page.locator("#command")).to_contain_text("--after 2017-02")
    page.get_by_role("button", name="All time").click()
    expect(page.locator("#command")).not_to_contain_text("--after")


def test_a_line_shows_where_results_stop_being_about_the_question(page: Any) -> None:
    ask(page, "a receipt")
    expect(page.locator(".divider")).to_contain_text(re.compile("Less certain|confident match"))
    page.locator("#cut").check()
    expect(page.locator("#command")).to_contain_text("--cut")
    least = page.get_by_label("Minimum confidence")
    page.locator("#strict").check()
    expect(page.locator("#command")).to_contain_text("--strict")
    expect(least).to_have_value("85")
    page.locator("#strict").uncheck()
    expect(least).to_have_value("50")
    least.fill("99")
    least.press("Enter")
    expect(page.locator("#command")).to_contain_text("--min-confidence 0.99")
    assert "cut=0.99" in page.url
    page.reload()
    expect(least).to_have_value("99")
    least.fill("50")
    least.press("Tab")
    expect(page.locator("#command")).to_contain_text("--cut")
    expect(page.locator(".divider")).to_have_count(0)
    least.fill("99")
    least.press("Tab")
    expect(page.locator("#message")).to_contain_text("No matches")
    page.get_by_role("button", name="Show less certain matches").click()
    expect(page.locator(".tile").first).to_be_visible()
    assert page.locator(".tile").count() > 20


def test_copies_are_folded_and_unfold(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "like=" + f"{50:032x}")
    page.locator("#unique").check()
    answered(page)
    group = page.locator(".group").first
    expect(group).to_have_text("+1")
    total = page.locator(".tile").count()
    group.click()
    expect(page.locator(".tile.copy")).to_have_count(1)
    assert page.locator(".tile").count() >= total
    page.locator(".group").first.click()
    expect(page.locator(".tile.copy")).to_have_count(0)


def test_an_image_is_dropped_and_one_pasted(page: Any, drawn: Path) -> None:
    give = """([kind, data]) => {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt());
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "mine.png", { type: "image/png" }));
      document.body.dispatchEvent(kind === "drop"
        ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
    }"""
    import base64

    for kind, name in (("drop", "07.png"), ("paste", "09.png")):
        page.evaluate(give, [kind, base64.b64encode((drawn / name).read_bytes()).decode()])
        expect(page.locator(".chip")).to_have_count(1)
        answered(page)
        assert names(page)[0] == name
        page.get_by_role("button", name="Remove mine.png").click()
    page.evaluate(give, ["drop", base64.b64encode(b"no image").decode()])
    expect(page.get_by_role("alert")).to_contain_text("cannot be used as an image")


# ------------------------------------------------------------------------------------------ looking


def test_nine_hundred_results_scroll_and_few_are_in_the_document(look: Callable[..., Any], crowd: Path) -> None:
    page = look(crowd, "q=a+boat")
    seen = set()
    for _ in range(400):
        seen |= {
            int(tile) for tile in page.evaluate("[...document.querySelectorAll('.tile')].map((t) => t.dataset.index)")
        }
        assert page.locator(".tile").count() < 160
        if len(seen) == 900:
            break
        page.evaluate("scrollBy(0, 1200)")
        page.wait_for_timeout(15)
    assert seen == set(range(900))
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(".tile[data-index='0']")).to_be_visible()


def test_photos_keep_their_proportions_fill_the_width_and_never_move(look: Callable[..., Any], many: Path) -> None:
    page = look(many)
    boxes = [tile.bounding_box() for tile in page.locator(".tile").all()[:20]]
    shapes = {round(box["width"] / box["height"], 2) for box in boxes}
    assert shapes <= {1.5, 1.0, 0.67}
    right = max(box["x"] + box["width"] for box in boxes)
    grid = page.locator("#photos").bounding_box()
    assert right == pytest.approx(grid["x"] + grid["width"], abs=1)
    assert page.evaluate("performance.getEntriesByType('layout-shift').length") == 0
    page.evaluate("scrollBy(0, 3000)")
    page.wait_for_timeout(200)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(100)
    assert [tile.bounding_box() for tile in page.locator(".tile").all()[:20]] == boxes


def test_by_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("a star")
    answered(page)
    first, second = names(page)[:2]
    page.keyboard.press("ArrowDown")
    expect(page.locator(".tile[data-index='0'] .open")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name=f"Photo {second}")
    expect(viewer).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog", name=f"Photo {first}")).to_be_visible()
    assert "photo=" in page.url
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".tile[data-index='0'] .open")).to_be_focused()
    assert "photo=" not in page.url
    page.keyboard.press("End")
    expect(page.locator(".tile[data-index='39'] .open")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("x")
    expect(page.locator("#selection-count")).to_have_text("1 selected")
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.locator("#command")).to_contain_text("--like")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Shortcuts and search tips")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_a_photo_with_what_is_known_of_it(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "q=a+boat")
    page.locator(".tile .open").first.click()
    facts = page.locator("#details")
    expect(facts).to_contain_text("Camera")
    expect(facts).to_contain_text("48.0000, 2.0000")
    expect(facts).to_contain_text("Rebréchien, France")
    assert page.locator(".tile .open").first.get_attribute("aria-label").endswith("Rebréchien, France")
    expect(facts).to_contain_text("Confidence")
    name = facts.locator("h2").inner_text()
    page.get_by_role("button", name="Next photo").click()
    expect(facts.locator("h2")).not_to_have_text(name)
    address = page.url
    page.get_by_role("button", name="Less like this").click()
    expect(page.locator("#command")).to_contain_text("--unlike")
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#viewer")).to_be_visible()
    page.go_back()
    with page.context.expect_page() as opened:
        page.goto(address)
        page.get_by_role("link", name="Open original").click()
    assert opened.value.url.endswith("/original")


def test_selected_paths_and_the_command_are_copied(page: Any, drawn: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, "a circle")
    page.locator(".tile").nth(0).hover()
    page.locator(".tile .select").nth(0).click()
    page.locator(".tile .open").nth(2).click(modifiers=["Shift"])
    expect(page.locator("#selection-count")).to_have_text("3 selected")
    page.get_by_role("button", name="Copy paths").click()
    expect(page.locator("#toast")).to_contain_text("copied")
    paths = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert paths == [str(drawn / name) for name in names(page, 3)]
    page.get_by_role("button", name="Command", exact=True).click()
    command = page.locator("#command").inner_text()
    assert command.startswith("clipsearch query 'a circle' -k 60")
    page.locator("#copy-command").click()
    expect(page.locator("#toast")).to_have_text("Command copied")
    assert page.evaluate("navigator.clipboard.readText()") == command


def test_labels_have_bars_for_one_photo_and_counts_for_all(page: Any) -> None:
    page.get_by_role("button", name="Labels").click()
    page.locator("#label-text").fill("a circle, a star")
    expect(page.locator("#label-counts .bar-row")).to_have_count(2)
    expect(page.locator("#label-command")).to_contain_text("clipsearch label 'a circle' 'a star' --counts")
    page.locator(".tile .open").first.click()
    expect(page.locator("#details .bar-row")).to_have_count(2)
    expect(page.locator("#details")).to_contain_text("%")


# ------------------------------------------------------------------------------------------ what changes, what is odd


def test_where_in_a_photo_it_is_and_away_again(page: Any) -> None:
    ask(page, "a circle")
    page.locator(".tile .open").first.click()
    toggle = page.get_by_role("button", name="Show where")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    toggle.click()
    expect(page.locator("#large")).to_have_attribute("src", re.compile(r"/where\.jpg\?q=a\+circle$"))
    expect(page.locator("#large")).to_have_js_property("complete", True)
    assert page.evaluate("document.querySelector('#large').naturalWidth") > 0
    assert page.locator("#large-missing").is_hidden()
    toggle.click()
    expect(page.locator("#large")).to_have_attribute("src", re.compile(r"/large\.jpg$"))
    page.keyboard.press("Escape")


def test_a_photo_that_was_deleted_meanwhile(look: Callable[..., Any], tmp_path: Path) -> None:
    photos = save_scenes(tmp_path / "photos", 4)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = look(tmp_path / "index")
    expect(page.locator(".tile")).to_have_count(4)
    gone = names(page)[1]
    (tmp_path / "photos" / gone).unlink()
    page.locator(".tile .open").nth(1).click()
    expect(page.locator("#large-missing")).to_be_visible()
    page.keyboard.press("Escape")
    ask(page, "a star")
    expect(page.locator(".tile")).to_have_count(3)
    assert len(photos) == 4


def test_an_index_that_is_made_meanwhile(look: Callable[..., Any], tmp_path: Path) -> None:
    page = look(tmp_path / "index")
    expect(page.locator("#message")).to_contain_text("There is no index yet")
    expect(page.locator("#message")).to_contain_text("clipsearch index ~/Pictures")
    save_scenes(tmp_path / "photos", 3)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    expect(page.locator(".tile")).to_have_count(3)
    save_scenes(tmp_path / "photos", 6)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    expect(page.locator(".tile")).to_have_count(6)
    with Store.open(tmp_path / "index", write=True):
        expect(page.locator("#indexing")).to_contain_text("Indexing: 6 photos so far")
    expect(page.locator("#indexing")).to_be_hidden()


ODD = [
    b"<img src=x onerror=alert(1)>.png",
    b"<script>alert(2)<.png",
    b"&lt;b&gt;.png",
    b"'onload='alert(3).png",
    b'"quoted".png',
    b"a b.png",
    b" leading.png",
    b"#hash.png",
    b"?query=1.png",
    b"%2e%2e%2f.png",
    b"100%.png",
    b"semi;colon.png",
    b"-dash.png",
    b"--option.png",
    b"back\\slash.png",
    b"new\nline.png",
    b"tab\there.png",
    b"bell\x07.png",
    b"latin-\xe9.png",
    b"\xff\xfe.png",
    "übung.png".encode(),
    "日本語.png".encode(),
    "🙂.png".encode(),
    "\u202egnp.exe.png".encode(),
    "zero\u200bwidth.png".encode(),
    b"$(touch x).png",
    b"`id`.png",
    b"{{7*7}}.png",
    b"{% x %}.png",
    b"a" * 240 + b".png",
]


def test_thirty_odd_names_are_names_and_nothing_else(look: Callable[..., Any], tmp_path: Path) -> None:
    assert len(ODD) == 30
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(ODD):
        with open(os.path.join(os.fsencode(tmp_path / "photos"), name), "wb") as file:
            SCENES[number].image.save(file, "PNG")
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = look(tmp_path / "index")
    expect(page.locator(".tile img.loaded")).to_have_count(30)
    shown = "\n".join(names(page, 30))
    for part in ("<img src=x onerror=alert(1)>.png", "{{7*7}}.png", "&lt;b&gt;.png", "日本語.png", "new\\nline.png"):
        assert part in shown
    page.locator(".tile .open", has_text="onerror").click()
    expect(page.locator("#details h2")).to_have_text("<img src=x onerror=alert(1)>.png")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#large-missing")).to_be_hidden()


# ------------------------------------------------------------------------------------------ for everybody


def test_nothing_stands_in_the_way_of_anybody(look: Callable[..., Any], many: Path, tmp_path: Path) -> None:
    page = look(many, "text=a+circle&not=a+star&q=a+boat&label=a&label=b&after=2016-02")
    page.get_by_role("button", name="Filters").click()
    assert not violations(page)
    page.locator(".tile .open").first.click()
    expect(page.locator("#details .bar-row")).to_have_count(2)
    assert not violations(page)
    page.get_by_role("button", name="Copy path").click()
    page.route("**/status", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_be_visible()
    assert not violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.evaluate("scrollTo(0, 3000)")
    assert not violations(page)
    page.keyboard.press("?")
    assert not violations(page)
    assert not violations(look(many, viewport={"width": 360, "height": 740}))
    assert not violations(look(many, "q=a+boat&cut=1&after=2999"))
    assert not violations(look(tmp_path / "nothing"))


def test_nothing_is_wider_than_the_window(look: Callable[..., Any], many: Path) -> None:
    page = look(many, "text=a+circle&not=a+star&q=a+boat", viewport={"width": 360, "height": 800})
    for width in (360, 768, 3840):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".tile .open").first.click()
        assert page.evaluate("document.querySelector('#viewer').scrollWidth") <= width
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()
