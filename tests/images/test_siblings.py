"""Files that belong together by name: RAW and JPEG, Live Photo and video, sidecars."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.images.siblings import Partners


def test_partners_are_other_kinds_of_file_with_the_same_stem() -> None:
    paths = [b"/a/IMG_1.JPG", b"/a/IMG_1.cr2", b"/a/img_1.MOV", b"/a/IMG_1.png", b"/a/IMG_1.txt", b"/b/IMG_1.mov"]
    partners = Partners([*paths, b"/a/IMG_10.mov"])
    assert partners.of(b"/a/IMG_1.JPG") == [b"/a/IMG_1.cr2", b"/a/img_1.MOV"]
    assert partners.of(b"/a/IMG_1.cr2") == [b"/a/IMG_1.JPG", b"/a/img_1.MOV", b"/a/IMG_1.png"]
    assert partners.of(b"/b/IMG_1.mov") == []


def test_partners_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.mov", "b.jpg"):
        (tmp_path / name).touch()
    folder = os.fsencode(tmp_path)
    assert Partners.in_folder(folder).of(folder + b"/a.jpg") == [folder + b"/a.mov"]
    assert Partners.in_folder(folder).of(folder + b"/b.jpg") == []
    assert Partners.in_folder(folder + b"/none").of(folder + b"/none/a.jpg") == []
