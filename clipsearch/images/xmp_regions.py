"""Writes named face regions into XMP, as the Metadata Working Group defines them, and removes them again.

As with keywords (`xmp`), text is inserted or cut out, and every other byte stays. Our regions have an attribute in our
own namespace, and the structure around them a property, if there was none before.
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
_REGIONS, _LIST = f"{{{_MWG}}}Regions", f"{{{_MWG}}}RegionList"
_ADDED, _MARK = f"{{{OURS}}}added", f"{{{OURS}}}faces"  # of a region of ours, and of a structure of ours
_KEPT = {_REGIONS: 3, _LIST: 4, _MARK: 0}  # levels below: down to the description in each region
_NAMESPACES = f' xmlns:mwg-rs="{_MWG}" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:clipsearch="{OURS}"'


class FaceName(NamedTuple):
    """A name, and the box of the face in the upright photo."""

    name: str
    box: Box


def with_regions(document: bytes | None, faces: Sequence[FaceName], of: Metadata) -> bytes | None:
    """Make these the regions of ours in a document (None: a new one); None if nothing would be in it.

    A face that another program has named is left to it. Raises `SidecarUnusable` for a document that cannot be
    extended.
    """
    base = (None if document is None else without_regions(document)) or EMPTY
    others = face_regions(base)
    new = [face for face in faces if is_one_line(face.name) and not _is_named(face, others, of)]
    if not new:
        return None if base == EMPTY else base
    rdf, descriptions = parse(base, _KEPT)
    prefix = rdf.prefix or "rdf:"
    size = next(((one.width, one.height) for one in others if one.width), None)
    regions = [as_stored(face.name, face.box, of, size) for face in new]
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
        ours = [item for item in items if any(_ADDED in child.attributes for child in item.children)]
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
    box = region.box
    edges = ((box.left + box.right) / 2, (box.top + box.bottom) / 2, box.right - box.left, box.bottom - box.top)
    area = " ".join(f'stArea:{name}="{edge:.5f}"' for name, edge in zip("xywh", edges, strict=True))
    about = f'clipsearch:added="face" mwg-rs:Name="{html.escape(region.name)}" mwg-rs:Type="Face"'
    inside = f'<mwg-rs:Area {area} stArea:unit="normalized"/>'
    return f"<{prefix}Description{_NAMESPACES} {about}>{inside}</{prefix}Description>"


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
