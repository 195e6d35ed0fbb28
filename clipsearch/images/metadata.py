"""Metadata in a photo's header: size, time, camera and place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.images.dates import exif_time

if TYPE_CHECKING:
    from PIL import Image


class Metadata(NamedTuple):
    """Size in pixels, upright; `taken` in local time, ISO 8601; coordinates in degrees.

    `keywords` are those that other programs embedded, one per line. `duration` is a video's, in seconds.
    """

    width: int
    height: int
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    keywords: str | None = None
    duration: float | None = None


def metadata_of(exif: Image.Exif, width: int, height: int) -> Metadata:
    """Parse EXIF, which may be damaged. The size is the file's, before rotation."""
    from PIL import ExifTags

    gps = _directory(exif, "GPSInfo")
    taken = original_time(exif) or exif_time(exif.get(ExifTags.Base.DateTime))
    maker, model = _text(exif.get(ExifTags.Base.Make)), _text(exif.get(ExifTags.Base.Model))
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "S", 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "W", 180)
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):  # 0, 0 is what "unknown" is written as
        latitude = longitude = None
    return Metadata(width, height, taken, camera_name(maker, model), latitude, longitude)


def original_time(exif: Image.Exif) -> str | None:
    """When the shutter was released or a slide was scanned. DateTime may only be when the file was edited."""
    from PIL import ExifTags

    details = _directory(exif, "Exif")
    return exif_time(details.get(ExifTags.Base.DateTimeOriginal)) or exif_time(
        details.get(ExifTags.Base.DateTimeDigitized)
    )


def _directory(exif: Image.Exif, name: str) -> dict[int, Any]:
    from PIL import ExifTags

    try:
        return exif.get_ifd(ExifTags.IFD[name])
    except Exception:  # damaged
        return {}


def camera_name(maker: str, model: str) -> str | None:
    """Join maker and model, unless the model begins with the maker."""
    return (model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()) or None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else ""


def _degrees(parts: Any, reference: Any, negative: str, limit: int) -> float | None:
    """Degrees of one to three numbers: degrees, minutes and seconds, of which the last may be 0/0."""
    try:
        numbers = [_number(part) for part in (parts if isinstance(parts, tuple | list) else (parts,))]
    except (TypeError, ValueError):
        return None
    if not numbers or len(numbers) > 3 or math.isnan(numbers[0]):
        return None
    value = sum(0.0 if math.isnan(number) else number / 60**power for power, number in enumerate(numbers))
    if not abs(value) <= limit:
        return None
    is_negative = _text(reference).upper().startswith(negative)
    return round(-abs(value) if is_negative else value, 7) + 0.0  # never -0.0


def _number(part: Any) -> float:
    """A rational; NaN for 0/0, which stands for a number that was not written."""
    try:
        return float(part)
    except ZeroDivisionError:
        return math.nan
