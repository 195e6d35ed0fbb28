"""Google Takeout's JSON files: how they are named, and what they say."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipsearch.errors import SidecarUnusable
from clipsearch.images.facts import Facts
from clipsearch.images.takeout import TakeoutNames, takeout_facts

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
        ("IMG_1-bearbeitet.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1.MP4", "IMG_1.HEIC.supplemental-metadata.json"),
        ("IMG_1(1).MP4", "IMG_1.HEIC(1).json"),
        ("PXL_1.MP", "PXL_1.MP.jpg.supplemental-metadata.json"),
        ("IMG_1-edited(1).jpg", "IMG_1.jpg(1).json"),
        (LONG, f"{LONG}.json"),
        (f"{LONG[:-4]}and_more.jpg", f"{LONG[:-4]}and_.json"),
        ("Übung.jpg", "Übung.jpg.json"),
        ("Ü" * 50 + ".jpg", "Ü" * 46 + ".json"),
        ("ä" * 41 + ".jpg", "ä" * 41 + ".jpg.json"),
        ("😀" * 24 + ".jpg", "😀" * 23 + ".json"),
        ("IMG_1.jpg", "IMG_1.json"),
        ("IMG_1.jpg", "IMG_1.supplemental-metadata.json"),
        ("IMG_1-edited.jpg", "IMG_1.supplemental-metadata.json"),
        ("IMG_1(1).jpg", "IMG_1.supplemental-metadata(1).json"),
    ],
)
def test_the_json_of_a_photo(photo: str, name: str) -> None:
    others = ["metadata.json", "IMG_2.jpg.json", "IMG_1.jpg(7).json", "IMG_1.png", "user-generated-memory-titles.json"]
    names = TakeoutNames(one.encode() for one in [*others, name])
    assert names.of(photo.encode()) == (name.encode(),)
    assert TakeoutNames(one.encode() for one in others).of(photo.encode()) == ()


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
    found = takeout_facts(document())
    assert found is not None
    assert found._replace(taken=None) == Facts(
        None, "takeout", 48.8583, 2.2945, people="Grandma", caption="On the beach"
    )
    assert (found.taken or "")[:10] in ("1998-07-13", "1998-07-14")


def test_what_is_missing_is_none() -> None:
    nowhere = {"latitude": 0.0, "longitude": 0.0}
    bare = takeout_facts(document(geoData=nowhere, geoDataExif=nowhere, people=None, description=""))
    assert bare == Facts(takeout_facts(document()).taken, "takeout")
    assert takeout_facts(document(geoData=nowhere, geoDataExif={"latitude": 1, "longitude": 2})).longitude == 2
    assert takeout_facts(document(photoTakenTime={"timestamp": "0"})).taken is None


@pytest.mark.parametrize("data", [b"{}", b"[]", b"7", b'{"photoTakenTime": 7}'])
def test_another_json_file_is_ignored(data: bytes) -> None:
    assert takeout_facts(data) is None


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[" * 100_000, b"\xff", b"9" * 5_000])
def test_a_damaged_file_is_named(data: bytes) -> None:
    with pytest.raises(SidecarUnusable, match="not valid JSON"):
        takeout_facts(data)


def test_a_large_file_is_not_parsed() -> None:
    many = [[]] * (1 << 19)
    with pytest.raises(SidecarUnusable, match="larger than 1 MB"):
        takeout_facts(document(other=many))
    assert takeout_facts(json.dumps({"prompt": many}).encode()) is None  # another program's


@example({"geoData": {"latitude": 10**400, "longitude": math.nan}, "photoTakenTime": {"timestamp": math.inf}})
@example({"description": "a\ud800b\0c", "people": [{"name": "\udfff"}]})
@given(
    st.dictionaries(
        st.sampled_from(["geoData", "geoDataExif", "people", "description"]),
        st.text() | st.none() | st.lists(st.integers()),
    )
)
def test_odd_values_are_no_error(changes: dict[str, Any]) -> None:
    found = takeout_facts(document(**changes))
    assert found is not None
    "".join(text for text in found if isinstance(text, str)).encode()  # has UTF-8
