"""What a store says of a folder that was indexed, and of a photo."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.preprocess import Box
from clipsearch.images.scan import Rules


class Root(NamedTuple):
    """A folder that was indexed, with what its scans leave out."""

    id: int
    path: bytes
    rules: Rules


class Known(NamedTuple):
    """What the catalogue says of a file: whether it has changed, whether it was skipped, and on which drive it was."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    error: str | None
    sidecar_token: int | None = None
    drive: int = 0


KNOWN = ", ".join(Known._fields)  # columns of `photos`


class Photo(NamedTuple):
    """An indexed photo. `file` is its absolute path as the file system has it, `content` the hash of its contents.

    `keywords` are those in the photo and in its XMP sidecar. A frame of a video has a `time` in seconds, and an image
    and contents of its own. `hash` is the perceptual hash (`images.likeness`) of a photo, or of a video's first frame.
    """

    image_id: int
    file: bytes
    size: int
    mtime_ns: int
    content: bytes
    metadata: Metadata
    ctime_ns: int = 0
    keywords: tuple[str, ...] = ()
    time: float | None = None
    hash: int | None = None

    @property
    def path(self) -> Path:
        """The absolute path; bytes that are not UTF-8 are surrogates, as in Python's own file names."""
        return Path(os.fsdecode(self.file))

    @property
    def is_video(self) -> bool:
        """Whether this is a frame of a video, with a `time`, rather than a still or a RAW file."""
        return is_video_name(self.file)

    @property
    def date(self) -> str:
        """When it was taken or, if it does not say, its file was changed: local time in ISO 8601."""
        return self.metadata.taken or self.changed

    @property
    def changed(self) -> str:
        """When its file was changed: local time in ISO 8601."""
        return local_time(self.mtime_ns)


class RootCounts(NamedTuple):
    """How much of a root is in the catalogue."""

    root: Root
    photos: int
    skipped: int


class Line(NamedTuple):
    """A line of writing and the box around it, in shares of the upright photo's width and height."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> Box:
        """The box alone."""
        return Box(*self[1:])


SEGMENT_FILE = re.compile(r"\.?vectors-\d+\.faiss(\.[0-9a-f]+){0,2}(\.tmp)?")  # also one that a kill left incomplete


class Segment(NamedTuple):
    """A file of vectors: its name, its number of embeddings, and its first and last image.

    `structure` is a hash of these numbers and of everything in the file but ids, codes and rows; `codes` is a checksum
    of the codes.
    """

    file: str
    rows: int
    first: int
    last: int
    structure: str
    codes: int


def local_time(nanoseconds: int) -> str:
    """The time of a file as local time in ISO 8601, in whole seconds."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9).isoformat()
    except (OverflowError, ValueError, OSError):  # beyond what the calendar can say
        return "0000-00-00T00:00:00"
