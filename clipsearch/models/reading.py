"""How well a model reads a text: whether all of it, and whether in its language.

Needs only the tokenizer, which is imported when it is needed: most texts are short and plain.
"""

from __future__ import annotations

from clipsearch.models.model import Model


def fits(model: Model, text: str) -> bool:
    """Whether a text is short enough for a model. True if only open_clip can run its tokenizer."""
    if len(text.encode("utf-8", "replace")) + 2 <= model.context_length:  # a token has a byte or more
        return True
    from clipsearch.models import hf_tokenizer, tokenizer

    if model.text is not None:
        canonical = model.reads_canonical_text
        return hf_tokenizer.fits(text, model.text.tokenizer, model.context_length, canonical=canonical)
    return not model.reads_clip_tokens or tokenizer.fits(text, model.context_length)


def is_multilingual(model: Model) -> bool:
    """Whether a model may read other languages than English. True if only open_clip can run its tokenizer."""
    if model.text is not None:
        from clipsearch.models import hf_tokenizer

        return hf_tokenizer.is_multilingual(model.text.tokenizer, model.context_length)
    return not model.reads_clip_tokens


def knows(model: Model, word: str) -> bool:
    """Whether a model has tokens for a word. CLIP's tokenizer has one for any byte."""
    if model.text is None:
        return True
    from clipsearch.models import hf_tokenizer

    return hf_tokenizer.knows(word, model.text.tokenizer, model.context_length)
