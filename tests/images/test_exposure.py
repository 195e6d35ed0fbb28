"""Lens and exposure, as read from the file."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from conftest import SCENES
from formats import dng, exif
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from clipsearch.errors import ImageUnusable
from clipsearch.images import decode as decoding
from clipsearch.images.decode import exposure
from clipsearch.images.metadata import Exposure, exposure_of
from clipsearch.images.sandbox import Decoders

TAGS: dict[str, Any] = {
    "LensModel": "EF 50mm f/1.8",
    "ExposureTime": IFDRational(1, 250),
    "FNumber": IFDRational(28, 10),
    "ISOSpeedRatings": 400,
    "FocalLength": IFDRational(50),
}
FOUND = Exposure("EF 50mm f/1.8", 1 / 250, 2.8, 400, 50.0)


def saved(form: str, **tags: Any) -> bytes:
    out = io.BytesIO()
    SCENES[0].image.convert("RGB").resize((64, 48)).save(out, form, exif=exif(**tags))
    return out.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_each_format_has_it(form: str) -> None:
    if form == "HEIF":
        decoding._register_heif()
    assert exposure(saved(form, **TAGS)) == FOUND


def test_a_raw_file_has_it_in_either_directory() -> None:
    assert exposure(dng()) == Exposure(time=1 / 250, iso=400)
    assert exposure(dng(preview=Image.new("RGB", (300, 200)))) == Exposure(time=1 / 250, iso=400)


def test_pixels_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved("JPEG", **TAGS)
    assert exposure(data[: len(data) - 100]) == FOUND  # cut short
    monkeypatch.setattr(Image.Image, "load", None)
    assert exposure(data) == FOUND


def test_high_sensitivities_are_in_another_field() -> None:
    assert exposure_of(exif(ISOSpeedRatings=65535, RecommendedExposureIndex=102_400)).iso == 102_400
    assert exposure_of(exif(ISOSpeedRatings=65535)).iso is None


@pytest.mark.parametrize(
    "value", [0, -1, math.nan, math.inf, IFDRational(0, 0), IFDRational(1, 0), "x", b"x", (), None]
)
def test_what_is_no_number_is_left_out(value: Any) -> None:
    names = ("ExposureTime", "FNumber", "ISOSpeedRatings", "FocalLength")
    assert exposure_of(exif(**dict.fromkeys(names, value))) == Exposure()


def test_the_first_of_several_sensitivities_counts() -> None:
    assert exposure_of(exif(ISOSpeedRatings=(200, 0))).iso == 200


def test_a_decoding_process_reads_it() -> None:
    with Decoders(1) as decoders:
        assert decoders.exposure(saved("JPEG", **TAGS)) == FOUND
        assert decoders.exposure(saved("JPEG")) == Exposure()
        for data in (b"", b"no image", dng()[:200]):
            with pytest.raises(ImageUnusable, match=r"\w"):
                decoders.exposure(data)
