"""Gemma's tokenizer, which SigLIP 2 reads texts with, from a mapped table: of 256,000 tokens a text has few.

The `tokenizers` library takes a second to read the file and to build its tables (here: 2 ms). The same byte-pair merges
are made here from one sorted array in the cache folder, equal to the library's on every text that this module takes.
"""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.models import cache

# Keys: a pair of tokens is `left << 32 | right`; a character, a byte and the end of a text have negative ones. A pair's
# value is `rank << 32 | token`, any other's the token.
Table = NDArray[np.int64]  # (2, n): keys in order, values
_CHARACTER, _BYTE, _END = -1, -0x200000, -0x300000
_NONE = 1 << 62
_LONGEST = 2000  # characters; the time grows with their square
# Every token that is looked for in the text as it is, before anything else, must have one of these for the table to be
# made; a text that has one is not read here.
_UNUSUAL = frozenset(string.punctuation + string.whitespace + "▁") - {" "}
_MODEL = {"type": "BPE", "byte_fallback": True, "dropout": None, "ignore_merges": False}
_MODEL |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}  # finds none


class BytePairs:
    """A text to the ids that the library gives."""

    def __init__(self, table: Table) -> None:
        self._keys, self._values = table
        (self._end,) = self._find([_END])

    @staticmethod
    def reads(text: str) -> bool:
        """Whether it takes a text: of the usual characters, and not very long."""
        return len(text) <= _LONGEST and _UNUSUAL.isdisjoint(text)

    def __call__(self, text: str, context_length: int) -> list[int]:
        """The ids of a text and of its end, at most `context_length`."""
        ids = self._merged(self._characters(text.replace(" ", "▁")))
        return [*ids[: context_length - 1], self._end]

    def _characters(self, text: str) -> list[int]:
        """The token of each character; the tokens of its bytes where it has none."""
        ids: list[int] = []
        for letter, token in zip(text, self._find([_CHARACTER - ord(letter) for letter in text]), strict=True):
            ids += [token] if token != _NONE else self._find([_BYTE - byte for byte in letter.encode()])
        return ids

    def _merged(self, ids: list[int]) -> list[int]:
        """The tokens after all merges: of those that can be made the earliest that was learnt, from the left."""
        merges = self._find(_pairs(ids))
        while merges and (first := min(merges)) != _NONE:
            place = merges.index(first)
            ids[place : place + 2] = [first & 0xFFFFFFFF]
            before = max(place - 1, 0)
            merges[before : place + 2] = self._find(_pairs(ids[before : place + 2]))
        return ids

    def _find(self, keys: list[int]) -> list[int]:
        """The values of keys, `_NONE` for those that the table has not."""
        wanted = np.array(keys, np.int64)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found: list[int] = np.where(self._keys[places] == wanted, self._values[places], _NONE).tolist()
        return found


def byte_pairs(path: Path) -> BytePairs | None:
    """The reader of a `tokenizer.json`, kept in the cache from the first use on; None if it is of another kind.

    Raises OSError, and what a file of another kind may raise: ValueError, KeyError, TypeError.
    """
    name = f"byte-pairs-{cache.sha256_of_file(path)[:32]}.npy"
    table = cache.array(name)
    if table is None:
        table = _table(json.loads(path.read_text(encoding="utf-8")))
        cache.keep_array(name, table)
    return BytePairs(table) if table.size else None


def _table(tokenizer: dict[str, Any]) -> Table:
    """The table of a tokenizer, an empty one if it is not of Gemma's kind."""
    model, vocabulary = tokenizer["model"], tokenizer["model"].get("vocab")
    as_gemma = (
        all((model.get(key) or None) == (value or None) for key, value in _MODEL.items())
        and tokenizer["normalizer"] == _NORMALIZER
        and tokenizer["pre_tokenizer"] in (None, _SPLIT)
        and all(not _UNUSUAL.isdisjoint(added["content"]) for added in tokenizer["added_tokens"])
        and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    )
    end = _token_at_the_end(tokenizer["post_processor"])
    if not as_gemma or end is None:
        return np.empty((2, 0), np.int64)
    values = {_END: end} | {_BYTE - byte: vocabulary[f"<0x{byte:02X}>"] for byte in range(256)}
    values |= {_CHARACTER - ord(token): number for token, number in vocabulary.items() if len(token) == 1}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        values[vocabulary[left] << 32 | vocabulary[right]] = rank << 32 | vocabulary[left + right]
    keys = np.fromiter(values.keys(), np.int64, len(values))
    order = np.argsort(keys)
    return np.stack([keys[order], np.fromiter(values.values(), np.int64, len(values))[order]])


def _token_at_the_end(processor: dict[str, Any]) -> int | None:
    """The token that is put after a text, if that is all that is put around it."""
    match processor:
        case {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": name}}]}:
            ids = processor["special_tokens"][name]["ids"]
            return int(ids[0]) if len(ids) == 1 else None
    return None


def _pairs(ids: list[int]) -> list[int]:
    return [left << 32 | right for left, right in itertools.pairwise(ids)]
