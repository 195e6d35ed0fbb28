"""Video clips with known pictures at known times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SIZE = (320, 240)


def clip(
    path: Path,
    scenes: Iterable[tuple[Image.Image, float]],
    *,
    rate: int = 8,
    codec: str = "libx264",
    keys: int = 8,
    rotation: int = 0,
    metadata: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    form: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video that shows each picture for so many seconds, a key frame every `keys` frames.

    `form` is the container, by default that of the suffix; `options` are those of its writer.
    """
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = keys
        stream.options = {"sc_threshold": "0", "preset": "ultrafast"} if codec == "libx264" else {}
        if rotation:
            stream.set_display_rotation(rotation)
        for picture, seconds in scenes:
            pixels = np.asarray(picture.convert("RGB").resize(SIZE))
            for _ in range(round(seconds * rate)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def irregular(path: Path, shown: Sequence[tuple[Image.Image, float]]) -> Path:
    """A video with one frame for each picture, at its time, and none between."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", 1000)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 1
        for picture, seconds in shown:
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB").resize(SIZE)), "rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source: Path, target: Path, *, sound: float | None = None, video_from: Path | None = None) -> Path:
    """The same packets in another container; `sound`: with a tone of so many hertz instead of what is heard."""
    with (
        av.open(str(video_from or source)) as pictures,
        av.open(str(source)) as heard,
        av.open(str(target), "w") as out,
    ):
        outputs: dict[int, Any] = {0: out.add_stream_from_template(pictures.streams.video[0])}
        if sound is None and heard.streams.audio:
            outputs[1] = out.add_stream_from_template(heard.streams.audio[0])
        tone: Any = None if sound is None else out.add_stream("aac", 8000)
        packet: Any
        for packet in pictures.demux(pictures.streams.video[0]):
            if packet.dts is not None:
                packet.stream = outputs[0]
                out.mux(packet)
        for packet in heard.demux(heard.streams.audio[0]) if 1 in outputs else ():
            if packet.dts is not None:
                packet.stream = outputs[1]
                out.mux(packet)
        if tone is not None:
            samples = (np.sin(np.arange(8000) * (sound or 0) * 2 * np.pi / 8000) * 8000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            for packet in (*tone.encode(frame), *tone.encode()):
                out.mux(packet)
    return target
