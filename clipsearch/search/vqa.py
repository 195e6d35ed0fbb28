"""Captions, answers to questions and detections by vision-language models: these can count, which CLIP cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.errors import BadArgument, BadRequest, ImageUnusable
from clipsearch.images.preprocess import Preprocess
from clipsearch.images.sandbox import Decoders, picture_of
from clipsearch.models.describe import LONG_SIDE, Answer, Answerer, Detector, Vlm
from clipsearch.search.embed import image_bytes, image_name
from clipsearch.search.hit import Found, Hit

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels
    from clipsearch.images.metadata import Metadata
    from clipsearch.models.detection import Detection

__all__ = ["Answer", "Answered", "Captioned", "Vlm", "checked_question", "confirmed", "pixels_of"]

ASKED = 5  # times as many hits as are wanted
_MAX_LENGTH = 500  # characters of a question


class Answered(NamedTuple):
    """A photo, by its path, and the answer to a question about it."""

    path: bytes
    answer: Answer


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
    """An image as vision-language models get it: upright pixels (height, width, 3). Raises `BadRequest`."""
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


def detected(image: Any, text: str, detector: Detector, name: str = "") -> tuple[list[Detection], Metadata]:
    """What a detector finds in an image, and its metadata. Raises `BadRequest`, which calls the image `name`."""
    data = image_bytes(image)
    try:
        with Decoders(1, Preprocess((8, 8))) as decoders:
            return detector.detect(decoders.pixels(data, LONG_SIDE), text), decoders.decode(data).metadata
    except ImageUnusable as error:
        raise BadRequest(f"{name or image_name(image)} cannot be used as an image: {error}") from None


def with_detections(hits: Sequence[Hit], texts: Sequence[str], detector: Detector) -> list[Hit]:
    """Add what a detector finds in each photo for each text, or None if its file can no longer be read."""
    out: list[Hit] = []
    with Decoders(1) as decoders:
        for hit in hits:
            found = None
            with contextlib.suppress(ImageUnusable):
                pixels = decoders.pixels(picture_of(hit.photo.file, hit.photo.time), LONG_SIDE)
                each = ((text, one) for text in texts for one in detector.detect(pixels, text))
                found = tuple(Found(hit.photo.file, text, *hit.metadata[:2], one) for text, one in each)
            out.append(hit._replace(detections=found))
    return out


def confirmed(hits: Sequence[Hit], question: str, answerer: Answerer, k: int) -> tuple[list[Hit], list[bytes]]:
    """The first `k` hits for which the answer begins with yes, with their answers, and the files that cannot be read.

    Asks about at most `ASKED` times as many.
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
