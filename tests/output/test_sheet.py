from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from PIL import Image as Picture
from PIL import ImageCms

from clipsearch.errors import BadRequest
from clipsearch.images import decode
from clipsearch.images.metadata import Metadata
from clipsearch.images.sandbox import THUMBNAIL_SIDE, Decoders
from clipsearch.output import html_file
from clipsearch.output import sheet as module
from clipsearch.output.sheet import duplicates_sheet, sheet, write_duplicates, write_sheet
from clipsearch.output.text import printable
from clipsearch.search.copies import Copy, Kind
from clipsearch.search.hit import Hit
from clipsearch.store.catalogue import Photo

HOSTILE = [
    b"plain.png",
    b"two  spaces #1 100% ?x=1&lt;.png",
    b"<script>document.title='owned'<img src=x onerror=alert(1)>.png",
    b"\" onerror='document.title=1' '.png",
    b"line\nbreak\x1b[31m.png",
    b"\xff\xfe not utf-8.png",
    "\u202egnp.\u05d0\u0628 \U0001f436.png".encode(),
]
needs_raw_names = pytest.mark.skipif(sys.platform != "linux", reason="names here are not any bytes")


def photo(path: bytes | Path, **facts: Any) -> Photo:
    image = {"width": 640, "height": 480, "taken": None, "camera": None, "latitude": None, "longitude": None} | facts
    return Photo(1, os.fsencode(path), 1, 1, b"", Metadata(**image))


def save(path: Path | bytes, colour: str = "red", size: tuple[int, int] = (64, 48), **options: Any) -> Photo:
    Picture.new("RGB", size, colour).save(os.fsdecode(path), **options)
    return photo(path)


def page(*hits: Hit, title: str = "a dog") -> str:
    text = "".join(sheet(hits, title))
    text.encode("utf-8")
    return text


class Parsed(HTMLParser):
    """Every element with its attributes, and the text of each card."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cards: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if dict(attrs).get("class") == "card":
            self.cards.append("")

    def handle_data(self, data: str) -> None:
        if self.cards:
            self.cards[-1] += data

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and having.items() <= a.items()]

    def thumbnails(self) -> list[Picture.Image]:
        return [
            Picture.open(io.BytesIO(base64.b64decode((img["src"] or "").removeprefix("data:image/jpeg;base64,"))))
            for img in self.all("img")
        ]


# ------------------------------------------------------------------------------------------ thumbnails


def thumbnail(path: Path, long_side: int = THUMBNAIL_SIDE) -> Picture.Image | None:
    with Decoders(1) as decoders:
        return decoders.thumbnail(os.fsencode(path), long_side=long_side)


def test_a_thumbnail_is_upright_and_small(tmp_path: Path) -> None:
    image = Picture.new("RGB", (1600, 900), "blue")
    image.paste("red", (0, 0, 800, 900))
    exif = Picture.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side is the top
    image.save(tmp_path / "a.jpg", exif=exif)
    small = thumbnail(tmp_path / "a.jpg")
    assert small is not None
    assert small.size == (180, 320)
    assert small.getpixel((90, 40))[0] > 200
    assert small.getpixel((90, 280))[2] > 200
    again = thumbnail(tmp_path / "a.jpg", 64)
    assert again is not None
    assert again.size == (36, 64)


def test_a_small_photo_is_not_made_larger(tmp_path: Path) -> None:
    save(tmp_path / "a.png", size=(20, 10))
    small = thumbnail(tmp_path / "a.png")
    assert small is not None
    assert small.size == (20, 10)


def test_a_thumbnail_has_the_colours_that_the_profile_says(tmp_path: Path) -> None:
    profile = io.BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = bytearray(profile.getvalue())  # a profile whose red and blue are each other's
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    save(tmp_path / "a.png", "red", icc_profile=bytes(swapped))
    small = thumbnail(tmp_path / "a.png")
    assert small is not None
    r, _, b = small.getpixel((5, 5))
    assert r < 60
    assert b > 200


@pytest.mark.parametrize("profile", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()])
def test_a_profile_that_makes_no_sense_is_left_out(tmp_path: Path, profile: bytes) -> None:
    save(tmp_path / "a.png", "red", icc_profile=profile)
    small = thumbnail(tmp_path / "a.png")
    assert small is not None
    assert small.getpixel((5, 5)) == (255, 0, 0)


def test_what_cannot_be_read_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    save(tmp_path / "cut.png", size=(300, 300))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name in ("text.jpg", "cut.png", "missing.jpg", "."):
        assert thumbnail(tmp_path / name) is None, name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_the_place_of_a_photo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert thumbnail(tmp_path / "a.jpg") is None


# ------------------------------------------------------------------------------------------ the page


def test_a_card_says_what_is_known(tmp_path: Path, places_table: Path) -> None:
    save(tmp_path / "a.png")
    known = photo(tmp_path / "a.png", width=4000, height=3000, taken="2023-07-14T18:03:21", camera="Canon <R5>\x1b")
    known = known._replace(metadata=known.metadata._replace(latitude=48.8584, longitude=2.2945))
    (card,) = Parsed(page(Hit(7, 0.31249, known, 0.925))).cards
    for words in (
        "7",
        "score 0.312",
        "confidence 92%",
        "2023-07-14 18:03",
        "Canon <R5>\\x1b",
        "Paris, France",
        "4000 × 3000",
    ):
        assert words in card
    assert f"{tmp_path}/a.png" in card


def test_a_card_says_nothing_of_what_is_not_known(tmp_path: Path) -> None:
    text = page(Hit(1, None, save(tmp_path / "a.png")))
    (card,) = Parsed(text).cards
    assert not any(words in card for words in ("score", "confidence", "None", "similar"))
    assert not Parsed(text).all("time")


def test_similar_photos_are_counted_and_listed(tmp_path: Path) -> None:
    similar = tuple(photo(tmp_path / f"{n} & <b>.png") for n in range(3))
    parsed = Parsed(page(Hit(1, 0.3, save(tmp_path / "a.png"), None, similar)))
    assert len(parsed.all("details")) == 1
    assert "+3 similar" in parsed.cards[0]
    for other in similar:
        assert printable(other.file) in parsed.cards[0]
        assert parsed.all("a", href=other.path.as_uri())


def test_thumbnails_lie_in_the_page_in_the_order_of_the_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [Hit(n, 0.5, save(tmp_path / f"{n}.jpg", f"rgb({10 * n}, 0, 0)", (1000, 500))) for n in range(1, 21)]
    second, thumbnail = threading.Event(), Decoders.thumbnail

    def late(decoders: Decoders, path: bytes, *how: Any) -> Picture.Image | None:
        if path.endswith(b"/2.jpg"):
            second.set()
        elif path.endswith(b"/1.jpg"):  # ready only after the next one has begun
            assert second.wait(20)
        return thumbnail(decoders, path, *how)

    monkeypatch.setattr(html_file, "_WORKERS", 2)
    monkeypatch.setattr(Decoders, "thumbnail", late)
    pictures = Parsed(page(*hits)).thumbnails()
    assert [image.size for image in pictures] == [(320, 160)] * 20
    assert [image.format for image in pictures] == ["JPEG"] * 20
    for n, image in enumerate(pictures, 1):
        assert abs(image.getpixel((160, 80))[0] - 10 * n) <= 4


def test_a_page_is_made_without_decoding_photos_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding_processes: None
) -> None:
    monkeypatch.setattr(decode, "_decode", lambda *_: pytest.fail("decoded in this process"))
    hits = [Hit(n, 0.5, save(tmp_path / f"{n}.jpg")) for n in range(1, 3)]
    (tmp_path / "2.jpg").write_bytes(b"no photo any more")
    assert len(Parsed(page(*hits)).thumbnails()) == 1


def test_decoding_keeps_near_the_page_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = [], threading.Event()

    def slow(decoders: Decoders, path: bytes, *how: Any) -> None:
        asked.append(path)
        assert len(asked) == 1 or go_on.wait(20)

    monkeypatch.setattr(html_file, "_WORKERS", 2)
    monkeypatch.setattr(Decoders, "thumbnail", slow)
    pieces = sheet([Hit(n, 0.5, photo(tmp_path / f"{n}.jpg")) for n in range(1, 1001)], "many")
    shown = ""
    while "1.jpg" not in shown:
        shown += next(pieces)
    assert "1,000 photos" in shown
    before = threading.active_count()
    threading.Timer(0.1, go_on.set).start()
    pieces.close()
    assert len(asked) <= 3  # the first, and those that two threads had begun
    assert threading.active_count() < before


def test_thousands_of_thumbnails_are_not_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(html_file, "_WORKERS", 2)
    monkeypatch.setattr(Decoders, "thumbnail", lambda _, path, *how: asked.append(path))
    pieces = sheet([Hit(n, 0.5, photo(tmp_path / f"{n}.jpg")) for n in range(1, 1001)], "many")
    for n, _ in zip(range(100), pieces, strict=False):
        assert len(asked) <= n + 5
    pieces.close()


def test_a_photo_that_is_gone_has_a_card_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_text("no photo any more")
    photos = [save(tmp_path / "a.png"), photo(tmp_path / "b.jpg"), photo(tmp_path / "c.jpg")]
    parsed = Parsed(page(*(Hit(n, 0.5, one) for n, one in enumerate(photos, 1))))
    assert len(parsed.all("img")) == 1
    assert ["cannot be read" in card for card in parsed.cards] == [False, True, True]


def test_groups_of_copies_are_sections_of_a_page(tmp_path: Path) -> None:
    best, small = save(tmp_path / "best.png"), save(tmp_path / "small.png", "blue")
    one = (Copy(best, Kind.BEST, 1.0, (os.fsencode(tmp_path / "a link.png"),)), Copy(small, Kind.COPY, 0.9931))
    two = (Copy(best, Kind.BEST, 1.0), Copy(best, Kind.IDENTICAL, 1.0))
    text = "".join(duplicates_sheet([one, two], "Duplicates", "in ~/Pictures"))
    parsed = Parsed(text)
    assert len(parsed.cards) == len(parsed.all("img")) == 4
    assert "4 photos in 2 groups" in text
    assert "in ~/Pictures" in text
    assert [text.count(f"<h2>Group {n} ") for n in (1, 2)] == [1, 1]
    assert "+1 same file" in parsed.cards[0]
    assert "a link.png" in parsed.cards[0]
    kinds = ("best", "copy", "best", "identical")
    assert [kind in card for kind, card in zip(kinds, parsed.cards, strict=True)] == [True] * 4
    assert all(f"file of {best.changed[:16].replace('T', ' ')}" in card for card in parsed.cards)  # the older is better
    assert "1 B" in parsed.cards[0]
    write_duplicates(tmp_path / "page.html", [one, two], "Duplicates")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "before",
    [
        b"<!DOCTYPE html>\n<html><body>ten years of work</body></html>\n",
        b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta name="generator" content="another program">\n',
        b'<html>\n<meta name="generator" content="clipsearch contact sheet">\n',
        b"x",
    ],
)
def test_nothing_is_replaced_but_an_earlier_page_or_an_empty_file(tmp_path: Path, before: bytes) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(before)
    with pytest.raises(BadRequest, match="exists and is not a contact sheet of clipsearch"):
        write_sheet(page, [], "a")
    with pytest.raises(BadRequest, match="exists and is not a contact sheet of clipsearch"):
        write_duplicates(page, [], "Duplicates")
    assert page.read_bytes() == before
    page.write_bytes(b"")
    write_sheet(page, [], "first")
    write_duplicates(page, [], "Duplicates")
    assert "Duplicates" in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_is_never_followed_or_replaced(tmp_path: Path) -> None:
    write_sheet(tmp_path / "page.html", [], "first")
    for name in ("page.html", "nowhere.html"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / name)
        with pytest.raises(BadRequest, match="is a link"):
            write_sheet(link, [], "second")
        assert link.is_symlink()
    assert "first" in (tmp_path / "page.html").read_text()
    assert not (tmp_path / "nowhere.html").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_a_file_that_another_program_writes_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    page = tmp_path / "page.html"
    if existed:
        write_sheet(page, [], "first")

    def slow(*_: object, **__: object) -> Iterator[str]:
        yield "<!DOCTYPE html>"
        page.write_text("somebody's own page")

    monkeypatch.setattr(module, "_page", slow)
    with pytest.raises(BadRequest):
        write_duplicates(page, [], "Duplicates")
    assert page.read_text() == "somebody's own page"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_is_titled_by_its_filters_too(tmp_path: Path) -> None:
    text = "".join(sheet([], "sunset", "since 2023-06-01, <b>canon</b>"))
    assert "since 2023-06-01, &lt;b&gt;canon&lt;/b&gt;" in text


def test_no_hits_are_a_page_too() -> None:
    text = page(title="nothing")
    assert "0 photos" in text
    assert not Parsed(text).cards
    assert text.rstrip().endswith("</html>")


@pytest.mark.parametrize("title", ["<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", "\udcff\n\"'&"])
def test_a_title_is_only_text(title: str) -> None:
    text = page(title=title)
    assert len(Parsed(text).all("script")) == 1
    assert not Parsed(text).all("img")
    for shown in (r"<title>(.*?)</title>", r"<h1><bdi>(.*?)</bdi></h1>"):
        (found,) = re.findall(shown, text)
        assert html.unescape(found) == printable(title)


@needs_raw_names
def test_file_names_are_only_text_and_links_lead_to_the_files(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    hits = [Hit(n, 0.5, save(folder + b"/" + name)) for n, name in enumerate(HOSTILE, 1)]
    parsed = Parsed(page(*hits))
    tags = {tag for tag, _ in parsed.elements}
    assert len(parsed.all("script")) == 1
    assert len(parsed.all("img")) == len(parsed.cards) == len(HOSTILE)
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert tags.isdisjoint({"iframe", "object", "form", "base", "link"})
    for hit, card, link, img in zip(hits, parsed.cards, parsed.all("a"), parsed.all("img"), strict=True):
        url = urlsplit(link["href"] or "")
        assert (url.scheme, url.netloc, url.query, url.fragment) == ("file", "", "", "")
        assert unquote_to_bytes(url.path) == hit.photo.file
        assert printable(hit.photo.file) in card
        assert printable(os.path.basename(hit.photo.file)) in (img["alt"] or "")


def test_the_page_needs_nothing_and_allows_nothing(tmp_path: Path) -> None:
    text = page(Hit(1, 0.5, save(tmp_path / "a.png")))
    parsed = Parsed(text)
    (policy,) = parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in (policy["content"] or "").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|url\(|@import", text)
    assert all((img["src"] or "").startswith("data:") for img in parsed.all("img"))
    assert parsed.all("html", lang="en")
    assert parsed.all("meta", charset="utf-8")
    assert parsed.all("meta", name="viewport")


# ------------------------------------------------------------------------------------------ in a browser


class Browser:
    """Chromium with a page in it, told what to do through a pipe."""

    def __init__(self, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = 'exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir="$1"'
        self._process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{to_read} 4>&{to_write}", "bash", profile],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._read = os.fdopen(self._from, "rb")
        self._session, self._id = {}, 0
        self.events: list[dict[str, Any]] = []
        self._watch = threading.Timer(120, self._process.kill)  # then what waits for it fails
        self._watch.start()

    def start(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters} | self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        raw = b""
        while not raw.endswith(b"\0"):
            byte = self._read.read1(1)
            assert byte, "the browser has ended"
            raw += byte
        answer: dict[str, Any] = json.loads(raw[:-1])
        return answer

    def open(self, url: str) -> None:
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = codes.get(key, 0)
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._read.close()
            os.close(self._to)
        self._watch.cancel()
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        browser.start()
        yield browser
    finally:
        browser.end()


def opened(browser: Browser, folder: Path, *hits: Hit, width: int = 1200) -> None:
    (folder / "sheet.html").write_text(page(*hits), encoding="utf-8")
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    browser.open((folder / "sheet.html").as_uri())


@needs_raw_names
def test_a_browser_shows_the_page_as_it_is_meant(browser: Browser, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    hits = [Hit(n, 0.5, save(folder + b"/" + name, "#3060c0")) for n, name in enumerate(HOSTILE, 1)]
    hits.append(Hit(8, 0.4, photo(folder + b"/gone.png")))
    opened(browser, tmp_path, *hits)
    sizes = browser.value(
        "Promise.all([...document.images].map(i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])))"
    )
    assert sizes == [[64, 48]] * len(HOSTILE)
    assert browser.value("document.title") == "a dog"
    paths = browser.value("[...document.querySelectorAll('.card')].map(c => c.querySelector('.path').innerText)")
    assert paths == [printable(hit.photo.file) for hit in hits]
    refused = [event for event in browser.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not refused
    requested = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in requested} <= {"file", "data"}
    assert len([url for url in requested if url.startswith("file:")]) == 1
    assert browser.value("getComputedStyle(document.querySelector('.cards')).display") == "grid"  # the style applies


@needs_raw_names
def test_enter_opens_the_photo_whatever_its_name(browser: Browser, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    hits = [Hit(n, 0.5, save(folder + b"/" + name, size=(60 + n, 50))) for n, name in enumerate(HOSTILE, 1)]
    for n in range(1, len(hits) + 1):
        opened(browser, tmp_path, *hits)
        for _ in range(n):
            browser.press("Tab")
        browser.events.clear()
        browser.press("Enter")
        browser.wait_for("Page.loadEventFired")
        assert browser.value("document.images[0].naturalWidth") == 60 + n


def test_keys_move_between_the_cards(browser: Browser, tmp_path: Path) -> None:
    similar = (photo(tmp_path / "other.png"),)
    hits = [Hit(n, 0.5, save(tmp_path / f"{n}.png"), None, similar) for n in range(1, 12)]
    opened(browser, tmp_path, *hits, width=1300)
    tops = browser.value("[...document.querySelectorAll('.card')].map(c => c.offsetTop)")
    columns = tops.count(tops[0])
    assert columns == 4

    def at() -> int:
        return int(browser.value("[...document.querySelectorAll('.card > a')].indexOf(document.activeElement)")) + 1

    assert at() == 0
    walk = [
        *[("ArrowRight", 1), ("ArrowRight", 2), ("ArrowDown", 6), ("ArrowLeft", 5), ("ArrowUp", 1), ("ArrowUp", 1)],
        *[("ArrowLeft", 1), ("l", 2), ("j", 6), ("h", 5), ("k", 1), ("End", 11), ("ArrowRight", 11), ("j", 11)],
        *[("ArrowUp", 7), ("ArrowRight", 8), ("ArrowDown", 11), ("Home", 1)],  # the last row is shorter
    ]
    for key, expected in walk:
        browser.press(key)
        assert at() == expected, key
    assert browser.value("getComputedStyle(document.querySelector('.card')).outlineStyle") == "solid"
    browser.press("Tab")
    assert browser.value("document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter")
    assert browser.value("document.querySelector('details').open") is True
    browser.press("ArrowRight")  # from within a card to the next
    assert at() == 2
    browser.press("End")
    low = "document.activeElement.closest('.card').getBoundingClientRect().bottom <= innerHeight"
    assert browser.value(low) is True


def test_keys_move_between_groups_of_any_length(browser: Browser, tmp_path: Path) -> None:
    photos = [Copy(save(tmp_path / f"{n}.png"), Kind.SIMILAR, 1.0) for n in range(1, 10)]
    groups = [tuple(photos[:2]), tuple(photos[2:7]), tuple(photos[7:])]  # 1 2, 3 4 5 6, 7, 8 9
    (tmp_path / "sheet.html").write_text("".join(duplicates_sheet(groups, "Similar photos")), encoding="utf-8")
    browser.ask("Emulation.setDeviceMetricsOverride", width=1300, height=800, deviceScaleFactor=1, mobile=False)
    browser.open((tmp_path / "sheet.html").as_uri())
    walk = [
        *[("Home", 1), ("ArrowDown", 3), ("ArrowRight", 4), ("ArrowUp", 2), ("ArrowRight", 3), ("ArrowRight", 4)],
        *[("l", 5), ("j", 7), ("j", 8), ("j", 8), ("l", 9), ("k", 7), ("k", 3), ("End", 9), ("ArrowUp", 7)],
    ]
    for key, expected in walk:
        browser.press(key)
        at = browser.value("[...document.querySelectorAll('.card > a')].indexOf(document.activeElement)") + 1
        assert at == expected, key


@pytest.mark.parametrize("width", [320, 390, 1200, 2400])
def test_nothing_sticks_out_at_any_width(browser: Browser, tmp_path: Path, width: int) -> None:
    save(tmp_path / ("x" * 200 + ".png"), size=(640, 40))
    known = photo(tmp_path / ("x" * 200 + ".png"), camera="y" * 80, taken="2023-07-14T18:03:21")
    hit = Hit(1, 0.5, known, 0.5, (known,))
    opened(browser, tmp_path, hit, Hit(2, 0.4, save(tmp_path / "tall.png", size=(20, 640))), width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    boxes = browser.value("[...document.querySelectorAll('.photo')].map(p => [p.offsetWidth, p.offsetHeight])")
    assert all(abs(w - h) <= 1 for w, h in boxes)  # however long or tall a photo is
    assert browser.value(
        "[...document.querySelectorAll('.card *')].every(e => e.getBoundingClientRect().right"
        " <= e.closest('.card').getBoundingClientRect().right + .5)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(browser: Browser, tmp_path: Path, scheme: str) -> None:
    opened(browser, tmp_path, Hit(1, 0.5, photo(tmp_path / "gone.png"), 0.5, (photo(tmp_path / "b.png"),)))
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    colour = "getComputedStyle(document.querySelector('{}')).{}"
    brightness = [sum(rgb(browser.value(colour.format("body", "backgroundColor")))) > 384]
    assert brightness == [scheme == "light"]
    pairs = [("h1", "body"), ("header p", "body"), (".facts", ".card"), (".path strong", ".card"), (".gone", ".photo")]
    for text, ground in [*pairs, (".found", ".card"), ("summary", ".card"), ("details strong", ".card")]:
        front = browser.value(colour.format(text, "color"))
        back = browser.value(colour.format(ground, "backgroundColor"))
        assert contrast(rgb(front), rgb(back)) >= 4.5, text


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def contrast(one: list[int], other: list[int]) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
