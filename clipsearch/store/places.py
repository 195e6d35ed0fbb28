"""Names of places: the position of a town, and the town at a position. Needs the extra `places`."""

from __future__ import annotations

import functools
import json
import logging
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clipsearch.errors import BadRequest
from clipsearch.store import gazetteer
from clipsearch.store.conditions import GeoBox, kilometres
from clipsearch.store.gazetteer import name_key, rows

_log = logging.getLogger(__name__)

_MOST_KM = 100.0  # beyond, a position has no town: the open sea, a desert
_NEAR_KM = 5.0  # up to this distance, or in its circle, a position is "in" a town, not "12 km from" it
_SAME_KM = 50.0  # towns of one name that are closer than this are not worth asking about

_LARGE = 500_000  # people
_RIVAL = 0.3  # a town with this share of the weight of the best of its name makes the name ambiguous
_ALIAS = 0.02  # the weight of a town that is only also called so: Dayton, Ohio was `Venice` once
_MOST_SUGGESTED = 4
_AS_IN = "write a town, as in 'Paris, Texas', or LATITUDE,LONGITUDE,KM"
_MOST_LETTERS = 60  # of a name whose typos are looked up, some 56 for each letter


class Town(NamedTuple):
    """A town: its name, its region if known (states and provinces of US, CA, AU, GB), country, degrees, population.

    `weight` is how well known it is: its population times its number of names.
    """

    name: str
    region: str
    country: str
    latitude: float
    longitude: float
    population: int
    weight: int

    @property
    def title(self) -> str:
        """As people write it: "Paris, France", "Paris, Texas". `town_named` accepts it."""
        return _title(self.name, self.region, self.country)


class Place(NamedTuple):
    """Where a photo was taken: a town, its region if known, its country, and the distance to its centre.

    `title` is for people: "Paris, France" or, outside a town, "12 km from Paris, France".
    """

    title: str
    name: str
    region: str | None
    country: str
    km: float

    @property
    def town(self) -> str:
        """The town alone, as people write it: "Paris, France"."""
        return _title(self.name, self.region, self.country)


def _title(name: str, region: str | None, country: str) -> str:
    return f"{name}, {region or country}"


_TOWN = ", ".join(f"towns.{field}" for field in Town._fields)


# ------------------------------------------------------------------------------------------ a name to a position


def town_named(text: str) -> Town:
    """The best known town of a name in any language, which may end in its region or country: `Paris`, `Paris, TX`.

    Raises `BadRequest` if there is none, if the name is ambiguous or that of a country, or if the package is missing.
    """
    name, *within = (name_key(part) for part in text.split(","))
    areas = [_areas_named(part) for part in within if part]
    named = _towns_named([name])
    towns = [town for town in named if all(_lies_in(town, area) for area in areas)]
    larger = _areas_named(name)
    if larger and not areas and not (towns and _is_town(towns[0], larger)):
        raise BadRequest(f"{text!r} is a country or region; {_AS_IN}")
    if not towns:
        similar = named or _similar(name)
        hint = f"did you mean {_either(similar)}?" if similar else _AS_IN
        raise BadRequest(f"unknown place {text!r}; {hint}")
    best, *others = towns
    rivals = [town for town in others if _is_rival(town, best, name)]
    if rivals:
        raise BadRequest(f"{text!r} is ambiguous; write {_either([best, *rivals])}")
    return best


def _towns_named(keys: Sequence[str]) -> list[Town]:
    """The towns with one of some names, the best known first."""
    query = (
        f"SELECT DISTINCT {_TOWN} FROM names JOIN towns ON towns.id = names.town"
        " WHERE names.name IN (SELECT value FROM json_each(?))"
    )
    towns = [Town(*row) for row in rows(query, [json.dumps(keys)])]
    return sorted(towns, key=lambda town: _weight(town, keys), reverse=True)


def towns_called(name: str, most: int, *, typing: bool = False) -> list[Town]:
    """Towns of a name in any language, the best known first, of at most `most`.

    `typing`: also those whose English name begins with it; among all languages, any letters begin one.
    """
    key = name_key(name)
    longer = [town for town in _towns_starting(key, most) if name_key(town.name).startswith(key)] if typing else []
    return list(dict.fromkeys([*_towns_named([key])[:most], *longer]))


def _towns_starting(key: str, most: int) -> list[Town]:
    query = (
        f"SELECT DISTINCT {_TOWN} FROM names JOIN towns ON towns.id = names.town"
        " WHERE names.name >= ? AND names.name < ? ORDER BY weight DESC LIMIT ?"
    )
    return [Town(*row) for row in rows(query, (key, key + "\U0010ffff", most))]


def _similar(key: str) -> list[Town]:
    """The towns whose name differs in one letter or, if there are none, those whose name starts like this one."""
    if not 1 < len(key) <= _MOST_LETTERS:
        return []
    found = _towns_named(_typos(key)) or _towns_starting(key, _MOST_SUGGESTED)
    best: dict[str, Town] = {}
    for town in found:
        best.setdefault(name_key(town.name), town)
    return list(best.values())


def _weight(town: Town, keys: Sequence[str]) -> float:
    name = name_key(town.name)
    return town.weight * (1.0 if any(f"{name} ".startswith(f"{key} ") for key in keys) else _ALIAS)


def _is_rival(town: Town, best: Town, key: str) -> bool:
    """Whether people could also mean this town, and can tell it apart."""
    away = kilometres(town.latitude, town.longitude, best.latitude, best.longitude) or 0.0
    is_known = _weight(town, [key]) >= _RIVAL * _weight(best, [key])
    return is_known and away > _SAME_KM and town.title != best.title


def _areas_named(key: str) -> set[tuple[str, str]]:
    """The countries and regions of a name, as (country, region or "")."""
    return set(rows("SELECT country, region FROM areas WHERE name = ?", (key,)))


def _lies_in(town: Town, areas: set[tuple[str, str]]) -> bool:
    return bool(areas & {(town.country, ""), (town.country, town.region)})


def _is_town(town: Town, areas: set[tuple[str, str]]) -> bool:
    """Whether a name that countries or regions have, too, means this town: Luxembourg, Washington; not Ontario."""
    return _lies_in(town, areas) or town.population >= _LARGE


def _typos(key: str) -> list[str]:
    """All names that differ from this one in one letter, or in two that are swapped."""
    halves = [(key[:at], key[at:]) for at in range(len(key) + 1)]
    letters = string.ascii_lowercase + " "
    found = {left + right[1:] for left, right in halves if right}
    found |= {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    found |= {left + letter + right[1:] for left, right in halves if right for letter in letters}
    found |= {left + letter + right for left, right in halves for letter in letters}
    return sorted(found - {key, ""})


def _either(towns: Sequence[Town]) -> str:
    titles = [repr(title) for title in dict.fromkeys(town.title for town in towns[:_MOST_SUGGESTED])]
    return " or ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)


# ------------------------------------------------------------------------------------------ a position to a name


def place_at(latitude: float, longitude: float) -> Place | None:
    """The town that people would name for a position; None far from any, without the package, or without a table.

    Each town is a circle that grows with its population. A circle inside that of a larger town of the same region is
    a part of that town: Montmartre is Paris.
    """
    return _place_at(round(latitude, 3), round(longitude, 3))  # 0.001 degrees are 110 m


@functools.lru_cache(maxsize=50_000)
def _place_at(latitude: float, longitude: float) -> Place | None:
    if not gazetteer.is_available():
        return None
    try:
        return _nearest(latitude, longitude)
    except BadRequest as error:
        _warn(str(error))
        return None


def _nearest(latitude: float, longitude: float) -> Place | None:
    circles = gazetteer.circles()
    found, km = gazetteer.within(circles, gazetteer.on_sphere(latitude, longitude), _MOST_KM)
    if not len(found):
        return None
    radius = circles[3, found]
    best = int(np.argmin(np.where(km <= radius, km / radius - 1, km - radius)))  # inside one, or else nearest to one
    [row] = rows(f"SELECT {_TOWN} FROM towns WHERE id = ?", (int(found[best]),))
    town, away = Town(*row), float(km[best])
    is_inside = away <= max(_NEAR_KM, float(radius[best]))
    title = town.title if is_inside else f"{away:.0f} km from {town.title}"
    return Place(title, town.name, town.region or None, town.country, round(away, 1))


# ------------------------------------------------------------------------------------------ a box to its towns


def towns_in(box: GeoBox, most: int) -> list[Town]:
    """The largest towns in a box, largest first; none without the package, or without a table."""
    if not gazetteer.is_available():
        return []
    try:
        x, y, z, radius = gazetteer.circles()
        south, north = np.sin(np.radians([box.south, box.north])).astype(np.float32)
        first, last = np.searchsorted(z, [south, north])
        east = np.degrees(np.arctan2(y[first:last], x[first:last]))
        after, before = east >= box.west, east <= box.east
        inside = first + np.flatnonzero(after & before if box.west <= box.east else after | before)
        largest = inside[np.argsort(-radius[inside], kind="stable")[:most]]
        found = rows(f"SELECT {_TOWN} FROM towns WHERE id IN (SELECT value FROM json_each(?))", [str(largest.tolist())])
    except BadRequest as error:
        _warn(str(error))
        return []
    return sorted((Town(*row) for row in found), key=lambda town: -town.population)


@functools.cache
def _warn(problem: str) -> None:
    """Log a problem once, not for every photo."""
    _log.warning("no names of places: %s", problem)
