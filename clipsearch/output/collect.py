"""The photos of hits, copied or linked into one folder, in which nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import BadRequest, ClipsearchError
from clipsearch.paths import give_name

if TYPE_CHECKING:
    from clipsearch.search.query import Hit

_LONGEST_EXTENSION = 16  # bytes; what is longer after the last dot belongs to the name


def collect(hits: Sequence[Hit], folder: Path, *, link: bool, numbered: bool) -> list[Path]:
    """Copy the photos of hits into a folder, with their times, or link them there; returns the paths in their order.

    The folder is made if it is not there. A photo that is in it already under its name counts as collected; where
    another file has that name, the photo becomes `name-2.jpg`. With `numbered`, the rank comes first:
    `007-name.jpg`. Raises a `ClipsearchError` at the first photo that cannot be had; those before it stay.
    """
    _make(folder)
    longest = _longest_name(folder)
    digits = max(3, *(len(str(hit.rank)) for hit in hits)) if hits else 3  # few or many hits: the same names
    collected = []
    for hit in hits:
        number = f"{hit.rank:0{digits}d}-" if numbered else ""
        try:
            collected.append(_collect(str(hit.path), folder, number, longest, link=link))
        except OSError as error:
            what = "linked" if link else "copied"
            raise ClipsearchError(f"{hit.path} cannot be {what} to {folder}: {_reason(error)}") from error
    return collected


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadRequest(f"photos cannot be collected in {folder}: there is a file in its place") from error
    except OSError as error:
        raise BadRequest(f"photos cannot be collected in {folder}: {_reason(error)}") from error


def _collect(photo: str, folder: Path, number: str, longest: int, *, link: bool) -> Path:
    os.stat(photo)  # a link could be made to a photo that is gone
    put = _link if link else _copy
    for n in itertools.count(1):
        target = folder / _name(os.path.basename(photo), number, n, longest)
        if not os.path.lexists(target):
            try:
                put(photo, target)
                return target
            except FileExistsError:  # another process was faster
                pass
        if _is_there(target, photo, link=link):
            return target
    raise AssertionError


def _name(name: str, number: str, n: int, longest: int) -> str:
    """The n-th name to try, shortened before its extension to as many bytes as the file system takes."""
    stem, extension = os.path.splitext(name)
    if len(os.fsencode(extension)) > _LONGEST_EXTENSION:
        stem, extension = name, ""
    end = extension if n == 1 else f"-{n}{extension}"
    while stem and len(os.fsencode(number + stem + end)) > longest:  # by whole characters
        stem = stem[:-1]
    return number + stem + end


def _is_there(target: Path, photo: str, *, link: bool) -> bool:
    if not link and target.is_symlink():  # which is no copy
        return False
    try:
        return os.path.samefile(target, photo) or filecmp.cmp(target, photo, shallow=False)
    except OSError:  # a link that leads nowhere, or a file that may not be read
        return False


def _link(photo: str, target: Path) -> None:
    os.symlink(os.path.abspath(photo), target)


def _copy(photo: str, target: Path) -> None:
    """Under another name first, so that there is a whole copy or none."""
    file, temporary = tempfile.mkstemp(prefix=".clipsearch-", dir=target.parent)
    os.close(file)
    try:
        shutil.copyfile(photo, temporary)
        with contextlib.suppress(OSError):  # where a file system knows no times or modes, it is a copy all the same
            shutil.copystat(photo, temporary)
        give_name(Path(temporary), target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _longest_name(folder: Path) -> int:
    """Bytes that a name in the folder may have."""
    try:
        known = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255
    return min(known, 255) if known > 0 else 255  # FAT says six times as many as it takes


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
