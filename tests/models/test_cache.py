from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from clipsearch.models import cache

ROW = np.array([0.6, -0.8], np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_a_text_embedding_is_kept_for_its_model_and_its_text() -> None:
    assert cache.text_embeddings("model", ["a dog"]).get("a dog") is None
    cache.keep_text_embeddings("model", {"a dog": ROW})
    kept = cache.text_embeddings("model", ["a dog"]).get("a dog")
    assert kept is not None
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, ROW)
    assert cache.text_embeddings("model", ["a cat"]).get("a cat") is None
    assert cache.text_embeddings("another", ["a dog"]).get("a dog") is None


def test_the_later_embedding_of_a_text_stands() -> None:
    cache.keep_text_embeddings("model", {"a dog": ROW})
    cache.keep_text_embeddings("model", {"a dog": -ROW})
    np.testing.assert_array_equal(cache.text_embeddings("model", ["a dog"]).get("a dog"), -ROW)


def test_what_is_kept_may_be_changed_by_its_reader() -> None:
    cache.keep_text_embeddings("model", {"a dog": ROW})
    cache.text_embeddings("model", ["a dog"]).get("a dog")[:] = 0
    np.testing.assert_array_equal(cache.text_embeddings("model", ["a dog"]).get("a dog"), ROW)


def test_the_oldest_texts_are_dropped_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TEXTS_KEPT", 5)
    for n in range(12):
        cache.keep_text_embeddings("model", {str(n): ROW})
    assert cache.text_embeddings("model", [str(n) for n in range(12)]).keys() == {"7", "8", "9", "10", "11"}


def test_a_hash_is_that_of_the_contents_and_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"some weights")
    expected = hashlib.sha256(b"some weights").hexdigest()
    assert cache.sha256_of_file(path) == expected
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    assert cache.sha256_of_file(path) == expected


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_hashed_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    before = os.stat(path)
    cache.sha256_of_file(path)
    path.write_bytes(b"22" if change == "size" else b"2")
    later = before.st_mtime_ns + (0 if change == "size" else 1_000_000_000)
    os.utime(path, ns=(later, later))
    assert cache.sha256_of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_hashing_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.sha256_of_file(tmp_path / "none")


def assert_empty_but_useful(tmp_path: Path) -> None:
    assert cache.text_embeddings("model", ["a dog"]).get("a dog") is None
    cache.keep_text_embeddings("model", {"a dog": ROW})
    path = tmp_path / "weights"
    path.write_bytes(b"some weights")
    assert cache.sha256_of_file(path) == hashlib.sha256(b"some weights").hexdigest()


def test_a_cache_that_cannot_be_written_is_an_empty_one(folder: Path, tmp_path: Path) -> None:
    folder.write_text("a file where the folder should be")
    assert_empty_but_useful(tmp_path)
    assert cache.text_embeddings("model", ["a dog"]).get("a dog") is None


def test_a_cache_whose_file_cannot_be_opened_is_an_empty_one(folder: Path, tmp_path: Path) -> None:
    (folder / "cache.sqlite").mkdir(parents=True)
    assert_empty_but_useful(tmp_path)
    assert cache.text_embeddings("model", ["a dog"]).get("a dog") is None


def test_a_damaged_cache_is_an_empty_one_and_replaced(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "cache.sqlite").write_bytes(b"not a database, " * 1000)
    assert_empty_but_useful(tmp_path)
    cache.keep_text_embeddings("model", {"a dog": ROW})
    assert cache.text_embeddings("model", ["a dog"]).get("a dog") is not None


def test_a_cache_that_another_process_is_writing_to_is_an_empty_one_and_stays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep_text_embeddings("model", {"a cat": ROW})
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0))
    other = connect(folder / "cache.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert_empty_but_useful(tmp_path)
    other.rollback()
    other.close()
    assert cache.text_embeddings("model", ["a cat"]).get("a cat") is not None


def test_a_text_that_is_not_unicode_is_not_kept() -> None:
    cache.keep_text_embeddings("model", {"\udcff": ROW})
    assert cache.text_embeddings("model", ["\udcff"]).get("\udcff") is None


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_file_whose_name_is_not_unicode_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.safetensors")
    path.write_bytes(b"some weights")
    assert cache.sha256_of_file(path) == hashlib.sha256(b"some weights").hexdigest()
