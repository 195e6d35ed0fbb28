"""Pictures for the page: thumbnails, cached by content, and originals.

Since it was indexed, a file may have been replaced by anything, including a link to any other file of this machine. The
bytes of a file are served only while they are the indexed ones. A changed file is opened only if its path has no links,
and only served re-encoded; decoding always runs in a separate process.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from PIL import Image

from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.images.box import Box
from clipsearch.images.decode import jpeg_of
from clipsearch.images.found_file import is_modified
from clipsearch.images.kinds import HEAD, browser_image_type, browser_video_type
from clipsearch.images.metadata import Exposure
from clipsearch.images.read import (
    STREAM_BYTES,
    STREAM_SECONDS,
    content_hash,
    frame_hash,
    open_file,
    path_of,
    read,
    video_hash,
)
from clipsearch.images.sandbox import Decoders, VideoFrame
from clipsearch.output.annotate import FACE_MARGIN, annotated, cropped
from clipsearch.paths import cache_folder, private_folder, replacing
from clipsearch.search.hit import Where
from clipsearch.store.photo import Line, Photo
from clipsearch.threads import usable_cores

SIZES = {"small": 480, "large": 2048}  # long side in pixels
UPLOAD_BYTES, UPLOAD_SECONDS = STREAM_BYTES, STREAM_SECONDS  # limits of one upload
JPEG = "image/jpeg"

_FULL_SIZE = 10_000  # pixels
_FACE = 240  # pixels of the side of the square around a face
_CACHE_BYTES = 2 << 30
_CRC_BYTES = 4
_DECODE_SECONDS = 20.0

Result = TypeVar("Result")


class Picture(NamedTuple):
    """An encoded image. `immutable`: made from the indexed contents, so browsers may cache it for ever."""

    data: bytes
    type: str = JPEG
    immutable: bool = True


class OpenVideo(NamedTuple):
    """A video to stream. `path` opens this very file, even after another file has taken its name."""

    file: BinaryIO
    path: str
    type: str


class ThumbnailCache:
    """JPEGs in the cache folder, named by content hash, each followed by its CRC-32. Deletes the oldest when full.

    Never raises: whatever cannot be cached, or is damaged, is made again. A damaged thumbnail would make a sound photo
    look damaged.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = _CACHE_BYTES) -> None:
        self._folder, self._max_bytes = folder or cache_folder() / "pictures", max_bytes
        self._bytes: int | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        try:
            stored = self._path(name).read_bytes()
        except OSError:
            return None
        data, crc = stored[:-_CRC_BYTES], stored[-_CRC_BYTES:]
        return data if crc == _crc(data) else None

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        with contextlib.suppress(OSError):
            private_folder(self._folder)
            private_folder(path.parent)
            with replacing(path, private=True) as temporary:
                temporary.write_bytes(data + _crc(data))
            with self._lock:
                self._bytes = self._shrink(0) if self._bytes is None else self._bytes + len(data) + _CRC_BYTES
                if self._bytes > self._max_bytes:
                    self._bytes = self._shrink(self._max_bytes // 5)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.jpg"

    def _shrink(self, spare: int) -> int:
        """Delete the oldest files until `spare` bytes of the limit are free. Returns the bytes in use."""
        files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._folder.glob("*/*.jpg"))
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used <= self._max_bytes - spare:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "big")


class Pictures:
    """Makes thumbnails and full-size pictures of photos. Thread-safe."""

    def __init__(self, cache: ThumbnailCache | None = None) -> None:
        self._cache = cache or ThumbnailCache()
        self._decoders = Decoders(usable_cores(), seconds=_DECODE_SECONDS, low_priority=True)

    def close(self) -> None:
        self._decoders.close()

    def thumbnail(self, photos: Iterable[Photo], size: str) -> Picture:
        """A JPEG in one of `SIZES`, from any of several files with the same contents.

        Raises `ImageUnusable` if none of them can be read.
        """
        return self._cached(list(photos), str(SIZES[size]), lambda photos: self._small(photos, SIZES[size]))

    def face(self, photos: Iterable[Photo], face: Box) -> Picture:
        """A square JPEG of a face in a photo, with a margin around it. Raises `ImageUnusable`."""

        def crop(photos: Sequence[Photo]) -> tuple[bytes, bool]:
            of = photos[0].metadata
            width, height = (face.right - face.left) * of.width, (face.bottom - face.top) * of.height
            # Decoded just large enough for the face to be sharp: a large one needs few of the photo's pixels.
            scale = _FACE / max(1.0, FACE_MARGIN * max(width, height))
            long_side = min(_FULL_SIZE, max(_FACE, math.ceil(scale * max(of.width, of.height))))
            data, unchanged = self._small(photos, long_side)
            return jpeg_of(cropped(Image.open(io.BytesIO(data)), face, _FACE)), unchanged

        name = "-".join(f"{edge:.4f}".replace(".", "") for edge in face)
        return self._cached(list(photos), f"face-{name}", crop)

    def _cached(
        self, photos: Sequence[Photo], kind: str, make: Callable[[Sequence[Photo]], tuple[bytes, bool]]
    ) -> Picture:
        """The cached picture, or else that by `make`, which also says whether the file is unchanged."""
        if not photos:
            raise ImageUnusable("not in the index")
        name = f"{photos[0].content.hex()}-{kind}"
        cached = self._cache.get(name) if any(map(_has_old_times, photos)) else None
        if cached is not None:
            return Picture(cached)
        data, unchanged = make(photos)
        if unchanged:
            self._cache.put(name, data)
        return Picture(data, immutable=unchanged)

    def _small(self, photos: Sequence[Photo], long_side: int) -> tuple[bytes, bool]:
        if photos[0].is_video:
            return _first_usable(photos, lambda video: self._frame(video, long_side))
        original, unchanged = _first_usable(photos, _read)
        return self.jpeg(original, long_side), unchanged

    def original(self, photos: Iterable[Photo]) -> Picture:
        """The file's own bytes if browsers can show its type, otherwise a full-size JPEG. Raises `ImageUnusable`."""
        data, unchanged = _first_usable(photos, _read)
        media_type = browser_image_type(data[:HEAD]) if unchanged else None
        return Picture(data, media_type) if media_type else Picture(self.jpeg(data, _FULL_SIZE), immutable=unchanged)

    def exposure(self, photos: Iterable[Photo]) -> Exposure | None:
        """Lens and exposure, as the file has them; None for a video or if the file cannot be read."""
        photos = [photo for photo in photos if not photo.is_video]
        try:
            return self._decoders.exposure(_first_usable(photos, _read)[0])
        except ImageUnusable:
            return None

    def jpeg(self, data: bytes, long_side: int) -> bytes:
        """An image file re-encoded as a JPEG of at most `long_side` pixels. Raises `ImageUnusable`."""
        return self._decoders.jpeg(data, long_side)

    def _frame(self, video: Photo, long_side: int) -> tuple[bytes, bool]:
        file, unchanged = _open(video)
        with file:
            return self._decoders.jpeg(VideoFrame(path_of(file), video.time or 0.0), long_side), unchanged


def with_annotations(picture: Picture, there: Where | None, lines: Iterable[Line] | None) -> Picture:
    """The picture with a heat map over it and boxes around lines of text."""
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    return Picture(jpeg_of(annotated(image, [] if there is None else [there], lines)), immutable=False)


def face_box(text: str) -> Box:
    """The box of a face from "left,top,right,bottom", as fractions of the photo. Raises `BadRequest`."""
    try:
        left, top, right, bottom = (min(1.0, max(0.0, float(edge))) for edge in text.split(","))
        box = Box(left, top, right, bottom)
    except ValueError:
        box = Box(0, 0, 0, 0)
    if not (box.left < box.right and box.top < box.bottom):  # also of what is not a number
        raise BadRequest("the box of a face must be left,top,right,bottom, from 0 to 1")
    return box


def content_id(data: bytes) -> str:
    """The id of a photo on the page: its content hash in hex."""
    return content_hash(data).hex()


def open_video(videos: Iterable[Photo]) -> OpenVideo | None:
    """Open one of several videos with the same contents; None if browsers do not play this kind.

    Raises `ImageUnusable` if none is unchanged.
    """
    return _first_usable(videos, _playable)[0]


def open_indexed(photo: Photo) -> BinaryIO:
    """Open a photo or video, if its contents are the indexed ones. Raises `ImageUnusable`."""
    file, unchanged = _open(photo)
    if not unchanged:
        file.close()
        raise ImageUnusable("changed since it was indexed")
    return file


# ------------------------------------------------------------------------------------------ has it changed?


def _first_usable(photos: Iterable[Photo], use: Callable[[Photo], tuple[Result, bool]]) -> tuple[Result, bool]:
    """The result of `use` and whether its file is unchanged; a changed file counts only if no other can be read."""
    failure, changed = ImageUnusable("not in the index"), None
    for photo in photos:
        try:
            result, unchanged = use(photo)
        except ImageUnusable as error:
            failure = error
            continue
        if unchanged:
            return result, True
        changed = (result, False)
    if changed is None:
        raise failure
    return changed


def _read(photo: Photo) -> tuple[bytes, bool]:
    if _has_old_size(photo) and content_hash(data := read(photo.file)) == photo.content:
        return data, True
    return read(photo.file, follow_links=False), False


def _playable(video: Photo) -> tuple[OpenVideo | None, bool]:
    file = open_indexed(video)
    media_type = browser_video_type(file.read(HEAD))
    if media_type is not None:
        return OpenVideo(file, os.fsdecode(path_of(file)), media_type), True
    file.close()
    return None, True


def _open(photo: Photo) -> tuple[BinaryIO, bool]:
    if _has_old_size(photo):
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(open_file(photo.file))
            if not is_modified(os.fstat(file.fileno()), photo) or _has_contents(file, photo):
                closing.pop_all()
                return file, True
    return open_file(photo.file, follow_links=False), False


def _has_contents(file: BinaryIO, photo: Photo) -> bool:
    """Compare hashes. The hash of a video with a single frame is the video's own."""
    path = path_of(file)
    if not photo.is_video:
        return content_hash(read(path)) == photo.content
    found = video_hash(path)
    return photo.content in (found, frame_hash(found, photo.time or 0.0))


def _has_old_times(photo: Photo) -> bool:
    try:
        status = os.stat(photo.file)
    except OSError:
        return False
    return not is_modified(status, photo)


def _has_old_size(photo: Photo) -> bool:
    """Whether comparing contents can succeed. Raises `ImageUnusable` if there is no file."""
    try:
        status = os.stat(photo.file)
    except OSError:
        raise ImageUnusable("moved, deleted or offline") from None
    return stat.S_ISREG(status.st_mode) and status.st_size == photo.size
