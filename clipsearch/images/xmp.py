"""Keywords in XMP, the metadata that photo programs keep in photos and in sidecar files.

Keywords are the items of three lists: `dc:subject`, which every program reads, and the hierarchies of Lightroom
("Animals|Dog") and digiKam ("Animals/Dog"). Added keywords are repeated in lists in our own namespace, so that they can
be told from others' and removed again. A document is never rewritten: text is inserted or cut out, and every other byte
stays.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from clipsearch.errors import BadRequest, SidecarUnusable
from clipsearch.images.xmp_document import RDF, Edit, Element, append, cut, edited, parse

OURS = "https://pypi.org/project/clipsearch/ns/1.0/"
_ABOUT = f"{{{RDF}}}about"
EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="clipsearch">
 <rdf:RDF xmlns:rdf="{RDF}">
 </rdf:RDF>
</x:xmpmeta>
""".encode()

_NOT_IN_XML = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Property(NamedTuple):
    """An XMP property: namespace, customary prefix and local name."""

    namespace: str
    prefix: str
    local: str

    @property
    def name(self) -> str:
        return f"{{{self.namespace}}}{self.local}"


class _List(NamedTuple):
    """A list of keywords, the list of those that we added to it, and the separator of its hierarchies."""

    all: _Property
    ours: _Property
    separator: str | None

    def spelled(self, paths: Iterable[tuple[str, ...]], *, is_used: bool) -> list[str]:
        """How keywords are written in this list. If no other program uses it, only as much as Lightroom needs."""
        if self.separator is None:
            return [part for path in paths for part in path]
        return [self.separator.join(path) for path in paths if is_used or (self.separator == "|" and len(path) > 1)]


def _list(namespace: str, prefix: str, local: str, ours: str, separator: str | None) -> _List:
    return _List(_Property(namespace, prefix, local), _Property(OURS, "clipsearch", ours), separator)


_LISTS = (
    _list("http://purl.org/dc/elements/1.1/", "dc", "subject", "keywords", None),
    _list("http://ns.adobe.com/lightroom/1.0/", "lr", "hierarchicalSubject", "hierarchicalSubject", "|"),
    _list("http://www.digikam.org/ns/1.0/", "digiKam", "TagsList", "TagsList", "/"),
)
_OUR_NAMES = frozenset(kind.ours.name for kind in _LISTS)
_ALL_NAMES = _OUR_NAMES.union(kind.all.name for kind in _LISTS)


# ------------------------------------------------------------------------------------------ reading


def keywords(document: bytes) -> tuple[str, ...]:
    """The keywords of an XMP document or packet, each once. Raises `SidecarUnusable`.

    Each part of a hierarchy ("Animals|Dog") is a keyword of its own.
    """
    return _keywords_in(document, {kind.all: kind.separator for kind in _LISTS})


def our_keywords(document: bytes) -> tuple[str, ...]:
    """The keywords that `with_keywords` added. Raises `SidecarUnusable`."""
    return _keywords_in(document, {kind.ours: kind.separator for kind in _LISTS})


def _keywords_in(document: bytes, lists: Mapping[_Property, str | None]) -> tuple[str, ...]:
    _, descriptions = parse(document.rstrip(b"\0"), _ALL_NAMES)
    found = {}
    for of, separator in lists.items():
        for text in _texts(descriptions, of):
            parts = [text] if separator is None else text.split(separator)
            found.update(dict.fromkeys(map(_one_line, parts)))
    found.pop("", None)
    return tuple(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _texts(descriptions: Iterable[Element], of: _Property) -> Iterator[str]:
    """The items of all lists with this name."""
    for description in descriptions:
        for child in description.children:
            if child.name == of.name:
                yield from (_one_line(item.text) for item in child.items)


# ------------------------------------------------------------------------------------------ writing


def is_one_line(text: str) -> bool:
    """Whether XML can have a text, on one line."""
    return bool(text) and not _NOT_IN_XML.search(text)


def path_of(label: str) -> tuple[str, ...]:
    """The keywords of a label: "animal|dog" is "animal" and "dog". Raises `BadRequest` if XML cannot have them."""
    path = tuple(part for part in map(_one_line, label.split("|")) if part)
    if not path or not all(map(is_one_line, path)):
        raise BadRequest(f"{label!r} cannot be a keyword in XMP")
    return path


def with_keywords(document: bytes | None, add: Sequence[str]) -> bytes:
    """Add labels to the keywords of a document (None: a new one), marked as ours. Existing keywords stay as they are.

    "animal|dog" adds "animal", "dog" and Lightroom's "animal|dog". Raises `BadRequest` for an impossible keyword, and
    `SidecarUnusable` for a document that cannot be extended.
    """
    document = EMPTY if document is None else document
    paths = [path_of(label) for label in add]
    rdf, descriptions = parse(document, _ALL_NAMES)
    edits: list[Edit] = []
    missing: list[tuple[_Property, list[str]]] = []  # lists that the document does not have
    for kind in _LISTS:
        present, present_ours = (set(_texts(descriptions, of)) for of in (kind.all, kind.ours))
        wanted = dict.fromkeys(kind.spelled(paths, is_used=bool(present - present_ours)))
        new = [text for text in wanted if text not in present]
        for of, texts in ((kind.all, new), (kind.ours, [text for text in new if text not in present_ours])):
            container = _container(descriptions, of) if texts else None
            if container:
                edits.append(append(document, container, _items(texts, container.prefix)))
            elif texts:
                missing.append((of, texts))
    if missing:
        ours = next((one for one in descriptions if _is_ours(one)), None)
        prefix = ours.prefix if ours else rdf.prefix or "rdf:"
        lines = [line for of, texts in missing for line in _property(of, texts, prefix)]
        edits.append(append(document, *((ours, lines) if ours else (rdf, description(descriptions, rdf, lines)))))
    return edited(document, edits)


def without_ours(document: bytes) -> bytes | None:
    """Remove what `with_keywords` added, which restores the document byte for byte unless it was edited since.

    None if `with_keywords` created the document and nothing else is in it. Raises `SidecarUnusable`.
    """
    if OURS.encode() not in document:
        return document
    rdf, descriptions = parse(document, _ALL_NAMES)
    ours = {kind.all.name: set(_texts(descriptions, kind.ours)) for kind in _LISTS}
    edits: list[Edit] = []
    empty: list[Element] = []
    for description in descriptions:
        is_ours, gone = _is_ours(description), []
        for child in description.children:
            items = [one for one in child.items if _one_line(one.text) in ours.get(child.name, ())]
            if child.name in _OUR_NAMES or (is_ours and items and len(items) == len(child.items)):
                gone.append(child)
            elif items:
                edits += cut(document, child.children[0], items)
        if is_ours and len(gone) == len(description.children) and not description.attributes.keys() - {_ABOUT}:
            empty.append(description)
        else:
            edits += cut(document, description, gone)
    rest = edited(document, edits + cut(document, rdf, empty))
    return None if rest == EMPTY else rest


def _is_ours(description: Element) -> bool:
    return any(child.name in _OUR_NAMES for child in description.children)


def _container(descriptions: Iterable[Element], of: _Property) -> Element | None:
    """The container of a list, if the document has one. Raises `SidecarUnusable` for a property that is not a list."""
    for description in descriptions:
        found = next((child for child in description.children if child.name == of.name), None)
        if found and found.container:
            return found.container
        if found or of.name in description.attributes:
            raise SidecarUnusable(f"its {of.prefix}:{of.local} is not a list")
    return None


def _items(texts: Iterable[str], prefix: str) -> list[str]:
    return [f"<{prefix}li>{html.escape(text, quote=False)}</{prefix}li>" for text in texts]


def _property(of: _Property, texts: Iterable[str], prefix: str) -> list[str]:
    """The lines of a new list. `prefix` is that of RDF."""
    name = f"{of.prefix}:{of.local}"
    items = (f"  {item}" for item in _items(texts, prefix))
    start = f'<{name} xmlns:{of.prefix}="{of.namespace}">'
    return [start, f" <{prefix}Bag>", *items, f" </{prefix}Bag>", f"</{name}>"]


def description(descriptions: Sequence[Element], rdf: Element, lines: Iterable[str]) -> list[str]:
    """The lines of a new description, about the same photo as the others."""
    about = html.escape(descriptions[0].attributes.get(_ABOUT, "") if descriptions else "")
    declared = "" if rdf.prefix else f' xmlns:rdf="{RDF}"'
    prefix = rdf.prefix or "rdf:"
    start = f'<{prefix}Description{declared} {prefix}about="{about}">'
    return [start, *(f" {line}" for line in lines), f"</{prefix}Description>"]
