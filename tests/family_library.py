"""Draws a family's photo library: every kind of file, named and described as phones and programs do it.

What clipsearch makes of it is the table in `promises/test_family_library.py`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  # makes Pillow save JPEG XL
import videos
from formats import P3, bag, dng, exif, gif, iptc, jp2, packet, psd, xmp
from PIL import ExifTags, Image, PngImagePlugin

SIZE = (48, 36)
CHANGED = datetime(2024, 6, 1, 12, tzinfo=UTC).timestamp()  # of every file
CANON = {"Make": "Canon", "Model": "Canon EOS 80D"}
PARIS = "48 51 29.88 N, 2 17 42 E"
LAST_JULY = "2019:07:14 18:03:21"
BIRTHDAY = 1549188672  # 2019-02-03T10:11:12Z


class Folder:
    """Writes files below a folder; no two pictures are the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._drawn = 0

    def file(self, name: str | bytes, data: bytes = b"") -> Path:
        """Write a file, or only make its folder."""
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if data:
            path.write_bytes(data)
        return path

    def picture(self, size: tuple[int, int] = SIZE) -> Image.Image:
        self._drawn += 1
        pixels = np.random.default_rng(self._drawn).integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(pixels).resize(size)

    def photo(
        self, name: str | bytes, form: str = "JPEG", picture: Image.Image | None = None, behind: bytes = b"", **how: Any
    ) -> bytes:
        """Save a photo with options of Pillow; `behind` are segments of a JPEG behind its first two bytes."""
        out = io.BytesIO()
        (picture or self.picture()).save(out, form, **how)
        data = out.getvalue()[:2] + behind + out.getvalue()[2:]
        self.file(name, data)
        return data

    def photos(self, names: str, form: str = "JPEG") -> None:
        """A photo without metadata for each line."""
        for name in filter(None, map(str.strip, names.split("\n"))):
            self.photo(name, form)

    def video(self, name: str, codec: str = "libx264", **how: Any) -> None:
        videos.clip(self.file(name), [(self.picture(), 0.5)], codec=codec, **how)

    def below(self, name: str) -> Folder:
        """A folder in this one, for shorter names; its pictures differ from all others."""
        inner = Folder(self.path / name)
        inner._drawn = 1000 * sum(name.encode()) + self._drawn
        return inner


def draw(folder: Path) -> None:
    """Draw the whole library."""
    pillow_heif.register_heif_opener()
    library = Folder(folder)
    for part in (cards, phones, messengers, screenshots, scans, formats, tags, sidecars):
        part(library)
    for part in (takeout, apple, trash_and_caches, films, odd_files, other_files):
        part(library)
    for parent, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            os.utime(os.path.join(parent, name), (CHANGED, CHANGED))


# ------------------------------------------------------------------------------------------ cameras


def cards(library: Folder) -> None:
    """Memory cards: dates and places as firmware writes them."""
    card = library.below("Cards/DCIM/100CANON")
    for name, about in {
        "degrees, minutes, seconds": exif(gps=PARIS, DateTimeOriginal=LAST_JULY, **CANON),
        "degrees, minutes": exif(gps="48 51.498 N, 2 17.7 E", DateTimeOriginal=LAST_JULY),
        "degrees": exif(gps="48.8583 N, 2.295 E", DateTimeOriginal=LAST_JULY),
        "seconds are 0 of 0": exif(gps="48 51.498 0/0 N, 2 17.7 0/0 E", DateTimeOriginal=LAST_JULY),
        "south, west": exif(gps="33 51 25 S, 70 38 12 W", DateTimeOriginal=LAST_JULY),
        "no satellites": exif(gps="0 0 0 N, 0 0 0 E", DateTimeOriginal=LAST_JULY),
        "nothing but 0 of 0": exif(gps="0/0 0/0 0/0 N, 0/0 0/0 0/0 E", DateTimeOriginal=LAST_JULY),
        "beyond the pole": exif(gps="91 0 0 N, 2 0 0 E", DateTimeOriginal=LAST_JULY),
        "clock not set": exif(DateTimeOriginal="0000:00:00 00:00:00"),
        "blank date": exif(DateTimeOriginal="    :  :     :  :  "),
        "padded date": exif(DateTimeOriginal="2015: 6: 1  9: 5: 3"),
        "24 o'clock": exif(DateTimeOriginal="2015:06:01 24:00:00"),
        "leap second": exif(DateTimeOriginal="2015:12:31 23:59:60"),
        "no seconds": exif(DateTimeOriginal="2015:06:01 09:05"),
        "offset": exif(DateTimeOriginal="2015:06:01 09:05:03", OffsetTimeOriginal="-08:00"),
        "digitized": exif(DateTimeOriginal="0000:00:00 00:00:00", DateTimeDigitized="2015:06:01 09:05:03"),
        "edited": exif(DateTime="2020:01:01 10:00:00"),
        "edited, dated": exif(DateTime="2020:01:01 10:00:00", DateTimeOriginal=LAST_JULY),
        "turned": exif(DateTimeOriginal=LAST_JULY, Orientation=6, ImageDescription="OLYMPUS DIGITAL CAMERA         "),
    }.items():
        card.photo(f"{name}.JPG", exif=about)
    card.file("IMG_0020.DNG", dng(changed=LAST_JULY))
    card.photo("IMG_0020.JPG", exif=exif(DateTimeOriginal=LAST_JULY))
    card.file("MVI_0021.THM", b"a small JPEG beside a video")
    for number in range(1, 4):
        card.photo(f"../101_PANA/P10100{number:02d}.JPG", exif=exif(DateTimeOriginal=f"2012:08:{number:02d} 12:00:00"))


def phones(library: Folder) -> None:
    """Phones name photos after the time; Pixels do so in UTC."""
    camera = library.below("Phone/DCIM/Camera")
    camera.photos(
        """
        20190203_101112.jpg
        20190203_101112(0).jpg
        IMG_20190203_101112.jpg
        IMG_20190203_101112_1.jpg
        MVIMG_20190203_101112.jpg
        PXL_20210304_050607123.jpg
        PXL_20210704_050607123.MP.jpg
        00001IMG_00001_BURST20190203101112345_COVER.jpg
        IMG_0001.JPG
        DSC20195678.jpg
        .trashed-1700000000-IMG_20190203_101113.jpg
        .pending-1700000000-IMG_20190203_101114.jpg
        """
    )
    camera.photo("IMG_20190203_101115.jpg", exif=exif(DateTimeOriginal="2019:02:03 10:11:14"))
    camera.photo("IMG_20190203_101116.jpg", exif=exif(DateTime="2024:01:01 10:00:00"))
    iphone = library.below("iPhone/DCIM/100APPLE")
    turned = exif(gps=PARIS, DateTimeOriginal=LAST_JULY, Orientation=6, Make="Apple", Model="iPhone 12")
    iphone.photo("IMG_0101.HEIC", "HEIF", exif=turned)
    iphone.photo("IMG_0102.HEIC", "HEIF", exif=exif(DateTimeOriginal=LAST_JULY))
    iphone.video("IMG_0102.MOV", metadata={"com.apple.quicktime.creationdate": "2019-07-14T18:03:20+0200"}, **_KEYS)
    iphone.photo("IMG_E0101.JPG", exif=exif(DateTimeOriginal=LAST_JULY))
    iphone.file("IMG_0101.AAE", b"<plist/>")
    iphone.photo("IMG_0103.PNG", "PNG", exif=exif(DateTimeOriginal=LAST_JULY, UserComment=b"ASCII\0\0\0Screenshot"))


def messengers(library: Folder) -> None:
    """Messengers remove the metadata, and some name the day."""
    library.below("WhatsApp/Media/WhatsApp Images").photos(
        """
        IMG-20190203-WA0001.jpg
        IMG-20190203-WA0002.jpeg
        Sent/IMG-20190203-WA0003.jpg
        """
    )
    library.video(
        "WhatsApp/Media/WhatsApp Video/VID-20190203-WA0004.mp4", metadata={"creation_time": "2019-02-03T09:11:12Z"}
    )
    library.below("Messages").photos(
        """
        WhatsApp Image 2019-02-03 at 10.11.12.jpeg
        WhatsApp Image 2019-02-03 at 10.11.12 (1).jpeg
        WhatsApp Image 2019-02-03 at 8.11.12 PM.jpeg
        signal-2019-02-03-101112.jpg
        signal-2019-02-03-10-11-12-345.jpg
        photo_2019-02-03_10-11-12.jpg
        photo_1@03-02-2019_10-11-12.jpg
        photo_1@03-02-2019_10-11-12_thumb.jpg
        IMG_20190203_101112_345.jpg
        FB_IMG_1549188672000.jpg
        mmexport1549188672123.jpg
        Snapchat-1199464898.jpg
        received_10208127356462283.jpeg
        10387472_10152374569998794_98794_n.jpg
        5e3b2a10-8a55-4d55-9d0b-201902031011.jpg
        """
    )


def screenshots(library: Folder) -> None:
    """Named by phones and computers, in their languages."""
    folder = library.below("Screenshots")
    folder.photos(
        """
        Screenshot_20190203-101112.png
        Screenshot_20190203-101112_Gallery.png
        Screenshot_2019-02-03-10-11-12-345_com.whatsapp.png
        Screenshot from 2019-02-03 10-11-12.png
        Screenshot 2019-02-03 101112.png
        Screenshot (12).png
        Screenshot 2019-02-03 at 10.11.12.png
        Screen Shot 2019-02-03 at 10.11.12 AM.png
        Screen Shot 2019-02-03 at 12.11.12 AM.png
        Screen Shot 2019-02-03 at 8.11.12 PM.png
        Screenshot 2019-02-03 at 8.11.12\u202fPM (2).png
        Bildschirmfoto 2019-02-03 um 10.11.12.png
        Capture d’e\u0301cran 2019-02-03 a\u0300 10.11.12.png
        vlcsnap-2019-02-03-10h11m12s345.png
        WIN_20190203_10_11_12_Pro.jpg
        """,
        "PNG",
    )
    described = PngImagePlugin.PngInfo()
    for key, text in {
        "Creation Time": "Sun, 3 Feb 2019 10:11:12 GMT",
        "Title": "A map",
        "Description": "To us",
    }.items():
        described.add_text(key, text)
    folder.photo("map.png", "PNG", pnginfo=described)
    edited = PngImagePlugin.PngInfo()
    edited.add(b"tIME", bytes([2020 >> 8, 2020 & 255, 1, 2, 3, 4, 5]))
    folder.photo("edited.png", "PNG", pnginfo=edited)


# ------------------------------------------------------------------------------------------ files of all kinds


def scans(library: Folder) -> None:
    """Scanners write when they scanned, people when the photo was taken."""
    folder = library.below("Scans 1998")
    folder.photo("photo 1.jpg", exif=exif(DateTime="2015:03:01 20:00:00"), behind=iptc((55, b"19980714")))
    dated = xmp(attributes='photoshop:DateCreated="1998-07-14T10:00:00"')
    folder.photo("photo 2.jpg", exif=exif(DateTime="2015:03:01 20:00:00"), xmp=dated)
    thumbnail, page = folder.picture((24, 18)), folder.picture((96, 72))
    folder.photo("photo 3.tif", "TIFF", thumbnail, save_all=True, append_images=[page])
    deep = np.asarray(folder.picture().convert("L"), np.uint16) * 257
    folder.photo("photo 4.tif", "TIFF", Image.fromarray(deep))
    folder.photo("photo 5.tif", "TIFF", Image.fromarray(65535 - deep), tiffinfo={262: 0})
    folder.photo("photo 6.jpg", exif=exif(DateTime="2015:03:01 20:00:00"))
    folder.file("photo 6.xmp", xmp(attributes='photoshop:DateCreated="1998-07"'))
    folder.photos("1998-07-14 wedding.jpg\n1955-07-14.jpg\n19980714.jpg\n19550714.jpg")


def formats(library: Folder) -> None:
    """Every format, and the title that its XMP or EXIF gives it."""
    folder = library.below("Formats")

    def title(text: str) -> bytes:
        return xmp(f"<dc:title>{bag(text)}</dc:title>")

    folder.photo("stereo.mpo", "MPO", save_all=True, append_images=[folder.picture()])
    folder.photo("photo.avif", "AVIF", exif=exif(DateTimeOriginal=LAST_JULY), xmp=title("AVIF"))
    folder.photo("photo.heic", "HEIF", xmp=title("HEIC"))
    folder.photo("photo.webp", "WEBP", exif=exif(DateTimeOriginal=LAST_JULY), xmp=title("WebP"))
    folder.photo("photo.jxl", "JXL", exif=exif(DateTimeOriginal=LAST_JULY).tobytes(), xmp=packet(title("JPEG XL")))
    folder.file("photo.jp2", jp2(folder.picture(), packet(title("JPEG 2000"))))
    folder.file("photo.gif", gif(folder.picture(), packet(title("GIF"))))
    folder.file("layers.psd", psd(folder.picture(), packet(title("PSD"))))
    both = exif(DateTimeOriginal=LAST_JULY)
    both[ExifTags.Base.XMLPacket] = title("TIFF")
    folder.photo("photo.tif", "TIFF", exif=both.tobytes())
    about = PngImagePlugin.PngInfo()
    about.add_itxt("XML:com.adobe.xmp", title("PNG").decode())
    folder.photo("photo.png", "PNG", exif=exif(DateTimeOriginal=LAST_JULY), pnginfo=about)
    for form in ("BMP", "PPM", "TGA"):
        folder.photo(f"photo.{form.lower()}", form)
    for form in ("GIF", "WEBP"):
        empty = Image.new("RGB", SIZE, "white")
        folder.photo(f"moving.{form.lower()}", form, empty, save_all=True, append_images=[folder.picture()])
    folder.photo("cmyk.jpg", picture=folder.picture().convert("CMYK"))
    folder.photo("display p3.jpg", icc_profile=P3)
    whole = folder.photo("whole.jpg", exif=exif(DateTimeOriginal=LAST_JULY))
    folder.file("cut short.jpg", whole[:-2])


_KEYS: dict[str, Any] = {"options": {"movflags": "use_metadata_tags"}}


def films(library: Folder) -> None:
    """Videos: in UTC, in local time with an offset, and without any date."""
    folder = library.below("Films")
    noon = {"creation_time": "2019-07-24T11:25:40Z"}
    folder.video("clip.mp4", metadata=noon | {"location": "+48.8577+002.2950/"})
    folder.video("winter.mp4", metadata={"creation_time": "2019-01-24T11:25:40Z"})
    folder.video("never set.mp4", metadata={"creation_time": "1904-01-01T00:00:00Z"})
    sydney = {"creationdate": "2019-07-24T21:25:40+1000", "make": "Apple", "model": "iPhone 12"}
    apple = {f"com.apple.quicktime.{key}": value for key, value in sydney.items()}
    folder.video("sydney.mov", metadata=noon | apple, **_KEYS)
    folder.video("VID_20190203_101112.mp4", metadata={"creation_time": "2019-02-03T09:12:00Z"})
    folder.video("PXL_20210304_050607123.mp4")
    folder.video("old phone.3gp", "mpeg4")
    folder.video("00001.MTS", form="mpegts")
    folder.video("MVI_0021.AVI", "mpeg4")
    folder.video("dvd.mpg", "mpeg2video", rate=25)


# ------------------------------------------------------------------------------------------ other programs


def _region(*names: str) -> str:
    faces = "".join(
        f'<rdf:li rdf:parseType="Resource"><mwg-rs:Name>{name}</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type></rdf:li>'
        for name in names
    )
    return (
        f'<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag>{faces}</rdf:Bag></mwg-rs:RegionList>'
        "</mwg-rs:Regions>"
    )


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def tags(library: Folder) -> None:
    """What photo programs write into the photo itself."""
    folder = library.below("Tagged")
    folder.photo("picasa.jpg", xmp=xmp(_region("Grandma", "Ann")))
    folder.photo(
        "windows.jpg",
        exif=exif(XPKeywords=_utf16("dog; beach;"), XPTitle=_utf16("Summer"), RatingPercent=75),
        xmp=xmp(
            f"<MicrosoftPhoto:LastKeywordXMP>{bag('Animals/Dog')}</MicrosoftPhoto:LastKeywordXMP>"
            '<MP:RegionInfo rdf:parseType="Resource"><MP:Regions><rdf:Bag><rdf:li>'
            '<rdf:Description MPReg:PersonDisplayName="Grandma"/></rdf:li></rdf:Bag></MP:Regions></MP:RegionInfo>'
        ),
    )
    folder.photo(
        "lightroom.jpg",
        xmp=xmp(
            f"<dc:subject>{bag('Dog')}</dc:subject>"
            f"<lr:hierarchicalSubject>{bag('Animals|Dog')}</lr:hierarchicalSubject>"
            f"<dc:title>{bag('Rex')}</dc:title><dc:description>{bag('At the beach in Nice')}</dc:description>",
            'xmp:Rating="4" xmp:Label="Red"',
        ),
    )
    folder.photo(
        "digikam.jpg",
        xmp=xmp(
            f"<digiKam:TagsList>{bag('People/Ann', 'Animals/Cat')}</digiKam:TagsList>{_region('Ann')}",
            'xmp:Rating="0" MicrosoftPhoto:Rating="99" digiKam:ColorLabel="4"',
        ),
    )
    folder.photo("rejected.jpg", xmp=xmp(attributes='xmp:Rating="-1"'))
    folder.photo(
        "agency.jpg",
        behind=iptc(
            *((5, b"Sea"), (25, "Été".encode()), (25, b"R\xe9union"), (55, b"19980714"), (60, b"100000+0000")),
            *((90, b"Nice"), (101, b"France"), (120, b"By the sea")),
        ),
    )
    folder.photo("mac.jpg", xmp=xmp(f"<dc:subject>{bag(unicodedata.normalize('NFD', 'Été'))}</dc:subject>"))
    folder.photo("exif.jpg", exif=exif(ImageDescription="Großmutter".encode(), Rating=3))


def sidecars(library: Folder) -> None:
    """XMP beside photos, which corrects what they say."""
    folder = library.below("Sidecars")

    def camera(name: str) -> None:
        folder.photo(name, exif=exif(gps="10 0 0 N, 10 0 0 E", DateTimeOriginal="2001:01:01 00:00:00"))

    camera("wrong clock.jpg")
    folder.file("wrong clock.xmp", xmp(attributes='exif:DateTimeOriginal="2012-06-01T12:00:00"'))
    camera("lightroom.jpg")
    place = 'exif:GPSLatitude="48,51.4980N" exif:GPSLongitude="2,17.7000E"'
    folder.file("lightroom.xmp", xmp(f"<dc:subject>{bag('beach')}</dc:subject>", f'xmp:Rating="5" {place}'))
    camera("darktable.jpg")
    folder.file(
        "darktable.jpg.xmp",
        xmp(
            f"<darktable:colorlabels>{bag('3')}</darktable:colorlabels>"
            f"<dc:subject>{bag('darktable', 'format', 'jpg', 'wedding')}</dc:subject>"
            f"<lr:hierarchicalSubject>{bag('darktable|format|jpg', 'wedding')}</lr:hierarchicalSubject>",
            'exif:DateTimeOriginal="2001:01:01 00:00:00.031" xmp:Rating="1"',
        ),
    )
    camera("utf16.jpg")
    folder.file("utf16.jpg.XMP", xmp(f"<dc:subject>{bag('grün')}</dc:subject>").decode().encode("utf-16"))
    camera("program.jpg")
    folder.file("program.xmp", xmp(attributes='xmp:CreateDate="2020-01-01T00:00:00"'))
    folder.file("pair.dng", dng(changed="2012:06:01 12:00:00"))
    camera("pair.jpg")
    folder.file("pair.xmp", xmp(attributes='xmp:Rating="2"'))
    camera("broken.jpg")
    folder.file("broken.xmp", xmp()[:-9])
    camera(unicodedata.normalize("NFD", "Été.jpg"))
    folder.file(unicodedata.normalize("NFD", "Été.xmp"), xmp(attributes='xmp:Rating="3"'))
    folder.video("film.mp4", metadata={"creation_time": "2019-07-24T11:25:40Z"})
    folder.file("film.mp4.xmp", xmp(f"<dc:subject>{bag('beach')}</dc:subject>"))


def takeout(library: Folder) -> None:
    """Google Takeout: the JSON's name is cut to 46 characters, the number goes to its end, edits have none."""
    folder = library.below("Takeout/Google Photos/Photos from 2019")

    def known(name: str, timestamp: int = BIRTHDAY, **about: Any) -> None:
        document = {"title": "IMG_1.jpg", "photoTakenTime": {"timestamp": str(timestamp)}, **about}
        folder.file(f"{name}.json", json.dumps(document).encode())

    known(
        "IMG_1.jpg",
        description="Her birthday\n",
        geoData={"latitude": 48.8583, "longitude": 2.2945, "altitude": 0.0},
        people=[{"name": "Grandma"}, {"name": "Ann"}],
    )
    known("IMG_1.jpg(1)", BIRTHDAY + 60, geoData={"latitude": 0.0, "longitude": 0.0})
    first = folder.photo("IMG_1.jpg")
    folder.photos("IMG_1(1).jpg\nIMG_1-edited.jpg\nIMG_1-edited(1).jpg")
    folder.file("../Birthday/IMG_1.jpg", first)  # Takeout repeats photos in albums, here without the JSON
    known("../Birthday/metadata")
    known("IMG_2.jpg.supplemental-metadata")
    known("IMG_2.jpg.supplemental-metadata(1)", BIRTHDAY + 60)
    folder.photos("IMG_2.jpg\nIMG_2(1).jpg\nIMG_2-bearbeitet.jpg")
    folder.photos("Peanut Butter Balls.jpg\nPeanut Butter Balls-edited.jpg\n2013-08-22.png")
    known("Peanut Butter Balls.supplemental-metadata")  # a photo that was uploaded without a suffix
    known("2013-08-22")
    folder.photo("IMG_3.HEIC", "HEIF")
    folder.video("IMG_3.MP4")
    known("IMG_3.HEIC.supplemental-metadata")
    folder.photo("IMG_4.jpg", exif=exif(gps=PARIS, DateTimeOriginal=LAST_JULY))
    known("IMG_4.jpg", geoData={"latitude": 10.0, "longitude": 10.0}, people=[{"name": "Ann"}])
    folder.photo("IMG_5.jpg")
    known("IMG_5.jpg", 0)
    folder.photo("IMG_6.jpg")
    folder.file("IMG_6.jpg.json", b'{"title": ')
    known("metadata")
    folder.file("user-generated-memory-titles.json", b"{}")
    folder = library.below("Takeout/Google Photos/Photos from 2023")
    for name in (
        "PXL_20210304_050607123.PORTRAIT-01.COVER~2.jpg",
        "PXL_20230809_203449253.LONG_EXPOSURE-02.ORIGINA.jpg",
        "Grandma and all of us at the beach in Nice, 2019.jpg",
        "Großmutter, Bärbel und Jürgen am Strand in Nizza.jpg",
        "День рождения бабушки на берегу моря в Ницце.jpg",
        "😀😃😄😁😆😅😂🤣🥲😊😇🙂🙃😉😌😍🥰😘😗😙😚😋😛😝.jpg",
    ):
        folder.photo(name)
        known(name.encode("utf-16-le")[: 2 * 46].decode("utf-16-le"))
    folder.photo("PXL_20190203_101112345.jpg")
    known("PXL_20190203_101112345.jpg.supplemental-metada")


def apple(library: Folder) -> None:
    """Apple's libraries: the originals, and copies of them that are not photos of their own."""
    photos = library.below("Photos Library.photoslibrary")
    photos.photo("originals/0/0A1B2C3D.heic", "HEIF", exif=exif(DateTimeOriginal=LAST_JULY))
    photos.video("originals/0/0A1B2C3D_3.mov", metadata={"creation_time": "2019-07-14T16:03:21Z"})
    photos.photos(
        """
        resources/derivatives/0/0A1B2C3D_1_105_c.jpeg
        resources/derivatives/masters/0/0A1B2C3D_4_5005_c.jpeg
        resources/renders/0/0A1B2C3D_1_201_a.jpeg
        """
    )
    photos.file("database/Photos.sqlite", b"SQLite format 3\0")
    older = library.below("iPhoto Library.photolibrary")
    older.photos("Masters/2010/07/14/IMG_7.jpg\nThumbnails/2010/07/14/IMG_7.jpg\nPreviews/2010/07/14/IMG_7.jpg")


def trash_and_caches(library: Folder) -> None:
    """Folders of NAS boxes and programs, which hold no photos of their own; those that people name are searched."""
    library.photos(
        """
        NAS/photo/IMG_20190203_101112.jpg
        NAS/photo/#recycle/IMG_20190203_101113.jpg
        NAS/photo/@eaDir/IMG_20190203_101112.jpg/SYNOPHOTO_THUMB_XL.jpg
        NAS/photo/#snapshot/GMT+01-2024.05.01-00.00.01/IMG_20190203_101112.jpg
        NAS/multimedia/.@__thumb/s800IMG_20190203_101112.jpg
        NAS/multimedia/@Recycle/IMG_20190203_101113.jpg
        USB/$RECYCLE.BIN/S-1-5-21-1004/$R0ABCDE.jpg
        USB/.Trash-1000/files/IMG_20190203_101113.jpg
        USB/.Trashes/501/IMG_20190203_101113.jpg
        USB/.picasaoriginals/IMG_20190203_101113.jpg
        USB/System Volume Information/IMG_20190203_101113.jpg
        Lightroom/Catalog Previews.lrdata/A/A1B2/1.jpg
        Lightroom/Catalog Smart Previews.lrdata/A/1.jpg
        Papierkorb/IMG_20190203_101112.jpg
        """
    )


def odd_files(library: Folder) -> None:
    """Odd names, and files that are not what they are called."""
    folder = library.below("Odd")
    for name in (
        b"two\nlines.jpg",
        b"not \xff UTF-8.jpg",
        "😀.jpg".encode(),
        b"a" * 246 + b".jpg",
        b"x.jpg/inside.jpg",
    ):
        folder.photo(name)
    folder.photo("a PNG.jpg", "PNG")
    folder.photo("no suffix", "PNG")
    folder.file("empty.jpg").touch()
    folder.file("text.jpg", b"not a photo\n" * 100)
    folder.file("unknown.heif", b"\0\0\0\x18ftypodd \0\0\0\0odd odd " + bytes(2000))
    folder.file("film.mp4", b"not a film\n" * 100)


def other_files(library: Folder) -> None:
    """Files that cannot be read are counted if somebody may miss them."""
    for name in (
        *("poster.psb", "burst.heics", "drawing.xcf", "logo.svg", "live.livp", "MOV0001.rm", "MOV0002.rm"),
        *("notes.txt", "Thumbs.db", "desktop.ini", "archive.zip", ".DS_Store", "._IMG_0001.JPG", ".picasa.ini"),
        *("GOPR0001.LRV", "main.ts", "strings.mts"),
    ):
        library.file(f"Other/{name}", b"text\n" * 20)
    shutil.copytree(library.path / "NAS/photo/@eaDir", library.path / "NAS/@eaDir")
