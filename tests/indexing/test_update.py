"""Updating an index of changing folders, with failing disks and encoders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SCENES, forbid, needs_torch, save_scenes
from hypothesis import given
from hypothesis import strategies as st
from indexes import MINI, StubEncoder, assert_as_new, contents, draw, encode_with, everything_at_once, touch
from PIL import Image
from tiny_models import save_tiny

from clipsearch.errors import (
    BadArgument,
    BadRequest,
    FolderOffline,
    IndexLocked,
    ModelMismatch,
    NoIndex,
    WeightsUnusable,
)
from clipsearch.images.rules import Rules
from clipsearch.images.scan import Unreadable
from clipsearch.indexing import pipeline, run
from clipsearch.indexing.read_file import Contents
from clipsearch.indexing.relocate import relocate
from clipsearch.indexing.update import Options, Progress, Report, update_index
from clipsearch.models import engines
from clipsearch.models.graph_encoders import FP32
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Offline, Store
from clipsearch.store.verify import repair


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[StubEncoder]:
    class Fresh(StubEncoder):
        loaded = 0
        batches: list[int] = []  # noqa: RUF012

    encode_with(monkeypatch, Fresh)
    return Fresh


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six photos, two of them in a folder of their own."""
    folder = tmp_path.resolve() / "photos"
    for n, name in enumerate(("a.png", "b.png", "c.png", "d.png", "sub/e.png", "sub/f.png")):
        draw(folder / name, n)
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


def counts(report: Report) -> dict[str, int]:
    """What a run did, without what it did not."""
    names = ("added", "duplicates", "updated", "moved", "removed", "unchanged", "embedded")
    found = {name: getattr(report, name) for name in names} | {"skipped": len(report.skipped)}
    return {name: count for name, count in found.items() if count}


def names(index: Path, folder: Path) -> list[str]:
    return sorted(os.path.relpath(os.fsdecode(path), folder) for path in contents(index))


# ------------------------------------------------------------------------------------------ what changed


def test_a_first_run_adds_everything(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    report = update_index(index, [photos], MINI)
    assert counts(report) == {"added": 6, "embedded": 6}
    assert report.model == "mini"
    assert names(index, photos) == ["a.png", "b.png", "c.png", "d.png", "sub/e.png", "sub/f.png"]
    assert len(set(contents(index).values())) == 6
    assert (stub.loaded, sum(stub.batches)) == (1, 6)
    assert report.seconds > 0
    assert report.images_per_second == pytest.approx(6 / report.seconds)


def touched(photos: Path) -> None:
    touch(photos / "a.png")


def changed(photos: Path) -> None:
    draw(photos / "a.png", 100)
    touch(photos / "a.png")


def new(photos: Path) -> None:
    draw(photos / "new.png", 100)


def renamed(photos: Path) -> None:
    (photos / "a.png").rename(photos / "z.png")


def folder_renamed(photos: Path) -> None:
    (photos / "sub").rename(photos / "other")


def copied(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "copy.png")


def copied_twice_and_renamed(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "copy.png")
    shutil.copy(photos / "a.png", photos / "sub/copy.png")
    (photos / "a.png").rename(photos / "z.png")


def swapped(photos: Path) -> None:
    (photos / "a.png").rename(photos / "t")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "t").rename(photos / "b.png")
    touch(photos / "a.png")
    touch(photos / "b.png")


def deleted(photos: Path) -> None:
    (photos / "a.png").unlink()
    (photos / "sub/e.png").unlink()


def all_deleted_but_one(photos: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (photos / f"{name}.png").unlink()
    (photos / "sub/e.png").unlink()


def replaced_and_moved_away(photos: Path) -> None:
    (photos / "a.png").rename(photos / "kept.png")
    draw(photos / "a.png", 100)
    touch(photos / "a.png")


def two_equal_new_ones(photos: Path) -> None:
    shutil.copy(draw(photos / "new.png", 100), photos / "new2.png")


def spoilt(photos: Path) -> None:
    (photos / "a.png").write_bytes(b"not an image at all")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda photos: None, {"unchanged": 6}),
        (touched, {"unchanged": 5, "updated": 1}),
        (changed, {"unchanged": 5, "updated": 1, "embedded": 1}),
        (new, {"unchanged": 6, "added": 1, "embedded": 1}),
        (renamed, {"unchanged": 5, "moved": 1}),
        (folder_renamed, {"unchanged": 4, "moved": 2}),
        (copied, {"unchanged": 6, "added": 1, "duplicates": 1}),
        (copied_twice_and_renamed, {"unchanged": 5, "moved": 1, "added": 2, "duplicates": 2}),
        (swapped, {"unchanged": 4, "updated": 2}),
        (deleted, {"unchanged": 4, "removed": 2}),
        (all_deleted_but_one, {"unchanged": 1, "removed": 5}),
        (replaced_and_moved_away, {"unchanged": 5, "updated": 1, "added": 1, "duplicates": 1, "embedded": 1}),
        (two_equal_new_ones, {"unchanged": 6, "added": 2, "duplicates": 1, "embedded": 1}),
        (spoilt, {"unchanged": 5, "skipped": 1}),
        (
            everything_at_once,
            {
                "unchanged": 2,
                "updated": 2,
                "moved": 1,
                "added": 2,
                "duplicates": 1,
                "removed": 1,
                "embedded": 2,
                "skipped": 1,
            },
        ),
    ],
)
def test_each_change_is_counted_and_the_index_is_as_if_made_anew(
    index: Path,
    photos: Path,
    tmp_path: Path,
    stub: type[StubEncoder],
    change: Callable[[Path], None],
    expected: dict[str, int],
) -> None:
    update_index(index, [photos], MINI)
    stub.loaded = 0
    change(photos)
    assert counts(update_index(index)) == expected
    # What was embedded before is not embedded again, and without anything to embed no model is loaded.
    assert stub.loaded == (1 if "embedded" in expected else 0)
    assert_as_new(index, photos, scratch=tmp_path / "scratch")
    left = counts(update_index(index))
    assert left.keys() <= {"unchanged", "skipped"}


def test_a_photo_may_move_between_roots(index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    other = tmp_path.resolve() / "a-root-before"
    other.mkdir()
    draw(other / "x.png", 50)
    update_index(index, [photos, other], MINI)
    (photos / "a.png").rename(other / "a.png")
    (other / "x.png").rename(photos / "x.png")
    assert counts(update_index(index)) == {"unchanged": 5, "moved": 2}
    assert_as_new(index, photos, other, scratch=tmp_path / "scratch")


def test_photos_move_to_the_path_under_which_a_linked_folder_is_walked(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    linked, rules = tmp_path / "linked", replace(MINI, follow_links=True)
    draw(linked / "g.png", 6)
    (photos / "z link").symlink_to(linked)
    assert update_index(index, [photos], rules).added == 7
    shutil.move(linked, photos / "real")
    (photos / "z link").unlink()
    (photos / "z link").symlink_to("real")
    (photos / "sub" / "link").symlink_to("../real")
    assert counts(update_index(index, [photos / "sub"])) == {"unchanged": 2}
    assert "z link/g.png" in names(index, photos)
    assert counts(update_index(index)) == {"unchanged": 6, "moved": 1}
    assert names(index, photos)[-2:] == ["sub/e.png", "sub/f.png"]
    assert "real/g.png" in names(index, photos)
    assert counts(update_index(index)) == {"unchanged": 7}


def test_photos_that_were_indexed_under_several_paths_of_a_folder_keep_one(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "a link").symlink_to("sub")
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.images.scan.Links.walks", lambda *_, **__: True)
        assert update_index(index, [photos], replace(MINI, follow_links=True)).added == 8
    (photos / "sub" / "e.png").unlink()
    assert counts(update_index(index)) == {"unchanged": 5, "moved": 1, "removed": 2}
    assert names(index, photos)[-1] == "sub/f.png"


def test_a_name_that_is_not_utf8_is_indexed(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    raw = os.fsencode(photos) + b"/caf\xe9\xff.png"
    os.rename(photos / "a.png", raw)
    update_index(index, [photos], MINI)
    assert raw in contents(index)
    assert counts(update_index(index)) == {"unchanged": 6}


def test_a_scan_in_two_runs_gives_the_same_as_one(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos / "sub"], MINI)
    report = update_index(index, [photos])
    assert counts(report) == {"unchanged": 2, "added": 4, "embedded": 4}
    assert_as_new(index, photos, scratch=tmp_path / "scratch")
    with Store.open(index) as one, Store.open(tmp_path / "scratch") as other:
        query = np.frombuffer(next(iter(contents(index).values())), np.float16).astype(np.float32)
        ranked = [
            [
                {photo.file: photo.content for photo in store.photos_of([i])}
                for i in store.vectors.nearest(query, 6)[0].tolist()
            ]
            for store in (one, other)
        ]
        assert ranked[0] == ranked[1]


# ------------------------------------------------------------------------------------------ files that cannot be read


def test_broken_files_are_skipped_with_a_reason_and_tried_again_only_when_they_change(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "empty.png").touch()
    (photos / "text.png").write_bytes(b"this is not a picture")
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    report = update_index(index, [photos], MINI)
    reasons = {Path(os.fsdecode(path)).name: reason for path, reason in report.skipped}
    assert reasons.keys() == {"empty.png", "text.png", "cut.png", "gone.png"}
    assert reasons["empty.png"] == "empty file"
    assert reasons["gone.png"] == "broken link"
    assert all(reasons.values())
    assert counts(report) == {"added": 6, "embedded": 6, "skipped": 4}

    opened = []
    real = run.read_file

    def counted(path: bytes, *rest: Any) -> Contents:
        opened.append(Path(os.fsdecode(path)).name)
        return real(path, *rest)

    monkeypatch.setattr(run, "read_file", counted)
    again = update_index(index)
    assert (again.skipped, sorted(again.skipped_before)) == ([], sorted(report.skipped))
    assert opened == []
    assert sorted(update_index(index, options=Options(retry=True)).skipped) == sorted(report.skipped)
    assert sorted(opened) == ["cut.png", "text.png"]  # the others are known to be no images without being read
    (photos / "cut.png").write_bytes(draw(photos.parent / "other.png", 70).read_bytes())
    mended = update_index(index)
    assert counts(mended) == {"unchanged": 6, "updated": 1, "embedded": 1}
    assert len(mended.skipped_before) == 3


def test_an_index_of_nothing_but_broken_files_is_an_index(index: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/text.png").write_bytes(b"this is not a picture")
    assert counts(update_index(index, [tmp_path / "photos"], MINI)) == {"skipped": 1}
    assert stub.loaded == 0
    assert [reason for _, reason in update_index(index).skipped_before] == ["not an image that can be read"]


def test_an_image_without_an_embedding_is_skipped(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_hole(self: StubEncoder, pixels: np.ndarray) -> np.ndarray:
        rows = real(self, pixels)
        rows[1] = np.nan
        return rows

    real = StubEncoder.encode_images
    monkeypatch.setattr(stub, "encode_images", with_a_hole)
    shutil.copy(photos / "b.png", photos / "b-again.png")
    report = update_index(index, [photos], MINI)
    assert counts(report) == {"added": 5, "embedded": 5, "skipped": 2}
    assert {reason for _, reason in report.skipped} == {"the model returned no valid embedding"}


def test_a_folder_that_cannot_be_listed_keeps_its_photos(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    (photos / "a.png").unlink()
    with monkeypatch.context() as patch:
        forbid(patch, photos / "sub")
        report = update_index(index)
    assert counts(report) == {"unchanged": 3, "removed": 1}
    assert report.unreadable == [(os.fsencode(photos / "sub"), "permission denied")]
    before.pop(os.fsencode(photos / "a.png"))
    assert contents(index) == before
    with monkeypatch.context() as patch:
        forbid(patch, photos)
        report = update_index(index)
    assert counts(report) == {}
    assert contents(index) == before


# ------------------------------------------------------------------------------------------ folders


def test_an_offline_root_keeps_its_photos(index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    other = tmp_path.resolve() / "drive"
    draw(other / "x.png", 50)
    update_index(index, [photos, other], MINI)
    before = contents(index)
    other.rename(tmp_path / "unmounted")
    report = update_index(index)
    assert report.offline == [(os.fsencode(other), Offline.MISSING)]
    assert counts(report) == {"unchanged": 6}
    assert contents(index) == before
    (tmp_path / "unmounted").rename(other)
    report = update_index(index)
    assert (report.offline, counts(report)) == ([], {"unchanged": 7})


def unmount(folder: Path) -> None:
    """Leave an empty folder where one with photos was."""
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()


def test_a_root_that_is_suddenly_empty_keeps_its_photos(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    unmount(photos)
    report = update_index(index)
    assert (report.offline, counts(report)) == ([(os.fsencode(photos), Offline.EMPTY)], {})
    assert contents(index) == before


def test_an_empty_folder_can_be_indexed(index: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    (tmp_path / "empty").mkdir()
    report = update_index(index, [tmp_path / "empty"], MINI)
    assert (report.offline, counts(report)) == ([], {})


def test_a_file_that_cannot_be_looked_at_keeps_its_embedding(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    look_at = run.scan.__globals__["_look_at"]

    def refuse(path: bytes, entry: Any) -> Any:
        return Unreadable(path, "permission denied") if path == b"a.png" else look_at(path, entry)

    monkeypatch.setitem(run.scan.__globals__, "_look_at", refuse)
    report = update_index(index)
    assert report.unreadable == [(os.fsencode(photos / "a.png"), "permission denied")]
    assert counts(report) == {"unchanged": 5}
    assert contents(index) == before


def test_a_root_is_only_absorbed_by_a_folder_that_leaves_out_the_same(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos / "sub"], Options(model="mini", hidden=True))
    with pytest.raises(BadRequest, match=r"was indexed with a different hidden; index .* with the same, or forget"):
        update_index(index, [photos])
    update_index(index, [photos], Options(hidden=True))
    assert len(contents(index)) == 6


def test_a_folder_around_an_offline_root_is_refused(index: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    media = tmp_path.resolve() / "media"
    draw(media / "drive/x.png", 50)
    draw(media / "y.png", 51)
    update_index(index, [media / "drive"], MINI)
    before = contents(index)
    (media / "drive").rename(tmp_path / "unmounted")
    with pytest.raises(FolderOffline, match=r"drive is not there; indexing .*media now would lose its photos"):
        update_index(index, [media])
    assert contents(index) == before


def test_a_folder_around_an_empty_mount_point_is_refused(index: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    camera = tmp_path.resolve() / "media/cam"
    for n in range(3):
        draw(camera / f"{n}.png", n)
    update_index(index, [camera], MINI)
    before = contents(index)
    for photo in list(camera.iterdir()):  # the card is taken out: what it was mounted on is empty
        photo.unlink()
    with pytest.raises(BadRequest, match=r"cam has none of its photos any more; indexing .*media now would"):
        update_index(index, [camera.parent])
    assert contents(index) == before
    for n in range(3):
        draw(camera / f"{n}.png", n)
    update_index(index, [camera.parent])
    assert contents(index) == before


def test_a_folder_in_a_known_root_updates_only_that_part(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    draw(photos / "new.png", 60)
    (photos / "a.png").unlink()
    draw(photos / "sub/new.png", 61)
    (photos / "sub/e.png").unlink()
    report = update_index(index, [photos / "sub"])
    assert counts(report) == {"unchanged": 1, "added": 1, "removed": 1, "embedded": 1}
    assert names(index, photos) == ["a.png", "b.png", "c.png", "d.png", "sub/f.png", "sub/new.png"]
    with Store.open(index) as store:
        assert [root.path for root in store.roots()] == [os.fsencode(photos)]


def test_a_folder_above_known_roots_absorbs_them_without_embedding_again(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    top = photos.parent / "top"
    top.mkdir()
    photos = photos.rename(top / "photos")
    draw(top / "drive/x.png", 50)
    update_index(index, [photos, top / "drive"], MINI)
    before = contents(index)
    report = update_index(index, [top])
    assert counts(report) == {"unchanged": 7}
    assert contents(index) == before
    with Store.open(index) as store:
        assert [root.path for root in store.roots()] == [os.fsencode(top)]


def test_folders_given_together_with_a_folder_around_them_are_scanned_once(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    report = update_index(index, [photos / "sub", photos, photos / "sub" / ".." / "sub", photos], MINI)
    assert counts(report) == {"added": 6, "embedded": 6}
    assert counts(update_index(index, [photos / "sub", photos])) == {"unchanged": 6}


def test_a_folder_that_is_not_there_is_refused_before_anything_is_made(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    with pytest.raises(BadRequest, match=r"there is no folder .*nowhere"):
        update_index(index, [photos, photos / "nowhere"], MINI)
    assert not index.exists()
    with pytest.raises(NoIndex):
        update_index(index)
    assert not index.exists()


def test_what_a_scan_leaves_out_is_remembered(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    draw(photos / ".hidden/h.png", 80)
    outside = draw(photos.parent / "outside/o.png", 81).parent
    (photos / "link").symlink_to(outside)
    update_index(index, [photos], Options(model="mini", hidden=True, follow_links=True, exclude=("sub", "b.*")))
    chosen = [".hidden/h.png", "a.png", "c.png", "d.png", "link/o.png"]
    assert names(index, photos) == chosen
    assert counts(update_index(index)) == {"unchanged": 5}
    assert counts(update_index(index, [photos])) == {"unchanged": 5}
    # Each is changed alone.
    update_index(index, [photos], Options(exclude=()))
    assert names(index, photos) == sorted([*chosen, "b.png", "sub/e.png", "sub/f.png"])
    update_index(index, options=Options(hidden=False))
    assert names(index, photos) == ["a.png", "b.png", "c.png", "d.png", "link/o.png", "sub/e.png", "sub/f.png"]
    update_index(index, options=Options(follow_links=False))
    assert names(index, photos) == ["a.png", "b.png", "c.png", "d.png", "sub/e.png", "sub/f.png"]


def test_a_folder_in_a_root_is_scanned_as_the_root_is(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    draw(photos / ".hidden/h.png", 80)
    update_index(index, [photos], Options(model="mini", exclude=("sub",)))
    with pytest.raises(BadRequest, match=f"set them for {photos}"):
        update_index(index, [photos / "sub"], Options(hidden=True))
    for folder in (".hidden", "sub"):
        with pytest.raises(BadRequest, match=f"{folder} is excluded from the indexed folder {photos}"):
            update_index(index, [photos / folder])
    assert counts(update_index(index)) == {"unchanged": 4}


def listing(folder: Path) -> list[tuple[str, int, int, int]]:
    return sorted((str(p), (s := p.lstat()).st_mtime_ns, s.st_size, s.st_mode) for p in [folder, *folder.rglob("*")])


def test_photo_folders_are_never_written_to(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    (photos / "broken.png").write_bytes(b"this is not a picture")
    before = listing(photos)
    update_index(index, [photos], MINI)
    update_index(index, options=Options(retry=True))
    update_index(index, options=Options(rebuild=True))
    assert listing(photos) == before


# ------------------------------------------------------------------------------------------ models


def test_a_run_with_nothing_new_loads_no_encoder(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    stub.loaded = 0
    update_index(index, [photos], MINI)
    update_index(index, options=Options(retry=True))
    assert stub.loaded == 0


def test_another_model_is_refused_and_rebuild_named(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    draw(photos / "new.png", 60)
    with pytest.raises(ModelMismatch, match="was built with mini, not RN50/openai"):
        update_index(index, options=Options(model="RN50/openai"))
    assert contents(index) == before


@needs_torch
def test_weights_that_do_not_fit_leave_no_index_behind(index: Path, photos: Path) -> None:
    with pytest.raises(WeightsUnusable, match=r"^the weights .* do not fit RN50: .*$"):
        update_index(index, [photos], Options(model="RN50", weights=mini().weights))
    assert not index.exists()


def test_weights_that_do_not_fit_any_more_leave_the_index_as_it_was(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WeightsUnusable("the weights do not fit")

    update_index(index, [photos], MINI)
    before = contents(index)
    draw(photos / "new.png", 60)
    encode_with(monkeypatch, refuse)
    with pytest.raises(WeightsUnusable, match="do not fit"):
        update_index(index)
    assert contents(index) == before


def test_a_second_run_at_the_same_time_is_refused(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    with Store.open(index, write=True), pytest.raises(IndexLocked):
        update_index(index)


# ------------------------------------------------------------------------------------------ rebuilding


def test_a_rebuild_embeds_everything_again_and_gives_the_same(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos], Options(model="mini", exclude=("b.*",)))
    before = contents(index)
    stub.batches.clear()
    report = update_index(index, options=Options(rebuild=True))
    assert counts(report) == {"added": 5, "embedded": 5}
    assert sum(stub.batches) == 5
    assert contents(index) == before
    with Store.open(index) as store:
        assert store.roots()[0].rules == Rules(exclude=("b.*",))
    assert counts(update_index(index)) == {"unchanged": 5}


def test_a_rebuild_may_add_folders(index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    other = draw(tmp_path.resolve() / "other/x.png", 50).parent
    update_index(index, [photos], MINI)
    assert counts(update_index(index, [other], Options(rebuild=True))) == {"added": 7, "embedded": 7}
    assert_as_new(index, photos, other, scratch=tmp_path / "scratch")


def test_a_rebuild_is_refused_while_a_root_is_suddenly_empty(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    unmount(photos)
    with pytest.raises(BadRequest, match="a rebuild now would lose its photos"):
        update_index(index, options=Options(rebuild=True))
    assert contents(index) == before


def test_a_rebuild_is_refused_when_a_folder_cannot_be_read(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    forbid(monkeypatch, photos / "sub")
    with pytest.raises(BadRequest, match=r"sub/e.png cannot be read \(permission denied\); .* 2 photos, so the index"):
        update_index(index, options=Options(rebuild=True))
    monkeypatch.undo()
    assert contents(index) == before


def test_a_file_with_an_impossible_time_is_indexed(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    os.utime(photos / "a.png", (99_999_999_999, 99_999_999_999))
    assert update_index(index, [photos], MINI).added == 6
    assert counts(update_index(index)) == {"unchanged": 6}


def test_a_file_that_is_too_large_to_read_is_skipped(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    with (photos / "huge.png").open("wb") as file:
        file.truncate(3 << 30)
    report = update_index(index, [photos], MINI)
    assert report.skipped == [(os.fsencode(photos / "huge.png"), "too large: 3 GB")]


def test_only_its_own_files_are_cleaned_up(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    index.mkdir()
    for name in ("vectors-logo.svg", "vectors-1.faiss.tmp", "vectors-999.faiss"):
        (index / name).touch()
    update_index(index, [photos], MINI)
    left = {path.name for path in index.iterdir()} - {"catalogue.sqlite", "writer.lock"}
    assert left == {"vectors-logo.svg", "vectors-1.faiss"}


def test_a_rebuild_is_refused_while_a_root_is_offline(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    photos.rename(photos.with_name("unmounted"))
    with pytest.raises(FolderOffline, match="photos is not there; a rebuild now would lose its photos"):
        update_index(index, options=Options(rebuild=True))
    assert contents(index) == before


def test_a_rebuild_that_fails_leaves_the_old_index(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    stub.fail_at = len(stub.batches) + 2
    with pytest.raises(RuntimeError, match="out of memory"):
        update_index(index, options=Options(rebuild=True, batch_size=2, workers=1))
    assert contents(index) == before
    assert not list(index.glob("rebuilt*"))
    assert counts(update_index(index)) == {"unchanged": 6}


# ------------------------------------------------------------------------------------------ interruptions, batches


@pytest.mark.parametrize("commit_seconds", [0.0, 1000.0])
@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_an_encoder_that_fails_leaves_an_index_that_the_next_run_completes(
    index: Path,
    photos: Path,
    tmp_path: Path,
    stub: type[StubEncoder],
    monkeypatch: pytest.MonkeyPatch,
    fail_at: int,
    commit_seconds: float,
) -> None:
    for n in range(10):
        draw(photos / f"more/{n}.png", 200 + n)
    shutil.copy(photos / "a.png", photos / "z.png")
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", commit_seconds)
    stub.fail_at = fail_at
    with pytest.raises(RuntimeError, match="out of memory"):
        update_index(index, [photos], Options(model="mini", batch_size=4, workers=1))
    with Store.open(index, write=True) as store:
        assert repair(store) == []
        kept = store.images.count()
    embedded = sum(stub.batches)
    assert kept == embedded if commit_seconds == 0 else kept <= embedded
    stub.fail_at = None
    report = update_index(index, [photos])
    assert report.embedded == 16 - kept
    assert report.added + report.unchanged == 17
    assert_as_new(index, photos, scratch=tmp_path / "scratch")


def test_folders_are_known_from_the_first_moment(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    stub.fail_at = 0
    with pytest.raises(RuntimeError):
        update_index(index, [photos], MINI)
    stub.fail_at = None
    assert counts(update_index(index)) == {"added": 6, "embedded": 6}


def test_an_interrupted_update_of_moved_and_changed_files_is_completed(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    everything_at_once(photos)
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", 0.0)
    stub.fail_at = len(stub.batches) + 1
    with pytest.raises(RuntimeError, match="out of memory"):
        update_index(index, options=Options(batch_size=1, workers=1))
    stub.fail_at = None
    update_index(index)
    assert_as_new(index, photos, scratch=tmp_path / "scratch")


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (2, 3), (5, 1), (6, None), (100, 8)])
def test_batches_and_threads_do_not_change_the_index(
    index: Path, photos: Path, tmp_path: Path, stub: type[StubEncoder], batch_size: int, workers: int | None
) -> None:
    shutil.copy(photos / "a.png", photos / "b-copy.png")
    (photos / "broken.png").write_bytes(b"this is not a picture")
    report = update_index(index, [photos], Options(model="mini", batch_size=batch_size, workers=workers))
    assert counts(report) == {"added": 7, "duplicates": 1, "embedded": 6, "skipped": 1}
    assert (sum(stub.batches), max(stub.batches) <= batch_size) == (6, True)  # fewer at once while a decoder is slow
    assert_as_new(index, photos, scratch=tmp_path / "scratch")


def test_batch_sizes_do_not_change_the_embeddings_of_a_real_model(tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "photos"
    save_scenes(folder, 7)
    rows = []
    for batch_size in (1, 3, 7):
        options = Options(model="mini", precision="fp32", batch_size=batch_size)
        assert update_index(tmp_path / f"index{batch_size}", [folder], options).embedded == 7
        found = contents(tmp_path / f"index{batch_size}")
        rows.append(np.stack([np.frombuffer(found[path], np.float16).astype(np.float32) for path in sorted(found)]))
    np.testing.assert_allclose(np.linalg.norm(rows[0], axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-3)
    np.testing.assert_allclose(rows[2], rows[0], atol=1e-3)
    assert np.abs(rows[0] @ rows[0].T - np.eye(7)).max() < 0.9999  # different pictures, different rows


def test_metadata_are_kept(index: Path, tmp_path: Path, stub: type[StubEncoder]) -> None:
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0132], exif[0x0110], exif[0x0112] = "2021:02:03 04:05:06", "Camera", 6
    SCENES[0].image.resize((60, 40)).save(tmp_path / "photos/a.jpg", exif=exif)
    update_index(index, [tmp_path / "photos"], MINI)
    with Store.open(index) as store:
        [photo] = store.photos_of([1])
    image = photo.metadata
    assert (image.width, image.height, image.taken, image.camera) == (40, 60, "2021-02-03T04:05:06", "Camera")


# ------------------------------------------------------------------------------------------ progress


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_progress_only_grows_and_ends_at_the_total(
    index: Path, photos: Path, stub: type[StubEncoder], batch_size: int
) -> None:
    for n in range(300):
        shutil.copy(photos / "a.png", photos / f"copy{n}.png")
    steps: list[Progress] = []
    update_index(index, [photos], Options(model="mini", batch_size=batch_size), steps.append)
    stages = [step.stage for step in steps]
    assert stages == sorted(stages, key=["scan", "index"].index)
    assert [step.done for step in steps if step.stage == "scan"] == [256]
    done = [step.done for step in steps if step.stage == "index"]
    assert done == sorted(done)
    assert done[0] >= 0
    assert done[-1] == 306
    assert {step.total for step in steps if step.stage == "index"} == {306}
    assert {step.total for step in steps if step.stage == "scan"} == {None}


def test_a_run_with_nothing_new_reports_no_indexing(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], MINI)
    steps: list[Progress] = []
    update_index(index, on_progress=steps.append)
    assert not [step for step in steps if step.stage == "index"]


def test_few_photos_are_embedded_in_numpy(
    index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same result; another precision than fp32 is used when it is asked for."""
    update_index(index, [photos], MINI)
    monkeypatch.setattr(run, "FEW", 0)
    other = tmp_path / "other"
    update_index(other, [photos], MINI)
    found = [contents(folder) for folder in (index, other)]
    rows = [np.stack([np.frombuffer(one[path], "<f2").astype(np.float32) for path in sorted(one)]) for one in found]
    assert rows[0].shape == (6, mini().dim)
    assert (rows[0] * rows[1]).sum(1).min() > 0.999
    monkeypatch.setattr(run, "FEW", 16)
    monkeypatch.setattr(run, "numpy_encoder", lambda *_, **__: pytest.fail("not in fp32"))
    with pytest.raises(BadArgument, match="choose from fp32"):
        update_index(tmp_path / "third", [photos], replace(MINI, precision="int8"))


def test_a_report_says_which_engine_was_used(
    index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(MINI, batch_size=1)
    assert update_index(index, [photos], few).engine == FP32
    assert update_index(index).engine is None
    monkeypatch.setattr(run, "FEW", 0)
    assert str(update_index(index, [photos], replace(few, rebuild=True)).engine) == "onnxruntime fp32"
    other = tmp_path / "tiny"
    model = f"local-dir:{save_tiny(tmp_path / 'model').weights.parent}"
    report = update_index(other, [photos], Options(model=model, batch_size=1))
    assert (report.engine, report.disagreed) == (FP32, [])
    monkeypatch.setattr(engines, "MIN_COSINE", 1.5)
    report = update_index(other, [photos], Options(model=model, batch_size=1, rebuild=True))
    assert all(engine.precision.startswith("int") for engine, _ in report.disagreed)
    assert report.disagreed


def test_a_report_says_where_the_time_went(index: Path, photos: Path) -> None:
    report = update_index(index, [photos], MINI)
    assert list(report.stages) == ["scan", "read", "decode", "resize", "load", "encode", "wait", "store"]
    assert all(seconds > 0 for seconds in report.stages.values())
    waited = ("scan", "load", "wait", "store")  # of one thread, one after the other
    assert sum(report.stages[stage] for stage in waited) <= report.seconds


# ------------------------------------------------------------------------------------------ what times do not show


@pytest.mark.skipif(os.name == "nt", reason="there is no time of change")
def test_a_change_that_keeps_size_and_modification_time_is_seen(
    index: Path, tmp_path: Path, stub: type[StubEncoder]
) -> None:
    """As `exiftool -P` leaves a photo that it has turned."""
    path = tmp_path.resolve() / "photos/a.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 1
    SCENES[0].image.resize((60, 40)).save(path, exif=exif)
    update_index(index, [path.parent], MINI)
    before, status = contents(index), path.stat()
    data = path.read_bytes()
    at = data.index(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01") + 9
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x06")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert counts(update_index(index)) == {"updated": 1, "embedded": 1}
    assert contents(index) != before
    with Store.open(index) as store:
        [photo] = store.by_path(store.select())
        assert (photo.metadata.width, photo.metadata.height) == (40, 60)


@pytest.mark.skipif(os.name == "nt", reason="there is no time of change")
def test_a_file_whose_permissions_change_is_read_and_not_embedded_again(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    update_index(index, [photos], MINI)
    stub.loaded = 0
    for path in photos.rglob("*.png"):
        path.chmod(0o600)
    assert counts(update_index(index)) == {"unchanged": 6}
    assert stub.loaded == 0
    with Store.open(index) as store:
        known = {known.path: known.ctime_ns for root in store.roots() for known in store.photos.known(root)}
    assert known[b"a.png"] == (photos / "a.png").stat().st_ctime_ns  # so that it is not read a third time


@pytest.mark.skipif(os.name == "nt", reason="there is no time of change")
def test_a_file_that_may_not_be_read_any_more_keeps_its_embedding(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    before = contents(index)
    (photos / "a.png").chmod(0)
    with monkeypatch.context() as patch:
        patch.setattr(run, "read_file", lambda *_: Contents(error="permission denied", unread=True))
        report = update_index(index)
    assert report.unreadable == [(os.fsencode(photos / "a.png"), "permission denied")]
    assert counts(report) == {"unchanged": 5}
    assert contents(index) == before
    (photos / "a.png").chmod(0o600)
    assert counts(update_index(index)) == {"unchanged": 6}


def test_a_skipped_file_is_new_in_one_run_alone(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is read again: because its time of change is another, or because it could not be read."""
    (photos / "text.png").write_bytes(b"no picture")
    (photos / "closed.png").write_bytes(b"no picture either")
    real = run.read_file

    def read(path: bytes, *rest: Any) -> Contents:
        closed = Contents(error="permission denied", unread=True)
        return closed if path.endswith(b"closed.png") else real(path, *rest)

    monkeypatch.setattr(run, "read_file", read)
    assert len(update_index(index, [photos], MINI).skipped) == 2
    (photos / "text.png").chmod(0o600)
    for _ in range(2):
        report = update_index(index)
        assert (report.skipped, len(report.skipped_before)) == ([], 2)
    (photos / "text.png").write_bytes(b"no picture once more")
    assert update_index(index).skipped == [(os.fsencode(photos / "text.png"), "not an image that can be read")]


def test_every_file_is_looked_at_again_when_asked_for(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(index, [photos], MINI)
    read: list[bytes] = []
    real = run.read_file
    monkeypatch.setattr(run, "read_file", lambda path, *rest: read.append(path) or real(path, *rest))
    assert counts(update_index(index)) == {"unchanged": 6}
    assert read == []
    assert counts(update_index(index, options=Options(look_again=True))) == {"unchanged": 6}
    assert len(read) == 6


# ------------------------------------------------------------------------------------------ what is left out


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("sub/", 4),
        ("/sub", 4),
        ("sub", 4),
        ("**/sub/**", 4),
        ("./sub", 4),
        ("{root}/sub", 4),
        ("{root}/sub/", 4),
        ("sub/e.png", 5),
        ("*.png", 0),
        ("[ab].png", 4),
        ("/e.png", 6),
        ("nothing", 6),
    ],
)
def test_patterns_are_those_of_gitignore(
    index: Path, photos: Path, stub: type[StubEncoder], pattern: str, left: int
) -> None:
    spelt = pattern.format(root=photos)
    report = update_index(index, [photos], Options(model="mini", exclude=(spelt,)))
    assert report.added == left
    assert report.unmatched == ([spelt] if left == 6 else [])


def test_a_pattern_without_a_meaning_is_refused_before_anything_is_made(index: Path, photos: Path) -> None:
    with pytest.raises(BadRequest, match="exclude has an invalid pattern: '!'"):
        update_index(index, [photos], Options(model="mini", exclude=("!",)))
    assert not index.exists()


def test_a_pattern_had_no_chance_where_not_all_was_looked_at(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    other = draw(photos.parent / "other/x.gif", 50).parent
    report = update_index(index, [photos, other], Options(model="mini", exclude=("*.gif", "none")))
    assert report.unmatched == ["none"]
    assert update_index(index).unmatched == []  # it is said when it is given
    assert update_index(index, [photos / "sub"], Options(exclude=("*.gif", "none"))).unmatched == []
    other.rename(other.with_name("unmounted"))
    assert update_index(index, options=Options(exclude=("*.gif",))).unmatched == []


def test_a_later_pattern_may_take_back_an_earlier_one(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    update_index(index, [photos], Options(model="mini", exclude=("*.png", "!a.png")))
    assert names(index, photos) == ["a.png"]


def test_photos_without_an_ending_are_known_by_their_first_bytes(
    index: Path, photos: Path, stub: type[StubEncoder]
) -> None:
    (photos / "a.png").rename(photos / "no ending")
    (photos / "notes").write_text("no photo")
    assert update_index(index, [photos], MINI).added == 5
    assert counts(update_index(index, options=Options(any_name=True))) == {"unchanged": 5, "added": 1, "embedded": 1}
    assert counts(update_index(index)) == {"unchanged": 6}  # which is remembered
    assert "no ending" in names(index, photos)
    assert counts(update_index(index, options=Options(any_name=False))) == {"unchanged": 5, "removed": 1}


def test_a_file_in_the_place_of_a_folder_is_said_to_be_one(index: Path, photos: Path) -> None:
    with pytest.raises(BadRequest, match=r"a\.png is a file, not a folder"):
        update_index(index, [photos / "a.png"], MINI)


SETTINGS = [
    *({"raw": False}, {"raw": True}, {"video": False}, {"video": True}, {"exclude": ("*.png",)}, {"exclude": ()}),
    *({"hidden": True}, {"raw": False, "exclude": ("b.*",)}, {"raw": True, "video": False, "exclude": ()}),
]


@given(st.lists(st.sampled_from(SETTINGS), max_size=6))
def test_a_setting_changes_no_other(given: list[dict[str, object]]) -> None:
    rules, expected = Rules(), Rules()._asdict()
    for options in given:
        rules = Options(**options).rules(rules, b"/photos", [])
        expected |= options
        assert rules._asdict() == expected


def test_raw_files_and_videos_stay_left_out_whatever_is_excluded_later(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.images.kinds._can_read", lambda extra: True)
    for name in ("x.nef", "x.mov"):
        (photos / name).write_bytes(b"no photo")

    def skipped(*folders: Path, **options: object) -> set[str]:
        report = update_index(index, folders, Options(model="mini", **options))
        return {os.path.basename(os.fsdecode(path)) for path, _ in (*report.skipped, *report.skipped_before)}

    assert skipped(photos, raw=False, video=False) == set()
    assert skipped(exclude=("b.png",)) == set()
    assert skipped(exclude=()) == set()
    assert skipped(video=True) == {"x.mov"}
    assert skipped(exclude=("*.mov",)) == set()
    assert skipped(raw=True) == {"x.nef"}
    assert skipped(exclude=()) == {"x.nef", "x.mov"}


def test_a_path_that_is_left_out_stays_so_wherever_later_runs_start(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(photos / "[ab]/x.png", 70)
    draw(photos / "a/y.png", 71)
    monkeypatch.chdir(photos.parent)
    report = update_index(index, [photos], Options(model="mini", exclude=("./photos/[ab]", "./photos/sub/")))
    assert report.unmatched == []
    left = ["a.png", "a/y.png", "b.png", "c.png", "d.png"]
    assert names(index, photos) == left
    monkeypatch.chdir("/")
    assert counts(update_index(index, [photos])) == {"unchanged": 5}
    moved = photos.rename(photos.with_name("elsewhere"))
    relocate(index, photos, moved)
    assert counts(update_index(index)) == {"unchanged": 5}
    assert counts(update_index(index, options=Options(rebuild=True))) == {"added": 5, "embedded": 5}
    assert names(index, moved) == left


def test_a_path_that_is_gone_does_not_become_a_pattern(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    gone = draw(photos / "[a].png", 70)
    again = Options(model="mini", exclude=(str(gone),))
    assert update_index(index, [photos], again).added == 6
    gone.unlink()
    report = update_index(index, [photos], again)
    assert (counts(report), report.unmatched) == ({"unchanged": 6}, [str(gone)])
    away = photos.rename(photos.with_name("unmounted"))
    update_index(index, (), again)
    away.rename(photos)
    assert counts(update_index(index)) == {"unchanged": 6}


def test_a_path_in_one_root_leaves_nothing_out_of_another(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    other = draw(photos.parent / "other/sub/x.png", 50).parent.parent
    report = update_index(index, [photos, other], Options(model="mini", exclude=(f"{photos}/sub",)))
    assert (report.added, report.unmatched) == (5, [])
    with Store.open(index) as store:
        assert {root.path: root.rules.exclude for root in store.roots()} == {
            os.fsencode(photos): ("/sub",),
            os.fsencode(other): (),
        }


@pytest.mark.parametrize("given", ["{top}/outside", "./outside", "~/outside", "{top}/photos", "{top}", "."])
def test_a_path_in_no_root_is_said_to_leave_nothing_out(
    index: Path, photos: Path, stub: type[StubEncoder], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    draw(photos.parent / "outside/x.png", 50)
    monkeypatch.setenv("HOME", str(photos.parent))
    monkeypatch.chdir(photos.parent)
    spelt = given.format(top=photos.parent)
    report = update_index(index, [photos], Options(model="mini", exclude=(spelt,)))
    assert (report.added, report.unmatched) == (6, [spelt])


def test_a_folder_takes_in_another_that_leaves_out_the_same(index: Path, photos: Path, stub: type[StubEncoder]) -> None:
    private = f"{photos}/sub/"
    update_index(index, [photos], Options(model="mini", exclude=(private,)))
    with pytest.raises(BadRequest, match="was indexed with a different exclude"):
        update_index(index, [photos.parent], Options(exclude=("*.gif",)))
    report = update_index(index, [photos.parent], Options(exclude=(private,)))
    assert (report.unchanged, report.unmatched) == (4, [])
