"""The metadata of a photo: size, camera, `Facts` and `Exposure`. EXIF, the part that cameras write, is parsed here."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch.images.dates import exif_time, gps_time
from clipsearch.images.facts import Facts, dated, decoded, lines, position

if TYPE_CHECKING:
    from PIL import Image


# Descriptions that cameras write by default.
_NO_CAPTION = re.compile(
    r"(?i)\W*(.*digital (still )?camera|sony dsc|dcim\\.*|kodak .*camera|samsung camera pictures"
    r"|(exif.jpeg.)?picture|default|untitled)?\W*"
)
_RATING_PERCENT = 0x4749  # written by Windows
_PERCENTS = (1, 13, 38, 63, 88)  # the least that means one to five stars
_ISO_ELSEWHERE = 65535  # the field has 16 bits; higher values are in another


class Metadata(NamedTuple):
    """Size in pixels, upright; a video's `duration` in seconds; the other fields are those of `Facts`.

    `exif_orientation` is 2 to 8 if the file's pixels are not upright.
    """

    width: int
    height: int
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    keywords: str | None = None
    duration: float | None = None
    taken_from: str | None = None
    location: str | None = None
    people: str | None = None
    rating: int | None = None
    color_label: str | None = None
    title: str | None = None
    caption: str | None = None
    regions: str | None = None
    exif_orientation: int | None = None

    @property
    def facts(self) -> Facts:
        """The fields that sidecars and other sources can also provide."""
        return Facts(**{name: getattr(self, name) for name in Facts._fields})

    def with_facts(self, facts: Facts) -> Metadata:
        return self._replace(**facts._asdict())


class Exposure(NamedTuple):
    """How a photo was taken: exposure `time` in seconds, `aperture` as an f-number, `focal_length` in millimetres.

    Not indexed: `decode.exposure` reads it from the file.
    """

    lens: str | None = None
    time: float | None = None
    aperture: float | None = None
    iso: int | None = None
    focal_length: float | None = None


def metadata_of(exif: Image.Exif, width: int, height: int) -> Metadata:
    """Size and camera. EXIF may be damaged. The size is the file's, before rotation."""
    from PIL import ExifTags

    maker, model = _text(exif.get(ExifTags.Base.Make)), _text(exif.get(ExifTags.Base.Model))
    return Metadata(width, height, camera=camera_name(maker, model))


def exif_facts(exif: Image.Exif) -> Iterator[Facts]:
    """The facts in EXIF, even if parts are damaged; DateTime separately, as it ranks lower than other dates."""
    from PIL import ExifTags

    details, gps = _directory(exif, "Exif"), _directory(exif, "GPSInfo")
    dates = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized)
    # RAW files may have them in the first directory.
    taken = next(filter(None, (exif_time(of.get(tag)) for tag in dates for of in (details, exif))), None)
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
    latitude, longitude = position(latitude, longitude)
    caption = _until_nul(exif.get(ExifTags.Base.ImageDescription))
    yield dated(taken, "exif")._replace(
        latitude=latitude,
        longitude=longitude,
        keywords=lines(
            word for part in _utf16(exif.get(ExifTags.Base.XPKeywords)).split(";") for word in [_text(part)]
        ),
        rating=rating_of(exif.get(ExifTags.Base.Rating)) or rating_of_percent(exif.get(_RATING_PERCENT)),
        title=_text(_utf16(exif.get(ExifTags.Base.XPTitle))) or None,
        caption=(None if _NO_CAPTION.fullmatch(caption) else caption)
        or _text(_utf16(exif.get(ExifTags.Base.XPComment)))
        or None,
    )
    yield dated(gps_time(gps.get(ExifTags.GPS.GPSDateStamp), gps.get(ExifTags.GPS.GPSTimeStamp)), "gps")
    yield dated(exif_time(exif.get(ExifTags.Base.DateTime)), "modified")


def exposure_of(exif: Image.Exif) -> Exposure:
    """The lens and exposure in EXIF, even if parts are damaged."""
    from PIL import ExifTags

    details, tags = _directory(exif, "Exif"), ExifTags.Base

    def value(tag: int) -> Any:
        return details.get(tag, exif.get(tag))  # RAW files may have them in the first directory

    iso = _positive(value(tags.ISOSpeedRatings))
    if iso == _ISO_ELSEWHERE:
        iso = _positive(value(tags.RecommendedExposureIndex)) or _positive(value(tags.ISOSpeed))
    return Exposure(
        _text(value(tags.LensModel)) or None,
        _positive(value(tags.ExposureTime)),
        _positive(value(tags.FNumber)),
        None if iso is None else round(iso),
        _positive(value(tags.FocalLength)),
    )


def rating_of(value: Any) -> int | None:
    """A rating of 1 to 5, or -1; None for anything else, such as 0, which means unrated."""
    try:
        stars = round(float(value))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return stars if stars in (-1, 1, 2, 3, 4, 5) else None


def rating_of_percent(value: Any) -> int | None:
    """The rating that Windows writes as 1, 25, 50, 75 or 99 percent."""
    try:
        percent = float(value)
    except (TypeError, ValueError):
        return None
    return sum(percent >= least for least in _PERCENTS) or None if percent <= 100 else None


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
    if isinstance(value, str):
        with contextlib.suppress(UnicodeError):  # EXIF is ASCII; programs write UTF-8, and Pillow reads Latin-1
            value = value.encode("latin-1")
    if isinstance(value, bytes):
        value = decoded(value)
    if not isinstance(value, str):
        return ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())


def _until_nul(value: Any) -> str:
    """Cameras leave garbage after the end of a description."""
    separator: Any = "\0" if isinstance(value, str) else b"\0"
    return _text(value.partition(separator)[0] if isinstance(value, str | bytes) else "")


def _utf16(value: Any) -> str:
    """The text of Windows's tags."""
    with contextlib.suppress(ValueError, TypeError):
        return bytes(value).decode("utf-16-le") if isinstance(value, bytes | tuple) else ""
    return ""


def _degrees(parts: Any, reference: Any, sides: str, limit: int) -> float | None:
    """Degrees of one to three numbers: degrees, minutes and seconds, of which the last may be 0/0.

    `sides` are the letters of the two hemispheres, the negative one last; without one of them the place is unknown.
    """
    try:
        numbers = [_number(part) for part in (parts if isinstance(parts, tuple | list) else (parts,))]
    except (TypeError, ValueError):
        return None
    if not numbers or len(numbers) > 3 or math.isnan(numbers[0]):
        return None
    value = sum(0.0 if math.isnan(number) else number / 60**power for power, number in enumerate(numbers))
    side = _text(reference).upper()[:1]
    if not abs(value) <= limit or not side or side not in sides:
        return None
    return round(-abs(value) if side == sides[-1] else value, 7) + 0.0  # never -0.0


def _positive(value: Any) -> float | None:
    """A finite number above 0, or the first of several; None for anything else."""
    try:
        number = _number(value[0] if isinstance(value, tuple) and value else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def _number(part: Any) -> float:
    """A rational; NaN for 0/0, which means unknown."""
    try:
        return float(part)
    except ZeroDivisionError:
        return math.nan
