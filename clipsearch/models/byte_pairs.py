"""Gemma's BPE tokenizer, which SigLIP 2 uses, over a memory-mapped merge table.

Loading `tokenizer.json` with the `tokenizers` library takes a second, because it builds hash tables for all 256,000
tokens. This module looks merges up in one sorted array, mapped from the cache folder in 2 ms. It returns the library's
ids for every text that it accepts.
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

# Keys: `left << 32 | right` for a pair of tokens; negative for a character, a byte and end of text.
# Values: `rank << 32 | merged token` for a pair; the token for everything else.
Table = NDArray[np.int64]  # (2, n): sorted keys, values
_CHARACTER, _BYTE, _END = -1, -0x200000, -0x300000
_NONE = 1 << 62
_MAX_LENGTH = 2000  # characters; merging takes quadratic time
# Added tokens are matched in the raw text, before BPE. A text without these characters cannot contain one, because no
# table is built for a tokenizer that has an added token without them.
_UNUSUAL = frozenset(string.punctuation + string.whitespace + "▁") - {" "}
_MODEL = {"type": "BPE", "byte_fallback": True, "dropout": None, "ignore_merges": False}
_MODEL |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
# A no-op: the normalizer has already replaced every space.
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


class BytePairs:
    """Tokenizes with the merges of a `Table`."""

    def __init__(self, table: Table) -> None:
        self._keys, self._values = table
        (self._end,) = self._find([_END])

    @staticmethod
    def reads(text: str) -> bool:
        """Whether a text can be tokenized here: short, without ASCII punctuation, line breaks or "▁"."""
        return len(text) <= _MAX_LENGTH and _UNUSUAL.isdisjoint(text)

    def __call__(self, text: str, context_length: int) -> list[int]:
        """Token ids, truncated to `context_length` including the end token."""
        ids = self._merged(self._characters(text.replace(" ", "▁")))
        return [*ids[: context_length - 1], self._end]

    def _characters(self, text: str) -> list[int]:
        """One token per character, or one per UTF-8 byte for characters outside the vocabulary."""
        ids: list[int] = []
        for letter, token in zip(text, self._find([_CHARACTER - ord(letter) for letter in text]), strict=True):
            ids += [token] if token != _NONE else self._find([_BYTE - byte for byte in letter.encode()])
        return ids

    def _merged(self, ids: list[int]) -> list[int]:
        """Apply merges until none is left: lowest rank first, leftmost first among equals."""
        merges = self._find(_pairs(ids))
        while merges and (first := min(merges)) != _NONE:
            at = merges.index(first)
            ids[at : at + 2] = [first & 0xFFFFFFFF]
            before = max(at - 1, 0)
            merges[before : at + 2] = self._find(_pairs(ids[before : at + 2]))
        return ids

    def _find(self, keys: list[int]) -> list[int]:
        """The value of each key, `_NONE` if it is missing."""
        wanted = np.array(keys, np.int64)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found: list[int] = np.where(self._keys[at] == wanted, self._values[at], _NONE).tolist()
        return found


def byte_pairs(path: Path) -> BytePairs | None:
    """The tokenizer in a `tokenizer.json`, or None if it is not Gemma-style BPE. The table is cached after first use.

    Raises OSError, or ValueError, KeyError, TypeError or AttributeError for JSON of another structure.
    """
    name = f"byte-pairs-{cache.sha256_of_file(path)[:32]}.npy"
    table = cache.array(name)
    if table is None:
        table = _table(json.loads(path.read_text(encoding="utf-8")))
        cache.keep_array(name, table)
    return BytePairs(table) if table.size else None


def _table(tokenizer: dict[str, Any]) -> Table:
    """The table of a parsed `tokenizer.json`; empty, so that the answer is cached too, if it is not Gemma-style."""
    model, vocabulary = tokenizer["model"], tokenizer["model"].get("vocab")
    is_gemma = (
        all((model.get(key) or None) == (value or None) for key, value in _MODEL.items())
        and tokenizer["normalizer"] == _NORMALIZER
        and tokenizer["pre_tokenizer"] in (None, _SPLIT)
        and all(not _UNUSUAL.isdisjoint(added["content"]) for added in tokenizer["added_tokens"])
        and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    )
    end = _end_token(tokenizer["post_processor"])
    if not is_gemma or end is None:
        return np.empty((2, 0), np.int64)
    values = {_END: end} | {_BYTE - byte: vocabulary[f"<0x{byte:02X}>"] for byte in range(256)}
    values |= {_CHARACTER - ord(token): number for token, number in vocabulary.items() if len(token) == 1}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        values[vocabulary[left] << 32 | vocabulary[right]] = rank << 32 | vocabulary[left + right]
    keys = np.fromiter(values.keys(), np.int64, len(values))
    order = np.argsort(keys)
    return np.stack([keys[order], np.fromiter(values.values(), np.int64, len(values))[order]])


def _end_token(processor: dict[str, Any]) -> int | None:
    """The token appended to a text; None if the template adds anything else."""
    match processor:
        case {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": name}}]}:
            ids = processor["special_tokens"][name]["ids"]
            return int(ids[0]) if len(ids) == 1 else None
    return None


def _pairs(ids: list[int]) -> list[int]:
    return [left << 32 | right for left, right in itertools.pairwise(ids)]
