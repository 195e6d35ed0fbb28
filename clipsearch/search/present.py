"""Whether the files of photos are still there, and which paths are names of one file. Both are decided here alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from clipsearch.store.catalogue import Photo

FileId = tuple[int, int] | bytes  # device and inode; the path where the file system has none


class Present:
    """Passes on photos whose files are there, and counts those that cannot be looked at.

    `hidden`: folders that may not be entered, with the number of photos in each that cannot be looked at.
    """

    def __init__(self) -> None:
        self.hidden: Counter[bytes] = Counter()

    def __call__(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """The photos that are there, in their order. Files that are gone are left out without a word."""
        return (photo for photo, _ in self._identified(photos))

    def files(self, photos: Iterable[Photo]) -> list[tuple[Photo, tuple[bytes, ...]]]:
        """Each file that is there once, in the order of its first name, with its other names.

        Its photo is the one whose path is no link and leads through none, for that is the name that must stay.
        """
        names: dict[FileId, list[Photo]] = {}
        for photo, file in self._identified(photos):
            names.setdefault(file, []).append(photo)
        out = []
        for photos_of_file in names.values():
            if len(photos_of_file) > 1:
                photos_of_file.sort(key=lambda photo: (os.path.realpath(photo.path) != photo.path, photo.path))
            first, *others = photos_of_file
            out.append((first, tuple(photo.path for photo in others)))
        return out

    def _identified(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, FileId]]:
        for photo in photos:
            try:
                status = os.stat(photo.path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                self.hidden[os.path.dirname(photo.path)] += 1
                continue
            yield photo, (status.st_dev, status.st_ino) if status.st_ino else photo.path
