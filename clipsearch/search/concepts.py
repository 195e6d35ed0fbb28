"""Names for what a few example photos show, such as a person or a place: the mean of their embeddings.

They lie beside an index in `concepts.json`, which keeps the examples' paths, hashes and embeddings, so that a concept
outlives its examples and, while these or copies of them are there, a change of model.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadRequest, ImageUnusable, IndexUnusable
from clipsearch.images.read import content_hash
from clipsearch.search.embed import Embedder

FILE = "concepts.json"
SECONDS_TO_WAIT = 30.0
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
        self._examples = self._read()

    def _read(self) -> dict[str, list[Example]]:
        try:
            stored = json.loads(self._path.read_bytes()) if self._path.exists() else {}
            return {name: [_from_json(one) for one in examples] for name, examples in stored.items()}
        except OSError as error:
            raise IndexUnusable(f"{self._path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise IndexUnusable(f"{self._path} is damaged: it does not hold concepts") from None

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
        """Give a concept more examples, each what it came from and its bytes; returns how many it has then."""
        name = checked_name(name)
        fresh = {
            content_hash(data): Example(
                path, content_hash(data), embedder.model.fingerprint, embedder.image(data, os.fsdecode(path))
            )
            for path, data in photos
        }
        with self._changing():
            of_name = {example.content: example for example in self._examples.get(name, [])} | fresh
            self._examples[name] = list(of_name.values())
        return len(of_name)

    def remove(self, name: str) -> None:
        """Forget a concept; its examples are not touched."""
        with self._changing():
            self.examples(name)
            del self._examples[checked_name(name)]

    def row(self, name: str, embedder: Embedder) -> Array:
        """The unit row (dim,) of a concept. Raises `BadRequest` if the model has changed and an example is gone."""
        name = checked_name(name)
        examples = self.examples(name)
        fresh = [self._fresh(name, example, embedder) for example in examples]
        if any(new is not old for new, old in zip(fresh, examples, strict=True)):
            with contextlib.suppress(IndexUnusable), self._changing():  # it can be computed again
                self._examples[name] = fresh
        mean: Array = unit_rows(np.mean([example.row for example in fresh], axis=0)[None])[0]
        return mean

    def _fresh(self, name: str, example: Example, embedder: Embedder) -> Example:
        sound = example.row.shape == (embedder.model.dim,) and abs(float(np.linalg.norm(example.row)) - 1) < 0.01
        if example.model == embedder.model.fingerprint and sound:
            return example
        from clipsearch.images.read import read

        path = os.fsdecode(example.path)
        row = embedder.indexed(example.content)
        if row is None:
            try:
                row = embedder.image(read(path), path)
            except ImageUnusable as error:
                raise BadRequest(
                    f"@{name} was made with another model, and its example {path} cannot be used: {error};"
                    f" make it anew: clipsearch concept remove {name}, then add"
                ) from None
        return example._replace(model=embedder.model.fingerprint, row=row)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """What the block changes is kept, with what others have changed meanwhile."""
        try:
            with FileLock(self._path.with_suffix(".lock"), timeout=SECONDS_TO_WAIT):
                self._examples = self._read()
                yield
                self._write()
        except Timeout:
            raise IndexUnusable(f"another process is changing {self._path}; try again") from None
        except OSError as error:
            raise IndexUnusable(f"{self._path} cannot be written: {error.strerror}") from None

    def _write(self) -> None:
        text = json.dumps({name: [_to_json(one) for one in self._examples[name]] for name in self.names()}, indent=1)
        temporary = self._path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)


def checked_name(name: str) -> str:
    """A concept's name without the @ that may stand before it. Raises `BadRequest` when it cannot be one."""
    bare = name.removeprefix("@")
    if not _NAME.fullmatch(bare):
        raise BadRequest(f"'{name}' is no name for a concept; use letters, digits, - and _")
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
