"""Groups of copies, which file is kept, and results that show each photo once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import scenes
import videos
from conftest import SCENES, Run
from pictures import code, font, logo, page, screenshot
from PIL import ExifTags, Image, ImageDraw

from clipsearch.errors import DecoderFailed
from clipsearch.images import found_file
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import file_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.index import open_index
from clipsearch.indexing.update import Options, update_index
from clipsearch.search import copies, files_on_disk, find
from clipsearch.search.copies import components, find_copies
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.find import Searcher
from clipsearch.search.question import Limits, Term
from clipsearch.store.catalogue import Store
from clipsearch.store.filters import Filter
from clipsearch.store.photo import Photo

pillow_heif.register_heif_opener()

LARGE = [scene.image for scene in scenes.draw_distinct(6, seed=31_000_000, size=480)]


def half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def groups(index: Path, folder: Path, *, identical: bool = False) -> list[list[str]]:
    """The groups of an index as paths below a folder; the best of each group first, the others by name."""
    with Store.open(index) as store:
        found = find_copies(store, store.select(), FilesOnDisk(), identical=identical)
    names = [[os.path.relpath(os.fsdecode(copy.photo.file), folder) for copy in group] for group in found]
    return [[first, *sorted(others)] for first, *others in names]


def kinds(index: Path) -> dict[str, str]:
    with Store.open(index) as store:
        found = find_copies(store, store.select(), FilesOnDisk())
    return {os.path.basename(os.fsdecode(copy.photo.file)): copy.kind for group in found for copy in group}


# ------------------------------------------------------------------------------------------ hashes


def all_pairs(hashes: np.ndarray, distance: int = 6) -> set[frozenset[int]]:
    """Rows connected by small distances, found by comparing all of them again and again."""
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    label = np.arange(len(hashes))
    while True:
        least = np.where(near, label[None], len(hashes)).min(1)
        if (least == label).all():
            sets = {frozenset(np.flatnonzero(label == one).tolist()) for one in set(label.tolist())}
            return {one for one in sets if len(one) > 1}
        label = least


@pytest.mark.parametrize("seed", range(3))
def test_sets_of_near_hashes_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, 800, np.uint64)
    for number in range(300, 700):  # some bits of an earlier one flipped, in chains too
        bits = rng.choice(63, rng.integers(0, 10), replace=False)
        hashes[number] = hashes[rng.integers(number)] ^ np.uint64(sum(1 << int(bit) for bit in bits))
    found = components(hashes)
    assert {frozenset(part.tolist()) for part in found} == all_pairs(hashes)
    assert len(found) > 50


def test_few_hashes_are_near_none() -> None:
    assert components(np.empty(0, np.uint64)) == []
    assert components(np.array([5], np.uint64)) == []
    assert [part.tolist() for part in components(np.array([5, 5, 2**63 - 1], np.uint64))] == [[0, 1]]


# ------------------------------------------------------------------------------------------ groups


@pytest.fixture
def burst(tmp_path: Path, mini_index: Callable[..., Path]) -> tuple[Path, Path]:
    """Ten photos; of the first there are a small one, a re-save and a copy, of the second a copy."""
    folder = tmp_path.resolve() / "photos"
    folder.mkdir()
    for n in range(10):
        SCENES[n].image.save(folder / f"{n:02d}.png")
    SCENES[0].image.resize((120, 120), Image.Resampling.LANCZOS).save(folder / "00-small.png")
    SCENES[0].image.save(folder / "00-again.jpg", quality=98, subsampling=0)
    shutil.copy2(folder / "00.png", folder / "00 copy.png")
    shutil.copy2(folder / "01.png", folder / "01-copy.png")
    return folder, mini_index(folder)


def test_groups_have_the_best_first(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    assert groups(index, folder) == [
        ["00.png", "00 copy.png", "00-again.jpg", "00-small.png"],
        ["01.png", "01-copy.png"],
    ]
    assert kinds(index) == {
        "00.png": "best",
        "00 copy.png": "identical",
        "00-again.jpg": "copy",
        "00-small.png": "copy",
        "01.png": "best",
        "01-copy.png": "identical",
    }


def test_identical_files_alone(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    assert groups(index, folder, identical=True) == [["00.png", "00 copy.png"], ["01.png", "01-copy.png"]]


def test_a_file_that_is_gone_is_no_copy(burst: tuple[Path, Path]) -> None:
    folder, index = burst
    (folder / "01.png").unlink()
    (folder / "00.png").unlink()
    assert groups(index, folder) == [["00 copy.png", "00-again.jpg", "00-small.png"]]


def test_the_command_in_every_format(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    folder, index = burst
    one, two = (str(folder / name) for name in ("00.png", "00 copy.png"))
    three, four = (str(folder / name) for name in ("01.png", "01-copy.png"))
    run = ("duplicates", "--identical")
    assert clipsearch(*run, index=index).lines == [two, four]  # a script that deletes them keeps the best
    assert clipsearch(*run, "-0", index=index).out.decode() == f"{two}\0{four}\0"
    assert clipsearch(*run, "-f", "tsv", index=index).lines == [
        *(f"1\t{kind}\t1.0000\t{path}" for kind, path in (("best", one), ("identical", two))),
        *(f"2\t{kind}\t1.0000\t{path}" for kind, path in (("best", three), ("identical", four))),
    ]
    objects = [json.loads(line) for line in clipsearch(*run, "-f", "jsonl", index=index).lines]
    assert json.loads(clipsearch(*run, "-f", "json", index=index).out) == objects
    assert [[photo["path"] for photo in group["photos"]] for group in objects] == [[one, two], [three, four]]
    assert (objects[0]["group"], objects[0]["photos"][0]["similarity"], objects[0]["photos"][0]["width"]) == (1, 1, 160)
    table = clipsearch("duplicates", "-f", "table", index=index, COLUMNS="300").lines
    assert table[0].split(maxsplit=4) == ["best", "160x160", *table[0].split()[2:4], one]
    assert [line.split()[0] if line else "" for line in table] == [
        "best",
        "identical",
        "copy",
        "copy",
        "",
        "best",
        "identical",
        "",
    ]


def test_no_copies_is_status_1(clipsearch: Run, drawn_index: Path, burst: tuple[Path, Path]) -> None:
    _, index = burst
    nothing = clipsearch("duplicates", index=drawn_index)
    assert (nothing.status, nothing.out, nothing.err) == (1, b"", "")
    assert clipsearch("duplicates", "--type", "jpg", index=index).status == 1
    assert clipsearch("duplicates", "--similar", "--similarity", "2", index=index).status == 2
    assert clipsearch("duplicates", "--similarity", "0.9", index=index).status == 2


@pytest.mark.parametrize("content", ["another picture", "nothing", "the same size and time"])
def test_a_file_that_shows_something_else_by_now_is_no_copy(
    clipsearch: Run, burst: tuple[Path, Path], content: str
) -> None:
    """Or a script would delete the last file that still shows it."""
    folder, index = burst
    changed = folder / "01.png"  # the best of its group
    before = changed.stat()
    if content == "another picture":
        SCENES[30].image.save(changed)
    elif content == "nothing":
        changed.write_bytes(b"")
    else:
        changed.write_bytes(bytes(before.st_size))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = clipsearch("duplicates", index=index)
    assert "01-copy.png" not in found.out.decode()
    assert found.err == f"not shown, changed since indexed: {changed}. Run: clipsearch index\n"
    folded = clipsearch(
        "query", "--image", folder / "01-copy.png", "--unique", "--with-self", "-k", 30, "-f", "jsonl", index=index
    )
    hits = {Path(hit["path"]).name: hit for hit in map(json.loads, folded.lines)}
    assert hits["01.png"]["similar"] == [] == hits["01-copy.png"]["similar"]
    assert clipsearch("index", index=index).status == 0
    assert clipsearch("duplicates", index=index).err == ""


@pytest.mark.parametrize("fault", ["zeros", "unreadable"])
@pytest.mark.parametrize("damaged", ["01.png", "01-copy.png"])
def test_a_file_damaged_under_its_old_times_is_neither_best_nor_listed(
    burst: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, fault: str, damaged: str
) -> None:
    """As by a bad sector, or on a memory card, which has no time of change."""
    folder, index = burst
    path = folder / damaged
    if fault == "zeros":
        monkeypatch.setattr(found_file, "_CTIME_IS_CHANGE", False)
        before = path.stat()
        path.write_bytes(bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:

        def fails(file: bytes) -> bytes:
            if file == os.fsencode(path):
                raise OSError(errno.EIO, "Input/output error")
            return file_hash(file)

        monkeypatch.setattr(files_on_disk, "file_hash", fails)
    files = FilesOnDisk()
    with Store.open(index) as store:
        for identical in (True, False):
            found = find_copies(store, store.select(), files, identical=identical)
            assert [os.path.basename(group[0].photo.file) for group in found] == [b"00.png"]
    assert (list(files.damaged), dict(files.unreadable)) == (
        ([os.fsencode(path)], {}) if fault == "zeros" else ([], {os.fsencode(folder): 1})
    )
    if fault == "zeros":
        with open_index(index) as opened:
            unique = {hit.path.name for hit in opened.query(k=30, unique=True)}
        assert {"01.png", "01-copy.png"} <= unique


def test_a_changed_file_is_named_once(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    folder, index = burst
    for name in ("01.png", "01-copy.png"):
        (folder / name).write_bytes(b"")
    assert "01-copy.png and 1 more." in clipsearch("duplicates", index=index).err


def test_documents_are_no_copies_and_all_are_shown(
    clipsearch: Run, tmp_path: Path, mini_index: Callable[..., Path]
) -> None:
    folder = tmp_path.resolve() / "documents"
    folder.mkdir()
    for n in range(4):
        page(n).save(folder / f"page-{n}.jpg", quality=85)
        screenshot(n).save(folder / f"chat-{n}.png")
        code(n).save(folder / f"code-{n}.png")
        logo("ABCD"[n]).save(folder / f"logo-{n}.png")
    Image.new("RGB", (500, 660), "white").save(folder / "blank-1.jpg")
    Image.new("RGB", (510, 660), "white").save(folder / "blank-2.jpg")
    index = mini_index(folder)
    assert groups(index, folder) == []
    assert len(clipsearch("query", "text", "-k", 50, "--unique", index=index).lines) == 18


def test_of_many_that_look_alike_each_is_compared_with_a_few_and_copies_are_still_found(
    tmp_path: Path, mini_index: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.resolve() / "forms"
    folder.mkdir()
    for n in range(12):
        form = page(1)
        ImageDraw.Draw(form).text((300, 640), f"No. {n:02d}", fill="black", font=font(14))
        form.save(folder / f"{n:02d}.png")
        if n % 4 == 0:
            form.save(folder / f"{n:02d}-again.jpg", quality=70)
    index = mini_index(folder)
    tried = []
    similarity = copies.Comparer.similarity

    def counted(comparer: copies.Comparer, best: Photo, other: Photo) -> float | None:
        tried.append((best, other))
        return similarity(comparer, best, other)

    monkeypatch.setattr(copies, "MOST", 3)
    monkeypatch.setattr(copies.Comparer, "similarity", counted)
    assert groups(index, folder) == [[f"{n:02d}.png", f"{n:02d}-again.jpg"] for n in (0, 4, 8)]
    assert len(tried) <= 12 * 3 + 3  # of 105 pairs


# ------------------------------------------------------------------------------------------ which is kept


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    "trash", ["#recycle/2023", "$RECYCLE.BIN/S-1-5-21", ".Trash-1000/files", "@Recycle", "#snapshot/a"]
)
def test_what_lies_in_a_trash_folder_is_never_the_best(
    tmp_path: Path, mini_index: Callable[..., Path], trash: str
) -> None:
    folder = tmp_path.resolve()
    kept = save(folder / "photos/2023/beach (1).png", LARGE[0])
    os.makedirs(folder / "photos" / trash)
    shutil.copy2(kept, folder / "photos" / trash / "beach.png")
    save(folder / "photos/2024/small.png", half(LARGE[0]))
    index = mini_index(folder / "photos", hidden=True)
    assert groups(index, folder / "photos") == [
        ["2023/beach (1).png", *sorted((f"{trash}/beach.png", "2024/small.png"))]
    ]


def test_the_last_good_version_in_a_trash_folder_is_not_listed(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    folder = tmp_path.resolve() / "photos"
    save(folder / "#recycle/beach.png", LARGE[0])
    save(folder / "small.jpg", half(LARGE[0]))
    assert groups(mini_index(folder), folder) == []


def exif(date: str = "2023:07:14 18:03:21") -> Image.Exif:
    out = Image.Exif()
    out.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
    return out


def test_the_only_file_that_knows_its_date_is_not_listed(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    folder = tmp_path.resolve() / "photos"
    save(folder / "camera.jpg", LARGE[0], exif=exif(), quality=80)
    save(folder / "exported.png", LARGE[0])
    save(folder / "sent.jpg", half(LARGE[0]), quality=80)
    assert groups(mini_index(folder), folder) == [["exported.png", "sent.jpg"]]


def test_a_lossless_file_is_better_than_a_larger_jpeg(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    folder = tmp_path.resolve() / "photos"
    lossless = save(folder / "screen.png", SCENES[2].image)
    lossy = save(folder / "screen.jpg", SCENES[2].image, quality=100, subsampling=0)
    assert lossy.stat().st_size > lossless.stat().st_size
    assert groups(mini_index(folder), folder) == [["screen.png", "screen.jpg"]]


# ------------------------------------------------------------------------------------------ pairs


def test_half_of_a_pair_is_only_listed_when_the_other_half_is_kept_too(
    tmp_path: Path, mini_index: Callable[..., Path]
) -> None:
    folder = tmp_path.resolve() / "photos"
    first = save(folder / "2023/IMG_1.JPG", LARGE[0], quality=90)
    save(folder / "2023/IMG_2.JPG", LARGE[1], quality=90)
    for n in (1, 2):
        (folder / f"2023/IMG_{n}.MOV").write_bytes(b"a video that cannot be read %d" % n)
    shutil.copy2(first, save(folder / "best/IMG_1.JPG", LARGE[0]))
    os.utime(folder / "best/IMG_1.JPG", (1, 1))
    for name in ("IMG_2.JPG", "IMG_2.MOV"):
        (folder / "backup").mkdir(exist_ok=True)
        shutil.copy2(folder / "2023" / name, folder / "backup" / name)
    # IMG_1 in `best` is older, and so the better; the one with a MOV beside it must stay all the same.
    assert groups(mini_index(folder), folder) == [["2023/IMG_2.JPG", "backup/IMG_2.JPG"]]


def test_of_two_folders_with_the_same_pair_whole_pairs_stay(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    """Whichever file is the older: else a script would leave the still in one folder and the film in the other."""
    folder = tmp_path.resolve() / "live"
    still = save(folder / "a/IMG_1.JPG", LARGE[0], quality=90)
    film = videos.clip(folder / "a/IMG_1.MOV", [(SCENES[0].image, 1.0)])
    (folder / "b").mkdir()
    for file in (still, film):
        shutil.copy2(file, folder / "b" / file.name)
    assert groups(mini_index(folder), folder) == [["a/IMG_1.JPG", "b/IMG_1.JPG"], ["a/IMG_1.MOV", "b/IMG_1.MOV"]]
    os.utime(folder / "b/IMG_1.MOV", (1, 1))
    assert groups(mini_index(folder), folder) == []


# ------------------------------------------------------------------------------------------ videos


def test_videos_are_copies_by_all_their_frames_and_their_other_streams(
    tmp_path: Path, mini_index: Callable[..., Path]
) -> None:
    folder = tmp_path.resolve() / "films"
    folder.mkdir()
    shown = [(SCENES[0].image, 1.0), (SCENES[1].image, 1.0)]
    film = videos.clip(folder / "film.mp4", shown)
    videos.remux(film, folder / "remux.mkv")
    videos.clip(folder / "again.mp4", shown, keys=3)
    videos.clip(folder / "other-end.mp4", [(SCENES[0].image, 1.0), (SCENES[2].image, 1.0)])
    videos.clip(folder / "longer.mp4", [(SCENES[0].image, 1.0), (SCENES[1].image, 1.5)])
    videos.remux(film, folder / "dubbed.mkv", sound=300)
    videos.remux(film, folder / "subtitled.mkv", subtitle="Where are we?")
    videos.remux(film, folder / "translated.mkv", subtitle="Wo sind wir?")
    SCENES[0].image.resize(videos.SIZE).save(folder / "still.png")
    (group,) = groups(mini_index(folder), folder)
    assert set(group) == {"film.mp4", "remux.mkv", "again.mp4"}


def test_a_live_photo_is_two_files(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    folder = tmp_path.resolve() / "live"
    save(folder / "IMG_1.HEIC", SCENES[0].image.resize((1280, 960)), quality=90)
    videos.clip(folder / "IMG_1.MOV", [(SCENES[0].image, 3)])
    assert groups(mini_index(folder), folder) == []


def test_a_video_copied_with_holes_is_neither_copy_nor_best(tmp_path: Path, mini_index: Callable[..., Path]) -> None:
    """Its hash covers sixteen parts, and the holes lie between them."""
    folder = tmp_path.resolve() / "films"
    folder.mkdir()
    film = videos.clip(folder / "z-film.mp4", [(SCENES[0].image, 1), (SCENES[1].image, 1)])
    with film.open("ab") as file:  # as large as a minute of a telephone's; players skip what comes after
        file.truncate(40 << 20)
    whole = shutil.copy2(film, folder / "z-copy.mp4")
    broken = Path(shutil.copy2(film, folder / "a.mp4"))
    with broken.open("r+b") as file:
        file.seek(3 << 19)
        file.write(b"\1" * 100)
    index = mini_index(folder)
    assert groups(index, folder) == [["z-film.mp4", "z-copy.mp4"]]
    assert groups(index, folder, identical=True) == [["z-film.mp4", "z-copy.mp4"]]
    whole.unlink()
    assert groups(index, folder) == []


# ------------------------------------------------------------------------------------------ names of one file


@pytest.fixture
def linked(tmp_path: Path, mini_index: Callable[..., Path]) -> tuple[Path, Path]:
    """One photo under three names: its own, a link and a hard link; and others. Another folder links to its own."""
    folder = tmp_path.resolve() / "dl"
    (folder / "real").mkdir(parents=True)
    SCENES[0].image.save(folder / "real/z.png")
    (folder / "a.png").symlink_to("real/z.png")
    os.link(folder / "real/z.png", folder / "m.png")
    (folder / "b").symlink_to("real")
    for n in range(1, 4):
        SCENES[n].image.save(folder / f"{n}.png")
    return folder, mini_index(folder, follow_links=True)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_script_that_deletes_copies_never_deletes_the_last_name_of_a_photo(
    clipsearch: Run, linked: tuple[Path, Path]
) -> None:
    folder, index = linked
    alone = clipsearch("duplicates", "--format", "jsonl", index=index)
    assert (alone.status, alone.out) == (1, b"")  # three names of one file are no copies
    shutil.copy(folder / "real/z.png", folder / "copy.png")
    assert clipsearch("index", index=index).status == 0
    [group] = [json.loads(line) for line in clipsearch("duplicates", "-f", "jsonl", index=index).lines]
    kept, doomed = group["photos"]
    names = {str(folder / name) for name in ("m.png", "a.png", "real/z.png")}
    by_path = {photo["path"]: {one["path"] for one in photo["same_file"]} for photo in (kept, doomed)}
    assert by_path.pop(str(folder / "copy.png")) == set()
    [(own, others)] = by_path.items()
    assert own in (str(folder / "m.png"), str(folder / "real/z.png"))  # no link
    assert {own} | others == names
    table = clipsearch("duplicates", "-f", "table", index=index, COLUMNS="300").out.decode()
    assert table.count("same file") == 2
    content = (folder / "real/z.png").read_bytes()
    [listed] = clipsearch("duplicates", index=index).lines
    os.unlink(listed)
    assert Path(kept["path"]).read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_unique_counts_a_file_once(clipsearch: Run, linked: tuple[Path, Path]) -> None:
    folder, index = linked
    found = clipsearch(
        "query", "--image", folder / "1.png", "--unique", "--with-self", "-k", "9", "-f", "json", index=index
    )
    hits = {hit["path"]: hit for hit in json.loads(found.out)}
    assert len(hits) == 4
    [own] = [path for path in hits if path in (str(folder / "m.png"), str(folder / "real/z.png"))]
    assert len(hits[own]["same_file"]) == 2
    assert hits[own]["similar"] == []


class Status:
    """What `os.stat` says of a file seen through another device."""

    def __init__(self, of: os.stat_result, ctime_ns: int | None = None) -> None:
        self.st_dev, self.st_ino, self.st_mode = of.st_dev + 7, of.st_ino + 1000, of.st_mode
        self.st_size, self.st_mtime_ns, self.st_ctime_ns = of.st_size, of.st_mtime_ns, ctime_ns or of.st_ctime_ns


def photos_at(paths: Iterable[Path]) -> list[Photo]:
    out = []
    for path in paths:
        of = path.stat()
        size_and_times = (of.st_size, of.st_mtime_ns, b"content", Metadata(1, 1), of.st_ctime_ns)
        out.append(Photo(1, os.fsencode(path), *size_and_times))
    return out


@pytest.mark.parametrize("same_times", [True, False])
def test_a_second_mount_shows_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_times: bool) -> None:
    first, second = tmp_path / "first.jpg", tmp_path / "second.jpg"
    first.write_bytes(b"a photo")
    shutil.copy2(first, second)
    photos = photos_at([first, second])
    real, of_first = os.stat, os.stat(first)
    ctime = None if same_times else of_first.st_ctime_ns + 1

    def stat(path: object, **options: object) -> object:
        return Status(of_first, ctime) if os.fsdecode(path) == str(second) else real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    photos[1] = photos[1]._replace(ctime_ns=ctime or of_first.st_ctime_ns)
    files = FilesOnDisk().distinct(photos)
    assert [(len(file.other_names), file.is_modified) for file in files] == (
        [(1, False)] if same_times else [(0, False)] * 2
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_an_overlay_shows_no_copies(clipsearch: Run, tmp_path: Path) -> None:
    folder, empty, merged = (tmp_path.resolve() / name for name in ("photos", "empty", "merged"))
    for path in (folder, empty, merged):
        path.mkdir()
    SCENES[0].image.save(folder / "a.png")
    options = f"lowerdir={folder}:{empty}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, merged]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no overlay can be mounted here")
    try:
        assert clipsearch("index", folder, merged, "--model", "mini", index=tmp_path / "index").status == 0
        found = clipsearch("duplicates", index=tmp_path / "index")
    finally:
        subprocess.run(["umount", merged], check=True)
    assert (found.status, found.out) == (1, b"")


# ------------------------------------------------------------------------------------------ --unique


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six photos, of which one also has a larger file, and one identical one in a trash folder."""
    folder = tmp_path_factory.mktemp("versions").resolve() / "photos"
    for n in range(1, 6):
        save(folder / f"{n}.png", half(LARGE[n]))
    save(folder / "small/0.jpg", half(LARGE[0]), quality=60)
    save(folder / "large/0.png", LARGE[0])
    (folder / "#recycle").mkdir()
    shutil.copy2(folder / "large/0.png", folder / "#recycle/0.png")
    update_index(folder.parent / "index", [folder], Options(model="mini", hidden=True))  # the trash folder too
    return folder, folder.parent / "index"


def test_unique_shows_the_best_file_in_the_place_of_the_first(
    clipsearch: Run, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, index = versions
    asked = ("query", "--image", folder / "small/0.jpg", "--unique", "--with-self", "-k", 3)
    hits = json.loads(clipsearch(*asked, "-f", "json", index=index).out)
    assert hits[0]["path"] == str(folder / "large/0.png")
    assert {one["path"] for one in hits[0]["similar"]} == {str(folder / "small/0.jpg"), str(folder / "#recycle/0.png")}
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert len({hit["path"] for hit in hits}) == 3
    assert clipsearch(*asked, "-k", 1, "--copy-to", tmp_path / "out", index=index).status == 0
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [(folder / "large/0.png").read_bytes()]


def test_the_best_need_not_be_among_the_hits(versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "FIRST_BATCH", 1)
    folder, index = versions
    with Store.open(index) as store:
        searcher = Searcher(store)
        (hit,) = searcher.query([Term((folder / "small/0.jpg").read_bytes())], Limits(1, unique=True))
        assert hit.path == folder / "large/0.png"
        assert hit.score == pytest.approx(1, abs=0.01)  # that of the copy it was found by


def test_unique_never_leaves_the_filter(clipsearch: Run, versions: tuple[Path, Path]) -> None:
    folder, index = versions
    asked = ("query", "--image", folder / "large/0.png", "--unique", "--with-self", "-f", "json")
    for option, expected in ((("--type", "jpg"), "small/0.jpg"), (("--under", folder / "#recycle"), "#recycle/0.png")):
        (hit,) = json.loads(clipsearch(*asked, *option, index=index).out)
        assert (hit["path"], hit["similar"]) == (str(folder / expected), [])
    with Store.open(index) as store:
        hits = Searcher(store, Filter(types="jpeg")).query(limits=Limits(unique=True))
    assert [hit.path.name for hit in hits] == ["0.jpg"]


def test_similarity_folds_what_only_looks_alike(
    clipsearch: Run, tmp_path: Path, mini_index: Callable[..., Path]
) -> None:
    folder = tmp_path.resolve() / "photos"
    for n in range(4):
        save(folder / f"{n}.png", SCENES[n].image)
    save(folder / "0-crop.png", SCENES[0].image.crop((3, 3, 157, 157)))
    index = mini_index(folder)
    asked = ("query", "--image", folder / "0.png", "-k", 9, "--unique", "--with-self", "-f", "json")
    assert len(json.loads(clipsearch(*asked, index=index).out)) == 5
    hits = json.loads(clipsearch(*asked, "--similarity", "0.9", index=index).out)
    assert str(folder / "0-crop.png") in {one["path"] for one in hits[0]["similar"]}
    table = clipsearch(*asked[:-2], "--similarity", "0.9", "-f", "table", index=index)
    assert table.lines[1].endswith("  +1")
    alone = clipsearch("query", "a circle", "--similarity", "0.9", index=index)
    assert (alone.status, alone.out) == (2, b"")


def test_unique_holds_without_a_query_too(clipsearch: Run, burst: tuple[Path, Path]) -> None:
    _, index = burst
    hits = json.loads(clipsearch("query", "--type", "png", "--unique", "-k", "100", "-f", "json", index=index).out)
    every = [hit["path"] for hit in hits] + [one["path"] for hit in hits for one in hit["similar"]]
    assert len(every) == len(set(every)) == 13
    assert len(hits) == 10


@pytest.mark.parametrize(("task", "unread"), [("sketch", 2), ("copy_similarity", 1)])
def test_photos_whose_decoder_was_killed_are_counted(
    versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, task: str, unread: int
) -> None:
    def killed(*_: object) -> None:
        raise DecoderFailed("crashed its decoder")

    monkeypatch.setattr(Decoders, task, killed)
    with open_index(versions[1]) as index:
        index.duplicates()
        assert sum(index.left_out.unreadable.values()) >= unread
