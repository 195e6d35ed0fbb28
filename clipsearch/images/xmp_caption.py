"""Writes a generated caption into XMP as `dc:description`, and removes it again.

As with keywords (`xmp`), text is inserted or cut out, and every other byte stays. The caption is repeated in our own
namespace: a description that somebody has edited since differs from that, and is not removed.
"""

from __future__ import annotations

import html

from clipsearch.images.xmp import EMPTY, OURS, description
from clipsearch.images.xmp_document import RDF, Edit, Element, append, cut, edited, parse
from clipsearch.images.xmp_facts import facts_of

_DC = "http://purl.org/dc/elements/1.1/"
_CAPTION, _OURS, _ABOUT = f"{{{_DC}}}description", f"{{{OURS}}}description", f"{{{RDF}}}about"
_KEPT = (_CAPTION, _OURS)


def with_caption(document: bytes | None, caption: str) -> bytes:
    """Add a caption to a document (None: a new one) that has no description, not even an empty one.

    Raises `SidecarUnusable` for a document that cannot be extended.
    """
    document = EMPTY if document is None else document
    rdf, descriptions = parse(document, _KEPT)
    is_there = any(_CAPTION in (*one.attributes, *(child.name for child in one.children)) for one in descriptions)
    if is_there or facts_of(document).caption is not None:
        return document
    prefix = rdf.prefix or "rdf:"
    lines = [*_property("dc", _DC, caption, prefix), *_property("clipsearch", OURS, caption, prefix)]
    return edited(document, [append(document, rdf, description(descriptions, rdf, lines))])


def without_caption(document: bytes) -> bytes | None:
    """Remove what `with_caption` added, byte for byte unless the document was edited since; None if nothing is left.

    Raises `SidecarUnusable`.
    """
    if OURS.encode() not in document:
        return document
    rdf, descriptions = parse(document, _KEPT)
    ours = {
        _text(item) for one in descriptions for child in one.children if child.name == _OURS for item in child.items
    }
    edits: list[Edit] = []
    empty: list[Element] = []
    for one in descriptions:
        gone = [child for child in one.children if child.name == _OURS]
        for child in one.children:
            items = [item for item in child.items if child.name == _CAPTION and _text(item) in ours]
            if items and len(items) == len(child.items):
                gone.append(child)
            elif items:  # somebody has added a translation
                edits += cut(document, child.children[0], items)
        if gone and len(gone) == len(one.children) and not one.attributes.keys() - {_ABOUT}:
            empty.append(one)
        else:
            edits += cut(document, one, gone)
    rest = edited(document, edits + cut(document, rdf, empty))
    return None if rest == EMPTY else rest


def _text(item: Element) -> str:
    return " ".join(item.text.split())


def _property(prefix: str, namespace: str, caption: str, rdf: str) -> list[str]:
    """The lines of a `description` in a namespace. `rdf` is the prefix of RDF."""
    item = f'<{rdf}li xml:lang="x-default">{html.escape(caption, quote=False)}</{rdf}li>'
    name = f"{prefix}:description"
    return [f'<{name} xmlns:{prefix}="{namespace}">', f" <{rdf}Alt>", f"  {item}", f" </{rdf}Alt>", f"</{name}>"]
