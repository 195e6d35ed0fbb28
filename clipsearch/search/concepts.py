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
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from clipsearch.arrays import Array, unit_rows
from clipsearch.errors import BadRequest, ConceptsDamaged, ImageUnusable, IndexUnusable, reason
from clipsearch.images.read import content_hash
from clipsearch.paths import replacing
from clipsearch.search.embed import Embedder

FILE = "concepts.json"
KEPT = "concepts.kept.json"  # the same, written after it: one of the two is whole at any time
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
        """Raises `ConceptsDamaged` or `IndexUnusable` when they cannot be read."""
        self._path, self._kept = folder / FILE, folder / KEPT
        self._examples = _read(self._path)

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
                    " remove the concept and make it anew"
                ) from None
        return example._replace(model=embedder.model.fingerprint, row=row)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """What the block changes is kept, with what others have changed meanwhile."""
        try:
            with FileLock(self._path.with_suffix(".lock"), timeout=SECONDS_TO_WAIT, mode=0o600):
                self._examples = _read(self._path)
                yield
                self._write()
        except Timeout:
            raise IndexUnusable(f"another process is changing {self._path}; try again") from None
        except OSError as error:
            raise IndexUnusable(f"{self._path} cannot be written: {reason(error)}") from None

    def _write(self) -> None:
        """Write the concepts, and keep the file that was there: nothing else could restore it."""
        concepts = {name: [_to_json(one) for one in self._examples[name]] for name in self.names()}
        with replacing(self._path, private=True) as path:
            path.write_text(json.dumps({"checksum": _checksum(concepts), "concepts": concepts}, indent=1), "utf-8")
        with replacing(self._kept, private=True) as path:
            path.write_bytes(self._path.read_bytes())


def restore(folder: Path) -> bool:
    """Put the last good concepts in the place of damaged ones; says whether that was needed.

    Raises `ConceptsDamaged` when there are no good ones.
    """
    try:
        _read(folder / FILE)
    except ConceptsDamaged:
        kept = folder / KEPT
        if not kept.is_file():
            raise
        _read(kept)
        with replacing(folder / FILE, private=True) as path:
            path.write_bytes(kept.read_bytes())
        return True
    return False


def _read(path: Path) -> dict[str, list[Example]]:
    try:
        if not path.exists():
            return {}
        stored = json.loads(path.read_bytes())
        concepts: dict[str, Any] = stored["concepts"]
        if _checksum(concepts) != stored["checksum"]:
            raise ValueError
        return {name: [_from_json(one) for one in examples] for name, examples in concepts.items()}
    except OSError as error:
        raise IndexUnusable(f"{path} cannot be read: {reason(error)}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConceptsDamaged(f"{path} is damaged: it does not hold concepts") from None


def _checksum(concepts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(concepts, sort_keys=True).encode())


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
