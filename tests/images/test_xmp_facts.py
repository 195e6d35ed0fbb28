"""What XMP, IPTC and Windows say of a photo, in every form that programs write."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from formats import bag, exif, iptc, jp2, psd, xmp
from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from clipsearch.errors import SidecarUnusable
from clipsearch.images import xmp_facts
from clipsearch.images.decode import decode
from clipsearch.images.facts import Facts
from clipsearch.images.metadata import Metadata
from clipsearch.images.xmp_facts import facts_of

PLACE = 'exif:GPSLatitude="48,51.4980N" exif:GPSLongitude="2,17.7000E"'
REGIONS = (
    '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">'
    "<mwg-rs:Name>Grandma</mwg-rs:Name></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
)


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        (xmp(attributes='exif:DateTimeOriginal="1998-07-14T10:00:00"'), Facts("1998-07-14T10:00:00", "xmp")),
        (xmp("<xmp:CreateDate>1998-07-14T10:00:00+02:00</xmp:CreateDate>"), Facts("1998-07-14T10:00:00", "xmp")),
        (
            xmp(attributes='xmp:CreateDate="2020-01-01" photoshop:DateCreated="1998-07-14"'),
            Facts("1998-07-14T00:00:00", "xmp"),
        ),
        (
            xmp(attributes='exif:DateTimeOriginal="0000-00-00" photoshop:DateCreated="1998"'),
            Facts("1998-01-01T00:00:00", "xmp"),
        ),
        (xmp(attributes=PLACE), Facts(latitude=48.8583, longitude=2.295)),
        (
            xmp(attributes='exif:GPSLatitude="48,51,30S" exif:GPSLongitude="2,17,42W"'),
            Facts(latitude=-48.8583333, longitude=-2.295),
        ),
        (xmp(attributes='exif:GPSLatitude="0,0.0N" exif:GPSLongitude="0,0.0E"'), Facts()),
        (xmp(attributes='exif:GPSLatitude="48,51.4980N"'), Facts()),
        (xmp(attributes='exif:GPSLatitude="48,51.4980" exif:GPSLongitude="2,17.7000E"'), Facts()),
        (xmp(attributes='exif:GPSLatitude="-48.8583" exif:GPSLongitude="2.295"'), Facts(None, None, -48.8583, 2.295)),
        (
            xmp(
                attributes='exif:GPSLatitude="48.8583" exif:GPSLatitudeRef="South" exif:GPSLongitude="2.295"'
                ' exif:GPSLongitudeRef="W"'
            ),
            Facts(latitude=-48.8583, longitude=-2.295),
        ),
        (
            xmp(
                "<exif:GPSLatitude>48 deg 51' 30\" N</exif:GPSLatitude>"
                "<exif:GPSLongitude>2° 17.7' w</exif:GPSLongitude>"
            ),
            Facts(latitude=48.8583333, longitude=-2.295),
        ),
        (xmp(f"<digiKam:ColorLabel>{'1' * 5_000}</digiKam:ColorLabel>"), Facts()),
        (xmp(f"<dc:subject>{bag('dog', ' a  beach ', 'dog', '')}</dc:subject>"), Facts(keywords="dog\na beach")),
        (
            xmp(f"<lr:hierarchicalSubject>{bag('Animals|Dog')}</lr:hierarchicalSubject>"),
            Facts(keywords="Animals\nDog\nAnimals|Dog"),
        ),
        (
            xmp(f"<MicrosoftPhoto:LastKeywordXMP>{bag('a/b')}</MicrosoftPhoto:LastKeywordXMP>"),
            Facts(keywords="a\nb\na|b"),
        ),
        (
            xmp(
                f"<dc:subject>{bag('cr2', 'darktable', 'format', 'wedding', 'darktable|exported')}</dc:subject>"
                f"<lr:hierarchicalSubject>{bag('darktable|format|cr2', 'Events|wedding')}</lr:hierarchicalSubject>"
            ),
            Facts(keywords="wedding\nEvents\nEvents|wedding"),
        ),
        (xmp(REGIONS), Facts(people="Grandma")),
        (xmp(REGIONS.replace("</rdf:li>", "<mwg-rs:Type>BarCode</mwg-rs:Type></rdf:li>")), Facts()),
        (
            xmp(
                '<acdsee-rs:Regions rdf:parseType="Resource"><acdsee-rs:RegionList><rdf:Bag><rdf:li>'
                '<rdf:Description acdsee-rs:Name="Grandma" acdsee-rs:Type="Face">'
                '<acdsee-rs:DLYArea acdsee-stArea:x="0.5" acdsee-stArea:y="0.5"'
                ' acdsee-stArea:w="0.2" acdsee-stArea:h="0.4"/>'
                "</rdf:Description></rdf:li></rdf:Bag></acdsee-rs:RegionList></acdsee-rs:Regions>"
                f"<acdsee:keywords>{bag('dog')}</acdsee:keywords><acdsee:notes>At the sea</acdsee:notes>"
                "<acdsee:categories>&lt;Categories&gt;&lt;Category Assigned=&quot;0&quot;&gt;Animals&lt;Category "
                "Assigned=&quot;1&quot;&gt;Cat&lt;/Category&gt;&lt;/Category&gt;&lt;Category Assigned=&quot;0&quot;&gt;"
                "Trees&lt;/Category&gt;&lt;/Categories&gt;</acdsee:categories>",
                'acdsee:rating="4" acdsee:caption="Sea"',
            ),
            Facts(
                keywords="dog\nAnimals\nCat\nAnimals|Cat",
                people="Grandma",
                rating=4,
                title="Sea",
                caption="At the sea",
                regions='["Grandma",0.4,0.3,0.6,0.7,0,0]',
            ),
        ),
        (
            xmp(
                f"<mediapro:CatalogSets>{bag('Animals|Dog')}</mediapro:CatalogSets>"
                f"<mediapro:People>{bag('Grandma')}</mediapro:People>"
            ),
            Facts(keywords="Animals\nDog\nAnimals|Dog", people="Grandma"),
        ),
        (
            xmp(
                '<mwg-kw:Keywords rdf:parseType="Resource"><mwg-kw:Hierarchy><rdf:Bag><rdf:li rdf:parseType="Resource">'
                "<mwg-kw:Keyword>Animals</mwg-kw:Keyword><mwg-kw:Children><rdf:Bag><rdf:li mwg-kw:Keyword='Dog'/>"
                "</rdf:Bag></mwg-kw:Children></rdf:li></rdf:Bag></mwg-kw:Hierarchy></mwg-kw:Keywords>"
            ),
            Facts(keywords="Animals\nDog"),
        ),
        (
            xmp(
                f"<Iptc4xmpExt:PersonInImageWDetails><rdf:Bag><rdf:li rdf:parseType='Resource'><Iptc4xmpExt:PersonName>"
                f"{bag('Ann')}</Iptc4xmpExt:PersonName></rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImageWDetails>"
                "<Iptc4xmpExt:LocationCreated><rdf:Bag>"
                "<rdf:li Iptc4xmpExt:City='Nice' Iptc4xmpExt:CountryName='France'/>"
                "</rdf:Bag></Iptc4xmpExt:LocationCreated>"
            ),
            Facts(people="Ann", location="Nice, France"),
        ),
        (
            xmp(f"<dc:subject>{bag('<rdf:Description><rdf:value>dog</rdf:value></rdf:Description>')}</dc:subject>"),
            Facts(keywords="dog"),
        ),
        (
            xmp(f"<Iptc4xmpExt:PersonInImage>{bag('Ann', 'Bob')}</Iptc4xmpExt:PersonInImage>"),
            Facts(people="Ann\nBob"),
        ),
        (
            xmp('<MP:Regions><rdf:Bag><rdf:li MPReg:PersonDisplayName="Grandma"/></rdf:Bag></MP:Regions>'),
            Facts(people="Grandma"),
        ),
        (xmp(attributes='xmp:Rating="4" xmp:Label="Red"'), Facts(rating=4, color_label="Red")),
        (xmp(attributes='xmp:Rating="-1"'), Facts(rating=-1)),
        (xmp(attributes='xmp:Rating="0" MicrosoftPhoto:Rating="99"'), Facts(rating=5)),
        (xmp(attributes='MicrosoftPhoto:Rating="25" digiKam:ColorLabel="4"'), Facts(rating=2, color_label="Green")),
        (xmp(attributes='digiKam:ColorLabel="0" xmp:Rating="many"'), Facts()),
        (xmp(f"<darktable:colorlabels>{bag('3', '0')}</darktable:colorlabels>"), Facts(color_label="Blue")),
        (
            xmp(
                "<dc:title><rdf:Alt><rdf:li xml:lang='de'>Titel</rdf:li><rdf:li xml:lang='x-default'>A title</rdf:li>"
                "</rdf:Alt></dc:title><dc:description><rdf:Alt><rdf:li>On the\n beach</rdf:li></rdf:Alt>"
                "</dc:description>"
            ),
            Facts(title="A title", caption="On the beach"),
        ),
        (
            xmp(attributes='photoshop:City="Nice" photoshop:Country="France" photoshop:Headline="Sea"'),
            Facts(location="Nice, France", title="Sea"),
        ),
        (xmp(), Facts()),
    ],
)
def test_what_xmp_says(document: bytes, facts: Facts) -> None:
    assert facts_of(document) == facts
    assert facts_of(document + b"\0\0") == facts
    assert facts_of(document.decode().encode("utf-16")) == facts


def test_a_sidecar_corrects_when_a_photo_was_taken_but_not_by_when_a_program_made_it() -> None:
    assert facts_of(xmp(attributes='photoshop:DateCreated="1998-07-14"'), is_sidecar=True).taken_from == "sidecar"
    assert facts_of(xmp(attributes='xmp:CreateDate="2020-01-01"'), is_sidecar=True).taken_from == "xmp"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"nonsense",
        b"<html/>",
        b"\xff\xfe\x00",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + xmp(),
        b"<a>" * 600 + b"</a>" * 600,
        xmp(f"<dc:subject>{bag(*['x'] * 60_000)}</dc:subject>"),
        xmp()[:-5],
    ],
)
def test_what_is_no_xmp_is_refused(document: bytes) -> None:
    with pytest.raises(SidecarUnusable):
        facts_of(document)


def taken_and_place(**how: Any) -> tuple[Any, ...]:
    exif = Image.Exif()
    for number, value in how.pop("base", {}).items():
        exif[number] = value
    for number, value in how.pop("details", {}).items():
        exif.get_ifd(ExifTags.IFD.Exif)[number] = value
    for number, value in how.pop("gps", {}).items():
        exif.get_ifd(ExifTags.IFD.GPSInfo)[number] = value
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, how.pop("format", "JPEG"), exif=exif, **how)
    found = decode(file.getvalue()).metadata
    return found.taken, found.latitude, found.keywords


@pytest.mark.parametrize(
    "inside",
    [
        "<lr:hierarchicalSubject>" + "|".join("a" * 500_000) + "</lr:hierarchicalSubject>",  # 125 billion characters
        "".join(f"<dc:subject>{'x' * 400_000}{n}</dc:subject>" for n in range(3)),
    ],
)
def test_keywords_have_a_limit(inside: str) -> None:
    with pytest.raises(SidecarUnusable, match="have more than 1,048,576 characters"):
        facts_of(xmp(inside))


def test_metadata_that_cannot_be_parsed_costs_no_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmp_facts, "rating_of", lambda text: 1 // 0)
    assert taken_and_place(xmp=xmp(), base={CHANGED: "2023:01:01 00:00:00"})[0] == "2023-01-01T00:00:00"


ORIGINAL, DIGITIZED, CHANGED = (
    int(getattr(ExifTags.Base, name)) for name in ("DateTimeOriginal", "DateTimeDigitized", "DateTime")
)


def test_the_best_date_wins() -> None:
    scanned = xmp(attributes='photoshop:DateCreated="1998-07-14T10:00:00"')
    edited = {CHANGED: "2023:01:01 00:00:00"}
    assert taken_and_place(base=edited)[0] == "2023-01-01T00:00:00"
    assert taken_and_place(base=edited, xmp=scanned)[0] == "1998-07-14T10:00:00"
    assert taken_and_place(base=edited, xmp=scanned, details={DIGITIZED: "2003:05:06 07:08:09"})[0][:4] == "2003"
    both = {ORIGINAL: "0000:00:00 00:00:00", DIGITIZED: "2003:05:06 07:08:09"}
    assert taken_and_place(base=edited, details=both)[0] == "2003-05-06T07:08:09"
    assert taken_and_place(details=both | {ORIGINAL: "1999:05:06 07:08:09"}, xmp=scanned)[0][:4] == "1999"
    assert taken_and_place(base=edited | {ORIGINAL: "1999:05:06 07:08:09"})[0][:4] == "1999"  # as in TIFF/EP
    assert taken_and_place(format="PNG", base=edited, details={ORIGINAL: "1999:05:06 07:08:09"})[0][:4] == "1999"


@pytest.mark.parametrize(
    ("latitude", "found"),
    [
        ((IFDRational(48), IFDRational(5149800, 100000), IFDRational(0, 0)), 48.8583),
        ((IFDRational(48), IFDRational(51498, 1000)), 48.8583),
        ((IFDRational(48858300, 1000000),), 48.8583),
        ((IFDRational(0), IFDRational(0), IFDRational(0)), None),
        ((IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0)), None),
    ],
)
def test_places_as_cameras_write_them(latitude: tuple[IFDRational, ...], found: float | None) -> None:
    longitude = tuple(IFDRational(0) for _ in latitude)
    assert taken_and_place(gps={1: "N", 2: latitude, 3: "E", 4: longitude})[1] == found


def test_without_another_date_that_of_gps_counts() -> None:
    gps = {0x1D: "2015:06:01", 7: (IFDRational(10), IFDRational(11), IFDRational(12))}
    day = datetime(2015, 6, 1, 10, 11, 12, tzinfo=UTC).astimezone().replace(tzinfo=None).isoformat()
    assert taken_and_place(gps=dict(gps), base={CHANGED: "2023:01:01 00:00:00"})[0] == day
    assert taken_and_place(gps=dict(gps), details={ORIGINAL: "1999:05:06 07:08:09"})[0][:4] == "1999"


def test_keywords_of_windows() -> None:
    words = "Grandma;  a beach;;".encode("utf-16-le") + b"\0\0"
    assert taken_and_place(base={int(ExifTags.Base.XPKeywords): words})[2] == "Grandma\na beach"
    assert taken_and_place(base={int(ExifTags.Base.XPKeywords): b"\xd8"})[2] is None


def test_ratings_titles_and_captions_in_exif() -> None:
    def known(exif: dict[int, Any]) -> tuple[Any, ...]:
        header, file = Image.Exif(), io.BytesIO()
        for number, value in exif.items():
            header[number] = value
        Image.new("RGB", (40, 30), "red").save(file, "JPEG", exif=header)
        of = decode(file.getvalue()).metadata
        return of.rating, of.title, of.caption

    title, comment = ("Summer".encode("utf-16-le") + b"\0\0", "By the lake".encode("utf-16-le"))
    assert known({0x4746: 3, 0x9C9B: title, 0x9C9C: comment}) == (3, "Summer", "By the lake")
    assert known({0x4749: 75, 0x010E: "Our  house "}) == (4, None, "Our house")
    assert known({0x4746: 0, 0x010E: "OLYMPUS DIGITAL CAMERA         "}) == (None, None, None)
    for nothing in ("SONY DSC", "SAMSUNG CAMERA PICTURES", "Exif_JPEG_PICTURE", "DCIM\\100MEDIA\\DJI_0001.JPG"):
        assert known({0x4746: 77, 0x010E: nothing}) == (None, None, None)


def test_what_png_says() -> None:
    def known(*, text: dict[str, str] | None = None, changed: bytes = b"") -> Metadata:
        info, file = PngImagePlugin.PngInfo(), io.BytesIO()
        for key, value in (text or {}).items():
            info.add_text(key, value)
        if changed:
            info.add(b"tIME", changed)
        Image.new("RGB", (40, 30), "red").save(file, "PNG", pnginfo=info)
        return decode(file.getvalue()).metadata

    edited = bytes([2020 >> 8, 2020 & 255, 1, 2, 3, 4, 5])
    assert known(changed=edited)[2:3] == ("2020-01-02T03:04:05",)
    assert known(changed=edited).taken_from == "modified"
    rfc = {"Creation Time": "Mon, 17 Jul 2006 21:58:50 GMT", "Title": "A  title", "Description": "By the sea"}
    both = known(text=rfc, changed=edited)
    assert (both.taken, both.taken_from, both.title, both.caption) == (
        *("2006-07-17T21:58:50", "png"),
        *("A title", "By the sea"),
    )
    assert known(text={"Creation Time": "2006:07:17 21:58:50"}).taken == "2006-07-17T21:58:50"
    assert known(text={"Creation Time": "200\xd4-04-07"}, changed=bytes(7)).taken is None


def raw_profile(name: str, data: bytes) -> bytes:
    """A PNG with metadata as ImageMagick writes it."""
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    digits = "\n".join(data.hex()[at : at + 72] for at in range(0, 2 * len(data), 72))
    info.add_text(f"Raw profile type {name}", f"\n{name}\n{len(data):8}\n{digits}\n", zip=True)
    Image.new("RGB", (40, 30), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def more_xmp(data: bytes, size: int) -> bytes:
    """A JPEG with XMP in several segments, the last of which comes first."""
    file, segments = io.BytesIO(), []
    for at in range(0, len(data), size):
        part = (
            b"http://ns.adobe.com/xmp/extension/\0"
            + b"0" * 32
            + struct.pack(">II", len(data), at)
            + data[at : at + size]
        )
        segments.insert(0, b"\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part)
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    return file.getvalue()[:2] + b"".join(segments) + file.getvalue()[2:]


DATED = exif(DateTimeOriginal="2015:06:01 12:00:00").tobytes()
TAGGED, TAGGED_XMP = iptc((25, b"dog"))[4 + len(b"Photoshop 3.0\0") :], xmp(f"<dc:subject>{bag('dog')}</dc:subject>")
RED = Image.new("RGB", (40, 30), "red")


@pytest.mark.parametrize(
    ("data", "taken", "keywords"),
    [
        (raw_profile("exif", DATED), "2015-06-01T12:00:00", None),
        (raw_profile("APP1", DATED), "2015-06-01T12:00:00", None),
        (raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + TAGGED_XMP), None, "dog"),
        (raw_profile("xmp", TAGGED_XMP), None, "dog"),
        (raw_profile("iptc", TAGGED), None, "dog"),
        (raw_profile("iptc", b""), None, None),
        (more_xmp(TAGGED_XMP, 100), None, "dog"),
        (more_xmp(TAGGED_XMP + b" " * (1 << 20), 60_000), None, None),
        (psd(RED, DATED[6:], 0x0422), "2015-06-01T12:00:00", None),
        (psd(RED, TAGGED, 0x0404), None, "dog"),
        (jp2(RED, DATED[6:], b"JpgTiffExif->JP2"), "2015-06-01T12:00:00", None),
    ],
)
def test_metadata_that_pillow_does_not_look_for(data: bytes, taken: str | None, keywords: str | None) -> None:
    found = decode(data).metadata
    assert (found.taken, found.keywords) == (taken, keywords)


def test_exif_text_in_other_encodings() -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x010E], exif[0x010F] = "Großmutter\x01".encode(), "Ümlaut".encode()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG", exif=exif)
    found = decode(file.getvalue()).metadata
    assert (found.caption, found.camera) == ("Großmutter", "Ümlaut")
    exif[0x010E] = b"Grandma\x92s"
    Image.new("RGB", (40, 30), "red").save(file := io.BytesIO(), "JPEG", exif=exif)
    assert decode(file.getvalue()).metadata.caption == "Grandma’s"
