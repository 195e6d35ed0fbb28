"""Patterns of what scans leave out, as in a .gitignore file at the top of an indexed folder.

What a user gives may also be a path. The index keeps patterns only: they mean the same to a run that starts in another
folder, and after the indexed folder has moved.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from clipsearch.errors import BadArgument
from clipsearch.paths import join, relative_to, spellings

# A path from the top, without wildcards. It means that path alone, byte for byte; to other patterns "é" is the same in
# all its Unicode forms.
_EXACT = re.compile(r"(!?)/((?:\\.|[^\\*?\[])+?)(/?) *", re.DOTALL)


class Pattern(NamedTuple):
    """A pattern that leaves out what it matches, or after a "!" takes it back.

    `matches` is asked with a path below the indexed folder, which ends in "/" for a folder, and its NFC form.
    """

    text: str
    leaves_out: bool
    matches: Callable[[str, str], bool]


class _Exact(NamedTuple):
    negation: str
    path: str
    slash: str

    @property
    def text(self) -> str:
        """As a pattern."""
        escaped = re.sub(r"[\\*?\[\]]", r"\\\g<0>", self.path)
        if escaped.endswith(" "):
            escaped = escaped[:-1] + r"\ "
        return f"{self.negation}/{escaped}{self.slash}"


def compiled(text: str) -> Pattern | None:
    """A pattern ready for use; None for one that matches nothing. Raises `BadArgument` for one that Git refuses."""
    exact = _exact(text)
    if exact is not None:
        inside = exact.path + "/"
        if exact.slash:
            return Pattern(text, not exact.negation, lambda path, _: path.startswith(inside))
        return Pattern(text, not exact.negation, lambda path, _: f"{path}/".startswith(inside))
    from pathspec import GitIgnoreSpec

    line = "\\" + text if text.startswith("#") else text
    try:
        (found,) = GitIgnoreSpec.from_lines([_one_line(composed(line))]).patterns
    except ValueError:
        raise BadArgument("exclude", f"has a pattern without a meaning: {text!r}") from None
    if found.include is None:
        return None
    return Pattern(text, found.include, lambda _, path: found.match_file(_one_line(path)) is not None)


def check_patterns(given: Iterable[str]) -> None:
    """Raise `BadArgument` for a pattern that Git refuses, unless it is the path of a file."""
    for text in given:
        path = _as_path(text)
        if path is None or not os.path.lexists(path):
            compiled(text)


def anchored(given: str, root: bytes, roots: Iterable[bytes], before: Container[str] = ()) -> str | None:
    """What a user gave as the pattern that `root` keeps; None if it means a path elsewhere.

    A path that exists in one of the indexed folders, `roots`, becomes the pattern of that path alone, and stays it when
    it is given again after the file is gone: `before` are the patterns until now. Other absolute paths begin at the top
    of each root, as in .gitignore.
    """
    negation, spelt = ("!", given[1:]) if given.startswith("!") else ("", given)
    path = _as_path(given)
    if path is None:
        return given
    slash = "/" if spelt.endswith("/") else ""
    for place in spellings(os.fsencode(path)):
        if below := relative_to(place, root):
            there = _as_listed(root, below)
            exact = _Exact(negation, os.fsdecode(there or below), slash).text
            return exact if there or exact in before else f"{negation}/{os.fsdecode(below)}{slash}"
        if any(relative_to(place, other) for other in roots):
            return None
    if os.path.isabs(spelt):
        return given
    return None if os.path.lexists(path) else negation + spelt.removeprefix(".")


def seen_from(patterns: Iterable[str], inner: bytes) -> tuple[str, ...]:
    """The patterns of a folder as `inner`, a folder in it, would have them; paths that lie outside `inner` drop out."""
    folder, out = os.fsdecode(inner) + "/", []
    for text in patterns:
        exact = _exact(text)
        if exact is not None and exact.path.startswith(folder):
            out.append(exact._replace(path=exact.path.removeprefix(folder)).text)
        elif exact is None or folder.startswith(exact.path + "/"):
            out.append(text)
    return tuple(out)


def composed(text: str) -> str:
    """A text in NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _exact(text: str) -> _Exact | None:
    found = _EXACT.fullmatch(text)
    return found and _Exact(found[1], re.sub(r"\\(.)", r"\1", found[2], flags=re.DOTALL), found[3])


def _as_path(given: str) -> str | None:
    """The path that was given, negated or not: absolute, or one that begins with ./, ../ or ~/. None for a pattern."""
    path = os.path.expanduser(given.removeprefix("!"))
    return path if os.path.isabs(path) or re.match(r"\.\.?(/|$)", path) else None


def _as_listed(root: bytes, below: bytes) -> bytes | None:
    """A path as its folders list it, in whatever Unicode form; None if it is not there."""
    folder = root
    for part in below.split(b"/"):
        try:
            names = os.listdir(folder)
        except OSError:
            names = []
        same = (name for name in sorted(names) if composed(os.fsdecode(name)) == composed(os.fsdecode(part)))
        name = part if part in names else next(same, None)
        if name is None:
            return below if os.path.lexists(join(root, below)) else None
        folder = join(folder, name)
    return relative_to(folder, root)


def _one_line(text: str) -> str:
    """The same with NUL, which is in no name, for newlines, at which a regular expression would stop."""
    return text.replace("\n", "\0")
