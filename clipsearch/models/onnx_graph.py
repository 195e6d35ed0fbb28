"""Builds ONNX graphs without the `onnx` package (45 MB), and runs them in ONNX Runtime.

A graph is a protobuf message. The field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Pixels

CPU = "CPUExecutionProvider"
MICROSOFT = "com.microsoft"  # operators that only ONNX Runtime has

_IR_VERSION, _OPSET = 9, 20  # ONNX 1.15
_TYPES = {np.dtype(name): number for name, number in (("f4", 1), ("u1", 2), ("i1", 3), ("i4", 6), ("i8", 7))}
_FLOAT, _UINT8 = 1, 2
_AS_FLOAT, _AS_INT, _AS_STRING, _AS_INTS = 1, 2, 3, 7  # types of attributes
_EXTERNAL = 1
_LARGE = 1024  # bytes; larger weights stay outside the message


class Graph:
    """A graph from `input`, uint8 images (n, height, width, 3), to one output. Methods return the names of values.

    `weights` are the large arrays. They are not copied, and are given to the runtime by name.
    """

    def __init__(self, height: int, width: int) -> None:
        self.input = "pixels"
        self.weights: dict[str, NDArray[Any]] = {}
        self.size = height, width
        self._nodes: list[bytes] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._count = 0

    def op(self, kind: str, *inputs: str | NDArray[Any], domain: str = "", **attributes: Any) -> str:
        """Apply an operator to values and constants. Returns its output."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Any, domain: str = "", **attributes: Any) -> list[str]:
        """Apply an operator that has `count` outputs."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        outputs = [self._new() for _ in range(count)]
        node = _fields(1, names) + _fields(2, outputs) + _field(3, outputs[0]) + _field(4, kind)
        node += _fields(5, (_attribute(name, value) for name, value in attributes.items()))
        self._nodes.append(node + (_field(7, domain) if domain else b""))
        return outputs

    def cast(self, value: str, dtype: Any) -> str:
        return self.op("Cast", value, to=_TYPES[np.dtype(dtype)])

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape; -1 is one unknown side."""
        return self.op("Reshape", value, np.array(shape, np.int64))

    def transpose(self, value: str, *axes: int) -> str:
        return self.op("Transpose", value, perm=axes)

    def slice(self, value: str, axis: int, start: int, end: int) -> str:
        return self.op("Slice", value, *(np.array([number], np.int64) for number in (start, end, axis)))

    def message(self, output: str, dim: int, *, with_weights: bool = True) -> bytes:
        """The model with `output` (n, dim) as a message, with the large weights in it or without them."""
        constants = [_tensor(name, array) for name, array in self._constants.items()]
        for name, array in self.weights.items():
            constants.append(_tensor(name, array) if with_weights else _external(name, array))
        graph = _fields(1, self._nodes) + _field(2, "images") + _fields(5, constants)
        graph += _field(11, _value(self.input, _UINT8, ("n", *self.size, 3))) + _field(
            12, _value(output, _FLOAT, ("n", dim))
        )
        opsets = (_field(1, "") + _field(2, _OPSET), _field(1, MICROSOFT) + _field(2, 1))
        # In the order of protobuf libraries: OpenVINO recognises models by their first three fields.
        return _field(1, _IR_VERSION) + _field(2, "clipsearch") + _field(7, graph) + _fields(8, opsets)

    def _constant(self, array: NDArray[Any]) -> str:
        name = self._new()
        (self.weights if array.nbytes > _LARGE else self._constants)[name] = np.ascontiguousarray(array)
        return name

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"


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


# ------------------------------------------------------------------------------------------ messages


def _attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    if isinstance(value, float):
        field, kind = _field(2, value), _AS_FLOAT
    elif isinstance(value, int):
        field, kind = _field(3, value), _AS_INT
    elif isinstance(value, str):
        field, kind = _field(4, value), _AS_STRING
    else:
        field, kind = _fields(8, value), _AS_INTS
    return _field(1, name) + field + _field(20, kind)


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    return _described(name, array) + _field(9, array.tobytes())


def _external(name: str, array: NDArray[Any]) -> bytes:
    return _described(name, array) + _field(13, _field(1, "location") + _field(2, "weights")) + _field(14, _EXTERNAL)


def _described(name: str, array: NDArray[Any]) -> bytes:
    return _fields(1, array.shape) + _field(2, _TYPES[array.dtype]) + _field(8, name)


def _value(name: str, kind: int, shape: Iterable[int | str]) -> bytes:
    sides = (_field(1, _field(1 if isinstance(side, int) else 2, side)) for side in shape)
    tensor = _field(1, kind) + _field(2, b"".join(sides))
    return _field(1, name) + _field(2, _field(1, tensor))


def _fields(number: int, values: Iterable[int | str | bytes]) -> bytes:
    return b"".join(_field(number, value) for value in values)


def _field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """Base 128, least significant first; negative numbers as 64 bits in two's complement."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
