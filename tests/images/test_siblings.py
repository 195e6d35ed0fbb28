"""Files that belong to a photo: sidecars, with their changes and keywords, and the other half of a pair."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipsearch.errors import SidecarUnusable
from clipsearch.images import siblings
from clipsearch.images.facts import items
from clipsearch.images.siblings import Partners, XmpNames, is_xmp_name, read_sidecar, sidecar_facts, sidecar_token
from clipsearch.images.xmp import with_keywords
from clipsearch.images.xmp_document import MAX_BYTES


@pytest.mark.parametrize(
    ("photo", "others", "sidecars", "expected"),
    [
        ("a.jpg", "", "a.xmp a.jpg.xmp", "a.jpg.xmp a.xmp"),
        ("a.jpg", "", "a.XMP a.xmp a.jpg.XMP a.Xmp", "a.jpg.XMP a.xmp a.XMP a.Xmp"),
        ("a.jpg", "", "a.JPG.XMP a.jpg.xmp A.xmp", "a.jpg.xmp a.JPG.XMP A.xmp"),
        ("a.jpg", "a.JPG A.png", "a.JPG.XMP a.xmp A.xmp A.JPG.xmp", "A.JPG.xmp a.xmp"),
        ("a.JPG", "a.jpg", "a.JPG.XMP a.jpg.xmp", "a.JPG.XMP"),
        ("a.jpg", "a.cr2", "a.xmp a.cr2.xmp", "a.xmp"),
        ("a", "", "a.xmp a.XMP", "a.xmp a.XMP"),
        ("a.jpg", "", "b.xmp .xmp xmp a.png.xmp aa.xmp", ""),
        ("é.jpg", "", "é.JPG.xmp é.xmp", "é.JPG.xmp é.xmp"),
    ],
)
def test_which_sidecars_a_photo_has(photo: str, others: str, sidecars: str, expected: str) -> None:
    names = [name for name in os.fsencode(sidecars).split() if is_xmp_name(name)]
    found = XmpNames(names, os.fsencode(f"{photo} {others}").split())
    assert found.of(os.fsencode(photo)) == tuple(os.fsencode(expected).split())


def test_the_token_changes_with_every_sidecar(tmp_path: Path) -> None:
    def now(*names: str) -> int | None:
        return sidecar_token((name.encode(), (tmp_path / name).stat()) for name in names)

    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    seen = [now(), now("a"), now("b"), now("a", "b")]
    os.utime(tmp_path / "b", ns=(0, 5))
    seen.append(now("a", "b"))
    (tmp_path / "b").write_bytes(b"22")
    os.utime(tmp_path / "b", ns=(0, 5))
    seen.append(now("a", "b"))
    assert seen[0] is None
    assert len(set(seen)) == len(seen)
    assert all(abs(one) < 2**63 and one != siblings.STALE_TOKEN for one in seen[1:])


def test_one_bad_sidecar_costs_only_its_own_keywords(tmp_path: Path) -> None:
    with open(tmp_path / "large.xmp", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "good.xmp").write_bytes(with_keywords(None, ["dog"]))
    (tmp_path / "cut.xmp").write_bytes(b"<x")
    (tmp_path / "better.xmp").write_bytes(with_keywords(None, ["cat", "dog"]))
    (tmp_path / "folder.xmp").mkdir()
    names = ["large.xmp", "good.xmp", "gone.xmp", "cut.xmp", "better.xmp"]
    found = sidecar_facts(os.fsencode(tmp_path / "a.jpg"), [os.fsencode(name) for name in names])
    assert items(found.facts.keywords) == ("dog", "cat")
    assert found.ignored == (
        (os.fsencode(tmp_path / "large.xmp"), "it is larger than 16 MB"),
        (os.fsencode(tmp_path / "cut.xmp"), "it is not well-formed XML: unclosed token: line 1, column 0"),
    )
    assert not found.unread
    assert sidecar_facts(os.fsencode(tmp_path / "a.jpg"), [b"folder.xmp"]).unread


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.xmp")
    with pytest.raises(SidecarUnusable, match="not a regular file"):
        read_sidecar(tmp_path / "a.xmp")


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
