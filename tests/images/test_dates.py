"""Dates as cameras, programs and people leave them in photos and in the names of their files."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.images.dates import exif_time, gps_time, iptc_time, name_time, unix_time, xmp_time


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2015:06:01 12:00:00", "2015-06-01T12:00:00"),
        ("2015:06:01 12:00:00.25", "2015-06-01T12:00:00"),
        ("2015: 6: 1  9: 5: 3", "2015-06-01T09:05:03"),
        ("2015-06-01T12:00:00+02:00", "2015-06-01T12:00:00"),  # the camera's own time
        ("2015/06/01 12:00", "2015-06-01T12:00:00"),
        ("2015:06:01", "2015-06-01T00:00:00"),
        ("2015:06:01\0", "2015-06-01T00:00:00"),
        ("2015:06:01 24:00:00", "2015-06-02T00:00:00"),
        ("2015:06:01 08:00:00 PM", "2015-06-01T20:00:00"),
        ("2015:06:01 12:00:00.5 am", "2015-06-01T00:00:00"),
        ("2015:06:01, 12-00-00", "2015-06-01T12:00:00"),
        ("2015:06:00 00:00:00", "2015-06-01T00:00:00"),  # some day
        ("2015:00:00", "2015-01-01T00:00:00"),
        ("2015:12:31 23:59:60", "2016-01-01T00:00:00"),
        (b"2015:06:01 12:00:00\0", "2015-06-01T12:00:00"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("", None),
        (None, None),
        ("2015:13:01 12:00:00", None),
        ("2015:02:30 12:00:00", None),
        ("2015:00:01 12:00:00", None),
        ("2015:06:01 25:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("9999:12:31 24:00:00", None),
    ],
)
def test_an_exif_date_is_read_as_a_person_would(written: object, moment: str | None) -> None:
    assert exif_time(written) == moment


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("1998-07-14T10:00:00", "1998-07-14T10:00:00"),
        ("1998-07-14T10:00:00.5-05:00", "1998-07-14T10:00:00"),
        ("1998-07-14T10:00Z", "1998-07-14T10:00:00"),
        ("1998-07-14", "1998-07-14T00:00:00"),
        ("1998-07", "1998-07-01T00:00:00"),
        ("1998", "1998-01-01T00:00:00"),
        ("1998:07:14 10:00:00", "1998-07-14T10:00:00"),
        ("1998-07-14T10:00:00+0200", "1998-07-14T10:00:00"),
        ("1998-7-4", "1998-07-04T00:00:00"),
        ("1998-00-00", "1998-01-01T00:00:00"),
        ("0000-00-00", None),
        ("1998~", None),
        ("soon", None),
    ],
)
def test_an_xmp_date(written: str, moment: str | None) -> None:
    assert xmp_time(written) == moment


def test_an_iptc_date() -> None:
    assert iptc_time("19980714", "100000+0000") == "1998-07-14T10:00:00"
    assert iptc_time("19980714") == iptc_time("1998-07-14", "") == "1998-07-14T00:00:00"
    assert iptc_time("19980000") == "1998-01-01T00:00:00"  # in some month
    assert iptc_time("00000000") is iptc_time("1998") is iptc_time("") is None


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("IMG-20190203-WA0001.jpg", "2019-02-03T00:00:00"),
        ("IMG_20190203_101112.jpg", "2019-02-03T10:11:12"),
        ("IMG_20190203_101112_1.jpg", "2019-02-03T10:11:12"),
        ("20190203_101112.heic", "2019-02-03T10:11:12"),
        ("20190203_101112(0).jpg", "2019-02-03T10:11:12"),
        ("Screenshot_20190203-101112.png", "2019-02-03T10:11:12"),
        ("Screenshot_20190203-101112_Gallery.png", "2019-02-03T10:11:12"),
        ("Screenshot_2019-02-03-10-11-12-345.png", "2019-02-03T10:11:12"),
        ("Screenshot 2019-02-03 at 10.11.12.png", "2019-02-03T10:11:12"),
        ("Bildschirmfoto 2019-02-03 um 10.11.12.png", "2019-02-03T10:11:12"),
        ("Capture d\u2019e\u0301cran 2019-02-03 a\u0300 10.11.12.png", "2019-02-03T10:11:12"),
        ("Schermata 2019-02-03 alle ore 10.11.12.png", "2019-02-03T10:11:12"),
        ("Screen Shot 2019-02-03 at 8.11.12 AM.png", "2019-02-03T08:11:12"),
        ("Screen Shot 2019-02-03 at 8.11.12 PM.png", "2019-02-03T20:11:12"),
        ("Screenshot 2019-02-03 at 8.11.12\u202fPM (2).png", "2019-02-03T20:11:12"),
        ("Screenshot 2019-02-03 at 12.11.12 PM.png", "2019-02-03T12:11:12"),
        ("Screenshot 2019-02-03 at 12.11.12 AM.png", "2019-02-03T00:11:12"),
        ("WhatsApp Image 2019-02-03 at 20.11.12 PM.jpeg", "2019-02-03T20:11:12"),
        ("2019-02-03 10.11.12 Amsterdam.jpg", "2019-02-03T10:11:12"),
        ("WhatsApp Image 2019-02-03 at 10.11.12 (1).jpeg", "2019-02-03T10:11:12"),
        ("signal-2019-02-03-101112.jpg", "2019-02-03T10:11:12"),
        ("signal-2019-02-03-10-11-12-345.jpg", "2019-02-03T10:11:12"),
        ("photo_2019-02-03_10-11-12.jpg", "2019-02-03T10:11:12"),
        ("photo_1@03-02-2019_10-11-12.jpg", "2019-02-03T10:11:12"),
        ("photo_12@03-02-2019_10-11-12_thumb.jpg", "2019-02-03T10:11:12"),
        ("VID_20190203_101112.mp4", "2019-02-03T10:11:12"),
        ("MVIMG_20190203_101112.jpg", "2019-02-03T10:11:12"),
        ("WIN_20190203_10_11_12_Pro.jpg", "2019-02-03T10:11:12"),
        ("BURST20190203101112.jpg", "2019-02-03T10:11:12"),
        ("20190203101112345.jpg", "2019-02-03T10:11:12"),
        ("vlcsnap-2019-02-03-10h11m12s345.png", "2019-02-03T10:11:12"),
        ("2019-02-03 Grandma's birthday.jpg", "2019-02-03T00:00:00"),
        ("1955-07-14 wedding.tif", "1955-07-14T00:00:00"),
        ("folder 2018-01-01/IMG_20190203.jpg", "2019-02-03T00:00:00"),
        ("Captura de pantalla 2019-02-03 a la(s) 10.11.12.png", "2019-02-03T10:11:12"),
        ("Captura de pantalla 2019-02-03 a la(s) 8.11.12 p. m..png", "2019-02-03T20:11:12"),
        ("Képernyőfotó 2019-02-03 - 10.11.12.png", "2019-02-03T10:11:12"),
        ("Στιγμιότυπο 2019-02-03, 10.11.12 π.μ..png", "2019-02-03T10:11:12"),
        ("Στιγμιότυπο 2019-02-03, 8.11.12 μ.μ..png", "2019-02-03T20:11:12"),
        ("截屏2019-02-03 上午10.11.12.png", "2019-02-03T10:11:12"),
        ("截屏2019-02-03 下午8.11.12.png", "2019-02-03T20:11:12"),
        ("スクリーンショット 2019-02-03 午前0.11.12.png", "2019-02-03T00:11:12"),
        ("스크린샷 2019-02-03 오후 8.11.12.png", "2019-02-03T20:11:12"),
        ("Game Screenshot 2019.02.03 - 10.11.12.34.png", "2019-02-03T10:11:12"),
        ("2019-02-03--10-11-12.jpg", "2019-02-03T10:11:12"),
        ("2019-02-03 10 11 12.jpg", "2019-02-03T10:11:12"),
        ("2019-02-03 10h11m12.jpg", "2019-02-03T10:11:12"),
        ("2019_0203_101112_001A.MP4", "2019-02-03T10:11:12"),
        ("19-02-03 10-11-12 1234.jpg", "2019-02-03T10:11:12"),
        ("19-02-03 10-11-12.jpg", None),  # may be the 19th of February
        ("ScreenRecording_02-03-2019 10-11-12_1.MP4", "2019-02-03T10:11:12"),
        ("photo_5 @ 03-02-2019_10-11-12.jpg", "2019-02-03T10:11:12"),
        ("2019-02-03 Hawaii 101112.jpg", "2019-02-03T00:00:00"),
        ("2019-02-03_2019-02-05.jpg", "2019-02-03T00:00:00"),
        ("4006381333931.jpg", None),
        ("IMG_1234.jpg", None),
        ("DSC20195678.jpg", None),
        ("Snapchat-1199464898.jpg", None),  # from before there was Snapchat
        ("photo_1@33-02-2019_10-11-12.jpg", None),
        ("2019020310111.jpg", None),
        ("120190203.jpg", None),
        ("19550714.tif", None),  # may be any number
        ("20191332_101112.jpg", None),
        ("20190230.jpg", None),
        ("29990101.jpg", None),
        ("2999-01-01.jpg", None),
        ("P1000123.JPG", None),
    ],
)
def test_a_date_in_a_files_name(name: str, moment: str | None) -> None:
    assert name_time(name) == name_time(f"a/b/{name}".encode()) == moment


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system's time zone cannot be changed")
def test_epochs_and_some_programs_names_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5")  # five hours east of Greenwich
    time.tzset()
    try:
        assert name_time("PXL_20190203_101112345.jpg") == "2019-02-03T15:11:12"
        assert name_time("GMT20190203-101112_Recording.mp4") == "2019-02-03T15:11:12"
        assert name_time("20190203_101112000_iOS.png") == "2019-02-03T15:11:12"
        assert name_time("FB_IMG_1549188672000.jpg") == name_time("mmexport1549188672123.jpg") == "2019-02-03T15:11:12"
        assert name_time("RPReplay_Final1549188672.MP4") == name_time("1549188672123.jpg") == "2019-02-03T15:11:12"
        assert name_time("51549188672123.jpg") is name_time("a1549188672123b.jpg") is None
        assert gps_time("2019:02:03", (10, 11, 12.5)) == "2019-02-03T15:11:12"
        assert gps_time("2019:02:03", None) is gps_time(None, (1, 2, 3)) is gps_time("2019:02:03", (1, 2)) is None
        assert unix_time("1549188672") == "2019-02-03T15:11:12"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert unix_time(0) is unix_time("x") is unix_time(10**20) is None


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    for parse in (exif_time, xmp_time, iptc_time, name_time):
        moment = parse(text)
        assert moment is None or datetime.fromisoformat(moment)
