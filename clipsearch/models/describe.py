"""Captions of photos and answers to questions about them, by a vision-language model here or behind an endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clipsearch.errors import BadArgument, DetectorUnusable, ModelUnknown, VlmUnusable, WeightsUnusable
from clipsearch.extras import is_installed, missing
from clipsearch.models.generated_text import LONG_SIDE, Answer

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels
    from clipsearch.models.detection import Detection
    from clipsearch.models.endpoint import Endpoint

__all__ = ["LONG_SIDE", "Answer", "Answerer", "Captioner", "Vlm"]

_SHORT_NAMES = {"owlv2": "google/owlv2-base-patch16-ensemble", "clipseg": "CIDAS/clipseg-rd64-refined"}
_BATCH = 4  # images; a kill loses the captions of as many
CAPTIONER, ANSWERER = "Salesforce/blip-image-captioning-base", "dandelin/vilt-b32-finetuned-vqa"  # the defaults here


class Captioner(Protocol):
    """Captions images (height, width, 3)."""

    def captions(self, images: Sequence[Pixels]) -> list[str]:
        """One line of text for each image; it may be empty. Raises `EndpointFailed` and `EncodingFailed`."""
        ...


class Answerer(Protocol):
    """Answers a question about an image (height, width, 3)."""

    def answer(self, image: Pixels, question: str) -> Answer:
        """Raises `EndpointFailed` and `EncodingFailed`."""
        ...


class Detector(Protocol):
    """Finds what a text names in an image (height, width, 3)."""

    def detect(self, image: Pixels, text: str) -> list[Detection]:
        """Best first, without overlaps; of a segmenter, one mask at most. Raises `EncodingFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class Vlm:
    """Which vision-language model to use. Without an `endpoint`, `model` is a transformers model or a CoCa.

    `endpoint` is the base URL of an OpenAI-compatible API. It must be on this machine unless `allow_remote` is set, as
    photos are sent to it.
    """

    model: str | None = None
    endpoint: str | None = None
    allow_remote: bool = False
    device: str = "auto"

    def check_captioner(self) -> None:
        """Raise a `ClipsearchError` for a model that cannot caption, before anything large is imported or loaded."""
        self._check(self.captioner_name, answers=False)

    def check_answerer(self) -> None:
        """As `check_captioner`, for a model that cannot answer questions."""
        self._check(self.model or ANSWERER, answers=True)

    def _check(self, name: str, *, answers: bool) -> None:
        if self.endpoint is not None:
            self._served()
            return
        with _loading():
            from clipsearch.models.coca import is_coca
            from clipsearch.models.transformers_vlm import ANSWERS, CAPTIONS, check

            if answers or not is_coca(name):
                check(name, ANSWERS if answers else CAPTIONS)

    def check_detector(self) -> None:
        """As `check_captioner`, for a model that cannot detect; endpoints cannot."""
        with _loading(DetectorUnusable):
            from clipsearch.models.transformers_vlm import DETECTIONS, check

            check(self._full_name, DETECTIONS)

    @property
    def batch_size(self) -> int:
        """Images to caption at once."""
        return 1 if self.endpoint is not None else _BATCH

    @property
    def captioner_name(self) -> str:
        return self.model or CAPTIONER

    def captioner(self) -> Captioner:
        """Load the captioner. Raises a `ClipsearchError`."""
        if self.endpoint is not None:
            return self._served()
        with _loading():
            from clipsearch.models.coca import CocaCaptioner, is_coca
            from clipsearch.models.transformers_vlm import TransformersCaptioner

            kind = CocaCaptioner if is_coca(self.captioner_name) else TransformersCaptioner
            return kind(self.captioner_name, self.device)

    def answerer(self) -> Answerer:
        """Load the answerer. Raises a `ClipsearchError`."""
        if self.endpoint is not None:
            return self._served()
        with _loading():
            from clipsearch.models.transformers_vlm import TransformersAnswerer

            return TransformersAnswerer(self.model or ANSWERER, self.device)

    def detector(self) -> Detector:
        """Load a detector, which an endpoint cannot be. Raises a `ClipsearchError`."""
        with _loading(DetectorUnusable):
            from clipsearch.models.transformers_vlm import TransformersDetector

            return TransformersDetector(self._full_name, self.device)

    def segmenter(self) -> Detector:
        """As `detector`, for a model that returns masks."""
        with _loading(DetectorUnusable):
            from clipsearch.models.transformers_vlm import TransformersSegmenter

            return TransformersSegmenter(self._full_name, self.device)

    @property
    def _full_name(self) -> str:
        return _SHORT_NAMES.get(self.model or "", self.model or "")

    def _served(self) -> Endpoint:
        from clipsearch.models.endpoint import Endpoint

        if not self.model:
            raise BadArgument("vlm_model", "is required with an endpoint: the name of one of its models")
        return Endpoint(self.endpoint or "", self.model, allow_remote=self.allow_remote)


@contextlib.contextmanager
def _loading(unusable: type[VlmUnusable] = VlmUnusable) -> Iterator[None]:
    """Raise `unusable` for the errors of loading a model, and `BadRequest` if the packages are not installed."""
    if not is_installed("vlm"):
        raise missing("vlm")
    try:
        yield
    except (ModelUnknown, WeightsUnusable) as error:
        raise unusable(str(error)) from error
