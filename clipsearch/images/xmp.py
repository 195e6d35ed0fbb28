"""Keywords in XMP, the metadata that photo programs keep in photos and in sidecar files beside them.

XMP is RDF in XML (ISO 16684-1). Keywords are the items of three lists: `dc:subject`, which all programs read, and the
trees of Lightroom ("Animals|Dog") and of digiKam ("Animals/Dog"). What is added here stands a second time in lists of
our own namespace, so that it can be told apart from what others wrote and taken away again. A document is never
written anew: text is put into it or cut out of it, and every other byte stays.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest, SidecarUnusable

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_OURS = "https://pypi.org/project/clipsearch/ns/1.0/"
_DESCRIPTION, _ABOUT, _ITEM = (f"{{{_RDF}}}{name}" for name in ("Description", "about", "li"))
_CONTAINERS = frozenset(f"{{{_RDF}}}{name}" for name in ("Bag", "Seq", "Alt"))
_EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="clipsearch">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>
""".encode()

_START_TAG = re.compile(rb"""<[^"'>]*+(?:"[^"]*+"[^"'>]*+|'[^']*+'[^"'>]*+)*+>""")
_NOT_IN_XML = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BLANKS = b" \t\r\n"
_IPTC_KEYWORDS = (2, 25)

# Limits of a document. The worst ones within them take 1 s and 70 MB to parse; 110 MB for one attribute of 16 MB with a
# character beyond U+FFFF. Real sidecars are far smaller: kilobytes, a few MB with many masks; the longest known lists,
# Photoshop's broken DocumentAncestors, have 200,000 tags.
LONGEST = 1 << 24  # bytes
TOO_LONG = f"it is larger than {LONGEST >> 20} MB"
_MOST_TAGS, _MOST_ATTRIBUTES = 400_000, 100_000
_DEEPEST = 500
_MOST_KEPT = 50_000  # elements that are kept: properties, and items of lists of keywords
_MOST_TEXT = 1 << 20  # characters of all keywords together
_LONGEST_NAME, _LONGEST_VALUE = 500, 1 << 16  # characters
_PART = 1 << 18  # bytes that the parser gets at once


class _Property(NamedTuple):
    """A property of XMP: its namespace, the usual prefix, its local name."""

    namespace: str
    prefix: str
    local: str

    @property
    def name(self) -> str:
        return f"{{{self.namespace}}}{self.local}"


class _List(NamedTuple):
    """A list of keywords, the list of those in it that are ours, and what is between the parts of a path in it."""

    of_all: _Property
    of_ours: _Property
    separator: str | None

    def spelled(self, paths: Iterable[tuple[str, ...]], *, is_used: bool) -> list[str]:
        """Paths as this list has them. One that nobody else uses gets only what Lightroom needs it for."""
        if self.separator is None:
            return [part for path in paths for part in path]
        return [self.separator.join(path) for path in paths if is_used or (self.separator == "|" and len(path) > 1)]


def _list(namespace: str, prefix: str, local: str, ours: str, separator: str | None) -> _List:
    return _List(_Property(namespace, prefix, local), _Property(_OURS, "clipsearch", ours), separator)


_LISTS = (
    _list("http://purl.org/dc/elements/1.1/", "dc", "subject", "keywords", None),
    _list("http://ns.adobe.com/lightroom/1.0/", "lr", "hierarchicalSubject", "hierarchicalSubject", "|"),
    _list("http://www.digikam.org/ns/1.0/", "digiKam", "TagsList", "TagsList", "/"),
)
_MARKS = frozenset(kind.of_ours.name for kind in _LISTS)
# How many levels below an element are kept: descriptions and their properties, the container of a list and its items.
_LEVELS = {f"{{{_RDF}}}RDF": 2, **dict.fromkeys((of.name for kind in _LISTS for of in kind[:2]), 2)}


# ------------------------------------------------------------------------------------------ reading


def keywords(document: bytes) -> tuple[str, ...]:
    """The keywords of an XMP document or packet, each once. Raises `SidecarUnusable`.

    The parts of a path ("Animals|Dog") are keywords of their own.
    """
    return _found(document, {kind.of_all: kind.separator for kind in _LISTS})


def our_keywords(document: bytes) -> tuple[str, ...]:
    """The same, of what `with_keywords` added alone. Raises `SidecarUnusable`."""
    return _found(document, {kind.of_ours: kind.separator for kind in _LISTS})


def _found(document: bytes, lists: Mapping[_Property, str | None]) -> tuple[str, ...]:
    """The keywords in lists, given with what is between the parts of a path in each."""
    descriptions = _descriptions(_rdf(document.rstrip(b"\0")))
    found = {}
    for of, separator in lists.items():
        for text in _texts(descriptions, of):
            parts = [text] if separator is None else text.split(separator)
            found.update(dict.fromkeys(map(_one_line, parts)))
    found.pop("", None)
    return tuple(found)


def iptc_keywords(block: Mapping[tuple[int, int], bytes | list[bytes]] | None) -> tuple[str, ...]:
    """The keywords of an IPTC-IIM block, in UTF-8 or else Latin-1, as Pillow's `getiptcinfo` gives it."""
    values = (block or {}).get(_IPTC_KEYWORDS, [])
    found = dict.fromkeys(_decoded(value) for value in ([values] if isinstance(values, bytes) else values))
    found.pop("", None)
    return tuple(found)


def _decoded(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return _one_line(text.replace("\0", " "))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------ writing


def path_of(label: str) -> tuple[str, ...]:
    """The keywords that a label stands for: "animal|dog" is "animal" and "dog". Raises `BadRequest` if it is none."""
    path = tuple(part for part in map(_one_line, label.split("|")) if part)
    if not path or _NOT_IN_XML.search("".join(path)):
        raise BadRequest(f"{label!r} cannot be a keyword in XMP")
    return path


def with_keywords(document: bytes | None, add: Sequence[str]) -> bytes:
    """A document (None: a new one) with labels added to its keywords and marked as ours. Those it has stay as they are.

    "animal|dog" adds "animal", "dog" and Lightroom's "animal|dog". Raises `BadRequest` for a label that cannot be a
    keyword, and `SidecarUnusable` for a document that cannot be extended.
    """
    document = _EMPTY if document is None else document
    paths = [path_of(label) for label in add]
    rdf = _rdf(document)
    descriptions = _descriptions(rdf)
    edits: list[_Edit] = []
    made: list[tuple[_Property, list[str]]] = []
    for kind in _LISTS:
        there, ours_there = (set(_texts(descriptions, of)) for of in (kind.of_all, kind.of_ours))
        wanted = dict.fromkeys(kind.spelled(paths, is_used=bool(there - ours_there)))
        new = [text for text in wanted if text not in there]
        for of, texts in ((kind.of_all, new), (kind.of_ours, [text for text in new if text not in ours_there])):
            container = _container(descriptions, of) if texts else None
            if container:
                edits.append(_append(document, container, _items(texts, container.prefix)))
            elif texts:
                made.append((of, texts))
    if made:
        ours = next((one for one in descriptions if _is_marked(one)), None)
        prefix = ours.prefix if ours else rdf.prefix or "rdf:"
        lines = [line for of, texts in made for line in _property(of, texts, prefix)]
        edits.append(_append(document, *((ours, lines) if ours else (rdf, _description(descriptions, rdf, lines)))))
    return _edited(document, edits)


def without_ours(document: bytes) -> bytes | None:
    """A document without what `with_keywords` added: byte for byte as it was, where nothing else has changed it since.

    None when it was made by `with_keywords` and nothing else is in it. Raises `SidecarUnusable`.
    """
    if _OURS.encode() not in document:
        return document
    rdf = _rdf(document)
    descriptions = _descriptions(rdf)
    ours = {kind.of_all.name: set(_texts(descriptions, kind.of_ours)) for kind in _LISTS}
    edits: list[_Edit] = []
    empty: list[_Element] = []
    for description in descriptions:
        marked = _is_marked(description)
        gone = []
        for child in description.children:
            items = [one for one in _items_of(child) if _one_line(one.text) in ours.get(child.name, ())]
            if child.name in _MARKS or (marked and items and len(items) == len(_items_of(child))):
                gone.append(child)
            elif items:
                edits += _cut(document, child.children[0], items)
        if marked and len(gone) == len(description.children) and not description.attributes.keys() - {_ABOUT}:
            empty.append(description)
        else:
            edits += _cut(document, description, gone)
    rest = _edited(document, edits + _cut(document, rdf, empty))
    return None if rest == _EMPTY else rest


def _items(texts: Iterable[str], prefix: str) -> list[str]:
    return [f"<{prefix}li>{html.escape(text, quote=False)}</{prefix}li>" for text in texts]


def _property(of: _Property, texts: Iterable[str], prefix: str) -> list[str]:
    """The lines of a list. `prefix` is that of RDF."""
    name = f"{of.prefix}:{of.local}"
    items = (f"  {item}" for item in _items(texts, prefix))
    start = f'<{name} xmlns:{of.prefix}="{of.namespace}">'
    return [start, f" <{prefix}Bag>", *items, f" </{prefix}Bag>", f"</{name}>"]


def _description(descriptions: Sequence[_Element], rdf: _Element, lines: Iterable[str]) -> list[str]:
    """The lines of a description of our own, which is about the same photo as the others."""
    about = html.escape(descriptions[0].attributes.get(_ABOUT, "") if descriptions else "")
    declared = "" if rdf.prefix else f' xmlns:rdf="{_RDF}"'
    prefix = rdf.prefix or "rdf:"
    start = f'<{prefix}Description{declared} {prefix}about="{about}">'
    return [start, *(f" {line}" for line in lines), f"</{prefix}Description>"]


# ------------------------------------------------------------------------------------------ text


class _Edit(NamedTuple):
    """Bytes that take the place of `document[start:end]`."""

    start: int
    end: int
    text: bytes


def _edited(document: bytes, edits: Iterable[_Edit]) -> bytes:
    """The document after edits that do not overlap."""
    parts, at = [], 0
    for edit in sorted(edits):
        parts += [document[at : edit.start], edit.text]
        at = edit.end
    return b"".join([*parts, document[at:]])


def _append(document: bytes, parent: _Element, lines: Iterable[str]) -> _Edit:
    """Puts lines after the children of an element, indented as they are.

    An element that was empty (`<a/>`) gets an end tag with a blank in it (`</a >`), by which `_cut` knows it again.
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
        return _Edit(parent.opened - 2, parent.end, b">%b</%b >" % (text, name.encode()))
    at = last.end if last else parent.opened
    return _Edit(at, at, text)


def _cut(document: bytes, parent: _Element, children: Sequence[_Element]) -> list[_Edit]:
    """Takes children away, with the blanks before each; the opposite of `_append`."""
    edits = [_Edit(one.start - len(_blanks_before(document, one)), one.end, b"") for one in children]
    nothing_left = sum(edit.end - edit.start for edit in edits) == parent.closed - parent.opened
    if edits and nothing_left and document[parent.closed : parent.end].endswith(b" >"):
        return [_Edit(parent.opened - 1, parent.end, b"/>")]
    return edits


def _blanks_before(document: bytes, element: _Element) -> bytes:
    before = document.rfind(b">", 0, element.start) + 1
    return document[before + len(document[before : element.start].rstrip(_BLANKS)) : element.start]


# ------------------------------------------------------------------------------------------ elements


class _Element(NamedTuple):
    """An element and its place in the document. Names are "{namespace}local"; `prefix` ends in a colon, or is empty.

    The start tag is `document[start:opened]`, the end tag `document[closed:end]`; `<a/>` has no end tag.
    """

    name: str
    prefix: str
    attributes: dict[str, str]
    children: list[_Element]
    text: str
    start: int
    opened: int
    closed: int
    end: int

    @property
    def is_empty(self) -> bool:
        return self.opened == self.end


def _rdf(document: bytes) -> _Element:
    """The element that holds all descriptions. Raises `SidecarUnusable`."""
    root = _parsed(document)
    found = next((one for one in (root, *root.children) if one.name == f"{{{_RDF}}}RDF"), None)
    if found is None:
        raise SidecarUnusable("it is not XMP")
    return found


def _descriptions(rdf: _Element) -> list[_Element]:
    return [child for child in rdf.children if child.name == _DESCRIPTION]


def _is_marked(description: _Element) -> bool:
    return any(child.name in _MARKS for child in description.children)


def _items_of(element: _Element) -> list[_Element]:
    """The items of a property that is a list; of another one none."""
    if len(element.children) == 1 and element.children[0].name in _CONTAINERS:
        return [one for one in element.children[0].children if one.name == _ITEM]
    return []


def _texts(descriptions: Iterable[_Element], of: _Property) -> Iterator[str]:
    """The items of all lists of this name."""
    for description in descriptions:
        for child in description.children:
            if child.name == of.name:
                yield from (_one_line(item.text) for item in _items_of(child))


def _container(descriptions: Iterable[_Element], of: _Property) -> _Element | None:
    """Where the items of a list are, if there is one. Raises `SidecarUnusable` for a property that is no list."""
    for description in descriptions:
        for child in description.children:
            if child.name == of.name and len(child.children) == 1 and child.children[0].name in _CONTAINERS:
                return child.children[0]
            if child.name == of.name:
                raise SidecarUnusable(f"its {of.prefix}:{of.local} is not a list")
        if of.name in description.attributes:
            raise SidecarUnusable(f"its {of.prefix}:{of.local} is not a list")
    return None


def _parsed(document: bytes) -> _Element:
    """The root of a document in UTF-8, with the elements below it that matter here. Raises `SidecarUnusable`."""
    _check_size(document)
    if document.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in document[:4]:
        raise SidecarUnusable("it is not in UTF-8 but in UTF-16")
    return _Builder(document).root()


def _check_size(document: bytes) -> None:
    """Refuse what would make the parser itself slow or large, before it starts. Raises `SidecarUnusable`."""
    if len(document) > LONGEST:
        raise SidecarUnusable(TOO_LONG)
    if document.count(b"<") > _MOST_TAGS:
        raise SidecarUnusable(f"it has more than {_MOST_TAGS:,} tags")
    if document.count(b"=") > _MOST_ATTRIBUTES:  # it is in all of them, and hardly anywhere else
        raise SidecarUnusable(f"it has more than {_MOST_ATTRIBUTES:,} attributes")


class _Open(NamedTuple):
    """An element whose end tag is still to come: the namespaces that it declares, how many levels below it are kept."""

    raw: str
    name: str
    attributes: dict[str, str]
    declared: dict[str, str]
    children: list[_Element]
    text: list[str]
    start: int
    levels: int


class _Builder:
    """Makes elements from what expat finds: down to the properties, and of lists of keywords down to their items.

    Everything else may be as much as a document of `LONGEST` bytes can have, and is only counted. Namespaces are
    resolved here because expat copies a namespace's name for each attribute in it: 16 MB would become terabytes.
    """

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._opened = [_Open("", "", {}, {"xml": "xml"}, [], [], 0, 2)]
        self._ignored = 0  # depth in an element that is not kept
        self._kept = self._characters = 0
        self._parser = self._parser_for_handlers()

    def _parser_for_handlers(self) -> Any:
        from xml.parsers import expat

        parser = expat.ParserCreate(intern=None)  # interned names would stay, and all may differ
        parser.buffer_text = True
        parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = self._declared, self._doctype
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        return parser

    def root(self) -> _Element:
        from xml.parsers import expat

        try:
            with memoryview(self._document) as document:
                # In parts: what a handler raises stops the parser only at the end of one. Larger parts while it is in
                # one long token: older versions of expat begin again with each part.
                start, length, before = 0, _PART, -1
                while start < len(document):
                    self._parser.Parse(document[start : start + length], False)
                    start += length
                    at = self._parser.CurrentByteIndex
                    length, before = _PART if at > before else 2 * length, at
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise SidecarUnusable(f"it is not well-formed XML: {error}") from None
        return self._opened[0].children[0]

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding and encoding.lower() != "utf-8":
            raise SidecarUnusable(f"it is not in UTF-8 but in {encoding[:40]}")

    def _doctype(self, *parts: object) -> None:
        # Its entities could make a short document very long.
        raise SidecarUnusable("it has a document type, which XMP has not")

    def _start(self, raw: str, attributes: dict[str, str]) -> None:
        parent = self._opened[-1]
        if self._ignored or not parent.levels:
            self._ignored += 1
            if self._ignored > _DEEPEST:
                raise SidecarUnusable(f"its elements are nested more than {_DEEPEST:,} deep")
            return
        self._kept += 1
        if self._kept > _MOST_KEPT:
            raise SidecarUnusable(f"it has more than {_MOST_KEPT:,} properties and keywords")
        declared, named = {}, {}
        for key, value in attributes.items():
            prefix, _, local = key.partition(":")
            if prefix == "xmlns":
                declared[local] = value
            else:
                named[key] = value[:_LONGEST_VALUE]
        name = self._resolved(raw, declared)
        # An attribute without a prefix is in no namespace.
        named = {self._resolved(key, declared) if ":" in key else key: value for key, value in named.items()}
        levels = _LEVELS.get(name, parent.levels - 1)
        self._opened.append(_Open(raw, name, named, declared, [], [], self._parser.CurrentByteIndex, levels))

    def _resolved(self, raw: str, declared: Mapping[str, str]) -> str:
        """A name as "{namespace}local", with the namespaces of its own element. Raises `SidecarUnusable`."""
        prefix, _, local = raw.rpartition(":")
        around = (one.declared for one in reversed(self._opened))
        namespace = next((uris[prefix] for uris in (declared, *around) if prefix in uris), "")
        if prefix and not namespace:
            raise SidecarUnusable(f"it has a prefix without a namespace: {prefix[:40]}")
        if len(namespace) + len(local) > _LONGEST_NAME:
            raise SidecarUnusable("it has a very long name")
        return f"{{{namespace}}}{local}" if namespace else local

    def _text(self, text: str) -> None:
        if self._ignored or self._opened[-1].name != _ITEM:
            return
        self._characters += len(text)
        if self._characters > _MOST_TEXT:
            raise SidecarUnusable(f"its keywords have more than {_MOST_TEXT:,} characters")
        self._opened[-1].text.append(text)

    def _end(self, _: str) -> None:
        if self._ignored:
            self._ignored -= 1
            return
        of = self._opened.pop()
        tag = _START_TAG.match(self._document, of.start)
        assert tag  # the document is well-formed until here
        opened = closed = last = tag.end()
        if self._document[opened - 2 : opened] != b"/>":
            closed = self._parser.CurrentByteIndex
            last = self._document.index(b">", closed) + 1
        prefix = of.raw[: of.raw.find(":") + 1]
        text = "".join(of.text)
        element = _Element(of.name, prefix, of.attributes, of.children, text, of.start, opened, closed, last)
        self._opened[-1].children.append(element)
