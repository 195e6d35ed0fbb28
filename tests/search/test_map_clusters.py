"""Clusters of photos on a map, against brute force."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import BadRequest
from clipsearch.search.map_clusters import GeoBox, Positions, bounds, clusters

WORLD = GeoBox(-90, -180, 90, 180)
PLACES = st.tuples(
    st.floats(-90, 90) | st.sampled_from([48.85, 48.86, -17.0, 90.0, -90.0]),
    st.floats(-180, 180) | st.sampled_from([2.35, 2.36, 179.99, -179.99, 180.0, -180.0]),
)


def positions(places: list[tuple[float, float]]) -> Positions:
    return Positions.of_rows((number, *place) for number, place in enumerate(places))


def cell_of(place: tuple[float, float], columns: int) -> tuple[int, int]:
    latitude = math.radians(max(-85.0511, min(place[0], 85.0511)))
    y = (1 - math.log(math.tan(latitude) + 1 / math.cos(latitude)) / math.pi) / 2
    return min(int((place[1] + 180) / 360 * columns), columns - 1), max(0, min(int(y * columns), columns - 1))


@given(st.lists(PLACES, max_size=40), st.sampled_from([1, 2, 8, 64]))
@examples(100)
def test_each_photo_is_in_the_cluster_of_its_cell(places: list[tuple[float, float]], columns: int) -> None:
    places = [place for place in places if abs(place[0]) > 1e-6 and abs(place[1]) > 1e-6]  # on an edge, up to rounding
    members = defaultdict(list)
    for number, place in enumerate(places):
        members[cell_of(place, columns)].append(number)
    found = clusters(positions(places), WORLD, columns)
    assert [cluster.photos for cluster in found] == sorted(map(len, members.values()), reverse=True)
    for cluster in found:
        inside = members[cell_of(places[cluster.image], columns)]
        north, east = zip(*(places[number] for number in inside), strict=True)
        assert cluster.photos == len(inside)
        assert cluster.box == (min(north), min(east), max(north), max(east))
        middle = np.array([cluster.latitude, cluster.longitude])
        assert middle.tolist() == [sorted(north)[len(north) // 2], sorted(east)[len(east) // 2]]
        away = [np.hypot(*(np.array(places[number]) - middle)) for number in inside]
        assert np.hypot(*(np.array(places[cluster.image]) - middle)) == pytest.approx(min(away), abs=1e-9)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (WORLD, {0, 1, 2, 3}),
        (GeoBox(48, 2, 49, 3), {0}),
        (GeoBox(-20, 170, -10, -170), {1, 2}),  # across the antimeridian
        (GeoBox(-20, -179.5, -10, -179.4), {2}),
        (GeoBox(-90, -180, 90, -10), {2, 3}),
    ],
)
def test_the_clusters_of_a_box(box: GeoBox, expected: set[int]) -> None:
    some = positions([(48.85, 2.35), (-17, 179.99), (-17, -179.99), (-33, -70)])
    assert {cluster.image for cluster in clusters(some, box, 64)} == expected


def test_too_fine_a_grid_is_refused() -> None:
    for box, columns in ((WORLD, 65), (WORLD, 0), (GeoBox(0, 0, 1, 1), 1 << 25)):
        with pytest.raises(BadRequest, match="columns"):
            clusters(positions([(1, 2)]), box, columns)
    assert len(clusters(positions([(1, 2)]), GeoBox(0, 0, 2, 3), 4096)) == 1


def test_the_bounds_leave_out_the_widest_gap() -> None:
    assert bounds(positions([])) is None
    assert bounds(positions([(48, 2)])) == (48, 2, 48, 2)
    assert bounds(positions([(48, 2), (40, -74), (41, 12)])) == (40, -74, 48, 12)
    assert bounds(positions([(-17, 177), (-16, -178), (-36, 174)])) == (-36, 174, -16, -178)
