"""Captions, and answers to questions about photos, by a vision-language model: it can count, which CLIP cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import BadArgument, BadRequest, ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.sandbox import Decoders, picture_of
from clipsearch.models.describe import LONG_SIDE, Answer, Answerer, Detector, Vlm
from clipsearch.search.embed import image_bytes, image_name

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels
    from clipsearch.models.detection import Detection
    from clipsearch.search.hit import Hit

__all__ = ["Answer", "Answered", "Captioned", "Vlm", "checked_question", "confirmed", "pixels_of"]

ASKED = 5  # times as many hits as are wanted
_MAX_LENGTH = 500  # characters of a question


class Answered(NamedTuple):
    """A photo, by its path, and the answer to a question about it."""

    path: bytes
    answer: Answer


class Detected(NamedTuple):
    """A photo, by its path, its upright size in pixels, and what a detector found in it, best first."""

    path: bytes
    width: int
    height: int
    found: list[Detection]


class Captioned(NamedTuple):
    """A photo, by its path, and its generated caption."""

    path: bytes
    caption: str


def checked_question(question: str) -> str:
    """A question on one line. Raises `BadArgument` if it is empty or too long."""
    line = " ".join(question.split())
    if not line or len(line) > _MAX_LENGTH:
        raise BadArgument("question", f"must have 1 to {_MAX_LENGTH} characters")
    return line


def pixels_of(image: Any) -> Pixels:
    """What a vision-language model gets of an image: upright pixels (height, width, 3). Raises `BadRequest`."""
    if hasattr(image, "convert"):
        import numpy as np

        small = image.convert("RGB")
        small.thumbnail((LONG_SIDE, LONG_SIDE))
        return np.asarray(small)
    data = image_bytes(image)
    try:
        with Decoders(1) as decoders:
            return decoders.pixels(data, LONG_SIDE)
    except ImageUnusable as error:
        raise BadRequest(f"{image_name(image)} cannot be used as an image: {error}") from None


def detected(image: Any, text: str, detector: Detector) -> tuple[int, int, list[Detection]]:
    """The upright width and height of an image in pixels, and what a detector found. Raises `BadRequest`."""
    data = image_bytes(image)
    try:
        with Decoders(1, Preprocess((8, 8))) as decoders:
            about = decoders.decode(data).metadata
            return about.width, about.height, detector.detect(decoders.pixels(data, LONG_SIDE), text)
    except ImageUnusable as error:
        raise BadRequest(f"{image_name(image)} cannot be used as an image: {error}") from None


def confirmed(hits: Sequence[Hit], question: str, answerer: Answerer, k: int) -> tuple[list[Hit], list[bytes]]:
    """The first `k` hits for which the answer begins with yes, with their answers, and the files that cannot be read.

    Looks at no more than `ASKED` times as many.
    """
    found: list[Hit] = []
    unreadable: list[bytes] = []
    with Decoders(1) as decoders:
        for hit in hits[: ASKED * k]:
            if len(found) == k:
                break
            try:
                pixels = decoders.pixels(picture_of(hit.photo.file, hit.photo.time), LONG_SIDE)
            except ImageUnusable:
                unreadable.append(hit.photo.file)
                continue
            answer = answerer.answer(pixels, question)
            if answer.is_yes:
                found.append(hit._replace(answer=answer))
    return found, unreadable
