"""Exclude patterns, with the syntax of a .gitignore file at the top of an indexed folder.

Users may also give a path. The index stores only patterns: they still apply when a later run starts in another folder,
or after the indexed folder has moved.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from clipsearch.errors import BadArgument
from clipsearch.paths import join, relative_to, spellings

# A path from the top without wildcards. It matches only that path, byte for byte, whereas other patterns match "é" in
# every Unicode form.
_EXACT = re.compile(r"(!?)/((?:\\.|[^\\*?\[])+?)(/?) *", re.DOTALL)


class Pattern(NamedTuple):
    """A pattern that excludes what it matches, or with a leading "!" includes it again.

    Call `matches` with a path below the indexed folder, which ends in "/" for a folder, and its NFC form.
    """

    text: str
    excludes: bool
    matches: Callable[[str, str], bool]


class _Exact(NamedTuple):
    negation: str
    path: str
    slash: str

    @property
    def text(self) -> str:
        escaped = re.sub(r"[\\*?\[\]]", r"\\\g<0>", self.path)
        if escaped.endswith(" "):
            escaped = escaped[:-1] + r"\ "
        return f"{self.negation}/{escaped}{self.slash}"


def compile_pattern(text: str) -> Pattern | None:
    """None for a pattern that matches nothing, such as a comment. Raises `BadArgument` for one that Git rejects."""
    exact = _exact(text)
    if exact is not None:
        inside = exact.path + "/"
        if exact.slash:
            return Pattern(text, not exact.negation, lambda path, _: path.startswith(inside))
        return Pattern(text, not exact.negation, lambda path, _: f"{path}/".startswith(inside))
    from pathspec import GitIgnoreSpec

    line = "\\" + text if text.startswith("#") else text
    try:
        (found,) = GitIgnoreSpec.from_lines([_one_line(nfc(line))]).patterns
    except ValueError:
        raise BadArgument("exclude", f"has an invalid pattern: {text!r}") from None
    if found.include is None:
        return None
    return Pattern(text, found.include, lambda _, path: found.match_file(_one_line(path)) is not None)


def check_patterns(given: Iterable[str]) -> None:
    """Raise `BadArgument` for a pattern that Git rejects, unless it is the path of a file."""
    for text in given:
        path = _as_path(text)
        if path is None or not os.path.lexists(path):
            compile_pattern(text)


def anchored(given: str, root: bytes, roots: Iterable[bytes], before: Container[str] = ()) -> str | None:
    """The pattern to store for `root`, from a pattern or path that a user gave; None if the path is elsewhere.

    A path that exists in one of the indexed folders `roots` becomes a pattern for that path alone. It keeps that
    meaning when it is given again after the file is gone, if it is in the patterns so far (`before`). Other absolute
    paths start at the top of each root, as in .gitignore.
    """
    negation, spelt = ("!", given[1:]) if given.startswith("!") else ("", given)
    path = _as_path(given)
    if path is None:
        return given
    slash = "/" if spelt.endswith("/") else ""
    for place in spellings(os.fsencode(path)):
        if below := relative_to(place, root):
            listed = _as_listed(root, below)
            exact = _Exact(negation, os.fsdecode(listed or below), slash).text
            return exact if listed or exact in before else f"{negation}/{os.fsdecode(below)}{slash}"
        if any(relative_to(place, other) for other in roots):
            return None
    if os.path.isabs(spelt):
        return given
    return None if os.path.lexists(path) else negation + spelt.removeprefix(".")


def patterns_below(patterns: Iterable[str], inner: bytes) -> tuple[str, ...]:
    """Rewrite the patterns of a folder for `inner`, a folder in it. Drops paths outside `inner`."""
    folder, out = os.fsdecode(inner) + "/", []
    for text in patterns:
        exact = _exact(text)
        if exact is not None and exact.path.startswith(folder):
            out.append(exact._replace(path=exact.path.removeprefix(folder)).text)
        elif exact is None or folder.startswith(exact.path + "/"):
            out.append(text)
    return tuple(out)


def nfc(text: str) -> str:
    """Normalise to Unicode NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _exact(text: str) -> _Exact | None:
    found = _EXACT.fullmatch(text)
    return found and _Exact(found[1], re.sub(r"\\(.)", r"\1", found[2], flags=re.DOTALL), found[3])


def _as_path(given: str) -> str | None:
    """The path in a possibly negated argument: absolute, or with a leading ./, ../ or ~/. None for a pattern."""
    path = os.path.expanduser(given.removeprefix("!"))
    return path if os.path.isabs(path) or re.match(r"\.\.?(/|$)", path) else None


def _as_listed(root: bytes, below: bytes) -> bytes | None:
    """A path in the Unicode form in which its folders list it; None if it does not exist."""
    folder = root
    for part in below.split(b"/"):
        try:
            names = os.listdir(folder)
        except OSError:
            names = []
        same = (name for name in sorted(names) if nfc(os.fsdecode(name)) == nfc(os.fsdecode(part)))
        name = part if part in names else next(same, None)
        if name is None:
            return below if os.path.lexists(join(root, below)) else None
        folder = join(folder, name)
    return relative_to(folder, root)


def _one_line(text: str) -> str:
    """Replace newlines, at which regular expressions stop, with NUL, which no name contains."""
    return text.replace("\n", "\0")
