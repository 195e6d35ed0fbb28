"""The arrays that everything works on, and what is done to them everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ids = NDArray[np.int64]
Pixels = NDArray[np.uint8]

Value = TypeVar("Value")


def unit_rows(x: NDArray[Any]) -> Array:
    """Rows (..., dim) divided by their length, float32."""
    x = x.astype(np.float32)
    out: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return out


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis; they add up to 1."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    out: Array = odds / odds.sum(-1, keepdims=True)
    return out


def parts(values: Iterable[Value], size: int = 500) -> Iterator[list[Value]]:
    """Values in lists of at most so many; numbers of an array as Python's own."""
    everything: list[Value] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
