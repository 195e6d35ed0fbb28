"""The public Python API: what it contains, and that it contains nothing else."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SCENES, save_scenes
from PIL import Image

import clipsearch
from clipsearch import Filter, Options, errors
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.models.engines import ChoosingEncoder
from clipsearch.search import embed
from clipsearch.store.catalogue import CATALOGUE

MINI = Options(model="mini")


def test_the_public_surface_is_this() -> None:
    assert set(clipsearch.__all__) == {
        *("Circle", "ClipsearchError", "Copy", "Filter", "Hit", "Index", "Labelled", "Limits", "Options", "Photo"),
        *("Progress", "Question", "Report", "Status", "Term", "Vlm", "__version__", "open_index"),
    }
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name).__doc__
    with pytest.raises(AttributeError):
        clipsearch.nothing  # noqa: B018
    assert clipsearch.__version__.count(".") == 2
    assert (Path(clipsearch.__file__).parent / "py.typed").is_file()
    public = {name for name in dir(clipsearch.Index) if not name.startswith("_")}
    names = """
        add_concept advice answers ask ask_each captions close concepts confirmed confirmed_faces count_labels
        detect duplicates embed_images embed_texts end_snapshot evaluate faces faces_of facets folder folders
        forget forget_gone frames is_being_written keeps_people label label_each label_photo left_out lines
        list_part list_position locate map_clusters model_fingerprint months name_photos offline people people_changes
        photo_at photo_list photos photos_named photos_with positions publish query relocate saved_searches
        similar status suggestions text towns update verify version watch why with_detections writing
    """
    assert public == set(names.split())


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return save_scenes(tmp_path.resolve() / "photos", 8)


@pytest.fixture
def index(tmp_path: Path, photos: list[Path]) -> Iterator[clipsearch.Index]:
    """An open index of eight photos."""
    with clipsearch.open_index(tmp_path / "index") as opened:
        opened.update(tmp_path / "photos", MINI)
        yield opened


def test_an_index_is_made_asked_and_brought_up_to_date(tmp_path: Path, photos: list[Path]) -> None:
    seen: list[clipsearch.Progress] = []
    with clipsearch.open_index(tmp_path / "index") as index:
        report = index.update([tmp_path / "photos"], MINI, on_progress=seen.append)
        assert isinstance(report, clipsearch.Report)
        assert report.added == 8
        assert seen[-1].done == seen[-1].total == 8
        hits = index.query(images=[photos[3]], without=["2:" + SCENES[5].captions[0]], k=3)
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert isinstance(hits[0], clipsearch.Hit)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert index.query(images=photos[3], with_self=True)[0].path == photos[3]
        assert index.query(SCENES[2].captions[0], filter=Filter(under=str(tmp_path / "photos")), min_score=1) == []
        photos[3].unlink()
        assert photos[3] not in [hit.path for hit in index.query(images=photos[4])]
        assert index.update().removed == 1  # while it is open
        assert index.status().photos == 7
        assert len(index.query(SCENES[0].captions[0])) == 7


def test_twenty_questions_load_the_model_once(
    index: clipsearch.Index, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    real = embed.cold_encoder
    monkeypatch.setattr(embed, "cold_encoder", lambda *a, **k: loaded.append(k) or real(*a, **k))
    for n in range(20):
        index.query(f"{n} new words of {os.getpid()}")
        index.label([f"label {n} of {os.getpid()}", "a star"])
        index.embed_texts(f"{n} more words of {os.getpid()}")
    assert loaded == [{"texts": True, "images": False}]
    for turn in range(5):
        index.query(images=Image.new("RGB", (64, 64), (turn, 0, 0)))
    assert len(loaded) == 2


def test_an_open_index_keeps_no_moment_of_the_catalogue_between_calls(index: clipsearch.Index) -> None:
    index.query("a red circle")
    with contextlib.closing(sqlite3.connect(index.folder / CATALOGUE)) as writer:
        writer.execute("UPDATE meta SET value = value WHERE key = 'generation'")
        writer.commit()
        busy, *_ = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy
    assert index.query("a red circle")


def test_an_open_index_sees_what_others_write(index: clipsearch.Index, tmp_path: Path, photos: list[Path]) -> None:
    before = index.query(SCENES[0].captions[0], k=100)
    save_scenes(tmp_path / "photos", 4, first=8)
    command = [sys.executable, "-m", "clipsearch", "index", "--index", str(index.folder), "-q"]
    subprocess.run(command, check=True)
    after = index.query(SCENES[0].captions[0], k=100)
    assert (len(before), len(after)) == (8, 12)
    command += ["--rebuild", "--exclude", "0[0-3].png", str(tmp_path / "photos")]
    subprocess.run(command, check=True)
    assert len(index.query(SCENES[0].captions[0], k=100)) == 8


def test_an_open_index_sees_one_that_was_made_anew_in_its_place(index: clipsearch.Index, photos: list[Path]) -> None:
    assert len(index.query("a red circle", k=100)) == 8
    shutil.rmtree(index.folder)
    with pytest.raises(errors.NoIndex):
        index.query("a red circle")
    photos[0].unlink()
    with clipsearch.open_index(index.folder) as other:
        other.update(photos[1].parent, MINI)
    assert len(index.query("a red circle", k=100)) == 7


def test_images_are_paths_bytes_or_pictures(index: clipsearch.Index, photos: list[Path]) -> None:
    data = io.BytesIO()
    SCENES[2].image.save(data, "BMP")
    for image in (photos[2], str(photos[2]), photos[2].read_bytes(), data.getvalue(), SCENES[2].image):
        assert index.query(images=image, k=1, with_self=True)[0].path == photos[2]
        assert index.query(images=[image], k=1, with_self=True)[0].path == photos[2]
    rows = index.embed_images([photos[2], data.getvalue(), SCENES[2].image])
    assert rows.shape == (3, index.status().dim)
    assert (rows @ rows[0]).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert index.embed_images([]).shape == (0, index.status().dim)
    away = index.query(SCENES[2].captions[0], unlike=f"{photos[2]}", k=8)
    assert away[-1].path == photos[2]


def test_labels_duplicates_and_metadata(index: clipsearch.Index, photos: list[Path], tmp_path: Path) -> None:
    found = index.label(["a circle", "a star"], images=photos[:2], top=2)
    assert [one.path for one in found] == photos[:2]
    assert sum(share for _, share in found[0].labels) == pytest.approx(1)
    assert len(index.label("a circle", templates="a drawing of {}")) == 8
    assert index.duplicates(identical=True) == []
    (tmp_path / "photos/copy.png").write_bytes(photos[0].read_bytes())
    index.update()
    [group] = index.duplicates(identical=True)
    assert {copy.photo.file for copy in group} == {
        os.fsencode(photos[0]),
        os.fsencode(tmp_path.resolve() / "photos/copy.png"),
    }
    [hit] = index.query(images=photos[1], k=1, with_self=True)
    assert (hit.metadata.width, hit.metadata.height, hit.photo.size) == (160, 160, photos[1].stat().st_size)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda index: index.query("a", k=2.5), "k must be a whole number of at least 1, not 2.5"),
        (lambda index: index.query("a", k=0), "k must be a whole number of at least 1, not 0"),
        (lambda index: index.query(7), "texts must be text or a list of texts, not int"),
        (lambda index: index.query(["a", b"b"]), "texts must be text or a list of texts, not bytes"),
        (lambda index: index.query("a", images=7), "images must be paths, bytes or Pillow images, not int"),
        (lambda index: index.query("a", min_score=float("inf")), "min_score must be a cosine, -1 to 1, not inf"),
        (lambda index: index.query("a", unique=True, similarity=2), "similarity must be a cosine, 0 to 1, not 2"),
        (lambda index: index.query("a", without=3), "without must be text or a list of texts, not int"),
        (lambda index: index.label(3), "labels must be text or a list of texts, not int"),
        (lambda index: index.similar(9), "similarity must be a cosine, 0 to 1, not 9"),
        (lambda index: index.update(7), "directories must be a path or a list of paths, not int"),
    ],
)
def test_a_wrong_argument_is_named(index: clipsearch.Index, call, words: str) -> None:
    with pytest.raises(BadArgument) as caught:
        call(index)
    assert str(caught.value) == words


def test_one_text_is_accepted_where_several_are(index: clipsearch.Index) -> None:
    words, other = SCENES[0].captions[0], SCENES[1].captions[0]
    assert index.query(words, without=other) == index.query([words], without=[other])
    assert index.query(words, other) == index.query([words, other])


def test_concepts_are_known(index: clipsearch.Index, photos: list[Path]) -> None:
    with pytest.raises(BadRequest, match="there is no concept @dog"):
        index.query("@dog")
    assert index.add_concept("dog", photos[4]) == 1
    assert index.query("@dog", k=1)[0].path == photos[4]
    assert index.query(f"@dog {SCENES[4].captions[0]}", k=1)[0].path == photos[4]


def test_no_message_speaks_of_options_or_commands(tmp_path: Path, index: clipsearch.Index) -> None:
    calls = (
        lambda: clipsearch.open_index(tmp_path / "none").query("a"),
        lambda: clipsearch.open_index(tmp_path / "none").update(),
        lambda: index.query(""),
        lambda: index.query("a", filter=Filter(under="/nowhere")),
        lambda: index.query(images="/nowhere.jpg"),
        lambda: index.query(images="/"),
        lambda: index.update(tmp_path / "nowhere"),
        lambda: index.update(options=Options(model="ViT-B-32")),
        lambda: index.update(options=Options(device="abacus")),
        lambda: index.update(tmp_path / "photos/00.png"),
        lambda: index.label([]),
    )
    for call in calls:
        with pytest.raises(clipsearch.ClipsearchError) as caught:
            call()
        words = str(caught.value).split()
        assert not any(word.startswith("-") for word in words), caught.value
        assert "clipsearch index" not in str(caught.value)


def test_another_model_than_the_default_is_not_used_silently(tmp_path: Path, photos: list[Path]) -> None:
    with pytest.warns(UserWarning, match="using the bundled model mini"):
        clipsearch.open_index(tmp_path / "other").update(tmp_path / "photos")


def test_every_error_is_a_clipsearch_error_with_an_exit_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    assert all(issubclass(kind, clipsearch.ClipsearchError) and kind.exit_code == 2 for kind in kinds)
    with pytest.raises(clipsearch.ClipsearchError, match="no index"):
        clipsearch.open_index("/nowhere").query("a dog")


def test_the_users_own_index_is_the_default(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_home in clipsearch.open_index().folder.parents
    monkeypatch.setenv("CLIPSEARCH_INDEX", "~/elsewhere")
    assert clipsearch.open_index().folder == own_home / "elsewhere"
    assert clipsearch.open_index("~/here").folder == own_home / "here"
    with pytest.raises(clipsearch.ClipsearchError, match="must name a folder"):
        clipsearch.open_index("")


def test_python_can_do_what_the_command_line_can(index: clipsearch.Index, photos: list[Path]) -> None:
    hits = index.query(f"{SCENES[2].captions[0]} -stripes", k=2, confidence=True, where=True, lines=True, frames=True)
    assert hits[0].path == photos[2]
    assert hits[0].where is not None
    assert 0 < (hits[0].confidence or 0) <= 1
    jpegs = Filter(types=("jpeg",), after="2025-01")
    assert index.query(filter=jpegs) == []
    assert len(index.query(filter=Filter(types="png", under=photos[0].parent), unique=True)) == 8


def test_many_images_are_embedded_in_batches(
    index: clipsearch.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, scene in enumerate(SCENES[8:40]):
        scene.image.save(tmp_path / f"{number}.bmp")
    batches: list[int] = []
    real = ChoosingEncoder.encode_images
    monkeypatch.setattr(
        ChoosingEncoder, "encode_images", lambda self, pixels: batches.append(len(pixels)) or real(self, pixels)
    )
    paths = [tmp_path / f"{number}.bmp" for number in range(32)]
    rows = index.embed_images([*paths, SCENES[0].image])
    assert sorted(batches) == [1, 16, 16]
    one_by_one = np.concatenate([index.embed_images(image) for image in (*paths, SCENES[0].image)])
    np.testing.assert_allclose(np.sum(rows * one_by_one, axis=1), 1, atol=1e-3)
    (tmp_path / "9.bmp").write_text("no image")
    with pytest.raises(BadRequest, match=r"9\.bmp cannot be used as an image"):
        index.embed_images(paths)


def test_the_examples_of_docstrings_work(photos: list[Path], tmp_path: Path) -> None:
    save_scenes(tmp_path / "home/Pictures", 25)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE"):
            patch.setenv(name, str(tmp_path / "home"))
        with clipsearch.open_index(tmp_path / "examples") as index:
            index.update("~/Pictures", MINI)
        tests = [test for test in doctest.DocTestFinder().find(clipsearch.index) if test.examples]
        assert len(tests) > 10
        for number, test in enumerate(tests):
            folder = tmp_path / f"examples-{number}"
            shutil.copytree(tmp_path / "examples", folder)
            with clipsearch.open_index(folder) as index:
                test.globs.update(index=index, paths=photos, Options=Options)
                shown = io.StringIO()
                runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
                assert runner.run(test, out=shown.write).failed == 0, shown.getvalue()
