"""The images that a pass, such as OCR, has not been through yet."""

from __future__ import annotations

from typing import NamedTuple

from clipsearch.paths import join
from clipsearch.store.database import Database


class Pending(NamedTuple):
    """An image that a pass has yet to process, and a file that has it.

    `content` is the hash of the file. `time` is that of a video's frame, in seconds.
    """

    image_id: int
    path: bytes
    content: bytes
    time: float | None = None


def pending(database: Database, table: str, *, frames: bool = False) -> list[Pending]:
    """The images of photos that have no row in a table, by its column `image`; with `frames`, those of videos too.

    Parts of panoramas are left out: a pass sees the whole picture.
    """
    videos = "" if frames else "AND frames.time IS NULL"
    rows = database.execute(
        "SELECT coalesce(frames.image, photos.image) AS found, roots.path, min(photos.path), content, frames.time"
        " FROM photos JOIN roots ON roots.id = photos.root JOIN images ON images.id = photos.image"
        " LEFT JOIN frames ON frames.whole = photos.image AND (frames.time IS NOT NULL OR frames.part = 0)"
        f" WHERE found NOT IN (SELECT image FROM {table}) {videos} GROUP BY found ORDER BY found"
    )
    return [Pending(image, join(root, path), content, time) for image, root, path, content, time in rows]
