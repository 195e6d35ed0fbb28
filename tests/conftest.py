"""Shared fixtures: a home for the test run, drawn photos, a small index of them, and running the program."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fuzz
import platformdirs
import pytest
import scenes
import warm
from bound import PERMISSIONS, bound_command
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the hub's library reads it when it is imported
# The tests run in as many processes as there are cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.images import sandbox, worker
from clipsearch.images.preprocess import Preprocess
from clipsearch.indexing.update import Options, update_index
from clipsearch.models import cache, engines
from clipsearch.models.graph_encoders import FP32
from clipsearch.models.model import Model, mini
from clipsearch.models.pretrained import builtin_config
from clipsearch.store import gazetteer, schema
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.threads import usable_cores

fuzz.load_profile()

pytest_plugins = ["browsing"]  # fixtures of the tests of the page
# For what compares with open_clip, or runs in torch.
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra torch")

SCENES = scenes.draw_distinct(40, seed=20_000_000, size=160)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for each worker. A test that writes to the real one fails the run."""
    real = [
        platformdirs.user_data_path("clipsearch", appauthor=False),
        platformdirs.user_cache_path("clipsearch", appauthor=False),
    ]
    before = [_listing(folder) for folder in real]
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        folders = ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME")
        for name in (*folders, "CLIPSEARCH_INDEX", "COLUMNS", "NO_COLOR"):
            patch.delenv(name, raising=False)
        for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
            patch.setenv(name, str(folder))
        keep_to_fp32()
        yield folder
    assert [_listing(folder) for folder in real] == before, "a test has used the real home"


class DecoderHere:
    """Stands in for a decoding process: answers in this process."""

    alive = True

    def __init__(self, settings: dict[str, Any] | None) -> None:
        self.settings = Preprocess.from_json(settings or {"size": (1, 1)})

    def ask(self, request: dict[str, Any], data: bytes) -> sandbox.Message:
        try:
            header, answer = worker.answer(request, data, self.settings)
        except Exception:
            raise ImageUnusable("crashed its decoder") from None
        return json.loads(json.dumps(header)), answer

    def end(self) -> None:
        self.alive = False

    kill = end


@pytest.fixture(scope="session", autouse=True)
def _decode_here() -> Iterator[None]:
    """Decode in the test process: an update of an index would start two others, at 0.1 s of CPU time each."""

    def process(command: list[str], start: dict[str, Any]) -> object:
        return DecoderHere(start["settings"]) if command is sandbox._COMMAND else _DECODING_PROCESS(command, start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_Process", process)
        yield


_DECODING_PROCESS = sandbox._Process


@pytest.fixture(scope="session")
def _warm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warm")


@pytest.fixture(scope="session", autouse=True)
def _embed_once(_warm_folder: Path) -> None:
    warm.keep_mini(str(_warm_folder))


@pytest.fixture
def decoding_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in separate processes, as the program does."""
    monkeypatch.setattr(sandbox, "_Process", _DECODING_PROCESS)


def keep_to_fp32() -> None:
    """Cache fp32 as the fastest engine: rates measured beside other tests are random."""
    comparison = engines.Comparison(FP32, {FP32: 1.0}, {}, time.time())
    cache.keep_measurement(engines._subject(mini(), usable_cores()), engines._record(comparison))


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")) if folder.is_dir() else []


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of the program returned and printed."""

    status: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def warm_program(own_home: Path, _warm_folder: Path) -> Iterator[str | None]:
    """The socket on which `warm.py` takes requests; None where processes cannot fork."""
    if sys.platform != "linux":
        yield None
        return
    address = str(_warm_folder / "socket")
    command = [sys.executable, "-P", warm.__file__, address]
    # In a new session, so that Ctrl-C in the terminal does not reach it before the tests end.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as server:
        assert server.stdout.readline() == b"ready\n"
        yield address
        server.stdin.close()


@pytest.fixture
def clipsearch(warm_program: str | None) -> Run:
    """Run the program in its own process: `clipsearch("query", "a dog", index=folder)`.

    The process is forked from one that has imported the program. `fork=False` starts Python instead, for tests that
    depend on the limits of the test process or on variables that Python reads when it starts.
    """

    def run(
        *arguments: object, index: Path | None = None, stdin: bytes = b"", fork: bool = True, **environment: str
    ) -> Result:
        variables = os.environ | environment
        if index is not None:
            variables["CLIPSEARCH_INDEX"] = str(index)
        if warm_program is None or not fork:
            command = [sys.executable, "-m", "clipsearch", *map(_argument, arguments)]
            done = subprocess.run(command, input=stdin, capture_output=True, env=variables, timeout=300, check=False)
            return Result(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))
        words = [os.fsdecode(_argument(argument)) for argument in arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = warm.run(warm_program, words, variables, stdin, out.fileno(), err.fileno())
            out.seek(0)
            err.seek(0)
            return Result(status, out.read(), err.read().decode("utf-8", "replace"))

    return run


Start = Callable[..., tuple[Any, IO[str]]]


@pytest.fixture(scope="session")
def start(warm_program: str | None) -> Start:
    """Start the program: `process, out = start("serve", index=folder)`, with its stdout as text."""

    def started(*arguments: object, index: Path, **environment: str) -> tuple[Any, IO[str]]:
        variables = os.environ | environment | {"CLIPSEARCH_INDEX": str(index)}
        source, target = os.pipe()
        out = os.fdopen(source)
        with open(target, "wb") as written:
            if warm_program is None:
                command = [sys.executable, "-m", "clipsearch", *map(_argument, arguments)]
                return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=written, env=variables), out
            with open(os.devnull, "rb") as nothing:
                streams = (nothing.fileno(), target, sys.__stderr__.fileno())
                return warm.Process(warm_program, [str(word) for word in arguments], variables, streams), out

    return started


def _argument(value: object) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def save_scenes(folder: Path, count: int = len(SCENES), first: int = 0) -> list[Path]:
    """Drawn scenes as files `00.png`, `01.png`, ... ; `SCENES[n].captions` say what is on them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n:02d}.png" for n in range(first, first + count)]
    for n, path in enumerate(paths, first):
        SCENES[n].image.save(path)
    return paths


def damage(folder: Path, statements: str) -> None:
    """Change the catalogue of an index behind its back; `mark` makes the checksum of a row that is to be sound."""
    database = sqlite3.connect(folder / CATALOGUE)
    database.create_function("mark", -1, schema.mark, deterministic=True)
    database.executescript(statements)
    database.close()


def forbid(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """As root, permission bits would forbid nothing."""

    def scandir(path: Any) -> Any:
        if os.path.normpath(os.fsdecode(path)) == str(folder):
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    patch.setattr(os, "scandir", scandir)


Once = Callable[[str, Callable[[Path], object]], Path]


def _shared(basetemp: Path) -> Path:
    """The folder that all workers share."""
    return (basetemp.parent if "PYTEST_XDIST_WORKER" in os.environ else basetemp) / "once"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Build something read-only once for all workers: `once("photos", draw)` calls `draw(path)` if it is missing."""
    shared = _shared(tmp_path_factory.getbasetemp()).resolve()
    shared.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        done = shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(shared / name)
                done.touch()
        return shared / name

    return made


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete the large file when the last worker has ended: pytest keeps temporary folders."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        basetemp = session.config._tmp_path_factory.getbasetemp()
        (_shared(basetemp) / VIT_B_32).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def drawn(once: Once) -> Path:
    """A folder with all drawn scenes. Read only."""
    return once("drawn", save_scenes)


@pytest.fixture(scope="session")
def drawn_index(drawn: Path, once: Once, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This worker's copy of an index of the drawn scenes. Read only; copy it to change it."""
    index = once("drawn-index", lambda index: update_index(index, [drawn], Options(model="mini")))
    return shutil.copytree(index, tmp_path_factory.mktemp("drawn-index") / "index")


_FILL = gazetteer._fill


@pytest.fixture(scope="session", autouse=True)
def _fill_once(once: Once) -> Iterator[None]:
    """Build the table of places once for all workers, in whichever test looks a place up first: it takes 10 s."""

    def fill(path: Path, version: int) -> None:
        shutil.copy(once("places.sqlite", lambda table: _FILL(table, version)), path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gazetteer, "_fill", fill)
        yield


@pytest.fixture(scope="session")
def places_table(own_home: Path, _fill_once: None) -> Path:
    """The table of places in this worker's cache, for runs of the program."""
    assert not isinstance(gazetteer._load(), BadRequest)
    return gazetteer._path()


VIT_B_32 = "vit-b-32.safetensors"


@pytest.fixture(scope="session")
def vit_b_32(once: Once) -> Path:
    """Random weights of a ViT-B/32, 605 MB."""

    def make(path: Path) -> None:
        from tiny_models import clip_tensors, save_tensors

        save_tensors(clip_tensors(builtin_config("ViT-B-32")), path)

    return once(VIT_B_32, make)


@pytest.fixture
def mini_index(tmp_path: Path) -> Callable[..., Path]:
    """Makes an index of folders with mini: `mini_index(folder)`; again with the same `name` brings it up to date."""

    def make(*folders: Path, name: str = "index", **options: object) -> Path:
        update_index(tmp_path / name, folders, Options(model="mini", **options))
        return tmp_path / name

    return make


@pytest.fixture
def empty_store(tmp_path: Path) -> Iterator[Store]:
    """An empty index, open for writing, for embeddings of mini's length."""
    model = mini()
    with Store.create(tmp_path / "index", model.to_json(), model.dim) as store:
        yield store


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """Makes a small network of one of the kinds in `tiny_models`, once: `tiny("quick gelu")`."""
    from tiny_models import KINDS, save_tiny

    made: dict[str, Model] = {}

    def make(kind: str = "gelu") -> Model:
        if kind not in made:
            made[kind] = save_tiny(tmp_path_factory.mktemp("tiny"), **KINDS[kind])
        return made[kind]

    return make


@pytest.fixture
def bound() -> Run:
    """Runs the program bound by permissions."""

    def run(*arguments: object, index: Path) -> Result:
        command = bound_command(PERMISSIONS, *arguments, "--index", index)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 77:
            pytest.skip("root cannot be bound here")
        return Result(done.returncode, done.stdout.encode(), done.stderr)

    return run
