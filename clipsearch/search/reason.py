"""Why a photo matches a text."""

from __future__ import annotations

from typing import NamedTuple

LOOK, NAME = "look", "name"  # kinds of reasons


class Reason(NamedTuple):
    """Why a photo matches.

    `kind` is `look` (CLIP), `text` (in the photo, by OCR), `keyword`, `person`, `title`, `caption`, `place`, or `name`
    (of the file or a folder); `matched` is the line, keyword and so on that has the words, empty for `look`.
    """

    kind: str
    matched: str = ""
