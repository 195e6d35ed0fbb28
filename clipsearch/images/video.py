"""Videos: the frames in which the picture has changed, and when they come.

Needs PyAV. Frames that can be decoded without others are looked at; where these lie far apart, those between them too.
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
from clipsearch.images.likeness import LEAST_DETAIL, likeness_of
from clipsearch.images.metadata import Metadata, camera_name
from clipsearch.images.phash import perceptual_hash
from clipsearch.images.preprocess import Preprocess, preprocess

if TYPE_CHECKING:
    from PIL import Image

    from clipsearch.arrays import Pixels

MOST_FRAMES = 300  # of one video
_SOONEST, _LATEST = 1.0, 10.0  # seconds between two frames
_CHANGED = 12.0  # mean difference of two small grey pictures, 0 to 255: less is noise and a hand that trembles
_SMALL = 32  # pixels
_COMPARED, _WHOLE = 144, 4320  # pixels of the short side of frames that are compared: most, and one a second
_STEP = 100.0  # of a JPEG (`compare.Facts`) that is compressed as strongly as a film may be
_SAME_TIME = 0.01  # seconds
_PATIENCE = 40.0  # seconds of work after which what was found until then is all
# By its content a file could be a list of others, to be had from anywhere.
_ALONE = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi", "protocol_whitelist": "file"}


class Video(NamedTuple):
    """Frames as a model's input, (n, height, width, 3) uint8, with the seconds from the start at which each comes.

    `hash` is the perceptual hash of the first of them.
    """

    pixels: Pixels
    times: tuple[float, ...]
    metadata: Metadata
    hash: int


def distinct_frames(path: str, how: Preprocess) -> Video:
    """The frames of a video that show something else than those before them. Raises `ImageUnusable`."""
    kept: list[tuple[float, Pixels]] = []
    turned, first = False, 0
    with _explained():
        try:
            for seconds, frame in _changes(path):
                image = _upright(frame, 2 * max(how.size))
                first = first if kept else perceptual_hash(image)
                kept.append((seconds, preprocess(image, how)))
                turned = round(frame.rotation / 90) % 2 == 1
        except Exception:  # of a damaged video, what comes before the damage counts
            if not kept:
                raise
        metadata = _metadata(path, turned=turned)
    if not kept:
        raise ImageUnusable("has no pictures")
    kept = kept[:: -(-len(kept) // MOST_FRAMES)]
    return Video(np.stack([pixels for _, pixels in kept]), tuple(round(at, 3) for at, _ in kept), metadata, first)


def _changes(path: str) -> Iterator[tuple[float, Any]]:
    """Of the frames that are looked at, those that differ from the one before them or come long after it."""
    ends = time.monotonic() + _PATIENCE
    last, before = 0.0, None
    for seconds, frame in _looked_at(path):
        small = frame.reformat(_SMALL, _SMALL, "gray").to_ndarray().astype(np.int16)
        if before is None or seconds - last >= _LATEST or np.abs(small - before).mean() > _CHANGED:
            yield seconds, frame
            last, before = seconds, small
        if time.monotonic() > ends:
            return


def frame_at(path: str, seconds: float, long_side: int) -> Image.Image:
    """The frame of a video at a time, upright, about `long_side` pixels long. Raises `ImageUnusable`."""
    with _explained(), _opened(path) as (container, stream):
        offset = _offset(stream)
        container.seek(int((seconds + offset) / stream.time_base), stream=stream)
        last = None
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            last = frame
            if frame.time - offset >= seconds - 0.001:
                break
        if last is None:
            raise ImageUnusable("has no picture there")
        image = _upright(last, long_side)
        image.thumbnail((long_side, long_side))
        return image


# ------------------------------------------------------------------------------------------ comparison


def copy_similarity(a: str, b: str) -> float | None:
    """How alike the least similar frames of two videos are, 0 to 1, if one is a copy of the other; else None.

    Their sound must be the same packets: two films with one picture may be dubbed in two languages. Their frames are
    the same packets in another container, or are compared in step: all of them at 144 pixels, and one a second at
    full size, where writing is visible. Raises `ImageUnusable`.
    """
    with _explained():
        ours, theirs = _Streams.of(a), _Streams.of(b)
        if ours.sound != theirs.sound or (ours.moment and theirs.moment and ours.moment != theirs.moment):
            return None
        if not _same_times(ours.times, theirs.times):
            return None
        if ours.pictures == theirs.pictures and ours.rotation == theirs.rotation:
            return 1.0
        return _frames_similarity(a, b)


class _Streams(NamedTuple):
    """Hashes of the packets of pictures and of each audio stream; when frames are shown, and how they are turned."""

    pictures: bytes
    times: tuple[float, ...]
    rotation: int
    sound: list[bytes]
    moment: str

    @staticmethod
    def of(path: str) -> _Streams:
        with _opened(path) as (container, stream):
            heard = {stream.index: hashlib.sha256() for stream in container.streams.audio}
            seen, times, offset = hashlib.sha256(), [], _offset(stream)
            for packet in container.demux(stream, *container.streams.audio):
                if packet.stream.index in heard:
                    heard[packet.stream.index].update(bytes(packet))
                elif packet.pts is not None:
                    seen.update(bytes(packet))
                    times.append(float(packet.pts * packet.time_base) - offset)
            moment = container.metadata.get("creation_time", "")
        with _opened(path) as (container, stream):
            rotation = next((frame.rotation for frame in container.decode(stream)), 0)
        sound = [digest.digest() for digest in heard.values()]
        return _Streams(seen.digest(), tuple(sorted(times)), rotation, sound, moment)


def _same_times(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(
        abs(one - other) <= _SAME_TIME for one, other in zip(ours, theirs, strict=True)
    )


def _frames_similarity(a: str, b: str) -> float | None:
    least, detail, looked = 1.0, 0.0, -_SOONEST
    for one, other in itertools.zip_longest(_frames_with_times(a), _frames_with_times(b)):
        if one is None or other is None or abs(one[0] - other[0]) > _SAME_TIME:
            return None
        is_whole = one[0] - looked >= _SOONEST
        looked = one[0] if is_whole else looked
        side = _WHOLE if is_whole else _COMPARED
        alike = likeness_of(_upright(one[1], side), _upright(other[1], side), _STEP)
        if alike is None:
            return None
        least, detail = min(least, alike.similarity), max(detail, alike.detail)
    return least if detail >= LEAST_DETAIL else None


def _frames_with_times(path: str) -> Iterator[tuple[float, Any]]:
    with _opened(path) as (container, stream):
        offset = _offset(stream)
        for frame in container.decode(stream):
            if frame.time is not None:
                yield frame.time - offset, frame


# ------------------------------------------------------------------------------------------ frames


def _looked_at(path: str) -> Iterator[tuple[float, Any]]:
    """Frames in order with their times: those that stand by themselves, and others where these are far apart."""
    with _opened(path) as (container, stream):
        length = _length(container, stream)
        step = max(_SOONEST, length / (2 * MOST_FRAMES))
        gap = max(_LATEST, step)
        last = None
        for seconds, frame in _alone(container, stream, step):
            if last is not None and seconds - last > gap:
                yield from _between(path, last, seconds, gap)
            yield seconds, frame
            last = seconds
        if last is not None and length - last > gap:
            yield from _between(path, last, length, gap)


def _alone(container: Any, stream: Any, step: float) -> Iterator[tuple[float, Any]]:
    """Frames that can be decoded without others, at least `step` seconds apart. Between them a long file is skipped."""
    stream.codec_context.skip_frame = "NONKEY"
    offset, last, seeks = _offset(stream), -step, step > _LATEST / 2
    decoding = container.decode(stream)
    while (frame := next(decoding, None)) is not None:
        if frame.time is None or frame.time - offset - last < step:
            continue
        last = max(0.0, frame.time - offset)
        yield last, frame
        if seeks:
            container.seek(int((last + step + offset) / stream.time_base), stream=stream)
            decoding = container.decode(stream)


def _between(path: str, start: float, end: float, gap: float) -> Iterator[tuple[float, Any]]:
    """Frames after one time and before another, at least a second apart where they are short of a minute."""
    apart = _SOONEST if gap == _LATEST else gap
    with _opened(path) as (container, stream):
        offset, last = _offset(stream), start
        container.seek(int((start + offset) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            seconds = frame.time - offset
            if seconds >= end:
                return
            if seconds - last >= apart:
                last = seconds
                yield seconds, frame


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A file and its video stream, decoded by one thread."""
    import av

    av.logging.set_level(None)
    with av.open(path, metadata_errors="replace", options=_ALONE) as container:
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
    """What a hostile video makes its decoder raise, as `ImageUnusable`."""
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
    """Seconds, as the file says; 0 where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1e6


def _upright(frame: Any, side: int) -> Image.Image:
    """A frame as RGB, turned as it says, its short side reduced to about `side` pixels."""
    scale = min(1.0, side / min(frame.width, frame.height))
    size = {"width": max(1, round(frame.width * scale)), "height": max(1, round(frame.height * scale))}
    image: Image.Image = frame.to_image(**size)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


# ------------------------------------------------------------------------------------------ metadata


def _metadata(path: str, *, turned: bool) -> Metadata:
    """What a video says of itself; `turned`: that it lies on its side."""
    with _opened(path) as (container, stream):
        said = {key.lower(): value for key, value in {**stream.metadata, **container.metadata}.items()}
        width, height = stream.codec_context.width, stream.codec_context.height
        duration = round(_length(container, stream), 3) or None
    width, height = (height, width) if turned else (width, height)
    taken = said.get("com.apple.quicktime.creationdate") or said.get("creation_time") or said.get("date")
    maker = " ".join(said.get("com.apple.quicktime.make", said.get("make", "")).split())
    model = " ".join(said.get("com.apple.quicktime.model", said.get("model", "")).split())
    place = said.get("com.apple.quicktime.location.iso6709") or said.get("location") or ""
    return Metadata(width, height, _local(taken or ""), camera_name(maker, model), *_degrees(place), None, duration)


def _local(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is None else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        return None
    return local.replace(tzinfo=None, microsecond=0).isoformat() if local.year > 1970 else None  # 1904: not set


def _degrees(place: str) -> tuple[float | None, float | None]:
    """Latitude and longitude of `+48.8577+002.2950/`."""
    found = re.match(r"([+-]\d{2}(?:\.\d+)?)([+-]\d{3}(?:\.\d+)?)", place)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        return None, None
    return float(found[1]) + 0.0, float(found[2]) + 0.0
