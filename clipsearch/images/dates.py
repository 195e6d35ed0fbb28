"""When a photo was taken: parses the dates in EXIF, XMP, IPTC, Takeout, file names and video metadata.

All moments are ISO 8601 in whole seconds, in the camera's local time. A damaged or impossible date is None, so that the
next best source is used.
"""

from __future__ import annotations

import os
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

_EARLIEST, _LATEST = 1826, 2200  # the oldest surviving photo; a camera whose clock is wrong is still believed
_EARLIEST_IN_NAME = 1990  # of digits without separators, which may be any number

_EXIF = re.compile(
    r"(\d{4})[:/. -] ?(\d{1,2})[:/. -] ?(\d{1,2})"  # "2015: 6: 1", "2015:06:01", "2015-06-01"
    r"(?:[ T,-]+(\d{1,2})[:.-] ?(\d{1,2})(?:[:.-] ?(\d{1,2})(?:\.\d+)?)?)?(?!\d)"  # no time, or no seconds
)
_OFFSET = r"(?:\.\d+)?(?:[+-]\d\d:?\d\d)?"
_XMP = re.compile(rf"(\d{{4}})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?{_OFFSET})?)?)?(?![\d:/~-])")
_DAY = r"(?P<year>(?:19|20)\d\d)(?P<sep>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=sep)(?P<day>0[1-9]|[12]\d|3[01])"
_TIME = (
    r"(?P<hour>[01]\d|2[0-3]|\d(?=[-_.:]))(?P<colon>[-_.: ]?)(?P<minute>[0-5]\d)(?P=colon)(?P<second>[0-5]\d)"
    r"\d{0,3}"
)
# macOS and WhatsApp write words in between, "at", "a la(s)", and before or after the time which half of the day it is.
_BETWEEN = r"(?P<between>[-_ T]?|\D{0,20}?(?=\d\d?[-_.: ]\d))"
_HALVES = re.compile(r"\s?(?:(?P<am>[Aa]\.?\s?[Mm]\b|π\.?μ|上午|午前|오전)|[Pp]\.?\s?[Mm]\b|μ\.?μ|下午|午後|오후)")
_NAMED = re.compile(rf"(?<!\d){_DAY}(?:{_BETWEEN}{_TIME})?(?!\d)")
_CLOCK = r"(?P<hour>\d\d)[-h]?(?P<minute>\d\d)[-m]?(?P<second>\d\d)(?!\d)"
_OTHERS = tuple(
    re.compile(pattern + _CLOCK + end)
    for pattern, end in (
        (r"(?<!\d)(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[-_ ](?=\d\dh)", ""),  # VLC
        (r"@ ?(?P<day>\d\d)-(?P<month>\d\d)-(?P<year>\d{4})_", ""),  # exports of Telegram
        (r"ScreenRecording_(?P<month>\d\d)-(?P<day>\d\d)-(?P<year>\d{4}) ", ""),  # iOS
        (r"^(?P<year>\d\d)-(?P<month>\d\d)-(?P<day>\d\d) ", r" \d{4}$"),  # uploads by Nextcloud on iOS
        (r"(?<!\d)(?P<year>20\d\d)_(?P<month>\d\d)(?P<day>\d\d)_", ""),  # dashcams
    )
)
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_EPOCH = re.compile(
    r"(?:FB_IMG_|mmexport|wx_camera_|RPReplay_Final)(\d{10})(?:\d{3})?(?!\d)"  # Snapchat's numbers are random
    r"|(?<![^\W_])(1[2-9]\d{8})\d{3}(?![^\W_])"  # milliseconds: LINE and many apps
)
_IN_UTC = re.compile(r"PXL_|GMT\d|.*_iOS$")  # Pixel phones, Zoom, OneDrive on iPhones


def exif_time(value: Any) -> str | None:
    """An EXIF date, as cameras, scanners and editors write it: padded, without seconds, at 24:00:00 or :60."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    text = value.replace("\0", " ").strip() if isinstance(value, str) else ""
    match = _EXIF.match(text)
    if match is None:
        return None
    year, month, day, hour, *others = match.groups()
    if hour:
        hour = _in_24_hours(int(hour), _HALVES.match(text, match.end()))
    return _moment(year, month, day, hour, *others)


def xmp_time(text: str) -> str | None:
    """An XMP date, which may be a year or a month alone; its offset is ignored, as the time is the camera's."""
    match = _XMP.match(text.strip())
    return _moment(*match.groups()) if match else exif_time(text)


def iptc_time(day: str, time: str = "") -> str | None:
    """IPTC's DateCreated, `19980714`, and TimeCreated, `100000+0000`."""
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)$", day.strip())
    if not match:
        return None
    clock = re.match(r"(\d\d):?(\d\d):?(\d\d)?", time.strip())
    return _moment(*match.groups(), *(clock.groups() if clock else ()))


def gps_time(day: Any, clock: Any) -> str | None:
    """GPS's date stamp, `2015:06:01`, and time stamp, three numbers in UTC, in the local time of this machine."""
    date = exif_time(day) or ""
    try:
        hour, minute, second = (int(part) for part in clock)
        moment = datetime.fromisoformat(date[:10]) + timedelta(hours=hour, minutes=minute, seconds=second)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return _local(moment)


def unix_time(seconds: Any) -> str | None:
    """A UNIX timestamp in the local time of this machine; 0 means unknown."""
    try:
        moment = datetime.fromtimestamp(int(seconds))
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return _valid(moment) if int(seconds) else None


def name_time(path: bytes | str) -> str | None:
    """The date that a program put into a file's name: `IMG-20190203-WA0001.jpg`, `Screenshot_20190203-101112.png`.

    A day without a time is its midnight. Some programs write UTC.
    """
    name = unicodedata.normalize("NFC", os.path.splitext(os.path.basename(os.fsdecode(path)))[0])
    if match := _EPOCH.search(name):
        return unix_time(match[1] or match[2])
    for pattern in _OTHERS:
        if match := pattern.search(name):
            year, *others = match.group(*_PARTS)
            return _moment(year if len(year) == 4 else f"20{year}", *others)
    for match in _NAMED.finditer(name):
        year, month, day, hour, *others = (part or "0" for part in match.group(*_PARTS))
        half = _HALVES.match(name, match.end()) or _HALVES.search(match["between"] or "")
        moment = _moment(year, month, day, _in_24_hours(int(hour), half), *others)
        is_plausible = int(match["year"]) >= _EARLIEST_IN_NAME or match["sep"]
        if moment is None or not is_plausible or moment > (datetime.now() + timedelta(days=2)).isoformat():
            continue
        if _IN_UTC.match(name) and match["hour"]:
            return _local(datetime.fromisoformat(moment))
        return moment
    return None


def _in_24_hours(hour: int, half: re.Match[str] | None) -> str:
    """The hour of a clock that may show AM or PM."""
    return str(hour if half is None or hour > 12 else hour % 12 + (0 if half["am"] else 12))


def _moment(*parts: str | None) -> str | None:
    """A moment of year, month, day, hour, minute and second, each of which may be missing, or a day and month 0."""
    year, month, day, hour, minute, second = [int(part) if part else None for part in (*parts, *(None,) * 6)[:6]]
    if not year:
        return None
    if day == 0:  # unknown
        month, day = month or None, None
    try:
        start = datetime(year, month if month is not None else 1, day if day is not None else 1)
    except ValueError:
        return None
    hour, minute, second = hour or 0, minute or 0, second or 0
    if (hour, minute, second) > (24, 0, 0) or minute > 59 or second > 60:
        return None
    return _valid(start + timedelta(hours=hour, minutes=minute, seconds=second)) if year <= _LATEST else None


def _local(utc: datetime) -> str | None:
    """A moment in UTC, in the local time of this machine."""
    try:
        return _valid(utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None))
    except (OverflowError, OSError):
        return None


def _valid(moment: datetime) -> str | None:
    return moment.isoformat(timespec="seconds") if _EARLIEST <= moment.year <= _LATEST else None
