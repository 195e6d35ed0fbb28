"""The MCP server, tested with the official client: in memory, and once as a program."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SCENES, save_scenes
from endpoints import chat_server, completion
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from starlette.testclient import TestClient

from clipsearch.index import Index
from clipsearch.models.describe import Vlm
from clipsearch.search.question import STRICT
from clipsearch.web.app import create_app
from clipsearch.web.assistant import assistant


@pytest.fixture
def ask(drawn_index: Path) -> Any:
    """Calls a tool; gives the answer's parts. The server is an object here, or a `server` to start."""

    def call(name: str, /, server: Any = None, **arguments: Any) -> Any:
        async def asked() -> Any:
            async with Client(server or assistant(drawn_index)) as client:
                return await client.call_tool(name, arguments)

        return asyncio.run(asked())

    return call


def test_a_search_gives_what_the_command_gives(ask: Any, clipsearch: Any, drawn_index: Path) -> None:
    text = SCENES[7].captions[0]
    command = ["-m", "clipsearch", "mcp", "--index", str(drawn_index)]
    program = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    found = ask("search", program, text=text, count=3, images=True)
    hits = json.loads(found.content[0].text)
    assert [hit["path"] for hit in hits] == clipsearch("query", text, "-k", 3, index=drawn_index).lines
    assert [part.mime_type for part in found.content[1:]] == ["image/jpeg"] * 3
    assert hits[0]["confidence"] > 0


def test_offline_folders_are_named(ask: Any, mini_index: Any, tmp_path: Path) -> None:
    folders = [save_scenes(tmp_path / name, 1, first=n)[0].parent for n, name in enumerate(("here", "drive"))]
    index = mini_index(*folders)
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    said = f"Not searched: {tmp_path / 'drive'} is not there"
    hits, *sentences = (part.text for part in ask("search", assistant(index), text="a circle").content)
    assert (len(json.loads(hits)), sentences[-1]) == (1, said)
    with TestClient(create_app(index, "token"), base_url="http://127.0.0.1") as page:
        page.get("/", params={"token": "token"})
        for question in ({"text": "a circle"}, {}):
            answer = page.get("/search", params=question).json()
            assert (len(answer["hits"]), answer["advice"][-1]) == (1, said)


def test_every_way_in_gives_the_same_confidence(ask: Any, clipsearch: Any, drawn_index: Path) -> None:
    text = SCENES[7].captions[0]
    least = {"min_confidence": STRICT}
    with Index(drawn_index) as index:
        expected = {str(hit.path): round(hit.confidence, 4) for hit in index.query(text, k=40, confidence=True)}
        strict = [str(hit.path) for hit in index.query(text, k=40, **least)]
        labelled = index.label(text)
    assert 0 < len(strict) < 40
    command = ("query", text, "-k", "40")
    found = {"json": json.loads(clipsearch(*command, "--format", "json", index=drawn_index).out)}
    found["mcp"] = json.loads(ask("search", text=text, count=40).content[0].text)
    with TestClient(create_app(drawn_index, "token"), base_url="http://127.0.0.1:1", follow_redirects=False) as page:
        page.get("/", params={"token": "token"})
        found["page"] = page.get("/search", params={"text": text, "count": 40}).json()["hits"]
        of_page = page.get("/search", params={"text": text, "count": 40, "cut": "strict"}).json()
    for way, hits in found.items():
        assert {hit["path"]: round(hit["confidence"], 4) for hit in hits} == pytest.approx(expected, abs=2e-4), way
    shown = clipsearch(*command, "--format", "table", "--min-confidence", "0", index=drawn_index).lines
    percent = [float(re.search(r"(\d+)%", line)[1]) for line in shown[1:]]
    assert percent == pytest.approx([100 * value for value in expected.values()], abs=0.51)
    assert clipsearch(*command, "--strict", index=drawn_index).lines == strict
    assert [hit["path"] for hit in json.loads(ask("search", text=text, count=40, **least).content[0].text)] == strict
    assert [hit["path"] for hit in of_page["hits"]] == strict
    assert "--strict" in of_page["command"]
    # A label has a template around it: a similar number, not the same.
    ranks = sorted(labelled, key=lambda photo: -photo.labels[0][1])
    assert str(ranks[0].path) in list(expected)[:5]


def test_labels_and_where_and_status(ask: Any, drawn: Path) -> None:
    [photo] = json.loads(ask("label", labels=["a circle", "a boat"], photos=[str(drawn / "07.png")]).content[0].text)
    assert sum(photo["labels"].values()) == pytest.approx(1)
    there = json.loads(ask("where", text="a circle", photo=str(drawn / "07.png")).content[0].text)
    assert set(there["box"]) == {"left", "top", "right", "bottom"}
    assert json.loads(ask("status").content[0].text)["photos"] == len(SCENES)
    like = json.loads(ask("search", like=str(drawn / "07.png"), count=len(SCENES)).content[0].text)
    assert {hit["path"] for hit in like} == {str(path) for path in drawn.iterdir()} - {str(drawn / "07.png")}
    hits, advice = ask("search", text="ein Hund", count=1).content
    assert len(json.loads(hits.text)) == 1
    assert advice.text.startswith('mini reads English and may not know "Hund"')


def test_an_answer_says_why(ask: Any, drawn: Path) -> None:
    [hit] = json.loads(ask("search", text="07", only="tags").content[0].text)
    assert (hit["path"], hit["why"]) == (str(drawn / "07.png"), [{"kind": "name", "matched": "07.png"}])
    assert "only must be look, text, tags or captions" in ask("search", text="07", only="sound").content[0].text


def test_a_filter_may_be_a_list(ask: Any, drawn: Path) -> None:
    def found(**filters: Any) -> int:
        return len(json.loads(ask("search", count=50, **filters).content[0].text))

    assert found(under=[str(drawn), ""]) == found(under=str(drawn)) == len(SCENES)
    assert found(camera=["canon", "nikon"]) == 0
    assert found(after=["2001", "2999"]) == 0


def test_a_misspelt_filter_is_refused(ask: Any) -> None:
    refused = ask("search", persons="Anna")
    assert refused.is_error
    assert refused.content[0].text.startswith("search has no argument 'persons'; choose from text, without, ")


def test_a_search_in_another_order(ask: Any, drawn: Path) -> None:
    hits = json.loads(ask("search", sort="-name", count=3, name="03 OR 07 OR 11 OR 30").content[0].text)
    assert [hit["path"] for hit in hits] == [str(drawn / name) for name in ("30.png", "11.png", "07.png")]
    assert "sort must be score" in ask("search", sort="colour").content[0].text


@pytest.mark.parametrize("tool", ["label", "where", "search"])
def test_what_is_not_in_the_index_cannot_be_named(ask: Any, tool: str, tmp_path: Path) -> None:
    SCENES[0].image.save(tmp_path / "mine.png")
    path = str(tmp_path / "mine.png")
    arguments = {
        "label": {"labels": ["a", "b"], "photos": [path]},
        "where": {"text": "a circle", "photo": path},
        "search": {"like": path},
    }
    answer = ask(tool, **arguments[tool])
    assert answer.is_error
    assert f"{path} is not in the index" in answer.content[0].text


def test_a_model_describes_photos_and_answers(ask: Any, drawn_index: Path, clipsearch: Any) -> None:
    path = clipsearch("query", "-k", "1", index=drawn_index).lines[0]
    with chat_server() as chat:
        chat.reply = lambda _: completion("Two circles.")
        server = assistant(drawn_index, Vlm("llava", chat.url))
        described = json.loads(ask("describe", server, photo=path).content[0].text)
        answered = json.loads(ask("ask", server, photo=path, question="how many?").content[0].text)
        refused = ask("ask", server, photo="/etc/passwd", question="how many?")
    assert described == {"path": path, "generated_caption": "Two circles."}
    assert answered == {"path": path, "question": "how many?", "answer": "Two circles.", "score": None}
    assert len(chat.requests) == 2
    assert refused.is_error
    assert "is not in the index" in refused.content[0].text
