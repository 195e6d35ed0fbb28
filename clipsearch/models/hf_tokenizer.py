"""Text to the token ids of a `tokenizer.json`, as open_clip's `HFTokenizer` gives them, without transformers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import WeightsUnusable, first_line
from clipsearch.models.byte_pairs import BytePairs, byte_pairs
from clipsearch.models.tokenizer import canonicalise, clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# Bytes of a `tokenizer.json`: up to here the library is ready before a query waits for it.
_SMALL = 12_000_000


def tokenize(texts: list[str], path: Path, context_length: int, *, canonical: bool = False) -> list[list[int]]:
    """The ids of each text with the special ones around them: at most `context_length` of them, no padding.

    `canonical`: without punctuation and in lower case. Raises `WeightsUnusable` if the file at `path` is no tokenizer.
    """
    mend = canonicalise if canonical else clean
    return [_read(mend(text), path, context_length) for text in texts]


def _read(text: str, path: Path, context_length: int) -> list[int]:
    table = prepare(path)
    if table is not None and table.reads(text):
        return table(text, context_length)
    # One by one: a batch would start threads, which take longer than a few words.
    return _library(path, context_length).encode(text).ids


@functools.lru_cache(2)
def prepare(path: Path) -> BytePairs | None:
    """The fast reader of a large vocabulary, if it is of a kind that has one. It takes seconds the first time."""
    try:
        return byte_pairs(path) if path.stat().st_size > _SMALL else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the library will say what is wrong


@functools.lru_cache(2)
def _library(path: Path, context_length: int) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no other
        raise WeightsUnusable(f"{path} cannot be read as a tokenizer: {first_line(error)}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    return tokenizer
