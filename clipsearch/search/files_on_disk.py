"""Which photos still exist on disk, and which paths are names of one file. Nothing else decides that."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from clipsearch.images.found_file import is_modified
from clipsearch.images.read import content_hash_from, file_hash
from clipsearch.store.photo import Photo

FileId = tuple[int, int] | bytes  # device and inode; the path if the file system has no inodes


class File(NamedTuple):
    """A file that exists. `photo` has its path without links: the name to keep."""

    photo: Photo
    other_names: tuple[bytes, ...]
    is_modified: bool


class FilesOnDisk:
    """Looks up the files of photos, and collects those that had to be left out.

    `modified`: files that were changed since they were indexed, so that they may show something else. `damaged`: files
    whose contents are not what was indexed, though their size and times are.
    """

    def __init__(self) -> None:
        self._unreadable: set[bytes] = set()
        self.modified: dict[bytes, None] = {}  # in order, each once
        self.damaged: dict[bytes, None] = {}

    def add_unreadable(self, path: bytes) -> None:
        """Record a file that could not be compared."""
        self._unreadable.add(path)

    @property
    def unreadable(self) -> Counter[bytes]:
        """Folders that cannot be entered, with the number of photos asked for in each."""
        return Counter(map(os.path.dirname, self._unreadable))

    def existing(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """The photos whose files exist, in the same order."""
        return (photo for photo, _ in self._with_status(photos))

    def distinct(self, photos: Iterable[Photo]) -> list[File]:
        """Each existing file once, in the order of its first name.

        A file under two mounts has two device numbers; it is recognised by its size and times, to the nanosecond.
        """
        names: dict[FileId, list[tuple[bool, Photo]]] = {}
        seen: dict[tuple[int, int, int], FileId] = {}
        for photo, status in self._with_status(photos):
            file: FileId = (status.st_dev, status.st_ino) if status.st_ino else photo.file
            if file not in names:
                first = seen.setdefault((status.st_size, status.st_mtime_ns, status.st_ctime_ns), file)
                if isinstance(first, tuple) and isinstance(file, tuple) and first[0] != file[0]:
                    file = first
            names.setdefault(file, []).append((is_modified(status, photo), photo))
        files = []
        for named in names.values():
            if len(named) > 1:
                named.sort(key=lambda name: (name[0], os.path.realpath(name[1].file) != name[1].file, name[1].file))
            (modified, photo), *others = named
            files.append(File(photo, tuple(other.file for _, other in others), modified))
        return files

    def unmodified(self, photos: Iterable[Photo]) -> Iterator[File]:
        """Each existing file once, if it is as it was indexed."""
        for file in self.distinct(photos):
            if file.is_modified:
                self.modified[file.photo.file] = None
            else:
                yield file

    def read_again(self, photo: Photo) -> bytes | None:
        """The SHA-256 of a photo's file as it is now; None if that cannot be read, or is not what was indexed."""
        try:
            digest = file_hash(photo.file)
        except OSError:
            self._unreadable.add(photo.file)
            return None
        if photo.is_video or content_hash_from(digest) == photo.content:  # that of a video covers only samples
            return digest
        self.damaged[photo.file] = None
        return None

    def _with_status(self, photos: Iterable[Photo]) -> Iterator[tuple[Photo, os.stat_result]]:
        for photo in photos:
            try:
                status = os.stat(photo.file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                self._unreadable.add(photo.file)
                continue
            yield photo, status
