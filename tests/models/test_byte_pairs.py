"""The table-driven Gemma tokenizer, compared with the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_pairs as small_tokenizer
from tiny_models import t5_unigrams

from clipsearch.models import hf_tokenizer
from clipsearch.models.byte_pairs import BytePairs, byte_pairs
from clipsearch.models.hf_tokenizer import prepare, tokenize
from clipsearch.models.tokenizer import canonicalise

WORDS = [
    "dog",
    " ",
    "beach",
    "sunset",
    "birthday",
    "schöne",
    "Köln",
    "日本の夏",
    "собака",
    "🐕",
    "\u200d",
    "e\u0301",
    "ab",
]
WORDS += ["<eos>", "▁▁", "▁", "\n", "<0x41>", "<unused0>", "'", "_", "7.5%", "ß", "ＡＢＣ", "\x00", "\u00a0"]
SOME = st.text() | st.lists(st.sampled_from(WORDS), max_size=30).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gemma") / "tokenizer.json"
    small_tokenizer().save(str(file))
    return file


@pytest.fixture(autouse=True)
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files have a table too."""
    prepare.cache_clear()
    monkeypatch.setattr(hf_tokenizer, "_SMALL", 0)


def of_library(path: Path, text: str, context_length: int) -> list[int]:
    library = tokenizers.Tokenizer.from_file(str(path))
    library.enable_truncation(context_length)
    return library.encode(text).ids


@given(text=SOME, context_length=st.integers(1, 40))
@examples(400)
def test_any_text_has_the_ids_of_the_library(path: Path, text: str, context_length: int) -> None:
    expected = of_library(path, canonicalise(text), context_length)
    assert tokenize([text], path, context_length, canonical=True) == [expected]


@given(text=SOME)
@examples(200)
def test_what_is_not_canonical_has_them_too(path: Path, text: str) -> None:
    table = byte_pairs(path)
    assert table is not None
    if table.reads(text):
        assert table(text, 24) == of_library(path, text, 24)


def test_usual_texts_are_read_without_the_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_tokenizer, "_library", lambda *_: pytest.fail("the library was asked"))
    for text in ("A dog, on a beach!", "schöne Grüße 🐕", "日本の夏", "", "isn't_it <eos>"):
        assert tokenize([text], path, 24, canonical=True)


@pytest.mark.parametrize("text", ["a ▁▁ b", "dog " * 600, "▁"])
def test_unusual_texts_are_read_by_the_library(text: str, path: Path) -> None:
    assert not BytePairs.reads(canonicalise(text))
    assert tokenize([text], path, 24, canonical=True) == [of_library(path, canonicalise(text), 24)]


def test_the_table_is_made_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tokenize(["a dog"], path, 24)
    prepare.cache_clear()
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("the tokenizer was read again"))
    assert tokenize(["a dog"], path, 24) == expected


def test_a_damaged_table_is_made_anew(path: Path, own_home: Path) -> None:
    expected = tokenize(["a dog"], path, 24)
    (kept,) = own_home.rglob("byte-pairs-*.npy")
    whole = kept.read_bytes()
    for damaged in (b"", whole[:50], whole[:-8], b"nonsense"):
        kept.write_bytes(damaged)
        prepare.cache_clear()
        assert tokenize(["a dog"], path, 24) == expected
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    expected = tokenize(["a dog"], path, 24)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    prepare.cache_clear()
    assert tokenize(["a dog"], path, 24) == expected


def changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda tokenizer: tokenizer.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        changed(normalizer={"type": "Lowercase"}),
        changed(normalizer=None),
        changed(pre_tokenizer={"type": "Whitespace"}),
        changed(post_processor=None),
        lambda tokenizer: tokenizer["model"].update(byte_fallback=False),
        lambda tokenizer: tokenizer["model"].update(ignore_merges=True),
        lambda tokenizer: tokenizer["model"].update(end_of_word_suffix="</w>"),
        lambda tokenizer: tokenizer["added_tokens"].append(
            {**tokenizer["added_tokens"][0], "content": "dog", "id": 900}
        ),
    ],
)
def test_another_kind_has_no_table(change: Callable[[dict[str, Any]], None], path: Path, tmp_path: Path) -> None:
    assert byte_pairs(path) is not None
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(tokenizer))
    assert byte_pairs(other) is None
    assert byte_pairs(other) is None  # which is remembered
    texts = ["a dog on a beach", "a birthday"]
    assert tokenize(texts, other, 24) == [of_library(other, text, 24) for text in texts]


def test_unigrams_have_no_table(tmp_path: Path) -> None:
    t5_unigrams().save(str(tmp_path / "tokenizer.json"))
    assert prepare(tmp_path / "tokenizer.json") is None


def test_a_small_file_has_no_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_tokenizer, "_SMALL", path.stat().st_size)
    assert prepare(path) is None


def test_merges_may_be_written_as_one_string(path: Path, tmp_path: Path) -> None:
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    one, other = byte_pairs(path), byte_pairs(tmp_path / "tokenizer.json")
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one._keys, other._keys)
    np.testing.assert_array_equal(one._values, other._values)
