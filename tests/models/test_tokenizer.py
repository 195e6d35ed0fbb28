from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import pytest
from conftest import needs_torch
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.models.tokenizer import END_OF_TEXT, START_OF_TEXT, tokenize

WORDS = st.sampled_from(
    [
        "dog",
        "It's",
        "<start_of_text>",
        "<END_OF_TEXT>",
        "&amp;",
        "&#x1F415;",
        "&lt",
        "ﬁ",
        "ſ",
        "K",
        "'S",
        "1",
        "\x00",
        "\x1b[31m",
        "\u00a0",
        "\u200d",
        "é",
        "e\u0301",
        "Ã©",
        "“",
        "ß",
        "İ",
        "ǆ",
        "中",
        "٣",
        "½",
        "_",
        "!",
        "'",
        "&",
        ";",
        " ",
        "\t",
        "\n",
        "-",
    ]
)


@functools.cache
def their_tokenizer() -> Any:
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")


def theirs(text: str, context_length: int = 77) -> list[int]:
    ids = their_tokenizer()([text], context_length=context_length)[0].tolist()
    # What follows the last end of text is padding. There may be an earlier one: it can be written in a text.
    return ids[: len(ids) - ids[::-1].index(END_OF_TEXT)]


def assert_same(text: str, context_length: int = 77) -> None:
    assert tokenize([text], context_length) == [theirs(text, context_length)]


@needs_torch
@given(st.text())
@examples(300)
def test_any_text_has_the_ids_that_open_clip_gives(text: str) -> None:
    assert_same(text)


@needs_torch
@given(st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=120))
@examples(300)
def test_any_ascii_text_has_the_ids_that_open_clip_gives(text: str) -> None:
    assert_same(text)


@needs_torch
@given(st.lists(WORDS, max_size=12).map("".join), st.integers(2, 20))
@examples(300)
def test_awkward_texts_have_the_ids_that_open_clip_gives(text: str, context_length: int) -> None:
    assert_same(text, context_length)


@needs_torch
@pytest.mark.parametrize(
    "text",
    [
        "a photo of a dog",
        "",
        "   ",
        "!",
        "A DOG'S BREAKFAST, they'll say; I'd've known: 1984 & 7.5%",
        "🐕 on a 🏖️ with 👩‍👩‍👧‍👦",
        "&lt;b&gt; &amp;amp;lt; &eacute;&#8217;s &notanentity;",
        "ﬁne ﬂowers, oﬃce",
        "ſea'ſ congreſs",
        "5 \u212a and \u212b",
        "a <start_of_text> b <end_of_text> c <START_OF_TEXT>",
        "a\x00b\x07c\x7f\x1b[31mred\x1b[0m\u0085next\u2028line",
        "schön und groß, İstanbul, ΌΣΟΣ, Ω",
        "schÃ¶n â€œquotedâ€\x9d",
        "日本の夏 漢字 ไทย हिन्दी العربية",
        "tab\tnew\nline\r\n\u00a0nbsp\u3000wide ＡＢＣ",
        "antidisestablishmentarianism_pneumonoultramicroscopicsilicovolcanoconiosis",
        "x" * 1000,
        "---===>>> ::: ¯\\_(ツ)_/¯",
        "١٢٣ ½ ² Ⅷ ①",
    ],
)
def test_chosen_texts_have_the_ids_that_open_clip_gives(text: str) -> None:
    assert_same(text)


def test_the_ids_of_a_plain_text_are_those_of_clip() -> None:
    # From the notebook of OpenAI's CLIP.
    assert tokenize(["a diagram"]) == [[START_OF_TEXT, 320, 22697, END_OF_TEXT]]
    assert (START_OF_TEXT, END_OF_TEXT) == (49406, 49407)


LONG = "one two three four five " * 100


@pytest.mark.parametrize("context_length", [2, 3, 16, 32, 77])
def test_a_long_text_is_cut_and_still_ends(context_length: int) -> None:
    (ids,) = tokenize([LONG], context_length)
    (longer,) = tokenize([LONG], context_length + 1)
    assert ids == [*longer[: context_length - 1], END_OF_TEXT]


@needs_torch
@pytest.mark.parametrize("context_length", [2, 3, 16, 32, 77])
def test_a_long_text_is_cut_as_open_clip_does_it(context_length: int) -> None:
    assert_same(LONG, context_length)
    for n in (74, 75, 76):
        assert_same("dog " * n)


def test_a_text_that_just_fits_is_not_cut() -> None:
    assert [len(tokenize(["dog " * n])[0]) for n in (74, 75, 76)] == [76, 77, 77]


def test_each_text_has_a_list_of_its_own() -> None:
    assert tokenize(["a dog", "a cat on a mat"]) == [*tokenize(["a dog"]), *tokenize(["a cat on a mat"])]
    assert tokenize([]) == []


@pytest.mark.parametrize(
    ("text", "loaded"), [("A dog's breakfast, 7 <b>!", []), ("schön", ["ftfy", "regex"])], ids=["ascii", "other"]
)
def test_plain_ascii_needs_neither_ftfy_nor_regex(text: str, loaded: list[str]) -> None:
    code = (
        "import sys; from clipsearch.models.tokenizer import tokenize; tokenize([sys.argv[1]]);"
        "print(*sorted({'ftfy', 'regex', 'torch', 'open_clip', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-X", "utf8", "-c", code, text]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == loaded
