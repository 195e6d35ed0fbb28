"""Image types are recognised by the first bytes of a file, and other files are not mistaken for images."""

from __future__ import annotations

import io
import struct
import zipfile

import pillow_heif
import pytest
from conftest import SCENES
from PIL import Image

from clipsearch.images.kinds import HEAD, looks_like_a_photo

PICTURE = SCENES[0].image


def saved(kind: str, *, grey: bool = False, palette: bool = False, **options: object) -> bytes:
    file = io.BytesIO()
    picture = PICTURE.convert("L") if grey else PICTURE.quantize(16) if palette else PICTURE
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(file, quality=50)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"exif": Image.Exif(), "progressive": True}),
        ("PNG", {}),
        ("PNG", {"save_all": True, "append_images": [SCENES[1].image]}),
        ("GIF", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"big_tiff": True}),
        ("BMP", {}),
        ("BMP", {"palette": True}),
        ("HEIF", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("JPEG2000", {"no_jp2": True}),
        ("PPM", {}),
        ("PPM", {"grey": True}),
        ("TGA", {}),
        ("TGA", {"compression": "tga_rle"}),
        ("TGA", {"grey": True}),
        ("TGA", {"palette": True}),
    ],
)
def test_every_kind_that_can_be_indexed_is_known(kind: str, options: dict[str, object]) -> None:
    assert looks_like_a_photo(saved(kind, **options)[:HEAD])


def test_a_tiff_of_the_other_byte_order_is_known() -> None:
    assert looks_like_a_photo(b"MM\0*" + bytes(12))


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a", b"x" * 100)
    return file.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\0" * 16,
        b"\xff" * 16,
        b"#!/bin/sh\nset -e\n",
        b"BM is not always a bitmap",
        b"Plain text, P6 included",
        b"P2P networks and so on",
        b"\x7fELF\x02\x01\x01" + bytes(9),
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"SQLite format 3\0",
        b"\x1f\x8b\x08\0" + bytes(12),
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\0\0\0\x20ftypisom\0\0\x02\0",  # a film
        b"\0\0\0\x14ftypqt  \0\0\0\0",
        struct.pack("<4I", 1, 2, 3, 4),
        archive()[:16],
        "Größe; Länge".encode("utf-16"),
    ],
)
def test_other_files_are_no_photos(head: bytes) -> None:
    assert not looks_like_a_photo(head[:HEAD])
