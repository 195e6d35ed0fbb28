"""Face regions: as programs write them, in upright photos, and written into sidecars and out of them again."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from clipsearch.errors import SidecarUnusable
from clipsearch.images.box import Box, overlap
from clipsearch.images.decode import decode
from clipsearch.images.metadata import Metadata
from clipsearch.images.regions import Region, as_stored, regions_in, upright
from clipsearch.images.xmp import with_keywords, without_ours
from clipsearch.images.xmp_facts import face_regions, facts_of
from clipsearch.images.xmp_regions import FaceName, with_regions, without_regions

MWG = (
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
    ' xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"'
)
MICROSOFT = (
    'xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)
LIGHTROOM = """<mwg-rs:Regions rdf:parseType="Resource">
   <mwg-rs:AppliedToDimensions stDim:w="400" stDim:h="300" stDim:unit="pixel"/>
   <mwg-rs:RegionList>
    <rdf:Bag>
     <rdf:li>
      <rdf:Description mwg-rs:Rotation="0.0" mwg-rs:Name="Anna" mwg-rs:Type="Face">
       <mwg-rs:Area stArea:x="0.3" stArea:y="0.4" stArea:w="0.2" stArea:h="0.4" stArea:unit="normalized"/>
      </rdf:Description>
     </rdf:li>
     <rdf:li><rdf:Description mwg-rs:Name="Rex" mwg-rs:Type="Pet"><mwg-rs:Area stArea:x="0.8" stArea:y="0.8"
       stArea:w="0.1" stArea:h="0.1" stArea:unit="normalized"/></rdf:Description></rdf:li>
    </rdf:Bag>
   </mwg-rs:RegionList>
  </mwg-rs:Regions>"""
PICASA = """<mwg-rs:Regions><rdf:Description>
   <mwg-rs:RegionList><rdf:Seq><rdf:li rdf:parseType="Resource">
     <mwg-rs:Type>Face</mwg-rs:Type><mwg-rs:Name>Anna</mwg-rs:Name>
     <mwg-rs:Area><rdf:Description><stArea:x>0.3</stArea:x><stArea:y>0.4</stArea:y><stArea:w>0.2</stArea:w>
       <stArea:h>0.4</stArea:h></rdf:Description></mwg-rs:Area>
   </rdf:li></rdf:Seq></mwg-rs:RegionList>
   <mwg-rs:AppliedToDimensions><rdf:Description stDim:w="400" stDim:h="300"/></mwg-rs:AppliedToDimensions>
  </rdf:Description></mwg-rs:Regions>"""
WINDOWS = """<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag>
   <rdf:li MPReg:Rectangle="0.2, 0.2, 0.2, 0.4" MPReg:PersonDisplayName="Anna"/>
   <rdf:li MPReg:PersonDisplayName="Ben"/>
  </rdf:Bag></MPRI:Regions></MP:RegionInfo>"""


def document(inside: str, namespaces: str = MWG) -> bytes:
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{rdf}">
  <rdf:Description rdf:about="" {namespaces}>
  {inside}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>""".encode()


FOREIGN = {
    "none": document(""),
    "lightroom": document(LIGHTROOM),
    "picasa": document(PICASA),
    "windows": document(WINDOWS, MICROSOFT),
    "empty": document(
        "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList><rdf:Bag/></mwg-rs:RegionList></mwg-rs:Regions>"
    ),
    "one line": document(LIGHTROOM).replace(b"\n", b""),
    "without a prefix": document("").replace(b"xmlns:rdf", b"xmlns").replace(b"rdf:", b""),
}


@pytest.mark.parametrize("program", ["lightroom", "picasa", "windows"])
def test_regions_as_programs_write_them(program: str) -> None:
    (region,) = face_regions(FOREIGN[program])
    assert (region.name, [round(edge, 6) for edge in region.box]) == ("Anna", [0.2, 0.2, 0.4, 0.6])
    assert (region.width, region.height) == ((0, 0) if program == "windows" else (400, 300))
    assert list(regions_in(facts_of(FOREIGN[program]).regions)) == [region]


def test_regions_without_a_usable_box_are_left_out() -> None:
    for broken in ('w="0"', 'w="nan"', 'w="x"', 'w="-0.2"'):
        assert face_regions(document(LIGHTROOM.replace('w="0.2"', broken, 1))) == []
    assert face_regions(document(LIGHTROOM.replace("normalized", "pixel"))) == []
    assert face_regions(document(LIGHTROOM.replace('x="0.3"', 'x="-3"', 1))) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_turned_like_the_photo(orientation: int) -> None:
    """A white patch where the region is in the file is where the region is in the upright photo."""
    stored = Box(0.1, 0.2, 0.3, 0.7)
    image = Image.new("RGB", (400, 300))
    image.paste((255, 255, 255), stored.pixels(400, 300))
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(data, "PNG", exif=exif)
    decoded = decode(data.getvalue())
    of = decoded.metadata
    patch = decoded.image.convert("L").getbbox()
    region = Region("Anna", stored, 400, 300)
    box = upright(region, of)
    assert box.pixels(of.width, of.height) == patch
    assert overlap(as_stored("Anna", box, of).box, stored) > 0.999
    if orientation >= 5:  # a program that drew on the rotated picture
        drawn = region._replace(box=box, width=300, height=400)
        assert upright(drawn, of) == box
        assert as_stored("Anna", box, of, (300, 400)) == drawn


FACES = [FaceName('Zoë "Z" <Müller>', Box(0.6, 0.1, 0.8, 0.4)), FaceName("Ben", Box(0.1, 0.7, 0.2, 0.9))]
OF = Metadata(400, 300)


@pytest.mark.parametrize("name", FOREIGN)
def test_regions_are_added_and_removed_byte_for_byte(name: str) -> None:
    before = FOREIGN[name]
    added = with_regions(before, FACES, OF)
    assert added is not None
    found = {region.name: region.box for region in face_regions(added)}
    assert {face.name for face in FACES} <= found.keys()
    assert overlap(found["Ben"], FACES[1].box) > 0.99
    assert len(face_regions(added)) == len(face_regions(before)) + 2
    assert with_regions(added, FACES, OF) == added
    assert without_regions(added) == before
    fewer = with_regions(added, FACES[:1], OF)
    assert fewer is not None
    assert "Ben" not in {region.name for region in face_regions(fewer)}
    assert with_regions(added, [], OF) == before
    both = with_keywords(added, ["dog"])
    assert with_regions(both, FACES, OF) == both
    assert without_regions(both) == with_keywords(before, ["dog"])
    assert without_ours(both) == added


@pytest.mark.parametrize("as_elements", [False, True])
def test_what_another_program_makes_of_our_regions(as_elements: bool) -> None:
    added = with_regions(FOREIGN["none"], FACES, OF)
    assert added is not None
    tree = ElementTree.fromstring(added)
    for element in list(tree.iter()) if as_elements else ():  # as ExifTool writes them
        for name in [name for name in element.attrib if "/regions/" in name or "clipsearch" in name or "Area#" in name]:
            ElementTree.SubElement(element, name).text = element.attrib.pop(name)
    written = ElementTree.tostring(tree)
    assert with_regions(written, FACES, OF) == written
    for value, edit in ((b"Ben", b"Benno"), (b"0.15000", b"0.16000")):
        edited = re.sub(b'(?<=[">])%b(?=["<])' % value, edit, written)
        left = without_regions(edited)
        assert left is not None
        assert len(face_regions(left)) == 1
        assert edit in left
    left = without_regions(written)
    assert left is not None
    assert face_regions(left) == []


def test_a_new_sidecar_is_removed_again() -> None:
    added = with_regions(None, FACES, OF)
    assert added is not None
    assert without_regions(added) is None
    assert with_regions(None, [], OF) is None
    turned = OF._replace(width=300, height=400, exif_orientation=6)
    rotated = with_regions(None, FACES, turned)
    assert rotated is not None
    assert overlap(upright(face_regions(rotated)[0], turned), FACES[0].box) > 0.99


def test_a_face_that_another_program_named_is_left_to_it() -> None:
    before = FOREIGN["lightroom"]
    assert with_regions(before, [FaceName("Carl", Box(0.2, 0.2, 0.4, 0.6))], OF) == before


def test_regions_that_are_no_list_are_refused() -> None:
    with pytest.raises(SidecarUnusable, match="not a list"):
        with_regions(document("<mwg-rs:Regions>none</mwg-rs:Regions>"), FACES, OF)
