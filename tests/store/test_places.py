"""Towns by name and by position."""

from __future__ import annotations

import pytest

from clipsearch import extras
from clipsearch.errors import BadRequest
from clipsearch.store import places
from clipsearch.store.conditions import Circle
from clipsearch.store.filters import Filter, parse_circle


@pytest.fixture(scope="module", autouse=True)
def table() -> None:
    """Built once, in some ten seconds."""
    places.town_named("Paris")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Paris", "Paris, France"),
        ("paris", "Paris, France"),
        ("Paris, Texas", "Paris, Texas"),
        ("Paris,TX", "Paris, Texas"),
        ("Paris, Canada", "Paris, Canada"),
        ("Köln", "Köln, Germany"),
        ("Cologne, DE", "Köln, Germany"),
        ("Mu\u0308nchen", "Munich, Germany"),
        ("東京", "Tokyo, Japan"),
        ("Москва", "Moscow, Russia"),
        ("Springfield, Illinois", "Springfield, Illinois"),
    ],
)
def test_a_town_by_its_name_in_any_language(text: str, title: str) -> None:
    assert places.town_named(text).title == title


def test_a_place_that_nobody_knows() -> None:
    for text in ("Nowhereville", "Paris, Japan", ""):
        with pytest.raises(BadRequest, match="unknown place"):
            places.town_named(text)


@pytest.mark.parametrize(
    ("position", "title"),
    [
        ((48.8583, 2.2945), "Paris, France"),  # the Eiffel Tower; Levallois is nearer
        ((48.92, 2.36), "Paris, France"),  # Saint-Denis, a suburb
        ((40.69, -74.04), "New York City, New York"),
        ((78.2, 15.6), "Longyearbyen, Svalbard and Jan Mayen"),
        ((-17.78, 177.44), "Nadi, Fiji"),
        ((-16.43, 179.99), "Labasa, Fiji"),  # at the date line
        ((0.0, -30.0), None),
        ((90.0, 0.0), None),
    ],
)
def test_the_town_at_a_position(position: tuple[float, float], title: str | None) -> None:
    found = places.nearest_town(*position)
    assert (found and found[0].title) == title


def test_near_takes_the_name_of_a_place() -> None:
    paris = places.town_named("Paris")
    assert parse_circle("Paris") == Circle(paris.latitude, paris.longitude)
    assert parse_circle("Paris, 5 km") == parse_circle("Paris,5") == Circle(paris.latitude, paris.longitude, 5)
    assert parse_circle("Paris, Texas, 5").latitude < 35
    assert Filter(near="Paris").near[0].latitude == pytest.approx(48.85, abs=0.01)


def test_without_the_package_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    assert places.nearest_town(48.86, 2.29) is None
    with pytest.raises(BadRequest, match="is not a valid place"):
        parse_circle("Paris")


def test_a_town_is_found_without_reading_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_build", lambda path: pytest.fail("built again"))
    places._database.cache_clear()
    assert places.town_named("Berlin").country == "Germany"
