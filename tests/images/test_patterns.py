"""The meaning of exclude patterns, and which of them are taken literally as paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipsearch.errors import BadArgument
from clipsearch.images.patterns import anchored, check_patterns, compile_pattern, nfc, patterns_below
from clipsearch.images.rules import Rules
from clipsearch.images.scan import scan

NFC, NFD = "\u00e9t\u00e9", "e\u0301te\u0301"
ODD = [
    *("[2]", "[!2]", "a*", "**", "a?", "a]", "back\\slash", "\\", "{a,b}", "$HOME", "-x", "~", "!not", "#hash"),
    *("end ", "ends  ", " begin", "tab\t", "cr\r", "line\nfeed", "line\n", "\u00a0", os.fsdecode(b"not\xffutf8")),
    *(NFC, NFD, "\U0001f600"),
]
DECOYS = ["2", "1", "ab", "b", "backslash", "a", "end", "ends", "begin", "tab", "cr", "line", "not", "hash", "x", "ete"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    return folder


def photos(root: Path, *patterns: str, roots: tuple[Path, ...] = ()) -> list[str]:
    """The photos that patterns, as a user gives them, leave in."""
    known = [os.fsencode(folder) for folder in (root, *roots)]
    kept = [anchored(pattern, known[0], known) for pattern in patterns]
    found = scan(known[0], Rules(exclude=tuple(pattern for pattern in kept if pattern is not None)))
    return [os.fsdecode(photo.path) for photo in found]


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_path_that_exists_is_that_path_alone(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = sorted((f"{one}/a.jpg" for one in (*ODD, *DECOYS)), key=os.fsencode)
    put(root, *everything)
    left = [path for path in everything if path != f"{name}/a.jpg"]
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.chdir(root.parent)
    for spelt in (f"{root}/{name}", f"./photos/{name}", f"~/photos/{name}", f"../{root.parent.name}/photos/{name}"):
        for pattern in (spelt, f"{spelt}/", f"{spelt}/a.jpg"):
            assert photos(root, pattern) == left
            check_patterns([pattern])
    assert photos(root, "*", f"!./photos/{name}") == [f"{name}/a.jpg"]


@given(st.lists(st.text(st.sampled_from("a*?[]!\\ #\u00e9e\u0301\n\udcff~{"), min_size=1, max_size=6), max_size=9))
@example(["a ", "a\\ ", "a\\"])
def test_the_pattern_of_a_path_matches_nothing_else(names: list[str]) -> None:
    for name in names:
        (text,) = patterns_below([f"/in/{''.join(chr(92) + letter for letter in name)}"], b"in")
        pattern = compile_pattern(text)
        assert pattern is not None
        for path in (*names, *(f"{one}/" for one in names), f"{name}a", f"x/{name}"):
            assert pattern.matches(path, nfc(path)) == (path in (name, f"{name}/"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("{top}/photos/[2]", "/\\[2\\]"),
        ("{top}/photos/[2]/", "/\\[2\\]/"),
        ("{top}/photos/./sub/../[2]", "/\\[2\\]"),
        ("{top}/link/[2]", "/\\[2\\]"),  # the root by another name
        ("./photos/[2]", "/\\[2\\]"),
        ("!./photos/[2]", "!/\\[2\\]"),
        ("{top}/photos/*.gif", "/*.gif"),  # no file is called so
        ("{top}/link/*.gif", "/*.gif"),
        ("./photos/*.gif", "/*.gif"),
        ("./gone", "/gone"),
        ("[2]", "[2]"),
        ("photos/[2]", "photos/[2]"),
        ("/sub/", "/sub/"),
        ("~nobody-has-this-name", "~nobody-has-this-name"),
        ("{top}/photos-2/*.gif", None),  # in another root
        ("{top}/photos-2/[2]", None),
        ("./outside", None),
        (".", None),
        ("{top}/outside", "{top}/outside"),  # as in .gitignore: from the top of the root
    ],
)
def test_what_is_kept_of_a_pattern(root: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: str | None) -> None:
    top, other = root.parent, root.with_name("photos-2")
    put(top, "photos/[2]/a.jpg", "photos/sub/a.jpg", "photos-2/[2]/a.jpg", "outside/a.jpg")
    (top / "link").symlink_to(root)
    monkeypatch.chdir(top)
    found = anchored(given.format(top=top), os.fsencode(root), [os.fsencode(root), os.fsencode(other)])
    assert found == (kept and kept.format(top=top))


def test_a_path_may_be_given_in_another_unicode_form(root: Path) -> None:
    put(root, f"{NFD}/a.jpg", "b.jpg")
    assert photos(root, f"{root}/{NFC}/") == ["b.jpg"]
    put(root, f"{NFC}/a.jpg")
    assert photos(root, f"{root}/{NFC}/") == ["b.jpg", f"{NFD}/a.jpg"]


def test_a_pattern_means_a_letter_in_every_unicode_form(root: Path) -> None:
    put(root, f"{NFD}/a.jpg", f"{NFC}/a.jpg", "e\u0301.jpg", "e.jpg")
    for form in (NFC, NFD):
        assert photos(root, form) == ["e.jpg", "e\u0301.jpg"]
    assert photos(root, "?.jpg", f"{NFC}/") == []
    assert photos(root, "[\u00e9].jpg", "[\u00e9]t*") == ["e.jpg"]


def test_what_a_folder_in_a_folder_would_have() -> None:
    patterns = ("*.gif", "/a/[b]", "/a/\\[b\\]/", "!/a/c", "/d/e", "/a/", "/ab")
    assert patterns_below(patterns, b"a") == ("*.gif", "/a/[b]", "/\\[b\\]/", "!/c", "/a/")


@pytest.mark.parametrize("pattern", ["!", "\\"])
def test_a_pattern_without_a_meaning_is_refused(pattern: str) -> None:
    with pytest.raises(BadArgument, match=r"^exclude has an invalid pattern"):
        check_patterns(("*.gif", pattern))


def test_spaces_at_the_end_of_a_pattern_do_not_count(root: Path) -> None:
    put(root, "a/1.jpg", "a /2.jpg")
    assert photos(root, "/a  ") == ["a /2.jpg"]
    assert photos(root, "/a\\ ") == ["a/1.jpg"]
