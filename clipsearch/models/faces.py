"""Finds faces, and embeds them so that faces of one person have similar rows.

Three networks, described in `clipsearch/faces/README.md`: SSD with MobileNet v1 finds faces, a small network finds 68
points in each, and dlib's ResNet embeds the face after it was rotated and scaled so that the eyes and the nose are
always in the same place.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.arrays import Array, Pixels, unit_rows
from clipsearch.errors import WeightsUnusable, reason
from clipsearch.images.box import Box, distinct
from clipsearch.images.crops import Points, Similarity, fitted, warped
from clipsearch.models import cache
from clipsearch.models.face_graphs import DETECTOR_SIDE, FACE_SIDE, POINTS_SIDE, detector, point_finder, recogniser
from clipsearch.models.weights import Named, load_safetensors

WEIGHTS = Path(__file__).parent.parent / "faces/faces.safetensors"
LONG_SIDE = 1600  # pixels; enough for a face that fills 2% of a photo
SAME_PERSON = 0.928  # cosine from which two faces are of one person; see scripts/README.md

_VERSION = 1  # increment when other faces are found, or other rows made, with the same weights

# The detector sees the whole photo. If it suspects a face, as in three of ten photos without people, it also sees four
# overlapping parts at a higher resolution. Of 62 faces in a mosaic, 27 pixels wide in 1,600, it then finds 62
# instead of 32.
_LEAST_SCORE, _SUSPECTED = 0.3, 0.15
_TILED_FROM = 1024  # pixels, of the long side
_TILE = 0.6  # of a photo's width and height
_LEAST_WIDTH = 16  # pixels
_MOST_FACES = 200  # in one photo

# The detector takes dogs and fruit for faces, too. In a face, the 68 points stay where they are when the crop around it
# moves, and the ResNet's output is long. Of 2,000 photos without people, 6.6% have something that the detector takes
# for a face with a score of 0.5, and 0.2% something that passes these checks, as do 98% of the faces.
_SHIFTS = ((0.0, 0.0, 1.0), (0.08, 0.0, 1.0), (-0.08, 0.05, 1.0), (0.0, -0.08, 1.15), (0.0, 0.0, 0.9))  # x, y, scale
_MOST_DRIFT = 0.055  # of the points, on average, in sides of the box
_LEAST_NORM = 1.33

# What dlib aligns faces by, the corners of the eyes and the base of the nose: their numbers among the 68 points, and
# their places in the aligned face, as fractions of what is inside its margin.
_CORNERS = (45, 42, 36, 39, 33)
_ALIGNED = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
_MARGIN = 0.25

_SHARP = 50.0  # variance of the Laplacian of an aligned face that counts as half sharp; a face of 60 pixels has 90


class FoundFace(NamedTuple):
    """A face in a picture.

    `landmarks` are the eyes, the tip of the nose and the corners of the mouth, as fractions like the box. `quality` is
    the product of the detector's score and of how large, frontal and sharp the face is, each from 0 to 1. `row` has
    unit length.
    """

    box: Box
    landmarks: tuple[tuple[float, float], ...]
    quality: float
    row: Array


class _Candidate(NamedTuple):
    """A possible face; unlike elsewhere, its box is in pixels."""

    score: float
    box: Box


def record() -> str:
    """What an index records of the model: faces of different models cannot be compared. Raises `WeightsUnusable`."""
    try:
        digest = cache.sha256_of_file(WEIGHTS)
    except OSError as error:
        raise WeightsUnusable(f"the weights {WEIGHTS} cannot be read: {reason(error)}") from None
    return json.dumps({"name": "face-api 1.7.15", "fingerprint": f"{digest[:16]}-{_VERSION}"})


class FaceFinder:
    """Finds and embeds the faces in a picture using one core. Thread-safe."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        """Raises `WeightsUnusable`."""
        tensors = load_safetensors(weights)
        parts = {name: Named(tensors, f"{name}.", weights) for name in ("detector", "landmarks", "recogniser")}
        self._anchors = parts["detector"].matrix("anchors").copy()
        self._detect = detector(parts["detector"])
        self._find_points = point_finder(parts["landmarks"])
        self._embed = recogniser(parts["recogniser"])
        tensors.release()  # the sessions have their own copy

    def __call__(self, pixels: Pixels) -> list[FoundFace]:
        """The faces in an upright RGB image (height, width, 3), the most certain first."""
        picture = Image.fromarray(pixels)
        found: list[FoundFace] = []
        centres: list[tuple[complex, float]] = []
        for candidate in self._candidates(picture):
            points, drift = self._points(picture, np.array(candidate.box))
            if drift > _MOST_DRIFT:
                continue
            width = float(np.ptp(points[:, 0]))
            centre = complex(*points.mean(0))
            if any(abs(centre - other) < max(width, far) / 2 for other, far in centres):
                continue  # found twice
            face = self._face(picture, candidate, points)
            if face is not None:
                found.append(face)
                centres.append((centre, width))
        return found

    def embed(self, faces: Pixels) -> Array:
        """The ResNet's output (n, 128), not normalised, for aligned faces (n, 150, 150, 3)."""
        return self._embed(faces)

    def _candidates(self, picture: Image.Image) -> list[_Candidate]:
        found = self._detected(picture, 0, 0)
        if found and max(picture.size) >= _TILED_FROM:
            width, height = (round(_TILE * side) for side in picture.size)
            for left in (0, picture.width - width):
                for top in (0, picture.height - height):
                    found += self._detected(picture.crop((left, top, left + width, top + height)), left, top)
        found = [one for one in found if one.score >= _LEAST_SCORE and one.box.right - one.box.left >= _LEAST_WIDTH]
        return distinct(found)[:_MOST_FACES]

    def _detected(self, picture: Image.Image, left: int, top: int) -> list[_Candidate]:
        pixels, scale = fitted(picture, DETECTOR_SIDE)
        out = self._detect(pixels[None])[0].reshape(-1, 5)
        chosen = out[:, 0] > math.log(_SUSPECTED / (1 - _SUSPECTED))
        anchors = self._anchors[chosen].reshape(-1, 2, 2)  # top and left, bottom and right
        moved, grown = out[chosen, 1:3], out[chosen, 3:5]
        sizes = anchors[:, 1] - anchors[:, 0]
        centres, halves = anchors.mean(1) + moved / 10 * sizes, np.exp(grown / 5) * sizes / 2
        boxes = np.concatenate([centres - halves, centres + halves], 1)[:, [1, 0, 3, 2]] * (DETECTOR_SIDE * scale)
        scores = 1 / (1 + np.exp(-out[chosen, 0]))
        boxes = np.clip(boxes, 0, [*picture.size, *picture.size]) + np.array([left, top, left, top])
        return [_Candidate(score, Box(*box)) for score, box in zip(scores.tolist(), boxes.tolist(), strict=True)]

    def _points(self, picture: Image.Image, box: NDArray[np.float64]) -> tuple[Points, float]:
        """The 68 points of a face, and how far they drift when the crop moves, in sides of the box."""
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        places = []
        for x, y, scale in _SHIFTS:
            side = float(scale * size.max())
            left, top = centre + (x, y) * size - side / 2
            places.append(Similarity(side / POINTS_SIDE, 0.0, float(left), float(top)))
        found = self._find_points(np.stack([warped(picture, place, POINTS_SIDE) for place in places]))
        each = [place(points.reshape(68, 2) * POINTS_SIDE) for place, points in zip(places, found, strict=True)]
        drifts = [np.sqrt(np.square(points - each[0]).sum(1).mean()) for points in each[1:]]
        return each[0], float(np.mean(drifts) / size.max())

    def _face(self, picture: Image.Image, candidate: _Candidate, points: Points) -> FoundFace | None:
        aligned = (_ALIGNED + _MARGIN) / (1 + 2 * _MARGIN) * FACE_SIDE
        place = Similarity.between(aligned, points[list(_CORNERS)])
        face = warped(picture, place, FACE_SIDE)
        outputs = self.embed(np.stack([face, face[:, ::-1]]))
        if np.linalg.norm(outputs[0]) < _LEAST_NORM or not np.isfinite(outputs).all():
            return None
        quality = candidate.score * min(1.0, place.scale) * _frontality(points) * _sharpness(face)
        size = np.array(picture.size)
        box = Box(*np.clip(np.array(candidate.box) / [*size, *size], 0, 1).tolist())
        right_eye, left_eye = points[36:42].mean(0), points[42:48].mean(0)
        landmarks = np.stack([right_eye, left_eye, points[30], points[48], points[54]]) / size
        return FoundFace(box, tuple((x, y) for x, y in landmarks.tolist()), quality, unit_rows(outputs.mean(0)))


def _frontality(points: Points) -> float:
    """1 if the nose is midway between the outer corners of the eyes, 0 if it is above or beyond one of them."""
    axis = points[45] - points[36]
    share = float((points[30] - points[36]) @ axis / max(axis @ axis, 1e-9))
    return max(0.0, 1 - abs(2 * share - 1))


def _sharpness(face: Pixels) -> float:
    grey = face.mean(2, dtype=np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    variance = float((4 * grey[1:-1, 1:-1] - around).var())
    return variance / (variance + _SHARP)
