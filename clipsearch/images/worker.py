"""The decoding process at the other end of `sandbox`: answers requests on stdin with pixels, metadata or an error."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from clipsearch.errors import ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.sandbox import Message, receive, send


def serve() -> None:
    """Answer requests on stdin until it ends."""
    # They reach every process of a terminal or a service; the parent ends this one, and blames no photo for its end.
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, OSError):
        start, _ = receive(source)
        _limit_memory(start["memory"])
        if start["low_priority"] and hasattr(os, "nice"):
            os.nice(10)
        settings = Preprocess.from_json(start["settings"] or {"size": (1, 1)})
        while True:
            request, data = receive(source)
            send(target, *answer(request, data, settings))


def answer(request: Mapping[str, Any], data: bytes, settings: Preprocess) -> Message:
    """The answer to one request: arrays as "size" and bytes, or an "error"."""
    try:
        match request["task"]:
            case "model_input":
                return _video_input(request, settings) if "video" in request else _model_input(data, settings)
            case "exposure":
                return _exposure(data), b""
            case "sketch":
                return _sketch(data)
            case "compare":
                return _compared(request, data), b""
            case task:
                return _picture(request, data, as_jpeg=task == "jpeg")
    except ImageUnusable as error:  # the only error that a bad file raises
        return {"error": str(error)}, b""


def _model_input(data: bytes, settings: Preprocess) -> Message:
    from clipsearch.images.likeness import perceptual_hash
    from clipsearch.images.preprocess import decode_for, model_inputs

    began = time.perf_counter()
    decoded = decode_for(data, settings)
    between = time.perf_counter()
    pixels = model_inputs(decoded, settings)
    facts = {"metadata": decoded.metadata, "hash": perceptual_hash(decoded.image), "is_partial": decoded.is_partial}
    seconds = {"decode": between - began, "resize": time.perf_counter() - between}
    return {"size": pixels.shape, **facts, "seconds": seconds}, pixels.tobytes()


def _video_input(request: Mapping[str, Any], settings: Preprocess) -> Message:
    from clipsearch.images.video import distinct_frames

    began = time.perf_counter()
    video = distinct_frames(request["video"], settings)
    seconds = {"decode": time.perf_counter() - began}
    facts = {"times": video.times, "metadata": video.metadata, "hash": video.hash, "is_partial": video.is_partial}
    return {"size": video.pixels.shape, **facts, "seconds": seconds}, video.pixels.tobytes()


def _picture(request: Mapping[str, Any], data: bytes, *, as_jpeg: bool) -> Message:
    from clipsearch.images.decode import jpeg_of, thumbnail

    if "video" in request:
        from clipsearch.images.video import frame_at

        image = frame_at(request["video"], request["time"], request["long_side"])
    else:
        image = thumbnail(data, request["long_side"])
    return ({}, jpeg_of(image)) if as_jpeg else ({"size": (image.height, image.width, 3)}, image.tobytes())


def _exposure(data: bytes) -> dict[str, Any]:
    from clipsearch.images.decode import exposure

    return {"exposure": exposure(data)}


def _sketch(data: bytes) -> Message:
    from clipsearch.images.compare import sketch_of

    sketch = sketch_of(data)
    header = {"width": sketch.width, "height": sketch.height, "facts": sketch.facts, "size": sketch.grey.shape}
    return header, sketch.grey.tobytes()


def _compared(request: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    if "video" in request:
        from clipsearch.images import video

        return {"similarity": video.copy_similarity(request["video"], request["other"])}
    from clipsearch.images.compare import copy_similarity

    length = request["length"]
    return {"similarity": copy_similarity(data[:length], data[length:])}


def _limit_memory(most: int) -> None:
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):  # not every system can lower it
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
