"""Questions about a photo on the page, and generated captions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import save_scenes
from endpoints import ChatServer, chat_server, completion
from starlette.testclient import TestClient

from clipsearch.indexing.update import Options, update_index
from clipsearch.models.describe import Vlm
from clipsearch.output.pictures import Pictures, ThumbnailCache
from clipsearch.web.app import create_app

OWN, HOSTILE = "http://127.0.0.1:8642", "<img src=x onerror=alert(1)> a circle"


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@pytest.fixture(scope="module")
def captioned(chat: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    save_scenes(folder / "photos", 2)
    chat.reply = lambda _: completion(HOSTILE)
    options = Options(model="mini", captions=True, vlm=Vlm("llava", chat.url))
    assert update_index(folder / "index", [folder / "photos"], options).captioned == 2
    return folder / "index"


@pytest.fixture
def client(captioned: Path, chat: ChatServer, tmp_path: Path) -> Iterator[TestClient]:
    pictures = Pictures(ThumbnailCache(tmp_path))
    app = create_app(captioned, "the token", pictures=pictures, vlm=Vlm("other", chat.url))
    with TestClient(app, base_url=OWN, follow_redirects=False) as client:
        client.get("/", params={"token": "the token"})
        yield client


def test_a_question_is_answered(client: TestClient, chat: ChatServer) -> None:
    chat.reply = lambda _: completion("Two.")
    photo = client.get("/search").json()["hits"][0]
    address = f"/photo/{photo['id']}"
    assert photo["generated_caption"] == HOSTILE
    assert client.get(f"{address}/more").json()["can_ask"] is True
    own = {"Origin": OWN}
    answered = client.post(f"{address}/answer", params={"question": " how\nmany? "}, headers=own)
    assert answered.json() == {"question": "how many?", "answer": "Two.", "score": None}
    assert chat.requests[-1]["model"] == "other"
    refused = client.post(f"{address}/answer", headers=own)
    assert (refused.status_code, refused.json()["error"]) == (400, "question must have 1 to 500 characters")
    assert (
        client.post(f"{address}/answer", params={"question": "?"}, headers={"Origin": "http://evil"}).status_code == 403
    )
    chat.reply = lambda _: (404, b'{"error": "no such model"}')
    failed = client.post(f"{address}/answer", params={"question": "?"}, headers=own)
    assert failed.json()["error"].endswith("answered with status 404: no such model")


def test_without_a_model_there_is_nothing_to_ask(captioned: Path, tmp_path: Path) -> None:
    app = create_app(captioned, "the token", pictures=Pictures(ThumbnailCache(tmp_path)))
    with TestClient(app, base_url=OWN, follow_redirects=False) as client:
        client.get("/", params={"token": "the token"})
        address = f"/photo/{client.get('/search').json()['hits'][0]['id']}"
        assert client.get(f"{address}/more").json()["can_ask"] is False
        assert client.post(f"{address}/answer", headers={"Origin": OWN}).status_code == 404


def test_the_page_shows_captions_and_answers(browser: Any, captioned: Path, chat: ChatServer) -> None:
    from playwright.sync_api import expect

    chat.reply = lambda _: completion("<b>Two</b>")
    command = [sys.executable, "-m", "clipsearch", "serve", "--port", "0", "--index", str(captioned)]
    command += ["--endpoint", chat.url, "--vlm-model", "llava"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            page = browser.new_page()
            alerts: list[str] = []
            page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
            page.goto(server.stdout.readline().strip())
            page.wait_for_selector("body[data-ready]")
            page.locator(".tile .open").first.click()
            expect(page.locator("#details")).to_contain_text(HOSTILE)
            assert page.locator("#large").get_attribute("alt").endswith(HOSTILE)
            field = page.get_by_label("Ask about this photo")
            field.fill("how many?")
            field.press("Enter")
            expect(page.locator(".question .answer")).to_have_text("<b>Two</b>")
            assert alerts == []
            page.close()
        finally:
            server.terminate()
