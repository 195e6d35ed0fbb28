"""What the page shows of a photo: pictures made small once and kept in the cache folder, and the photo itself.

Whatever was indexed may have been replaced by anything since. So pixels are decoded in processes of their own, and a
file goes out as it is only when it begins like an image that browsers show.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from clipsearch.errors import ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.read import content_hash, read
from clipsearch.images.sandbox import Decoders, usable_cores
from clipsearch.images.scan import found_file, has_changed
from clipsearch.images.signatures import HEAD, shown_type
from clipsearch.images.thumbnail import as_jpeg
from clipsearch.output.heat import boxed, overlay
from clipsearch.paths import cache_folder, private_folder, replacing
from clipsearch.search.where import Where
from clipsearch.store.photo import Photo
from clipsearch.store.texts import Line

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
                return self._decoders.frame(video.path, video.time or 0.0, long_side), _is_as_indexed(video)
            except ImageUnusable as error:
                failure = error
        raise failure

    def of(self, data: bytes, long_side: int) -> bytes:
        """A JPEG of an image file's bytes. Raises `ImageUnusable`."""
        return self._decoders.small_jpeg(data, long_side)

    def original(self, photos: Iterable[Photo]) -> Picture:
        """The photo's own bytes, if browsers show their kind, or else all its pixels as a JPEG."""
        data, lasting = _read(photos)
        shown = shown_type(data[:HEAD])
        return Picture(data, shown, lasting) if shown else Picture(self.of(data, _WHOLE), JPEG, lasting)


def _is_as_indexed(photo: Photo) -> bool:
    """Whether a file seems not to have changed."""
    try:
        status = os.stat(photo.path)
    except OSError:
        return False
    return not has_changed(found_file(photo.path, status), photo)


def _read(photos: Iterable[Photo]) -> tuple[bytes, bool]:
    """The bytes of one of several photos with the same contents, and whether they are these contents still."""
    failure = ImageUnusable("not in the index")
    changed = None
    for photo in photos:
        try:
            if not os.path.isfile(photo.path):
                raise ImageUnusable("not there any more")
            data = read(photo.path)
        except ImageUnusable as error:
            failure = error
            continue
        if content_hash(data) == photo.content:
            return data, True
        changed = data, False
    if changed is None:
        raise failure
    return changed
