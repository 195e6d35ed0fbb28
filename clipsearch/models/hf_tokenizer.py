"""Text to the token ids of a `tokenizer.json`, as open_clip's `HFTokenizer` gives them, without transformers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import WeightsUnusable, first_line
from clipsearch.models.tokenizer import canonicalise, clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenize(texts: list[str], path: Path, context_length: int, *, canonical: bool = False) -> list[list[int]]:
    """The ids of each text with the special ones around them: at most `context_length` of them, no padding.

    `canonical`: without punctuation and in lower case. Raises `WeightsUnusable` if the file at `path` is no tokenizer.
    """
    tokenizer, mend = _load(path, context_length), canonicalise if canonical else clean
    # One by one: a batch would start threads, which take longer than a few words.
    return [tokenizer.encode(mend(text)).ids for text in texts]


@functools.lru_cache(2)
def _load(path: Path, context_length: int) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no other
        raise WeightsUnusable(f"{path} cannot be read as a tokenizer: {first_line(error)}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    return tokenizer
