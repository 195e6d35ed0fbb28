"""Crops for models of a fixed input size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from clipsearch.images.crops import Similarity, fitted, warped


def test_a_similarity_is_found_from_points_and_moves_them() -> None:
    crop = np.array([[0.0, 0], [10, 0], [10, 20]])
    place = Similarity(2.0, 0.5, 7.0, -3.0)
    again = Similarity.between(crop, place(crop))
    assert np.allclose(again, place)


def test_a_warped_crop_shows_the_part_that_it_is_of() -> None:
    picture = Image.effect_noise((400, 300), 80).convert("RGB")
    same = warped(picture, Similarity(1.0, 0.0, 50.0, 60.0), 100)
    assert np.array_equal(same, np.asarray(picture.crop((50, 60, 150, 160))))
    turned = warped(picture, Similarity(1.0, np.pi / 2, 150.0, 60.0), 100)  # the crop's x points down the picture
    assert np.abs(turned.astype(int) - np.asarray(picture.crop((50, 60, 150, 160)).rotate(90)).astype(int)).mean() < 1
    outside = warped(picture, Similarity(1.0, 0.0, 5000.0, 5000.0), 10)
    assert not outside.any()
    whole, scale = fitted(picture, 200)
    assert (whole.shape, scale) == ((200, 200, 3), 2.0)
    assert not whole[150:].any()
