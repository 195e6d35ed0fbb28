"""Reads the metadata in PNG's own chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from email.utils import parsedate
from typing import Any

from clipsearch.images.dates import xmp_time
from clipsearch.images.facts import Facts, dated, one_line

_CREATED = ("Creation Time", "create-date")


def png_facts(data: bytes, texts: Mapping[Any, Any]) -> Iterator[Facts]:
    """The facts in a PNG file's text chunks, as Pillow read them, and in its tIME chunk."""
    created = next((texts[key] for key in _CREATED if isinstance(texts.get(key), str)), "")
    yield dated(xmp_time(created) or _rfc_time(created), "png")._replace(
        title=one_line(texts.get("Title")), caption=one_line(texts.get("Description"))
    )
    changed = _chunk(data, b"tIME")
    if len(changed) == 7:
        year, *others = struct.unpack(">HBBBBB", changed)
        yield dated(_time(year, *others), "modified")


def raw_profile(texts: Mapping[Any, Any], name: str) -> bytes:
    """Metadata that ImageMagick keeps in a text as hexadecimal digits, below its name and its length."""
    text = texts.get(f"Raw profile type {name}")
    try:
        return bytes.fromhex("".join(text.strip().split("\n")[2:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _rfc_time(text: str) -> str | None:
    """`Mon, 17 Jul 2006 21:58:50 GMT`, the form that PNG's specification recommends."""
    found = parsedate(text)
    return _time(*found[:6]) if found else None


def _time(*parts: int) -> str | None:
    return xmp_time("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*parts))


def _chunk(data: bytes, name: bytes) -> bytes:
    """The first chunk of a name; empty if there is none."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == name:
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return b""
