"""What XMP, IPTC and Windows say of a photo, in every form that programs write."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from clipsearch.errors import SidecarUnusable
from clipsearch.images.decode import decode
from clipsearch.images.xmp_facts import Facts, facts_of

SPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"'
    ' xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#" xmlns:MP="http://ns.microsoft.com/photo/1.2/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
)
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def xmp(properties: str = "", attributes: str = "") -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {SPACES}'
        f" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def bag(*items: str) -> str:
    return f"<rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag>"


PLACE = 'exif:GPSLatitude="48,51.4980N" exif:GPSLongitude="2,17.7000E"'
REGIONS = (
    '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">'
    "<mwg-rs:Name>Grandma</mwg-rs:Name></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
)


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        (xmp(attributes='exif:DateTimeOriginal="1998-07-14T10:00:00"'), Facts(taken="1998-07-14T10:00:00")),
        (xmp("<xmp:CreateDate>1998-07-14T10:00:00+02:00</xmp:CreateDate>"), Facts(taken="1998-07-14T10:00:00")),
        (
            xmp(attributes='xmp:CreateDate="2020-01-01" photoshop:DateCreated="1998-07-14"'),
            Facts(taken="1998-07-14T00:00:00"),
        ),
        (
            xmp(attributes='exif:DateTimeOriginal="0000-00-00" photoshop:DateCreated="1998"'),
            Facts(taken="1998-01-01T00:00:00"),
        ),
        (xmp(attributes=PLACE), Facts(latitude=48.8583, longitude=2.295)),
        (xmp(attributes='exif:GPSLatitude="48,51,30S" exif:GPSLongitude="2,17,42W"'), Facts(None, -48.8583333, -2.295)),
        (xmp(attributes='exif:GPSLatitude="0,0.0N" exif:GPSLongitude="0,0.0E"'), Facts()),
        (xmp(attributes='exif:GPSLatitude="48,51.4980N"'), Facts()),
        (xmp(f"<dc:subject>{bag('dog', ' a  beach ', 'dog', '')}</dc:subject>"), Facts(keywords=("dog", "a beach"))),
        (
            xmp(f"<lr:hierarchicalSubject>{bag('Animals|Dog')}</lr:hierarchicalSubject>"),
            Facts(keywords=("Animals", "Dog")),
        ),
        (
            xmp(f"<MicrosoftPhoto:LastKeywordXMP>{bag('a/b')}</MicrosoftPhoto:LastKeywordXMP>"),
            Facts(keywords=("a", "b")),
        ),
        (xmp(REGIONS), Facts(people=("Grandma",))),
        (
            xmp(f"<Iptc4xmpExt:PersonInImage>{bag('Ann', 'Bob')}</Iptc4xmpExt:PersonInImage>"),
            Facts(people=("Ann", "Bob")),
        ),
        (
            xmp('<MP:Regions><rdf:Bag><rdf:li MPReg:PersonDisplayName="Grandma"/></rdf:Bag></MP:Regions>'),
            Facts(people=("Grandma",)),
        ),
        (xmp(), Facts()),
    ],
)
def test_what_xmp_says(document: bytes, facts: Facts) -> None:
    assert facts_of(document) == facts
    assert facts_of(document + b"\0\0") == facts
    assert facts_of(document.decode().encode("utf-16")) == facts


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


def test_keywords_of_windows() -> None:
    words = "Grandma;  a beach;;".encode("utf-16-le") + b"\0\0"
    assert taken_and_place(base={int(ExifTags.Base.XPKeywords): words})[2] == "Grandma\na beach"
    assert taken_and_place(base={int(ExifTags.Base.XPKeywords): b"\xd8"})[2] is None
