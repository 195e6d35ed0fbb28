"""CLIP's BPE tokenizer without torch. Returns the ids of `open_clip.SimpleTokenizer` for any string.

The vocabulary is a list of merges, most frequent first. Token ids follow from its order: 256 bytes, the same 256 bytes
at the end of a word, the merges, start of text, end of text.

This is plain Python because queries are short and startup dominates: the first text of a process takes 17 ms, against
122 ms with the `tokenizers` library and the same merges.
"""

from __future__ import annotations

import functools
import gzip
import html
import itertools
import re
import string
from pathlib import Path
from typing import Any

MERGES = 49152 - 256 - 2
START_OF_TEXT, END_OF_TEXT = 512 + MERGES, 512 + MERGES + 1
_FILE = Path(__file__).with_name("clip_merges.txt.gz")
_SPECIAL = {"<start_of_text>": START_OF_TEXT, "<end_of_text>": END_OF_TEXT}
_PIECES = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ASCII_WORDS = re.compile(_PIECES + r"|[a-z]+|[0-9]|[^\sa-z0-9]+", re.ASCII)


def tokenize(texts: list[str], context_length: int = 77) -> list[list[int]]:
    """Token ids of each text from start to end token, truncated to `context_length`, not padded."""
    out = []
    for text in texts:
        ids = [START_OF_TEXT, *_encode(text), END_OF_TEXT]
        if len(ids) > context_length:
            ids = [*ids[: context_length - 1], END_OF_TEXT]
        out.append(ids)
    return out


def fits(text: str, context_length: int = 77) -> bool:
    """Whether `tokenize` keeps all of a text."""
    return len(_encode(text)) + 2 <= context_length


def _encode(text: str) -> list[int]:
    ids: list[int] = []
    for word in _words(text):
        ids += _word_ids(word)
    return ids


def clean(text: str) -> str:
    """The cleanup in all of open_clip's tokenizers: fix mojibake, unescape HTML twice, collapse whitespace."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # skip a slow import for most queries
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def canonicalise(text: str) -> str:
    """SigLIP's cleanup (`canonicalize_text` in big_vision): `clean`, then lower case without ASCII punctuation."""
    return " ".join(clean(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def _words(text: str) -> list[str]:
    text = clean(text).lower()
    # Only Unicode properties need the regex library, which takes 20 ms to import.
    words: list[str] = (_ASCII_WORDS if text.isascii() else _unicode_words()).findall(text)
    return words


@functools.cache
def _unicode_words() -> Any:
    import regex

    return regex.compile(_PIECES + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


@functools.lru_cache(4096)
def _word_ids(word: str) -> tuple[int, ...]:
    if word in _SPECIAL:
        return (_SPECIAL[word],)
    merges, letters = _merges(), _letters()
    symbols = [letters[byte] for byte in word.encode("utf-8")]
    symbols[-1] += "</w>"
    ids = dict(_base_ids())
    while len(symbols) > 1:
        rank, best = min((merges.get(pair, MERGES), pair) for pair in map(" ".join, itertools.pairwise(symbols)))
        if rank == MERGES:
            break
        ids[best.replace(" ", "")] = 512 + rank
        merged, position = [], 0
        while position < len(symbols):
            if position + 1 < len(symbols) and f"{symbols[position]} {symbols[position + 1]}" == best:
                merged.append(symbols[position] + symbols[position + 1])
                position += 2
            else:
                merged.append(symbols[position])
                position += 1
        symbols = merged
    return tuple(ids[symbol] for symbol in symbols)


@functools.cache
def _letters() -> dict[int, str]:
    """GPT-2's mapping of bytes to printable characters, in vocabulary order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}


@functools.cache
def _base_ids() -> dict[str, int]:
    letters = list(_letters().values())
    return {letter: n for n, letter in enumerate(letters)} | {f"{x}</w>": 256 + n for n, x in enumerate(letters)}


@functools.cache
def _merges() -> dict[str, int]:
    """The rank of each merge, keyed by "left right"."""
    lines = gzip.decompress(_FILE.read_bytes()).decode().splitlines()
    return dict(zip(lines, range(MERGES), strict=True))
