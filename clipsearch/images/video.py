"""Videos: frames that differ from those before them, comparison of copies, metadata.

Needs PyAV. Frames are taken from the keyframes, which can be decoded alone; where these are far apart, also from the
frames between them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clipsearch.errors import ImageUnusable
from clipsearch.images.decode import MAX_PIXELS
from clipsearch.images.likeness import LEAST_DETAIL, likeness_of, perceptual_hash
from clipsearch.images.metadata import Metadata, camera_name
from clipsearch.images.preprocess import Preprocess, preprocess

if TYPE_CHECKING:
    from PIL import Image

    from clipsearch.arrays import Pixels

MAX_FRAMES = 300  # per video

_SHORTEST, _LONGEST = 1.0, 10.0  # seconds between two frames
_CHANGED = 12.0  # mean difference of two small grey pictures, 0 to 255; noise and an unsteady hand cause less
_SMALL = 32  # pixels
_COMPARED, _FULL = 144, 4320  # pixels of the short side when comparing every frame, and one per second
_STEP = 100.0  # the quantization step (`likeness.likeness_of`) of a JPEG as strongly compressed as a film may be
_SAME_TIME = 0.01  # seconds
_PATIENCE = 40.0  # seconds of work, after which the frames found so far have to do
# The contents of a file could make FFmpeg open a playlist of other files or URLs.
_FILES_ONLY = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,dv,mxf",
    "protocol_whitelist": "file",
}

Timed = tuple[float, Any]  # seconds from the start of the video, and the frame


class Video(NamedTuple):
    """Frames as a model's input, (n, height, width, 3) uint8, with their times in seconds.

    `hash` is the perceptual hash of the first frame.
    """

    pixels: Pixels
    times: tuple[float, ...]
    metadata: Metadata
    hash: int


def distinct_frames(path: str, settings: Preprocess) -> Video:
    """The frames that differ from those before them, preprocessed for a model. Raises `ImageUnusable`."""
    kept: list[tuple[float, Pixels]] = []
    is_sideways, first = False, 0
    with _explained():
        try:
            for seconds, frame in _changes(path):
                image = _upright(frame, 2 * max(settings.size))
                first = first if kept else perceptual_hash(image)
                kept.append((seconds, preprocess(image, settings)))
                is_sideways = round(frame.rotation / 90) % 2 == 1
        except Exception:  # a damaged video counts up to the damage
            if not kept:
                raise
        metadata = _metadata(path, is_sideways=is_sideways)
    if not kept:
        raise ImageUnusable("has no pictures")
    kept = kept[:: -(-len(kept) // MAX_FRAMES)]
    return Video(np.stack([pixels for _, pixels in kept]), tuple(round(at, 3) for at, _ in kept), metadata, first)


def _changes(path: str) -> Iterator[Timed]:
    """Candidates that differ from the one before them, or come long after it."""
    deadline = time.monotonic() + _PATIENCE
    last, before = 0.0, None
    for seconds, frame in _candidates(path):
        small = frame.reformat(_SMALL, _SMALL, "gray").to_ndarray().astype(np.int16)
        if before is None or seconds - last >= _LONGEST or np.abs(small - before).mean() > _CHANGED:
            yield seconds, frame
            last, before = seconds, small
        if time.monotonic() > deadline:
            return


def frame_at(path: str, seconds: float, long_side: int) -> Image.Image:
    """The frame at a time, upright, at most `long_side` pixels long. Raises `ImageUnusable`."""
    with _explained(), _opened(path) as (container, stream):
        last = None
        for at, frame in _frames(container, stream, seconds):
            last = frame
            if at >= seconds - 0.001:
                break
        if last is None:
            raise ImageUnusable("has no picture there")
        image = _upright(last, long_side)
        image.thumbnail((long_side, long_side))
        return image


# ------------------------------------------------------------------------------------------ comparison


def copy_similarity(a: str, b: str) -> float | None:
    """The similarity (0 to 1) of the least similar frames of two videos if one is a copy of the other, otherwise None.

    The packets of sound must be equal: the same film may be dubbed in two languages. The packets of the picture are
    equal too, in another container, or frames are compared in step: every frame at 144 pixels, and one per second at
    full size, where text is legible. Raises `ImageUnusable`.
    """
    with _explained():
        ours, theirs = _Streams.of(a), _Streams.of(b)
        if ours.sound != theirs.sound or (ours.created and theirs.created and ours.created != theirs.created):
            return None
        if not _same_times(ours.times, theirs.times):
            return None
        if ours.pictures == theirs.pictures and ours.rotation == theirs.rotation:
            return 1.0
        return _frames_similarity(a, b)


class _Streams(NamedTuple):
    """Hashes of the packets of the picture and of each audio stream, the times of the frames, and their rotation."""

    pictures: bytes
    times: tuple[float, ...]
    rotation: int
    sound: list[bytes]
    created: str

    @staticmethod
    def of(path: str) -> _Streams:
        with _opened(path) as (container, stream):
            audio = {stream.index: hashlib.sha256() for stream in container.streams.audio}
            pictures, times, offset = hashlib.sha256(), [], _offset(stream)
            for packet in container.demux(stream, *container.streams.audio):
                if packet.stream.index in audio:
                    audio[packet.stream.index].update(bytes(packet))
                elif packet.pts is not None:
                    pictures.update(bytes(packet))
                    times.append(float(packet.pts * packet.time_base) - offset)
            created = container.metadata.get("creation_time", "")
        with _opened(path) as (container, stream):
            rotation = next((frame.rotation for frame in container.decode(stream)), 0)
        sound = [digest.digest() for digest in audio.values()]
        return _Streams(pictures.digest(), tuple(sorted(times)), rotation, sound, created)


def _same_times(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(
        abs(one - other) <= _SAME_TIME for one, other in zip(ours, theirs, strict=True)
    )


def _frames_similarity(a: str, b: str) -> float | None:
    least, detail, last_full = 1.0, 0.0, -_SHORTEST
    for one, other in itertools.zip_longest(_frames_of(a), _frames_of(b)):
        if one is None or other is None or abs(one[0] - other[0]) > _SAME_TIME:
            return None
        is_full = one[0] - last_full >= _SHORTEST
        last_full = one[0] if is_full else last_full
        side = _FULL if is_full else _COMPARED
        likeness = likeness_of(_upright(one[1], side), _upright(other[1], side), _STEP)
        if likeness is None:
            return None
        least, detail = min(least, likeness.similarity), max(detail, likeness.detail)
    return least if detail >= LEAST_DETAIL else None


def _frames_of(path: str) -> Iterator[Timed]:
    with _opened(path) as (container, stream):
        yield from _frames(container, stream)


# ------------------------------------------------------------------------------------------ frames


def _candidates(path: str) -> Iterator[Timed]:
    """Frames in order: keyframes, and others where these are far apart."""
    with _opened(path) as (container, stream):
        length = _length(container, stream)
        step = max(_SHORTEST, length / (2 * MAX_FRAMES))
        gap = max(_LONGEST, step)
        last = None
        for seconds, frame in _keyframes(container, stream, step):
            if last is not None and seconds - last > gap:
                yield from _between(path, last, seconds, gap)
            yield seconds, frame
            last = seconds
        if last is not None and length - last > gap:
            yield from _between(path, last, length, gap)


def _keyframes(container: Any, stream: Any, step: float) -> Iterator[Timed]:
    """Keyframes at least `step` seconds apart. Seeks in long videos."""
    stream.codec_context.skip_frame = "NONKEY"
    last, seeks = -step, step > _LONGEST / 2
    frames = _frames(container, stream)
    while (found := next(frames, None)) is not None:
        seconds, frame = found
        if seconds - last < step:
            continue
        last = max(0.0, seconds)
        yield last, frame
        if seeks:
            frames = _frames(container, stream, last + step)


def _between(path: str, start: float, end: float, gap: float) -> Iterator[Timed]:
    """Frames between two times, `gap` seconds apart, or one second in videos short enough for that."""
    apart = _SHORTEST if gap == _LONGEST else gap
    with _opened(path) as (container, stream):
        last = start
        for seconds, frame in _frames(container, stream, start):
            if seconds >= end:
                return
            if seconds - last >= apart:
                last = seconds
                yield seconds, frame


def _frames(container: Any, stream: Any, start: float | None = None) -> Iterator[Timed]:
    """Decode frames, from the last keyframe before `start`."""
    offset = _offset(stream)
    if start is not None:
        container.seek(int((start + offset) / stream.time_base), stream=stream)
    for frame in container.decode(stream):
        if frame.time is not None:
            yield frame.time - offset, frame


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, for decoding in a single thread."""
    import av

    av.logging.set_level(None)
    with av.open(path, metadata_errors="replace", options=_FILES_ONLY) as container:
        if not container.streams.video:
            raise ImageUnusable("has no pictures")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise ImageUnusable(f"too large: {width} x {height} pixels")
        yield container, stream


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a decoder raises on a hostile video into `ImageUnusable`."""
    try:
        yield
    except ImageUnusable:
        raise
    except MemoryError:
        raise ImageUnusable("too large for the memory") from None
    except Exception:
        raise ImageUnusable("not a video that can be read") from None


def _offset(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _length(container: Any, stream: Any) -> float:
    """Seconds according to the header; 0 if it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1e6


def _upright(frame: Any, side: int) -> Image.Image:
    """A frame as RGB, rotated, its short side reduced to about `side` pixels."""
    scale = min(1.0, side / min(frame.width, frame.height))
    size = {"width": max(1, round(frame.width * scale)), "height": max(1, round(frame.height * scale))}
    image: Image.Image = frame.to_image(**size)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


# ------------------------------------------------------------------------------------------ metadata


def _metadata(path: str, *, is_sideways: bool) -> Metadata:
    with _opened(path) as (container, stream):
        tags = {key.lower(): value for key, value in {**stream.metadata, **container.metadata}.items()}
        width, height = stream.codec_context.width, stream.codec_context.height
        duration = round(_length(container, stream), 3) or None
    width, height = (height, width) if is_sideways else (width, height)
    taken = tags.get("com.apple.quicktime.creationdate") or tags.get("creation_time") or tags.get("date")
    maker = " ".join(tags.get("com.apple.quicktime.make", tags.get("make", "")).split())
    model = " ".join(tags.get("com.apple.quicktime.model", tags.get("model", "")).split())
    place = tags.get("com.apple.quicktime.location.iso6709") or tags.get("location") or ""
    return Metadata(width, height, _local(taken or ""), camera_name(maker, model), *_degrees(place), None, duration)


def _local(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is None else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        return None
    return local.replace(tzinfo=None, microsecond=0).isoformat() if local.year > 1970 else None  # 1904 means not set


def _degrees(place: str) -> tuple[float | None, float | None]:
    """Latitude and longitude of `+48.8577+002.2950/`."""
    found = re.match(r"([+-]\d{2}(?:\.\d+)?)([+-]\d{3}(?:\.\d+)?)", place)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        return None, None
    return float(found[1]) + 0.0, float(found[2]) + 0.0
