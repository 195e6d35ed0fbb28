"""Which of several copies is the best."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from clipsearch.images.discarded import is_discarded
from clipsearch.images.metadata import Metadata
from clipsearch.search.preference import has_all_of, preference
from clipsearch.store.photo import Photo


def photo(path: str, size: int = 1000, pixels: tuple[int, int] = (40, 30), mtime: int = 5) -> Photo:
    return Photo(1, path.encode(), size, mtime, b"", Metadata(*pixels))


@pytest.mark.parametrize(
    "folder",
    [
        *("$RECYCLE.BIN/S-1-5-21-1", "RECYCLER", "RECYCLED", "#recycle", "@Recycle", ".recycle", ".Recycle.Bin"),
        *("Recycle Bin", "Network Recycle Bin", "Network Trash Folder", "trashbox", ".trashBin", ".RecycleBin"),
        *(".Trash", ".Trash-1000/files", ".Trashes/501", "Trash", ".local/share/Trash/files", ".globalTrash"),
        *(".dtrash/files", "files_trashbin/files", "Recently Deleted", "Deleted Items", ".ColorOSGalleryRecycler"),
        *("Papierkorb", "Corbeille", "Papelera de reciclaje", "Cestino", "Корзина", "ごみ箱", "回收站"),
        *("#snapshot/2023", ".snapshot", "@Recently-Snapshot", ".snapshots/12", ".zfs/snapshot/a", "timeshift"),
        *(".stversions", "files_versions", ".sync/Archive", "lost+found", "System Volume Information"),
        *(".cache", "@eaDir/IMG_1.JPG", ".@__thumb", ".thumbnails", "Catalog Previews.lrdata", ".picasaoriginals"),
        unicodedata.normalize("NFD", "Geri dönüşüm kutusu"),
    ],
)
def test_trash_snapshots_and_caches_are_never_best(folder: str) -> None:
    discarded = photo(f"/nas/{folder}/IMG_1.jpg", size=9_000_000, pixels=(4000, 3000), mtime=1)
    kept = photo("/nas/backup/copy of IMG_1 (2).jpg", size=10)
    assert is_discarded(discarded.file)
    assert min(discarded, kept, key=preference) == kept


@pytest.mark.parametrize(
    "path", ["/a/trash metal/1.jpg", "/a/Cycle/1.jpg", "/a/Deleted scenes/1.jpg", "/a/2023/recycle.jpg", "/a/bin/1.jpg"]
)
def test_other_folders_are_no_trash(path: str) -> None:
    assert not is_discarded(path.encode())


def test_android_renames_what_is_deleted() -> None:
    assert is_discarded(b"/sdcard/DCIM/.trashed-1690000000-IMG_1.jpg")


def test_what_was_moved_away_as_a_copy_is_never_best(tmp_path: Path) -> None:
    """Its folder may be emptied any day."""
    moved = photo(f"{tmp_path}/away/photos/IMG_1.jpg", size=9_000_000)
    kept = photo(f"{tmp_path}/photos/IMG_1 (2).jpg", size=10)
    (tmp_path / "away").mkdir()
    assert min(moved, kept, key=preference) == moved
    (tmp_path / "away/clipsearch-moved.jsonl").touch()
    assert min(moved, kept, key=preference) == kept


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (photo("/z/1 (1).jpg", pixels=(41, 30), size=1), photo("/a/1.jpg")),
        (photo("/z/1 (1).jpg", size=1001), photo("/a/1.jpg", mtime=1)),
        (photo("/z/copy of 1.jpg", mtime=9), photo("/a/Backup 2019/1.jpg")),
        (photo("/z/1.jpg", mtime=9), photo("/a/old/1.jpg")),
        (photo("/z/1.jpg", mtime=4), photo("/a/1.jpg")),
        (photo("/z/1.jpg"), photo("/a/long/1.jpg")),
        (photo("/a/1.jpg"), photo("/b/1.jpg")),
    ],
    ids=["pixels", "size", "backup", "old", "oldest", "shortest", "by name"],
)
def test_the_better_of_two(better: Photo, worse: Photo) -> None:
    assert min(worse, better, key=preference) == better


def test_a_date_in_a_name_does_not_stand_for_a_recorded_one() -> None:
    named, recorded = (
        large._replace(metadata=large.metadata._replace(taken="2019-02-03T00:00:00", taken_from=source))
        for large, source in ((photo("/a/IMG-20190203-WA1.jpg"), "name"), (photo("/b/1.jpg", size=1), "exif"))
    )
    assert not has_all_of(named, recorded)
    assert min(named, recorded, key=preference) == named  # the larger one
    assert has_all_of(recorded._replace(size=1000), named)


@pytest.mark.parametrize(
    "name",
    [
        *("Copy of IMG_1", "IMG_1 copy", "IMG_1 copy 2", "IMG_1-copy", "IMG_1 - Copy (3)", "IMG_1 (1)", "IMG_1(2)"),
        *("IMG_1-2", "IMG_1~2", "Kopie von IMG_1", "IMG_1 - Kopie", "Copie de IMG_1", "IMG_1 - コピー", "IMG_1_edited"),
    ],
)
def test_a_copys_name_is_worse_even_if_it_is_older(name: str) -> None:
    original, copied = photo("/photos/2023/summer/IMG_1.jpg", mtime=9), photo(f"/a/{name}.jpg", mtime=1)
    assert min(original, copied, key=preference) == original


EXIF, NAME = (
    {"taken": "2023-07-14T18:03:21", "taken_from": "exif"},
    {"taken": "2023-07-15T00:00:00", "taken_from": "name"},
)


@pytest.mark.parametrize(
    ("best", "other", "has_all"),
    [
        ({"rating": 5}, {"rating": 5}, True),
        ({"rating": 5}, {}, True),
        ({}, {"rating": 5}, False),
        ({"rating": 1}, {"rating": 5}, False),
        ({"color_label": "red"}, {"color_label": "green"}, False),
        ({"caption": "the sea"}, {"caption": "at the sea"}, False),
        ({"keywords": "a\nb"}, {"keywords": "a"}, True),
        (EXIF, EXIF, True),
        (EXIF, EXIF | {"taken": "2023-07-14T19:03:21"}, False),
        (EXIF, NAME, True),  # which a messenger gave it
        (NAME, EXIF, False),
        ({"latitude": 48.8577, "longitude": 2.295}, {"latitude": 48.857703, "longitude": 2.295}, True),
        ({"latitude": 48.8577, "longitude": 2.295}, {"latitude": 48.8577, "longitude": 2.395}, False),
    ],
)
def test_the_best_has_to_know_what_a_copy_knows(best: dict[str, Any], other: dict[str, Any], has_all: bool) -> None:
    """Not only that there is a rating, but which."""
    one, two = (
        photo(path)._replace(metadata=Metadata(40, 30, **of)) for path, of in (("/1.jpg", best), ("/2.jpg", other))
    )
    assert has_all_of(one, two) == has_all
