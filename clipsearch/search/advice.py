"""Warns about texts that a model cannot read well: too long, or in a language that it does not know.

Most models learned from English captions. Of other languages they know only the words that English borrowed. A text
counts as another language if it has letters of another script, or one of the words in `other_languages.txt`: about
2,000 names of things in photos, and common function words, in German, French, Spanish, Italian, Portuguese and Dutch.
None is an English word, one that English captions use, or the name of a town or of many people.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from clipsearch.models.model import Model

_MOST_NAMED, _LONGEST = 3, 40  # words, and characters, that a sentence quotes
_WORD = re.compile(r"[^\W\d_]+")
_EMOJI = re.compile("[\U0001f000-\U0001faff]")


def advice(model: Model, texts: Iterable[str]) -> list[str]:
    """A sentence for each reason why a model cannot read texts well, with what to do about it."""
    texts = list(dict.fromkeys(texts))
    foreign = list(dict.fromkeys(word for text in texts for word in _foreign_words(model, text)))
    sentences = []
    if foreign and not _is_multilingual(model):
        sentences.append(
            f"{model.name} reads English and may not know {_quoted(foreign)}; translate the text, or switch to a"
            " multilingual model: clipsearch index --rebuild --model multilingual"
        )
    for text in texts:
        if not fits(model, text):
            sentences.append(
                f"the text exceeds the {model.context_length} tokens that {model.name} reads; everything from"
                f" {_quoted([_tail(model, text)])} on is ignored; shorten it"
            )
    return sentences


def _foreign_words(model: Model, text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text)
    words = [word for word in _WORD.findall(text) if word.lower() in _other_languages() or _is_of_other_script(word)]
    return [*words, *(emoji for emoji in _EMOJI.findall(text) if not _knows(model, emoji))]


def _is_of_other_script(word: str) -> bool:
    """Whether a word has no Latin letters. Single Greek letters are used in English, too."""
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
    return not scripts & {"LATIN", "MODIFIER"} and not (len(word) == 1 and scripts == {"GREEK"})


@functools.cache
def _other_languages() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("other_languages.txt").read_text(encoding="utf-8").split())


def _tail(model: Model, text: str) -> str:
    """What a model does not read of a text."""
    words, fitting, too_many = text.split(), 0, len(text.split())
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if fits(model, " ".join(words[:middle])):
            fitting = middle
        else:
            too_many = middle
    return " ".join(words[fitting:])


def _quoted(words: list[str]) -> str:
    shown = [word if len(word) <= _LONGEST else f"{word[:_LONGEST]}..." for word in words[:_MOST_NAMED]]
    more = [f"{len(words) - _MOST_NAMED} more"] if len(words) > _MOST_NAMED else []
    return ", ".join([*(f'"{word}"' for word in shown), *more])


# ------------------------------------------------------------------------------------------ tokenizers
# Imported when they are needed: most texts are short and plain.


def fits(model: Model, text: str) -> bool:
    """Whether a text is short enough for a model. True if only open_clip can run its tokenizer."""
    if len(text.encode("utf-8", "replace")) + 2 <= model.context_length:  # a token has a byte or more
        return True
    from clipsearch.models import hf_tokenizer, tokenizer

    if model.text is not None:
        canonical = model.reads_canonical_text
        return hf_tokenizer.fits(text, model.text.tokenizer, model.context_length, canonical=canonical)
    return not model.reads_clip_tokens or tokenizer.fits(text, model.context_length)


def _is_multilingual(model: Model) -> bool:
    """Whether a model may read other languages than English. True if only open_clip can run its tokenizer."""
    if model.text is not None:
        from clipsearch.models import hf_tokenizer

        return hf_tokenizer.is_multilingual(model.text.tokenizer, model.context_length)
    return not model.reads_clip_tokens


def _knows(model: Model, word: str) -> bool:
    """Whether a model has tokens for a word. CLIP's tokenizer has one for any byte."""
    if model.text is None:
        return True
    from clipsearch.models import hf_tokenizer

    return hf_tokenizer.knows(word, model.text.tokenizer, model.context_length)
