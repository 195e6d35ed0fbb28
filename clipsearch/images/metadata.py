"""Metadata in a photo's header: size, time, camera and place."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

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

    try:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        details, gps = {}, {}
    taken = _time(details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime))
    maker, model = _text(exif.get(ExifTags.Base.Make)), _text(exif.get(ExifTags.Base.Model))
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "S", 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "W", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Metadata(width, height, taken, camera_name(maker, model), latitude, longitude)


def camera_name(maker: str, model: str) -> str | None:
    """Join maker and model, unless the model begins with the maker."""
    return (model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()) or None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else ""


def _time(value: Any) -> str | None:
    match = re.match(r"(\d{4})[:\-/](\d\d)[:\-/](\d\d)[ T](\d\d):(\d\d):(\d\d)", _text(value))
    if not match:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        return datetime(year, month, day, hour, minute, second).isoformat()
    except ValueError:
        return None


def _degrees(parts: Any, reference: Any, negative: str, limit: int) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not abs(value) <= limit:  # also rejects NaN
        return None
    return round(-value if _text(reference).upper().startswith(negative) else value, 7) + 0.0  # never -0.0
