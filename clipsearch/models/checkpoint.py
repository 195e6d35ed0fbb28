"""Converts torch checkpoints (`.bin`, `.pt`, `.pth`) to safetensors, without torch.

A checkpoint is a ZIP file with a pickle and the raw bytes of its tensors
(https://docs.pytorch.org/docs/stable/notes/serialization.html). The unpickler knows the few classes that tensors need
and refuses all others, so that a malicious pickle cannot run code.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from clipsearch.errors import WeightsUnusable, first_line

# Bytes per number, and the type's name in safetensors, whose files have the tensors in the reverse of this order.
_TYPES = {
    "BoolStorage": (1, "BOOL"),
    "ByteStorage": (1, "U8"),
    "CharStorage": (1, "I8"),
    "ShortStorage": (2, "I16"),
    "HalfStorage": (2, "F16"),
    "BFloat16Storage": (2, "BF16"),
    "IntStorage": (4, "I32"),
    "FloatStorage": (4, "F32"),
    "DoubleStorage": (8, "F64"),
    "LongStorage": (8, "I64"),
}
_ORDER = list(_TYPES)


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
    try:
        with zipfile.ZipFile(checkpoint) as file, open(path, "wb") as out:
            folder = next(name for name in file.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
            with file.open(f"{folder}data.pkl") as pickled:
                found = _Unpickler(pickled).load()
            state = found.get("state_dict", found)
            tensors = {name.removeprefix("module."): one for name, one in state.items() if isinstance(one, _Tensor)}
            ordered = sorted(tensors, key=lambda name: (-_ORDER.index(tensors[name].storage.kind), name))
            out.write(_header({name: tensors[name] for name in ordered}))
            for name in ordered:
                out.write(_contents(file, folder, tensors[name]))
    except OSError:
        raise
    except Exception as error:  # zipfile, pickle and NumPy have no common base class
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


def _header(tensors: dict[str, _Tensor]) -> bytes:
    """The start of a safetensors file, as its own library writes it."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        size, kind = _TYPES[tensor.storage.kind]
        start, end = end, end + size * math.prod(tensor.shape)
        entries[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": (start, end)}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _contents(file: zipfile.ZipFile, folder: str, tensor: _Tensor) -> bytes:
    """The numbers of a tensor, in order."""
    size, _ = _TYPES[tensor.storage.kind]
    raw = np.frombuffer(file.read(f"{folder}data/{tensor.storage.file}"), f"V{size}")
    if 0 in tensor.shape:
        return b""
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 <= last < len(raw) or min((tensor.offset, *tensor.strides)) < 0:
        raise ValueError("a tensor is larger than its data")
    strides = tuple(step * size for step in tensor.strides)
    return np.ndarray(tensor.shape, f"V{size}", raw, tensor.offset * size, strides).tobytes()
