"""Memory-mapped weights."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from fuzz import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from tiny_models import save_tensors

from clipsearch.errors import WeightsUnusable
from clipsearch.models.weights import Named, load_safetensors


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "u1"])
def test_safetensors_are_read_in_every_precision(kind: str, tmp_path: Path) -> None:
    values = np.array([[1.5, 2.0, 3.0], [0.25, 0, 100]]).astype(kind)
    tensors = {"values": values, "one": np.array(7, kind)}
    safetensors.numpy.save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    read = load_safetensors(tmp_path / "x")
    assert read.keys() == tensors.keys()
    assert read["one"] == 7
    assert read["one"].shape == ()
    np.testing.assert_array_equal(read["values"], values)
    assert read["values"].dtype == kind


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    numbers = np.array([0x3FC0, 0xC000, 0x3E80, 0x42C8], "<u2")  # the upper half of a float32
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + numbers.tobytes())
    read = load_safetensors(tmp_path / "x")["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [[1.5, -2.0], [0.25, 100]])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"not a safetensors file, but long enough to have a length",
        (2).to_bytes(8, "little") + b"[]",
        (8).to_bytes(8, "little") + b'{"a": 1}',
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        (62).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}  ',
        (64).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9' + b"9" * 30 + b'],"data_offsets":[0,4]}}',
    ],
)
def test_a_file_that_is_not_safetensors_is_unusable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsUnusable, match=r"x\.safetensors cannot be read as safetensors"):
        load_safetensors(tmp_path / "x.safetensors")


def test_a_file_that_is_not_there_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable, match=r"none\.safetensors cannot be read: no such file or directory$"):
        load_safetensors(tmp_path / "none.safetensors")


@given(rng=st.randoms(use_true_random=False))
@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_read_or_unusable(rng: random.Random, tmp_path: Path) -> None:
    save_tensors({"a": np.zeros((2, 3)), "b": np.zeros(4)}, tmp_path / "x", "BF16")
    data = bytearray((tmp_path / "x").read_bytes())
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(8, len(data) - 20)] = rng.choice(b'0123456789,:[]{}"-e. ')
    (tmp_path / "x").write_bytes(data)
    with contextlib.suppress(WeightsUnusable):
        assert all(isinstance(array, np.ndarray) for array in load_safetensors(tmp_path / "x").values())


def test_of_a_table_only_the_rows_that_are_asked_for_are_converted(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a.table": np.arange(12, dtype=np.float16).reshape(4, 3)}, tmp_path / "x")
    rows = Named(load_safetensors(tmp_path / "x"), "a.", tmp_path / "x").rows("table", np.array([[2, 0]]))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[[6, 7, 8], [0, 1, 2]]])


def test_every_number_in_half_precision_keeps_its_value(tmp_path: Path) -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    numbers = numbers[np.isfinite(numbers)].reshape(4, -1)
    safetensors.numpy.save_file({"x": numbers}, tmp_path / "x")
    read = Named(load_safetensors(tmp_path / "x"), "", tmp_path / "x").matrix("x")
    np.testing.assert_array_equal(read.view(np.int32), numbers.astype(np.float32).view(np.int32))
