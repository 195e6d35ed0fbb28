"""Runs a graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels

CPU = "CPUExecutionProvider"


class Session:
    """A graph from images (n, height, width, 3) uint8 to rows (n, dim). A call uses one thread; thread-safe.

    `weights` are those that the message leaves outside.
    """

    def __init__(
        self, message: bytes, weights: Mapping[str, NDArray[Any]] | None = None, providers: Sequence[str] = (CPU,)
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised
        if weights:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
        self._session = onnxruntime.InferenceSession(message, options, providers=list(providers))
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: Pixels) -> Array:
        rows: Array = self._session.run(None, {self._input: pixels})[0]
        return rows
