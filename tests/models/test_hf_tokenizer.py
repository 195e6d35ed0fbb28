"""Token ids, compared with open_clip's `HFTokenizer`, which uses transformers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_torch
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TEXTS, save_hf

from clipsearch.models.hf_tokenizer import tokenize
from clipsearch.models.model import Model

PADDING = {"minilm": 0, "xlm-roberta": 1}
WORDS = ["dog", "a", "isn't", "&amp;", "&#x1F415;", "ﬁ", "É", "e\u0301", "schÃ¶n", "“", "ß", "中漢", "ＡＢＣ", "½"]
WORDS += ["\x00", "\u00a0", "\u200d", "\t", "\n", " ", "  ", "-", "[SEP]", "[PAD]", "<s>", "<pad>", "▁", "🐕", "собака"]
SOME = st.text() | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


@pytest.fixture(scope="module", params=PADDING)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return save_hf(tmp_path_factory.mktemp("tokens"), request.param)


def assert_same(model: Model, text: str, context_length: int) -> None:
    assert model.text is not None
    (ids,) = tokenize([text], model.text.tokenizer, context_length)
    padded = ids + [model.text.padding] * (context_length - len(ids))
    assert padded == their_tokenizer(model.weights.parent)([text], context_length=context_length)[0].tolist()


@functools.cache
def their_tokenizer(folder: Path) -> Any:
    import open_clip.tokenizer

    return open_clip.tokenizer.HFTokenizer(str(folder))


@needs_torch
@given(text=SOME, context_length=st.integers(3, 40))
@examples(300)
def test_any_text_has_the_ids_that_open_clip_gives(model: Model, text: str, context_length: int) -> None:
    assert_same(model, text, context_length)


@needs_torch
@pytest.mark.parametrize("text", TEXTS)
def test_chosen_texts_have_the_ids_that_open_clip_gives(model: Model, text: str) -> None:
    for context_length in (4, 24, 77):
        assert_same(model, text, context_length)


def test_a_long_text_is_cut_and_still_ends(model: Model) -> None:
    assert model.text is not None
    short, long = tokenize(["dog", "dog " * 50], model.text.tokenizer, 8)
    assert (len(long), long[0], long[-1]) == (8, short[0], short[-1])
    assert len(short) < 8


def test_a_file_of_the_same_name_elsewhere_is_another(tmp_path: Path) -> None:
    first, second = save_hf(tmp_path / "a", "minilm"), save_hf(tmp_path / "b", "xlm-roberta")
    assert first.text is not None
    assert second.text is not None
    assert tokenize(["dog"], first.text.tokenizer, 8) != tokenize(["dog"], second.text.tokenizer, 8)
