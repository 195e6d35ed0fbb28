"""Helpers for indexing tests: changing folders, a free encoder, and the contents of an index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.indexing import run
from clipsearch.indexing.update import Options, update_index
from clipsearch.models.graph_encoders import FP32
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

MINI = Options(model="mini")


_PROJECTION = np.random.default_rng(0).normal(size=(2048, mini().dim)).astype(np.float32)


class StubEncoder:
    """Unit rows that depend on nothing but the pixels; counts what it is asked for, and may fail."""

    device, engine = "cpu", FP32
    loaded = 0
    batches: list[int] = []  # noqa: RUF012
    fail_at: int | None = None

    def __init__(self, *_: object, **__: object) -> None:
        type(self).loaded += 1

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        if len(self.batches) == self.fail_at:
            raise RuntimeError("out of memory")
        self.batches.append(len(pixels))
        reduced = pixels.reshape(len(pixels), -1)[:, ::128].astype(np.float32) - 128
        rows = np.stack([row @ _PROJECTION[: len(row)] for row in reduced])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encode_with(monkeypatch: pytest.MonkeyPatch, encoder: Callable[..., object]) -> None:
    """Use an encoder for few photos and for many."""
    monkeypatch.setattr(run, "encoder_for", encoder)
    monkeypatch.setattr(run, "numpy_encoder", encoder)


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).resize((60, 40), Image.Resampling.NEAREST).save(path)
    return path


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def contents(index: Path) -> dict[bytes, bytes]:
    """Every photo by path, with its stored embedding; the index is checked on the way."""
    with Store.open(index) as store:
        assert store.vectors.segments() is not None
        assert store.vectors.damaged() == []
        blocks = store.images.embeddings()
        rows = {int(i): row.tobytes() for ids, block in blocks for i, row in zip(ids, block, strict=True)}
        found = store.photos_of(rows)
        assert {photo.image_id for photo in found} == set(rows)
        assert store.images.count() == len(rows)
        return {photo.file: rows[photo.image_id] for photo in found}


def assert_as_new(index: Path, *folders: Path, scratch: Path) -> None:
    """The index holds what one run over the folders as they are now would make."""
    update_index(scratch, folders, MINI)
    found, expected = contents(index), contents(scratch)
    assert found.keys() == expected.keys()
    for path, rows in expected.items():  # NumPy embeds few photos and ONNX Runtime many
        one, other = (np.frombuffer(some, "<f2").astype(np.float32) for some in (found[path], rows))
        np.testing.assert_allclose(one, other, atol=2e-3)


def everything_at_once(photos: Path) -> None:
    draw(photos / "new.png", 100)
    touch(photos / "b.png")
    (photos / "c.png").rename(photos / "sub/moved.png")
    draw(photos / "d.png", 101)
    touch(photos / "d.png")
    (photos / "sub/e.png").unlink()
    shutil.copy(photos / "sub/f.png", photos / "copy.png")
    (photos / "broken.png").write_bytes(b"nothing")
