"""What clipsearch makes of a family's library: every file, its date, place, tags and words, and what is left out.

`family_library.py` draws the files.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import family_library
import pytest
import videos
from conftest import Run

# Each file by its folder: when it was taken and who says so; where; stars; "location"; camera; color label; "title";
# (caption); #keywords; people; the size, if it is not that of most; seconds of a video.
LIBRARY = """
Cards/DCIM/100CANON
    24 o'clock.JPG                 2015-06-02T00:00:00 exif
    IMG_0020.DNG                   2019-07-14T18:03:21 modified | by Maker Model X | 600 x 400
    IMG_0020.JPG                   2019-07-14T18:03:21 exif
    beyond the pole.JPG            2019-07-14T18:03:21 exif
    blank date.JPG                 undated
    clock not set.JPG              undated
    degrees, minutes, seconds.JPG  2019-07-14T18:03:21 exif | 48.8583, 2.2950 | by Canon EOS 80D
    degrees, minutes.JPG           2019-07-14T18:03:21 exif | 48.8583, 2.2950
    degrees.JPG                    2019-07-14T18:03:21 exif | 48.8583, 2.2950
    digitized.JPG                  2015-06-01T09:05:03 exif
    edited, dated.JPG              2019-07-14T18:03:21 exif
    edited.JPG                     2020-01-01T10:00:00 modified
    leap second.JPG                2016-01-01T00:00:00 exif
    no satellites.JPG              2019-07-14T18:03:21 exif
    no seconds.JPG                 2015-06-01T09:05:00 exif
    nothing but 0 of 0.JPG         2019-07-14T18:03:21 exif
    offset.JPG                     2015-06-01T09:05:03 exif
    padded date.JPG                2015-06-01T09:05:03 exif
    seconds are 0 of 0.JPG         2019-07-14T18:03:21 exif | 48.8583, 2.2950
    south, west.JPG                2019-07-14T18:03:21 exif | -33.8569, -70.6367
    turned.JPG                     2019-07-14T18:03:21 exif | 36 x 48
Cards/DCIM/101_PANA
    P1010001.JPG  2012-08-01T12:00:00 exif
    P1010002.JPG  2012-08-02T12:00:00 exif
    P1010003.JPG  2012-08-03T12:00:00 exif
Films
    00001.MTS                   undated | 0.5 s
    MVI_0021.AVI                undated | 0.5 s
    PXL_20210304_050607123.mp4  2021-03-04T06:06:07 name | 0.5 s
    VID_20190203_101112.mp4     2019-02-03T10:11:12 name | 0.5 s
    clip.mp4                    2019-07-24T13:25:40 video | 48.8577, 2.2950 | 0.5 s
    dvd.mpg                     undated | 0.4 s
    never set.mp4               undated | 0.5 s
    old phone.3gp               undated | 0.5 s
    sydney.mov                  2019-07-24T21:25:40 video | by Apple iPhone 12 | 0.5 s
    winter.mp4                  2019-01-24T12:25:40 video | 0.5 s
Formats
    cmyk.jpg        undated
    cut short.jpg   2019-07-14T18:03:21 exif
    display p3.jpg  undated
    layers.psd      undated | "PSD"
    moving.gif      undated
    moving.webp     undated
    photo.avif      2019-07-14T18:03:21 exif | "AVIF"
    photo.bmp       undated
    photo.gif       undated | "GIF"
    photo.heic      undated | "HEIC"
    photo.jp2       undated | "JPEG 2000"
    photo.jxl       2019-07-14T18:03:21 exif | "JPEG XL"
    photo.png       2019-07-14T18:03:21 exif | "PNG"
    photo.ppm       undated
    photo.tga       undated
    photo.tif       2019-07-14T18:03:21 exif | "TIFF"
    photo.webp      2019-07-14T18:03:21 exif | "WebP"
    stereo.mpo      undated
    whole.jpg       2019-07-14T18:03:21 exif
Messages
    10387472_10152374569998794_98794_n.jpg          undated
    5e3b2a10-8a55-4d55-9d0b-201902031011.jpg        undated
    FB_IMG_1549188672000.jpg                        2019-02-03T11:11:12 name
    IMG_20190203_101112_345.jpg                     2019-02-03T10:11:12 name
    Snapchat-1199464898.jpg                         undated
    WhatsApp Image 2019-02-03 at 10.11.12 (1).jpeg  2019-02-03T10:11:12 name
    WhatsApp Image 2019-02-03 at 10.11.12.jpeg      2019-02-03T10:11:12 name
    WhatsApp Image 2019-02-03 at 8.11.12 PM.jpeg    2019-02-03T20:11:12 name
    mmexport1549188672123.jpg                       2019-02-03T11:11:12 name
    photo_1@03-02-2019_10-11-12.jpg                 2019-02-03T10:11:12 name
    photo_1@03-02-2019_10-11-12_thumb.jpg           2019-02-03T10:11:12 name
    photo_2019-02-03_10-11-12.jpg                   2019-02-03T10:11:12 name
    received_10208127356462283.jpeg                 undated
    signal-2019-02-03-10-11-12-345.jpg              2019-02-03T10:11:12 name
    signal-2019-02-03-101112.jpg                    2019-02-03T10:11:12 name
NAS/photo
    IMG_20190203_101112.jpg  2019-02-03T10:11:12 name
Odd
    a PNG.jpg                   undated
    aaaaaaaaa... (250 letters)  undated
    not \\udcff UTF-8.jpg        undated
    two\\nlines.jpg              undated
    😀.jpg                       undated
Odd/x.jpg
    inside.jpg  undated
Papierkorb
    IMG_20190203_101112.jpg  2019-02-03T10:11:12 name
Phone/DCIM/Camera
    00001IMG_00001_BURST20190203101112345_COVER.jpg  2019-02-03T10:11:12 name
    20190203_101112(0).jpg                           2019-02-03T10:11:12 name
    20190203_101112.jpg                              2019-02-03T10:11:12 name
    DSC20195678.jpg                                  undated
    IMG_0001.JPG                                     undated
    IMG_20190203_101112.jpg                          2019-02-03T10:11:12 name
    IMG_20190203_101112_1.jpg                        2019-02-03T10:11:12 name
    IMG_20190203_101115.jpg                          2019-02-03T10:11:14 exif
    IMG_20190203_101116.jpg                          2019-02-03T10:11:16 name
    MVIMG_20190203_101112.jpg                        2019-02-03T10:11:12 name
    PXL_20210304_050607123.jpg                       2021-03-04T06:06:07 name
    PXL_20210704_050607123.MP.jpg                    2021-07-04T07:06:07 name
Photos Library.photoslibrary/originals/0
    0A1B2C3D.heic   2019-07-14T18:03:21 exif
    0A1B2C3D_3.mov  2019-07-14T18:03:21 video | 0.5 s
Scans 1998
    1955-07-14.jpg          1955-07-14T00:00:00 name
    19550714.jpg            undated
    1998-07-14 wedding.jpg  1998-07-14T00:00:00 name
    19980714.jpg            1998-07-14T00:00:00 name
    photo 1.jpg             1998-07-14T00:00:00 iptc
    photo 2.jpg             1998-07-14T10:00:00 xmp
    photo 3.tif             undated | 96 x 72
    photo 4.tif             undated
    photo 5.tif             undated
    photo 6.jpg             1998-07-01T00:00:00 sidecar
Screenshots
    Bildschirmfoto 2019-02-03 um 10.11.12.png            2019-02-03T10:11:12 name
    Capture d’écran 2019-02-03 à 10.11.12.png            2019-02-03T10:11:12 name
    Screen Shot 2019-02-03 at 10.11.12 AM.png            2019-02-03T10:11:12 name
    Screen Shot 2019-02-03 at 12.11.12 AM.png            2019-02-03T00:11:12 name
    Screen Shot 2019-02-03 at 8.11.12 PM.png             2019-02-03T20:11:12 name
    Screenshot (12).png                                  undated
    Screenshot 2019-02-03 101112.png                     2019-02-03T10:11:12 name
    Screenshot 2019-02-03 at 10.11.12.png                2019-02-03T10:11:12 name
    Screenshot 2019-02-03 at 8.11.12\\u202fPM (2).png     2019-02-03T20:11:12 name
    Screenshot from 2019-02-03 10-11-12.png              2019-02-03T10:11:12 name
    Screenshot_2019-02-03-10-11-12-345_com.whatsapp.png  2019-02-03T10:11:12 name
    Screenshot_20190203-101112.png                       2019-02-03T10:11:12 name
    Screenshot_20190203-101112_Gallery.png               2019-02-03T10:11:12 name
    WIN_20190203_10_11_12_Pro.jpg                        2019-02-03T10:11:12 name
    edited.png                                           2020-01-02T03:04:05 modified
    map.png                                              2019-02-03T10:11:12 png | "A map" | (To us)
    vlcsnap-2019-02-03-10h11m12s345.png                  2019-02-03T10:11:12 name
Sidecars
    Été.jpg          2001-01-01T00:00:00 exif | 10.0000, 10.0000 | ***
    broken.jpg       2001-01-01T00:00:00 exif | 10.0000, 10.0000
    darktable.jpg    2001-01-01T00:00:00 sidecar | 10.0000, 10.0000 | * | Blue | #wedding
    film.mp4         2019-07-24T13:25:40 video | #beach | 0.5 s
    lightroom.jpg    2001-01-01T00:00:00 exif | 48.8583, 2.2950 | ***** | #beach
    pair.dng         2012-06-01T12:00:00 modified | ** | by Maker Model X | 600 x 400
    pair.jpg         2001-01-01T00:00:00 exif | 10.0000, 10.0000 | **
    program.jpg      2001-01-01T00:00:00 exif | 10.0000, 10.0000
    utf16.jpg        2001-01-01T00:00:00 exif | 10.0000, 10.0000 | #grün
    wrong clock.jpg  2012-06-01T12:00:00 sidecar | 10.0000, 10.0000
Tagged
    agency.jpg     1998-07-14T10:00:00 iptc | "Nice, France" | "Sea" | (By the sea) | #Été #Réunion
    digikam.jpg    undated | ***** | Green | #People #Ann #People|Ann #Animals #Cat #Animals|Cat | shows Ann
    exif.jpg       undated | *** | (Großmutter)
    lightroom.jpg  undated | **** | Red | "Rex" | (At the beach in Nice) | #Dog #Animals #Animals|Dog
    mac.jpg        undated | #Été
    picasa.jpg     undated | shows Grandma, Ann
    rejected.jpg   undated | rejected
    windows.jpg    undated | **** | "Summer" | #dog #beach #Animals #Dog #Animals|Dog | shows Grandma
Takeout/Google Photos/Birthday
    IMG_1.jpg  undated
Takeout/Google Photos/Photos from 2019
    2013-08-22.png                  2019-02-03T11:11:12 takeout
    IMG_1(1).jpg                    2019-02-03T11:12:12 takeout
    IMG_1-edited(1).jpg             2019-02-03T11:12:12 takeout
    IMG_1-edited.jpg                2019-02-03T11:11:12 takeout | 48.8583, 2.2945 | (Her birthday) | shows Grandma, Ann
    IMG_1.jpg                       2019-02-03T11:11:12 takeout | 48.8583, 2.2945 | (Her birthday) | shows Grandma, Ann
    IMG_2(1).jpg                    2019-02-03T11:12:12 takeout
    IMG_2-bearbeitet.jpg            2019-02-03T11:11:12 takeout
    IMG_2.jpg                       2019-02-03T11:11:12 takeout
    IMG_3.HEIC                      2019-02-03T11:11:12 takeout
    IMG_3.MP4                       2019-02-03T11:11:12 takeout | 0.5 s
    IMG_4.jpg                       2019-07-14T18:03:21 exif | 48.8583, 2.2950 | shows Ann
    IMG_5.jpg                       undated
    IMG_6.jpg                       undated
    Peanut Butter Balls-edited.jpg  2019-02-03T11:11:12 takeout
    Peanut Butter Balls.jpg         2019-02-03T11:11:12 takeout
Takeout/Google Photos/Photos from 2023
    Grandma and all of us at the beach in Nice, 2019.jpg  2019-02-03T11:11:12 takeout
    Großmutter, Bärbel und Jürgen am Strand in Nizza.jpg  2019-02-03T11:11:12 takeout
    PXL_20190203_101112345.jpg                            2019-02-03T11:11:12 takeout
    PXL_20210304_050607123.PORTRAIT-01.COVER~2.jpg        2019-02-03T11:11:12 takeout
    PXL_20230809_203449253.LONG_EXPOSURE-02.ORIGINA.jpg   2019-02-03T11:11:12 takeout
    День рождения бабушки на берегу моря в Ницце.jpg      2019-02-03T11:11:12 takeout
    😀😃😄😁😆😅😂🤣🥲😊😇🙂🙃😉😌😍🥰😘😗😙😚😋😛😝.jpg                          2019-02-03T11:11:12 takeout
WhatsApp/Media/WhatsApp Images
    IMG-20190203-WA0001.jpg   2019-02-03T00:00:00 name
    IMG-20190203-WA0002.jpeg  2019-02-03T00:00:00 name
WhatsApp/Media/WhatsApp Images/Sent
    IMG-20190203-WA0003.jpg  2019-02-03T00:00:00 name
WhatsApp/Media/WhatsApp Video
    VID-20190203-WA0004.mp4  2019-02-03T10:11:12 video | 0.5 s
iPhone/DCIM/100APPLE
    IMG_0101.HEIC  2019-07-14T18:03:21 exif | 48.8583, 2.2950 | by Apple iPhone 12 | 36 x 48
    IMG_0102.HEIC  2019-07-14T18:03:21 exif
    IMG_0102.MOV   2019-07-14T18:03:20 video | 0.5 s
    IMG_0103.PNG   2019-07-14T18:03:21 exif
    IMG_E0101.JPG  2019-07-14T18:03:21 exif
iPhoto Library.photolibrary/Masters/2010/07/14
    IMG_7.jpg  undated
"""

SKIPPED = {
    "Odd/empty.jpg": "empty file",
    "Odd/film.mp4": "not a video that can be read",
    "Odd/text.jpg": "not an image that can be read",
    "Odd/unknown.heif": "not an image that can be read",
    "Odd/x.jpg": "a folder, not an image",
}
SIDECARS_IGNORED = {
    "Sidecars/broken.xmp": "it is not well-formed XML: unclosed token: line 1, column 1051",
    "Takeout/Google Photos/Photos from 2019/IMG_6.jpg.json": "it is not valid JSON",
}
LEFT_OUT = {"": 1, ".rm": 2, ".psb": 1, ".heics": 1, ".xcf": 1, ".svg": 1, ".livp": 1}
SKIPPED_FOLDERS = {  # of Apple's libraries, the folders in them
    **{"#recycle": 1, "@Recycle": 1, "$RECYCLE.BIN": 1, ".Trash-1000": 1, ".Trashes": 1, "#snapshot": 1},
    **{"@eaDir": 2, ".@__thumb": 1, "Catalog Previews.lrdata": 1, "Catalog Smart Previews.lrdata": 1},
    **{"Photos Library.photoslibrary": 2, "iPhoto Library.photolibrary": 2},
}


class Library(NamedTuple):
    """The folder, its index, and what `index --json` said."""

    folder: Path
    index: Path
    report: Any


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The library, indexed in Paris."""
    folder = tmp_path_factory.mktemp("family").resolve()
    family_library.draw(folder / "Family")
    command = [sys.executable, "-m", "clipsearch", "index", "--model", "mini", "--json", folder / "Family"]
    environment = os.environ | {"TZ": "Europe/Paris", "CLIPSEARCH_INDEX": str(folder / "index")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    return Library(folder / "Family", folder / "index", json.loads(done.stdout))


def found(clipsearch: Run, library: Library, *filters: str) -> list[tuple[Path, Any]]:
    """The photos that filters select: paths below the library, in order, and what is known of each."""
    done = clipsearch("query", "-k", 1000, "--format", "jsonl", *filters, index=library.index)
    lines = [(path_of(photo).relative_to(library.folder), photo) for photo in map(json.loads, done.lines)]
    return sorted(lines, key=lambda line: (line[0].parent, line[0].name))


def path_of(photo: Any) -> Path:
    return Path(os.fsdecode(base64.b64decode(photo["path_b64"])) if "path_b64" in photo else photo["path"])


def table(lines: list[tuple[Path, Any]]) -> Iterator[str]:
    for folder, group in groupby(lines, lambda line: line[0].parent):
        rows = [(printable(path.name), " | ".join(facts(photo))) for path, photo in group]
        width = max(len(name) for name, _ in rows)
        yield str(folder)
        yield from (f"    {name.ljust(width)}  {about}" for name, about in rows)


def printable(name: str) -> str:
    letters = unicodedata.normalize("NFC", name)
    escaped = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in letters)
    return escaped if len(escaped) < 60 else f"{escaped[:9]}... ({len(escaped)} letters)"


FORMS = {"location": '"{}"', "camera": "by {}", "color_label": "{}", "title": '"{}"', "caption": "({})"}


def facts(photo: Any) -> Iterator[str]:
    yield f"{photo['taken']} {photo['taken_from']}" if photo["taken"] else "undated"
    if photo["latitude"] is not None:
        yield f"{photo['latitude']:.4f}, {photo['longitude']:.4f}"
    if photo["rating"]:
        yield "rejected" if photo["rating"] == -1 else "*" * photo["rating"]
    yield from (form.format(photo[key]) for key, form in FORMS.items() if photo[key])
    if photo["keywords"]:
        yield " ".join(f"#{keyword}" for keyword in photo["keywords"])
    if photo["people"]:
        yield "shows " + ", ".join(photo["people"])
    if (size := (photo["width"], photo["height"])) not in (family_library.SIZE, videos.SIZE):
        yield "{} x {}".format(*size)
    if photo["duration"]:
        yield f"{photo['duration']} s"


def test_what_is_known_of_every_photo(library: Library, clipsearch: Run) -> None:
    assert "\n".join(table(found(clipsearch, library))) == LIBRARY.strip()


def test_what_is_not_indexed_and_why(library: Library, clipsearch: Run) -> None:
    status = json.loads(clipsearch("status", "--json", index=library.index).out)
    for said in (library.report, status):
        assert below(library, said["skipped"]) == SKIPPED
        assert {one["suffix"]: one["files"] for one in said["left_out"]} == LEFT_OUT
        assert {one["name"]: one["folders"] for one in said["skipped_folders"]} == SKIPPED_FOLDERS
    assert below(library, library.report["sidecars_ignored"]) == SIDECARS_IGNORED
    photos = sum(line.startswith(" ") for line in LIBRARY.splitlines())
    assert (library.report["added"], library.report["duplicates"], status["photos"]) == (photos, 1, photos)
    assert not any(library.report[key] for key in ("unreadable", "offline", "empty", "unmatched"))


def below(library: Library, reasons: list[dict[str, str]]) -> dict[str, str]:
    return {str(Path(one["path"]).relative_to(library.folder)): one["reason"] for one in reasons}


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--person", "Ann"], "IMG_1-edited.jpg IMG_1.jpg IMG_4.jpg digikam.jpg picasa.jpg"),
        (["--person", "Ann", "--person", "Grandma"], "IMG_1-edited.jpg IMG_1.jpg picasa.jpg"),
        (["--rating", "4+"], "digikam.jpg lightroom.jpg lightroom.jpg windows.jpg"),
        (["--rating", "rejected"], "rejected.jpg"),
        (["--keyword", "Animals|Dog"], "lightroom.jpg windows.jpg"),
        (["--keyword", "été"], "agency.jpg mac.jpg"),
        (["--keyword", "grandma"], "IMG_1-edited.jpg IMG_1.jpg picasa.jpg windows.jpg"),
        (["--caption", "beach nice"], "lightroom.jpg"),
        (["--caption", "france"], "agency.jpg"),
        (["--color-label", "red"], "lightroom.jpg"),
        (["--after", "2019-07-24", "--before", "2019-07-25"], "clip.mp4 film.mp4 sydney.mov"),
        (["--before", "1990"], "1955-07-14.jpg"),
        (["--near", "48.8583,2.295,1", "--camera", "iphone"], "IMG_0101.HEIC"),
        (["--near", "10,10", "--type", "jpeg", "--rating", "1-3"], "darktable.jpg pair.jpg Été.jpg"),
        (["--type", "raw"], "IMG_0020.DNG pair.dng"),
        (["--type", "video", "--under", "Takeout"], "IMG_3.MP4"),
    ],
)
def test_filters(library: Library, clipsearch: Run, filters: list[str], names: str) -> None:
    at = [str(library.folder / one) if one == "Takeout" else one for one in filters]
    lines = found(clipsearch, library, *at)
    assert " ".join(sorted(unicodedata.normalize("NFC", path.name) for path, _ in lines)) == names


def test_of_copies_the_one_with_googles_json_is_the_best(library: Library, clipsearch: Run) -> None:
    groups = json.loads(clipsearch("duplicates", "--format", "json", index=library.index).out)
    assert [[(photo["kind"], Path(photo["path"]).name) for photo in group["photos"]] for group in groups] == [
        [("best", "IMG_1.jpg"), ("identical", "IMG_1.jpg")],
    ]
    assert Path(groups[0]["photos"][0]["path"]).parent.name == "Photos from 2019"
