"""Writes named face regions into XMP, as the Metadata Working Group defines them, and removes them again.

As with keywords (`xmp`), text is inserted or cut out, and every other byte stays. Our regions repeat their name and
area in our own namespace: a region that another program has edited since differs from that, and is not removed. The
structure around them has a property of ours if there was none before.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clipsearch.errors import SidecarUnusable
from clipsearch.images.box import Box, overlap
from clipsearch.images.metadata import Metadata
from clipsearch.images.regions import SAME_PLACE, Region, as_stored, upright
from clipsearch.images.xmp import EMPTY, OURS, description, is_one_line
from clipsearch.images.xmp_document import Edit, Element, append, cut, edited, parse
from clipsearch.images.xmp_facts import face_regions

_MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_REGIONS, _LIST = f"{{{_MWG}}}Regions", f"{{{_MWG}}}RegionList"
_ADDED, _MARK = f"{{{OURS}}}added", f"{{{OURS}}}faces"  # of a region of ours, and of a structure of ours
_NAME, *_EDGES = (f"{{{_MWG}}}Name", *(f"{{{_AREA}}}{edge}" for edge in "xywh"))
# Levels below: each region may be a description, and its parts attributes or elements.
_KEPT = {_REGIONS: 3, _LIST: 5, **dict.fromkeys((_MARK, _ADDED, _NAME, *_EDGES), 0)}
_NAMESPACES = f' xmlns:mwg-rs="{_MWG}" xmlns:stArea="{_AREA}" xmlns:clipsearch="{OURS}"'


class FaceName(NamedTuple):
    """A name, and the box of the face in the upright photo."""

    name: str
    box: Box


def with_regions(
    document: bytes | None, faces: Sequence[FaceName], of: Metadata, elsewhere: Sequence[Region] = ()
) -> bytes | None:
    """Make these the regions of ours in a document (None: a new one); None if nothing would be in it.

    A face that another program has named, here or in another sidecar (`elsewhere`), is left to it. Raises
    `SidecarUnusable` for a document that cannot be extended.
    """
    base = (None if document is None else without_regions(document)) or EMPTY
    others = face_regions(base)
    new = [face for face in faces if is_one_line(face.name) and not _is_named(face, [*others, *elsewhere], of)]
    if not new:
        return None if base == EMPTY else base
    rdf, descriptions = parse(base, _KEPT)
    prefix = rdf.prefix or "rdf:"
    size = next(((one.width, one.height) for one in others if one.width), None)
    regions = [as_stored(face.name, face.box, of, size) for face in new]
    if document is not None and _ours_in(document) == [_repeated(region) for region in regions]:
        return document
    container = _container(descriptions)
    if container is None:
        return edited(base, [append(base, rdf, description(descriptions, rdf, _structure(regions, prefix)))])
    return edited(base, [append(base, container, _items(regions, container.prefix))])


def without_regions(document: bytes) -> bytes | None:
    """Remove what `with_regions` added, byte for byte unless the document was edited since; None if nothing is left.

    Raises `SidecarUnusable`.
    """
    if OURS.encode() not in document:
        return document
    rdf, descriptions = parse(document, _KEPT)
    edits: list[Edit] = []
    empty: list[Element] = []
    for one in descriptions:
        container = _container([one])
        items = container.children if container else []
        ours = [item for item in items if _is_ours(item)]
        marks = [child for child in one.children if child.name == _MARK]
        if marks and len(ours) == len(items):
            gone = [child for child in one.children if child.name in (_REGIONS, _MARK)]
            if len(gone) == len(one.children):
                empty.append(one)
            else:
                edits += cut(document, one, gone)
        elif container and ours:
            edits += cut(document, container, ours)
    rest = edited(document, edits + cut(document, rdf, empty))
    return None if rest == EMPTY else rest


def _ours_in(document: bytes) -> list[str]:
    """What our regions in a document repeat."""
    container = _container(parse(document, _KEPT)[1])
    return [_parts(item)[_ADDED] for item in (container.children if container else ()) if _is_ours(item)]


def _is_ours(item: Element) -> bool:
    """Whether we wrote a region, and nobody has edited it since."""
    parts = _parts(item)
    return parts.get(_ADDED) == ",".join(parts.get(name, "") for name in (*_EDGES, _NAME))


def _parts(element: Element) -> dict[str, str]:
    """The attributes and texts of an element and of all elements in it."""
    found = {**element.attributes, element.name: element.text.strip()}
    for child in element.children:
        found |= _parts(child)
    return found


def _is_named(face: FaceName, others: Iterable[Region], of: Metadata) -> bool:
    return any(overlap(face.box, upright(other, of)) >= SAME_PLACE for other in others)


def _container(descriptions: Iterable[Element]) -> Element | None:
    """The container of the first list of regions. Raises `SidecarUnusable` for regions that are not a list."""
    for one in descriptions:
        for regions in (child for child in one.children if child.name == _REGIONS):
            inside = [*regions.children, *(below for child in regions.children for below in child.children)]
            found = next((child.container for child in inside if child.name == _LIST), None)
            if found is None:
                raise SidecarUnusable("its mwg-rs:Regions is not a list")
            return found
    return None


def _items(regions: Iterable[Region], prefix: str) -> list[str]:
    """The items of a list of regions. `prefix` is that of RDF."""
    return [f"<{prefix}li>{_description(region, prefix)}</{prefix}li>" for region in regions]


def _description(region: Region, prefix: str) -> str:
    area = " ".join(f'stArea:{name}="{edge}"' for name, edge in zip("xywh", _edges(region), strict=True))
    name, added = html.escape(region.name), html.escape(_repeated(region))
    about = f'clipsearch:added="{added}" mwg-rs:Name="{name}" mwg-rs:Type="Face"'
    inside = f'<mwg-rs:Area {area} stArea:unit="normalized"/>'
    return f"<{prefix}Description{_NAMESPACES} {about}>{inside}</{prefix}Description>"


def _repeated(region: Region) -> str:
    """What a region of ours repeats, to notice when another program edits it."""
    return ",".join([*_edges(region), region.name])


def _edges(region: Region) -> list[str]:
    """The centre and the size of a region."""
    box = region.box
    edges = ((box.left + box.right) / 2, (box.top + box.bottom) / 2, box.right - box.left, box.bottom - box.top)
    return [f"{edge:.5f}" for edge in edges]


def _structure(regions: Sequence[Region], prefix: str) -> list[str]:
    size = f'stDim:w="{regions[0].width}" stDim:h="{regions[0].height}" stDim:unit="pixel"'
    return [
        f'<clipsearch:faces xmlns:clipsearch="{OURS}">added</clipsearch:faces>',
        f'<mwg-rs:Regions xmlns:mwg-rs="{_MWG}" {prefix}parseType="Resource">',
        f' <mwg-rs:AppliedToDimensions xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" {size}/>',
        " <mwg-rs:RegionList>",
        f"  <{prefix}Bag>",
        *(f"   {item}" for item in _items(regions, prefix)),
        f"  </{prefix}Bag>",
        " </mwg-rs:RegionList>",
        "</mwg-rs:Regions>",
    ]
