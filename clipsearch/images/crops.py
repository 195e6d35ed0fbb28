"""Cuts parts out of a picture for models of a fixed input size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.arrays import Pixels

Points = NDArray[np.float64]  # (n, 2): x and y in pixels, from the top left corner of the picture


class Similarity(NamedTuple):
    """A rotation by `angle` in radians, a `scale` and a shift, from points in a crop to points in a picture."""

    scale: float
    angle: float
    x: float
    y: float

    @staticmethod
    def between(crop: Points, picture: Points) -> Similarity:
        """The least-squares fit that moves points of a crop to their places in the picture."""
        a, b = ((points[:, 0] + 1j * points[:, 1]) for points in (crop, picture))
        turn = np.vdot(a - a.mean(), b - b.mean()) / np.vdot(a - a.mean(), a - a.mean())
        shift = b.mean() - turn * a.mean()
        return Similarity(float(abs(turn)), float(np.angle(turn)), float(shift.real), float(shift.imag))

    def __call__(self, points: Points) -> Points:
        """Move points of the crop to the picture."""
        cos, sin = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        moved: Points = points @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)
        return moved


def fitted(picture: Image.Image, side: int) -> tuple[Pixels, float]:
    """The picture scaled into the top left of a black square (side, side, 3), and by how much it was reduced."""
    scale = max(picture.size) / side
    size = max(1, round(picture.width / scale)), max(1, round(picture.height / scale))
    out = np.zeros((side, side, 3), np.uint8)
    out[: size[1], : size[0]] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return out, scale


def warped(picture: Image.Image, place: Similarity, side: int) -> Pixels:
    """The square crop (side, side, 3) whose points `place` moves into the picture; black outside the picture."""
    corners = place(np.array([[0, 0], [side, 0], [0, side], [side, side]], float))
    left, top = (max(0, math.floor(edge) - 2) for edge in corners.min(0))
    right, bottom = (min(most, math.ceil(edge) + 2) for edge, most in zip(corners.max(0), picture.size, strict=True))
    if right <= left or bottom <= top:
        return np.zeros((side, side, 3), np.uint8)
    part = picture.crop((left, top, right, bottom))
    reduced = max(1, int(place.scale))  # bilinear sampling alone would skip pixels
    if reduced > 1:
        part = part.reduce(reduced)
    cos, sin = (place.scale * of(place.angle) / reduced for of in (math.cos, math.sin))
    x, y = (place.x - left) / reduced, (place.y - top) / reduced
    matrix = (cos, -sin, x, sin, cos, y)
    return np.asarray(part.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))
