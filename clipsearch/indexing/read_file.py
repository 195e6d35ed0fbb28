"""Read and hash a file here, and decode it in a process of its own unless its contents are indexed already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from clipsearch.arrays import Pixels
from clipsearch.errors import ImageUnusable
from clipsearch.images.kinds import HEAD, is_video_name, misnamed
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash, read, read_head, video_hash
from clipsearch.images.sandbox import Decoders


class Contents(NamedTuple):
    """A file's content hash and, if it had to be decoded, its pixels and metadata; or an error.

    `pixels` (n, height, width, 3) are a photo and the parts of a panorama, or the frames of a video at `times`, in
    seconds. `hash` is the perceptual hash. `unread`: the disk failed, rather than the decoder. `seconds` has the time
    of each stage. `is_partial`: the file is cut short or damaged, and was decoded as far as it goes.
    """

    content: bytes = b""
    pixels: Pixels | None = None
    metadata: Metadata | None = None
    error: str | None = None
    unread: bool = False
    seconds: Mapping[str, float] = MappingProxyType({})
    times: tuple[float, ...] = ()
    hash: int | None = None
    is_partial: bool = False


def read_file(path: bytes, is_indexed: Callable[[bytes], bool], decoders: Decoders) -> Contents:
    """Read a file; decode it unless `is_indexed(content_hash)`. An error is returned, not raised."""
    began, is_video = time.perf_counter(), is_video_name(path)
    try:
        data = b"" if is_video else read(path)
        content = video_hash(path) if is_video else content_hash(data)
    except ImageUnusable as error:
        return Contents(error=str(error), unread=True)
    seconds = {"read": time.perf_counter() - began}
    if is_indexed(content):
        return Contents(content, seconds=seconds)
    try:
        found = decoders.decode_video(path) if is_video else decoders.decode(data)
    except ImageUnusable as error:
        unread = is_video and not _is_readable(path, content)
        return Contents(error=_misnamed(path, data) or str(error), unread=unread)
    return Contents(
        content,
        found.pixels,
        found.metadata,
        seconds={**seconds, **found.seconds},
        times=found.times,
        hash=found.hash,
        is_partial=found.is_partial,
    )


def _misnamed(path: bytes, data: bytes) -> str | None:
    try:
        return misnamed(path, data[:HEAD] or read_head(path, HEAD))
    except OSError:
        return None


def _is_readable(video: bytes, content: bytes) -> bool:
    """Whether a video still has the same contents. If not, the decoder may have failed because a drive went away."""
    try:
        return video_hash(video) == content
    except ImageUnusable:
        return False
