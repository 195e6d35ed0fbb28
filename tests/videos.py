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
    before_packets: bytes = b"",
) -> Path:
    """A video that shows each picture for so many seconds, a key frame every `keys` frames.

    `form` is the container, by default that of the suffix; `options` are those of its writer. `before_packets` are
    bytes to write before each packet.
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
                packets = stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24"))
                container.mux([_behind(before_packets, one) for one in packets] if before_packets else packets)
        container.mux([_behind(before_packets, one) for one in stream.encode()] if before_packets else stream.encode())
    return path


def _behind(start: bytes, packet: Any) -> Any:
    out: Any = av.Packet(start + bytes(packet))
    out.pts, out.dts, out.time_base, out.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    out.is_keyframe = packet.is_keyframe
    return out


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


# To linear light of BT.2020 and of P3, from that of sRGB; the weights of red, green and blue in each matrix's luma.
_TO_PRIMARIES = {
    9: ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)),
    12: ((0.8225, 0.1774, 0.0), (0.0332, 0.9669, 0.0), (0.0171, 0.0724, 0.9108)),
}
_LUMA = {5: (0.299, 0.587, 0.114), 1: (0.2126, 0.7152, 0.0722), 9: (0.2627, 0.6780, 0.0593)}
PQ, HLG, UNKNOWN = 16, 18, 2


def lossless(
    path: Path,
    picture: Image.Image,
    pix_fmt: str,
    *,
    matrix: int,
    primaries: int = 1,
    transfer: int = 1,
    full: bool = False,
    tagged: bool = True,
) -> Path:
    """A video of one frame in these colours (code points of ITU-T H.273); diffuse white of HDR has 203 nits."""
    depth = 10 if "10" in pix_fmt else 8
    planes = _planes(_coded(np.asarray(picture, float), primaries, transfer), matrix, depth, full=full, pix_fmt=pix_fmt)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", 8)
        stream.width, stream.height = picture.size
        stream.pix_fmt = pix_fmt
        frame: Any = av.VideoFrame(*picture.size, pix_fmt)
        for target in (stream.codec_context, frame) if tagged else ():
            target.color_primaries, target.color_trc, target.colorspace = primaries, transfer, matrix
            target.color_range = 2 if full else 1
        for plane, values in zip(frame.planes, planes, strict=True):
            rows = np.zeros((len(values), plane.line_size // values.itemsize), values.dtype)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _coded(pixels: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """Pixels of sRGB in other colours, 0 to 1."""
    value = pixels / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    if primaries in _TO_PRIMARIES:
        light = np.clip(light @ np.array(_TO_PRIMARIES[primaries]).T, 0, 1)
    if transfer == PQ:
        power = (light * 203 / 10_000) ** 0.1593017578125
        return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)
    if transfer == HLG:
        light = light * 203 / 1000
        scene = light * np.maximum(light @ np.array(_LUMA[9]), 1e-6)[..., None] ** (1 / 1.2 - 1)
        log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), log))
    return np.asarray(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _planes(rgb: np.ndarray, matrix: int, depth: int, *, full: bool, pix_fmt: str) -> list[np.ndarray]:
    red, _, blue = _LUMA[matrix]
    luma = rgb @ np.array(_LUMA[matrix])
    colours = [(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)]
    if "420" in pix_fmt:
        colours = [(one[::2] + one[1::2]) / 2 for one in colours]
    if "444" not in pix_fmt:
        colours = [(one[:, ::2] + one[:, 1::2]) / 2 for one in colours]
    step, most = 2 ** (depth - 8), 2**depth - 1
    planes = [luma * most if full else (16 + 219 * luma) * step]
    planes += [128 * step + one * (most if full else 224 * step) for one in colours]
    return [plane.round().clip(0, most).astype("<u2" if depth > 8 else "u1") for plane in planes]


def remux(
    source: Path, target: Path, *, sound: float | None = None, video_from: Path | None = None, subtitle: str = ""
) -> Path:
    """The same packets in another container; `sound`: with a tone of so many hertz instead of what is heard."""
    with (
        av.open(str(video_from or source)) as pictures,
        av.open(str(source)) as heard,
        av.open(str(target), "w") as out,
    ):
        outputs: dict[int, Any] = {0: out.add_stream_from_template(pictures.streams.video[0])}
        if sound is None and heard.streams.audio:
            outputs[1] = out.add_stream_from_template(heard.streams.audio[0])
        spoken: Any = out.add_mux_stream("subrip") if subtitle else None
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
        if spoken is not None:
            packet = av.Packet(subtitle.encode())
            packet.stream, packet.pts, packet.dts, packet.duration = spoken, 0, 0, 1000
            out.mux(packet)
        if tone is not None:
            samples = (np.sin(np.arange(8000) * (sound or 0) * 2 * np.pi / 8000) * 8000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            for packet in (*tone.encode(frame), *tone.encode()):
                out.mux(packet)
    return target
