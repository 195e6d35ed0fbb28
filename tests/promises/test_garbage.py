"""Hostile files: indexing finishes in bounded time and memory, and lists every file it skipped."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

pillow_heif.register_heif_opener()
pillow_heif.register_avif_opener() if hasattr(pillow_heif, "register_avif_opener") else None

FORMATS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tif": "TIFF", "heic": "HEIF", "avif": "AVIF"}
MEMORY = 1_500  # MB


def picture(size: tuple[int, int] = (48, 32), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize(size)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or picture()).save(out, FORMATS[kind], **options)
    return out.getvalue()


def cut(data: bytes) -> Iterator[bytes]:
    return (data[:end] for end in range(1, len(data), 64))


def flipped(data: bytes, count: int) -> Iterator[bytes]:
    rng = random.Random(len(data))
    for _ in range(count):
        spoilt = bytearray(data)
        for _ in range(rng.choice((1, 3, 30))):
            spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield bytes(spoilt)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *others: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zeros, compressed."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(1 << 24, count - n))) for n in range(0, count, 1 << 24)]
    return b"".join([*parts, packer.flush()])


def special() -> dict[str, bytes]:
    """Files with a name that says what is wrong with them."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    frames = [Image.new("P", (8, 8), n % 7) for n in range(2000)]
    jpeg = encoded("jpg")
    start, rest = jpeg[:2], jpeg[2:]

    def with_segment(marker: int, data: bytes) -> bytes:
        return start + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + rest

    tiff = b"II*\0" + struct.pack("<I", 8)
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)  # the EXIF folder is the folder that points to it
    absurd = struct.pack("<HHII", 0x010F, 2, 0xFFFFFFF0, 0xFFFFFF00)
    profile = bytearray(encoded("jpg", icc_profile=b"\0\0\x02\x0cappl" + bytes(500)))
    cmyk = encoded("jpg", Image.new("CMYK", (32, 32), (10, 200, 30, 40)))
    adobe = cmyk.find(b"\xff\xee")
    without_adobe = cmyk if adobe < 0 else cmyk[:adobe] + cmyk[adobe + 16 :]
    return {
        "zip.jpg": zipped.getvalue(),
        "bomb.png": png(30_000, 30_000, zeros(30_000 * 30_001)),
        "bomb-wide.png": png(2**31 - 1, 2**31 - 1, zeros(1000)),
        "bomb-text.png": png(8, 8, zeros(72), chunk(b"zTXt", b"a\0\0" + zeros(200_000_000))),
        "bomb-profile.png": png(8, 8, zeros(72), chunk(b"iCCP", b"a\0\0" + zeros(200_000_000))),
        "strip.jpg": encoded("jpg", Image.new("RGB", (65_500, 1))),
        "strip.png": encoded("png", Image.new("L", (1, 65_535))),
        "strip-wide.png": encoded("png", Image.new("L", (65_535, 3))),
        "frames.gif": encoded("gif", frames[0], save_all=True, append_images=frames[1:]),
        "exif-loop.jpg": with_segment(0xE1, b"Exif\0\0" + tiff + struct.pack("<H", 1) + entry + struct.pack("<I", 8)),
        "exif-absurd.jpg": with_segment(0xE1, b"Exif\0\0" + tiff + struct.pack("<H", 1) + absurd + b"\xff" * 4),
        "exif-many.jpg": with_segment(0xE1, b"Exif\0\0" + tiff + b"\xff\xff" + absurd * 20),
        "profile.jpg": bytes(profile),
        "cmyk-without-adobe.jpg": without_adobe,
        "text.jpg": b"this is not a picture",
        "program.png": b"\x7fELF" + bytes(1000),
        "page.webp": b"<html><body>404</body></html>",
        "script.svg.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "zeros.heic": bytes(5000),
        "empty.jpg": b"",
        "one-byte.tif": b"I",
        "tiff-loop.tif": tiff + struct.pack("<H", 0) + struct.pack("<I", 8),
        "tiff-large.tif": tiff
        + struct.pack("<H", 2)
        + struct.pack("<HHII", 256, 4, 1, 2**32 - 1)
        + struct.pack("<HHII", 257, 4, 1, 2**32 - 1)
        + bytes(4),
        "really-a-png.jpg": encoded("png"),
        "really-a-jpeg.gif": encoded("jpg"),
        "grey-one-pixel.png": encoded("png", Image.new("L", (1, 1))),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garbage")
    for name, data in special().items():
        (folder / name).write_bytes(data)
    for kind in FORMATS:
        try:
            whole = encoded(kind)
        except (KeyError, OSError):
            continue  # this Pillow cannot write it
        for what, parts in (("cut", cut(whole)), ("flipped", flipped(whole, 40))):
            for n, data in enumerate(parts):
                (folder / f"{what}-{n:03d}.{kind}").write_bytes(data)
    return folder


# A process of its own that stays small: what it starts is counted with its memory until it becomes another program.
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


def run(folder: Path, index: Path, *options: str) -> tuple[dict[str, object], float]:
    """The report of the real program, which ends within minutes, and the MB that the largest of its processes took."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "clipsearch", "index", folder, "--model", "mini"]
    command += ["--json", "--index", index, *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return json.loads(done.stdout), int(done.stderr.split()[-1]) / 1000


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another unit")
def test_a_folder_of_garbage_is_indexed_and_accounted_for(corpus: Path, tmp_path: Path) -> None:
    files = {str(path): path.read_bytes() for path in corpus.iterdir()}
    report, memory = run(corpus, tmp_path / "index")
    skipped = {entry["path"]: entry["reason"] for entry in report["skipped"]}
    assert report["added"] + len(skipped) == len(files) > 400
    assert skipped.keys() <= files.keys()
    assert all(reason and len(reason) < 200 and "\n" not in reason for reason in skipped.values())
    assert not [reason for reason in skipped.values() if "interrupted" in reason]
    names = {Path(path).name for path in skipped}
    assert {"zip.jpg", "bomb.png", "text.jpg", "program.png", "page.webp", "postscript.jpg", "empty.jpg"} <= names
    odd = {"strip.jpg", "frames.gif", "exif-loop.jpg", "exif-absurd.jpg", "profile.jpg", "really-a-png.jpg"}
    assert not odd & names
    assert memory < MEMORY
    print(f"{len(files)} files, {len(skipped)} skipped, {memory:.0f} MB")
    assert {str(path): path.read_bytes() for path in corpus.iterdir()} == files  # nothing was written
    again, _ = run(corpus, tmp_path / "index")
    assert (again["embedded"], again["unchanged"]) == (0, report["added"])
    assert (again["skipped"], len(again["skipped_before"])) == ([], len(skipped))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_things_that_are_no_files_are_named_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "folder.jpg").mkdir(parents=True)
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket may not be long
        listener.bind("socket.jpg")
        os.chdir(here)
        (folder / "device.jpg").symlink_to("/dev/zero")
        (folder / "broken.jpg").symlink_to("nowhere")
        (folder / "itself.jpg").symlink_to("itself.jpg")
        (folder / "round").symlink_to(folder)
        (folder / "good.png").write_bytes(encoded("png"))
        report, _ = run(folder, tmp_path / "index", "--follow-links")
    assert report["added"] == 1
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in report["skipped"]}
    assert reasons.keys() == {"folder.jpg", "pipe.jpg", "socket.jpg", "device.jpg", "broken.jpg", "itself.jpg"}


def test_paths_that_are_too_long_cost_only_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded("png"))
    here = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(21):  # 4,200 characters, which no system takes as one path
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        Path("deep.png").write_bytes(encoded("png"))
    finally:
        os.chdir(here)
    report, _ = run(folder, tmp_path / "index")
    assert report["added"] == 1
    assert report["unreadable"]


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_files_that_change_while_they_are_read(count: int, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:03d}.jpg").write_bytes(encoded("jpg", picture((400, 300), n)))
    command = [sys.executable, "-m", "clipsearch", "index", folder, "--model", "mini", "--json"]
    process = subprocess.Popen(
        [*command, "--index", tmp_path / "index"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    rng = random.Random(5)
    while process.poll() is None:
        path = folder / f"{rng.randrange(count):03d}.jpg"
        action = rng.randrange(3)
        if action == 0 and path.exists():
            os.truncate(path, rng.randrange(2000))
        elif action == 1:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(encoded("jpg", picture((40, 30), rng.randrange(1000))))
        time.sleep(0.002)
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    assert json.loads(out)["added"] > 0
    for n in range(count):
        (folder / f"{n:03d}.jpg").write_bytes(encoded("jpg", picture((400, 300), n)))
    report, _ = run(folder, tmp_path / "index")
    assert report["skipped"] == []
    again, _ = run(folder, tmp_path / "index")
    assert again["unchanged"] == count
