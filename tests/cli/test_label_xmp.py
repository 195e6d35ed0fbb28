"""`clipsearch label --write-xmp` and `--remove`: the real program, beside real photos."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCENES, Run, save_scenes
from terminal import posix

from clipsearch.errors import ClipsearchError
from clipsearch.images.xmp import keywords, with_keywords
from clipsearch.indexing.update import Options, update_index
from clipsearch.output.sidecars import addition, carry_out

OF_DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   xmp:Rating="3"/>
 </rdf:RDF>
</x:xmpmeta>
"""
ALL = ("--min-probability", "0")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the folder `photos` beside it, with three drawn scenes, 00.png to 02.png."""
    folder = tmp_path_factory.mktemp("tagged").resolve()
    save_scenes(folder / "photos", 3)
    update_index(folder / "index", [folder / "photos"], Options(model="mini"))
    return folder / "index"


@pytest.fixture
def photos(index: Path) -> Iterator[Path]:
    """The indexed folder, in which nothing but the photos is left."""
    folder = index.parent / "photos"
    yield folder
    for path in folder.iterdir():
        if path.is_dir():
            path.rmdir()
        elif path.suffix != ".png":
            path.unlink()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ------------------------------------------------------------------------------------------ what is written


def test_tags_are_written_and_taken_away(clipsearch: Run, photos: Path, index: Path) -> None:
    (photos / "00.png.xmp").write_bytes(OF_DARKTABLE)
    before = files(photos)
    question = ("label", f"drawn|{SCENES[0].captions[0]}", SCENES[1].captions[0])
    plain = clipsearch(*question, index=index)

    tried = clipsearch(*question, "--write-xmp", *ALL, "--dry-run", index=index)
    labels = {line.split("\t")[2]: line.split("\t")[0] for line in plain.lines}
    assert (tried.status, tried.out) == (0, plain.out)
    assert tried.err == "".join(
        [f"would write {path}.xmp: {labels[path].replace('|', ', ')}\n" for path in labels]
        + ["would write 3 sidecars, 0 have them already\n"]
    )
    assert files(photos) == before

    done = clipsearch(*question, "--write-xmp", *ALL, index=index)
    assert (done.status, done.out, done.err) == (0, plain.out, "wrote 3 sidecars, 0 had them already\n")
    after = files(photos)
    assert after.keys() == before.keys() | {"01.png.xmp", "02.png.xmp"}
    assert all(after[name] == before[name] for name in before if name.endswith(".png"))
    for path, label in labels.items():
        assert keywords(Path(f"{path}.xmp").read_bytes()) == tuple(label.split("|"))
    assert after["00.png.xmp"] == with_keywords(OF_DARKTABLE, [labels[str(photos / "00.png")]])

    again = clipsearch(*question, "--write-xmp", *ALL, index=index)
    assert (again.status, again.err) == (0, "wrote 0 sidecars, 3 had them already\n")
    assert files(photos) == after

    tried = clipsearch("label", "--remove", "--dry-run", index=index)
    assert (tried.status, tried.out) == (0, b"")
    first = labels[str(photos / "00.png")].replace("|", ", ")
    assert tried.err.startswith(f"would take out of {photos}/00.png.xmp: {first}\nwould delete {photos}/01.png.xmp:")
    assert tried.err.endswith("would take tags out of 1 sidecar, delete 2 that had nothing else\n")
    assert files(photos) == after

    removed = clipsearch("label", "--remove", index=index)
    assert (removed.status, removed.out) == (0, b"")
    assert removed.err == "took tags out of 1 sidecar, deleted 2 that had nothing else\n"
    assert files(photos) == before


def test_only_likely_labels_of_the_photos_that_were_chosen(clipsearch: Run, photos: Path, index: Path) -> None:
    labels = ("cat", "dog", "sea")
    rows = [line.split("\t") for line in clipsearch("label", *labels, index=index).lines]
    lowest, least, _ = sorted(float(probability) for _, probability, _ in rows)
    assert least - lowest > 0.001  # what is printed is rounded
    limit = ("--min-probability", least - 0.0005)
    written = clipsearch("label", *labels, "--write-xmp", "--counts", *limit, index=index)
    assert written.err == "wrote 2 sidecars, 0 had them already\n"
    assert len(list(photos.glob("*.xmp"))) == 2
    assert sum(int(line.split("\t")[0]) for line in written.lines) == 3
    kept = clipsearch("label", "--remove", "--name", "nothing", index=index)
    assert kept.status == 1
    assert len(list(photos.glob("*.xmp"))) == 2
    every = clipsearch("label", *labels, "--write-xmp", *ALL, "--all", "--name", "01", "--format", "json", index=index)
    assert every.status == 0
    assert set(keywords((photos / "01.png.xmp").read_bytes())) == set(labels)


def test_files_that_need_not_be_indexed(clipsearch: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    other = tmp_path.resolve() / "elsewhere" / "a photo.png"
    other.parent.mkdir()
    shutil.copy(photos / "00.png", other)
    given = ("--image", other, "--image", "-", "--image", tmp_path / "none.png")
    done = clipsearch("label", "a", "b", "--write-xmp", *ALL, *given, index=index, stdin=other.read_bytes())
    assert done.status == 2
    assert len(done.lines) == 2
    assert "clipsearch: - is not a file that could have a sidecar\n" in done.err
    assert done.err.endswith("wrote 1 sidecar, 0 had them already\n")
    assert [path.name for path in other.parent.iterdir()] == ["a photo.png", "a photo.png.xmp"]
    assert not list(photos.glob("*.xmp"))
    removed = clipsearch("label", "--remove", "--image", other, "--image", tmp_path / "none.png", index=index)
    assert removed.status == 2
    assert f"clipsearch: {tmp_path.resolve()}/none.png is not a file that could have a sidecar\n" in removed.err
    assert [path.name for path in other.parent.iterdir()] == ["a photo.png"]


def test_lightrooms_name_is_used_unless_it_is_that_of_a_raw_file(clipsearch: Run, photos: Path, index: Path) -> None:
    for name in ("00.xmp", "01.xmp", "02.xmp", "02.png.xmp"):
        (photos / name).write_bytes(OF_DARKTABLE)
    (photos / "01.NEF").write_bytes(b"raw")
    before = files(photos)
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    after = files(photos)
    assert {name for name in after if after[name] != before.get(name)} == {"00.xmp", "01.png.xmp", "02.png.xmp"}
    assert clipsearch("label", "--remove", index=index).status == 0
    assert files(photos) == before


@posix
def test_permissions_and_links_stay(clipsearch: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    target = tmp_path / "sidecars" / "00.xmp"
    target.parent.mkdir()
    target.write_bytes(OF_DARKTABLE)
    target.chmod(0o640)
    (photos / "00.png.xmp").symlink_to(target)
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    assert (photos / "00.png.xmp").is_symlink()
    assert keywords(target.read_bytes())
    assert target.stat().st_mode & 0o777 == 0o640
    assert clipsearch("label", "--remove", index=index).status == 0
    assert (photos / "00.png.xmp").is_symlink()
    assert target.read_bytes() == OF_DARKTABLE
    assert [path.name for path in target.parent.iterdir()] == ["00.xmp"]


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--remove", "cat"), "--remove takes away all tags"),
        (("--remove", "--write-xmp"), "--remove takes away all tags"),
        (("cat", "--dry-run"), "--dry-run is for --write-xmp and --remove"),
        (("cat", "--min-probability", ".5"), "--min-probability says what --write-xmp adds"),
        (("cat", "|", "--write-xmp"), "'|' cannot be a keyword in XMP"),
        (("cat", "a\x01b", "--write-xmp"), "'a\\x01b' cannot be a keyword in XMP"),
    ],
)
def test_what_makes_no_sense(
    arguments: tuple[str, ...], message: str, clipsearch: Run, photos: Path, index: Path
) -> None:
    refused = clipsearch("label", *arguments, index=index)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)
    assert refused.err.startswith(f"clipsearch: {message}")
    assert not list(photos.glob("*.xmp"))


def test_a_sidecar_that_cannot_be_extended_is_left_alone(clipsearch: Run, photos: Path, index: Path) -> None:
    utf16 = OF_DARKTABLE.decode().replace("UTF-8", "UTF-16").encode("utf-16")
    (photos / "00.png.xmp").write_bytes(utf16)
    (photos / "01.png.xmp").mkdir()
    done = clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index)
    assert done.status == 2
    assert len(done.lines) == 3
    assert done.err == (
        f"clipsearch: {photos}/00.png.xmp is left as it is: it is not in UTF-8 but in UTF-16\n"
        f"clipsearch: {photos}/01.png.xmp is left as it is: it is not a file, or too large\n"
        "wrote 1 sidecar, 0 had them already\n"
    )
    assert (photos / "00.png.xmp").read_bytes() == utf16
    assert keywords((photos / "02.png.xmp").read_bytes())


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_folder_that_may_not_be_written(bound: Run, tmp_path: Path) -> None:
    photos = tmp_path.resolve() / "photos"
    save_scenes(photos, 1)
    save_scenes(photos / "closed", 1, first=3)
    (photos / "closed/03.png.xmp").write_bytes(OF_DARKTABLE)
    update_index(tmp_path / "index", [photos], Options(model="mini"))
    (photos / "closed").chmod(0o500)
    done = bound("label", "a", "b", "--write-xmp", *ALL, index=tmp_path / "index")
    assert done.status == 2
    assert done.err == (
        f"clipsearch: {photos}/closed/03.png.xmp cannot be written: permission denied\n"
        "wrote 1 sidecar, 0 had them already\n"
    )
    (photos / "closed").chmod(0o700)
    assert files(photos / "closed").keys() == {"03.png", "03.png.xmp"}
    assert (photos / "closed/03.png.xmp").read_bytes() == OF_DARKTABLE


@pytest.mark.parametrize("before", [None, OF_DARKTABLE])
@pytest.mark.parametrize("remove", [False, True])
def test_a_sidecar_that_another_program_writes_meanwhile_stays(
    tmp_path: Path, before: bytes | None, remove: bool
) -> None:
    (tmp_path / "a.png").touch()
    sidecar = tmp_path / "a.png.xmp"
    if before is not None:
        sidecar.write_bytes(before)
    change = addition(os.fsencode(tmp_path / "a.png"), ["a"])
    sidecar.write_bytes(b"of another program")
    with pytest.raises(ClipsearchError):
        carry_out(change._replace(after=None) if remove else change)
    assert sidecar.read_bytes() == b"of another program"
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.png.xmp"]


@posix
def test_a_full_disk(photos: Path, index: Path) -> None:
    import resource

    large = OF_DARKTABLE + b"\n" * 100_000
    (photos / "00.png.xmp").write_bytes(large)
    command = [sys.executable, "-m", "clipsearch", "label", "a", "b", "--write-xmp", *ALL, "--index", index]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"clipsearch: {photos}/00.png.xmp cannot be written: file too large\nwrote 2 sidecars, 0 had them already\n"
    )
    assert (photos / "00.png.xmp").read_bytes() == large
    assert not [name for name in files(photos) if name.startswith(".")]


@posix
@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_or_the_new_sidecars(kills: int, clipsearch: Run, tmp_path: Path) -> None:
    photos = tmp_path.resolve() / "photos"
    save_scenes(photos, 1)
    for n in range(100):
        shutil.copy(photos / "00.png", photos / f"copy {n}.png")
        if n % 2:
            (photos / f"copy {n}.png.xmp").write_bytes(OF_DARKTABLE)
    index = tmp_path / "index"
    update_index(index, [photos], Options(model="mini"))
    before = {name: content for name, content in files(photos).items() if name.endswith(".xmp")}
    command = [sys.executable, "-m", "clipsearch", "label", "dog", "--write-xmp", *ALL, "--index", index]
    first = photos / "00.png.xmp"
    rng, partly = random.Random(kills), 0
    for _ in range(kills):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not first.exists() and run.poll() is None:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.03))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        found = {path.name: path.read_bytes() for path in photos.glob("*.xmp") if not path.name.startswith(".")}
        new = 0
        for name, content in found.items():
            changed = content != before.get(name)
            assert not changed or content == with_keywords(before.get(name), ["dog"]), name
            new += changed
        partly += 0 < new < 101
        for name in found:
            if name in before:
                (photos / name).write_bytes(before[name])
            else:
                (photos / name).unlink()
    assert partly >= 1
    assert clipsearch(*command[3:]).err == "wrote 101 sidecars, 0 had them already\n"


def test_results_that_nobody_reads_do_not_stop_the_writing(photos: Path, index: Path) -> None:
    command = [sys.executable, "-m", "clipsearch", "label", "a", "b", "--write-xmp", *ALL, "--index", index]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == "wrote 3 sidecars, 0 had them already\n"
    assert len(list(photos.glob("*.xmp"))) == 3
