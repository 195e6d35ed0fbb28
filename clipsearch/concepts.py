"""Names for what a few example photos show, such as a person or a place: the mean of their embeddings.

They lie beside an index in `concepts.json`, which keeps the examples' paths, hashes and embeddings, so that a concept
outlives its examples and, while these or copies of them are there, a change of model.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipsearch.embedding import Embedder
from clipsearch.errors import BadRequest, ImageUnusable, IndexUnusable
from clipsearch.store import content_hash
from clipsearch.towers import Array, unit_rows

FILE = "concepts.json"
_NAME = re.compile(r"[\w][\w.-]*")


class Example(NamedTuple):
    """A photo that shows a concept, with its unit row (dim,) under the model of a fingerprint."""

    path: bytes
    content: bytes
    model: str
    row: Array


class Concepts:
    """The concepts beside an index."""

    def __init__(self, folder: Path) -> None:
        """Raises `IndexUnusable` when they cannot be read."""
        self._path = folder / FILE
        try:
            stored = json.loads(self._path.read_bytes()) if self._path.exists() else {}
            self._examples = {name: [_from_json(one) for one in examples] for name, examples in stored.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise IndexUnusable(f"{self._path} cannot be read as concepts: {error}") from None

    def names(self) -> list[str]:
        """In order."""
        return sorted(self._examples)

    def examples(self, name: str) -> list[Example]:
        """Raises `BadRequest` when no concept has the name."""
        name = checked_name(name)
        if name not in self._examples:
            known = ", ".join(f"@{name}" for name in self.names()) or "none yet"
            raise BadRequest(f"there is no concept @{name}; there are: {known}")
        return self._examples[name]

    def add(self, name: str, photos: Iterable[tuple[bytes, bytes]], embedder: Embedder) -> int:
        """Give a concept more examples, each an absolute path and the file's bytes; returns how many it has then."""
        examples = {example.content: example for example in self._examples.get(checked_name(name), [])}
        for path, data in photos:
            row = embedder.image(data, os.fsdecode(path))
            examples[content_hash(data)] = Example(path, content_hash(data), embedder.model.fingerprint, row)
        self._write(self._examples | {checked_name(name): list(examples.values())})
        return len(examples)

    def remove(self, name: str) -> None:
        """Forget a concept; its examples are not touched."""
        self.examples(name)
        self._write({other: examples for other, examples in self._examples.items() if other != checked_name(name)})

    def row(self, name: str, embedder: Embedder) -> Array:
        """The unit row (dim,) of a concept. Raises `BadRequest` if the model has changed and an example is gone."""
        examples = self.examples(name)
        fresh = [self._fresh(name, example, embedder) for example in examples]
        if any(new is not old for new, old in zip(fresh, examples, strict=True)):
            self._write(self._examples | {checked_name(name): fresh})
        mean: Array = unit_rows(np.mean([example.row for example in fresh], axis=0)[None])[0]
        return mean

    def _fresh(self, name: str, example: Example, embedder: Embedder) -> Example:
        if example.model == embedder.model.fingerprint:
            return example
        from clipsearch.decode import read

        row = embedder.indexed(example.content)
        if row is None:
            try:
                row = embedder.image(read(os.fsdecode(example.path)), os.fsdecode(example.path))
            except ImageUnusable as error:
                raise BadRequest(
                    f"@{name} was made with another model, and its example {os.fsdecode(example.path)} {error};"
                    f" make it anew: clipsearch concept remove {name}, then add"
                ) from None
        return example._replace(model=embedder.model.fingerprint, row=row)

    def _write(self, examples: dict[str, list[Example]]) -> None:
        text = json.dumps({name: [_to_json(one) for one in examples[name]] for name in sorted(examples)}, indent=1)
        temporary = self._path.with_name(f"{FILE}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise IndexUnusable(f"{self._path} cannot be written: {error.strerror}") from None
        self._examples = examples


def checked_name(name: str) -> str:
    """A concept's name without the @ that may stand before it. Raises `BadRequest` when it cannot be one."""
    bare = name.removeprefix("@")
    if not _NAME.fullmatch(bare):
        raise BadRequest(f"{name!r} is no name for a concept; use letters, digits, - and _")
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
