"""Reads the facts in XMP: date, place, people, keywords, rating, label, title and caption.

Programs write a property as an attribute, as an element, or as a list, at any depth; all three are read alike. Only
expat's events are used, in one pass, with the limits of `xmp_document` and without entities.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from clipsearch.errors import SidecarUnusable
from clipsearch.images.dates import xmp_time
from clipsearch.images.facts import Facts, lines, position
from clipsearch.images.metadata import rating_of, rating_of_percent
from clipsearch.images.regions import Region, clipped
from clipsearch.images.xmp_document import RDF, check_size

_DC = "http://purl.org/dc/elements/1.1/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_IPTC, _IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_ACDSEE, _MEDIA_PRO = "http://ns.acdsee.com/iptc/1.0/", "http://ns.iview-multimedia.com/mediapro/1.0/"
_LISTS = {  # the separator of hierarchies in each list of keywords
    f"{_DC}subject": None,
    "http://ns.adobe.com/lightroom/1.0/hierarchicalSubject": "|",
    "http://www.digikam.org/ns/1.0/TagsList": "/",
    "http://ns.microsoft.com/photo/1.0/LastKeywordXMP": "/",
    "http://ns.microsoft.com/photo/1.0LastKeywordXMP": "/",
    "http://www.metadataworkinggroup.com/schemas/keywords/Keyword": None,
    f"{_MEDIA_PRO}CatalogSets": "|",
    f"{_ACDSEE}keywords": None,
}
_CATEGORIES = f"{_ACDSEE}categories"  # XML in a text
_CATEGORY = re.compile(r'<Category Assigned="(\d)">([^<]*)|</Category>')
_MWG = "http://www.metadataworkinggroup.com/schemas/regions/"  # Picasa, Lightroom, digiKam
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_SAME = {"http://ns.acdsee.com/regions/": _MWG, "http://ns.acdsee.com/sType/Area#": _AREA}
_SIZE = tuple(f"http://ns.adobe.com/xap/1.0/sType/Dimensions#{side}" for side in "wh")
_MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#"  # Windows, digiKam
_REGION_LISTS = (f"{_MWG}RegionList", "http://ns.microsoft.com/photo/1.2/t/RegionInfo#Regions")
_NAME, _TYPE, _UNIT = f"{_MWG}Name", f"{_MWG}Type", f"{_AREA}unit"
_CENTRE = tuple(f"{_AREA}{part}" for part in ("x", "y", "w", "h"))
_DISPLAY_NAME, _RECTANGLE = f"{_MICROSOFT}PersonDisplayName", f"{_MICROSOFT}Rectangle"
_OF_REGION = frozenset((_NAME, _TYPE, _UNIT, *_CENTRE, _DISPLAY_NAME, _RECTANGLE))
_PEOPLE = (
    _NAME,
    _DISPLAY_NAME,
    f"{_IPTC_EXTENSION}PersonInImage",
    f"{_IPTC_EXTENSION}PersonName",
    f"{_MEDIA_PRO}People",
)
_THINGS = ("BarCode", "Focus")  # types of regions
_SHOT = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated")
_MADE = (f"{_EXIF}DateTimeDigitized", f"{_XMP}CreateDate")  # a program may write when it made the file
_LATITUDE, _LONGITUDE = f"{_EXIF}GPSLatitude", f"{_EXIF}GPSLongitude"
_SIDES = (f"{_LATITUDE}Ref", f"{_LONGITUDE}Ref")
_LOCATION = tuple(  # each part has two names
    (name, f"{_IPTC_EXTENSION}{part}")
    for name, part in (
        (f"{_IPTC}Location", "Sublocation"),
        (f"{_PHOTOSHOP}City", "City"),
        (f"{_PHOTOSHOP}State", "ProvinceState"),
        (f"{_PHOTOSHOP}Country", "CountryName"),
    )
)
_RATING, _PERCENT = (f"{_XMP}Rating", f"{_ACDSEE}rating"), "http://ns.microsoft.com/photo/1.0/Rating"
_LABEL = f"{_XMP}Label"
_NUMBERED_LABELS = {  # the names of the numbers; digiKam's 0 is no label
    "http://www.digikam.org/ns/1.0/ColorLabel": (
        *("", "Red", "Orange", "Yellow", "Green", "Blue", "Magenta", "Gray", "Black", "White"),
    ),
    "http://darktable.sf.net/colorlabels": ("Red", "Yellow", "Green", "Blue", "Purple"),
}
_TITLE = (f"{_DC}title", f"{_PHOTOSHOP}Headline", f"{_ACDSEE}caption")
_CAPTION = (f"{_DC}description", "http://ns.adobe.com/tiff/1.0/ImageDescription", f"{_ACDSEE}notes")
_WANTED = frozenset(
    (
        *(*_LISTS, *_PEOPLE, *_SHOT, *_MADE, _LATITUDE, _LONGITUDE, *_SIDES),
        *(name for names in _LOCATION for name in names),
        *(*_RATING, _PERCENT, _CATEGORIES, _LABEL, *_NUMBERED_LABELS, *_TITLE, *_CAPTION, *_SIZE),
    )
)

_ITEMS = (f"{RDF}li", f"{RDF}value")  # of a list, or the value of one that says more about it
_END = b"</x:xmpmeta>"
_LONGEST_NAMESPACE = 200  # characters; the wanted ones are shorter
_MAX_DEPTH, _MAX_VALUES = 500, 50_000
_MAX_TEXT = 1 << 20  # characters of all values together; of all keywords, with the paths of their hierarchies
_MAX_REGIONS = 500
_NUMBER, _BETWEEN = r"(\d{1,3}(?:\.\d+)?)", r"(?:[,\s°'\"]|deg)+"
_DEGREES = re.compile(rf"(-?){_NUMBER}(?:{_BETWEEN}{_NUMBER})?(?:{_BETWEEN}{_NUMBER})?(?:{_BETWEEN})?([NSEWnsew]?)")


def facts_of(document: bytes, *, is_sidecar: bool = False) -> Facts:
    """Read a packet or a sidecar, in UTF-8 or UTF-16. Raises `SidecarUnusable` if it is not XMP."""
    reader = _Reader(_in_utf8(document).rstrip(b"\0"))
    values = reader.values

    def first(*names: str) -> str | None:
        return next((text for name in names for text in values.get(name, ())), None)

    latitude = _degrees(values.get(_LATITUDE, ()), first(_SIDES[0]), "S", 90)
    longitude = _degrees(values.get(_LONGITUDE, ()), first(_SIDES[1]), "W", 180)
    latitude, longitude = position(latitude, longitude)
    taken, taken_from = _taken(values, is_sidecar=is_sidecar)
    things = {parts.get(_NAME) for parts in reader.regions if parts.get(_TYPE) in _THINGS}
    return Facts(
        taken,
        taken_from,
        latitude,
        longitude,
        ", ".join(text for names in _LOCATION if (text := first(*names))) or None,
        lines(_limited(_keywords(values))),
        lines(name for kind in _PEOPLE for name in values.get(kind, ()) if name not in things),
        rating_of(first(*_RATING)) or rating_of_percent(first(_PERCENT)),
        first(_LABEL) or next(_numbered_labels(values), None),
        first(*_TITLE),
        first(*_CAPTION),
        lines(region.as_line() for region in _regions(reader)),
    )


def face_regions(document: bytes) -> list[Region]:
    """The named face regions of a packet or a sidecar. Raises `SidecarUnusable` if it is not XMP."""
    return list(_regions(_Reader(_in_utf8(document).rstrip(b"\0"))))


def _regions(reader: _Reader) -> Iterator[Region]:
    """The named faces. Regions of other types are pets, barcodes and the camera's focus."""
    size = [round(number) for name in _SIZE for number in _numbers(reader.values.get(name, ())[:1])]
    for parts in reader.regions[:_MAX_REGIONS]:
        name = parts.get(_NAME) or parts.get(_DISPLAY_NAME)
        if not name or parts.get(_TYPE, "Face") != "Face" or parts.get(_UNIT, "normalized") != "normalized":
            continue
        if _RECTANGLE in parts:  # left, top, width, height
            numbers = _numbers(parts[_RECTANGLE].split(","))
        else:
            numbers = _numbers(parts.get(of, "") for of in _CENTRE)
            if len(numbers) == 4:
                numbers[:2] = numbers[0] - numbers[2] / 2, numbers[1] - numbers[3] / 2
        box = clipped(*numbers) if len(numbers) == 4 else None
        if box is not None:
            yield Region(name, box, *(size if len(size) == 2 else ()))


def _numbers(texts: Iterable[str]) -> list[float]:
    """The finite numbers among texts."""
    out = []
    for text in texts:
        with contextlib.suppress(ValueError):
            out.append(float(text))
    return [number for number in out if math.isfinite(number)]


def packet_in(data: bytes) -> bytes:
    """The first packet in a file of any format; empty if there is none."""
    start = data.find(b"<x:xmpmeta")
    end = data.find(_END, start)
    return data[start : end + len(_END)] if 0 <= start < end else b""


def _taken(values: Mapping[str, list[str]], *, is_sidecar: bool) -> tuple[str | None, str | None]:
    for names, source in ((_SHOT, "sidecar" if is_sidecar else "xmp"), (_MADE, "xmp")):
        for name in names:
            for text in values.get(name, ()):
                if moment := xmp_time(text):
                    return moment, source
    return None, None


def _keywords(values: Mapping[str, list[str]]) -> Iterator[str]:
    """Each part of a hierarchy and each path from its top, "Animals|Dog", is a keyword.

    Those that darktable gives to every photo, such as "darktable|format|cr2", are not.
    """
    paths = [
        (text,) if separator is None else tuple(part for part in map(str.strip, text.split(separator)) if part)
        for name, separator in _LISTS.items()
        for text in values.get(name, ())
    ]
    paths += (path for text in values.get(_CATEGORIES, ()) for path in _categories(text))
    automatic = {path for path in paths if "|".join(path).startswith("darktable|")}
    automatic |= {(part,) for path in automatic for part in path}
    for path in paths:
        if path not in automatic:
            yield from path
            yield from ("|".join(path[:depth]) for depth in range(2, len(path) + 1))


def _categories(text: str) -> Iterator[tuple[str, ...]]:
    """The assigned ones of ACDSee's nested categories."""
    path: list[str] = []
    for match in _CATEGORY.finditer(text):
        if match[1] is None:
            path = path[:-1]
        else:
            path.append(match[2].strip())
        if match[1] == "1" and all(path):
            yield tuple(path)


def _limited(texts: Iterable[str]) -> Iterator[str]:
    """Texts up to a total length. Raises `SidecarUnusable` beyond: the paths of a deep hierarchy grow quadratically."""
    length = 0
    for text in texts:
        length += len(text)
        if length > _MAX_TEXT:
            raise SidecarUnusable(f"its keywords have more than {_MAX_TEXT:,} characters")
        yield text


def _numbered_labels(values: Mapping[str, list[str]]) -> Iterator[str]:
    for name, labels in _NUMBERED_LABELS.items():
        for text in values.get(name, ()):
            number = int(text) if re.fullmatch("[0-9]", text) else 0
            if number < len(labels) and labels[number]:
                yield labels[number]


def _degrees(texts: Iterable[str], side: str | None, negative: str, limit: int) -> float | None:
    """`48,51.4980N` or `48,51,30N`, as the standard has it; `48.8583` or `48° 51' 30" N`, as programs write it too."""
    for text in texts:
        match = _DEGREES.fullmatch(text)
        if match and (match[5] or side or not match[3]):
            degrees = float(match[2]) + float(match[3] or 0) / 60 + float(match[4] or 0) / 3600
            is_negative = bool(match[1]) or (match[5] or side or "").upper().startswith(negative)
            if degrees <= limit:
                return round(-degrees if is_negative else degrees, 7) + 0.0
    return None


def _in_utf8(document: bytes) -> bytes:
    if document.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return document[: len(document) // 2 * 2].decode("utf-16").encode()
        except UnicodeDecodeError:
            raise SidecarUnusable("its UTF-16 is damaged") from None
    return document


class _Open(NamedTuple):
    """An element before its end tag: its name, the property that it or an item in it belongs to, its namespaces."""

    name: str
    of: str
    declared: dict[str, str]


class _Reader:
    """Collects the texts of the wanted properties, at any depth."""

    def __init__(self, document: bytes) -> None:
        from xml.parsers import expat

        check_size(document)
        self.values: dict[str, list[str]] = {}
        self.regions: list[dict[str, str]] = []  # the parts of each, by name
        self._region: dict[str, str] = {}
        self._opened = [_Open("", "", {})]
        self._namespaces: dict[str, list[str]] = {"xml": ["xml"]}  # by prefix, the innermost last
        self._text: list[str] = []
        self._is_default = False  # whether this is the default among several languages
        self._count = self._length = 0
        self._has_rdf = False
        parser: Any = expat.ParserCreate("utf-8", intern=None)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise SidecarUnusable(f"it is not well-formed XML: {error}") from None
        if not self._has_rdf:
            raise SidecarUnusable("it is not XMP")

    def _doctype(self, *_: object) -> None:
        raise SidecarUnusable("it has a document type, which XMP does not allow")

    def _start(self, raw: str, attributes: dict[str, str]) -> None:
        if len(self._opened) > _MAX_DEPTH:
            raise SidecarUnusable(f"its elements are nested more than {_MAX_DEPTH} deep")
        declared = {key[6:]: value for key, value in attributes.items() if key == "xmlns" or key.startswith("xmlns:")}
        for prefix, namespace in declared.items():
            self._namespaces.setdefault(prefix, []).append(namespace)
        name = self._resolved(raw)
        self._has_rdf = self._has_rdf or name == f"{RDF}RDF"
        self._opened.append(_Open(name, self._opened[-1].of if name.startswith(RDF) else name, declared))
        self._text.clear()
        self._is_default = attributes.get("xml:lang") == "x-default"
        for key, value in attributes.items():
            if ":" in key and not key.startswith("xmlns"):
                self._keep(self._resolved(key), value)

    def _resolved(self, raw: str) -> str:
        prefix, _, local = raw.rpartition(":")
        namespace = (self._namespaces.get(prefix) or [""])[-1]
        namespace = _SAME.get(namespace, namespace)
        return namespace + local if len(namespace) < _LONGEST_NAMESPACE else ""

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end(self, _: str) -> None:
        name, of, declared = self._opened.pop()
        for prefix in declared:
            self._namespaces[prefix].pop()
        if name in _ITEMS:
            self._keep(of, "".join(self._text))
            if of in _REGION_LISTS and name == _ITEMS[0]:
                self.regions.append(self._region)
                self._region = {}
        else:
            self._keep(name, "".join(self._text))
        self._text.clear()

    def _keep(self, name: str, text: str) -> None:
        text = " ".join(text.split())
        if name in _OF_REGION and text:
            self._region.setdefault(name, text)
        if name not in _WANTED or not text:
            return
        self._count += 1
        self._length += len(text)
        if self._count > _MAX_VALUES:
            raise SidecarUnusable(f"it has more than {_MAX_VALUES:,} properties and keywords")
        if self._length > _MAX_TEXT:
            raise SidecarUnusable(f"its properties and keywords have more than {_MAX_TEXT:,} characters")
        kept = self.values.setdefault(name, [])
        kept.insert(0 if self._is_default else len(kept), text)
