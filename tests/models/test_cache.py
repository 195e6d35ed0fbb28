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
    monkeypatch.setattr(cache, "MAX_TEXTS", 5)
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


# ------------------------------------------------------------------------------------------ damage


def test_a_value_that_the_disk_has_changed_is_a_miss_and_is_replaced(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"some weights")
    cache.keep_text_embeddings("model", {"a dog": ROW, "a cat": -ROW})
    cache.keep_measurement("machine", "rate 1.0")
    expected = cache.sha256_of_file(path)
    flip(
        folder,
        "UPDATE texts SET vector = CAST(x'0000803f' || substr(vector, 5) AS BLOB) WHERE text = 'a dog'",
        "UPDATE measurements SET result = replace(result, '1.0', '9.0')",
        "UPDATE weights SET sha256 = replace(sha256, '0', '1')",
    )
    assert cache.text_embeddings("model", ["a dog", "a cat"]).keys() == {"a cat"}
    assert cache.measurement("machine") is None
    assert cache.sha256_of_file(path) == expected
    cache.keep_text_embeddings("model", {"a dog": ROW})
    np.testing.assert_array_equal(cache.text_embeddings("model", ["a dog"])["a dog"], ROW)


def test_a_damaged_key_gives_no_other_texts_embedding(folder: Path) -> None:
    cache.keep_text_embeddings("model", {"a dog": ROW})
    flip(folder, "UPDATE texts SET text = 'a fog'")
    assert cache.text_embeddings("model", ["a fog", "a dog"]) == {}


def test_a_text_that_is_damaged_beyond_reading_is_a_miss_and_is_replaced(folder: Path) -> None:
    cache.keep_text_embeddings("model", {"a dog": ROW})
    flip(folder, "UPDATE texts SET vector = CAST(x'ff' AS TEXT)")
    assert cache.text_embeddings("model", ["a dog"]) == {}
    cache.keep_text_embeddings("model", {"a dog": ROW})
    assert cache.text_embeddings("model", ["a dog"]).keys() == {"a dog"}


def test_a_cache_of_an_older_version_is_replaced(folder: Path) -> None:
    folder.mkdir()
    flip(folder, "CREATE TABLE texts (model TEXT, text TEXT, vector BLOB NOT NULL, PRIMARY KEY (model, text))")
    cache.keep_text_embeddings("model", {"a dog": ROW})
    assert cache.text_embeddings("model", ["a dog"]).keys() == {"a dog"}


@pytest.mark.parametrize("at", [0, 70, 200, -1])
def test_an_array_with_a_flipped_bit_is_not_there(folder: Path, at: int) -> None:
    values = np.arange(40, dtype=np.int64).reshape(2, 20)
    cache.keep_array("table.npy", values)
    np.testing.assert_array_equal(cache.array("table.npy"), values)
    whole = bytearray((folder / "table.npy").read_bytes())
    whole[at] ^= 1
    (folder / "table.npy").write_bytes(whole)
    assert cache.array("table.npy") is None
    cache.keep_array("table.npy", values)
    assert cache.array("table.npy") is not None


@pytest.mark.parametrize("kept", [b"", b"abc", None])
def test_an_array_that_was_cut_or_has_no_checksum_is_not_there(folder: Path, kept: bytes | None) -> None:
    folder.mkdir()
    np.save(folder / "table.npy", np.arange(3))
    if kept is not None:
        (folder / "table.npy").write_bytes(kept)
    assert cache.array("table.npy") is None


def flip(folder: Path, *statements: str) -> None:
    database = sqlite3.connect(folder / "cache.sqlite")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


# ------------------------------------------------------------------------------------------ privacy


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_owner_can_read_it_also_what_an_older_version_left_open(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache.keep_text_embeddings("model", {"my illness": ROW})
        cache.keep_array("table.npy", ROW)
        assert modes(folder) == {folder: 0o700, folder / "cache.sqlite": 0o600, folder / "table.npy": 0o600}
        folder.chmod(0o755)
        (folder / "pictures").mkdir()
        (folder / "pictures" / "1.jpg").touch()
        (folder / "cache.sqlite").chmod(0o644)
        assert cache.text_embeddings("model", ["my illness"])
        assert set(modes(folder).values()) == {0o600, 0o700}
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
