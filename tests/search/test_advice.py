"""What is said about texts that a model cannot read well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SCENES, Run
from tiny_models import save_tiny

from clipsearch.models.model import Model, mini
from clipsearch.search.advice import advice, fits

FOREIGN = ["Hund", "schwarze Katze", "un perro", "les oiseaux", "spiaggia", "собака на пляже", "слон", "象", "개"]
ENGLISH = [
    *(caption for scene in SCENES for caption in scene.captions),
    *(
        "a café in São Paulo",
        "Beyoncé",
        "Zürich",
        "El Niño",
        "Los Angeles",
        "a hand",
        "Gift",
        "a π tattoo",
        "ΔT",
        "jalapeño",
    ),
    *("4ᵗʰ of July", "“quoted” – text… ™ ½ → ✓", "isn't", "IMG_1234", "", "  "),
]


def clip(folder: Path) -> Model:
    """A model with CLIP's tokenizer."""
    model = save_tiny(folder)
    return replace(model, config=model.config | {"text_cfg": model.config["text_cfg"] | {"context_length": 77}})


def multilingual(folder: Path) -> Model:
    """mini with a vocabulary as large as those for many languages."""
    model = mini()
    assert model.text is not None
    tokenizer = json.loads(model.text.tokenizer.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"token{n}": len(vocabulary) + n for n in range(100_000)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return replace(model, text=replace(model.text, tokenizer=folder / "tokenizer.json"))


@pytest.mark.parametrize("text", FOREIGN)
def test_words_of_other_languages_are_named(tmp_path: Path, text: str) -> None:
    for model in (mini(), clip(tmp_path)):
        (said,) = advice(model, ["a dog", text])
        assert f"{model.name} reads English and may not know " in said
        assert f'"{text.rsplit(maxsplit=1)[-1]}"' in said
    assert advice(multilingual(tmp_path), [text]) == []


def test_english_and_names_are_left_alone(tmp_path: Path) -> None:
    assert advice(mini(), ENGLISH) == advice(clip(tmp_path), ENGLISH) == []


def test_only_some_models_know_emoji(tmp_path: Path) -> None:
    assert '"🐶"' in advice(mini(), ["a 🐶"])[0]
    assert advice(clip(tmp_path), ["a 🐶"]) == []  # CLIP's tokenizer has a token for every byte


def test_what_is_cut_is_quoted(tmp_path: Path) -> None:
    for model in (mini(), clip(tmp_path)):
        start = " ".join(["dog"] * (model.context_length - 2))
        assert fits(model, start)
        assert advice(model, [start]) == []
        (said,) = advice(model, [f"{start} and a red circle"])
        assert f'{model.context_length} tokens that {model.name} reads; everything from "and a red circle" on' in said
    assert advice(mini(), ["-" * 100]) != []  # without a space


def test_commands_say_it_on_stderr(clipsearch: Run, drawn: Path, drawn_index: Path, tmp_path: Path) -> None:
    for arguments in (("query", "Hund"), ("label", "Hund", "Katze"), ("where", "Hund", drawn / "07.png")):
        done = clipsearch(*arguments, index=drawn_index)
        assert done.status == 0
        assert done.err.startswith('mini reads English and may not know "Hund"')
        assert done.err.count("\n") == 1
    (tmp_path / "queries").write_text("a dog\nHund\n")
    batch = clipsearch("query", "--batch", tmp_path / "queries", "-k", 1, index=drawn_index)
    assert batch.err.startswith(f"{tmp_path}/queries, line 2: mini reads English")
    assert batch.err.count("\n") == 1


def test_the_name_of_a_missing_image_is_pointed_out(clipsearch: Run, drawn: Path, drawn_index: Path) -> None:
    done = clipsearch("query", "no-such.jpg", "-k", 1, index=drawn_index)
    assert (done.status, len(done.lines)) == (0, 1)
    assert done.err.startswith("no such file: 'no-such.jpg'")
    assert clipsearch("query", "a dog. a cat", "-k", 1, index=drawn_index).err == ""
    there = clipsearch("query", drawn / "07.png", "--with-self", "-k", 1, index=drawn_index)
    assert (there.lines, there.err) == ([str(drawn / "07.png")], "")
