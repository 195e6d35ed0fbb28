"""Copies or links photos into folders, and names for copies. Never overwrites."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from clipsearch.errors import BadRequest, ClipsearchError, reason
from clipsearch.paths import replacing

# What some file system or system cannot have in a name, and the names of devices on Windows.
_NOT_IN_NAMES = frozenset('<>:"/\\|?*')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)
_LONGEST_FOLDER = 200  # bytes
_LONGEST_SUFFIX = 16  # bytes; anything longer after the last dot is part of the name


class _Named(Protocol):
    """A hit or a labelled photo."""

    @property
    def path(self) -> Path: ...


def label_folders(labels: Iterable[str]) -> dict[str, Path]:
    """A relative folder for each label: `animal|dog` is `animal/dog`.

    Names are valid everywhere, not hidden, and differ by more than case, so that no two labels share a folder.
    """
    folders: dict[str, Path] = {}
    taken: dict[str, set[str]] = {}
    for label in labels:
        *parents, last = [_folder_name(part) for part in label.split("|") if part.strip()] or ["_"]
        others = taken.setdefault(_as_compared("/".join(parents)), set())
        name = next(name for n in itertools.count(1) if _as_compared(name := last + f"-{n}" * (n > 1)) not in others)
        others.add(_as_compared(name))
        folders[label] = Path(*parents, name)
    return folders


def _folder_name(label: str) -> str:
    letters = unicodedata.normalize("NFC", label.strip())
    name = "".join("_" if c in _NOT_IN_NAMES or not c.isprintable() else c for c in letters).strip(". ")
    name = os.fsencode(name)[:_LONGEST_FOLDER].decode("utf-8", "ignore").rstrip(". ")
    return _DEVICE.sub(r"\g<0>_", name, count=1) if _DEVICE.match(name) else name or "_"


def _as_compared(name: str) -> str:
    """A name as the least exact file systems compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def portable_names(names: Iterable[str]) -> list[str]:
    """File names that are valid everywhere, not hidden, lie in no other folder, and differ by more than case."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem, suffix = os.path.splitext(name)
        if len(os.fsencode(suffix)) > _LONGEST_SUFFIX:
            stem, suffix = name, ""
        valid = _folder_name(stem) + (f".{_folder_name(suffix[1:])}" if suffix else "")
        candidates = (_name(valid, "", n, _LONGEST_FOLDER) for n in itertools.count(1))
        found.append(next(name for name in candidates if _as_compared(name) not in taken))
        taken.add(_as_compared(found[-1]))
    return found


def collect(photos: Sequence[_Named], folder: Path, *, link: bool, numbered: bool) -> list[Path]:
    """Copy photos, with their times, or link to them; returns the new paths in the same order.

    Creates the folder. A photo that is already there under its name is not copied again; if another file has its name,
    it becomes `name-2.jpg`. With `numbered`, names start with a number: `007-name.jpg`. Raises `ClipsearchError` at the
    first photo that cannot be copied; those before it stay.
    """
    _make(folder)
    limit = _name_limit(folder)
    digits = max(3, len(str(len(photos))))  # at least 3: a second search reuses the names
    collected = []
    for place, photo in enumerate(photos, 1):
        number = f"{place:0{digits}d}-" if numbered else ""
        try:
            collected.append(_collect(str(photo.path), folder, number, limit, link=link))
        except OSError as error:
            what = "linked" if link else "copied"
            raise ClipsearchError(f"{photo.path} cannot be {what} to {folder}: {reason(error)}") from error
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
