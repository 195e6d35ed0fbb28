"""Array types, and the few array operations that every package needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.float16]  # embeddings as an index stores them
Pixels = NDArray[np.uint8]

Value = TypeVar("Value")


def unit_rows(x: NDArray[Any]) -> Array:
    """L2-normalise vectors (..., dim) along the last axis, as float32. Zero vectors stay zero."""
    x = x.astype(np.float32)
    out: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return out


def softmax(logits: Array) -> Array:
    """Softmax over the last axis; subtracts the maximum first so that large logits do not overflow."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    out: Array = odds / odds.sum(-1, keepdims=True)
    return out


def parts(values: Iterable[Value], size: int = 500) -> Iterator[list[Value]]:
    """Split values into lists of at most `size`. Array elements become Python scalars, which SQLite can bind."""
    everything: list[Value] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
