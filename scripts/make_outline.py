#!/usr/bin/env python3
"""Convert the countries of Natural Earth, 1:50 million, to the outline that the page's map draws.

    curl -s https://registry.npmjs.org/world-atlas/-/world-atlas-2.0.2.tgz | tar xz
    python scripts/make_outline.py package/countries-50m.json clipsearch/web/static/outline.bin

The input is TopoJSON: lines ("arcs") that neighbouring countries share. The output has two lists of lines, first the
closed ones around land (seas inside it are further rings: fill by the even-odd rule), then the open ones between
countries. A list is the number of its lines; a line is the number of its points, and of each point the step from the
one before, east and north in 200ths of a degree; the first is from 0, 0. All numbers are varints (LEB128), steps
zigzag-coded: 0, -1, 1, -2, ... Longitudes do not jump at the antimeridian, but go on beyond 180.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = list[tuple[int, int]]  # longitude and latitude in units

UNITS = 200  # a degree; 0.6 km, finer than the data
POLE = -88 * UNITS  # below the edge of a Mercator map: a ring around the pole is closed there
TURN = 360 * UNITS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("countries", type=Path, help="countries-50m.json of the npm package world-atlas")
    parser.add_argument("outline", type=Path, help="the file to write")
    options = parser.parse_args()
    rings, borders = lines_of(json.loads(options.countries.read_text()))
    options.outline.write_bytes(bytes(encoded([rings, borders])))
    points = sum(map(len, rings + borders))
    print(f"{len(rings)} rings, {len(borders)} borders, {points} points, {options.outline.stat().st_size} bytes")


def lines_of(topology: dict[str, Any]) -> tuple[list[Line], list[Line]]:
    """The rings around land, and the borders between countries."""
    arcs = list(map(unwrapped, positions(topology)))
    [land] = topology["objects"]["land"]["geometries"]
    rings = [ring for polygon in land["arcs"] for ring in polygon]
    coast = {number if number >= 0 else ~number for ring in rings for number in ring}
    joined = [closed(unwrapped(point for number in ring for point in arc(arcs, number))) for ring in rings]
    return (
        [ring for ring in joined if len(ring) > 3 and max(latitude for _, latitude in ring) > POLE],
        [line for number, line in enumerate(arcs) if number not in coast and len(line) > 1],
    )


def positions(topology: dict[str, Any]) -> Iterator[Line]:
    """The arcs in units."""
    scale, origin = topology["transform"]["scale"], topology["transform"]["translate"]
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for east, north in arc:
            x, y = x + east, y + north
            line.append((round(UNITS * (x * scale[0] + origin[0])), round(UNITS * (y * scale[1] + origin[1]))))
        yield line


def arc(arcs: list[Line], number: int) -> Line:
    """An arc, or backwards the one whose number's complement is given."""
    return arcs[number] if number >= 0 else arcs[~number][::-1]


def unwrapped(points: Iterable[tuple[int, int]]) -> Line:
    """A line without jumps at the antimeridian and without repeated points."""
    line: Line = []
    for longitude, latitude in points:
        turns = round((line[-1][0] - longitude) / TURN) if line else 0
        point = (longitude + turns * TURN, latitude)
        if not line or point != line[-1]:
            line.append(point)
    return line


def closed(ring: Line) -> Line:
    """A ring that goes once around the earth, closed beyond the south pole."""
    first, last = ring[0], ring[-1]
    return ring if first[0] == last[0] else [*ring, (last[0], POLE), (first[0], POLE), first]


def encoded(lists: Iterable[list[Line]]) -> Iterator[int]:
    """The bytes of the file."""
    for lines in lists:
        yield from varint(len(lines))
        for line in lines:
            yield from varint(len(line))
            for before, point in pairwise([(0, 0), *line]):
                for a, b in zip(before, point, strict=True):
                    yield from varint((b - a) * 2 if b >= a else (a - b) * 2 - 1)


def varint(number: int) -> Iterator[int]:
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number


if __name__ == "__main__":
    main()
