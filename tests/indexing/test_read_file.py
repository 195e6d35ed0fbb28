"""A file is read and hashed in this process, and decoded in another only if its contents are new."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES

from clipsearch.images.preprocess import Preprocess, decode_for, model_input
from clipsearch.images.read import content_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.indexing.read_file import Contents, read_file

HOW = Preprocess(size=(64, 64))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    SCENES[0].image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders(1, HOW) as running:
        yield running


def new(content: bytes) -> bool:
    return False


def test_a_new_file_is_hashed_and_decoded(photo: Path, decoders: Decoders) -> None:
    found = read_file(os.fsencode(photo), new, decoders)
    here = decode_for(photo.read_bytes(), HOW)
    assert (found.content, found.metadata, found.error) == (content_hash(photo.read_bytes()), here.metadata, None)
    np.testing.assert_array_equal(found.pixels, model_input(here, HOW)[None])
    assert found.seconds.keys() == {"read", "decode", "resize"}


def test_what_is_known_is_not_decoded(photo: Path, decoders: Decoders) -> None:
    asked: list[bytes] = []

    def known(content: bytes) -> bool:
        asked.append(content)
        return True

    found = read_file(os.fsencode(photo), known, decoders)
    assert (found.pixels, found.metadata, found.error) == (None, None, None)
    assert asked == [found.content] == [content_hash(photo.read_bytes())]
    assert not decoders._all


@pytest.mark.parametrize(
    ("name", "start", "error"),
    [
        ("a.gif", b"\0\0\0\x18ftypmp42", "a video with the suffix of an image; rename it"),
        ("a.jpg", b"\x1a\x45\xdf\xa3", "a video with the suffix of an image; rename it"),
        ("a.heic", b"\0\0\0\x18ftypodd ", "not an image that can be read"),
        ("a.mp4", b"\xff\xd8\xff\xe0", "an image with the suffix of a video; rename it"),
        ("a.mp4", b"nonsense", "not a video that can be read"),
    ],
)
def test_a_file_with_the_suffix_of_another_kind_says_so(
    name: str, start: bytes, error: str, tmp_path: Path, decoders: Decoders
) -> None:
    (tmp_path / name).write_bytes(start + bytes(range(100)))
    assert read_file(os.fsencode(tmp_path / name), new, decoders).error == error


def test_what_cannot_be_read_is_told_from_what_is_no_image(tmp_path: Path, decoders: Decoders) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    found = read_file(os.fsencode(tmp_path / "text.jpg"), new, decoders)
    assert found == Contents(error="not an image that can be read")
    for name, error in (("gone.jpg", "no such file or directory"), (".", "is a directory")):
        assert read_file(os.fsencode(tmp_path / name), new, decoders) == Contents(error=error, unread=True)


@pytest.mark.skipif(os.name == "nt", reason="no such pipes")
def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path: Path, decoders: Decoders) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    found = read_file(os.fsencode(tmp_path / "pipe.jpg"), new, decoders)
    assert found == Contents(error="not a regular file", unread=True)


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not allow")
def test_names_that_are_no_text(photo: Path, decoders: Decoders) -> None:
    odd = os.fsencode(photo.parent) + b"/\xff\n\x01.png"
    os.rename(photo, odd)
    assert read_file(odd, new, decoders).pixels is not None
