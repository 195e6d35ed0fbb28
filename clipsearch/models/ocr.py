"""Writing in pictures: PP-OCR's models, which find lines and read them; they come with the package `rapidocr`.

Whether there is any is looked for in a small picture, which is all that a picture without writing costs: a quarter of
finding its lines. These are found in a larger one and read at full size.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from clipsearch.errors import BadRequest
from clipsearch.images.preprocess import Box

if TYPE_CHECKING:
    from clipsearch.arrays import Pixels

LONG_SIDE = 2400  # pixels that a picture is given with; small print on a page that fills the picture can be read then
# Pixels of the long side in which writing is looked for: first whether there is any, then where its lines are.
_ANY_AT, _LINES_AT = 480, 960


def check() -> None:
    """Raise `BadRequest` where the package is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")):
        raise BadRequest("OCR support is not installed. Run: pip install 'clipsearch[ocr]'")


class Reader:
    """Reads with one core; belongs to one thread."""

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._find, self._read = _recogniser(_ANY_AT, reads=False), _recogniser(_LINES_AT, reads=True)

    def __call__(self, pixels: Pixels) -> list[tuple[str, Box]]:
        """The lines in an upright RGB picture (height, width, 3), from the top down, each with the box around it."""
        picture = pixels[:, :, ::-1]
        if self._find(picture).boxes is None:
            return []
        found = self._read(picture)
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


def _recogniser(found_at: int, *, reads: bool) -> Any:
    """Finds lines in pictures of a size and, if that is wanted, reads them."""
    from rapidocr import RapidOCR

    settings = {
        "Global.log_level": "critical",
        "Global.max_side_len": LONG_SIDE,
        "Global.use_cls": reads,
        "Global.use_rec": reads,
        "Det.limit_type": "max",
        "Det.limit_side_len": found_at,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=settings)
