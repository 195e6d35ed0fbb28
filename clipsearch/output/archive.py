"""Streams photos as a ZIP archive. They are stored as they are: photos and videos are compressed already."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from datetime import datetime

from clipsearch.errors import BadRequest
from clipsearch.output import text
from clipsearch.output.collect import portable_names
from clipsearch.output.pictures import open_indexed
from clipsearch.store.photo import Photo

FOLDER = "photos"  # in the archive
MAX_FILES, MAX_BYTES = 2_000, 4_000_000_000
_CHUNK = 1 << 20
_YEARS = range(1980, 2108)  # that a ZIP archive can tell


def check_size(photos: Sequence[Photo]) -> int:
    """The bytes of photos that go into one archive. Raises `BadRequest` if they are too many or too large."""
    size = sum(photo.size for photo in photos)
    if len(photos) > MAX_FILES or size > MAX_BYTES:
        raise BadRequest(
            f"{text.files(len(photos))} with {text.amount(size)} do not fit in one ZIP;"
            f" the limit is {text.files(MAX_FILES)} and {text.amount(MAX_BYTES)}: copy them into a folder instead"
        )
    return size


def archive(photos: Sequence[Photo]) -> Iterator[bytes]:
    """The parts of an archive. Raises `ImageUnusable` at a file that has changed since it was indexed."""
    parts = _Parts()
    with zipfile.ZipFile(parts, "w") as written:  # type: ignore[call-overload]  # it needs no more than `write`
        for photo, name in zip(photos, portable_names(photo.path.name for photo in photos), strict=True):
            with open_indexed(photo) as file:
                status = os.fstat(file.fileno())
                entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _time(status.st_mtime))
                entry.file_size = status.st_size  # decides whether sizes are written in 64 bits
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                with written.open(entry, "w") as target:
                    while chunk := file.read(_CHUNK):
                        target.write(chunk)
                        yield parts.take()
    yield parts.take()


class _Parts:
    """A file that is only written to, and taken from it part by part."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last call."""
        data = bytes(self._data)
        self._data.clear()
        return data


def _time(seconds: float) -> tuple[int, int, int, int, int, int]:
    try:
        time = datetime.fromtimestamp(seconds)
    except (OverflowError, ValueError, OSError):  # outside the calendar
        time = datetime(1980, 1, 1)
    year = min(max(time.year, _YEARS[0]), _YEARS[-1])
    return year, time.month, time.day, time.hour, time.minute, time.second
