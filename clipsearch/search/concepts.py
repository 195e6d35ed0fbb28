"""Concepts: names for what a few example photos show, such as a person or a place; the mean of their embeddings.

`concepts.json` in the index folder has the paths, hashes and embeddings of the examples. So a concept survives the
deletion of its examples and, as long as they or copies of them exist, a change of model.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadRequest, ConceptsDamaged, ImageUnusable, IndexUnusable
from clipsearch.images.read import content_hash, read
from clipsearch.search.embed import Embedder
from clipsearch.store.json_file import CheckedFile, locked
from clipsearch.store.photo import Photo

_NAME = re.compile(r"[\w][\w.-]*")


class Example(NamedTuple):
    """A photo of a concept; `row` (dim,) is its unit row under the model with the fingerprint `model`."""

    path: bytes
    content: bytes
    model: str
    row: Array


class Concepts:
    """The concepts of an index."""

    def __init__(self, folder: Path) -> None:
        """Raises `ConceptsDamaged` or `IndexUnusable`."""
        self._file = _file(folder)
        self._examples = _read(self._file)

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self._examples)

    def examples(self, name: str) -> list[Example]:
        """Raises `BadRequest` if there is no such concept."""
        name = checked_name(name)
        if name not in self._examples:
            known = ", ".join(f"@{name}" for name in self.names()) or "none"
            raise BadRequest(f"there is no concept @{name}; existing ones: {known}")
        return self._examples[name]

    def add(self, name: str, photos: Iterable[tuple[bytes, bytes]], embedder: Embedder) -> int:
        """Add examples to a new or existing concept, as pairs of path and bytes; returns how many it has now."""
        name = checked_name(name)
        model = embedder.model.fingerprint
        read = ((path, data, content_hash(data)) for path, data in photos)
        examples = (Example(path, hash, model, embedder.image(data, os.fsdecode(path))) for path, data, hash in read)
        return self._add(name, examples)

    def add_indexed(self, name: str, photos: Iterable[Photo], embedder: Embedder) -> int:
        """As `add`, of indexed photos, with the embeddings in the index. Raises `BadRequest` for videos."""
        name, examples = checked_name(name), []
        for photo in photos:
            row = None if photo.is_video else embedder.indexed(photo.content)
            if row is None:
                raise BadRequest(f"{photo.path} is a video; only photos can be examples")
            examples.append(Example(photo.file, photo.content, embedder.model.fingerprint, row))
        return self._add(name, examples)

    def _add(self, name: str, examples: Iterable[Example]) -> int:
        fresh = {example.content: example for example in examples}
        with self._changing():
            of_name = {example.content: example for example in self._examples.get(name, [])} | fresh
            self._examples[name] = list(of_name.values())
        return len(of_name)

    def remove(self, name: str) -> None:
        """Remove a concept, but not the photos."""
        with self._changing():
            self.examples(name)
            del self._examples[checked_name(name)]

    def row(self, name: str, embedder: Embedder) -> Array:
        """The unit row (dim,) of a concept. Raises `BadRequest` if the model changed and an example was deleted."""
        name = checked_name(name)
        examples = self.examples(name)
        fresh = [self._fresh(name, example, embedder) for example in examples]
        if any(new is not old for new, old in zip(fresh, examples, strict=True)):
            with contextlib.suppress(IndexUnusable), self._changing():  # computed again next time
                self._examples[name] = fresh
        mean: Array = unit_rows(np.mean([example.row for example in fresh], axis=0)[None])[0]
        return mean

    def _fresh(self, name: str, example: Example, embedder: Embedder) -> Example:
        is_valid = example.row.shape == (embedder.model.dim,) and abs(float(np.linalg.norm(example.row)) - 1) < 0.01
        if example.model == embedder.model.fingerprint and is_valid:
            return example
        path = os.fsdecode(example.path)
        row = embedder.indexed(example.content)
        if row is None:
            try:
                row = embedder.image(read(path), path)
            except ImageUnusable as error:
                raise BadRequest(
                    f"@{name} was created with another model, and its example {path} cannot be read: {error};"
                    " remove the concept and create it again"
                ) from None
        return example._replace(model=embedder.model.fingerprint, row=row)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Lock and reload the file, then write what the block changed."""
        with locked(self._file.path):
            self._examples = _read(self._file)
            yield
            self._file.write({name: [_to_json(one) for one in self._examples[name]] for name in self.names()})


def _file(folder: Path) -> CheckedFile:
    return CheckedFile(folder, "concepts", ConceptsDamaged)


def restore(folder: Path) -> bool:
    """As `CheckedFile.restore`."""
    return _file(folder).restore()


def _read(file: CheckedFile) -> dict[str, list[Example]]:
    try:
        concepts: dict[str, Any] = file.read() or {}
        return {name: [_from_json(one) for one in examples] for name, examples in concepts.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise file.damaged() from None


def checked_name(name: str) -> str:
    """A concept's name without its optional @. Raises `BadRequest` if it is not valid."""
    bare = name.removeprefix("@")
    if not _NAME.fullmatch(bare):
        raise BadRequest(f"'{name}' is not a valid concept name; use letters, digits, - and _")
    return bare


def _to_json(example: Example) -> dict[str, Any]:
    return {
        "path": base64.b64encode(example.path).decode(),
        "content": example.content.hex(),
        "model": example.model,
        "row": base64.b64encode(example.row.astype("<f4").tobytes()).decode(),
    }


def _from_json(one: dict[str, Any]) -> Example:
    row = np.frombuffer(base64.b64decode(one["row"]), "<f4").astype(np.float32)
    return Example(base64.b64decode(one["path"]), bytes.fromhex(one["content"]), str(one["model"]), row)
