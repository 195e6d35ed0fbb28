"""RAW files. Camera files are not available here, so the tests write DNGs with the same structure."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, Run
from formats import GREEN, dng, exif
from PIL import ExifTags, Image

from clipsearch.errors import ImageUnusable
from clipsearch.images import raw
from clipsearch.images.compare import copy_similarity
from clipsearch.images.decode import decode, thumbnail
from clipsearch.images.kinds import looks_like_a_photo
from clipsearch.images.metadata import exif_facts
from clipsearch.images.raw import exif_of, is_raw

RED = (9000, 2000, 1500)


def mean(image: Image.Image) -> list[int]:
    return [round(value) for value in np.asarray(image, np.float32).mean((0, 1))]


def test_it_is_developed_at_half_the_size() -> None:
    image, metadata, _ = decode(dng())
    assert image.size == (300, 200)
    assert (metadata.width, metadata.height) == (600, 400)
    assert (metadata.taken, metadata.camera) == ("2023-05-06T07:08:09", "Maker Model X")
    red, green, blue = mean(image)
    assert green > red + 40
    assert green > blue + 40
    upper, lower = mean(image.crop((0, 0, 300, 90))), mean(image.crop((0, 110, 300, 200)))
    assert lower[1] > upper[1] + 20


def test_a_cr3_has_its_exif_in_boxes_of_its_own() -> None:
    def box(name: bytes, contents: bytes) -> bytes:
        return (len(contents) + 8).to_bytes(4, "big") + name + contents

    main, details, gps = Image.Exif(), Image.Exif(), Image.Exif()
    main[ExifTags.Base.Model], details[ExifTags.Base.DateTimeOriginal] = "Canon EOS R5", "2020:01:02 03:04:05"
    gps.update(exif(gps="48 51 30 N, 2 17 42 W").get_ifd(ExifTags.IFD.GPSInfo))
    boxes = [box(b"CMT%d" % number, of.tobytes()[6:]) for number, of in ((1, main), (2, details), (4, gps))]
    data = box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", box(b"uuid", bytes(16) + b"".join(boxes)))
    found = exif_of(data)
    facts, *_ = exif_facts(found)
    assert found[ExifTags.Base.Model] == "Canon EOS R5"
    assert (facts.taken, facts.longitude) == ("2020-01-02T03:04:05", -2.295)


def test_the_date_comes_from_libraw_if_there_is_no_exif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_exif", lambda data: None)  # as with formats that are no TIFF
    found = decode(dng()).metadata
    assert (found.taken, found.taken_from) == ("2023-05-06T07:08:09", "exif")
    assert decode(dng(changed="")).metadata.taken is None


def test_it_is_upright() -> None:
    image, metadata, _ = decode(dng(orientation=6))  # a quarter clockwise: what was above is to the right
    assert image.size == (200, 300)
    assert (metadata.width, metadata.height) == (400, 600)
    left, right = mean(image.crop((0, 0, 90, 300))), mean(image.crop((110, 0, 200, 300)))
    assert left[1] > right[1] + 20


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_preview_is_taken_as_it_is(orientation: int, encoded: bool) -> None:
    preview = Image.new("RGB", (512, 336), "black")
    preview.paste("white", (0, 0, 512, 160))  # above
    image, metadata, _ = decode(dng((1024, 672), orientation=orientation, preview=preview, encoded=encoded), 200)
    assert (metadata.width, metadata.height) == ((672, 1024) if orientation in (6, 8) else (1024, 672))
    assert image.width / image.height == pytest.approx(metadata.width / metadata.height, rel=0.02)
    sides = {1: (0.5, 0.1), 3: (0.5, 0.9), 6: (0.9, 0.5), 8: (0.1, 0.5)}
    x, y = sides[orientation]
    here, there = ((int(u * image.width), int(v * image.height)) for u, v in ((x, y), (1 - x, 1 - y)))
    light, dark = image.convert("L").getpixel(here), image.convert("L").getpixel(there)
    assert isinstance(light, int)
    assert isinstance(dark, int)
    assert light > dark + 200


def test_it_is_no_copy_of_its_jpeg() -> None:
    preview = SCENES[0].image.resize((600, 400))
    out = io.BytesIO()
    preview.save(out, "JPEG", quality=95)
    for data in (dng(preview=preview), dng()):
        with pytest.raises(ImageUnusable, match="RAW"):
            copy_similarity(data, out.getvalue())


def test_a_small_preview_is_not_enough() -> None:
    preview = Image.new("RGB", (96, 64), "blue")
    image, _, _ = decode(dng(preview=preview), 200)
    assert image.size == (300, 200)
    assert mean(image)[1] > mean(image)[2] + 40


def test_a_tiff_is_no_raw_file() -> None:
    exif = Image.Exif()
    exif[271] = "NIKON CORPORATION"
    for mode in ("RGB", "L", "I;16"):
        out = io.BytesIO()
        Image.new(mode, (60, 40)).save(out, "TIFF", exif=exif)
        assert not is_raw(out.getvalue())
        assert decode(out.getvalue()).image.size == (60, 40)


def test_what_is_damaged_says_so() -> None:
    whole = dng()
    for data in (whole[:200], whole[: len(whole) // 2], whole[:8] + b"\xff" * 400 + whole[408:]):
        with pytest.raises(ImageUnusable):
            decode(data)
    for head in (
        b"II*\0\x10\0\0\0CR\x02\0",
        b"FUJIFILMCCD-RAW 0201",
        b"IIU\0\x18\0\0\0",
        b"IIRO\x08\0\0\0",
        b"\0\0\0\x18ftypcrx ",
    ):
        assert is_raw(head)
        assert looks_like_a_photo(head)
        with pytest.raises(ImageUnusable):
            decode(head + bytes(5000))


def test_one_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.images.decode.MAX_PIXELS", 1000)
    with pytest.raises(ImageUnusable, match="too large: 600 x 400 pixels"):
        decode(dng())


def test_a_thumbnail() -> None:
    assert thumbnail(dng(), 100).size == (100, 67)


def test_the_program_finds_it_and_folds_the_jpeg_beside_it(clipsearch: Run, tmp_path: Path) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    (photos / "IMG_1.DNG").write_bytes(dng(colour=GREEN))
    Image.new("RGB", (600, 400), "red").save(photos / "img_1.jpg")  # nothing like it, but of the same name up to case
    (photos / "IMG_2.dng").write_bytes(dng(colour=RED))
    Image.new("RGB", (60, 40), "white").save(photos / "IMG_3.jpg")
    assert clipsearch("index", "--model", "mini", photos, index=index).status == 0
    assert len(clipsearch("query", "a colour", index=index).lines) == 4
    assert {Path(line).name for line in clipsearch("query", "--type", "raw", index=index).lines} == {
        "IMG_1.DNG",
        "IMG_2.dng",
    }
    hits = json.loads(clipsearch("query", "green", "--unique", "--similarity", "1", "-f", "json", index=index).out)
    names = [{Path(photo["path"]).name for photo in (hit, *hit["similar"])} for hit in hits]
    assert {"IMG_1.DNG", "img_1.jpg"} in names
    assert len(names) == 3
    assert clipsearch("index", "--no-raw", index=index).status == 0
    assert {Path(line).name for line in clipsearch("query", index=index).lines} == {"img_1.jpg", "IMG_3.jpg"}
    assert clipsearch("index", "--raw", index=index).status == 0
    assert len(clipsearch("query", index=index).lines) == 4


# One camera of each format that the README names, at https://raw.pixls.us, which has listings of its folders.
CAMERAS = {
    "cr2": "Canon/EOS%205D%20Mark%20III",
    "cr3": "Canon/EOS%20R",
    "nef": "Nikon/D750",
    "arw": "Sony/ILCE-7M3",
    "dng": "Leica/M10",
    "raf": "Fujifilm/X-T3",
    "rw2": "Panasonic/DC-GH5",
    "orf": "Olympus/E-M1MarkII",
    "pef": "Pentax/K-1",
}


@pytest.mark.weights
@pytest.mark.parametrize("ending", CAMERAS)
def test_a_real_file_of_each_format_is_an_upright_photo(ending: str) -> None:
    """Needs the network: these files are too large to be kept with the tests."""
    folder = f"https://raw.pixls.us/data/{CAMERAS[ending]}/"
    with urllib.request.urlopen(folder, timeout=60) as listing:
        names = re.findall(rf'href="([^"/]+\.{ending})"', listing.read().decode(), re.IGNORECASE)
    assert names, f"nothing in {folder}"
    with urllib.request.urlopen(urllib.parse.urljoin(folder, names[0]), timeout=300) as file:
        data = file.read()
    assert looks_like_a_photo(data)
    assert is_raw(data)
    image, metadata, _ = decode(data, 224)
    assert min(image.size) >= 224
    assert (image.width > image.height) == (metadata.width > metadata.height)
    assert min(metadata.width, metadata.height) > 1500
    assert metadata.camera
    assert metadata.taken
