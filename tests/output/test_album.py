"""Albums say nothing that the photos' owner has not chosen to share, and are pleasant to look at."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import videos
from browsing import violations
from conftest import Run
from PIL import Image, ImageCms

from clipsearch.errors import BadRequest
from clipsearch.images import decode
from clipsearch.images.metadata import Metadata
from clipsearch.output import album as module
from clipsearch.output.album import LONG_SIDE, summary, write_album
from clipsearch.output.sheet import write_sheet
from clipsearch.output.text import album_title
from clipsearch.search.hit import Hit
from clipsearch.search.question import Question, image_term, text_terms
from clipsearch.search.reason import NAME, Reason
from clipsearch.store.photo import Line, Photo

PARIS = {"latitude": 48.8584, "longitude": 2.2945}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><secret-xmp/></x:xmpmeta>'


def hit(path: Path, size: tuple[int, int] = (64, 48), rank: int = 1, *, write: bool = True, **facts: Any) -> Hit:
    if write:
        Image.effect_noise(size, 20 + rank).save(path)  # of one colour, it would be printed as a rectangle
    return Hit(rank, 0.31249, Photo(1, os.fsencode(path), 1, 10**18, b"", Metadata(*size, **facts)), 0.925)


def album(path: Path, *hits: Hit, title: str = "Summer", **options: Any) -> str:
    write_album(path, hits, title, **options)
    return path.read_text(encoding="utf-8")


def pictures(page: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall('src="data:image/jpeg;base64,([^"]*)"', page)]


def without_pictures(page: str) -> str:
    return re.sub('base64,[^"]*', "", page)


# ------------------------------------------------------------------------------------------ privacy


def test_an_album_has_nothing_of_paths_names_scores_cameras_and_positions(tmp_path: Path) -> None:
    folder = tmp_path / "private folder"
    folder.mkdir()
    facts = {"camera": "Canon EOS R5", "taken": "2023-07-14T18:03:21", "people": "Ann", "keywords": "family"}
    one = hit(folder / "IMG_4321.jpg", **facts, **PARIS, title="IMG_4321", location="12 Secret Street")
    one = one._replace(
        similar=(one.photo,),
        same_file=(os.fsencode(folder / "a link.jpg"),),
        why=(Reason("text", "WIFI PASSWORD"), Reason(NAME, "IMG")),
        lines=(Line("WIFI PASSWORD", 0, 0, 1, 1),),
    )
    page = without_pictures(album(tmp_path / "a.html", one))
    said = ["private folder", "IMG_4321", "a link", str(tmp_path), "file:", "Canon", "Ann", "family", "Secret", "WIFI"]
    said += ["48.8", "2.29", "0.312", "92%", "Paris", "18:03", "2001"]  # the file is of 2001
    assert [words for words in said if words in page] == []
    assert "14 July 2023" in page


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_pictures_have_no_metadata(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Secret maker", 6
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"photo.{kind.lower()}"
    more: dict[str, Any] = {} if kind == "GIF" else {"exif": exif, "icc_profile": profile}
    if kind in ("JPEG", "GIF"):
        more["comment"] = b"secret comment"
    if kind in ("JPEG", "WEBP"):
        more["xmp"] = XMP
    Image.linear_gradient("L").convert("RGB").save(path, kind, dpi=(300, 300), **more)
    (data,) = pictures(album(tmp_path / "a.html", hit(path, write=False)))
    assert not re.search(rb"(?i)secret|exif|xmp|icc|adobe", data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert not image.getexif()


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_the_comment_of_a_file_is_not_in_the_jpeg_that_is_made_of_it(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, kind, comment=b"secret comment")
    assert b"secret" in file.getvalue()
    image = decode.thumbnail(file.getvalue(), 32)
    assert b"secret" not in decode.jpeg_of(image)


@pytest.mark.parametrize("caption", ["IMG_4321", "img_4321.PNG", " IMG_4321.png\n", "exported from IMG_4321.png"])
def test_a_caption_that_is_a_file_name_is_left_out(tmp_path: Path, caption: str) -> None:
    page = album(tmp_path / "a.html", hit(tmp_path / "IMG_4321.png", caption=caption))
    assert "4321" not in without_pictures(page)


def test_a_caption_that_shares_a_word_with_the_file_name_stays(tmp_path: Path) -> None:
    assert "A dog &amp; a cat\nby the sea" in album(
        tmp_path / "a.html", hit(tmp_path / "dog.png", caption="A dog & a cat\nby the sea")
    )


def test_place_names_are_there_on_request(tmp_path: Path, places_table: Path) -> None:
    one = hit(tmp_path / "a.png", **PARIS)
    assert "Paris" not in album(tmp_path / "a.html", one)
    page = album(tmp_path / "a.html", one, place_names=True)
    assert "<bdi>Paris, France</bdi>" in page
    assert "48.8" not in without_pictures(page)


def test_place_names_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda extra: extra != "places")
    with pytest.raises(BadRequest, match=r"pip install '\.\[places\]'"):
        album(tmp_path / "a.html", hit(tmp_path / "a.png"), place_names=True)
    assert not (tmp_path / "a.html").exists()


def test_the_title_has_the_words_of_the_question_and_no_file_name(tmp_path: Path) -> None:
    photo = tmp_path / "IMG_1.png"
    hit(photo)
    terms = [*text_terms("2:@grandma on a beach -people"), *text_terms(str(photo), files=True), image_term(str(photo))]
    assert album_title(Question(tuple(terms))) == "Grandma, on a beach"
    assert album_title(Question((image_term(str(photo)),))) == "Photos"
    assert album_title(Question(tuple(text_terms("missing/IMG_2.jpg", files=True)))) == "Photos"
    assert album_title(Question()) == "Photos"


# ------------------------------------------------------------------------------------------ contents


def test_pictures_are_large_upright_and_in_order(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4000, 3000), "blue").save(tmp_path / "1.jpg", exif=exif)
    hits = [hit(tmp_path / "1.jpg", write=False), hit(tmp_path / "2.png", (100, 100))]
    found = [Image.open(io.BytesIO(data)) for data in pictures(album(tmp_path / "a.html", *hits))]
    assert [image.size for image in found] == [(1200, LONG_SIDE), (100, 100)]


@pytest.mark.parametrize("taken", [None, "", "2023", "0000-00-00T00:00:00", "no date at all"])
def test_an_unknown_date_is_left_out(tmp_path: Path, taken: str | None) -> None:
    assert "<time" not in album(tmp_path / "a.html", hit(tmp_path / "a.png", taken=taken))


@pytest.mark.parametrize("words", ["</title><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\udcff'\"&"])
def test_titles_and_captions_are_only_text(tmp_path: Path, words: str) -> None:
    page = album(tmp_path / "a.html", hit(tmp_path / "a.png", caption=words), title=words)
    assert page.count("<script") == 1
    assert page.count("<img") == 2  # the photo and the viewer's


def test_what_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_text("no photo any more")
    hits = [hit(tmp_path / "a.png"), *(hit(tmp_path / name, write=False) for name in ("b.jpg", "gone.jpg"))]
    seen: list[None] = []
    made = write_album(tmp_path / "a.html", hits, "Summer", on_photo=lambda: seen.append(None))
    assert (made.photos, made.unreadable, made.over, len(seen)) == (1, 2, 0, 3)
    assert list(summary(made, "a.html"))[1:] == ["left out: 2 photos that cannot be read"]
    assert "<p>1 photo</p>" in (tmp_path / "a.html").read_text()


def test_an_album_ends_at_its_limit_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [hit(tmp_path / "a.png")] * 100
    one = len(base64.b64encode(pictures(album(tmp_path / "a.html", hits[0]))[0]))
    monkeypatch.setattr(module, "MAX_SIZE", 3 * one)
    made = write_album(tmp_path / "a.html", hits, "Summer")
    assert (made.photos, made.size, made.over) == (3, 3 * one, 97)
    assert len(pictures((tmp_path / "a.html").read_text())) == 3
    monkeypatch.setattr(module, "MAX_SIZE", 100 * 10**6)
    (_, line) = summary(made, "a.html")
    assert line.startswith("left out: the last 97 photos, as an album is limited to 100 MB; ")


def test_an_album_replaces_only_pages_of_ours(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("<!DOCTYPE html>\n<html>ten years of work</html>")
    with pytest.raises(BadRequest, match="is not a contact sheet"):
        album(page, hit(tmp_path / "a.png"))
    assert "ten years" in page.read_text()
    page.unlink()
    write_sheet(page, [], "a sheet")
    assert "<h1><bdi>Summer</bdi></h1>" in album(page, hit(tmp_path / "a.png"))
    write_sheet(page, [], "a sheet")
    assert "Summer" not in page.read_text()


# ------------------------------------------------------------------------------------------ the command


def test_the_command_writes_an_album(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    done = clipsearch("query", "a red circle", "-k", "5", "--html", page, "--album", index=drawn_index)
    assert done.status == 0
    assert re.fullmatch(r"a\.html: 5 photos, [\d.]+ KB\n", done.err)
    text = without_pictures(page.read_text())
    assert "<title>A red circle</title>" in text
    assert text.count("<figure ") == 5
    assert [line for line in done.lines if Path(line).name in text] == []
    assert str(drawn) not in text
    titled = clipsearch("query", "a star", "--html", page, "--album", "--title", "For Ann", index=drawn_index)
    assert titled.status == 0
    assert "<title>For Ann</title>" in page.read_text()


def test_a_video_shows_the_found_frame(tmp_path: Path) -> None:
    videos.clip(tmp_path / "film.mp4", [(Image.new("RGB", videos.SIZE, colour), 2) for colour in ("red", "blue")])
    one = hit(tmp_path / "film.mp4", write=False)
    page = album(tmp_path / "a.html", one._replace(photo=one.photo._replace(time=3.0)))
    (data,) = pictures(page)
    red, _, blue = Image.open(io.BytesIO(data)).getpixel((160, 120))
    assert blue > 200 > 60 > red
    assert "from a video" in page
    assert "film" not in without_pictures(page)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--album",), "--album needs --html FILE or --open"),
        (("--html", "x.html", "--title", "a"), "--title and --place-names need --album"),
        (("--html", "x.html", "--place-names"), "--title and --place-names need --album"),
        (("--html", "x.html", "--album", "--where"), "leave out --where or --album"),
    ],
)
def test_options_that_make_no_album(
    clipsearch: Run, drawn_index: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    page = tmp_path / "x.html"
    refused = clipsearch("query", "a circle", *(page if one == "x.html" else one for one in options), index=drawn_index)
    assert refused.status == 2
    assert message in refused.err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def page_of_nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    sizes = [(1600, 1200), (900, 1600), (1200, 1200), (2400, 300), (300, 2400)]
    hits = [
        hit(folder / f"{n}.png", sizes[n % 5], n, taken=f"2023-07-1{n}T10:00:00", caption="x" * 200 if n == 3 else None)
        for n in range(1, 10)
    ]
    album(folder / "album.html", *hits)
    return folder / "album.html"


@pytest.fixture
def look(window: Callable[..., Any], page_of_nine: Path, complaints: list[str]) -> Callable[..., Any]:
    """Opens the album in a window; whatever it requests or writes to the console fails the test."""
    own = ("data:", page_of_nine.as_uri())

    def opened(**options: Any) -> Any:
        page = window(lambda url: url.startswith(own), **{"viewport": {"width": 1200, "height": 800}} | options)
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(page_of_nine.as_uri())
        return page

    return opened


def shown(page: Any) -> int:
    """The number of the photo in the viewer; 0 if it is closed."""
    page.wait_for_timeout(100)
    if not page.locator("dialog").is_visible():
        return 0
    number = int(page.locator(".count").inner_text().split(" / ")[0])
    assert page.evaluate("(n) => document.querySelector('dialog img').src === document.images[n - 1].src", number)
    return number


def test_keys_step_through_the_photos(look: Callable[..., Any]) -> None:
    page = look()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert shown(page) == 2
    walk = [("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowLeft", 1), ("End", 9), ("ArrowRight", 9)]
    for key, number in [*walk, ("Home", 1), ("ArrowRight", 2)]:
        page.keyboard.press(key)
        assert shown(page) == number, key
    page.keyboard.press("Escape")
    assert shown(page) == 0
    assert page.evaluate("document.activeElement.hash") == "#photo-2"
    assert "#" not in page.url


def test_buttons_and_the_edge_work_with_a_mouse(look: Callable[..., Any]) -> None:
    page = look()
    page.locator("figure a").nth(7).click()
    assert shown(page) == 8
    page.get_by_role("button", name="Next photo").click()
    assert shown(page) == 9
    assert not page.locator(".next").is_visible()
    page.get_by_role("button", name="Previous photo").click()
    assert shown(page) == 8
    page.get_by_role("button", name="Close").click()
    assert shown(page) == 0


def test_back_closes_the_viewer(look: Callable[..., Any]) -> None:
    page = look()
    page.locator("figure a").nth(2).click()
    page.keyboard.press("ArrowRight")
    assert shown(page) == 4
    page.go_back()
    assert shown(page) == 0
    page.go_forward()
    assert shown(page) == 4


def test_fingers_swipe(look: Callable[..., Any]) -> None:
    page = look(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.locator("figure a").first.tap()
    assert shown(page) == 1
    fingers = page.context.new_cdp_session(page)

    def swipe(across: int, down: int = 0) -> None:
        start, end = {"x": 200, "y": 300}, {"x": 200 + across, "y": 300 + down}
        for kind, points in [("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])]:
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for (across, down), number in [((-120, 10), 2), ((-120, 0), 3), ((120, 0), 2), ((20, 0), 2), ((60, 120), 2)]:
        swipe(across, down)
        assert shown(page) == number, (across, down)


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_stands_in_the_way_of_anybody(look: Callable[..., Any], width: int) -> None:

    page = look(viewport={"width": width, "height": 740})
    assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("figure a").nth(2).click()
    assert shown(page) == 3
    assert not violations(page)
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_pictures_have_their_place_before_they_are_decoded(look: Callable[..., Any]) -> None:
    page = look()
    ratios = page.evaluate("[...document.querySelectorAll('figure a')].map(a => a.offsetWidth / a.offsetHeight)")
    expected = [min(max(w / h, 0.5), 2) for w, h in ((900, 1600), (1200, 1200), (2400, 300), (300, 2400), (4, 3))]
    assert ratios[:5] == pytest.approx(expected, rel=0.05)


def test_every_photo_is_printed(look: Callable[..., Any]) -> None:
    page = look(color_scheme="dark")
    assert page.pdf(format="A4").count(b"/Subtype /Image") == 9
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_links_work_without_scripts(look: Callable[..., Any]) -> None:
    page = look(java_script_enabled=False)
    page.locator("figure a").nth(5).click()
    assert page.url.endswith("#photo-6")
    assert not page.locator("dialog").is_visible()
