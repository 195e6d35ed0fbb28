"""Whether the files of photos are still there, and which paths are names of one file. Both are decided here alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from clipsearch.images.scan import is_modified
from clipsearch.store.photo import Photo

FileId = tuple[int, int] | bytes  # device and inode; the path where the file system has none


class File(NamedTuple):
    """A file that is there: its photo, other names of it, and whether it may show something else by now.

    The photo is the one whose path is no link and leads through none, for that is the name that must stay.
    """

    photo: Photo
    other_names: tuple[bytes, ...]
    changed: bool


class Present:
    """Passes on photos whose files are there, and counts those that cannot be looked at.

    `hidden`: folders that may not be entered, with the number of photos in each that cannot be looked at. `changed`:
    files that were left out because what they show now is not known.
    """

    def __init__(self) -> None:
        self.hidden: Counter[bytes] = Counter()
        self.changed: dict[bytes, None] = {}  # in order, each once

    def __call__(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """The photos that are there, in their order. Files that are gone are left out without a word."""
        return (photo for photo, _ in self._looked_at(photos))

    def files(self, photos: Iterable[Photo]) -> list[File]:
        """Each file that is there once, in the order of its first name.

        Through a second mount a file has another device, but still the very times of the first to the nanosecond.
        """
        names: dict[FileId, list[tuple[bool, Photo]]] = {}
        seen: dict[tuple[int, int, int], FileId] = {}
        for photo, status in self._looked_at(photos):
            file: FileId = (status.st_dev, status.st_ino) if status.st_ino else photo.path
            if file not in names:
                first = seen.setdefault((status.st_size, status.st_mtime_ns, status.st_ctime_ns), file)
                if isinstance(first, tuple) and isinstance(file, tuple) and first[0] != file[0]:
                    file = first
            names.setdefault(file, []).append((is_modified(status, photo), photo))
        out = []
        for named in names.values():
            if len(named) > 1:
                named.sort(key=lambda name: (name[0], os.path.realpath(name[1].path) != name[1].path, name[1].path))
            (changed, photo), *others = named
            out.append(File(photo, tuple(other.path for _, other in others), changed))
        return out

    def _looked_at(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, os.stat_result]]:
        for photo in photos:
            try:
                status = os.stat(photo.path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                self.hidden[os.path.dirname(photo.path)] += 1
                continue
            yield photo, status
