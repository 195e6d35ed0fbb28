"""The page's server: access control, what it serves, and that it agrees with the command line."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from conftest import SCENES, damage, save_scenes
from PIL import Image
from starlette.testclient import TestClient

from clipsearch.cluster.publish import publish
from clipsearch.errors import BadRequest
from clipsearch.images.read import content_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.index import Index
from clipsearch.indexing.update import Options, update_index
from clipsearch.models import cache
from clipsearch.models.model import mini
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.paths import Collection
from clipsearch.search import where
from clipsearch.search.confidence import prompts
from clipsearch.search.question import CUT, parse
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import FILTERS
from clipsearch.web import app as web_app
from clipsearch.web import gallery, secret, uploads
from clipsearch.web.app import create_app
from clipsearch.web.gallery import Gallery
from clipsearch.web.index_thread import IndexThread
from clipsearch.web.secret import cookie_secret

OWN = "http://127.0.0.1:8642"
TOKEN = "the token"


def client_of(index: Path, **options: Any) -> TestClient:
    return TestClient(create_app(index, TOKEN, **options), base_url=OWN, follow_redirects=False)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Makes a client that has been let in."""
    clients: list[TestClient] = []

    def made(index: Path, **options: Any) -> TestClient:
        options.setdefault("pictures", Pictures(ThumbnailCache(tmp_path / "pictures")))
        client = client_of(index, **options)
        client.__enter__()
        clients.append(client)
        assert client.get("/", params={"token": TOKEN}).status_code == 303
        return client

    yield made
    for client in clients:
        client.__exit__()


@pytest.fixture
def page(make: Callable[..., TestClient], drawn_index: Path) -> TestClient:
    return make(drawn_index)


def id_of(path: Path) -> str:
    return content_hash(path.read_bytes()).hex()


# ------------------------------------------------------------------------------------------ who is let in


def test_nothing_is_shown_without_the_token(drawn_index: Path, drawn: Path) -> None:
    with client_of(drawn_index) as stranger:
        photo = f"/photo/{id_of(drawn / '00.png')}"
        for address in (
            *("/", "/search?text=star", "/status", "/places", "/static/page.js", photo),
            *("/choices", "/folders?in=/", "/suggest?text=star"),
            *(f"{photo}/original", f"{photo}/more"),
        ):
            assert stranger.get(address).status_code == 401, address
        assert stranger.get("/", params={"token": "another"}).status_code == 403
        assert stranger.get("/").status_code == 401


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_page_can_use(drawn_index: Path) -> None:
    with client_of(drawn_index) as client:
        answer = client.get("/", params={"token": TOKEN, "text": "a red star"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/?text=a+red+star")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
    with client_of(drawn_index, once="among the arguments of a browser") as client:
        tokens = ["among the arguments of a browser"] * 2 + [TOKEN] * 2
        assert [client.get("/", params={"token": token}).status_code for token in tokens] == [303, 403, 303, 303]


@pytest.fixture
def own_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the key of the cookies, in a folder of the test's own."""
    monkeypatch.setattr(secret.platformdirs, "user_config_path", lambda *_, **__: tmp_path / "config")
    return secret.secret_file()


def test_a_browser_is_let_in_again_after_a_restart(drawn_index: Path, own_secret: Path, tmp_path: Path) -> None:
    def restarted(token: str, index: Path = drawn_index) -> TestClient:
        return TestClient(create_app(index, token, secret=cookie_secret(index)), base_url=OWN, follow_redirects=False)

    with restarted("first") as client:
        answer = client.get("/", params={"token": "first"})
        assert "Max-Age=31536000" in answer.headers["set-cookie"]
        kept = dict(client.cookies)
    with restarted("second") as client:
        assert client.get("/?text=a+star", cookies=kept).status_code == 200
        assert client.get("/", params={"token": "first"}).status_code == 403  # addresses are not valid again
    shutil.copytree(drawn_index, tmp_path / "other")
    with restarted("third", tmp_path / "other") as client:  # a cookie is for one index
        assert client.get("/", cookies=kept).status_code == 401
    cookie_secret(tmp_path / "other", revoke=True)
    with restarted("fourth") as client:
        assert client.get("/", cookies=kept).status_code == 401


def test_the_key_of_the_cookies_is_private(own_secret: Path, tmp_path: Path) -> None:
    first = cookie_secret(tmp_path)
    assert (own_secret.stat().st_mode & 0o777, own_secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert cookie_secret(tmp_path) == first
    assert own_secret.read_bytes().hex() not in first
    own_secret.chmod(0o644)  # others may have read it
    second = cookie_secret(tmp_path)
    assert second != first
    assert own_secret.stat().st_mode & 0o777 == 0o600
    own_secret.write_bytes(b"")
    assert cookie_secret(tmp_path) not in (first, second)
    own_secret.unlink()
    own_secret.mkdir()  # it cannot be kept
    assert cookie_secret(tmp_path) != cookie_secret(tmp_path)
    assert list(own_secret.parent.iterdir()) == [own_secret]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8642", "evil.example:8642", "192.168.1.5", ""]
)
def test_a_name_that_was_pointed_here_is_refused(page: TestClient, host: str) -> None:
    assert page.get("/status").status_code == 200
    assert page.get("/status", headers={"host": host}).status_code == 421


def test_with_another_address_to_listen_at_only_that_and_numbers_are_names(
    make: Callable[..., TestClient], drawn_index: Path
) -> None:
    page = make(drawn_index, host="0.0.0.0")
    cookie = {"cookie": "; ".join(f"{c.name}={c.value}" for c in page.cookies.jar)}
    assert page.get("/status", headers={"host": "192.168.1.5:8642", **cookie}).status_code == 200
    assert page.get("/status", headers={"host": "evil.example:8642", **cookie}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_pages_are_refused(page: TestClient, headers: dict[str, str]) -> None:
    assert page.get("/search?text=star", headers=headers).status_code == 403
    assert page.get(f"/photo/{'0' * 32}/more", headers=headers).status_code == 403
    assert page.post("/upload", content=b"x", headers=headers).status_code == 403


def test_what_changes_something_must_say_which_page_asks(page: TestClient) -> None:
    picture = Path(__file__).read_bytes()
    assert page.post("/upload", content=picture).status_code == 403
    assert page.post("/upload", content=picture, headers={"origin": OWN}).status_code == 400  # no image, but let in
    assert page.post("/search", headers={"origin": OWN}).status_code == 405


def test_every_answer_forbids_what_a_page_could_be_made_to_do(page: TestClient, drawn: Path) -> None:
    photo = f"/photo/{id_of(drawn / '00.png')}"
    for address in (
        "/",
        "/search?text=star",
        "/suggest?text=star",
        "/nothing",
        "/static/page.css",
        f"{photo}/small.jpg",
        f"{photo}/original",
    ):
        headers = page.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_no_inline_code_and_needs_nothing_from_elsewhere(page: TestClient) -> None:
    html = page.get("/").text
    assert "<style" not in html
    assert " style=" not in html
    assert not re.search(r"<[^>]*\son\w+=", html)
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")
    for name in os.listdir(Path(sys.modules["clipsearch.web"].__file__).parent / "static"):
        source = page.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in source, name
        assert not any(word in source for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(")), name


def test_the_form_has_a_field_for_each_filter_and_for_a_new_one(
    make: Callable[..., TestClient], drawn_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = FILTERS[0]._replace(option="colour", help="Main colour.", choices=())
    chosen = FILTERS[0]._replace(option="mood", help="Mood.", choices=("calm", "wild"))
    monkeypatch.setattr(web_app, "FILTERS", (*FILTERS, new, chosen))
    html = make(drawn_index).get("/").text
    found = re.findall(r'<(input|select|details)[^>]* data-filter="(\w+)"', html)
    fields = {option: tag for tag, option in found}
    assert list(fields) == [one.option for one in (*FILTERS, new, chosen)]
    assert {fields[one.option] for one in FILTERS if one.facet} == {"details"}
    assert (fields["colour"], fields["mood"], fields["after"], fields["near"]) == ("input", "select", "select", "input")
    assert 'placeholder="Main colour."' in html
    assert "<option>calm</option><option>wild</option>" in html
    for one in FILTERS:
        assert f'title="{one.help}"' in html


# ------------------------------------------------------------------------------------------ what is given out


def test_photos_are_named_by_ids_of_the_index_and_never_by_paths(page: TestClient, drawn: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    names = [id_of(secret), "%2e%2e", quote(str(drawn / "00.png"), safe=""), quote(str(secret)), "0" * 32, "1", "%00"]
    for name in names:
        for address in ("", "/original", "/more", "/small.jpg"):
            assert page.get(f"/photo/{name}{address}").status_code in (400, 404), address
    for name in ("../app.py", "..%2fapp.py", "page.html", "%2e%2e/guard.py", "/etc/passwd"):
        assert page.get(f"/static/{name}").status_code == 404, name


def test_a_small_picture_is_made_anew_and_kept_outside_the_photo_folders(
    page: TestClient, drawn: Path, tmp_path: Path
) -> None:
    before = sorted(drawn.iterdir())
    answer = page.get(f"/photo/{id_of(drawn / '03.png')}/small.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (160, 160)
    assert [path.read_bytes()[:-4] for path in (tmp_path / "pictures").rglob("*.jpg")] == [
        answer.content
    ]  # without the checksum
    assert sorted(drawn.iterdir()) == before


def test_kept_pictures_are_bounded(tmp_path: Path) -> None:
    kept = ThumbnailCache(tmp_path, max_bytes=1_000)
    for number in range(50):
        kept.put(f"{number:032x}", bytes(100))
        os.utime(kept._path(f"{number:032x}"), ns=(number, number))
    files = list(tmp_path.rglob("*.jpg"))
    assert sum(path.stat().st_size for path in files) <= 1_000
    assert kept.get(f"{49:032x}") == bytes(100)
    assert kept.get(f"{0:032x}") is None


def test_an_original_goes_out_as_an_image_or_not_at_all(make: Callable[..., TestClient], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    kinds = {"a.jpg": "image/jpeg", "b.png": "image/png", "c.webp": "image/webp"}
    kinds |= dict.fromkeys(("d.tif", "e.bmp", "f.heic"), "image/jpeg")
    import pillow_heif

    pillow_heif.register_heif_opener()
    for number, name in enumerate(kinds):
        SCENES[number].image.save(photos / name)
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini"))
    ids = {name: id_of(photos / name) for name in kinds}
    page = make(index)
    for name, type in kinds.items():
        answer = page.get(f"/photo/{ids[name]}/original")
        assert (answer.status_code, answer.headers["content-type"]) == (200, type), name
        assert "sandbox" in answer.headers["content-security-policy"]
        assert Image.open(io.BytesIO(answer.content)).size == (160, 160)
    for name in kinds:  # what was a photo is a page, or another file of the machine, by now
        (photos / name).unlink()
    (photos / "a.jpg").write_text("<script>alert(1)</script>")
    (photos / "b.png").symlink_to("/etc/passwd")
    os.mkfifo(photos / "c.webp")
    for name in ("a.jpg", "b.png", "c.webp", "d.tif"):
        for form in ("original", "small.jpg"):
            answer = page.get(f"/photo/{ids[name]}/{form}")
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/json"


def test_a_photo_that_changed_is_shown_and_not_kept_for_the_old_one(
    make: Callable[..., TestClient], tmp_path: Path
) -> None:
    (path,) = save_scenes(tmp_path / "photos", 1)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page, id = make(tmp_path / "index"), id_of(path)
    Image.new("RGB", (40, 20), "red").save(path)
    answer = page.get(f"/photo/{id}/small.jpg")
    assert Image.open(io.BytesIO(answer.content)).size == (40, 20)
    assert answer.headers["cache-control"] == "no-store"
    assert not list((tmp_path / "pictures").rglob("*.jpg"))


def test_a_link_in_the_place_of_a_photo_gives_nothing_away(make: Callable[..., TestClient], tmp_path: Path) -> None:
    paths = save_scenes(tmp_path / "photos" / "below", 3)
    (secret,) = save_scenes(tmp_path / "private", 1, first=9)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page, ids = make(tmp_path / "index"), [id_of(path) for path in paths]
    paths[0].unlink()
    paths[0].symlink_to(secret)  # a photo, and not one that was indexed
    paths[1].unlink()
    paths[1].symlink_to("/proc/self/environ")
    for id in ids[:2]:
        for form in ("original", "small.jpg", "large.jpg", "where.jpg?text=star"):
            answer = page.get(f"/photo/{id}/{form}")
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json"), form
    assert page.get(f"/photo/{ids[2]}/original").status_code == 200
    for name in ("00.png", "01.png", "02.png"):  # now a folder above the photos is one
        shutil.copy(secret, tmp_path / "private" / name)
    shutil.rmtree(tmp_path / "photos" / "below")
    (tmp_path / "photos" / "below").symlink_to(tmp_path / "private")
    for id in ids:
        for form in ("original", "large.jpg"):
            assert page.get(f"/photo/{id}/{form}").status_code == 404


def test_what_was_a_link_when_it_was_indexed_is_shown_while_it_has_the_same_contents(
    make: Callable[..., TestClient], tmp_path: Path
) -> None:
    (elsewhere, other) = save_scenes(tmp_path / "elsewhere", 2)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").symlink_to(elsewhere)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page, id = make(tmp_path / "index"), id_of(elsewhere)
    data = elsewhere.read_bytes()
    assert page.get(f"/photo/{id}/original").content == data
    elsewhere.rename(tmp_path / "moved.png")
    shutil.copyfile(tmp_path / "moved.png", elsewhere)  # other times, the same contents
    assert page.get(f"/photo/{id}/original").content == data
    shutil.copyfile(other, elsewhere)
    for form in ("original", "large.jpg"):
        assert page.get(f"/photo/{id}/{form}").status_code == 404


def test_the_original_of_a_changed_photo_does_not_go_out_as_it_is(
    make: Callable[..., TestClient], tmp_path: Path
) -> None:
    (path,) = save_scenes(tmp_path / "photos", 1)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page, id = make(tmp_path / "index"), id_of(path)
    path.write_bytes(path.read_bytes() + b"appended")
    answer = page.get(f"/photo/{id}/original")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert b"appended" not in answer.content


def test_what_nobody_expected_is_a_sentence(drawn_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a key")

    monkeypatch.setattr(Gallery, "status", fail)
    app = create_app(drawn_index, TOKEN)
    with TestClient(app, base_url=OWN, raise_server_exceptions=False) as client:
        client.get("/", params={"token": TOKEN})
        answer = client.get("/status")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error: KeyError: 'a key'"})


# ------------------------------------------------------------------------------------------ what comes in


def drop(page: TestClient, data: bytes, name: str = "dropped.png") -> Any:
    return page.post("/upload", params={"name": name}, content=data, headers={"origin": OWN})


def test_a_dropped_image_finds_itself(page: TestClient, drawn: Path) -> None:
    half = io.BytesIO()
    Image.open(drawn / "05.png").resize((120, 120)).save(half, "PNG")
    id = drop(page, half.getvalue()).json()["id"]
    found = page.get("/search", params={"like": id}).json()
    assert found["hits"][0]["name"] == "05.png"
    assert "--like dropped.png" in found["command"]
    assert page.get(f"/photo/{id}/small.jpg").headers["content-type"] == "image/jpeg"


def test_uploads_are_limited_in_size_and_number(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_BYTES", 1000)
    assert "larger" in drop(page, bytes(1001)).json()["error"]
    answers = [drop(page, b"nothing").status_code for _ in range(40)]
    assert answers[0] == 400
    assert answers[-1] == 429


def test_an_upload_that_takes_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"\x89PNG"
        await asyncio.sleep(60)

    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.01)
    with pytest.raises(BadRequest, match="took longer"):
        asyncio.run(
            uploads.Uploads(Pictures(ThumbnailCache(tmp_path))).take(IndexThread(tmp_path), "slow.png", slowly())
        )


@pytest.mark.usefixtures("decoding_processes")
def test_pixels_of_an_upload_are_decoded_in_another_process(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded in the server")

    monkeypatch.setattr(Image, "open", never)
    data = io.BytesIO()
    SCENES[1].image.save(data, "PNG")
    assert drop(page, data.getvalue()).status_code == 200
    assert drop(page, b"\x89PNG\r\n\x1a\n" + bytes(100)).status_code == 400


# ------------------------------------------------------------------------------------------ answers


def run_in_shell(command: str) -> str:
    """What a command prints."""
    program = f'clipsearch() {{ "{sys.executable}" -m clipsearch "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    "question",
    [
        [("text", "a red circle")],
        [("text", "2:a red circle"), ("text", "stripes"), ("not", "a blue star")],
        [("text", "a star"), ("unique", "1"), ("type", "png"), ("orientation", "square")],
        [("text", "a star"), ("cut", "1")],
        [("text", "a star"), ("cut", "0.6")],
        [("text", "07"), ("only", "tags")],
        [("text", "a star"), ("only", "look")],
        [("after", "2001-02-03"), ("size", "+10")],
        [("name", "00"), ("name", "07"), ("type", "png"), ("type", "gif"), ("after", "2001"), ("after", "2002")],
        [("like", "ID"), ("not", "-x")],
        [("text", 'it\'s; $(rm) "a" `b`')],
    ],
)
def test_the_command_beside_the_results_gives_the_same(
    page: TestClient, drawn: Path, drawn_index: Path, question: list[tuple[str, str]]
) -> None:
    pairs = [(name, id_of(drawn / "07.png") if value == "ID" else value) for name, value in question]
    found = page.get("/search", params=[*pairs, ("count", "10")]).json()
    assert str(drawn_index) in found["command"]
    printed = run_in_shell(found["command"]).splitlines()
    shown = [hit["path"] for hit in found["hits"]]
    assert printed[: len(shown)] == shown
    assert len(printed) == (found["ranked"] if "list" in found else len(shown))  # a list's command prints all of it


@pytest.mark.parametrize("sort", ["-name", "size"])
@pytest.mark.parametrize("asked", [("text", "a red circle"), ("like", "ID"), ("name", "0")])
def test_results_in_another_order(page: TestClient, drawn: Path, asked: tuple[str, str], sort: str) -> None:
    """Of a text the confident matches, of an image the closest, and of filters all photos."""
    pair = (asked[0], id_of(drawn / "07.png") if asked[1] == "ID" else asked[1])
    best = page.get("/search", params=[pair, ("count", "400")]).json()
    found = page.get("/search", params=[pair, ("sort", sort), ("count", "400")]).json()
    matches = best["hits"][: best["confident"] or None]
    key = {"-name": lambda hit: hit["name"], "size": lambda hit: hit["size"]}[sort]
    expected = sorted(sorted(matches, key=lambda hit: hit["path"]), key=key, reverse=sort[0] == "-")
    assert [hit["path"] for hit in found["hits"]] == [hit["path"] for hit in expected]
    assert (found["ranked"], found["complete"], found["confident"]) == (len(matches), True, best["confident"])
    assert run_in_shell(found["command"]).splitlines() == [hit["path"] for hit in found["hits"]]
    part = page.get("/search", params=[pair, ("sort", sort), ("first", "1"), ("count", "2")]).json()
    assert part["hits"] == found["hits"][1:3]


@pytest.mark.parametrize(("name", "count"), [("sort", 7), ("only", 5)])
def test_the_page_offers_choices_that_there_are(page: TestClient, name: str, count: int) -> None:
    [select] = re.findall(f'<select id="{name}">(.*?)</select>', page.get("/").text)
    choices = re.findall('<option value="(.*?)">', select)
    assert len(choices) == count
    statuses = {page.get("/search", params={name: choice}).status_code for choice in choices}
    assert statuses == {200}  # as long as there is no text, too


def test_hits_say_why_and_names_do_not_count_as_confident(page: TestClient) -> None:
    found = page.get("/search", params={"text": "07", "only": "tags"}).json()
    assert [hit["why"] for hit in found["hits"]] == [[{"kind": "name", "matched": "07.png"}]]
    assert found["confident"] == sum(hit["confidence"] >= CUT for hit in found["hits"])
    assert page.get("/search", params={"text": "07", "only": "tags", "cut": "0.99"}).json()["hits"] == []
    assert "no text has been read" in page.get("/search", params={"text": "07", "only": "text"}).json()["error"]


def test_an_answer_reaches_to_a_photo_further_down(page: TestClient) -> None:
    whole = page.get("/search", params={"text": "a star", "count": 40}).json()["hits"]
    found = page.get("/search", params={"text": "a star", "count": 5, "through": whole[20]["file"]}).json()
    assert [hit["path"] for hit in found["hits"]] == [hit["path"] for hit in whole[:26]]
    found = page.get("/search", params={"text": "a star", "count": 5, "through": "0" * 16}).json()
    assert [hit["path"] for hit in found["hits"]] == [hit["path"] for hit in whole[:5]]


def test_terms_are_given_back_as_they_were_understood(page: TestClient) -> None:
    asked = [("text", "2:a red car -people"), ("not", "a star"), ("q", "a boat -x")]
    found = page.get("/search", params=asked).json()
    assert found["terms"] == [["text", "2:a red car"], ["not", "people"], ["not", "a star"]]
    assert "'2:a red car' 'a boat' --not people --not 'a star' --not x" in found["command"]


@pytest.mark.parametrize(
    "text", ["2:a red car -people", "16:9 -.5:dog", "1.5:x", "@grandma on a beach -@grandpa", "a -", "- x", "10:30"]
)
def test_terms_and_parameters_are_the_same(text: str) -> None:
    question = parse([("text", text), ("like", f"2:{1:032x}"), ("unlike", f"{2:032x}"), ("not", "0.5:y")])
    assert parse(question.parameters()).terms == question.terms


def test_a_filter_may_be_in_an_address_several_times(page: TestClient, drawn: Path) -> None:
    found = page.get("/search", params=[("name", "03"), ("name", "05"), ("name", "04 none")]).json()
    assert {hit["path"] for hit in found["hits"]} == {str(drawn / "03.png"), str(drawn / "05.png")}
    assert "--name 03 --name 05 --name '04 none'" in found["command"]


def test_texts_that_somebody_is_still_typing_stay_out_of_the_cache(page: TestClient, drawn: Path) -> None:
    fingerprint, photo = mini().fingerprint, id_of(drawn / "07.png")
    for text in ("a red ci", "a red circ"):
        assert page.get("/search", params={"text": text}).json()["hits"]
    assert page.get("/labels", params=[("label", "a ca"), ("label", "do"), ("photo", photo)]).json()["probabilities"]
    typed = ["a red ci", "a red circ", "a photo of a ca", "a photo of a do"]
    assert not cache.text_embeddings(fingerprint, typed)
    assert cache.text_embeddings(fingerprint, prompts()).keys() == set(prompts())


def test_results_come_in_parts(page: TestClient) -> None:
    whole = page.get("/search", params={"text": "a star", "count": 40}).json()
    parts = [
        page.get("/search", params={"text": "a star", "first": n, "count": 15}).json()["hits"] for n in (0, 15, 30)
    ]
    assert [hit["rank"] for part in parts for hit in part] == list(range(1, 41))
    assert [hit["path"] for part in parts for hit in part] == [hit["path"] for hit in whole["hits"]]
    assert whole["complete"]
    assert 0 <= whole["confident"] <= 40


def test_counting_ends_when_the_next_question_is_asked(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "FIRST_DEPTH", 4)
    counted = page.get("/count", params={"text": "a circle", "tab": "x", "turn": 5})
    assert counted.json()["matches"]["exact"]
    assert page.get("/search", params={"text": "a circle"}).json()["matches"] == counted.json()["matches"]
    assert page.get("/count", params={"text": "a star", "tab": "x", "turn": 4}).status_code == 204


def test_counting_goes_on_only_while_it_is_wanted(drawn_index: Path, tmp_path: Path) -> None:
    asked, wanted = parse([("text", "a circle"), ("cut", "0.0001")]), iter([True, True, False])
    with pytest.MonkeyPatch.context() as patch, Index(drawn_index) as index:
        patch.setattr(gallery, "FIRST_DEPTH", 1)
        counter = Gallery(uploads.Uploads(Pictures(ThumbnailCache(tmp_path))))
        assert counter.count(index, asked, lambda: next(wanted))["matches"] == {"count": 16, "exact": False}
        assert counter.count(index, asked, lambda: True)["matches"] == {"count": len(SCENES), "exact": True}


def test_a_question_that_was_overtaken_is_not_answered(page: TestClient) -> None:
    for turn, status in ((5, 200), (4, 204)):
        answer = page.get("/search", params={"text": f"star {turn}", "tab": "x", "turn": turn})
        assert answer.status_code == status
    assert page.get("/search", params={"text": "star", "tab": "y", "turn": 1}).status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"after": "nonsense"},
        {"near": "x"},
        {"size": "big"},
        {"type": "exe"},
        {"text": "x", "cut": "much"},
        {"text": "x", "cut": "nan"},
        {"like": "../../etc"},
        {"like": "0" * 32},
        {"text": "@nobody"},
        {"not": "only"},
        {"first": "-1"},
        {"count": "100000"},
        {"text": "x" * 5000},
        {"under": "/nowhere"},
        {"not_under": "/nowhere"},
        {"text": "x", "sort": "colour"},
    ],
)
def test_a_bad_question_is_answered_with_a_sentence(page: TestClient, params: dict[str, str]) -> None:
    answer = page.get("/search", params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_places_of_matches_are_clusters(make: Callable[..., TestClient], travelled: Path) -> None:
    page = make(travelled)
    found = page.get("/places", params={"columns": 64}).json()
    assert (found["photos"], found["located"]) == (40, 32)
    assert found["bounds"] == pytest.approx([-17, 2.35, 48.87, -179.99], abs=0.1)  # across the antimeridian
    rome, *others = found["clusters"]
    assert (rome["count"], rome["place"]) == (16, "Rome, Italy")
    assert sum(cluster["count"] for cluster in others) == 16
    assert page.get(f"/photo/{rome['photo']}/small.jpg").status_code == 200
    listed = page.get("/search", params={"within": ",".join(map(str, rome["box"]))}).json()
    assert listed["passing"] == 16
    assert all(town[1] < 45 for town in page.get("/places", params={"box": "40,10,45,15"}).json()["towns"])
    for params in ({"text": "a circle"}, {"like": listed["hits"][0]["id"]}, {"within": "40,10,45,15"}):
        matches = page.get("/search", params={**params, "count": 400}).json()["matches"]["count"]
        assert page.get("/places", params=params).json()["photos"] == matches
    for wrong in ({"box": "1,2"}, {"columns": "0"}, {"columns": "65"}, {"columns": "99999999"}, {"text": "@nobody"}):
        assert page.get("/places", params=wrong).status_code == 400


def test_a_photo_is_shown_with_the_part_that_was_asked_for(page: TestClient, drawn: Path) -> None:
    id = id_of(drawn / "04.png")
    plain = page.get(f"/photo/{id}/large.jpg")
    heated = page.get(f"/photo/{id}/where.jpg", params={"text": SCENES[4].captions[0]})
    assert (heated.status_code, heated.headers["content-type"]) == (200, "image/jpeg")
    before, after = (np.asarray(Image.open(io.BytesIO(one.content)), np.int16) for one in (plain, heated))
    assert before.shape == after.shape
    changed = np.abs(after - before).max(2) > 30
    assert 0.01 < changed.mean() < 0.9
    assert "no-store" in heated.headers["cache-control"]
    assert page.get(f"/photo/{id}/where.jpg").json() == {"error": "the query is empty; enter something to look for"}
    assert page.get(f"/photo/{'0' * 32}/where.jpg", params={"text": "a circle"}).status_code == 404


def test_one_process_decodes_for_all_clicks(page: TestClient, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(Decoders):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(self)
            super().__init__(*arguments, **options)

    made: list[Counted] = []
    monkeypatch.setattr(where, "Decoders", Counted)
    for number in range(3):
        address = f"/photo/{id_of(drawn / f'{number:02d}.png')}/where.jpg"
        assert page.get(address, params={"text": "a circle"}).status_code == 200
    assert len(made) == 1


def test_labels_of_one_photo_and_of_all(page: TestClient, drawn: Path) -> None:
    labels = [("label", "a circle"), ("label", "a star")]
    one = page.get("/labels", params=[*labels, ("photo", id_of(drawn / "00.png"))]).json()
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    every = page.get("/labels", params=labels).json()
    assert sum(every["counts"].values()) == len(SCENES)
    some = page.get("/labels", params=[*labels, ("text", "a star"), ("cut", "1")]).json()
    assert 0 < sum(some["counts"].values()) < len(SCENES)
    for answer in (every, some):
        out = run_in_shell(answer["command"]).splitlines()
        assert dict(reversed(line.split("\t")) for line in out) == {k: str(v) for k, v in answer["counts"].items()}


def test_what_there_is_to_choose(page: TestClient, drawn: Path) -> None:
    choices = page.get("/choices").json()
    assert choices["values"]["type"] == [["png", len(SCENES)]]
    assert choices["values"]["person"] == []
    assert sum(count for _, count in choices["months"]) == len(SCENES)
    root = {"name": drawn.name, "value": str(drawn), "photos": len(SCENES), "has_folders": False}
    assert choices["folders"] == [root]
    assert page.get("/folders", params={"in": str(drawn)}).json() == {"folders": []}
    assert page.get("/folders", params={"in": "/etc"}).json() == {"folders": []}
    months = page.get("/months", params={"after": "2999"}).json()  # no photo has a date: the files have
    assert (months["taken"], sum(months["changed"].values())) == ({}, len(SCENES))


def test_folders_are_listed_one_level_at_a_time(make: Callable[..., TestClient], tmp_path: Path) -> None:
    paths = [b"a/x.png", b"a/b/y.png", b"a/\xff/z.png", b"c.png"]
    for number, path in enumerate(paths):
        file = os.path.join(os.fsencode(tmp_path / "photos"), path)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        SCENES[number].image.save(os.fsdecode(file))
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = make(tmp_path / "index")
    [root] = page.get("/choices").json()["folders"]
    [a] = page.get("/folders", params={"in": root["value"]}).json()["folders"]
    assert (root["photos"], root["has_folders"], a["name"], a["photos"], a["has_folders"]) == (4, True, "a", 3, True)
    inside = page.get("/folders", params={"in": a["value"]}).json()["folders"]
    assert [(one["name"], one["value"], one["photos"]) for one in inside] == [
        ("b", str(tmp_path / "photos" / "a" / "b"), 1),
        ("\\xff", None, 1),  # no URL can name it
    ]


def test_a_text_that_is_being_typed_is_completed(page: TestClient) -> None:
    [found] = page.get("/suggest", params={"text": "star July 2023"}).json()["suggestions"]
    assert found == {
        "label": "July 2023",
        "detail": "",
        "pairs": [["after", "2023-07"], ["before", "2023-08"]],
        "rest": "star",
        "photos": 0,
    }
    assert page.get("/suggest").json() == page.get("/suggest?text=%00%ff").json() == {"suggestions": []}
    answer = page.get("/suggest", params={"text": "x" * 1001})
    assert (answer.status_code, "at most 1,000" in answer.json()["error"]) == (400, True)


def test_the_command_stays_while_one_scrolls(page: TestClient) -> None:
    commands = {page.get(f"/search?text=star&first={first}&count=10").json()["command"] for first in (0, 10, 20)}
    assert len(commands) == 1


# ------------------------------------------------------------------------------------------ an index that changes


def test_an_index_is_seen_as_it_comes_grows_and_goes(make: Callable[..., TestClient], tmp_path: Path) -> None:
    index, photos = tmp_path / "index", tmp_path / "photos"
    page = make(index)
    assert page.get("/status").json()["state"] == "none"
    assert page.get("/search").status_code == 404
    save_scenes(photos, 3)
    update_index(index, [photos], Options(model="mini"))
    assert page.get("/status").json()["photos"] == 3
    assert len(page.get("/search", params={"text": "a star"}).json()["hits"]) == 3
    before = page.get("/status").json()["version"]
    save_scenes(photos, 5)
    (photos / "00.png").unlink()
    assert len(page.get("/search", params={"text": "a stripe"}).json()["hits"]) == 2  # at once, as a query does it
    update_index(index, [photos], Options(model="mini"))
    assert page.get("/status").json()["version"] != before
    assert len(page.get("/search", params={"text": "a star"}).json()["hits"]) == 4
    shutil.rmtree(index)
    assert page.get("/search", params={"text": "a star"}).status_code == 404
    update_index(index, [photos], Options(model="mini"))
    assert len(page.get("/search", params={"text": "a star"}).json()["hits"]) == 4


def test_a_run_of_the_indexer_is_seen(make: Callable[..., TestClient], tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 2)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = make(tmp_path / "index")
    assert page.get("/status").json()["writing"] is False
    with Store.open(tmp_path / "index", write=True):
        assert page.get("/status").json()["writing"] is True
    assert page.get("/status").json()["writing"] is False
    (tmp_path / "index" / "writer.pid").write_text("999999999\n")  # it was killed
    assert page.get("/status").json()["writing"] is False


def test_between_questions_no_moment_of_the_catalogue_is_held(make: Callable[..., TestClient], tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 2)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    page = make(tmp_path / "index")
    assert page.get("/search", params={"text": "a star"}).status_code == 200
    save_scenes(tmp_path / "photos", 3)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    database = sqlite3.connect(tmp_path / "index" / "catalogue.sqlite")
    (busy, left, emptied) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    database.close()
    assert (busy, left) == (0, emptied)


def test_a_damaged_index_is_a_sentence(make: Callable[..., TestClient], tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 2)
    update_index(tmp_path / "index", [tmp_path / "photos"], Options(model="mini"))
    damage(tmp_path / "index", "UPDATE meta SET value = 'x' WHERE key = 'dim'")
    answer = make(tmp_path / "index").get("/search", params={"text": "a star"})
    assert answer.status_code == 500
    assert "damaged" in answer.json()["error"]


# ------------------------------------------------------------------------------------------ the program


def test_the_program_listens_at_this_machine_alone_prints_its_address_and_ends_at_ctrl_c(
    drawn_index: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "clipsearch", "serve", "--port", "0", "--index", str(drawn_index), "--open"]
    (tmp_path / "browser").write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/opened\n'
    )
    (tmp_path / "browser").chmod(0o755)
    environment = os.environ | {"BROWSER": str(tmp_path / "browser")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            assert opener.open(address, timeout=30).status == 200
            status = json.load(opener.open(f"{address.partition('?')[0]}status", timeout=30))
            assert status["photos"] == len(SCENES)
            deadline = time.monotonic() + 30
            while not (tmp_path / "opened").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            opened = (tmp_path / "opened").read_text().strip()
            assert opened.startswith(address.partition("?")[0])
            assert opened != address  # other users see the arguments of a browser
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "options", [["--host", "no.such.host.invalid"], ["--port", "70000"], ["--host", "203.0.113.1"]]
)
def test_where_nothing_can_listen_is_a_sentence(clipsearch: Callable[..., Any], options: list[str]) -> None:
    done = clipsearch("serve", *options)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1


# ------------------------------------------------------------------------------------------ a collection


def test_a_collection_is_shown_as_its_folder_is(
    make: Callable[..., TestClient], drawn_index: Path, drawn: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    publish(drawn_index, Collection(tmp_path / "photos.db"))
    of_folder, of_collection = make(drawn_index), make(Collection(tmp_path / "photos.db"))
    for address in (
        "/search?text=a+red+star",
        "/search?type=png&first=5&count=7",
        f"/search?like={id_of(drawn / '03.png')}",
        "/months",
        "/choices",
        "/suggest?text=png+star",
        f"/photo/{id_of(drawn / '00.png')}",
        f"/photo/{id_of(drawn / '00.png')}/more",
        "/labels?label=a+star&label=a+circle",
    ):
        expected, found = of_folder.get(address).json(), of_collection.get(address).json()
        for answer in (expected, found):  # one names the index that it is asked of
            answer.pop("command", None)
        assert found == expected, address
    assert of_collection.get("/status").json()["state"] == "ready"
    picture = f"/photo/{id_of(drawn / '00.png')}/256.jpg"
    assert of_collection.get(picture).status_code == of_folder.get(picture).status_code
