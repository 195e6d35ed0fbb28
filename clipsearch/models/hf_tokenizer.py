"""Tokenizes with a Hugging Face `tokenizer.json`, like open_clip's `HFTokenizer` but without transformers."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import WeightsUnusable, first_line
from clipsearch.models.byte_pairs import BytePairs, byte_pairs
from clipsearch.models.tokenizer import canonicalise, clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SMALL = 12_000_000  # bytes; up to this size, the `tokenizers` library loads a file fast enough for a query
_ONE_LANGUAGE = 100_000  # tokens; BERT's English vocabulary has 30,522, those of XLM-R and Gemma 250,000 or more


def tokenize(texts: list[str], path: Path, context_length: int, *, canonical: bool = False) -> list[list[int]]:
    """Token ids of each text with the tokenizer's special tokens, truncated to `context_length`, not padded.

    `canonical` applies SigLIP's text normalisation: lower case, no punctuation. Raises `WeightsUnusable` if the file at
    `path` is not a tokenizer.
    """
    normalise = canonicalise if canonical else clean
    return [_ids(normalise(text), path, context_length) for text in texts]


def fits(text: str, path: Path, context_length: int, *, canonical: bool = False) -> bool:
    """Whether `tokenize` keeps all of a text."""
    text, table = canonicalise(text) if canonical else clean(text), prepare(path)
    if table is not None and table.reads(text):
        return len(table(text, sys.maxsize)) <= context_length
    return not _library(path, context_length).encode(text).overflowing


def is_multilingual(path: Path, context_length: int) -> bool:
    """Whether a tokenizer was made for many languages, by the size of its vocabulary."""
    return path.stat().st_size > _SMALL or _library(path, context_length).get_vocab_size() > _ONE_LANGUAGE


def knows(word: str, path: Path, context_length: int) -> bool:
    """Whether a tokenizer has tokens for a word."""
    library = _library(path, context_length)
    unknown: str | None = getattr(library.model, "unk_token", None)
    return unknown not in library.encode(word, add_special_tokens=False).tokens


def _ids(text: str, path: Path, context_length: int) -> list[int]:
    table = prepare(path)
    if table is not None and table.reads(text):
        return table(text, context_length)
    # Not `encode_batch`: starting its threads takes longer than tokenizing a few words.
    return _library(path, context_length).encode(text).ids


@functools.lru_cache(2)
def prepare(path: Path) -> BytePairs | None:
    """The fast tokenizer for a large vocabulary, if there is one. Building its table takes seconds the first time."""
    try:
        return byte_pairs(path) if path.stat().st_size > _SMALL else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the library will report the error


@functools.lru_cache(2)
def _library(path: Path, context_length: int) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise WeightsUnusable(f"{path} is not a valid tokenizer: {first_line(error)}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    return tokenizer
