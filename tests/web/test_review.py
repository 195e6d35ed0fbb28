"""Reviewing duplicates on the page, and moving photos to the trash from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import violations
from conftest import SCENES, save_scenes
from starlette.testclient import TestClient

from clipsearch.indexing.update import Options, update_index
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.web import limits
from clipsearch.web.app import create_app

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

OWN = {"origin": "http://127.0.0.1:8642"}
GROUPS = 3


def make(home: Path) -> Path:
    """An index of six photos below a home folder. Three have a copy: identical, smaller, and recompressed."""
    photos = [path.rename(path.with_suffix(".src")) for path in save_scenes(home / "photos", 6)]
    for number, photo in enumerate(photos):
        SCENES[number].image.resize((600, 400)).save(home / "photos" / f"{number}.png")
        photo.unlink()
    (home / "photos" / "old").mkdir()
    shutil.copy2(home / "photos" / "0.png", home / "photos" / "old" / "0.png")
    SCENES[1].image.resize((600, 400)).resize((300, 200)).save(home / "photos" / "old" / "1.png")
    SCENES[2].image.resize((600, 400)).save(home / "photos" / "old" / "2.jpg", quality=90)
    (home / "photos" / "old" / "2.jpg.xmp").write_text("<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    update_index(home / "index", [home / "photos"], Options(model="mini"))
    return home / "index"


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------ the server


class Server:
    """A client that has been let in, and a review of the copies."""

    def __init__(self, home: Path) -> None:
        self.home, self.index = home, make(home)
        app = create_app(self.index, "token", pictures=Pictures(ThumbnailCache(home / "thumbnails")))
        self.page = TestClient(app, base_url=OWN["origin"], follow_redirects=False)

    def start(self, **params: str) -> None:
        self.found = self.page.get("/duplicates/groups", params=params).json()
        self.groups = self.page.get(f"/duplicates/{self.found['review']}/groups").json()["groups"]

    def name(self, group: int, file: int) -> str:
        photo = self.groups[group][file]
        return f"{photo['id']}.{photo['file']}"

    def move(self, names: list[str], folder: str = "~/away") -> Any:
        body = {"photos": names, "value": folder}
        return self.page.post(f"/duplicates/{self.found['review']}/move", json=body, headers=OWN)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Server(tmp_path)
    with made.page:
        made.page.get("/", params={"token": "token"})
        made.start()
        yield made


def test_groups_are_those_of_the_command_and_move_as_its_do(server: Server) -> None:
    assert [[file["name"] for file in group] for group in server.groups] == [
        ["0.png", "0.png"],
        ["1.png", "1.png"],
        ["2.png", "2.jpg"],
    ]
    assert [group[1]["kind"] for group in server.groups] == ["identical", "copy", "copy"]
    assert (server.found["groups"], server.found["copies"]) == (GROUPS, GROUPS)
    before = files(server.home / "photos")
    # The second file of a group, both of another; the third is undecided.
    done = server.move([server.name(1, 1), server.name(0, 0), server.name(0, 1)])
    assert done.json()["message"].startswith("moved 1 file (")
    assert set(files(server.home / "photos")) == set(before) - {"1.png"}
    there = Path(f"{server.home}/away{server.home}/photos/1.png")
    assert there.read_bytes() == before["1.png"]
    hits = server.page.get("/search").json()["hits"]
    assert str(server.home / "photos" / "1.png") not in [hit["path"] for hit in hits]
    assert server.page.post(f"/undo/{done.json()['undo']}", headers=OWN).status_code == 200
    assert files(server.home / "photos") == before
    assert not (server.home / "away").exists() or not files(server.home / "away")
    assert len(server.page.get("/search").json()["hits"]) == len(hits) + 1


def test_undo_puts_back_what_one_plan_moved(server: Server) -> None:
    first, second = (server.move([server.name(number, 0)]) for number in (0, 2))
    assert "and 1 sidecar" in second.json()["message"]
    server.page.post(f"/undo/{first.json()['undo']}", headers=OWN)
    assert "old/0.png" in files(server.home / "photos")
    assert "old/2.jpg" not in files(server.home / "photos")


def test_nothing_else_can_be_moved(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = files(server.home / "photos")
    single = server.page.get("/search", params={"name": "5.png"}).json()["hits"][0]
    for names, words in (
        (["/etc/passwd"], "not valid"),
        ([], "no photo"),
        ([f"{'0' * 32}.{'0' * 16}"], "not in this review"),
        ([f"{single['id']}.{single['file']}"], "not in this review"),
    ):
        answer = server.move(names)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    outside = tmp_path_factory.mktemp("outside")
    for folder, words in {
        str(outside): "outside your home",
        "~/.ssh": "hidden",
        "relative": "absolute path",
        "~/photos/x": "lies in an indexed folder",
        "~": "contains the indexed folder",
        "~/index": "belongs to the index",
    }.items():
        for answer in (
            server.move([server.name(0, 0)], folder),
            server.page.get(f"/duplicates/{server.found['review']}/move", params={"value": folder}),
        ):
            assert answer.status_code == 400, folder
            assert words in answer.json()["error"], folder
    assert server.page.get("/duplicates/another/groups").status_code == 400
    assert server.page.get("/duplicates/groups", params={"kind": "x"}).status_code == 400
    every = [server.name(number, file) for number in range(GROUPS) for file in range(2)]
    assert "nothing to move" in server.move(every).json()["error"]
    assert files(server.home / "photos") == before


def test_a_file_that_changed_stays(server: Server) -> None:
    copy, best = server.home / "photos" / "old" / "0.png", server.home / "photos" / "1.png"
    copy.write_bytes(copy.read_bytes() + b"more")
    best.write_bytes(b"another photo")
    before = files(server.home / "photos")
    error = server.move([server.name(0, 0), server.name(1, 0)]).json()["error"]
    assert "0.png: it was changed since it was indexed" in error
    assert "1.png: the best, " in error
    assert files(server.home / "photos") == before


def test_strangers_other_pages_and_floods_are_refused(server: Server) -> None:
    address = f"/duplicates/{server.found['review']}/move"
    assert server.page.post(address, content=b"{}").status_code == 403
    assert server.page.post(address, content=b"{}", headers={"origin": "http://evil.example"}).status_code == 403
    reads = ("/duplicates", "/duplicates/groups", f"/duplicates/{server.found['review']}/groups", address)
    for read in reads:
        assert server.page.get(read, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    answers = [server.page.post(address, content=b"x", headers=OWN).status_code for _ in range(limits.PER_MINUTE + 1)]
    assert (answers[0], answers[-1]) == (400, 429)
    finds = [server.page.get("/duplicates/groups").status_code for _ in range(limits.PER_MINUTE)]
    assert (finds[0], finds[-1]) == (200, 429)
    server.page.cookies.clear()
    assert server.page.post(address, content=b"{}", headers=OWN).status_code == 401
    assert {server.page.get(read).status_code for read in reads} == {401}


def test_the_command_moves_the_same(server: Server, clipsearch: Callable[..., Any]) -> None:
    command = server.page.get(f"/duplicates/{server.found['review']}/move", params={"value": "~/away"}).json()
    words = command["command"].split()
    assert words[:2] == ["clipsearch", "duplicates"]
    before = files(server.home / "photos")
    assert (
        clipsearch(*words[1:], "--keep", server.groups[1][1]["path"], "--keep", server.groups[2][0]["path"]).status == 0
    )
    left = set(before) - {"1.png", "old/2.jpg", "old/2.jpg.xmp"}
    assert set(files(server.home / "photos")) == left
    similar = ["duplicates", "--similar", "--similarity", "0.9", "--index", str(server.index), "--move-to", "away"]
    refused = clipsearch(*similar)
    assert refused.status == 2
    assert "--keep" in refused.err


# ------------------------------------------------------------------------------------------ the page


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home").resolve()
    make(folder)
    return folder


@pytest.fixture
def visit(window: Callable[..., Any], serve: Callable[..., str], home: Path) -> Callable[..., Any]:
    """Opens a page of the server that may move photos to the trash."""

    def opened(path: str, **options: Any) -> Any:
        page = window(lambda url: "127.0.0.1" in url, **options)
        address = serve(home / "index", "--allow-delete", HOME=str(home), XDG_DATA_HOME=str(home / "data"))
        page.goto(address)
        page.goto(address.split("/?")[0] + path)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        return page

    return opened


def test_groups_are_reviewed_by_keys_moved_and_moved_back(visit: Callable[..., Any], home: Path) -> None:
    before = files(home / "photos")
    page = visit("/duplicates")
    progress, kept = page.locator("#progress"), page.locator(".file:not(.moves) .name")
    expect(progress).to_have_text("Group 1 of 3")
    expect(page.locator(".file").first).not_to_have_class("moves")  # the suggested one
    expect(kept).to_have_count(1)
    page.keyboard.press("Enter")
    expect(progress).to_have_text("Group 2 of 3")
    expect(page.locator(".file .most dd").first).to_contain_text("600 × 400")
    page.keyboard.press("2")
    expect(progress).to_have_text("Group 2 of 3, decided")
    page.keyboard.press("Shift+Digit2")  # the last one that stays
    expect(page.locator("#toast")).to_have_text("One file of each group stays")
    expect(page.locator(".file").nth(1).get_by_role("checkbox")).to_be_checked()
    page.reload()  # which loses no decision
    expect(progress).to_have_text("Group 1 of 3, decided")
    page.keyboard.press("ArrowDown")
    expect(kept).to_have_count(1)
    expect(page.locator(".file").nth(1).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("ArrowDown")
    expect(progress).to_have_text("Group 3 of 3")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Compare 2.jpg")).to_be_focused()
    page.keyboard.press("c")
    shown = page.locator("#comparison-about")
    expect(shown).to_contain_text("2 of 2: 2.jpg")
    page.keyboard.press("+")
    zoomed = page.evaluate("document.querySelector('#pictures').style.transform")
    page.keyboard.press("Space")
    expect(shown).to_contain_text("1 of 2: 2.png")
    assert page.evaluate("document.querySelector('#pictures').style.transform") == zoomed
    page.keyboard.press("Escape")
    page.keyboard.press("s")  # all of it stays
    expect(page.get_by_role("heading", name="Move 2 files")).to_be_visible()
    assert files(home / "photos") == before

    page.get_by_label("Move to folder").fill("~/photos/x")
    expect(page.locator("#folder-problem")).to_contain_text("lies in an indexed folder")
    page.get_by_label("Move to folder").fill("~/away")
    expect(page.locator("#move-line code")).to_contain_text("--move-to")
    page.get_by_role("button", name="Move files").click()
    expect(page.locator("#undo-text")).to_contain_text("Moved 2 files")
    assert set(before) - set(files(home / "photos")) == {"1.png", "old/0.png"}
    expect(progress).to_have_text("Group 3 of 3, decided")
    page.reload()
    expect(progress).to_have_text("Group 1 of 1")
    page.get_by_role("button", name="Undo").click()
    expect(progress).to_have_text("Group 1 of 3")
    expect(page.locator("#undo")).to_be_hidden()
    assert files(home / "photos") == before
    assert not files(home / "away") if (home / "away").exists() else True


def test_look_alikes_all_stay_unless_one_chooses(visit: Callable[..., Any]) -> None:
    page = visit("/duplicates?kind=similar")
    expect(page.locator("#about")).to_contain_text("may show different things")
    expect(page.locator(".file")).to_have_count(2)
    expect(page.locator(".moves")).to_have_count(0)
    page.keyboard.press("p")
    expect(page.get_by_role("heading", name="Nothing to move")).to_be_visible()
    expect(page.get_by_role("button", name="Move files")).to_be_hidden()


def test_the_review_is_for_everybody(visit: Callable[..., Any]) -> None:
    page = visit("/duplicates", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not violations(page)
    page.keyboard.press("c")
    assert not violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("p")
    expect(page.locator("#move-line code")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not violations(page)


# ------------------------------------------------------------------------------------------ the trash


def test_photos_go_to_the_trash_from_the_viewer_and_the_selection(visit: Callable[..., Any], home: Path) -> None:
    before = files(home / "photos")
    page = visit("/?sort=path")
    tiles = page.locator(".tile .open")
    expect(tiles).to_have_count(9)
    page.locator(".tile .open", has_text="3.png").click()
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog", name="Move 3.png to the trash?")
    dialog.get_by_role("button", name="Cancel").evaluate(
        "(cancel) => { cancel.click();"
        " document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Delete', bubbles: true })); }"
    )  # quicker than the event that the dialog was closed
    page.wait_for_timeout(100)
    assert files(home / "photos") == before
    dialog.get_by_role("button", name="Move to trash").click()
    expect(page.locator("#details h2")).to_have_text("4.png")
    assert set(before) - set(files(home / "photos")) == {"3.png"}
    page.keyboard.press("Escape")
    expect(tiles).to_have_count(8)

    for name in ("4.png", "5.png"):
        page.locator(".tile", has_text=name).hover()
        page.locator(".tile", has_text=name).locator(".select").click()
    page.get_by_role("button", name="Move to trash").click()
    expect(page.locator("#action-note")).to_contain_text("Moves 2 photos to the system's trash.")
    expect(page.locator("#action-command")).to_contain_text("gio trash")
    page.locator("#start-action").click()
    expect(tiles).to_have_count(6)
    expect(page.locator("#selection")).to_be_hidden()
    for count in (8, 9):  # the latest first
        page.get_by_role("button", name="Undo").click()
        expect(tiles).to_have_count(count)
    expect(page.locator("#undo")).to_be_hidden()
    assert files(home / "photos") == before
