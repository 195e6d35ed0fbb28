"""Google Takeout's JSON files: how they are named, and what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.images.takeout import Takeout, TakeoutNames, takeout_of

LONG = "PXL_20210304_050607123.PORTRAIT-01.COVER~2.jpg"  # 46 characters


@pytest.mark.parametrize(
    ("photo", "name"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-me.json"),
        ("IMG_1.jpg", "IMG_1.jpg.s.json"),
        ("IMG_1.JPG", "img_1.jpg.json"),
        ("IMG_1(1).jpg", "IMG_1.jpg(1).json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.supplemental-metadata(2).json"),
        ("IMG_1-edited.jpg", "IMG_1.jpg.json"),
        ("IMG_1-edited(1).jpg", "IMG_1.jpg(1).json"),
        (LONG, f"{LONG}.json"),
        (f"{LONG[:-4]}and_more.jpg", f"{LONG[:-4]}and_.json"),
        ("Übung.jpg", "Übung.jpg.json"),
    ],
)
def test_the_json_of_a_photo(photo: str, name: str) -> None:
    others = ["metadata.json", "IMG_2.jpg.json", "IMG_1.jpg(7).json", "IMG_1.png", "user-generated-memory-titles.json"]
    names = TakeoutNames(one.encode() for one in [*others, name])
    assert names.of(photo.encode()) == name.encode()
    assert TakeoutNames(one.encode() for one in others).of(photo.encode()) is None


def document(**changes: Any) -> bytes:
    known = {
        "title": "IMG_1.jpg",
        "description": "On the  beach\n",
        "photoTakenTime": {"timestamp": "900410400", "formatted": "Jul 14, 1998, 10:00:00 AM UTC"},
        "geoData": {"latitude": 48.8583, "longitude": 2.2945, "altitude": 0.0},
        "people": [{"name": "Grandma"}, {"name": " "}, {}],
    }
    return json.dumps(known | changes).encode()


def test_what_google_knew() -> None:
    found = takeout_of(document())
    assert found is not None
    assert found._replace(taken=None) == Takeout(None, 48.8583, 2.2945, ("Grandma",), "On the beach")
    assert (found.taken or "")[:10] in ("1998-07-13", "1998-07-14")


def test_what_is_missing_is_none() -> None:
    nowhere = {"latitude": 0.0, "longitude": 0.0}
    assert takeout_of(document(geoData=nowhere, geoDataExif=nowhere, people=None, description="")) == Takeout(
        takeout_of(document()).taken
    )
    assert takeout_of(document(geoData=nowhere, geoDataExif={"latitude": 1, "longitude": 2})).longitude == 2
    assert takeout_of(document(photoTakenTime={"timestamp": "0"})).taken is None


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"7", b"nonsense", b'{"photoTakenTime": 7}', b"[" * 100_000, b"\xff"]
)
def test_another_json_file_is_ignored(data: bytes) -> None:
    assert takeout_of(data) is None


@given(
    st.dictionaries(
        st.sampled_from(["geoData", "geoDataExif", "people", "description"]),
        st.text() | st.none() | st.lists(st.integers()),
    )
)
def test_odd_values_are_no_error(changes: dict[str, Any]) -> None:
    takeout_of(document(**changes))
