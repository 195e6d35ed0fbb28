"""Reads IPTC-IIM, in which agencies and older programs describe photos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clipsearch.images.dates import iptc_time
from clipsearch.images.facts import Facts, dated, decoded, lines

_TITLE, _KEYWORDS, _DAY, _TIME, _HEADLINE, _CAPTION = 5, 25, 55, 60, 105, 120  # of record 2
_LOCATION = (92, 90, 95, 101)  # sublocation, city, state, country
_START = re.compile(rb"\x1c[\x01\x02]")
_LONGEST = 1 << 20  # bytes to look at


def iptc_facts(block: bytes) -> Facts:
    """The facts in a block, which may follow the header of a Photoshop resource."""
    known: dict[int, list[str]] = {}
    for field, value in _datasets(block[:_LONGEST]):
        known.setdefault(field, []).append(" ".join(decoded(value).replace("\0", " ").split()))

    def first(*fields: int) -> str | None:
        return next((text for field in fields for text in known.get(field, ()) if text), None)

    keywords: Sequence[str] = known.get(_KEYWORDS, ())
    return dated(iptc_time(first(_DAY) or "", first(_TIME) or ""), "iptc")._replace(
        location=", ".join(text for field in _LOCATION if (text := first(field))) or None,
        keywords=lines(keywords),
        title=first(_TITLE, _HEADLINE),
        caption=first(_CAPTION),
    )


def _datasets(block: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of record 2, up to the first damaged one."""
    start = _START.search(block)
    at = start.start() if start else len(block)
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, field, length = block[at + 1], block[at + 2], int.from_bytes(block[at + 3 : at + 5], "big")
        at += 5
        if length & 0x8000:  # the length of the length
            size = length & 0x7FFF
            length, at = int.from_bytes(block[at : at + size], "big"), at + size
        if record == 2:
            yield field, block[at : at + length]
        at += length
