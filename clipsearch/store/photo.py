"""What an index knows about a folder, a file, a photo, a line of text and a segment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Ids
from clipsearch.images.box import Box
from clipsearch.images.facts import items
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.store.conditions import fold_line

if TYPE_CHECKING:
    from clipsearch.store.places import Place


class Root(NamedTuple):
    """An indexed folder, and what its scans leave out."""

    id: int
    path: bytes
    rules: Rules


class Known(NamedTuple):
    """A file as the last update saw it: how to notice changes, why it was skipped, and its drive."""

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

    A frame of a video has a `time` in seconds, and an image and contents of its own; a part of a panorama has an image
    of its own. `hash` is the perceptual hash (`images.likeness`) of a photo, or of a video's first frame. `named` has
    the names of recognised faces, one per line. `generated_caption` is what a model wrote about the photo, unlike
    `metadata.caption`.
    """

    image_id: int
    file: bytes
    size: int
    mtime_ns: int
    content: bytes
    metadata: Metadata
    ctime_ns: int = 0
    time: float | None = None
    hash: int | None = None
    named: str | None = None
    generated_caption: str | None = None

    @property
    def path(self) -> Path:
        """The absolute path; bytes that are not UTF-8 are surrogates, as in Python's own file names."""
        return Path(os.fsdecode(self.file))

    @property
    def file_id(self) -> str:
        """Names the file in URLs, where its path would be too long or not UTF-8."""
        return blake2b(self.file, digest_size=8).hexdigest()

    @property
    def url_name(self) -> str:
        """Names the photo in URLs: the hash of its contents and, as identical files share it, the `file_id`."""
        return f"{self.content.hex()}.{self.file_id}"

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords in the photo and in its sidecars."""
        return items(self.metadata.keywords)

    @property
    def people(self) -> tuple[str, ...]:
        """The names of people in the photo: of recognised faces, and as other programs wrote them."""
        names = {fold_line(name): name for name in (*items(self.metadata.people), *items(self.named))}
        return tuple(names.values())

    @property
    def is_video(self) -> bool:
        """Whether this is a frame of a video, with a `time`, rather than a still or a RAW file."""
        return is_video_name(self.file)

    @property
    def place(self) -> Place | None:
        """The town where it was taken. Looked up, not stored: None without coordinates or the extra `places`."""
        latitude, longitude = self.metadata.latitude, self.metadata.longitude
        if not (isinstance(latitude, float) and isinstance(longitude, float)):  # unknown, or a damaged record
            return None
        from clipsearch.store.places import place_at

        return place_at(latitude, longitude)

    @property
    def date(self) -> str:
        """When it was taken or, if unknown, when its file changed: local time in ISO 8601."""
        return self.metadata.taken or self.changed

    @property
    def changed(self) -> str:
        """When its file changed: local time in ISO 8601."""
        return local_time(self.mtime_ns)


class Months(NamedTuple):
    """Photos per month, "2023-06", in order: `taken` has those with a date, `changed` the others, by their file's."""

    taken: dict[str, int]
    changed: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.taken.values()) + sum(self.changed.values())


class Listing(NamedTuple):
    """Photos in an order, as arrays (n,). Any part can be read by its `keys`, which name photos in one store.

    `images` are the ids of their images, `shapes` their aspect ratios (width / height) in hundredths, and `days` their
    dates as 20230705, 0 without a date.
    """

    keys: Ids
    images: Ids
    shapes: NDArray[np.int32]
    days: NDArray[np.int32]

    @staticmethod
    def of(rows: Iterable[tuple[int, int, int, int, str | None]]) -> Listing:
        """From the key, image, width, height and `taken` of each photo."""
        numbers = [(key, image, width, height, _day(taken)) for key, image, width, height, taken in rows]
        keys, images, widths, heights, days = np.array(numbers, np.int64).reshape(-1, 5).T.copy()
        shapes = np.clip(np.rint(100 * widths / np.maximum(heights, 1)), 1, 10_000)
        return Listing(keys, images, shapes.astype(np.int32), days.astype(np.int32))

    def part(self, chosen: NDArray[Any]) -> Listing:
        """Some of the photos, by a mask or by their positions."""
        return Listing(*(column[chosen] for column in self))


class Positions(NamedTuple):
    """Where photos were taken: their images (n,), and their latitudes and longitudes (n,) in degrees."""

    images: Ids
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]

    @staticmethod
    def of_rows(rows: Iterable[tuple[int, float, float]]) -> Positions:
        """From an image, a latitude and a longitude each."""
        table = np.fromiter(rows, [("image", np.int64), ("latitude", np.float64), ("longitude", np.float64)])
        return Positions(table["image"], table["latitude"], table["longitude"])

    @staticmethod
    def of_photos(photos: Iterable[Photo]) -> Positions:
        """Those of the photos that have one."""
        every = ((photo.image_id, photo.metadata.latitude, photo.metadata.longitude) for photo in photos)
        return Positions.of_rows(
            (image, latitude, longitude)
            for image, latitude, longitude in every
            if isinstance(latitude, float) and isinstance(longitude, float)  # known, and not a damaged record
        )


class RootCounts(NamedTuple):
    """The photos and skipped files of a root."""

    root: Root
    photos: int
    skipped: int


class Line(NamedTuple):
    """A line of text and its box, in fractions of the upright photo's width and height."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> Box:
        return Box(*self[1:])


NO_MONTH = "0000-00"  # of a file whose time is outside the calendar
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


def _day(taken: str | None) -> int:
    try:
        return int(taken[:10].replace("-", "")) if taken else 0
    except ValueError:
        return 0


def local_time(nanoseconds: int) -> str:
    """A file's time as local time in ISO 8601, to the second."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9).isoformat()
    except (OverflowError, ValueError, OSError):  # outside the calendar's range
        return "0000-00-00T00:00:00"
