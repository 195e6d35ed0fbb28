"""Sidecars: XMP files beside photos, in which other programs look for keywords. Photos themselves are never written."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import ClipsearchError, SidecarUnusable, reason
from clipsearch.images.scan import SIDECAR_ENDINGS, TYPES, is_raw_name, sidecar_stems
from clipsearch.images.xmp import our_keywords, path_of, with_keywords, without_ours
from clipsearch.paths import replacing

_MOST = 1 << 26  # bytes of a sidecar
# RAW files that are not indexed have sidecars too.
_OTHER_RAW = ".3fr .crw .dcr .erf .iiq .kdc .mef .mos .mrw .nrw .raw .rwl .sr2 .srf .srw .x3f"
_RAW_SUFFIXES = (*TYPES["raw"], *_OTHER_RAW.split())


class Change(NamedTuple):
    """What becomes of a sidecar: its bytes before and after, None for no file, and the keywords that this is about."""

    path: Path
    before: bytes | None
    after: bytes | None
    keywords: tuple[str, ...]


def addition(photo: bytes, labels: Sequence[str]) -> Change:
    """Labels added to the sidecar of a photo; nothing changes where it has them. Raises `ClipsearchError`."""
    places = _places(photo)
    path, before = next(((path, held) for path in places if (held := _read(path)) is not None), (places[0], None))
    with _left_alone(path):
        after = with_keywords(before, labels)
    return Change(path, before, after, tuple(dict.fromkeys(part for label in labels for part in path_of(label))))


def removals(photo: bytes) -> Iterator[Change]:
    """What `addition` added, taken away from each sidecar of a photo that has some of it. Raises `ClipsearchError`."""
    for path in _places(photo):
        before = _read(path)
        if before is not None:
            with _left_alone(path):
                after = without_ours(before)
            if after != before:
                yield Change(path, before, after, our_keywords(before))


def carry_out(change: Change) -> None:
    """Write or delete a sidecar, in one step. Its permissions stay, and a link to it does. Raises `ClipsearchError`."""
    path = Path(os.path.realpath(change.path))
    try:
        if change.after is None:
            _check_unchanged(path, change)
            path.unlink()
            return
        with replacing(path, new=change.before is None) as temporary:
            temporary.write_bytes(change.after)
            _check_unchanged(path, change)
            if change.before is not None:
                shutil.copymode(path, temporary)
    except OSError as error:
        raise ClipsearchError(f"{change.path} cannot be written: {reason(error)}") from error


def _check_unchanged(path: Path, change: Change) -> None:
    """Raise `ClipsearchError` if another program has written the sidecar since it was read."""
    if _read(path) != change.before:
        raise ClipsearchError(f"{change.path} is left as it is: another program has changed it")


def _places(photo: bytes) -> list[Path]:
    """Where a sidecar of a photo may be, first where a new one belongs. Raises `ClipsearchError` if there is no file.

    `IMG_1.jpg.xmp` is how darktable and digiKam have it. Lightroom's `IMG_1.xmp` may be that of `IMG_1.CR2`.
    """
    path = Path(os.fsdecode(photo))
    if not os.path.isfile(path):
        raise ClipsearchError(f"{path} is not a file that could have a sidecar")
    long, short = (Path(os.fsdecode(stem + SIDECAR_ENDINGS[0])) for stem in sidecar_stems(photo))
    if long == short or not os.path.lexists(short) or (not is_raw_name(photo) and _has_raw_file(path)):
        return [long]
    return [long, short]


def _has_raw_file(photo: Path) -> bool:
    suffixes = (spelled for suffix in _RAW_SUFFIXES for spelled in (suffix, suffix.upper()))
    return any(os.path.exists(photo.with_suffix(suffix)) for suffix in suffixes)


def _read(path: Path) -> bytes | None:
    """The bytes of a sidecar; None if there is none. Raises `ClipsearchError`."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST:
            raise ClipsearchError(f"{path} is left as it is: it is not a file, or too large")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClipsearchError(f"{path} cannot be read: {reason(error)}") from error


@contextlib.contextmanager
def _left_alone(path: Path) -> Iterator[None]:
    """Says of which sidecar it is that it cannot be changed."""
    try:
        yield
    except SidecarUnusable as error:
        raise ClipsearchError(f"{path} is left as it is: {error}") from None
