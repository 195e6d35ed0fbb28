"""The pass that finds faces: each image is searched once, and nothing else in the index changes."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import videos
from conftest import SCENES, Run
from PIL import Image

from clipsearch.errors import IndexUnusable
from clipsearch.indexing.people_changes import Changes
from clipsearch.indexing.update import Options, update_index
from clipsearch.models import faces
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.store.faces import Face
from clipsearch.store.people import People
from clipsearch.store.verify import verify

PORTRAIT = Image.open(Path(__file__).parent.parent / "portraits/astronaut.jpg").convert("RGB")
CROPS = [(0, 0, 320, 240), (40, 0, 300, 260), (60, 10, 310, 250), (20, 0, 319, 310), (80, 0, 319, 200)]
SIDEWAYS = 6  # the EXIF orientation of a camera held upright


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three portraits, one of them turned by its EXIF orientation, a film with one, and two photos without faces."""
    folder = tmp_path_factory.mktemp("portraits")
    PORTRAIT.save(folder / "portrait.jpg")
    PORTRAIT.crop(CROPS[0]).save(folder / "crop.png")
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    PORTRAIT.crop(CROPS[1]).transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    videos.clip(folder / "film.mp4", [(SCENES[0].image, 3), (PORTRAIT.crop(CROPS[0]), 3)])
    for number in (1, 2):
        SCENES[number].image.save(folder / f"scene{number}.png")
    return folder


@pytest.fixture(scope="module")
def index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = tmp_path_factory.mktemp("faces") / "index"
    report = update_index(index, [photos], Options(model="mini", faces=True))
    assert report.faces == 4
    assert report.face_scans > 6  # the film has several frames
    return index


def rows(index: Path) -> dict[str, list[Face]]:
    """The faces of each file, by its name."""
    found: dict[str, list[Face]] = {}
    with Store.open(index) as store:
        for face in store.faces.all():
            (photo,) = store.photos_of([face.image])
            found.setdefault(photo.path.name, []).append((face, photo.time))
    return found


def test_faces_in_upright_photos_and_in_frames_of_videos(index: Path) -> None:
    found = rows(index)
    assert sorted(found) == ["crop.png", "film.mp4", "portrait.jpg", "turned.jpg"]
    ((turned, _),) = found["turned.jpg"]
    left, right, *_ = turned.landmarks
    assert left[0] < right[0]
    assert abs(left[1] - right[1]) < 0.05
    ((_, time),) = found["film.mp4"]
    assert time >= 3
    with Store.open(index) as store:
        ids, vectors = store.faces.embeddings()
    assert (len(ids), vectors.shape) == (4, (4, 128))
    assert (vectors.astype(np.float32) @ vectors.astype(np.float32).T).min() > faces.SAME_PERSON


def test_the_command_counts_them(clipsearch: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "portrait.jpg", tmp_path)
    made = clipsearch("index", tmp_path, "--model", "mini", "--faces", index=tmp_path / "index")
    assert "\nfaces: 1 in 1 image\n" in made.err
    again = json.loads(clipsearch("index", "--json", index=tmp_path / "index").out)
    assert (again["face_scans"], again["faces"]) == (0, 0)
    status = clipsearch("status", index=index)
    assert "faces   4 in " in status.out.decode()
    assert json.loads(clipsearch("status", "--json", index=index).out)["faces"] == 4
    gone = clipsearch("index", "--no-faces", index=tmp_path / "index")
    assert gone.status == 0
    assert "faces" not in clipsearch("status", index=tmp_path / "index").out.decode()


def test_only_new_images_are_searched_and_the_choice_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    shutil.copy(photos / "portrait.jpg", folder)
    assert update_index(index, [folder], Options(model="mini")).face_scans == 0
    assert update_index(index, (), Options(faces=True)).faces == 1
    shutil.copy(photos / "crop.png", folder)
    shutil.copy(photos / "crop.png", folder / "copy.png")  # the same contents are searched once
    report = update_index(index)
    assert (report.face_scans, report.faces) == (1, 1)
    before = [(one.id, one.box) for one in _faces(index)]
    with monkeypatch.context() as patched:
        patched.setattr("clipsearch.models.faces.FaceFinder", lambda: pytest.fail("searched again"))
        update_index(index, (), Options(rebuild=True))
    assert [(one.id, one.box) for one in _faces(index)] == before
    (folder / "crop.png").unlink()
    (folder / "copy.png").unlink()
    update_index(index)
    assert len(_faces(index)) == 1
    monkeypatch.setattr(faces, "_VERSION", 99)  # another version of the model
    assert update_index(index).face_scans == 1
    update_index(index, (), Options(faces=False))
    assert _faces(index) == []
    assert update_index(index).face_scans == 0


def _faces(index: Path) -> list[Face]:
    with Store.open(index) as store:
        return list(store.faces.all())


def test_no_faces_deletes_all_embeddings_and_keeps_names(clipsearch: Run, photos: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    for name in ("portrait.jpg", "crop.png", "turned.jpg"):
        shutil.copy(photos / name, folder)
    update_index(index, [folder], Options(model="mini", faces=True))
    with Store.open(index) as store:
        rows = [row.tobytes() for row in store.faces.embeddings()[1]]
    (number,) = {face.cluster for face in _faces(index)}
    with _reading(index):  # so that the write-ahead log is not deleted
        changes = Changes(index)
        changes.name(str(number), "Anna")
        changes.reject([face.id for face in _faces(index)][:1])
        (folder / "turned.jpg").unlink()  # its face is known, but no longer in the catalogue
        update_index(index)
        before = sorted((face.image, face.person) for face in _faces(index))
        assert {name for _, name in before} == {None, "Anna"}
        shutil.copy(index / CATALOGUE, index / "rebuilt.sqlite")  # of a killed rebuild
        shutil.copy(index / "people.json", index / ".people.kept.json.1.ab.tmp")  # of a killed change
        found = set().union(*(_traces(index, row) for row in rows))
        assert found >= {"catalogue.sqlite-wal", "people.json", "people.kept.json", ".people.kept.json.1.ab.tmp"}
        done = clipsearch("index", "--no-faces", index=index)
        assert [_traces(index, row) for row in rows] == [[], [], []]
    assert done.err.splitlines()[-1] == (
        "deleted all faces and embeddings; names are kept with the photo and the place in it; to delete them, too,"
        f" delete people.json and people.kept.json in {index}"
    )
    assert People(index).names() == ["Anna"]
    assert clipsearch("people", index=index).status == 2
    assert clipsearch("index", "--faces", index=index).status == 0
    assert sorted((face.image, face.person) for face in _faces(index)) == before
    assert [face.model for _, face in People(index).known()].count("") == 1  # the others have rows again


@contextlib.contextmanager
def _reading(index: Path) -> Iterator[None]:
    """While another process has the catalogue open."""
    code = (
        "import sqlite3, sys; database = sqlite3.connect(sys.argv[1]);"
        " database.execute('SELECT 1 FROM meta').fetchone(); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, index / CATALOGUE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        try:
            yield
        finally:
            reader.kill()


def _traces(index: Path, row: bytes) -> list[str]:
    """The files with an embedding, as it is or in base64."""
    forms = (row, base64.b64encode(row))
    return [path.name for path in index.iterdir() if any(form in path.read_bytes() for form in forms)]


def test_no_faces_says_what_prevents_it_and_loses_no_name(clipsearch: Run, photos: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    shutil.copy(photos / "portrait.jpg", folder)
    update_index(index, [folder], Options(model="mini", faces=True))
    Changes(index).name("1", "Anna")
    (index / "people.json").write_bytes(b"damaged")
    refused = clipsearch("index", "--no-faces", index=index)
    assert (refused.status, "restore the backup with: clipsearch verify" in refused.err) == (2, True)
    assert len(_faces(index)) == 1
    with Store.open(index) as reader, Store.open(index, write=True) as store:
        reader.summary()
        store.database.execute("PRAGMA busy_timeout = 20")
        (index / "people.json").write_bytes((index / "people.kept.json").read_bytes())
        with pytest.raises(IndexUnusable, match="remain in its journal"):
            store.delete_faces()
    (index / "people.json").unlink()
    assert clipsearch("index", "--no-faces", index=index).status == 0
    assert People(index).names() == ["Anna"]  # from the backup


def test_a_file_that_fails_or_has_changed_is_not_searched_for_what_it_was(photos: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    for name in ("portrait.jpg", "crop.png"):
        shutil.copy(photos / name, folder)
    update_index(index, [folder], Options(model="mini"))
    status = (folder / "crop.png").stat()
    SCENES[3].image.save(folder / "crop.png")
    with Store.open(index, write=True) as store:
        store.faces.enable(faces.record())
        store.database.execute("UPDATE photos SET size = ?, mtime_ns = ?", (status.st_size, status.st_mtime_ns))
    report = update_index(index, (), Options(faces=True))
    assert report.faces == 1


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_kill_loses_at_most_a_few_photos(tmp_path: Path, kills: int) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    for number in range(10 * kills):
        PORTRAIT.crop(CROPS[number % len(CROPS)]).save(folder / f"{number:03d}.jpg", quality=60 + number // len(CROPS))
    update_index(index, [folder], Options(model="mini"))
    command = [sys.executable, "-m", "clipsearch", "index", "--faces", "--index", index]
    for _ in range(kills):
        before = _searched(index)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            limit = time.monotonic() + 60
            while _searched(index) == before and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert _searched(index) >= before
    update_index(index)
    assert _searched(index) == 10 * kills
    assert len({one.image for one in _faces(index)}) == 10 * kills
    with Store.open(index, write=True) as store:
        assert verify(store).repairs == ()


def _searched(index: Path) -> int:
    with sqlite3.connect(f"file:{index / CATALOGUE}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT count(*) FROM face_scans").fetchone()
    database.close()
    return int(count)
