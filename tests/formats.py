"""Files and metadata as cameras and other programs write them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

SPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"'
    ' xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#" xmlns:MP="http://ns.microsoft.com/photo/1.2/"'
    ' xmlns:digiKam="http://www.digikam.org/ns/1.0/" xmlns:darktable="http://darktable.sf.net/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:acdsee="http://ns.acdsee.com/iptc/1.0/" xmlns:acdsee-rs="http://ns.acdsee.com/regions/"'
    ' xmlns:acdsee-stArea="http://ns.acdsee.com/sType/Area#"'
    ' xmlns:mediapro="http://ns.iview-multimedia.com/mediapro/1.0/"'
    ' xmlns:mwg-kw="http://www.metadataworkinggroup.com/schemas/keywords/"'
)
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def xmp(properties: str = "", attributes: str = "") -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {SPACES}'
        f" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def bag(*items: str) -> str:
    return f"<rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag>"


def exif(gps: str = "", **tags: Any) -> Image.Exif:
    """EXIF with tags by their names, such as `DateTimeOriginal`, and a place: `48 51 29.88 N, 2 17 42 E`."""
    out = Image.Exif()
    out[ExifTags.Base.Software] = "1.0"  # without a tag of the first directory, Pillow saves none
    details = out.get_ifd(ExifTags.IFD.Exif)
    for name, value in tags.items():
        (details if name in _DETAILS else out)[ExifTags.Base[name]] = value
    for number, part in enumerate(gps.split(", ") if gps else ()):
        *numbers, side = part.split()
        out.get_ifd(ExifTags.IFD.GPSInfo)[2 * number + 1] = side
        out.get_ifd(ExifTags.IFD.GPSInfo)[2 * number + 2] = tuple(map(_rational, numbers))
    return out


_DETAILS = (
    *("DateTimeOriginal", "DateTimeDigitized", "OffsetTimeOriginal", "UserComment", "LensModel", "ExposureTime"),
    *("FNumber", "ISOSpeedRatings", "RecommendedExposureIndex", "FocalLength"),
)


def _rational(text: str) -> IFDRational:
    return IFDRational(0, 0) if text == "0/0" else IFDRational(round(float(text) * 10_000), 10_000)


def iptc(*datasets: tuple[int, bytes]) -> bytes:
    """The segment of a JPEG in which agencies describe a photo; it belongs behind the first two bytes."""
    records = b"".join(b"\x1c\x02" + bytes([at]) + len(value).to_bytes(2, "big") + value for at, value in datasets)
    resource = b"8BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records + b"\0" * (len(records) % 2)
    segment = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment


def psd(image: Image.Image, packet: bytes = b"", number: int = 0x0424, bits: int = 8) -> bytes:
    """A Photoshop file with XMP or another resource, and the composite alone, as it stands in those with layers."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, image.height, image.width, bits, 3)
    resource = (
        b"8BIM"
        + number.to_bytes(2, "big")
        + bytes(2)
        + len(packet).to_bytes(4, "big")
        + packet
        + b"\0" * (len(packet) % 2)
    )
    resources = len(resource).to_bytes(4, "big") + resource
    values = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    pixels = (values if bits == 8 else (values.astype(np.uint16) << 8).astype(">u2")).tobytes()
    return header + bytes(4) + resources + bytes(4) + bytes(2) + pixels


def jp2(
    image: Image.Image, packet: bytes, identifier: bytes = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
) -> bytes:
    """A JPEG 2000 with XMP, or with what else an identifier stands for."""
    out = io.BytesIO()
    image.save(out, "JPEG2000")
    box = b"uuid" + identifier + packet
    at = out.getvalue().index(b"jp2c") - 4
    return out.getvalue()[:at] + (len(box) + 4).to_bytes(4, "big") + box + out.getvalue()[at:]


def gif(image: Image.Image, packet: bytes) -> bytes:
    """A GIF with XMP, which is not divided into blocks; a trailer of 256 lengths leads every reader out of it."""
    out = io.BytesIO()
    image.save(out, "GIF")
    at = 13 + 3 * 2 ** ((out.getvalue()[10] & 7) + 1)  # behind the palette
    extension = b"\x21\xff\x0bXMP DataXMP" + packet + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return out.getvalue()[:at] + extension + out.getvalue()[at:]


def packet(document: bytes) -> bytes:
    """XMP as it is embedded: with a header, space for changes and a trailer."""
    header = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return header + document + b" " * 2000 + b'<?xpacket end="w"?>'


GREEN = (2000, 8000, 2000)
_MATRIX = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)


def dng(
    size: tuple[int, int] = (600, 400),
    colour: tuple[int, int, int] = GREEN,
    orientation: int = 1,
    preview: Image.Image | None = None,
    *,
    encoded: bool = True,
    changed: str = "2023:05:06 07:08:09",
) -> bytes:
    """A mosaic of one colour whose upper half is twice as bright, with a JPEG preview if one is given."""
    width, height = size
    mosaic = np.zeros((height, width), np.uint16)
    for row, column, value in ((0, 0, colour[0]), (0, 1, colour[1]), (1, 0, colour[1]), (1, 1, colour[2])):
        mosaic[row::2, column::2] = value
    mosaic[: height // 2] //= 2
    rationals = tuple(number for value in _MATRIX for number in (int(value * 10_000), 10_000))
    tags = [
        (50706, 1, 4, (1, 4, 0, 0), True),
        (50708, 2, 0, "Test Camera", True),
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, (0, 1, 1, 2), True),
        (50714, 4, 1, 0, True),
        (50717, 4, 1, 16383, True),
        (50721, 10, 9, rationals, True),
        (50778, 3, 1, 21, True),
        (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),
        (274, 3, 1, orientation, True),
        (271, 2, 0, "Maker", True),
        (272, 2, 0, "Model X", True),
        (306, 2, 0, changed, True),
        (33434, 5, 1, (1, 250), True),
        (34855, 3, 1, 400, True),
    ]
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        if preview is None:
            file.write(mosaic, photometric=32803, extratags=tags, metadata=None)
        else:  # as cameras have it: the preview first, what the sensor saw in a directory below
            first: dict[str, Any] = {"subfiletype": 1, "subifds": 1, "extratags": tags, "metadata": None}
            if encoded:
                jpeg = io.BytesIO()
                preview.save(jpeg, "JPEG", quality=95)
                whole: dict[str, Any] = {
                    "shape": (preview.height, preview.width, 3),
                    "dtype": "uint8",
                    "rowsperstrip": preview.height,
                }
                file.write(iter([jpeg.getvalue()]), photometric="ycbcr", compression="jpeg", **whole, **first)
            else:
                file.write(np.asarray(preview), photometric="rgb", **first)
            file.write(mosaic, photometric=32803, subfiletype=0, extratags=tags, metadata=None)
    return out.getvalue()


def profile_of(**primaries: tuple[float, float, float]) -> bytes:
    """An RGB profile with sRGB's curve and other colourants (XYZ, D50)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name, xyz in primaries.items():
        entry = data.index(name.encode() + b"XYZ")
        at = struct.unpack_from(">I", data, entry + 4)[0]
        struct.pack_into(">3i", data, at + 8, *(round(value * 65536) for value in xyz))
    return bytes(data)


P3 = profile_of(r=(0.5151, 0.2412, -0.0011), g=(0.2920, 0.6922, 0.0419), b=(0.1571, 0.0666, 0.7841))
