"""Zero-shot classification, as CLIP introduced it: a photo is compared with a prompt for each label.

A label's row is the mean of its prompts' rows, one for each template (Radford et al. 2021, section 3.1.4), and its
probability the softmax over all labels of the cosines, times the model's logit scale.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array, softmax, unit_rows
from clipsearch.errors import BadRequest
from clipsearch.search.confidence import Background
from clipsearch.search.embed import Embedder
from clipsearch.search.present import Present
from clipsearch.search.question import is_unicode
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

TEMPLATE = "a photo of a {}"
_BLOCK = 2048  # photos at a time


class Labelled(NamedTuple):
    """A photo by its path, with labels and their probabilities, the most likely first."""

    path: bytes
    labels: tuple[tuple[str, float], ...]


class Classifier:
    """Labels embedded by a model."""

    def __init__(self, embedder: Embedder, labels: Sequence[str], templates: Sequence[str] = (TEMPLATE,)) -> None:
        """`templates` have `{}` where the label goes. Raises `BadRequest` when there is nothing to choose from."""
        self.labels = distinct(labels)
        if not self.labels:
            raise BadRequest("say which labels to choose from")
        if "" in self.labels:
            raise BadRequest("a label is empty")
        if concept := next((label for label in self.labels if label.startswith("@")), None):
            raise BadRequest(f"{concept!r} names a concept, and labels are texts")
        if not all(map(is_unicode, [*self.labels, *templates])):
            raise BadRequest("a label or a template is not UTF-8")
        prompts = [_prompt(template, label) for label in self.labels for template in templates]
        rows = embedder.texts(prompts).reshape(len(self.labels), len(templates), -1)
        self._rows = unit_rows(rows.mean(1))
        self._scale = np.float32(embedder.logit_scale)
        self._background = Background(embedder) if len(self.labels) == 1 else None

    def probabilities(self, photos: Array) -> Array:
        """Of each label for unit rows (n, dim): (n, labels), rows that add up to 1.

        One label alone would always be certain: it is compared with the background of `confidence` instead.
        """
        if self._background is not None:
            return self._background.confidence(self._rows[0], photos)[:, None]
        return softmax(self._scale * (photos @ self._rows.T))

    def classify(self, paths: Sequence[bytes], photos: Array, top: int = 1) -> Iterator[Labelled]:
        """The `top` most likely labels of photos, given by paths and unit rows (n, dim)."""
        for path, row in zip(paths, self.probabilities(photos), strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            yield Labelled(path, tuple((self.labels[n], float(row[n])) for n in order))

    def classify_indexed(
        self, store: Searchable, selection: Selection, top: int = 1, present: Present | None = None
    ) -> Iterator[Labelled]:
        """The `top` most likely labels of each photo in a selection, by path. Files that are gone are left out."""
        photos = (present or Present())(store.by_path(selection))
        while block := list(islice(photos, _BLOCK)):
            rows = store.unit_rows_of([photo.image_id for photo in block])
            yield from self.classify([photo.path for photo in block], rows, top)

    def count(self, store: Searchable, images: Iterable[int]) -> dict[str, int]:
        """For how many images of an index each label is the likeliest."""
        counted: Counter[int] = Counter()
        waiting = iter(images)
        while block := list(islice(waiting, _BLOCK)):
            counted.update(self.probabilities(store.unit_rows_of(block)).argmax(1).tolist())
        return {name: counted[number] for number, name in enumerate(self.labels)}


def distinct(labels: Iterable[str]) -> list[str]:
    """The labels without repetitions and surrounding blanks, in order."""
    return list(dict.fromkeys(label.strip() for label in labels))


def template_set(name: str) -> tuple[str, ...] | None:
    """The prompts of a named set, `{}` for the label: `imagenet` or `simple`; None for any other name."""
    if name not in ("imagenet", "simple"):
        return None
    lines = Path(__file__).with_name("templates.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line[2:] for line in lines if line.startswith("*" if name == "simple" else ("*", " ")))


def _prompt(template: str, label: str) -> str:
    """The label in its place; "a person" brings its own article, and "animal|dog" is a dog."""
    label = label.rpartition("|")[2].strip() or label
    if re.match(r"(an?|the) ", label):
        template = re.sub(r"\b(an?|the) \{\}", "{}", template)
    return template.replace("{}", label)


def templates_of(spellings: Sequence[str]) -> list[str]:
    """Templates as they are written, `{}` for the label, and the names of sets among them. Raises `BadRequest`."""
    out: list[str] = []
    for spelling in spellings:
        named = template_set(spelling)
        if named is None and "{}" not in spelling:
            raise BadRequest(f"{spelling!r} is no template; write {{}} for the label, or imagenet or simple for a set")
        out += named or [spelling]
    return list(dict.fromkeys(out)) or [TEMPLATE]
