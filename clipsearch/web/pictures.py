"""What the page shows of a photo: pictures made small once and kept in the cache folder, and the photo itself.

Whatever was indexed may have been replaced by anything since, a link to any file of this machine among them. A file
goes out as it is only while it has the contents that were indexed. One that has changed is opened only where no link
leads to it, and what is shown of it was decoded in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.read import content_hash, frame_hash, open_file, path_of, read, video_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.images.scan import found_file, has_changed
from clipsearch.images.signatures import HEAD, shown_type
from clipsearch.images.thumbnail import as_jpeg
from clipsearch.output.heat import boxed, overlay
from clipsearch.paths import cache_folder, private_folder, replacing
from clipsearch.search.hit import Where
from clipsearch.store.photo import Line, Photo
from clipsearch.threads import usable_cores

SIZES = {"small": 480, "large": 2048}  # pixels of the long side
_WHOLE = 10_000
_MOST_KEPT = 2 << 30  # bytes
_SECONDS = 20.0
JPEG = "image/jpeg"


class Picture(NamedTuple):
    """Bytes and their media type. `lasting` says that they are of the contents that were asked for."""

    data: bytes
    type: str = JPEG
    lasting: bool = True


def with_heat(picture: Picture, there: Where) -> Picture:
    """The picture with the heat over it."""
    return Picture(as_jpeg(overlay(Image.open(io.BytesIO(picture.data)).convert("RGB"), there)), lasting=False)


def with_boxes(picture: Picture, lines: Iterable[Line]) -> Picture:
    """The picture with a box around each line."""
    return Picture(as_jpeg(boxed(Image.open(io.BytesIO(picture.data)).convert("RGB"), lines)), lasting=False)


class Kept:
    """Small pictures in the cache folder, by the hash of the photo's contents; the oldest go when there are too many.

    Nothing here raises: a picture that cannot be kept is made again.
    """

    def __init__(self, folder: Path | None = None, most: int = _MOST_KEPT) -> None:
        self._folder, self._most = folder or cache_folder() / "pictures", most
        self._bytes: int | None = None
        self._guard = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """The picture that is kept under a name."""
        try:
            return self._path(name).read_bytes()
        except OSError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Keep a picture."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            private_folder(self._folder)
            private_folder(path.parent)
            with replacing(path, private=True) as temporary:
                temporary.write_bytes(data)
            self._count(len(data))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.jpg"

    def _count(self, added: int) -> None:
        with self._guard:
            self._bytes = self._sweep(0) if self._bytes is None else self._bytes + added
            if self._bytes > self._most:
                self._bytes = self._sweep(self._most // 5)

    def _sweep(self, spare: int) -> int:
        """Delete the oldest until `spare` bytes of what may be kept are free; returns how many are left."""
        files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._folder.glob("*/*.jpg"))
        left = sum(size for _, size, _ in files)
        for _, size, path in files:
            if left <= self._most - spare:
                break
            path.unlink(missing_ok=True)
            left -= size
        return left


class Pictures:
    """Makes pictures of photos; may be used from several threads."""

    def __init__(self, kept: Kept | None = None) -> None:
        self._kept = kept or Kept()
        self._decoders = Decoders(Preprocess((1, 1)), usable_cores(), seconds=_SECONDS, gives_way=True)

    def close(self) -> None:
        """End the processes that decode."""
        self._decoders.__exit__()

    def small(self, photos: Iterable[Photo], size: str) -> Picture:
        """One of `SIZES`, of photos with the same contents. Raises `ImageUnusable` when none can be read any more."""
        photos = list(photos)
        name = f"{photos[0].content.hex()}-{SIZES[size]}" if photos else ""
        kept = self._kept.get(name) if any(map(_is_as_indexed, photos)) else None
        if kept is not None:
            return Picture(kept)
        if photos and photos[0].time is not None:
            picture, lasting = self._frame(photos, SIZES[size])
        else:
            data, lasting = _read(photos)
            picture = self.of(data, SIZES[size])
        if lasting:
            self._kept.put(name, picture)
        return Picture(picture, JPEG, lasting)

    def _frame(self, videos: list[Photo], long_side: int) -> tuple[bytes, bool]:
        """What one of several videos with the same contents shows at its time, and whether they are these still."""
        failure = ImageUnusable("not in the index")
        for video in videos:
            try:
                file, lasting = _open_video(video)
                with file:
                    return self._decoders.frame(path_of(file), video.time or 0.0, long_side), lasting
            except ImageUnusable as error:
                failure = error
        raise failure

    def of(self, data: bytes, long_side: int) -> bytes:
        """A JPEG of an image file's bytes. Raises `ImageUnusable`."""
        return self._decoders.small_jpeg(data, long_side)

    def original(self, photos: Iterable[Photo]) -> Picture:
        """The photo's own bytes, if browsers show their kind, or else all its pixels as a JPEG."""
        data, lasting = _read(photos)
        shown = shown_type(data[:HEAD]) if lasting else None
        return Picture(data, shown, lasting) if shown else Picture(self.of(data, _WHOLE), JPEG, lasting)


def open_video(videos: Iterable[Photo]) -> FileIO:
    """One of several videos with the same contents, open, if it has these contents still. Raises `ImageUnusable`."""
    failure = ImageUnusable("not in the index")
    for video in videos:
        try:
            file, lasting = _open_video(video)
        except ImageUnusable as error:
            failure = error
            continue
        if lasting:
            return file
        file.close()
        failure = ImageUnusable("changed since it was indexed")
    raise failure


def _is_as_indexed(photo: Photo) -> bool:
    """Whether a file seems not to have changed."""
    try:
        status = os.stat(photo.path)
    except OSError:
        return False
    return not has_changed(found_file(photo.path, status), photo)


def _open_video(video: Photo) -> tuple[FileIO, bool]:
    """The file of a video, and whether it has the contents that were indexed. Raises `ImageUnusable`."""
    if _may_be_as_indexed(video):
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(open_file(video.path))
            if not has_changed(found_file(video.path, os.fstat(file.fileno())), video) or _has_contents(file, video):
                closing.pop_all()
                return file, True
    return open_file(video.path, follow_links=False), False


def _has_contents(file: FileIO, video: Photo) -> bool:
    """Whether a file is the video that a frame was taken from; one frame goes by the hash of the video itself."""
    found = video_hash(path_of(file))
    return video.content in (found, frame_hash(found, video.time or 0.0))


def _read(photos: Iterable[Photo]) -> tuple[bytes, bool]:
    """The bytes of one of several photos with the same contents, and whether they are these contents still."""
    failure = ImageUnusable("not in the index")
    changed = None
    for photo in photos:
        try:
            if _may_be_as_indexed(photo) and content_hash(data := read(photo.path)) == photo.content:
                return data, True
            changed = read(photo.path, follow_links=False), False
        except ImageUnusable as error:
            failure = error
    if changed is None:
        raise failure
    return changed


def _may_be_as_indexed(photo: Photo) -> bool:
    """Whether a file is one still, and as large as it was. Raises `ImageUnusable` when there is none."""
    try:
        status = os.stat(photo.path)
    except OSError:
        raise ImageUnusable("not there any more") from None
    return stat.S_ISREG(status.st_mode) and status.st_size == photo.size
