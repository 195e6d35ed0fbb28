"""People on the page: circles, naming groups, checking faces, and boxes in the large view."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import violations
from conftest import SCENES
from PIL import Image
from starlette.testclient import TestClient

from clipsearch.images.box import Box
from clipsearch.index import open_index
from clipsearch.indexing.people import group_faces
from clipsearch.indexing.update import Options, update_index
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import NewFace
from clipsearch.web import limits, people
from clipsearch.web.app import create_app

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
expect = playwright.expect
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

OWN = {"origin": "http://127.0.0.1:8642"}
LEFT, RIGHT = Box(0.1, 0.2, 0.3, 0.5), Box(0.6, 0.2, 0.8, 0.5)
ANNA, BEN, STRANGER = range(3)
FACES = {0: [ANNA], 1: [ANNA], 2: [ANNA], 3: [BEN], 4: [BEN], 5: [ANNA, BEN], 6: [STRANGER]}
LATER = {7: [ANNA], 8: [ANNA]}
PHOTOS = 10


def row(person: int, variant: int) -> np.ndarray:
    """Rows as those of dlib: cosines of 0.96 or so between the faces of a person, of 0.8 between those of two."""
    draw = np.random.default_rng(person).normal(size=128) + 2
    draw += 0.4 * np.random.default_rng([person, variant]).normal(size=128)
    return draw / np.linalg.norm(draw)


def add_faces(index: Path, faces: dict[int, list[int]]) -> None:
    """Record the faces of people in photos, by their numbers."""
    with Store.open(index, write=True) as store:
        store.faces.enable("a face model")
        (root,) = store.roots()
        for number, who in faces.items():
            new = [
                NewFace(box, ((0.2, 0.3),) * 5, 0.9, row(person, number))
                for person, box in zip(who, (LEFT, RIGHT), strict=False)
            ]
            store.faces.put(store.image_of(root, f"{number}.png".encode()), new)
        group_faces(store)


def make(folder: Path) -> Path:
    """An index of drawn photos, as if some had faces."""
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        picture = SCENES[number].image.resize((600, 400))
        picture.paste((255, 0, 0), LEFT.pixels(*picture.size))
        picture.save(folder / "photos" / f"{number}.png")
    update_index(folder / "index", [folder / "photos"], Options(model="mini"))
    add_faces(folder / "index", FACES)
    return folder / "index"


# ------------------------------------------------------------------------------------------ the server


class Server:
    """A client that has been let in."""

    def __init__(self, folder: Path) -> None:
        self.index = make(folder)
        app = create_app(self.index, "token", pictures=Pictures(ThumbnailCache(folder / "thumbnails")))
        self.page = TestClient(app, base_url=OWN["origin"], follow_redirects=False)

    def get(self, path: str, **params: Any) -> Any:
        return self.page.get(path, params=params).json()

    def say(self, what: str, **said: Any) -> Any:
        return self.page.post(f"/people/{what}", json=said, headers=OWN)

    def undo(self, answer: Any) -> Any:
        return self.page.post(f"/undo/{answer.json()['undo']}", headers=OWN)

    def names(self) -> list[tuple[str | None, int]]:
        found = self.get("/people/groups")
        return [(group["name"], group["faces"]) for group in found["people"] + found["unnamed"]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path.resolve())
    with made.page:
        made.page.get("/", params={"token": "token"})
        yield made


def test_selected_photos_name_the_person_in_them(server: Server) -> None:
    hits = server.get("/search", name="png")["hits"]
    photos = [f"{hit['id']}.{hit['file']}" for hit in hits if hit["name"] in ("0.png", "1.png", "5.png", "9.png")]
    body = {"photos": photos, "value": "Anna"}
    done = server.page.post("/action/person", json=body, headers=OWN)
    assert done.json()["message"] == "confirmed 2 faces of Anna; left out 2 photos without a face or with several"
    assert server.names() == [("Anna", 4), (None, 3)]  # two of them by likeness
    assert server.undo(done).json()["message"].startswith("undid: confirm ")
    assert server.names() == [(None, 4), (None, 3)]
    command = server.get("/action/person", value="Every body", count=2)["command"]
    assert command.startswith("xargs -0 clipsearch people confirm 'Every body'")
    assert "not a valid name" in server.get("/action/person", value="-x", count=2)["error"]


def test_changes_are_those_of_the_command_and_can_be_undone(server: Server, clipsearch: Callable[..., Any]) -> None:
    assert server.names() == [(None, 4), (None, 3)]
    assert server.get("/people/groups")["single"] == 1
    group = str(server.get("/people/groups")["unnamed"][0]["number"])
    named = server.say("name", group=group, name="Anna")
    assert named.json()["message"] == "named Anna"
    assert server.names() == [("Anna", 4), (None, 3)]
    assert len(server.get("/search", person="Anna")["hits"]) == 4
    add_faces(server.index, LATER)
    found = server.get("/people/faces", who="Anna", count=2)
    assert (found["total"], found["confirmed"]) == (6, 4)
    sure, unsure = (face["id"] for face in found["faces"])
    confirmed, rejected = (
        server.say("confirm", faces=[sure], name="Anna"),
        server.say("reject", faces=[unsure], name="Anna"),
    )
    assert (confirmed.status_code, rejected.json()["message"]) == (200, "1 face rejected: not Anna")
    assert server.get("/people/faces", who="Anna")["total"] == 5
    assert "undo" not in server.say("confirm", faces=[sure], name="Anna").json()  # nothing has changed
    assert "must be undone first" in server.undo(confirmed).json()["error"]
    assert server.undo(rejected).json()["message"] == f"undid: reject Anna {unsure}"
    assert server.get("/people/faces", who="Anna")["total"] == 6
    assert clipsearch("people", "undo", index=server.index).err == f"undid: confirm {sure} Anna\n"
    assert server.say("hide", group="Anna").json()["message"] == "hid Anna"
    assert server.names() == [(None, 3)]


def test_pictures_are_of_the_face(server: Server) -> None:
    group = server.get("/people/groups")["unnamed"][0]
    answer = server.page.get(f"/photo/{group['photo']}/face.jpg", params={"box": ",".join(map(str, group["box"]))})
    assert (answer.headers["content-type"], "immutable" in answer.headers["cache-control"]) == ("image/jpeg", True)
    picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert picture.size == (180, 180)  # 1.5 times the height of the box, which has no more pixels
    red, green, _ = picture.getpixel((90, 90))
    assert (red > 200, green < 60) == (True, True)
    details = server.get(f"/photo/{group['photo']}/more")
    assert [face["box"] for face in details["faces"]] == [list(LEFT)]
    for box in ("", "1,2,3", "0,0,nan,1", "0.5,0,0.5,1", "a,b,c,d", "0,0,1,1,1"):
        assert server.page.get(f"/photo/{group['photo']}/face.jpg", params={"box": box}).status_code == 400, box
    assert server.page.get(f"/photo/{'0' * 32}/face.jpg", params={"box": "0,0,1,1"}).status_code == 404


def test_strangers_floods_and_bad_requests_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    group = str(server.get("/people/groups")["unnamed"][0]["number"])
    for what, said, words in (
        ("steal", {}, "no change steal"),
        ("name", {"group": group, "name": "7"}, "not a valid name"),
        ("name", {"group": group, "name": "a\nb\0"}, "not a valid name"),
        ("name", {"group": "99", "name": "Ann"}, "no person with the number 99"),
        ("name", {"group": [], "name": "Ann"}, "not valid"),
        ("confirm", {"faces": [10**9], "name": "Ann"}, "no face 1000000000"),
        ("confirm", {"faces": [], "name": "Ann"}, "no face is chosen"),
        ("confirm", {"faces": ["1"], "name": "Ann"}, "not valid"),
        ("confirm", {"faces": [True], "name": "Ann"}, "not valid"),
        ("confirm", {"faces": [10**30], "name": "Ann"}, "not valid"),
        ("confirm", {"faces": [1] * 401, "name": "Ann"}, "at most 400 faces"),
        ("reject", {"faces": [1], "name": "Nobody"}, "no person named"),
        ("hide", {"group": ""}, "no person named"),
    ):
        answer = server.say(what, **said)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), (what, answer.json())
    address = "/people/name"
    for body in (b"", b"[]", b"null", b"\xff", b"[" * 10_000, b" " * (people.BODY_BYTES + 1)):
        assert server.page.post(address, content=body, headers=OWN).status_code == 400, body[:9]
    assert server.page.get("/people/faces", params={"who": group, "count": "401"}).status_code == 400
    assert server.names() == [(None, 4), (None, 3)]

    assert server.page.post(address, content=b"{}").status_code == 403
    assert server.page.post(address, content=b"{}", headers={"origin": "http://evil.example"}).status_code == 403
    reads = ("/people", "/people/groups", "/people/faces")
    assert {server.page.get(read, headers={"sec-fetch-site": "cross-site"}).status_code for read in reads} == {403}
    statuses = {server.page.post(address, content=b"x", headers=OWN).status_code for _ in range(people.PER_MINUTE)}
    assert (people.PER_MINUTE > limits.PER_MINUTE, statuses) == (True, {400, 429})
    server.page.cookies.clear()
    assert server.page.post(address, content=b"{}", headers=OWN).status_code == 401
    assert {server.page.get(read).status_code for read in reads} == {401}


def test_without_faces_there_are_no_people(drawn_index: Path, tmp_path: Path) -> None:
    app = create_app(drawn_index, "token", pictures=Pictures(ThumbnailCache(tmp_path)))
    with TestClient(app, base_url=OWN["origin"]) as page:
        page.get("/", params={"token": "token"})
        found = page.get("/people/groups").json()
        assert (found["people"], found["unnamed"], "Run: clipsearch index --faces" in found["advice"]) == ([], [], True)
        assert page.post("/people/hide", json={"group": "1"}, headers=OWN).status_code == 400


# ------------------------------------------------------------------------------------------ the page


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("people").resolve())


def test_people_are_named_checked_and_found(look: Callable[..., Any], index: Path) -> None:
    page = look(index)
    page.get_by_role("link", name="Who is this? (2)").click()
    expect(page.locator("#progress")).to_have_text("2 groups to name")
    expect(page.locator("#group-faces img")).to_have_count(4)
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("#group-size")).to_contain_text("3 faces in 3 photos")
    page.keyboard.type("Ben")
    page.keyboard.press("Enter")
    expect(page.locator("#message h2")).to_have_text("The other groups were skipped")
    page.reload()
    page.get_by_label("Name", exact=True).fill("Anna")
    page.keyboard.press("Enter")
    expect(page.locator("#message h2")).to_have_text("Every group has a name")

    add_faces(index, LATER)
    page.locator("#people").get_by_role("link", name="Anna").click()
    cards = page.locator(".face-card")
    expect(cards).to_have_count(2)
    expect(cards.first.locator(".state")).to_have_text("almost certain, over 99%")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    expect(cards.last.locator(".state")).to_have_text("not Anna")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("y")
    expect(page.locator("#undo-text")).to_have_text("1 face confirmed: Anna.")
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.locator("#progress")).to_have_text("2 to check")
    page.keyboard.press("y")
    expect(page.locator("#progress")).to_have_text("1 to check")
    expect(page.locator("#undo-text")).to_have_text("1 face confirmed: Anna.")

    page.get_by_role("link", name="Back to the search").click()
    circle = page.get_by_role("button", name="Anna, 6 photos")
    circle.click()
    expect(page.locator("#active-filters")).to_have_text("Person: Anna")
    expect(page.locator(".tile .open")).to_have_count(6)
    page.get_by_role("button", name="Ben, 3 photos").click()
    expect(page.locator(".tile .open")).to_have_count(1)
    expect(circle).to_have_attribute("aria-pressed", "true")
    page.locator(".tile .open").click()
    page.get_by_label("Show boxes").click()
    boxes = page.locator("#face-boxes .box")
    expect(boxes).to_have_text(["Anna", "Ben"])
    picture, box = page.locator("#large").bounding_box(), boxes.last.bounding_box()
    assert box["x"] - picture["x"] == pytest.approx(RIGHT.left * picture["width"], abs=2)
    assert box["height"] == pytest.approx((RIGHT.bottom - RIGHT.top) * picture["height"], abs=2)
    boxes.last.click()
    page.get_by_role("button", name="Not Ben").click()
    expect(boxes.last).to_have_attribute("aria-label", "Unnamed face 2")
    expect(page.locator("#details dl")).to_contain_text("PeopleAnna")
    page.get_by_label("Name of Unnamed face 2").fill("Carl")
    page.keyboard.press("Enter")
    expect(boxes.last).to_have_attribute("aria-label", "Carl, confirmed")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    expect(boxes).to_have_text(["Anna", "Ben"])
    with open_index(index) as opened:
        assert [group.name for group in opened.people()][:2] == ["Anna", "Ben"]


def test_people_are_for_everybody(look: Callable[..., Any], index: Path) -> None:
    def check(page: Any) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not violations(page)

    with open_index(index) as opened:
        if opened.people()[0].name is None:
            opened.people_changes.name(str(opened.people()[0].number), "Anna")
    page = look(index, "sort=name", viewport={"width": 360, "height": 740})
    expect(page.locator("#people .circle").first).to_be_visible()
    check(page)
    page.locator(".tile .open").first.click()
    page.locator(".face summary").first.click()
    page.get_by_label("Show boxes").check()
    check(page)
    for path in ("/people", "/people?person=Anna"):
        page.goto(page.url.split("/?")[0].split("/people")[0] + path)
        page.wait_for_selector("body[data-ready]")
        check(page)
