"""Zero-shot classification: compare a photo with prompts for each label.

As in Radford et al. 2021, section 3.1.4: a label's row is the mean over its prompts, one per template, and the
probabilities are the softmax over labels of the cosines, times the model's logit scale.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, softmax, unit_rows
from clipsearch.errors import BadRequest
from clipsearch.search.confidence import Calibration
from clipsearch.search.embed import Embedder
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.store.conditions import is_unicode
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

TEMPLATE = "a photo of a {}"
_BLOCK = 2048  # photos at a time


class Labelled(NamedTuple):
    """A photo, by its path as the file system has it, and its labels with their probabilities, the likeliest first."""

    file: bytes
    labels: tuple[tuple[str, float], ...]

    @property
    def path(self) -> Path:
        """The path; a URL or - for images that are no files."""
        return Path(os.fsdecode(self.file))


class Classifier:
    """The embedded labels of a model."""

    def __init__(
        self,
        embedder: Embedder,
        labels: Sequence[str],
        templates: Sequence[str] = (TEMPLATE,),
        other: str | None = None,
    ) -> None:
        """`templates` have `{}` for the label; `other` is one more label, for photos that no label fits.

        Raises `BadRequest` for labels that make no sense.
        """
        self.labels = distinct(labels)
        if not self.labels:
            raise BadRequest("no labels; give at least one")
        self.names = self.labels if other is None else [*self.labels, other.strip()]
        if "" in self.names:
            raise BadRequest("a label is empty")
        if concept := next((label for label in self.names if label.startswith("@")), None):
            raise BadRequest(f"{concept!r} is a concept; labels must be texts")
        if len(set(self.names)) < len(self.names):
            raise BadRequest(f"{other!r} is one of the labels; choose another name for the rest")
        if not all(map(is_unicode, [*self.names, *templates])):
            raise BadRequest("a label or a template is not UTF-8")
        prompts = [_prompt(template, label) for label in self.labels for template in templates]
        rows = embedder.texts(prompts).reshape(len(self.labels), len(templates), -1)
        self._rows = unit_rows(rows.mean(1))
        self._scale = np.float32(embedder.logit_scale)
        self._has_other = other is not None
        self._calibration = Calibration(embedder) if self._has_other or len(self.labels) == 1 else None

    def probabilities(self, photos: Array) -> Array:
        """The probabilities (n, names) for unit rows (n, dim); they add up to 1 for each row.

        A single label would always get 1, so it gets the confidence of a query instead. With `other`, the label that
        fits best leaves the rest of its confidence to it.
        """
        if self._calibration is None:
            return softmax(self._scale * (photos @ self._rows.T))
        cosines = photos @ self._rows.T
        each = [self._calibration.confidence(*one) for one in zip(self._rows, cosines.T, strict=True)]
        fits = np.max(each, axis=0)[:, None]
        shares = fits * softmax(self._scale * cosines)
        return shares if not self._has_other else np.concatenate([shares, 1 - fits], axis=1)

    def _ranked(self, rows: Array) -> NDArray[np.intp]:
        """The numbers (n, names) of the names for probabilities (n, names), the likeliest first.

        `other` is first if it is likelier than all labels together, or else last: two breeds that share a probability
        do not make a dog something else.
        """
        count = len(self.labels)
        order = np.argsort(-rows[:, :count], axis=1, kind="stable")
        if not self._has_other:
            return order
        last = np.full((len(rows), 1), count)
        is_other = rows[:, count:] > 0.5
        ends = np.concatenate([last, order], axis=1), np.concatenate([order, last], axis=1)
        return np.where(is_other, *ends)

    def classify(self, paths: Sequence[bytes], photos: Array, top: int = 1) -> Iterator[Labelled]:
        """The `top` most likely labels of photos, given by paths and unit rows (n, dim)."""
        rows = self.probabilities(photos)
        for path, row, order in zip(paths, rows, self._ranked(rows)[:, :top], strict=True):
            yield Labelled(path, tuple((self.names[n], float(row[n])) for n in order))

    def classify_indexed(
        self, store: Searchable, selection: Selection, top: int, files: FilesOnDisk
    ) -> Iterator[Labelled]:
        """The `top` likely labels of each photo of a selection, ordered by path. Deleted files are left out."""
        photos = files.existing(store.by_path(selection))
        while block := list(islice(photos, _BLOCK)):
            rows = store.unit_rows_of([photo.image_id for photo in block])
            yield from self.classify([photo.file for photo in block], rows, top)

    def count(self, store: Searchable, images: Iterable[int]) -> dict[str, int]:
        """The number of images of which each label is the likeliest."""
        counted: Counter[int] = Counter()
        waiting = iter(images)
        while block := list(islice(waiting, _BLOCK)):
            counted.update(self._ranked(self.probabilities(store.unit_rows_of(block)))[:, 0].tolist())
        return {name: counted[number] for number, name in enumerate(self.names)}


def distinct(labels: Iterable[str]) -> list[str]:
    """The labels without duplicates and surrounding blanks, in order."""
    return list(dict.fromkeys(label.strip() for label in labels))


def _prompt(template: str, label: str) -> str:
    """Fill in a label: "a person" has its own article, and "animal|dog" is a dog."""
    label = label.rpartition("|")[2].strip() or label
    if re.match(r"(an?|the) ", label):
        template = re.sub(r"\b(an?|the) \{\}", "{}", template)
    return template.replace("{}", label)


def templates_of(spellings: Sequence[str]) -> list[str]:
    """Templates and the names of template sets, `imagenet` and `simple`, as templates. Raises `BadRequest`."""
    out: list[str] = []
    for spelling in spellings:
        if spelling in ("imagenet", "simple"):
            lines = Path(__file__).with_name("templates.txt").read_text(encoding="utf-8").splitlines()
            out += [line[2:] for line in lines if line.startswith("*" if spelling == "simple" else ("*", " "))]
        elif "{}" in spelling:
            out.append(spelling)
        else:
            raise BadRequest(
                f"{spelling!r} is not a template; write {{}} for the label, or name a set (imagenet, simple)"
            )
    return list(dict.fromkeys(out)) or [TEMPLATE]
