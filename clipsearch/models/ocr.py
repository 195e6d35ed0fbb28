"""Writing in pictures: PP-OCR's models, which find lines and read them; they come with the package `rapidocr`.

The lines are found in a reduced picture, which is what a picture without writing costs. They are read at full size.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from clipsearch.errors import BadRequest
from clipsearch.images.preprocess import Box

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

LONG_SIDE = 2400  # pixels that a picture is given with; small print on a page that fills the picture can be read then
_FOUND_AT = 960  # pixels of the long side in which lines are looked for


def check() -> None:
    """Raise `BadRequest` where the package is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")):
        raise BadRequest("reading what is written in photos needs more; install it with: pip install 'clipsearch[ocr]'")


class Reader:
    """Reads with one core; belongs to one thread."""

    def __init__(self) -> None:
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        settings = {
            "Global.log_level": "critical",
            "Global.max_side_len": LONG_SIDE,
            "Det.limit_type": "max",
            "Det.limit_side_len": _FOUND_AT,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._read: Any = RapidOCR(params=settings)

    def __call__(self, pixels: Pixels) -> list[tuple[str, Box]]:
        """The lines in an upright RGB picture (height, width, 3), from the top down, each with the box around it."""
        found = self._read(pixels[:, :, ::-1])
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
