"""Embedding on a Ray cluster, with real worker processes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scenes
from PIL import Image
from ray_workers import CannotLoad, DiesOfAll, DiesOfOne, DiesOnce, SeesNothing, WaitsForOne

from clipsearch.cluster import ray
from clipsearch.cluster.ray import LOCAL
from clipsearch.errors import BadArgument, BadRequest, EncodingFailed, WeightsUnusable
from clipsearch.extras import is_installed
from clipsearch.indexing.options import Options
from clipsearch.indexing.pipeline import Stages
from clipsearch.indexing.remote import KILLS, NotSeen, Remote, Worker, is_among
from clipsearch.indexing.update import update_index
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

if not is_installed("ray"):  # not imported here: it reads what is to be printed when it is imported
    pytest.skip("needs ray", allow_module_level=True)

RAY = Options(model="mini", precision="fp32", ray=LOCAL, workers=2)


NOTHING = np.empty((0, 2), np.uint64)


class File(NamedTuple):
    path: bytes
    size: int


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    """A worker is told which class it is of by the name of its module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        patch.setattr(ray, "_BATCH", 8)
        yield


@pytest.fixture(scope="module")
def one_cluster() -> Iterator[None]:
    """Keep one cluster for all tests, since it takes seconds to start and stop. A run ends only its own workers."""

    def end(workers: ray.Workers[Any], *_: object) -> None:
        for hand in workers._hands:
            workers._ray.kill(hand.actor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray.Workers, "__exit__", end)
        yield
    sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    for number, scene in enumerate(scenes.draw_distinct(30, seed=30_000_000, size=96)):
        exif = Image.Exif()
        exif[0x010F], exif[0x0132] = "Maker", f"2023:05:{number + 1:02} 10:00:00"
        scene.image.save(folder / f"{number:02}.jpg", exif=exif, quality=95)
    Image.open(folder / "05.jpg").resize((96, 400)).save(folder / "tall.png")
    (folder / "copy.jpg").write_bytes((folder / "03.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def files_of(folder: Path) -> list[File]:
    return [File(os.fsencode(path), path.stat().st_size) for path in sorted(folder.glob("*.jpg"))]


def contents(index: Path) -> dict[bytes, tuple[object, list[np.ndarray]]]:
    """Each file with its metadata, and the rows of all its images."""
    with Store.open(index) as store:
        found: dict[bytes, tuple[object, list[np.ndarray]]] = {}
        for image in store.images_in(store.select()).tolist():
            for photo in store.photos_of([image]):
                found.setdefault(photo.file, (photo.metadata, []))[1].append(store.unit_rows_of([image])[0])
        return found


def run(
    folder: Path, worker: type[Worker] = Worker, options: Options = RAY
) -> dict[str, tuple[str | None, np.ndarray | None]]:
    with Remote[File](mini(), options, Stages(), NOTHING, worker) as cluster:
        return {
            os.path.basename(os.fsdecode(item.path)): (found.error, row)
            for item, found, row in filter(None, cluster.run(files_of(folder)))
        }


def test_the_index_is_the_one_that_is_made_at_home(photos: Path, tmp_path: Path) -> None:
    at_home = update_index(tmp_path / "home", [photos], Options(model="mini", precision="fp32"))
    spread = update_index(tmp_path / "ray", [photos], RAY)
    for count in ("added", "embedded", "duplicates", "skipped", "engine"):
        assert getattr(spread, count) == getattr(at_home, count), count
    assert spread.seconds > 0
    assert spread.stages["encode"] > 0
    expected, found = contents(tmp_path / "home"), contents(tmp_path / "ray")
    assert found.keys() == expected.keys()
    for path, (metadata, rows) in found.items():
        assert metadata == expected[path][0]
        np.testing.assert_allclose(rows, expected[path][1], atol=1e-3)
    assert len(found[os.fsencode(photos / "tall.png")][1]) == 1 + 7
    assert update_index(tmp_path / "ray", [photos], RAY).unchanged == len(expected)


@pytest.mark.usefixtures("one_cluster")
def test_a_worker_that_dies_costs_nothing_but_time(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = run(photos, DiesOnce)
    assert capfd.readouterr().out == ""  # Ray itself would say that a worker died
    assert (photos / "died").exists()
    assert len(found) == 32
    assert [name for name, (_, row) in found.items() if row is None] == ["broken.jpg"]


@pytest.mark.usefixtures("one_cluster")
def test_a_slow_photo_holds_up_nothing_but_itself(photos: Path) -> None:
    batch = {f"0{n}.jpg" for n in range(5)}  # what the same worker, of one thread, has done before it
    given: list[str] = []
    with Remote[File](mini(), RAY, Stages(), NOTHING, WaitsForOne) as cluster:
        for done in cluster.run(files_of(photos)):
            if done is not None:
                given.append(os.path.basename(os.fsdecode(done[0].path)))
            if batch <= set(given) and not (photos / "go on").exists():
                assert "05.jpg" not in given
                (photos / "go on").touch()
    assert (photos / "go on").exists()
    assert len(given) == 32


@pytest.mark.slow
def test_a_photo_that_kills_its_worker_is_skipped_with_a_reason(photos: Path) -> None:
    found = run(photos, DiesOfOne)
    assert len(found) == 32
    assert {name: error for name, (error, row) in found.items() if row is None and name != "broken.jpg"} == {
        "05.jpg": KILLS
    }


@pytest.mark.slow
def test_workers_that_all_die_end_the_run(photos: Path) -> None:
    with pytest.raises(EncodingFailed, match="every worker of the cluster dies"):
        run(photos, DiesOfAll)


@pytest.mark.usefixtures("one_cluster")
def test_a_machine_that_does_not_see_the_files_is_named(photos: Path) -> None:
    with pytest.raises(NotSeen, match=r"jpg on .+ is missing or differs from the one here"):
        run(photos, SeesNothing)


@pytest.mark.usefixtures("one_cluster")
def test_what_a_worker_raises_is_said(photos: Path) -> None:
    with pytest.raises(WeightsUnusable, match="the weights are not there"):
        run(photos, CannotLoad)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A cluster that was started before: the address for a machine of it, and the one for any other."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}", "--min-worker-port=0", "--max-worker-port=0"),
        *("--num-cpus=2", "--include-dashboard=false"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as cluster:
        assert cluster.stdout is not None
        address = next(line.rpartition(": ")[2].strip() for line in cluster.stdout if "Local node IP" in line)
        assert any("Ray runtime started" in line for line in cluster.stdout)
        yield f"{address}:{ports[0]}", f"ray://{address}:{ports[1]}"
        cluster.terminate()
        cluster.communicate(timeout=30)


@pytest.mark.slow
def test_a_cluster_elsewhere(elsewhere: tuple[str, str], photos: Path, tmp_path: Path) -> None:
    for number, address in enumerate(elsewhere):
        report = update_index(tmp_path / f"index {number}", [photos], replace(RAY, ray=address))
        assert (report.embedded, len(report.skipped)) == (38, 1), address


def test_there_is_no_cluster(photos: Path, tmp_path: Path) -> None:
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "nowhere"):
        with pytest.raises(BadArgument, match="names no cluster that answers"):
            update_index(tmp_path / "index", [photos], Options(model="mini", ray=address))


def test_without_the_package_a_sentence_says_so(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadRequest, match=r"pip install '\.\[ray\]'"):
        update_index(tmp_path / "index", [photos], RAY)


@pytest.mark.parametrize(
    ("nodes", "wanted", "expected"),
    [
        ([(2, 0)], None, [(2, 0)]),
        ([(2, 0)], 2, [(1, 0)] * 2),
        ([(2, 0)], 4, [(1, 0)] * 2),
        ([(16, 4), (16, 4)], None, [(4, 1)] * 8),
        ([(16, 4), (16, 4)], 2, [(16, 1)] * 2),
        ([(8, 0), (4, 0), (0, 0)], None, [(8, 0), (4, 0)]),
        ([(16, 0), (2, 0)], 2, [(9, 0)]),
        ([(16, 1), (8, 0)], None, [(16, 1), (8, 0)]),
        ([(0, 0)], None, []),
    ],
)
def test_workers_are_found_from_the_cluster(
    nodes: list[tuple[int, int]], wanted: int | None, expected: list[tuple[int, int]]
) -> None:
    cluster = [{"Alive": True, "Resources": {"CPU": float(cores), "GPU": float(gpus)}} for cores, gpus in nodes]
    dead = [{"Alive": False, "Resources": {"CPU": 64.0}}]
    assert ray._shares(cluster + dead, wanted) == expected


@pytest.mark.slow
def test_contents_that_are_known_are_not_embedded_again(photos: Path, tmp_path: Path) -> None:
    update_index(tmp_path / "index", [photos], Options(model="mini", precision="fp32"))
    with Store.open(tmp_path / "index") as store:
        known, contents = store.images.contents(), [photo.content for photo in store.by_path(store.select())]
    assert (len(set(contents)), len(known)) == (31, 31 + 7)  # a panorama has seven parts
    assert all(is_among(content, known) for content in contents)
    assert not any(is_among(bytes([content[0] ^ 1]) + content[1:], known) for content in contents)
    assert not any(is_among(content[:-1] + bytes([content[-1] ^ 1]), known) for content in contents)
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    report = update_index(tmp_path / "index", [moved], RAY)
    assert (report.embedded, report.duplicates) == (0, 32)
    assert report.stages["encode"] == 0


@pytest.mark.slow
def test_ctrl_c_leaves_a_sound_index(photos: Path, tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number}.jpg").symlink_to(photos / f"{number % 30:02}.jpg")
    program, index = [sys.executable, "-m", "clipsearch"], ["--index", str(tmp_path / "index")]
    with subprocess.Popen(
        [*program, "index", "--model", "mini", "--ray", "--workers", "2", str(tmp_path / "many"), *index],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not (tmp_path / "index" / "catalogue.sqlite").exists():
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (130, "", "clipsearch: interrupted\n")
    again = subprocess.run([*program, "index", "-q", *index], capture_output=True, text=True, check=True)
    assert again.stdout + again.stderr == ""
    assert subprocess.run([*program, "verify", *index], capture_output=True, check=False).returncode == 0
