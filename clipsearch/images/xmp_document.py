"""Parses the outline of an XMP document, with byte offsets, and edits the document without touching other bytes.

XMP is RDF in XML (ISO 16684-1): an `rdf:RDF` element holds descriptions, which hold properties. The outline goes down
to the properties, and to the items of chosen lists. Documents come from strangers, so every dimension has a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from clipsearch.errors import SidecarUnusable

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDF, _DESCRIPTION, _ITEM = (f"{{{RDF}}}{name}" for name in ("RDF", "Description", "li"))
_CONTAINERS = frozenset(f"{{{RDF}}}{name}" for name in ("Bag", "Seq", "Alt"))

# The worst documents within these limits take 1 s and 70 MB to parse; 110 MB for a single attribute of 16 MB with a
# character beyond U+FFFF. Real sidecars have kilobytes, or a few MB with many masks; the longest known lists,
# Photoshop's broken DocumentAncestors, have 200,000 tags.
MAX_BYTES = 1 << 24
TOO_LONG = f"it is larger than {MAX_BYTES >> 20} MB"
_MAX_TAGS, _MAX_ATTRIBUTES, _MAX_DEPTH = 400_000, 100_000, 500
_MAX_KEPT = 50_000  # elements in the outline
_MAX_TEXT = 1 << 20  # characters in all items together
_MAX_NAME, _MAX_VALUE = 500, 1 << 16  # characters
_CHUNK = 1 << 18  # bytes that the parser gets at once

_START_TAG = re.compile(rb"""<[^"'>]*+(?:"[^"]*+"[^"'>]*+|'[^']*+'[^"'>]*+)*+>""")
_BLANKS = b" \t\r\n"


class Element(NamedTuple):
    """An element of the outline. Names are "{namespace}local"; `prefix` ends in a colon, or is empty.

    The start tag is `document[start:opened]` and the end tag `document[closed:end]`; `<a/>` has no end tag.
    """

    name: str
    prefix: str
    attributes: dict[str, str]
    children: list[Element]
    text: str
    start: int
    opened: int
    closed: int
    end: int

    @property
    def is_empty(self) -> bool:
        """Whether this is `<a/>`."""
        return self.opened == self.end

    @property
    def container(self) -> Element | None:
        """The `rdf:Bag` or similar of a property that is a list."""
        return self.children[0] if len(self.children) == 1 and self.children[0].name in _CONTAINERS else None

    @property
    def items(self) -> list[Element]:
        """The items of a property that is a list."""
        return [child for child in self.container.children if child.name == _ITEM] if self.container else []


def parse(document: bytes, kept: Iterable[str] | Mapping[str, int]) -> tuple[Element, list[Element]]:
    """The RDF element of a document and its descriptions.

    Keeps the items of the properties named in `kept`, or below each as many levels of elements as it says. Keeps the
    texts of items and of what is named.

    Raises `SidecarUnusable` if the document is not XMP, not UTF-8 or beyond the limits.
    """
    check_size(document)
    if document.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in document[:4]:
        raise SidecarUnusable("it is in UTF-16, not in UTF-8")
    root = _Parser(document, kept if isinstance(kept, Mapping) else dict.fromkeys(kept, 2)).root()
    rdf = next((one for one in (root, *root.children) if one.name == _RDF), None)
    if rdf is None:
        raise SidecarUnusable("it is not XMP")
    return rdf, [child for child in rdf.children if child.name == _DESCRIPTION]


def check_size(document: bytes) -> None:
    """Raise `SidecarUnusable` if a document would take too long or too much memory to parse."""
    if len(document) > MAX_BYTES:
        raise SidecarUnusable(TOO_LONG)
    if document.count(b"<") > _MAX_TAGS:
        raise SidecarUnusable(f"it has more than {_MAX_TAGS:,} tags")
    if document.count(b"=") > _MAX_ATTRIBUTES:  # every attribute has one, and hardly anything else
        raise SidecarUnusable(f"it has more than {_MAX_ATTRIBUTES:,} attributes")


# ------------------------------------------------------------------------------------------ edits


class Edit(NamedTuple):
    """Replaces `document[start:end]` with `text`."""

    start: int
    end: int
    text: bytes


def edited(document: bytes, edits: Iterable[Edit]) -> bytes:
    """Apply edits that do not overlap."""
    parts, at = [], 0
    for edit in sorted(edits):
        parts += [document[at : edit.start], edit.text]
        at = edit.end
    return b"".join([*parts, document[at:]])


def append(document: bytes, parent: Element, lines: Iterable[str]) -> Edit:
    """Insert lines after the children of an element, with their indentation.

    An empty element (`<a/>`) gets an end tag with a blank in it (`</a >`), by which `cut` recognises it.
    """
    last = parent.children[-1] if parent.children else None
    blanks = _blanks_before(document, last or parent)
    if b"\n" not in blanks:
        text = b"".join(line.lstrip().encode() for line in lines)
    else:
        indent = blanks if last else blanks + b" "
        text = b"".join(indent + line.encode() for line in lines)
    if parent.is_empty:
        name = f"{parent.prefix}{parent.name.partition('}')[2]}"
        return Edit(parent.opened - 2, parent.end, b">%b</%b >" % (text, name.encode()))
    at = last.end if last else parent.opened
    return Edit(at, at, text)


def cut(document: bytes, parent: Element, children: Sequence[Element]) -> list[Edit]:
    """Remove children and the blanks before each: the reverse of `append`."""
    edits = [Edit(one.start - len(_blanks_before(document, one)), one.end, b"") for one in children]
    nothing_left = sum(edit.end - edit.start for edit in edits) == parent.closed - parent.opened
    if edits and nothing_left and document[parent.closed : parent.end].endswith(b" >"):
        return [Edit(parent.opened - 1, parent.end, b"/>")]
    return edits


def _blanks_before(document: bytes, element: Element) -> bytes:
    before = document.rfind(b">", 0, element.start) + 1
    return document[before + len(document[before : element.start].rstrip(_BLANKS)) : element.start]


# ------------------------------------------------------------------------------------------ parser


class _Open(NamedTuple):
    """An element before its end tag: the namespaces that it declares, and how many levels below it are kept."""

    raw: str
    name: str
    attributes: dict[str, str]
    declared: dict[str, str]
    children: list[Element]
    text: list[str]
    start: int
    levels: int


class _Parser:
    """Builds the outline from expat's events; what is not kept is only counted.

    Namespaces are resolved here: expat copies a namespace's name for each attribute in it, which can turn 16 MB into
    terabytes.
    """

    def __init__(self, document: bytes, kept: Mapping[str, int]) -> None:
        from xml.parsers import expat

        self._document = document
        # Levels below an element: descriptions and properties; the container of a list and its items.
        self._levels = {_RDF: 2, **kept}
        self._with_text = {_ITEM, *kept}
        self._opened = [_Open("", "", {}, {"xml": "xml"}, [], [], 0, 2)]
        self._ignored = 0  # depth inside an element that is not kept
        self._kept = self._characters = 0
        self._parser: Any = expat.ParserCreate(intern=None)  # interned names are never freed
        self._parser.buffer_text = True
        self._parser.XmlDeclHandler, self._parser.StartDoctypeDeclHandler = self._declaration, self._doctype
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        self._parser.CharacterDataHandler = self._text

    def root(self) -> Element:
        from xml.parsers import expat

        try:
            with memoryview(self._document) as document:
                # In chunks: an error raised by a handler stops the parser only at the end of one. Chunks grow inside a
                # long token: older versions of expat parse it from its start each time.
                start, length, before = 0, _CHUNK, -1
                while start < len(document):
                    self._parser.Parse(document[start : start + length], False)
                    start += length
                    at = self._parser.CurrentByteIndex
                    length, before = _CHUNK if at > before else 2 * length, at
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise SidecarUnusable(f"it is not well-formed XML: {error}") from None
        return self._opened[0].children[0]

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding and encoding.lower() != "utf-8":
            raise SidecarUnusable(f"it is in {encoding[:40]}, not in UTF-8")

    def _doctype(self, *parts: object) -> None:
        # Entities could expand a short document without bound.
        raise SidecarUnusable("it has a document type, which XMP does not allow")

    def _start(self, raw: str, attributes: dict[str, str]) -> None:
        parent = self._opened[-1]
        if len(self._opened) + self._ignored > _MAX_DEPTH:
            raise SidecarUnusable(f"its elements are nested more than {_MAX_DEPTH:,} deep")
        if self._ignored or not parent.levels:
            self._ignored += 1
            return
        self._kept += 1
        if self._kept > _MAX_KEPT:
            raise SidecarUnusable(f"it has more than {_MAX_KEPT:,} properties and keywords")
        declared, named = {}, {}
        for key, value in attributes.items():
            prefix, _, local = key.partition(":")
            if prefix == "xmlns":
                declared[local] = value
            else:
                named[key] = value[:_MAX_VALUE]
        name = self._resolved(raw, declared)
        # An attribute without a prefix is in no namespace.
        named = {self._resolved(key, declared) if ":" in key else key: value for key, value in named.items()}
        levels = self._levels.get(name, parent.levels - 1)
        self._opened.append(_Open(raw, name, named, declared, [], [], self._parser.CurrentByteIndex, levels))

    def _resolved(self, raw: str, declared: Mapping[str, str]) -> str:
        prefix, _, local = raw.rpartition(":")
        outer = (one.declared for one in reversed(self._opened))
        namespace = next((uris[prefix] for uris in (declared, *outer) if prefix in uris), "")
        if prefix and not namespace:
            raise SidecarUnusable(f"its XML uses an undeclared namespace prefix: {prefix[:40]}")
        if len(namespace) + len(local) > _MAX_NAME:
            raise SidecarUnusable("it has a very long name")
        return f"{{{namespace}}}{local}" if namespace else local

    def _text(self, text: str) -> None:
        if self._ignored or self._opened[-1].name not in self._with_text:
            return
        self._characters += len(text)
        if self._characters > _MAX_TEXT:
            raise SidecarUnusable(f"its keywords have more than {_MAX_TEXT:,} characters")
        self._opened[-1].text.append(text)

    def _end(self, _: str) -> None:
        if self._ignored:
            self._ignored -= 1
            return
        of = self._opened.pop()
        tag = _START_TAG.match(self._document, of.start)
        assert tag  # the document is well-formed up to here
        opened = closed = end = tag.end()
        if self._document[opened - 2 : opened] != b"/>":
            closed = self._parser.CurrentByteIndex
            end = self._document.index(b">", closed) + 1
        prefix = of.raw[: of.raw.find(":") + 1]
        element = Element(of.name, prefix, of.attributes, of.children, "".join(of.text), of.start, opened, closed, end)
        self._opened[-1].children.append(element)
