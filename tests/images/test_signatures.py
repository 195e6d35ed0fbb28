"""Image types are recognised by the first bytes of a file, and other files are not mistaken for images."""

from __future__ import annotations

import io
import struct
import zipfile

import pillow_heif
import pytest
from conftest import SCENES
from PIL import Image

from clipsearch.images.kinds import HEAD, TYPES, begins_right, is_raw_name, looks_like_a_photo, may_be_raw, needs_a_look

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
        packed.writestr(zipfile.ZipInfo("a"), b"x" * 100)  # dated 1980, so that the test keeps its name
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


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (b"src/main.ts", b"import { a } from './b'\n"),
        (b"index.mts", "\ufeff// \u4f60\u597d\n".encode()),
        (b"app_de.ts", b'<?xml version="1.0" encoding="utf-8"?>'),
        (b"utf16.ts", "import x".encode("utf-16")),
        (b"go.mod", b"module example.com/x\n"),
        (b"song.MOD", b"space_debris\0\0\0\0\0\0\0\0"),
        (b"fortran.mod", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        (b"notes.dv", "Größe\n".encode() * 9),
    ],
)
def test_a_file_that_shares_its_suffix_with_videos_is_known_for_something_else(name: bytes, head: bytes) -> None:
    assert needs_a_look(name)
    assert not begins_right(name, head[:HEAD])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (b"00001.MTS", b"\0\0\0\0G@\0\x10\0\0\xb0\x11\0\0\xc1\0"),
        (b"film.ts", b"G@\x11\x10\0B\xf0%\0\x01\xc1\0\0\xff\x01\xff"),
        (b"MOV001.MOD", b"\0\0\x01\xba!\0\x01\0\x01\x80\x1b\x91\0\0\x01\xbb"),
        (b"film.mod", b"RIFF\x24\x24\x24\x24AVI LIST"),
        (b"x.360", b"\0\0\0\x20ftypisom\0\0\x02\0"),
        (b"zeros.mts", bytes(16)),  # damaged, which is worth a word
        (b"empty.ts", b""),
        (b"text.mp4", b"this is worth a word"),
    ],
)
def test_a_video_is_told_from_text(name: bytes, head: bytes) -> None:
    assert begins_right(name, head[:HEAD])


def test_old_raw_files_are_known_by_suffix_and_first_bytes() -> None:
    assert all(is_raw_name(b"a" + suffix.upper().encode()) for suffix in TYPES["raw"])
    for head in (b"II\x1a\0\0\0HEAPCCDR", b"\0MRM\0\1\2\3", b"FOVb\0\0\2\0"):
        assert may_be_raw(head + bytes(8))
        assert looks_like_a_photo(head + bytes(8))


def test_jpeg_xl_and_photoshop_files_are_known() -> None:
    assert looks_like_a_photo(b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14")
    assert looks_like_a_photo(b"8BPS\0\1" + bytes(10))
