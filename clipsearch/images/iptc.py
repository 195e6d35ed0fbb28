"""Reads an IPTC-IIM block, in which agencies and older programs describe photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clipsearch.images.dates import iptc_time
from clipsearch.images.facts import Facts, dated, lines

Block = Mapping[tuple[int, int], bytes | list[bytes]]

_TITLE, _KEYWORDS, _DAY, _TIME, _HEADLINE, _CAPTION = 5, 25, 55, 60, 105, 120  # of record 2
_LOCATION = (92, 90, 95, 101)  # sublocation, city, state, country


def iptc_facts(block: Block | None) -> Facts:
    """The facts in a block, as returned by Pillow's `getiptcinfo`."""
    if not block:
        return Facts()

    def first(*fields: int) -> str | None:
        return next((text for field in fields for text in _texts(block, field) if text), None)

    return dated(iptc_time(first(_DAY) or "", first(_TIME) or ""), "iptc")._replace(
        location=", ".join(text for field in _LOCATION if (text := first(field))) or None,
        keywords=lines(_texts(block, _KEYWORDS)),
        title=first(_TITLE, _HEADLINE),
        caption=first(_CAPTION),
    )


def _texts(block: Block, field: int) -> Iterator[str]:
    values = block.get((2, field), [])
    for value in [values] if isinstance(values, bytes) else values:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        yield " ".join(text.replace("\0", " ").split())
