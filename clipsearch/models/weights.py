"""Model weights in safetensors files, memory-mapped: only the tensors in use are read from disk."""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array
from clipsearch.errors import WeightsUnusable, reason


class Tensors(dict[str, NDArray[Any]]):
    """Tensors by name, in a memory-mapped file."""

    mapped: mmap.mmap | None = None

    def release(self) -> None:
        """Free the memory of tensors that have been read; they are read again when needed."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def load_safetensors(path: Path) -> Tensors:
    """Memory-map a safetensors file and return its tensors by name, in their stored precision.

    NumPy has no bfloat16, so those tensors are copied to float32. Tensors of any other type are skipped. Raises
    `WeightsUnusable` if the file is missing or malformed. Format: https://github.com/huggingface/safetensors#format
    """
    dtypes = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8 : 8 + length])
        out = Tensors()
        out.mapped = mapped
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in dtypes:
                continue
            start, _ = entry["data_offsets"]
            array = np.frombuffer(
                mapped, dtypes[entry["dtype"]], count=math.prod(entry["shape"]), offset=8 + length + start
            ).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                array = np.left_shift(array, 16, dtype=np.uint32, out=np.empty(array.shape, np.uint32)).view(np.float32)
            out[name] = array
        return out
    except OSError as error:
        raise WeightsUnusable(f"the weights {path} cannot be read: {reason(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsUnusable(f"the weights {path} cannot be read as safetensors: {error}") from None


class Named:
    """The tensors under a name prefix. A missing tensor raises `WeightsUnusable`, naming the file."""

    def __init__(self, tensors: Tensors, prefix: str, path: Path) -> None:
        self._tensors, self.prefix, self._path = tensors, prefix, path

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._tensors[self.prefix + name]
        except KeyError:
            raise self._misfit(f"{self.prefix}{name} is missing") from None

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self._tensors

    def names(self) -> list[str]:
        """All tensor names, with the prefix removed."""
        return [name.removeprefix(self.prefix) for name in self._tensors if name.startswith(self.prefix)]

    def expect(self, name: str, *shape: int) -> None:
        """Raise `WeightsUnusable` unless the tensor exists and has this shape."""
        if self[name].shape != shape:
            raise self._misfit(f"{self.prefix}{name} has shape {self[name].shape}, expected {shape}")

    def expect_no(self, name: str) -> None:
        """Raise `WeightsUnusable` if the tensor exists: the file then has more layers than the architecture."""
        if name in self:
            raise self._misfit(f"unexpected layer {self.prefix}{name}")

    def matrix(self, name: str) -> Array:
        """A whole tensor as float32, without a copy if it is stored as float32."""
        return _single(self[name])

    def rows(self, name: str, numbers: Any) -> Array:
        """The rows of a large table at the given indices as float32. No other row is read from disk."""
        return _single(self[name][numbers])

    def release(self) -> None:
        """As `Tensors.release`."""
        self._tensors.release()

    def below(self, prefix: str) -> Named:
        """Narrow to a longer prefix: `below("a.")["b"]` is `self["a.b"]`."""
        return Named(self._tensors, self.prefix + prefix, self._path)

    def _misfit(self, problem: str) -> WeightsUnusable:
        return WeightsUnusable(f"{self._path} does not fit the architecture: {problem}")


def _single(x: NDArray[Any]) -> Array:
    """Convert to float32. Finite float16 takes 0.25 ns per number; `astype` takes 1.6 ns.

    Keeps the sign bit, shifts exponent and fraction to their float32 positions, and corrects the exponent bias by
    multiplying with 2**112.
    """
    if x.dtype != np.float16 or not x.flags.c_contiguous:
        out: Array = x.astype(np.float32, copy=False)
        return out
    bits = x.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70002000)
    out = bits.view(np.float32)
    out *= np.float32(2.0**112)
    return out
