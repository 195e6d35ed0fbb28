"""What is in a file: read and hashed here, decoded in a process of its own unless it is known already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from clipsearch.arrays import Pixels
from clipsearch.errors import ImageUnusable
from clipsearch.images.kinds import is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash, read, video_hash
from clipsearch.images.sandbox import Decoders


class Contents(NamedTuple):
    """What was found in a file: its hash, and pixels unless they are known already; or why it cannot be used.

    `pixels` are (n, height, width, 3), one image or the frames of a video, whose `times` are seconds from its start.

    `unread` marks an error of the disk rather than of the image. `seconds` are those of each stage of reading it.
    `hash` is the perceptual hash of the picture.
    """

    content: bytes = b""
    pixels: Pixels | None = None
    metadata: Metadata | None = None
    error: str | None = None
    unread: bool = False
    seconds: Mapping[str, float] = MappingProxyType({})
    times: tuple[float, ...] = ()
    hash: int | None = None


def _is_still(video: bytes, content: bytes) -> bool:
    """Whether a video is there as it was before a process of its own has opened it once more."""
    try:
        return video_hash(video) == content
    except ImageUnusable:
        return False


def contents_of(path: bytes, known: Callable[[bytes], bool], decoders: Decoders) -> Contents:
    """A file's contents, decoded unless `known` says of their hash that there is no need to."""
    began, is_video = time.perf_counter(), is_video_name(path)
    try:
        data = b"" if is_video else read(path)
        content = video_hash(path) if is_video else content_hash(data)
    except ImageUnusable as error:
        return Contents(error=str(error), unread=True)
    seconds = {"read": time.perf_counter() - began}
    if known(content):
        return Contents(content, seconds=seconds)
    try:
        found = decoders.decode_video(path) if is_video else decoders.decode(data)
    except ImageUnusable as error:
        return Contents(error=str(error), unread=is_video and not _is_still(path, content))
    images = found.pixels if is_video else found.pixels[None]
    return Contents(
        content, images, found.metadata, seconds={**seconds, **found.seconds}, times=found.times, hash=found.hash
    )
