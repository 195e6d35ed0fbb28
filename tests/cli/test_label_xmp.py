"""`clipsearch label --write-xmp` and `--remove`, run as a program on real photos."""

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
from bound import bound_command, limit
from conftest import SCENES, Run, save_scenes
from terminal import posix

from clipsearch.errors import ClipsearchError
from clipsearch.images.box import Box
from clipsearch.images.metadata import Metadata
from clipsearch.images.xmp import OURS, keywords, with_keywords
from clipsearch.images.xmp_facts import face_regions
from clipsearch.images.xmp_regions import FaceName, with_regions
from clipsearch.indexing.update import Options, update_index
from clipsearch.output import tags
from clipsearch.output.tags import Tagger

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
        [f"would write {path}.xmp: {labels[path].replace('|', ', ')}\n" for path in sorted(labels)]
        + ["would write 3 sidecars; 0 already have these keywords\n"]
    )
    assert files(photos) == before

    done = clipsearch(*question, "--write-xmp", *ALL, index=index)
    assert (done.status, done.out, done.err) == (0, plain.out, "wrote 3 sidecars; 0 already had these keywords\n")
    after = files(photos)
    assert after.keys() == before.keys() | {"01.png.xmp", "02.png.xmp"}
    assert all(after[name] == before[name] for name in before if name.endswith(".png"))
    for path, label in labels.items():
        assert keywords(Path(f"{path}.xmp").read_bytes()) == tuple(label.split("|"))
    assert after["00.png.xmp"] == with_keywords(OF_DARKTABLE, [labels[str(photos / "00.png")]])

    again = clipsearch(*question, "--write-xmp", *ALL, index=index)
    assert (again.status, again.err) == (0, "wrote 0 sidecars; 3 already had these keywords\n")
    assert files(photos) == after

    tried = clipsearch("label", "--remove", "--dry-run", index=index)
    assert (tried.status, tried.out) == (0, b"")
    first = labels[str(photos / "00.png")].replace("|", ", ")
    assert tried.err.startswith(f"would remove from {photos}/00.png.xmp: {first}\nwould delete {photos}/01.png.xmp:")
    assert tried.err.endswith("would clean 1 sidecar, delete 2 that became empty\n")
    assert files(photos) == after

    removed = clipsearch("label", "--remove", index=index)
    assert (removed.status, removed.out) == (0, b"")
    assert removed.err == "cleaned 1 sidecar, deleted 2 that became empty\n"
    assert files(photos) == before


def test_only_likely_labels_of_the_photos_that_were_chosen(clipsearch: Run, photos: Path, index: Path) -> None:
    labels = ("cat", "dog", "sea")
    rows = [line.split("\t") for line in clipsearch("label", *labels, index=index).lines]
    lowest, least, _ = sorted(float(probability) for _, probability, _ in rows)
    assert least - lowest > 0.001  # what is printed is rounded
    limit = ("--min-probability", least - 0.0005)
    written = clipsearch("label", *labels, "--write-xmp", "--counts", *limit, index=index)
    assert written.err == "wrote 2 sidecars; 0 already had these keywords\n"
    assert len(list(photos.glob("*.xmp"))) == 2
    assert sum(int(line.split("\t")[0]) for line in written.lines) == 2
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
    assert "clipsearch: - is not a file, so it can have no sidecar\n" in done.err
    assert done.err.endswith("wrote 1 sidecar; 0 already had these keywords\n")
    assert [path.name for path in other.parent.iterdir()] == ["a photo.png", "a photo.png.xmp"]
    assert not list(photos.glob("*.xmp"))
    removed = clipsearch("label", "--remove", "--image", other, "--image", tmp_path / "none.png", index=index)
    assert removed.status == 2
    assert f"clipsearch: {tmp_path.resolve()}/none.png is not a file, so it can have no sidecar\n" in removed.err
    assert [path.name for path in other.parent.iterdir()] == ["a photo.png"]


def test_lightrooms_name_is_used_unless_it_is_that_of_a_raw_file(clipsearch: Run, photos: Path, index: Path) -> None:
    for name in ("00.xmp", "01.xmp", "02.xmp", "02.png.xmp"):
        (photos / name).write_bytes(OF_DARKTABLE)
    (photos / "01.NEF").write_bytes(b"raw")
    before = files(photos)
    owner = Tagger().plan_addition(os.fsencode(photos / "01.NEF"), ["a"])
    assert owner.path.name == "01.xmp"
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    after = files(photos)
    assert {name for name in after if after[name] != before.get(name)} == {"00.xmp", "01.png.xmp", "02.png.xmp"}
    assert clipsearch("label", "--remove", index=index).status == 0
    assert files(photos) == before
    (photos / "01.dng").write_bytes(b"converted")
    for name in ("01.NEF", "01.dng"):
        assert Tagger().plan_addition(os.fsencode(photos / name), ["a"]).path.name == f"{name}.xmp"


def test_of_several_sidecars_the_one_with_keywords_gets_the_labels(clipsearch: Run, photos: Path, index: Path) -> None:
    used = with_keywords(OF_DARKTABLE, ["mine"]).replace(b"clipsearch:", b"other:").replace(b"clipsearch", b"other")
    there = {
        "00.XMP": OF_DARKTABLE,  # alone
        "01.png.xmp": OF_DARKTABLE,  # the first of two without keywords
        "01.xmp": OF_DARKTABLE,
        "02.PNG.Xmp": OF_DARKTABLE,  # the second has keywords
        "02.XMP": used,
    }
    for name, content in there.items():
        (photos / name).write_bytes(content)
    for _ in range(2):
        assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
        after = files(photos)
        assert {name for name in after if after[name] != there.get(name)} - {"00.png", "01.png", "02.png"} == {
            "00.XMP",
            "01.png.xmp",
            "02.XMP",
        }
    for name in ("01.xmp", "02.PNG.Xmp"):  # ours in all of them
        (photos / name).write_bytes(with_keywords(OF_DARKTABLE, ["dog"]))
    removed = clipsearch("label", "--remove", index=index)
    assert removed.err == "cleaned 5 sidecars, deleted 0 that became empty\n"
    assert {name: content for name, content in files(photos).items() if name in there} == there


def test_a_face_that_another_sidecar_names_is_left_to_it(tmp_path: Path) -> None:
    for name in ("a.png", "a.mov"):
        (tmp_path / name).touch()
    anna, ben = ("Anna", Box(0.1, 0.1, 0.3, 0.3)), ("Ben", Box(0.6, 0.6, 0.8, 0.8))
    ours = with_regions(None, [FaceName(*anna)], Metadata(400, 300))
    assert ours
    theirs = ours.replace(OURS.encode(), b"https://example.org/")
    (tmp_path / "a.xmp").write_bytes(theirs)
    (change,) = Tagger().plan_faces(os.fsencode(tmp_path / "a.png"), [anna, ben], Metadata(400, 300))
    assert change.path.name == "a.png.xmp"
    assert change.after
    assert [region.name for region in face_regions(change.after)] == ["Ben"]
    (tmp_path / "a.xmp").write_bytes(theirs[:-5])
    with pytest.raises(ClipsearchError, match=r"a\.xmp was not changed: it is not well-formed"):
        Tagger().plan_faces(os.fsencode(tmp_path / "a.png"), [anna], Metadata(400, 300))


def test_a_sidecar_of_two_photos_gets_the_labels_of_neither(clipsearch: Run, photos: Path, index: Path) -> None:
    (photos / "00.xmp").write_bytes(with_keywords(OF_DARKTABLE, ["dog"]))
    (photos / "00.mov").write_bytes(b"the video of a live photo")
    before = files(photos)
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, "--name", "00", index=index).status == 0
    after = files(photos)
    assert after.keys() - before.keys() == {"00.png.xmp"}
    assert after["00.xmp"] == before["00.xmp"]
    assert clipsearch("label", "--remove", "--name", "00", index=index).status == 0
    assert files(photos) == {**before, "00.xmp": OF_DARKTABLE}


@posix
def test_permissions_attributes_and_links_stay(clipsearch: Run, photos: Path, index: Path) -> None:
    target = photos / "sidecars" / "00.xmp"
    target.parent.mkdir()
    target.write_bytes(OF_DARKTABLE)
    target.chmod(0o640)
    attributes = _attributes(target)
    (photos / "00.png.xmp").symlink_to(target)
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    assert (photos / "00.png.xmp").is_symlink()
    assert keywords(target.read_bytes())
    status = target.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, os.getuid(), os.getgid())
    assert attributes is None or os.getxattr(target, "user.rating") == attributes
    assert clipsearch("label", "--remove", index=index).status == 0
    assert (photos / "00.png.xmp").is_symlink()
    assert target.read_bytes() == OF_DARKTABLE
    target.write_bytes(with_keywords(None, ["a"]))
    assert clipsearch("label", "--remove", index=index).status == 0
    assert not (photos / "00.png.xmp").is_symlink()
    target.write_bytes(OF_DARKTABLE)
    assert [path.name for path in target.parent.iterdir()] == ["00.xmp"]
    shutil.rmtree(target.parent)


def _attributes(path: Path) -> bytes | None:
    """An extended attribute that the file has from now on, where the file system can have some."""
    try:
        os.setxattr(path, "user.rating", b"4")
    except (AttributeError, OSError):
        return None
    return b"4"


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(clipsearch: Run, photos: Path, index: Path) -> None:
    (photos / "00.png.xmp").write_bytes(OF_DARKTABLE)
    os.chown(photos / "00.png.xmp", 12345, 23456)
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    status = (photos / "00.png.xmp").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


@posix
def test_no_link_out_of_the_folder_is_followed(clipsearch: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    outside = tmp_path / "00.xmp"
    outside.write_bytes(with_keywords(OF_DARKTABLE, ["dog"]))
    (photos / "00.png.xmp").symlink_to(outside)
    (photos / "01.png.xmp").symlink_to(photos / "nothing.xmp")
    before = outside.read_bytes()
    links = {"00.png.xmp": "a link to another folder", "01.png.xmp": "a broken link"}
    for more in ((), ("--dry-run",)):
        done = clipsearch("label", "a", "b", "--write-xmp", *ALL, *more, index=index)
        assert (done.status, done.err.count("clipsearch: ")) == (2, 2)
        for name, problem in links.items():
            assert f"clipsearch: {photos}/{name} was not changed: it is {problem}\n" in done.err
    assert outside.read_bytes() == before
    assert not (photos / "nothing.xmp").exists()

    (photos / "00.xmp").write_bytes(with_keywords(OF_DARKTABLE, ["dog"]))
    removed = clipsearch("label", "--remove", index=index)
    assert (removed.status, removed.err.splitlines()) == (
        2,
        [
            f"clipsearch: {photos}/00.png.xmp was not changed: it is a link to another folder",
            "cleaned 1 sidecar, deleted 1 that became empty",
        ],
    )
    assert (photos / "00.xmp").read_bytes() == OF_DARKTABLE
    assert outside.read_bytes() == before
    outside.write_bytes(OF_DARKTABLE)  # nothing of ours is in it: there is nothing to say
    assert clipsearch("label", "--remove", index=index).status == 0


@posix
def test_the_sidecar_of_a_link_lies_beside_the_link(clipsearch: Run, index: Path, tmp_path: Path) -> None:
    for name in ("photos", "album"):
        (tmp_path / name).mkdir()
    SCENES[0].image.save(tmp_path / "photos/a.png")
    (tmp_path / "album/b.png").symlink_to(tmp_path / "photos/a.png")
    done = clipsearch("label", "a", "b", "--image", tmp_path / "album/b.png", "--write-xmp", *ALL, index=index)
    assert done.status == 0
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]
    assert (tmp_path / "album/b.png.xmp").is_file()


@posix
def test_what_a_killed_run_has_left_is_deleted(clipsearch: Run, photos: Path, index: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".00.png.xmp.{ended.pid}.tmp", f".x.XMP.{ended.pid}.tmp"]
    others = [f".00.png.xmp.{os.getpid()}.tmp", f"00.png.xmp.{ended.pid}.tmp", f".notes.{ended.pid}.tmp"]
    for name in (*left, *others):
        (photos / name).write_bytes(b"<x")
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, "--dry-run", index=index).status == 0
    assert set(left) < files(photos).keys()
    assert clipsearch("label", "a", "b", "--write-xmp", *ALL, index=index).status == 0
    assert files(photos).keys() & {*left, *others} == set(others)


# ------------------------------------------------------------------------------------------ other programs


def test_what_another_program_writes_meanwhile_is_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, sidecar = os.fsencode(photos / "00.png"), photos / "00.png.xmp"
    chosen = Tagger()
    new = chosen.plan_addition(photo, ["dog"])
    sidecar.write_bytes(with_keywords(None, ["theirs"]))
    chosen.apply(new)
    assert keywords(sidecar.read_bytes()) == ("theirs", "dog")

    changed = chosen.plan_addition(photo, ["cat"])
    keep = tags._copy_attributes

    def late(path: Path, temporary: Path) -> None:
        """Another program writes just before the file is replaced."""
        monkeypatch.setattr(tags, "_copy_attributes", keep)
        path.write_bytes(with_keywords(path.read_bytes(), ["late"]))
        keep(path, temporary)

    monkeypatch.setattr(tags, "_copy_attributes", late)
    chosen.apply(changed)
    assert keywords(sidecar.read_bytes()) == ("theirs", "dog", "late", "cat")

    sidecar.unlink()
    chosen.apply(chosen.plan_addition(photo, ["dog"]))
    gone = Tagger().plan_removal(sidecar)
    assert gone.after is None
    sidecar.write_bytes(with_keywords(OF_DARKTABLE, ["dog"]))
    chosen.apply(gone)
    assert sidecar.read_bytes() == OF_DARKTABLE

    monkeypatch.setattr(tags, "_copy_attributes", lambda path, _: path.write_bytes(path.read_bytes() + b" "))
    with pytest.raises(ClipsearchError, match="another program keeps writing to it"):
        chosen.apply(chosen.plan_addition(photo, ["cat"]))
    assert keywords(sidecar.read_bytes()) == ()
    assert [path.name for path in photos.iterdir() if path.name.endswith(".tmp")] == []


@posix
def test_a_photo_with_a_long_name(clipsearch: Run, photos: Path, index: Path, tmp_path: Path) -> None:
    name = "é" * 121 + "a.png"
    shutil.copy(photos / "00.png", tmp_path / name)
    done = clipsearch("label", "a", "b", "--image", tmp_path / name, "--write-xmp", *ALL, index=index)
    assert done.err == "wrote 1 sidecar; 0 already had these keywords\n"
    assert (tmp_path / f"{name}.xmp").is_file()


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--remove", "cat"), "--remove deletes every keyword"),
        (("--remove", "--write-xmp"), "--remove deletes every keyword"),
        (("cat", "--dry-run"), "--dry-run needs --write-xmp or --remove"),
        (("--remove", "--min-probability", ".5"), "--remove deletes every keyword"),
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
        f"clipsearch: {photos}/00.png.xmp was not changed: it is in UTF-16, not in UTF-8\n"
        f"clipsearch: {photos}/01.png.xmp cannot be read: is a directory\n"
        "wrote 1 sidecar; 0 already had these keywords\n"
    )
    assert (photos / "00.png.xmp").read_bytes() == utf16
    assert keywords((photos / "02.png.xmp").read_bytes())


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_folder_that_may_not_be_written(bound: Run, tmp_path: Path) -> None:
    photos = tmp_path.resolve() / "photos"
    save_scenes(photos, 1)
    save_scenes(photos / "closed", 1, first=3)
    for name in ("closed/03.png.xmp", "00.png.xmp"):
        (photos / name).write_bytes(OF_DARKTABLE)
    (photos / "00.png.xmp").chmod(0o444)
    update_index(tmp_path / "index", [photos], Options(model="mini"))
    (photos / "closed").chmod(0o500)
    done = bound("label", "a", "b", "--write-xmp", *ALL, index=tmp_path / "index")
    assert done.status == 2
    assert done.err == (
        f"clipsearch: {photos}/00.png.xmp was not changed: it is read-only\n"
        f"clipsearch: {photos}/closed/03.png.xmp cannot be written: permission denied\n"
        "wrote 0 sidecars; 0 already had these keywords\n"
    )
    assert (photos / "00.png.xmp").read_bytes() == OF_DARKTABLE
    (photos / "closed").chmod(0o700)
    assert files(photos / "closed").keys() == {"03.png", "03.png.xmp"}
    assert (photos / "closed/03.png.xmp").read_bytes() == OF_DARKTABLE


@pytest.mark.parametrize("before", [None, OF_DARKTABLE])
def test_a_sidecar_that_another_program_writes_meanwhile_stays(tmp_path: Path, before: bytes | None) -> None:
    (tmp_path / "a.png").touch()
    sidecar = tmp_path / "a.png.xmp"
    if before is not None:
        sidecar.write_bytes(before)
    chosen = Tagger()
    change = chosen.plan_addition(os.fsencode(tmp_path / "a.png"), ["a"])
    sidecar.write_bytes(b"of another program")
    with pytest.raises(ClipsearchError):
        chosen.apply(change)
    assert sidecar.read_bytes() == b"of another program"
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.png.xmp"]


@posix
def test_a_full_disk(photos: Path, index: Path) -> None:
    large = OF_DARKTABLE + b"\n" * 100_000
    (photos / "00.png.xmp").write_bytes(large)
    arguments = ("label", "a", "b", "--write-xmp", *ALL, "--index", index)
    command = bound_command(limit("RLIMIT_FSIZE", 50_000), *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"clipsearch: {photos}/00.png.xmp cannot be written: file too large\n"
        "wrote 2 sidecars; 0 already had these keywords\n"
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
    assert clipsearch(*command[3:]).err == "wrote 101 sidecars; 0 already had these keywords\n"


def test_results_that_nobody_reads_do_not_stop_the_writing(photos: Path, index: Path) -> None:
    command = [sys.executable, "-m", "clipsearch", "label", "a", "b", "--write-xmp", *ALL, "--index", index]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == "wrote 3 sidecars; 0 already had these keywords\n"
    assert len(list(photos.glob("*.xmp"))) == 3
