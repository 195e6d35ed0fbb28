"""Videos: frames that differ from those before them, comparison of copies, metadata.

Needs PyAV. Frames are taken from the keyframes, which can be decoded alone; where these are far apart or show nothing,
also from the frames between them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.errors import ImageUnusable, SidecarUnusable
from clipsearch.images.colour import BT601, BT709, BT2020, UNKNOWN, from_code_points, is_hdr, is_srgb
from clipsearch.images.dates import exif_time, xmp_time
from clipsearch.images.decode import MAX_PIXELS
from clipsearch.images.facts import combined, dated, lines, position
from clipsearch.images.likeness import LEAST_DETAIL, likeness_of, perceptual_hash
from clipsearch.images.metadata import Metadata, camera_name
from clipsearch.images.preprocess import Preprocess, preprocess
from clipsearch.images.xmp_facts import facts_of

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

MAX_FRAMES = 300  # per video

_SHORTEST, _LONGEST = 1.0, 10.0  # seconds between two frames
# In videos of up to `_SHORT` seconds, what lies between keyframes `_GAP` seconds apart is decoded too. Phones write a
# keyframe every second; programs write one every 8 to 10, so that a clip may have only one, a black one.
_SHORT, _GAP = 120.0, 2.0
_FADE = 0.25  # seconds between two frames after a keyframe that shows nothing
_PLAIN = 4.0  # standard deviation of a small grey picture that shows nothing, 0 to 255
_CHANGED = 12.0  # mean difference of two small grey pictures, 0 to 255; noise and an unsteady hand cause less
_SMALL = 32  # pixels
_COMPARED, _FULL = 144, 4320  # pixels of the short side when comparing every frame, and one per second
_STEP = 100.0  # the quantization step (`likeness.likeness_of`) of a JPEG as strongly compressed as a film may be
_SAME_TIME = 0.01  # seconds
_PATIENCE = 40.0  # seconds of work, after which a video keeps the frames found so far; half of it, for keyframes only
# The contents of a file could make FFmpeg open a playlist of other files or URLs.
_FILES_ONLY = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,dv,mxf"
    ",m4v,ivf,mjpeg",  # without a container
    "protocol_whitelist": "file",
}
_EXPORT_XMP = {"export_xmp": "1"}  # into the tags

_TURNS = {  # by the signs of a display matrix: x' = ax + cy, y' = bx + dy
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_SIDEWAYS = [turn for (a, _, _, _), turn in _TURNS.items() if a == 0]
_MOST_STRETCH = 4.0
_MOST_OF_IT = 0.9  # of the length that the header gives; a video that ends sooner is cut short
_UNSET = (date(1904, 1, 1), date(1970, 1, 1))  # the epochs of clocks
_APPLE = "com.apple.quicktime."
_ISO6709 = re.compile(r"([+-])(\d{1,6})(\.\d+)?([+-])(\d{1,7})(\.\d+)?")
# AVCHD camcorders write the date into the stream, behind this: pairs of a tag and four bytes.
_MDPM = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
_HD = (1280, 576)  # pixels; larger videos have HD's colours


class Shot(NamedTuple):
    """A frame, its time in seconds from the start of the video, and the width of its pixels, whose height is 1."""

    seconds: float
    frame: Any
    stretch: float

    @property
    def turn(self) -> Image.Transpose | None:
        """How the frame is rotated and mirrored for display."""
        found = self.frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return None
        a, b, _, c, d = struct.unpack_from("=5i", bytes(found))
        if abs(a) + abs(d) >= abs(b) + abs(c):
            b = c = 0
        else:
            a = d = 0
        a, b, c, d = ((value > 0) - (value < 0) for value in (a, b, c, d))
        return _TURNS.get((a, b, c, d))

    def upright(self, side: int) -> Image.Image:
        """In sRGB as a player shows it, its short side reduced to about `side` pixels."""
        width, height = self.frame.width * self.stretch, self.frame.height
        scale = min(1.0, side / min(width, height))
        size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
        primaries, transfer, matrix = self._colours
        self.frame.colorspace = matrix
        if is_srgb(primaries, transfer):
            image: Image.Image = self.frame.to_image(**size)
        else:
            deep = self.frame.to_ndarray(format="rgb48le", **size)
            image = Image.fromarray(from_code_points(deep, primaries, transfer))
        return image if self.turn is None else image.transpose(self.turn)

    @property
    def _colours(self) -> tuple[int, int, int]:
        """Primaries, transfer and matrix of the frame; players' defaults for unknown ones."""
        frame = self.frame
        primaries, transfer, matrix = frame.color_primaries, frame.color_trc, frame.colorspace
        if primaries == UNKNOWN and (is_hdr(transfer) or matrix == BT2020):
            primaries = BT2020
        if matrix == UNKNOWN:
            is_hd = frame.width >= _HD[0] or frame.height > _HD[1]
            matrix = BT2020 if primaries == BT2020 else BT709 if is_hd else BT601
        return primaries, transfer, matrix

    def grey(self) -> NDArray[np.int16]:
        """A small grey picture, to compare with another."""
        small: NDArray[np.uint8] = self.frame.reformat(_SMALL, _SMALL, "gray").to_ndarray()
        return small.astype(np.int16)


class _Work(NamedTuple):
    """A video to scan, the moment after which only keyframes count, and the damage found so far."""

    path: str
    until: float
    damage: list[str]


class Video(NamedTuple):
    """Frames as a model's input, (n, height, width, 3) uint8, with their times in seconds.

    `hash` is the perceptual hash of the first frame. `is_partial`: some of the video is missing or damaged.
    """

    pixels: Pixels
    times: tuple[float, ...]
    metadata: Metadata
    hash: int
    is_partial: bool


def distinct_frames(path: str, settings: Preprocess) -> Video:
    """The frames that differ from those before them, preprocessed for a model. Raises `ImageUnusable`."""
    kept: list[tuple[float, Pixels]] = []
    damage: list[str] = []
    last, first = None, 0
    with _explained():
        try:
            for last in _changes(path, damage):
                image = last.upright(2 * max(settings.size))
                first = first if kept else perceptual_hash(image)
                kept.append((last.seconds, preprocess(image, settings)))
        except Exception as error:  # a damaged video counts up to the damage
            if not kept:
                raise
            damage.append(str(error))
        if last is None:
            raise ImageUnusable("contains no video frames")
        metadata = _metadata(path, is_sideways=last.turn in _SIDEWAYS)
    kept = kept[:: -(-len(kept) // MAX_FRAMES)]
    times = tuple(round(at, 3) for at, _ in kept)
    return Video(np.stack([pixels for _, pixels in kept]), times, metadata, first, bool(damage))


def _changes(path: str, damage: list[str]) -> Iterator[Shot]:
    """Candidates that differ from the one before them, or come long after it. Adds what is wrong to `damage`."""
    began = time.monotonic()
    last, before = 0.0, None
    for shot in _candidates(_Work(path, began + _PATIENCE / 2, damage)):
        small = shot.grey()
        if before is None or shot.seconds - last >= _LONGEST or np.abs(small - before).mean() > _CHANGED:
            yield shot
            last, before = shot.seconds, small
        if time.monotonic() > began + _PATIENCE:
            return


def frame_at(path: str, seconds: float, long_side: int) -> Image.Image:
    """The frame at a time, upright, at most `long_side` pixels long. Raises `ImageUnusable`."""
    with _explained(), _opened(path) as (container, stream):
        last = None
        for last in _frames(container, stream, seconds):
            if last.seconds >= seconds - 0.001:
                break
        if last is None:
            raise ImageUnusable("has no picture there")
        image = last.upright(long_side)
        image.thumbnail((long_side, long_side))
        return image


# ------------------------------------------------------------------------------------------ comparison


def copy_similarity(a: str, b: str) -> float | None:
    """The similarity (0 to 1) of the least similar frames of two videos if one is a copy of the other, otherwise None.

    The packets of all other streams must be equal: the same film may be dubbed or subtitled twice, and action
    cameras add their position. The packets of the picture are equal too, in another container, or frames are compared
    in step: every frame at 144 pixels, and one per second at full size, where text is legible. Raises `ImageUnusable`.
    """
    with _explained():
        ours, theirs = _Streams.of(a), _Streams.of(b)
        if ours.others != theirs.others or (ours.created and theirs.created and ours.created != theirs.created):
            return None
        if not _same_times(ours.times, theirs.times):
            return None
        if ours.pictures == theirs.pictures and ours.shown == theirs.shown:
            return 1.0
        return _frames_similarity(a, b)


class _Streams(NamedTuple):
    """Hashes of the packets of the picture and of each other stream, and the times, turn and stretch of the frames."""

    pictures: bytes
    times: tuple[float, ...]
    shown: tuple[Image.Transpose | None, float] | None
    others: list[bytes]
    created: str

    @staticmethod
    def of(path: str) -> _Streams:
        with _opened(path) as (container, stream):
            others = {other.index: hashlib.sha256() for other in container.streams if other.index != stream.index}
            pictures, times, offset = hashlib.sha256(), [], _offset(stream)
            for packet in container.demux():
                if packet.stream.index in others:
                    others[packet.stream.index].update(bytes(packet))
                elif packet.pts is not None:
                    pictures.update(bytes(packet))
                    times.append(float(packet.pts * packet.time_base) - offset)
            created = container.metadata.get("creation_time", "")
        with _opened(path) as (container, stream):
            shown = next(((shot.turn, shot.stretch) for shot in _frames(container, stream)), None)
        rest = [digest.digest() for digest in others.values()]
        return _Streams(pictures.digest(), tuple(sorted(times)), shown, rest, created)


def _same_times(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(
        abs(one - other) <= _SAME_TIME for one, other in zip(ours, theirs, strict=True)
    )


def _frames_similarity(a: str, b: str) -> float | None:
    least, detail, last_full = 1.0, 0.0, -_SHORTEST
    for one, other in itertools.zip_longest(_frames_of(a), _frames_of(b)):
        if one is None or other is None or abs(one.seconds - other.seconds) > _SAME_TIME:
            return None
        is_full = one.seconds - last_full >= _SHORTEST
        last_full = one.seconds if is_full else last_full
        side = _FULL if is_full else _COMPARED
        likeness = likeness_of(one.upright(side), other.upright(side), _STEP)
        if likeness is None:
            return None
        least, detail = min(least, likeness.similarity), max(detail, likeness.detail)
    return least if detail >= LEAST_DETAIL else None


def _frames_of(path: str) -> Iterator[Shot]:
    with _opened(path) as (container, stream):
        yield from _frames(container, stream)


# ------------------------------------------------------------------------------------------ frames


def _candidates(work: _Work) -> Iterator[Shot]:
    """Frames in order: keyframes, and others where these are far apart or show nothing, as long as there is time."""
    with _opened(work.path) as (container, stream):
        length = _length(container, stream)
        step = max(_SHORTEST, length / (2 * MAX_FRAMES))
        gap = max(_LONGEST if length > _SHORT else _GAP, step)
        last = None
        for shot in _keyframes(container, stream, step, work.damage):
            if last is not None:
                yield from _between(work, last, shot.seconds, gap)
            yield shot
            last = shot
        if last is not None:
            yield from _between(work, last, length or math.inf, gap)


def _keyframes(container: Any, stream: Any, step: float, damage: list[str]) -> Iterator[Shot]:
    """Keyframes at least `step` seconds apart. Seeks in long videos."""
    stream.codec_context.skip_frame = "NONKEY"
    last, seeks = -step, step > _LONGEST / 2
    shots = _frames(container, stream, damage=damage)
    while (shot := next(shots, None)) is not None:
        if shot.seconds - last < step:
            continue
        last = max(0.0, shot.seconds)
        yield shot._replace(seconds=last)
        if seeks:
            shots = _frames(container, stream, last + step, damage)


def _between(work: _Work, start: Shot, end: float, gap: float) -> Iterator[Shot]:
    """Frames after a keyframe if the next, at `end`, is more than `gap` seconds later, as long as there is time.

    They are a second apart, or `gap` in long videos. Where the keyframe shows nothing, more follow it sooner.
    """
    is_plain = float(start.grey().std()) < _PLAIN
    if end - start.seconds <= (_FADE if is_plain else gap):
        return
    apart = gap if gap > _LONGEST else _SHORTEST
    with _opened(work.path) as (container, stream):
        last = start.seconds
        for shot in _frames(container, stream, last, work.damage):
            if shot.seconds >= end or time.monotonic() > work.until:
                return
            if shot.seconds - last >= (_FADE if is_plain else apart):
                is_plain = is_plain and float(shot.grey().std()) < _PLAIN
                last = shot.seconds
                yield shot


def _frames(container: Any, stream: Any, start: float | None = None, damage: list[str] | None = None) -> Iterator[Shot]:
    """Decode frames, from the last keyframe before `start`. Skips damaged packets, and adds them to `damage`."""
    from av import FFmpegError

    offset, stretch, end, is_synchronized = _offset(stream), _stretch(stream), start or 0.0, False
    damage = [] if damage is None else damage
    if start is not None:
        container.seek(int((start + offset) / stream.time_base), stream=stream)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            damage.append(str(error))
            continue
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * stream.time_base) - offset)
        for frame in frames:
            if frame.is_corrupt and is_synchronized:  # the first frames may lack those that they refer to
                damage.append("corrupt frame")
            is_synchronized = is_synchronized or not frame.is_corrupt
            if frame.time is not None:
                yield Shot(frame.time - offset, frame, stretch)
    is_its_own = bool(stream.duration) or not container.streams.audio  # the header may mean the sound
    if is_its_own and end < _MOST_OF_IT * _length(container, stream):
        damage.append("cut short")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, for decoding in a single thread."""
    import av

    av.logging.set_level(None)
    with av.open(path, metadata_errors="replace", options=_FILES_ONLY | _EXPORT_XMP) as container:
        stream = _main_stream(container)
        stream.codec_context.thread_count = 1
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise ImageUnusable(f"too large: {width} x {height} pixels")
        yield container, stream


def _main_stream(container: Any) -> Any:
    """The stream that players show; never the cover of an audio file."""
    from av.stream import Disposition

    best = container.streams.best("video")
    for stream in (best, *container.streams.video):
        if stream is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    raise ImageUnusable("has sound but no picture" if container.streams.audio else "contains no video frames")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a decoder raises on a hostile video into `ImageUnusable`."""
    try:
        yield
    except ImageUnusable:
        raise
    except MemoryError:
        raise ImageUnusable("too large for this machine's memory") from None
    except Exception:
        raise ImageUnusable("not a video that can be read") from None


def _offset(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _length(container: Any, stream: Any) -> float:
    """Seconds according to the header; 0 if it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1e6


def _stretch(stream: Any) -> float:
    """The width of a pixel whose height is 1: camcorders and display matrices stretch frames."""
    ratio = float(stream.sample_aspect_ratio or 0)
    return ratio if 1 / _MOST_STRETCH <= ratio <= _MOST_STRETCH else 1.0


# ------------------------------------------------------------------------------------------ metadata


def _metadata(path: str, *, is_sideways: bool) -> Metadata:
    with _opened(path) as (container, stream):
        tags = {key.lower(): value for key, value in {**stream.metadata, **container.metadata}.items()}
        width, height = round(stream.codec_context.width * _stretch(stream)), stream.codec_context.height
        duration = round(_length(container, stream), 3) or None
        recorded = _camcorder_time(bytes(next(container.demux(stream), b"")))
    width, height = (height, width) if is_sideways else (width, height)

    def tag(*names: str) -> str:
        return next((tags[key] for name in names for key in (_APPLE + name, name) if tags.get(key)), "")

    metadata = Metadata(width, height, camera=camera_name(_words(tag("make")), _words(tag("model"))), duration=duration)
    latitude, longitude = _position(tag("location.iso6709", "location"))
    facts = dated(_taken(tags) or recorded, "video")._replace(
        latitude=latitude,
        longitude=longitude,
        keywords=lines(map(_words, re.split("[,;]", tag("keywords")))),
        title=_words(tag("title")) or None,
        caption=_words(tag("description")) or None,
    )
    with contextlib.suppress(SidecarUnusable):
        facts = combined([facts, *([facts_of(tags["xmp"].encode())] if "xmp" in tags else [])])
    return metadata.with_facts(facts)


def _words(text: str) -> str:
    return " ".join(text.split())


def _taken(tags: Mapping[str, str]) -> str | None:
    """The camera's local time: from a date with an offset, or else from UTC in the time zone of this machine."""
    local = _moment(tags.get(f"{_APPLE}creationdate", ""))
    created = _moment(tags.get("creation_time", ""))
    said = next((moment for key in ("date", "date_recorded") if (moment := _moment(tags.get(key, "")))), None)
    local = local or next((moment for moment in (created, said) if moment and moment.utcoffset()), None)
    if local is None:
        local = created or said
        if local is not None and local.tzinfo is not None:
            with contextlib.suppress(OverflowError, OSError):
                local = local.astimezone()
    return local.replace(tzinfo=None, microsecond=0).isoformat() if local else None


def _moment(text: str) -> datetime | None:
    moment: datetime | None = None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        if found := xmp_time(text):  # a year alone, or as in EXIF
            moment = datetime.fromisoformat(found)
    return moment if moment and moment.date() not in _UNSET else None


def _camcorder_time(packet: bytes) -> str | None:
    """When an AVCHD camcorder recorded a packet, in its local time."""
    start = packet.find(_MDPM)
    if start < 0:
        return None
    data = packet[start + len(_MDPM) :].replace(b"\0\0\3", b"\0\0")  # zeros are escaped
    tags = {data[at]: data[at + 1 : at + 5].hex() for at in range(1, 1 + 5 * sum(data[:1]), 5) if at + 5 <= len(data)}
    day, time = tags.get(0x18, ""), tags.get(0x19, "")  # a byte of the time zone, year, month; day and time
    return exif_time(f"{day[2:6]}:{day[6:]}:{time[:2]} {time[2:4]}:{time[4:6]}:{time[6:]}")


def _position(place: str) -> tuple[float | None, float | None]:
    """Latitude and longitude in ISO 6709: in degrees, degrees and minutes, or degrees, minutes and seconds."""
    found = _ISO6709.match(place)
    if found is None:
        return None, None
    latitude = _degrees(found[1], found[2], found[3] or "", 2)
    return position(latitude, _degrees(found[4], found[5], found[6] or "", 3))


def _degrees(sign: str, digits: str, fraction: str, width: int) -> float | None:
    """`digits` are `width` digits of degrees, or fewer alone, and two of minutes and seconds each."""
    parts = [digits[:width], digits[width : width + 2], digits[width + 2 :]]
    if len(digits) > width and len(digits) - width not in (2, 4):
        return None
    *whole, last = filter(None, parts)
    degrees = 0.0
    for part in (last + fraction, *reversed(whole)):
        degrees = degrees / 60 + float(part)
    return round(-degrees if sign == "-" else degrees, 7) + 0.0
