"""Fixtures and helpers for the page in a browser, with the real server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from conftest import Start, save_scenes

from clipsearch.images.facts import Facts
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.index import open_index
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def _chromium() -> Iterator[tuple[Any, Any]]:
    """Chromium, and the event loop of Playwright, which stops running between the tests of the page."""
    if CHROMIUM is None:
        pytest.skip("the page is tested in Chromium, which is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
    playwright.expect.set_options(timeout=20_000)
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield opened, loop
        asyncio._set_running_loop(loop)
        opened.close()


@pytest.fixture
def browser(_chromium: tuple[Any, Any]) -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    opened, loop = _chromium
    asyncio._set_running_loop(loop)
    yield opened
    asyncio._set_running_loop(None)


MOST_SERVERS = 4


@pytest.fixture(scope="session")
def serve(start: Start) -> Iterator[Callable[..., str]]:
    """Serves an index, and gives the first address of its page. The server is kept until others are needed more."""
    servers: dict[tuple[object, ...], tuple[str, Any, IO[str]]] = {}

    def served(index: Path, *options: str, **environment: str) -> str:
        key = (index, *options, *sorted(environment.items()))
        if key in servers:
            servers[key] = servers.pop(key)  # the latest is the last
        else:
            server, out = start("serve", "--port", "0", *options, index=index, **environment)
            servers[key] = out.readline().strip(), server, out
        while len(servers) > MOST_SERVERS:
            end(next(iter(servers)))
        return servers[key][0]

    def end(key: tuple[object, ...]) -> None:
        _, server, out = servers.pop(key)
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        out.close()

    yield served
    for key in list(servers):
        end(key)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What pages complain of; a test with any fails."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def window(browser: Any, complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """Opens a window. Script errors and requests that are not the page's own are `complaints`."""
    contexts = []

    def opened(is_own: Callable[[str], bool], **options: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 1000}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if is_own(request.url) else complaints.append(request.url))
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def look(window: Callable[..., Any], serve: Callable[..., str], complaints: list[str]) -> Callable[..., Any]:
    """Opens the page of an index, served with more options, in a window of its own."""

    def opened(index: Path, question: str = "", serving: tuple[str, ...] = (), **options: Any) -> Any:
        page = window(lambda url: "127.0.0.1" in url, **options)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(serve(index, *serving) + (f"&{question}" if question else ""))
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        return page

    return opened


@pytest.fixture
def page(look: Callable[..., Any], drawn_index: Path) -> Any:
    return look(drawn_index)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, places_table: Path) -> Path:
    """An index of 2,000 names of 40 photos, with places, cameras and dates, and rows that are made up."""
    folder = tmp_path_factory.mktemp("many").resolve()
    targets, model = save_scenes(folder / "scenes"), mini()
    rows = np.random.default_rng(0).normal(size=(2_000, model.dim)).astype(np.float32)
    with Store.create(folder / "index", model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(folder / "photos"), Rules())
        (folder / "photos").mkdir()
        for number, row in enumerate(rows / np.linalg.norm(rows, axis=1, keepdims=True)):
            path = folder / "photos" / f"{number:04d}.png"
            original = number - (number % 50 == 1)  # every fiftieth has a copy
            shutil.copy(targets[original % len(targets)], path)
            taken = f"{2015 + number % 8}-{1 + number % 12:02d}-05T10:00:00"
            about = Metadata(300, (200, 300, 450)[number % 3], taken, f"Camera {number % 5}", 48.0, 2.0)
            status = path.stat()
            content = original.to_bytes(16, "big")
            image = store.find_image(content) or store.images.add(content, about, row)
            file = FoundFile(os.fsencode(path.name), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            store.photos.put(root, file, image, None)
        store.commit()
    return folder / "index"


@pytest.fixture(scope="session")
def travelled(tmp_path_factory: pytest.TempPathFactory, drawn_index: Path, places_table: Path) -> Path:
    """An index of the drawn scenes: 16 from Rome, 10 from Paris, 6 from both sides of the antimeridian, 8 unknown."""
    index = shutil.copytree(drawn_index, tmp_path_factory.mktemp("travelled") / "index")
    with Store.open(index, write=True) as store:
        [root] = store.roots()
        for n, known in enumerate(list(store.photos.known(root))):
            north, east = (41.9, 12.5) if n < 16 else (48.86, 2.35) if n < 26 else (-17.0, 180 - 360 * (n % 2))
            step = 0.001 * (n % 16)
            facts = Facts(latitude=north + step, longitude=east + (step if east < 180 else -step))
            file = FoundFile(known.path, known.size, known.mtime_ns, known.ctime_ns)
            image = store.photos.image_of(root, known.path)
            store.photos.put(root, file, image, None, facts if n < 32 else Facts(), known.drive)
        store.commit()
    return index


def names(page: Any, most: int = 5) -> list[str]:
    """The first photos as they are read out, without what follows the name."""
    labels = [tile.get_attribute("aria-label") for tile in page.locator(".tile .open").all()[:most]]
    return [label.split(", number")[0] for label in labels]


def ask(page: Any, text: str) -> None:
    """Type a text, and wait for what it finds."""
    page.locator("#text").fill(text)
    answered(page)


_ALL_RULES: dict[str, Any] = {"resultTypes": ["violations"]}
_COLOR_RULES = _ALL_RULES | {"runOnly": ["color-contrast", "link-in-text-block"]}


def violations(page: Any) -> list[str]:
    """What axe finds wrong with a page in both color schemes. It looks at eight photos: the others are built alike."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    wrong = []
    for scheme, rules in (("light", _ALL_RULES), ("dark", _COLOR_RULES)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)  # what fades in has its colors only then
        found = axe.run(page, {"exclude": [[".tile:nth-child(n + 9)"]]}, rules).response["violations"]
        wrong += [f"{scheme}: {one['id']}: {one['help']}: {node['html']}" for one in found for node in one["nodes"]]
    return wrong


def answered(page: Any) -> None:
    page.wait_for_timeout(60)
    page.wait_for_selector("body:not(.searching)")


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory, drawn: Path, drawn_index: Path) -> Path:
    """An index of 900 names: 700 of the photos that show a circle most, and 200 of others, each with its own row."""
    folder, model = tmp_path_factory.mktemp("crowd").resolve(), mini()
    with open_index(drawn_index) as index:
        paths = [hit.path for hit in index.query("a circle", k=40)]
        rows = index.embed_images(paths)
    noise = np.random.default_rng(0)
    (folder / "photos").mkdir()
    with Store.create(folder / "index", model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(folder / "photos"), Rules())
        for number in range(900):
            source = number % 4 if number < 700 else number % 40
            path = folder / "photos" / f"{number:03d}.png"
            os.link(paths[source], path)
            row = rows[source] + noise.normal(size=model.dim) * 0.002
            about = Metadata(160, 160, f"{2010 + number % 8}-05-01T10:00:00" if number % 3 else None)
            image = store.images.add(number.to_bytes(16, "big"), about, (row / np.linalg.norm(row)).astype(np.float32))
            status = path.stat()
            file = FoundFile(os.fsencode(path.name), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            store.photos.put(root, file, image, None)
        store.commit()
    return folder / "index"


_EDGE = "Math.max(...[...document.querySelectorAll('header, .panels')].map((it) => it.getBoundingClientRect().bottom))"
_TILE = f"""
  const edge = {_EDGE}, tiles = [...document.querySelectorAll(".tile")];
  tiles.sort((a, b) => a.dataset.index - b.dataset.index);
  const tile = tiles.find((one) => one.getBoundingClientRect().bottom > edge + 1);
"""
_FIRST = f"""() => {{
  {_TILE}
  return [tile.querySelector("bdi").textContent, tile.getBoundingClientRect().top - edge];
}}"""
_NOTED = f"""() => {{
  {_TILE}
  const link = tile?.querySelector(".open")?.href; // none while it is loaded
  return link && new URL(link).searchParams.get("photo") === new URLSearchParams(location.search).get("at");
}}"""


def first_visible(page: Any) -> tuple[str, float]:
    """The name of the first photo below the header and the panels, and how far it is from their edge."""
    name, distance = page.evaluate(_FIRST)
    return name, distance


def scroll(page: Any, height: int) -> None:
    """Scroll down by a height, and wait until the page has noted the place."""
    page.evaluate("(height) => scrollBy(0, height)", height)
    noted(page)


def noted(page: Any) -> None:
    """Wait until the address has the place that is shown."""
    page.wait_for_function(_NOTED)


def eventually(page: Any, holds: Callable[[], bool]) -> None:
    """Wait until something holds, for ten seconds at most."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    assert holds()
