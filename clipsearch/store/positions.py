"""Where photos were taken, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Ids
from clipsearch.store.photo import Photo


class Positions(NamedTuple):
    """The images (n,) of photos with a place, and their latitudes and longitudes (n,) in degrees."""

    images: Ids
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[int, float, float]]) -> Self:
        """The positions in rows of an image, a latitude and a longitude."""
        table = np.fromiter(rows, [("image", np.int64), ("latitude", np.float64), ("longitude", np.float64)])
        return cls(table["image"], table["latitude"], table["longitude"])

    @classmethod
    def of_photos(cls, photos: Iterable[Photo]) -> Self:
        """The positions of those that have one."""
        every = ((photo.image_id, photo.metadata.latitude, photo.metadata.longitude) for photo in photos)
        return cls.of_rows(
            (image, latitude, longitude)
            for image, latitude, longitude in every
            if isinstance(latitude, float) and isinstance(longitude, float)  # known, and not a damaged record
        )
