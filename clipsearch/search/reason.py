"""Why a photo matches a text."""

from __future__ import annotations

from typing import NamedTuple

LOOK, NAME, GENERATED_CAPTION = "look", "name", "generated_caption"  # kinds of reasons


class Reason(NamedTuple):
    """Why a photo matches.

    `kind` is `look` (CLIP), `text` (in the photo, by OCR), `generated_caption` (by a vision-language model), `keyword`,
    `person`, `title`, `caption`, `place`, or `name` (of the file or a folder). `matched` is the line, keyword and so on
    that has the words, empty for `look`.
    """

    kind: str
    matched: str = ""
