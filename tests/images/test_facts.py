"""How facts from several sources are combined."""

from __future__ import annotations

from clipsearch.images.facts import SOURCES, Facts, combined, dated


def test_the_best_source_gives_the_date() -> None:
    every = [dated(f"200{number}-01-02T03:04:05", source) for number, source in enumerate(SOURCES)]
    for number, source in enumerate(SOURCES):
        assert combined(reversed(every[number:]))[:2] == (f"200{number}-01-02T03:04:05", source)
    assert combined([]) == combined([Facts(), dated(None, "exif")]) == Facts()


def test_a_name_with_only_a_day_takes_the_time_from_another_source() -> None:
    day = dated("2019-02-03T00:00:00", "name")
    assert combined([day, dated("2019-02-03T10:11:12", "video")])[:2] == ("2019-02-03T10:11:12", "video")
    assert combined([day, dated("2019-02-04T10:11:12", "modified")])[:2] == ("2019-02-03T00:00:00", "name")


def test_the_epoch_of_a_camera_counts_if_nothing_else_is_known() -> None:
    unset = dated("1970-01-01T00:00:00", "exif")
    assert combined([unset, dated("2019-02-03T10:11:12", "name")])[:2] == ("2019-02-03T10:11:12", "name")
    assert combined([unset])[:2] == ("1970-01-01T00:00:00", "exif")
    said = dated("1970-01-01T00:00:00", "sidecar")
    assert combined([said, dated("2019-02-03T10:11:12", "exif")]).taken == said.taken


def test_lists_are_joined_and_the_first_knows_everything_else() -> None:
    first = Facts(latitude=1.0, longitude=2.0, keywords="a\nb", people="Ann", rating=5)
    second = Facts(latitude=3.0, longitude=4.0, location="Nice", keywords="b\nc", rating=-1, title="t")
    assert combined([first, second]) == Facts(
        latitude=1.0, longitude=2.0, location="Nice", keywords="a\nb\nc", people="Ann", rating=5, title="t"
    )
