"""OCR with PP-OCR's detection and recognition models, from the `rapidocr` package.

Three passes: detect any text at 480 pixels, detect lines at 960 pixels, recognise them at full size. A photo without
text stops after the first pass, which costs a quarter of the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipsearch.extras import is_installed, missing
from clipsearch.images.box import Box

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

LONG_SIDE = 2400  # maximum side of an input image, in pixels: enough for small print on a full-page photo
_ANY_TEXT_AT, _LINES_AT = 480, 960  # long side for detection, in pixels


def check() -> None:
    """Raise `BadRequest` unless the packages for OCR are installed."""
    if not is_installed("ocr"):
        raise missing("ocr")


class Reader:
    """Recognises text using one core. Not thread-safe: create one per thread."""

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._detect, self._recognise = _engine(_ANY_TEXT_AT, recognise=False), _engine(_LINES_AT, recognise=True)

    def __call__(self, pixels: Pixels) -> list[tuple[str, Box]]:
        """Lines of text in an upright RGB image (height, width, 3), from top to bottom, each with its bounding box."""
        bgr = pixels[:, :, ::-1]
        if self._detect(bgr).boxes is None:
            return []
        found = self._recognise(bgr)
        if found.txts is None or found.boxes is None:
            return []
        height, width = pixels.shape[:2]
        lines = []
        for text, corners in zip(found.txts, found.boxes, strict=True):
            left, top = corners.min(0) / (width, height)
            right, bottom = corners.max(0) / (width, height)
            box = Box(*(round(min(max(float(edge), 0.0), 1.0), 4) for edge in (left, top, right, bottom)))
            if text.strip():
                lines.append((text.strip(), box))
        return lines


def _engine(detect_at: int, *, recognise: bool) -> Any:
    """A RapidOCR engine that detects lines at `detect_at` pixels and optionally recognises them."""
    from rapidocr import RapidOCR

    settings = {
        "Global.log_level": "critical",
        "Global.max_side_len": LONG_SIDE,
        "Global.use_cls": recognise,
        "Global.use_rec": recognise,
        "Det.limit_type": "max",
        "Det.limit_side_len": detect_at,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=settings)
