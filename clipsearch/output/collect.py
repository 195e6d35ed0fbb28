"""Copies or links the photos of hits into one folder. Never overwrites."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import BadRequest, ClipsearchError, reason
from clipsearch.paths import replacing

if TYPE_CHECKING:
    from clipsearch.search.hit import Hit

_LONGEST_SUFFIX = 16  # bytes; anything longer after the last dot is part of the name


def collect(hits: Sequence[Hit], folder: Path, *, link: bool, numbered: bool) -> list[Path]:
    """Copy the photos of hits, with their times, or link to them; returns the new paths in the order of the hits.

    Creates the folder. A photo that is already there under its name is not copied again; if another file has its name,
    it becomes `name-2.jpg`. With `numbered`, names start with a number: `007-name.jpg`. Raises `ClipsearchError` at the
    first photo that cannot be copied; those before it stay.
    """
    _make(folder)
    limit = _name_limit(folder)
    digits = max(3, len(str(len(hits))))  # at least 3: a second search reuses the names
    collected = []
    for place, hit in enumerate(hits, 1):
        number = f"{place:0{digits}d}-" if numbered else ""
        try:
            collected.append(_collect(str(hit.path), folder, number, limit, link=link))
        except OSError as error:
            what = "linked" if link else "copied"
            raise ClipsearchError(f"{hit.path} cannot be {what} to {folder}: {reason(error)}") from error
    return collected


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadRequest(f"{folder} cannot be created: it or a parent is a file") from error
    except OSError as error:
        raise BadRequest(f"{folder} cannot be created: {reason(error)}") from error


def _collect(photo: str, folder: Path, number: str, limit: int, *, link: bool) -> Path:
    os.stat(photo)  # raises if it is gone, which making a link would not
    put = _link if link else _copy
    for n in itertools.count(1):
        target = folder / _name(os.path.basename(photo), number, n, limit)
        if not os.path.lexists(target):
            try:
                put(photo, target)
                return target
            except FileExistsError:  # by another process
                pass
        if _is_there(target, photo, link=link):
            return target
    raise AssertionError


def _name(name: str, number: str, n: int, limit: int) -> str:
    """The n-th name to try, with its stem shortened to fit the limit in bytes."""
    stem, suffix = os.path.splitext(name)
    if len(os.fsencode(suffix)) > _LONGEST_SUFFIX:
        stem, suffix = name, ""
    end = suffix if n == 1 else f"-{n}{suffix}"
    while stem and len(os.fsencode(number + stem + end)) > limit:  # by whole characters
        stem = stem[:-1]
    return number + stem + end


def _is_there(target: Path, photo: str, *, link: bool) -> bool:
    if not link and target.is_symlink():  # not a copy
        return False
    try:
        return os.path.samefile(target, photo) or filecmp.cmp(target, photo, shallow=False)
    except OSError:  # a broken link, or no permission
        return False


def _link(photo: str, target: Path) -> None:
    os.symlink(os.path.abspath(photo), target)


def _copy(photo: str, target: Path) -> None:
    with replacing(target, private=True, new=True) as temporary:
        shutil.copyfile(photo, temporary)
        with contextlib.suppress(OSError):  # the file system may not support times or modes
            shutil.copystat(photo, temporary)


def _name_limit(folder: Path) -> int:
    """The longest name in the folder, in bytes."""
    try:
        known = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255
    return min(known, 255) if known > 0 else 255  # FAT reports six times its real limit
