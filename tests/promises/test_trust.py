"""Guarantees: kills, faults, full disks and damage lose nothing, and photos are only read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, save_scenes
from indexes import (
    MINI,
    StubEncoder,
    contents,
    draw,
    encode_with,
    everything_at_once,
)
from PIL import Image

from clipsearch.errors import BadRequest, ClipsearchError, WeightsUnusable
from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.indexing import pipeline, run
from clipsearch.indexing import update as indexing
from clipsearch.indexing.read_file import Contents
from clipsearch.indexing.update import Options, update_index
from clipsearch.store import segments, vectors
from clipsearch.store.catalogue import Store
from clipsearch.store.database import Database
from clipsearch.store.verify import repair

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "clipsearch"]
SQLITE_BESIDE = {"catalogue.sqlite-wal", "catalogue.sqlite-shm"}


def noise(folder: Path, count: int, first: int = 0) -> None:
    """Small photos, each different."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(first, first + count):
        pixels = np.random.default_rng(n).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((160, 120)).save(folder / f"{n:04d}.jpg")


# ------------------------------------------------------------------------------------------ kills


@pytest.mark.parametrize(("kills", "count"), [(2, 15), pytest.param(66, 300, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_nothing_that_was_committed(
    kills: int, count: int, clipsearch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    noise(photos, count)
    command = [*PROGRAM, "index", photos, "--model", "mini", "--index", tmp_path / "whole", "-q"]
    began = time.monotonic()
    subprocess.run(command, check=True)
    takes = time.monotonic() - began
    whole = contents(tmp_path / "whole")
    command[-2] = index
    rng, finished = random.Random(kills), 0
    for number in range(kills):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0.1, takes))
        run.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3])
        said = run.communicate(timeout=60)[1].decode()
        assert "Traceback" not in said
        kept: set[bytes] = set()
        if (index / "catalogue.sqlite").exists():
            report = json.loads(clipsearch("verify", "--json", index=index).out)
            assert report["repaired"] == []
            kept = set(committed(index))
            asked = clipsearch("query", "a photo", "-k", 3, index=index)
            assert asked.status == (0 if kept else 2)
            assert all(os.fsencode(line) in kept for line in asked.lines)
        if len(kept) == count or number == kills - 1:
            report = json.loads(clipsearch("index", photos, "--model", "mini", "--json", index=index).out)
            assert report["embedded"] == count - len(kept)  # what was committed is not embedded again
            assert same(contents(index), whole)
            finished += 1
            for path in index.iterdir():
                path.unlink()
    assert finished >= 1


# The real program with a decoder that does not come to an end with photos that say so.
DECODER = """
import os, sys, time
sys.path.append(sys.argv[1])
from clipsearch.images import worker
real, parent = worker.answer, os.getppid()
def answer(request, data, *rest):
    while data.endswith(b"slow") and os.getppid() == parent:
        time.sleep(0.1)
    return real(request, data, *rest)
worker.answer = answer
worker.serve()
"""
WITH_DECODER = """
import sys
from clipsearch.images import sandbox
sandbox._COMMAND[:] = [sys.executable, "-c", sys.argv.pop(1), sys.argv.pop(1)]
from clipsearch.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("slow", "kept"), [((0,), 40), ((30, 31), 30)], ids=["one thread is left", "both threads wait"]
)
def test_a_kill_while_slow_photos_are_decoded_loses_nothing_that_was_finished(
    slow: tuple[int, ...], kept: int, tmp_path: Path
) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    noise(photos, 40)
    for number in slow:
        picture = (photos / f"{number:04d}.jpg").read_bytes()
        (photos / f"{number:04d}-slow.jpg" if number else photos / "0-slow.jpg").write_bytes(picture + b"slow")
    options = ["--model", "mini", "--workers", "2", "--index", index, "-q"]
    command = [sys.executable, "-c", WITH_DECODER, DECODER, ROOT, "index", photos, *options]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: set[bytes] = set()
    until = time.monotonic() + 60
    while len(found) < kept and run.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
        found = set(committed(index)) if (index / "catalogue.sqlite").exists() else set()
    assert run.poll() is None
    run.kill()
    run.wait()
    assert len(committed(index)) >= kept


def committed(index: Path) -> dict[bytes, bytes]:
    """Every photo by path, with its stored embedding."""
    with Store.open(index) as opened:
        blocks = opened.images.embeddings()
        rows = {int(i): row.tobytes() for ids, block in blocks for i, row in zip(ids, block, strict=True)}
        return {p.file: rows[p.image_id] for p in opened.photos_of(rows)}


def same(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> bool:
    """Equal paths, and rows that differ by no more than rounding: the batches were others."""

    def rows(found: dict[bytes, bytes]) -> np.ndarray:
        return np.stack([np.frombuffer(found[path], "<f2").astype(np.float32) for path in sorted(found)])

    return one.keys() == other.keys() and bool((rows(one) * rows(other)).sum(1).min() > 0.999)


class Crash(BaseException):
    """The process ends here."""


class Faults:
    """Crashes at the n-th moment of a kind ("before commit", "after replace"), and at every write after it."""

    def __init__(self, kind: str, nth: int) -> None:
        self.kind, self.nth, self.seen = kind, nth, 0

    @property
    def crashed(self) -> bool:
        return self.seen >= self.nth

    def wrap(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.moment(f"before {name}")
            result = real(*args, **kwargs)
            self.moment(f"after {name}")
            return result

        patch.setattr(owner, name, wrapped)

    def moment(self, kind: str) -> None:
        self.seen += kind == self.kind
        if self.crashed:
            raise Crash(kind)


WRITES = [(Database, "commit"), (os, "replace"), (os, "fsync"), (segments, "write_segment"), (Path, "unlink")]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("scenario", ["first", "update", "rebuild"])
def test_a_fault_at_any_write_is_made_good_by_the_next_run(
    scenario: str, every: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deterministic counterpart of the kills: crash before and after the 1st, 2nd, 4th, ... write of each kind.

    Writes are counted by kind because threads order different kinds differently from run to run. The long form crashes
    at every write.
    """
    encode_with(monkeypatch, StubEncoder)
    monkeypatch.setattr(pipeline, "COMMIT_SECONDS", 0.0)
    photos, start, index = (tmp_path.resolve() / name for name in ("photos", "start", "index"))
    for n, name in enumerate(("a.png", "b.png", "c.png", "d.png", "sub/e.png", "sub/f.png")):
        draw(photos / name, n)
    if scenario != "first":
        update_index(start, [photos], MINI)
    if scenario == "update":
        everything_at_once(photos)
    before = committed(start) if scenario == "rebuild" else {}
    update_index(tmp_path / "whole", [photos], MINI)
    whole = contents(tmp_path / "whole")
    options = Options(model="mini", rebuild=scenario == "rebuild", batch_size=2, workers=1)
    for kind in [f"{when} {name}" for when in ("before", "after") for _, name in WRITES]:
        nth = 1
        while True:
            shutil.rmtree(index, ignore_errors=True)
            if start.exists():
                shutil.copytree(start, index)
            faults = Faults(kind, nth)
            with monkeypatch.context() as patch:
                for owner, name in WRITES:
                    faults.wrap(patch, owner, name)
                with contextlib.suppress(Crash):
                    update_index(index, [photos], options)
                    assert not faults.crashed  # nobody may have caught it
            if not faults.crashed:
                break
            where = f"{kind}, number {nth}"
            if (index / "catalogue.sqlite").exists():
                with Store.open(index, write=True) as opened:
                    assert repair(opened) == [], where
                if scenario == "rebuild":
                    assert committed(index).keys() == before.keys(), where
            update_index(index, [photos], MINI)
            assert contents(index) == whole, where
            names = {re.sub(r"\d+", "N", path.name) for path in index.iterdir()}
            assert names - SQLITE_BESIDE == {"catalogue.sqlite", "writer.lock", "vectors-N.faiss"}, where
            assert len(list(index.glob("vectors-*"))) == 1, where
            nth = nth + 1 if every else 2 * nth
        assert nth > 1, f"no run came {kind}"


# ------------------------------------------------------------------------------------------ no space, no permission


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a full disk or under a quota; in processes that are started here."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="files are limited in another way")
@pytest.mark.parametrize(
    ("kilobytes", "added"),
    [
        (40, 15),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((0, 30), (4, 150), (100, 150), (150, 150))),
    ],
)
def test_a_full_disk_leaves_an_index_that_answers(kilobytes: int, added: int, clipsearch: Run, tmp_path: Path) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    noise(photos, 5)
    assert clipsearch("index", photos, "--model", "mini", index=index).status == 0
    before = contents(index)
    noise(photos, added, first=100)
    with limited(1000 * kilobytes):
        full = clipsearch("index", index=index, fork=False)
    assert full.status == 2
    assert full.err.count("\n") == 1
    assert full.err.startswith("clipsearch: ")
    assert "Traceback" not in full.err
    with limited(0):
        asked = clipsearch("query", "anything", index=index, fork=False)
    assert asked.status == 0
    assert {os.fsencode(line) for line in asked.lines} <= {os.fsencode(str(p)) for p in photos.iterdir()}
    assert clipsearch("verify", index=index).status == 0
    kept = committed(index)
    assert before.items() <= kept.items()
    report = json.loads(clipsearch("index", "--json", index=index).out)
    assert report["embedded"] == 5 + added - len(kept)
    assert len(contents(index)) == 5 + added


# ------------------------------------------------------------------------------------------ at the same time

READER = """
import sys, time
from clipsearch import open_index
index, known, seconds = open_index(sys.argv[1]), sys.argv[2], float(sys.argv[3])
asked, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    hits = index.query(images=[known], k=5, with_self=True)
    assert str(hits[0].path) == known and hits[0].score > 0.999, hits[0]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5] and len({hit.path for hit in hits}) == 5, hits
    asked += 1
print(asked)
"""


@pytest.mark.parametrize(("seconds", "readers"), [(1.5, 4), pytest.param(60, 8, marks=pytest.mark.slow)])
def test_queries_and_an_indexer_do_not_disturb_each_other(
    seconds: float, readers: int, clipsearch: Run, tmp_path: Path
) -> None:
    photos, index = (tmp_path / "photos").resolve(), tmp_path / "index"
    noise(photos, 15)
    assert clipsearch("index", photos, "--model", "mini", index=index).status == 0
    command = [sys.executable, "-c", READER, index, photos / "0000.jpg", str(seconds)]
    reading = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(readers)]
    runs, until = 0, time.monotonic() + seconds
    while runs < 2 or time.monotonic() < until:
        noise(photos, 5, first=100 + 5 * runs)
        (photos / f"{1 + runs % 10:04d}.jpg").unlink(missing_ok=True)
        assert clipsearch("index", index=index).status == 0
        runs += 1
    asked = 0
    for reader in reading:
        out, err = reader.communicate(timeout=120)
        assert reader.returncode == 0, err.decode()
        asked += int(out)
    print(f"{asked} queries, {runs} runs of index")
    assert asked >= readers
    assert clipsearch("verify", index=index).status == 0


# ------------------------------------------------------------------------------------------ damage

FUZZ = """
import json, random, shutil, sys
from pathlib import Path
import numpy as np
from clipsearch.store import nearest
from clipsearch.errors import CatalogueDamaged, ClipsearchError
from clipsearch.store.catalogue import Store
from clipsearch.store.database import Database
from clipsearch.store.database import Database
from clipsearch.store.verify import repair

whole, work, name, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
nearest.SMALL, nearest.EXACT, nearest._CANDIDATES, nearest._FACTOR = 50, 0, 20, 1  # so that codes are used
rng = random.Random(seed)
queries = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)

def ask():
    found = []
    with Store.open(work) as store:
        for query in queries:
            ids, scores = store.vectors.nearest(query, 3)
            by_id = {photo.image_id: photo.file.hex() for photo in store.photos_of(ids.tolist())}
            found.append([(by_id.get(int(i)), round(float(s), 3)) for i, s in zip(ids, scores)])
    return found

def outcome():
    try:
        answer = ask()
    except ClipsearchError as error:
        answer = str(error)
    try:
        with Store.open(work, write=True) as store:
            repaired = [(one.damage, one.count) for one in repair(store)]
            damaged = store.vectors.damaged()
            if damaged:
                store.vectors.update(damaged)
                repaired.append("vectors")
    except ClipsearchError as error:
        return answer, str(error), None
    try:
        return answer, repaired, ask()
    except ClipsearchError as error:
        assert isinstance(error, CatalogueDamaged), error
        return answer, repaired, None

shutil.copytree(whole, work)
truth = ask()
results = []
for number in range(count):
    shutil.rmtree(work)
    shutil.copytree(whole, work)
    path = next(work.glob(name))
    data = bytearray(path.read_bytes())
    if number % 5 == 4:
        cut = rng.randrange(len(data))
        done = f"cut at {cut}"
        data = data[:cut]
    else:
        # Lengths and types lie at the beginning of both files: half of the damage is done there.
        places = [rng.randrange(len(data) if number % 2 else min(len(data), 4096)) for _ in range(1 + number % 3)]
        done = f"changed at {places}"
        for place in places:
            data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    print(json.dumps([number, done, "begun"]), flush=True)
    answer, repaired, after = outcome()
    refused = answer if isinstance(answer, str) else None
    print(json.dumps([number, done, answer == truth, refused, repaired, after and after == truth]), flush=True)
"""


@pytest.mark.parametrize("name", ["catalogue.sqlite", "vectors-*.faiss"])
@pytest.mark.parametrize("count", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_damage_is_never_a_crash_nor_a_wrong_answer_that_verify_does_not_see(
    name: str, count: int, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    with Store.create(whole, "{}", 16) as made:
        root = made.folders.add(b"/photos", Rules())
        rows = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for n, row in enumerate(rows):
            metadata = Metadata(40, 30, "2023-01-01T10:00:00", f"camera {n}", 1.0, 2.0)
            image_id = made.images.add(n.to_bytes(16, "big"), metadata, row)
            made.photos.put(root, FoundFile(b"photo%04d.jpg" % n, n, n), image_id, None)
        made.commit()
        made.vectors.update()
    command = [sys.executable, "-c", FUZZ, whole, tmp_path / "work", name, str(count), "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, (lines[-1], run.stderr[-2000:])
    ended = [line for line in lines if len(line) == 6]
    assert len(ended) == count
    for number, done, right, refused, repaired, right_after in ended:
        if not right and refused is None:  # a wrong answer
            assert repaired, (number, done)
        if right_after is False:  # the answer after a repair lacks what was lost, and says so
            assert repaired, (number, done)
    named = sum(bool(repaired) for *_, repaired, _ in ended)
    print(f"{name}: {count} damaged, {sum(line[2] for line in ended)} answered right at once, {named} named by verify")
    assert named > count // 10


# ------------------------------------------------------------------------------------------ privacy


WATCHED = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        os.write(1, b"network: " + repr((event, arguments)).encode())
        os._exit(77)
sys.addaudithook(hook)
from clipsearch.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "photos"),
    [(["index"], 8), (["index", "--rebuild"], 24), (["query", "a new text"], 8), (["status"], 8), (["models"], 8)],
)
def test_nothing_goes_over_the_network(arguments: list[str], photos: int, tmp_path: Path) -> None:
    save_scenes(tmp_path / "photos", 5)
    index = tmp_path / "index"
    update_index(index, [tmp_path / "photos"], MINI)
    save_scenes(tmp_path / "photos", photos)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {"CLIPSEARCH_INDEX": str(index)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, env=environment, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_weights_cannot_run_code(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(tmp_path / "was run"), "w")

    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"visual.proj": Evil()}))
    save_scenes(tmp_path / "photos", 1)
    options = Options(model="ViT-B-32", weights=tmp_path / "weights.pt")
    with pytest.raises(WeightsUnusable, match=r"^[^\n]*weights\.pt[^\n]*$"):
        update_index(tmp_path / "index", [tmp_path / "photos"], options)
    assert not (tmp_path / "was run").exists()


# ------------------------------------------------------------------------------------------ drives


def test_a_moved_root_is_attached_again_with_one_command(clipsearch: Run, tmp_path: Path) -> None:
    old, new, index = tmp_path / "old", tmp_path / "new", tmp_path / "index"
    save_scenes(old, 5)
    assert clipsearch("index", old, "--model", "mini", index=index).status == 0
    still = clipsearch("relocate", old, tmp_path, index=index)
    assert (still.status, "is still there" in still.err) == (2, True)
    (tmp_path / "empty").mkdir()
    old.rename(new)
    for wrong, message in ((tmp_path / "nowhere", "there is no folder"), (tmp_path / "empty", "none of the photos")):
        refused = clipsearch("relocate", old, wrong, index=index)
        assert (refused.status, message in refused.err) == (2, True)
    assert clipsearch("query", "a circle", index=index).status == 1
    assert clipsearch("relocate", old, new, index=index).err == (
        "5 of 5 photos found in the new folder. For the rest, run: clipsearch index\n"
    )
    assert len(clipsearch("query", "a circle", index=index).lines) == 5
    report = json.loads(clipsearch("index", "--json", index=index).out)
    assert (report["unchanged"], report["embedded"]) == (5, 0)


def test_a_root_cannot_be_relocated_into_another(clipsearch: Run, tmp_path: Path) -> None:
    one, other, index = tmp_path / "one", tmp_path / "other", tmp_path / "index"
    save_scenes(one, 2)
    save_scenes(other, 2, first=10)
    assert clipsearch("index", one, other, "--model", "mini", index=index).status == 0
    one.rename(other / "one")
    refused = clipsearch("relocate", one, other / "one", index=index)
    assert (refused.status, "overlaps the indexed folder" in refused.err) == (2, True)


def test_an_empty_root_is_only_believed_with_prune(clipsearch: Run, tmp_path: Path) -> None:
    photos, index = tmp_path / "photos", tmp_path / "index"
    save_scenes(photos, 5)
    assert clipsearch("index", photos, "--model", "mini", index=index).status == 0
    for path in photos.iterdir():
        path.unlink()
    assert "photos kept in the index" in clipsearch("index", index=index).err
    report = json.loads(clipsearch("index", "--prune", "--json", index=index).out)
    assert (report["removed"], report["offline"]) == (5, [])
    assert contents(index) == {}
    photos.rmdir()
    kept = json.loads(clipsearch("index", "--prune", "--json", index=index).out)
    assert len(kept["offline"]) == 1  # a folder that is not there at all is another thing


def test_what_could_not_be_read_for_a_moment_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file has not changed since: only that it was not read says that there is something to look at."""
    encode_with(monkeypatch, StubEncoder)
    photos, index = tmp_path.resolve() / "photos", tmp_path / "index"
    for n in range(3):
        draw(photos / f"{n}.png", n)
    (photos / "text.png").write_bytes(b"no picture")
    real = run.read_file

    def gone(path: bytes, *rest: Any) -> Contents:
        return real(b"/gone/" + os.path.basename(path), *rest)  # as if the drive went away after the scan

    with monkeypatch.context() as patch:
        patch.setattr(run, "read_file", gone)
        assert len(update_index(index, [photos], MINI).skipped) == 4
    report = update_index(index)
    assert (report.embedded, len(report.skipped)) == (3, 1)
    assert len(contents(index)) == 3


def test_a_drive_that_goes_away_during_a_rebuild_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_with(monkeypatch, StubEncoder)
    photos, index = tmp_path.resolve() / "photos", tmp_path / "index"
    for n in range(3):
        draw(photos / f"{n}.png", n)
    update_index(index, [photos], MINI)
    before = contents(index)

    def gone(progress: indexing.Progress) -> None:
        if photos.exists():
            photos.rename(tmp_path / "unmounted")

    with pytest.raises(BadRequest, match="went away during the rebuild; the index is unchanged"):
        update_index(index, options=Options(rebuild=True), on_progress=gone)
    (tmp_path / "unmounted").rename(photos)
    assert contents(index) == before


# ------------------------------------------------------------------------------------------ permission


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_without_permission_there_is_a_sentence_and_nothing_is_lost(bound: Run, tmp_path: Path) -> None:
    photos, index = tmp_path.resolve() / "photos", tmp_path / "index"
    noise(photos, 2)
    noise(photos / "open", 2, first=2)
    noise(photos / "closed", 2, first=4)
    (photos / "0001.jpg").chmod(0)
    (photos / "closed").chmod(0)
    found = bound("index", photos, "--model", "mini", index=index)
    assert found.status == 0
    assert "3 added, 0 unchanged, 1 skipped" in found.err
    assert f"skipped: {photos}/0001.jpg: permission denied" in found.err
    assert f"unreadable, photos kept in the index: {photos}/closed: permission denied" in found.err
    asked = bound("query", "anything", index=index)
    assert len(asked.lines) == 3

    for path, mode in [(p, 0o400) for p in index.iterdir()] + [(index, 0o500)]:
        path.chmod(mode)
    assert bound("query", "anything", index=index).out == asked.out
    for command in (("index",), ("verify",), ("forget", photos)):
        refused = bound(*command, index=index)
        assert refused.status == 2
        assert "cannot be written to: permission denied" in refused.err
        assert refused.err.count("\n") == 1
    index.chmod(0)
    for command in (("index",), ("query", "anything"), ("status",)):
        refused = bound(*command, index=index)
        assert refused.status == 2
        assert refused.err.count("\n") == 1
    index.chmod(0o700)
    assert bound("query", "anything", index=index).out == asked.out
    (tmp_path / "locked").mkdir(mode=0o500)
    refused = bound("index", photos, "--model", "mini", index=tmp_path / "locked" / "new")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "cannot be created: permission denied" in refused.err


# ------------------------------------------------------------------------------------------ hygiene


def test_many_runs_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_with(monkeypatch, StubEncoder)
    photos, index = tmp_path.resolve() / "photos", tmp_path / "index"
    draw(photos / "0.png", 0)
    update_index(index, [photos], MINI)
    handles = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for n in range(1, 40):
        draw(photos / f"{n}.png", n)
        update_index(index)
    assert {path.name for path in index.iterdir()} - SQLITE_BESIDE == {
        "catalogue.sqlite",
        "writer.lock",
        "vectors-40.faiss",
    }
    assert sum(path.stat().st_size for path in index.iterdir()) < 1_000_000
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= handles


def test_a_damaged_index_is_refused_in_one_sentence(clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    (index / "catalogue.sqlite").write_bytes((drawn_index / "catalogue.sqlite").read_bytes()[:5000])
    for command in (["query", "x"], ["index"], ["status"], ["verify"]):
        refused = clipsearch(*command, index=index)
        assert refused.status == 2
        assert refused.err.count("\n") == 1
    assert issubclass(vectors.IndexUnusable, ClipsearchError)
