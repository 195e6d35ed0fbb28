"""Reads what XMP says of a photo: when and where it was taken, who is on it, and its keywords.

Programs write a property as an attribute, as an element, or as a list, at any depth; all three are read alike. Only
expat's events are used, in one pass, with the limits of `xmp_document` and without entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from clipsearch.errors import SidecarUnusable
from clipsearch.images.dates import first, xmp_time
from clipsearch.images.xmp_document import RDF, check_size

_DC = "http://purl.org/dc/elements/1.1/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_LISTS = {  # the separator of hierarchies in each list of keywords
    f"{_DC}subject": None,
    "http://ns.adobe.com/lightroom/1.0/hierarchicalSubject": "|",
    "http://www.digikam.org/ns/1.0/TagsList": "/",
    "http://ns.microsoft.com/photo/1.0/LastKeywordXMP": "/",
    "http://ns.microsoft.com/photo/1.0LastKeywordXMP": "/",
}
_PEOPLE = (
    "http://www.metadataworkinggroup.com/schemas/regions/Name",  # Picasa, Lightroom, digiKam: of a face region
    "http://ns.microsoft.com/photo/1.2/t/Region#PersonDisplayName",  # Windows
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/PersonInImage",
)
_TAKEN = (
    f"{_EXIF}DateTimeOriginal",
    "http://ns.adobe.com/photoshop/1.0/DateCreated",
    f"{_EXIF}DateTimeDigitized",
    "http://ns.adobe.com/xap/1.0/CreateDate",
)
_LATITUDE, _LONGITUDE = f"{_EXIF}GPSLatitude", f"{_EXIF}GPSLongitude"
_WANTED = frozenset([*_LISTS, *_PEOPLE, *_TAKEN, _LATITUDE, _LONGITUDE])

_LONGEST_NAMESPACE = 200  # characters; longer ones are none of the wanted
_MAX_DEPTH, _MAX_VALUES, _MAX_TEXT = 500, 50_000, 1 << 20
_DEGREES = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])$")


class Facts(NamedTuple):
    """What XMP says; `taken` as ISO 8601 in the camera's local time."""

    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    keywords: tuple[str, ...] = ()
    people: tuple[str, ...] = ()


def facts_of(document: bytes) -> Facts:
    """Read a packet or a sidecar, in UTF-8 or UTF-16. Raises `SidecarUnusable` if it is not XMP."""
    values = _Reader(_in_utf8(document).rstrip(b"\0")).values
    taken, _ = first((name, xmp_time(text)) for name in _TAKEN for text in values.get(name, ()))
    latitude = _degrees(values.get(_LATITUDE, ()), "S", 90)
    longitude = _degrees(values.get(_LONGITUDE, ()), "W", 180)
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        latitude = longitude = None
    keywords = [
        part.strip()
        for name, separator in _LISTS.items()
        for text in values.get(name, ())
        for part in ([text] if separator is None else text.split(separator))
    ]
    people = [name for kind in _PEOPLE for name in values.get(kind, ())]
    return Facts(taken, latitude, longitude, _distinct(keywords), _distinct(people))


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in dict.fromkeys(texts) if text)


def _degrees(texts: Iterable[str], negative: str, limit: int) -> float | None:
    """`48,51.4980N` or `48,51,30N`."""
    for text in texts:
        match = _DEGREES.match(text)
        if match:
            degrees = int(match[1]) + float(match[2]) / 60 + float(match[3] or 0) / 3600
            if degrees <= limit:
                return round(-degrees if match[4] == negative else degrees, 7) + 0.0
    return None


def _in_utf8(document: bytes) -> bytes:
    if document.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return document[: len(document) // 2 * 2].decode("utf-16").encode()
        except UnicodeDecodeError:
            raise SidecarUnusable("its UTF-16 is damaged") from None
    return document


class _Reader:
    """Collects the texts of the wanted properties, wherever they are."""

    def __init__(self, document: bytes) -> None:
        from xml.parsers import expat

        check_size(document)
        self.values: dict[str, list[str]] = {}
        self._names: list[str] = []  # of the open elements
        self._namespaces: list[dict[str, str]] = [{"xml": "xml"}]
        self._text: list[str] = []
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
        if len(self._names) > _MAX_DEPTH:
            raise SidecarUnusable(f"its elements are nested more than {_MAX_DEPTH} deep")
        declared = {key[6:]: value for key, value in attributes.items() if key.startswith("xmlns:")}
        self._namespaces.append(declared)
        name = self._resolved(raw)
        self._has_rdf = self._has_rdf or name == f"{RDF}RDF"
        self._names.append(name)
        self._text.clear()
        for key, value in attributes.items():
            if ":" in key and not key.startswith("xmlns"):
                self._keep(self._resolved(key), value)

    def _resolved(self, raw: str) -> str:
        prefix, _, local = raw.rpartition(":")
        namespace = next((uris[prefix] for uris in reversed(self._namespaces) if prefix in uris), "")
        return namespace + local if len(namespace) < _LONGEST_NAMESPACE else ""

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length <= _MAX_TEXT * 16:
            self._text.append(text)

    def _end(self, _: str) -> None:
        name = self._names.pop()
        self._namespaces.pop()
        if name == f"{RDF}li":
            self._keep(self._list_of(), "".join(self._text))
        else:
            self._keep(name, "".join(self._text))
        self._text.clear()

    def _list_of(self) -> str:
        """The property whose list an item is in: the nearest element that is not RDF's."""
        return next((name for name in reversed(self._names) if not name.startswith(RDF)), "")

    def _keep(self, name: str, text: str) -> None:
        text = " ".join(text.split())
        if name not in _WANTED or not text:
            return
        self._count += 1
        if self._count > _MAX_VALUES or len(text) > _MAX_TEXT:
            raise SidecarUnusable(f"it has more than {_MAX_VALUES:,} properties and keywords")
        self.values.setdefault(name, []).append(text)
