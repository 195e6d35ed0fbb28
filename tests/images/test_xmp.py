"""Reading, adding and removing keywords in XMP documents written by other programs."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from formats import iptc
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import BadRequest, SidecarUnusable
from clipsearch.images.facts import Facts
from clipsearch.images.iptc import iptc_facts
from clipsearch.images.xmp import keywords, our_keywords, with_keywords, without_ours

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC, LR = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/lightroom/1.0/"
DIGIKAM, OURS = "http://www.digikam.org/ns/1.0/", "https://pypi.org/project/clipsearch/ns/1.0/"

EXIFTOOL = b"""<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.76'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about=''
  xmlns:dc='http://purl.org/dc/elements/1.1/'>
  <dc:creator>
   <rdf:Seq>
    <rdf:li>A &amp; B</rdf:li>
   </rdf:Seq>
  </dc:creator>
  <dc:subject>
   <rdf:Bag>
    <rdf:li>beach</rdf:li>
    <rdf:li>R&#233;union</rdf:li>
   </rdf:Bag>
  </dc:subject>
 </rdf:Description>

 <rdf:Description rdf:about=''
  xmlns:xmp='http://ns.adobe.com/xap/1.0/'>
  <xmp:Rating>4</xmp:Rating>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""

DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:darktable="http://darktable.sf.net/"
   exif:DateTimeOriginal="2023:07:14 18:03:21.000"
   darktable:history_end="1">
   <dc:subject>
    <rdf:Bag/>
   </dc:subject>
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="gz02eJxjYGBg > &lt;"/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

LIGHTROOM = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00-00:00:00    ">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   xmpMM:DocumentID="xmp.did:1">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Animals</rdf:li>
     <rdf:li>Dog</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmpMM:Pantry>
    <rdf:Bag>
     <rdf:li>
      <rdf:Description>
       <dc:subject>
        <rdf:Bag>
         <rdf:li>of another photo</rdf:li>
        </rdf:Bag>
       </dc:subject>
      </rdf:Description>
     </rdf:li>
    </rdf:Bag>
   </xmpMM:Pantry>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>Animals|Dog</rdf:li>
     <rdf:li>Places|Europe|Alps</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""".replace(b"\n", b"\r\n")

DIGIKAM_DOCUMENT = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
   <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
      <rdf:Description rdf:about="uuid:1 &amp; 2"
            xmlns:digiKam="http://www.digikam.org/ns/1.0/"
            xmlns:xmp="http://ns.adobe.com/xap/1.0/"
         digiKam:PickLabel="0"
         xmp:Rating="0">
         <digiKam:TagsList>
            <rdf:Seq>
               <rdf:li>Animals/Cat</rdf:li>
            </rdf:Seq>
         </digiKam:TagsList>
      </rdf:Description>
   </rdf:RDF>
</x:xmpmeta>
"""

ATTRIBUTES_ONLY = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating=\'>"3\'/></rdf:RDF>'
)
OTHER_PREFIXES = b"""<m xmlns="adobe:ns:meta/"><RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <Description xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" r:about=""
    xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:dc="urn:another">
    <dc:subject>not Dublin Core</dc:subject>
    <d:subject><!-- ours --><r:Bag><r:li>a</r:li><!-- the last --></r:Bag ></d:subject>
  </Description>
</RDF></m>"""
NO_DESCRIPTION = b'<x xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n <r:RDF />\n</x>'
OPEN_AND_EMPTY = b"""<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
\t<r:Description xmlns:dc="http://purl.org/dc/elements/1.1/"/>
\t<r:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><r:Alt>
\t</r:Alt></dc:subject></r:Description>
</r:RDF>"""
DOCUMENTS = {
    "exiftool": (EXIFTOOL, ("beach", "Réunion")),
    "darktable": (DARKTABLE, ()),
    "lightroom": (LIGHTROOM, ("Animals", "Dog", "Places", "Europe", "Alps")),
    "digikam": (DIGIKAM_DOCUMENT, ("Animals", "Cat")),
    "attributes": (ATTRIBUTES_ONLY, ()),
    "prefixes": (OTHER_PREFIXES, ("a",)),
    "no description": (NO_DESCRIPTION, ()),
    "open": (OPEN_AND_EMPTY, ()),
}
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description>&b;</r:Description></r:RDF>'
)
UNUSABLE = {
    "it is in UTF-16, not in UTF-8": DARKTABLE.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    "it is in iso-8859-1, not in UTF-8": DARKTABLE.replace(b"UTF-8", b"iso-8859-1"),
    "it has a document type, which XMP does not allow": BOMB,
    "it is not XMP": b"<html/>",
    "it is not well-formed XML: unclosed token: line 18, column 5": DARKTABLE[:600],
    "it is not well-formed XML: no element found: line 1, column 0": b"",
    "its dc:subject is not a list": DARKTABLE.replace(b"<rdf:Bag/>", b"dog"),
}


def descriptions(document: bytes) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(document)
    return list(root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF"))


def properties(document: bytes) -> list[tuple[str, str]]:
    """The properties of a document that is no list of keywords, in order."""
    found = []
    for description in descriptions(document):
        found += [(name, value) for name, value in description.attrib.items() if name != f"{{{RDF}}}about"]
        for child in description:
            if child.tag not in (f"{{{DC}}}subject", f"{{{LR}}}hierarchicalSubject", f"{{{DIGIKAM}}}TagsList"):
                found.append((child.tag, ElementTree.tostring(child, encoding="unicode").strip()))
    return [(name, value) for name, value in found if not name.startswith(f"{{{OURS}}}")]


def items(document: bytes, namespace: str, name: str) -> list[str]:
    """The items of a list, all descriptions together, as an XML library sees them."""
    lists = (one for description in descriptions(document) for one in description.findall(f"{{{namespace}}}{name}"))
    return [item.text for one in lists for item in one[0]]


# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_keywords_of_a_document(name: str) -> None:
    document, expected = DOCUMENTS[name]
    assert keywords(document) == expected
    assert keywords(document + b"\0\0") == expected


@pytest.mark.parametrize("document", [*list(UNUSABLE.values())[:-1], b"\0", b"\xff", b"<a", b"{}"])
def test_what_is_no_xmp_is_refused(document: bytes) -> None:
    with pytest.raises(SidecarUnusable):
        keywords(document)


@given(st.data())
def test_a_damaged_document_is_no_exception(data: st.DataObject) -> None:
    document = bytearray(data.draw(st.sampled_from([document for document, _ in DOCUMENTS.values()])))
    for _ in range(data.draw(st.integers(1, 4))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(keywords(bytes(document)), tuple)
        more = with_keywords(bytes(document), ["dog"])
    except SidecarUnusable:
        return
    assert "dog" in keywords(more)
    assert without_ours(more) == bytes(document)


def test_namespaces_reach_as_far_as_their_element() -> None:
    declared = b"""<rdf:RDF xmlns:rdf="%b" xmlns:a="%b"><rdf:Description><a:subject xmlns:rdf="urn:x" xmlns:a="urn:y"/>
        <a:subject><rdf:Bag><rdf:li>dog</rdf:li></rdf:Bag></a:subject></rdf:Description></rdf:RDF>"""
    assert keywords(declared % (RDF.encode(), DC.encode())) == ("dog",)


# ------------------------------------------------------------------------------------------ limits


def within(inside: bytes) -> bytes:
    """A property of a document that has a keyword too."""
    return EXIFTOOL.replace(b"4", inside)


def listed(inside: bytes) -> bytes:
    """More items for the list of keywords."""
    return EXIFTOOL.replace(b"<rdf:li>beach</rdf:li>", b"<rdf:li>beach</rdf:li>" + inside)


def attributes(count: int) -> bytes:
    return b"".join(b' p:a%x=""' % n for n in range(count))


ACCEPTED = {
    "depth": lambda: within(b"<rdf:li>" * 400 + b"<z:a/>" * 100_000 + b"</rdf:li>" * 400),
    "tags": lambda: within(b"".join(b"<a%020x/>" % n for n in range(390_000))),
    "attributes": lambda: within(b'<a xmlns:p="' + b"u" * 10_000_000 + b'"' + attributes(99_000) + b"/>"),
    "namespaces": lambda: within(b"<a" + b"".join(b' xmlns:n%x="u"' % n for n in range(99_000)) + b"/>"),
    "properties": lambda: EXIFTOOL.replace(b"<xmp:R", b"".join(b"<p%080x/>" % n for n in range(49_000)) + b"<xmp:R"),
    "keywords": lambda: listed(b"".join(b"<rdf:li>%x</rdf:li>" % n for n in range(49_000))),
    "text": lambda: within(b"x" * 16_000_000),
    "one keyword": lambda: listed(b"<rdf:li>" + b"x " * 500_000 + b"</rdf:li>"),
    "value": lambda: within(b'<a b="' + b"x" * 16_000_000 + b'"/>'),
    "references": lambda: within(b"&#65;" * 3_200_000),
    "instructions": lambda: within(b"<?a b?>" * 390_000),
}
REFUSED = {
    "it is larger than 16 MB": lambda: within(b" " * (1 << 24)),
    "it has more than 400,000 tags": lambda: b"<a>" * 5_000_000,
    "it has more than 100,000 attributes": lambda: within(b"<a" + attributes(101_000) + b"/>"),
    "its elements are nested more than 500 deep": lambda: EXIFTOOL.replace(
        b"<xmp:R",
        b'<s:subject xmlns:s="%s">' % DC.encode() + b"<s:subject>" * 30_000 + b"</s:subject>" * 30_001 + b"<xmp:R",
    ),
    "it has more than 50,000 properties and keywords": lambda: listed(b"<rdf:li/>" * 51_000),
    "its keywords have more than 1,048,576 characters": lambda: listed(b"<rdf:li>" + b"x" * 2_000_000 + b"</rdf:li>"),
    "it has a very long name": lambda: EXIFTOOL.replace(b"http://ns.adobe.com/xap/1.0/", b"u" * 600),
    "its XML uses an undeclared namespace prefix: q": lambda: EXIFTOOL.replace(b"xmp:Rating", b"q:Rating"),
    "it has a document type, which XMP does not allow": lambda: b"<!DOCTYPE a [" + b"<!ENTITY a 'a'>" * 100_000,
}
# Parses each document in 100 MB beyond what the process and the document have. A keyword that is found is not added.
# Reading it must take no more.
IN_LITTLE_MEMORY = """
import contextlib, resource, sys
sys.path[:0] = sys.argv[1:]
from test_xmp import ACCEPTED, REFUSED
from xml.parsers import expat
from clipsearch.images.xmp import with_keywords
from clipsearch.images.xmp_facts import facts_of
from clipsearch.errors import SidecarUnusable
for name, make in {**ACCEPTED, **REFUSED}.items():
    document = make()
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, resource.RLIM_INFINITY))
    try:
        print(name, with_keywords(document, ["beach"]) == document)
    except SidecarUnusable as error:
        print(name, error)
    with contextlib.suppress(SidecarUnusable):
        facts_of(document)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is in /proc")
def test_no_document_takes_much_memory() -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(here), str(here.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    expected = [f"{name} True" for name in ACCEPTED] + [f"{message} {message}" for message in REFUSED]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("name", ["depth", "keywords"])
def test_a_large_document_is_extended_and_restored(name: str) -> None:
    document = ACCEPTED[name]()
    more = with_keywords(document, ["dog"])
    assert "dog" in keywords(more)
    assert without_ours(more) == document


@pytest.mark.parametrize("message", REFUSED)
def test_a_document_beyond_the_limits_is_refused(message: str) -> None:
    with pytest.raises(SidecarUnusable) as refused:
        keywords(REFUSED[message]())
    assert str(refused.value) == message


def test_what_iptc_says() -> None:
    many = iptc((5, b"title"), (25, "Réunion".encode()), (25, b"R\xe9union"), (25, b"sea\0"), (25, b" "))
    assert iptc_facts(many) == Facts(keywords="Réunion\nsea", title="title")
    place = iptc((90, b"Nice"), (101, b"France"), (120, b"By  the sea"), (55, b"19980714"))
    assert iptc_facts(place) == Facts("1998-07-14T00:00:00", "iptc", location="Nice, France", caption="By the sea")
    assert iptc_facts(iptc((25, b"Grandma\x92s \x80"), (25, b"\x81"))).keywords == "Grandma’s €\n\x81"
    utf8, long = b"\x1c\x01Z\0\x03\x1b%G", b"\x1c\x02\x78\x80\x04\0\x01\0\0" + b"a" * 65536
    assert iptc_facts(utf8 + long + b"\x1c\x02\x05\0\x01b\0").title == "b"
    assert iptc_facts(b"") == iptc_facts(b"\x1c\x02\x05") == iptc_facts(b"nonsense") == Facts()


# ------------------------------------------------------------------------------------------ writing

LABELS = st.lists(
    st.one_of(
        st.sampled_from(["dog", "beach", "Animals", "Animals|Dog", "animal|dog", "Réunion", "a", "x/y", "<b> & 'c'"]),
        st.text(string.ascii_letters + "|&<>\"'é日 ]", min_size=1, max_size=8).filter(lambda text: text.strip("| ")),
    ),
    max_size=4,
)


@examples(150)
@given(st.sampled_from(sorted(DOCUMENTS)), LABELS, LABELS)
def test_what_was_added_can_be_taken_away(name: str, first: list[str], second: list[str]) -> None:
    document, before = DOCUMENTS[name]
    once = with_keywords(document, first)
    assert with_keywords(once, first) == once
    twice = with_keywords(once, second)
    assert properties(twice) == properties(document)
    added = [" ".join(part.split()) for label in first + second for part in label.split("|")]
    assert set(items(twice, DC, "subject")) == set(items(document, DC, "subject")) | set(added) - {""}
    assert set(before) <= set(keywords(twice))
    assert without_ours(twice) == document
    assert without_ours(document) == document
    if name == "lightroom":
        assert b"\n" not in twice.replace(b"\r\n", b"")


@given(LABELS.filter(bool), LABELS)
def test_a_document_of_our_own(first: list[str], second: list[str]) -> None:
    document = with_keywords(with_keywords(None, first), second)
    assert without_ours(document) is None
    added = [" ".join(part.split()) for label in first + second for part in label.split("|")]
    assert items(document, DC, "subject") == list(dict.fromkeys(part for part in added if part))


def test_how_a_document_of_our_own_looks() -> None:
    assert (
        with_keywords(None, ["animal|dog", "sea & sky"]).decode()
        == """\
<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="clipsearch">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="">
   <dc:subject xmlns:dc="http://purl.org/dc/elements/1.1/">
    <rdf:Bag>
     <rdf:li>animal</rdf:li>
     <rdf:li>dog</rdf:li>
     <rdf:li>sea &amp; sky</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <clipsearch:keywords xmlns:clipsearch="https://pypi.org/project/clipsearch/ns/1.0/">
    <rdf:Bag>
     <rdf:li>animal</rdf:li>
     <rdf:li>dog</rdf:li>
     <rdf:li>sea &amp; sky</rdf:li>
    </rdf:Bag>
   </clipsearch:keywords>
   <lr:hierarchicalSubject xmlns:lr="http://ns.adobe.com/lightroom/1.0/">
    <rdf:Bag>
     <rdf:li>animal|dog</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <clipsearch:hierarchicalSubject xmlns:clipsearch="https://pypi.org/project/clipsearch/ns/1.0/">
    <rdf:Bag>
     <rdf:li>animal|dog</rdf:li>
    </rdf:Bag>
   </clipsearch:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
    )


def test_what_was_there_before_is_not_ours() -> None:
    document = with_keywords(EXIFTOOL, ["beach", "dog"])
    assert items(document, DC, "subject") == ["beach", "Réunion", "dog"]
    assert items(document, OURS, "keywords") == ["dog"]
    assert our_keywords(document) == ("dog",)
    assert with_keywords(EXIFTOOL, ["beach"]) == EXIFTOOL


def test_trees_that_a_program_uses_get_the_labels_too() -> None:
    document = with_keywords(DIGIKAM_DOCUMENT, ["animal|dog", "sea"])
    assert items(document, DIGIKAM, "TagsList") == ["Animals/Cat", "animal/dog", "sea"]
    assert items(document, LR, "hierarchicalSubject") == ["animal|dog"]
    assert b'rdf:about="uuid:1 &amp; 2">' in document
    document = with_keywords(LIGHTROOM, ["Animals|Dog", "sea"])
    assert items(document, LR, "hierarchicalSubject") == ["Animals|Dog", "Places|Europe|Alps", "sea"]
    assert items(document, OURS, "hierarchicalSubject") == ["sea"]


def test_what_others_do_to_ours_is_kept() -> None:
    document = with_keywords(None, ["dog"]).replace(
        b"<rdf:li>dog</rdf:li>", b"<rdf:li>dog</rdf:li><rdf:li>mine</rdf:li>", 1
    )
    rest = without_ours(document)
    assert keywords(rest) == ("mine",)
    assert b"keywords" not in rest
    rated = with_keywords(DARKTABLE, ["dog"]).replace(b"<clipsearch:", b"<a>1</a><clipsearch:", 1)
    assert properties(without_ours(rated)) == [*properties(DARKTABLE), ("a", "<a>1</a>")]


def test_a_program_that_writes_the_document_anew() -> None:
    document = with_keywords(ATTRIBUTES_ONLY, ["animal|dog"])
    root = ElementTree.fromstring(document)
    first, ours = root
    first.extend(list(ours))
    root.remove(ours)
    rest = without_ours(ElementTree.tostring(root))
    assert properties(rest) == properties(ATTRIBUTES_ONLY)
    assert keywords(rest) == ()
    assert len(ElementTree.fromstring(rest)[0]) == 0


@pytest.mark.parametrize("message", UNUSABLE)
def test_a_document_that_cannot_be_extended(message: str) -> None:
    with pytest.raises(SidecarUnusable) as refused:
        with_keywords(UNUSABLE[message], ["cat"])
    assert str(refused.value) == message
    assert without_ours(UNUSABLE[message]) == UNUSABLE[message]


@pytest.mark.parametrize("label", ["", " ", "|", " | ", "a\x01", "\ufffe", "\udc80"])
def test_a_label_that_cannot_be_a_keyword(label: str) -> None:
    with pytest.raises(BadRequest, match="cannot be a keyword in XMP"):
        with_keywords(DARKTABLE, [label])
