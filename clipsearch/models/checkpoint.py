"""Converts torch checkpoints (`.bin`, `.pt`, `.pth`) to safetensors, without torch.

A checkpoint is a ZIP file with a pickle and the raw bytes of its tensors
(https://docs.pytorch.org/docs/stable/notes/serialization.html). The unpickler knows the few classes that tensors need
and refuses all others, so that a malicious pickle cannot run code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

from clipsearch.errors import WeightsUnusable, first_line

# Bytes per number, and the type's name in safetensors.
_TYPES = {
    "DoubleStorage": (8, "float64"),
    "FloatStorage": (4, "float32"),
    "HalfStorage": (2, "float16"),
    "BFloat16Storage": (2, "bfloat16"),
    "LongStorage": (8, "int64"),
    "IntStorage": (4, "int32"),
    "ByteStorage": (1, "uint8"),
    "BoolStorage": (1, "bool"),
}


class _Storage(NamedTuple):
    kind: str
    file: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # in numbers, as are the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def write_safetensors(checkpoint: Path, path: Path) -> None:
    """Convert a checkpoint to safetensors, with open_clip's tensor names.

    Raises OSError, or `WeightsUnusable` if the checkpoint is damaged, contains anything but tensors, or was written by
    torch before version 1.6.
    """
    import safetensors

    try:
        with zipfile.ZipFile(checkpoint) as file:
            folder = next(name for name in file.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
            with file.open(f"{folder}data.pkl") as pickled:
                found = _Unpickler(pickled).load()
            state = found.get("state_dict", found)
            tensors: dict[str, Any] = {
                name.removeprefix("module."): _contents(file, folder, tensor)
                for name, tensor in state.items()
                if isinstance(tensor, _Tensor)
            }
            safetensors.serialize_file(tensors, path)
    except OSError:
        raise
    except Exception as error:  # zipfile, pickle and safetensors have no common base class
        raise WeightsUnusable(f"{checkpoint} cannot be read: {first_line(error)}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, tuple(shape), tuple(strides))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _TYPES:
            return name
        raise WeightsUnusable(f"it contains {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, file, *_ = pid
        return _Storage(kind, file)


def _contents(file: zipfile.ZipFile, folder: str, tensor: _Tensor) -> dict[str, Any]:
    """A tensor as `safetensors.serialize_file` takes it."""
    import numpy as np

    size, kind = _TYPES[tensor.storage.kind]
    raw = np.frombuffer(file.read(f"{folder}data/{tensor.storage.file}"), f"V{size}")
    if tensor.shape and 0 not in tensor.shape:
        last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
        if not 0 <= last < len(raw) or min(tensor.strides) < 0:
            raise ValueError("a tensor is larger than its data")
    strides = tuple(step * size for step in tensor.strides)
    array = np.ndarray(tensor.shape, f"V{size}", raw, tensor.offset * size, strides)
    return {"dtype": kind, "shape": tensor.shape, "data": array.tobytes()}
