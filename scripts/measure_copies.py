"""Measure recall and precision of `clipsearch duplicates`.

    python scripts/measure_copies.py --data DIR [--recall 1000] [--precision 5000]

`DIR/photos` has tar files of photos. For recall, photos are enlarged four times, given sensor noise and saved as JPEG
with quality 92, as a camera would; each is then saved again in the ways of `VERSIONS`. For precision, different photos,
drawn pages, screenshots and QR codes, and frames of drawn films and bursts are indexed together: none are copies of
each other. Every reported pair is printed, and --keep keeps the files: data sets contain real duplicates, which only a
person can tell from errors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scenes
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFont

Picture = Image.Image

# Drawn pictures, as fractions of all; the rest are photos.
SHARES = {"page": 0.1, "screenshot": 0.1, "code": 0.04, "film": 0.1, "burst": 0.06}
FILM = 20  # frames per film, shots per burst
WORDS = [
    "invoice",
    "total",
    "amount",
    "due",
    "customer",
    "street",
    "city",
    "payment",
    "transfer",
    "order",
    "number",
    "date",
    "item",
    "price",
    "contract",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure recall and precision of clipsearch duplicates.")
    parser.add_argument("--data", type=Path, required=True, help="folder with photos/")
    parser.add_argument("--recall", type=int, default=1000, help="number of photos to make copies of")
    parser.add_argument("--precision", type=int, default=5000, help="number of different pictures")
    parser.add_argument("--keep", type=Path, help="write the pictures to this folder and keep them")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.recall:
            measure_recall(args.data / "photos", args.recall, work / "recall")
        if args.precision:
            measure_precision(args.data / "photos", args.precision, work / "precision")


# ------------------------------------------------------------------------------------------ recall


def rotated(image: Picture, path: Path) -> None:
    """Save rotated pixels with the EXIF orientation that corrects them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)


def half(image: Picture, divisor: int = 2) -> Picture:
    return image.resize((image.width // divisor, image.height // divisor), Image.Resampling.LANCZOS)


VERSIONS: dict[str, Callable[[Picture, Path], None]] = {
    "quality-20.jpg": lambda image, path: image.save(path, quality=20),
    "half.jpg": lambda image, path: half(image).save(path, quality=85),
    "quarter.jpg": lambda image, path: half(image, 4).save(path, quality=85),
    "again.png": lambda image, path: image.save(path, compress_level=1),
    "brighter.jpg": lambda image, path: ImageEnhance.Brightness(image).enhance(1.1).save(path, quality=90),
    "rotated.jpg": rotated,
}


def measure_recall(photos: Path, count: int, folder: Path) -> None:
    with ProcessPoolExecutor() as pool:
        tasks = [pool.submit(save_versions, data, folder / f"{n:05d}") for n, data in enumerate(read(photos, count))]
        for task in tasks:
            task.result()
    groups = groups_in(folder)
    together = {path: number for number, group in enumerate(groups) for path in group}
    found = Counter(
        name
        for original in folder.glob("*/original.jpg")
        for name in VERSIONS
        if together.get(original, -1) == together.get(original.with_name(name), -2)
    )
    made = len(list(folder.glob("*/original.jpg")))
    mixed = sum(len({path.parent for path in group}) > 1 for group in groups)
    print(f"recall, {made:,} photos: versions reported as copies of their original")
    for name in VERSIONS:
        print(f"  {100 * found[name] / made:6.2f}%  {name}")
    print(f"  {100 * sum(found.values()) / made / len(VERSIONS):6.2f}%  all; groups with a wrong photo: {mixed}")


def save_versions(data: bytes, folder: Path) -> None:
    small = Image.open(io.BytesIO(data)).convert("RGB")
    large = small.resize((4 * small.width, 4 * small.height), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(len(data)).normal(0, 2.5, (large.height, large.width, 1))
    folder.mkdir(parents=True)
    Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8)).save(folder / "original.jpg", quality=92)
    original = Image.open(folder / "original.jpg").convert("RGB")
    for name, save in VERSIONS.items():
        save(original, folder / name)


# ------------------------------------------------------------------------------------------ precision


def measure_precision(photos: Path, count: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    drawn = {kind: int(share * count) for kind, share in SHARES.items()}
    for n, data in enumerate(read(photos, count - sum(drawn.values()), last=True)):
        (folder / f"photo-{n:05d}{'.webp' if data[:4] == b'RIFF' else '.jpg'}").write_bytes(data)
    with ProcessPoolExecutor() as pool:
        kinds = {"page": page, "screenshot": screenshot, "code": code}
        tasks = [pool.submit(draw, folder, kind, n) for kind, draw in kinds.items() for n in range(drawn[kind])]
        for kind, draw_all in (("film", film), ("burst", burst)):
            tasks += [pool.submit(draw_all, folder, n) for n in range(drawn[kind] // FILM)]
        for task in tasks:
            task.result()
    made = Counter(path.name.split("-")[0] for path in folder.iterdir())
    groups = groups_in(folder)
    taken = Counter(path.name.split("-")[0] for first, *others in groups for path in others)
    print(f"precision, {sum(made.values()):,} different pictures: reported as copies by mistake")
    for kind, number in made.items():
        print(f"  {taken[kind]:5} of {number:,} {kind}s")
    for first, *others in groups:
        for other in others:
            print(f"  {other}  =  {first}")


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def page(folder: Path, kind: str, number: int) -> None:
    """A scanned page. Every second page repeats the previous one with a different amount."""
    chance, rng = random.Random(number // 2), np.random.default_rng(number)
    image = Image.new("RGB", (850, 1100), "white")
    draw = ImageDraw.Draw(image)
    changed = chance.randrange(30)
    for line in range(30):
        text = " ".join(chance.choices(WORDS, k=7))
        amount = chance.randrange(1000, 100_000) + (number % 2 if line == changed else 0)
        draw.text((60, 60 + 32 * line), f"{text} {amount}", fill=(30, 30, 30), font=font(22))
    pixels = np.asarray(image) * 0.96 + rng.normal(0, 3, (image.height, image.width, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(folder / f"{kind}-{number:05d}.jpg", quality=(60, 75, 85, 92)[number // 2 % 4])


def screenshot(folder: Path, kind: str, number: int) -> None:
    """A chat. Groups of four differ in the clock, one word, or the colour of one dot."""
    chance = random.Random(number // 4)
    image = Image.new("RGB", (720, 1280), (236, 229, 221))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 720, 90), fill=(0, 128, 105))
    minute = chance.randrange(10, 58)
    draw.text((30, 6), f"10:{minute + (number % 4 == 1)}", fill="white", font=font(22))
    draw.ellipse((670, 40, 690, 60), fill=(230, 60, 60) if number % 4 == 3 else (0, 150, 0))
    for line in range(10):
        left = chance.choice((20, 200))
        draw.rounded_rectangle((left, 110 + 115 * line, left + 500, 205 + 115 * line), 14, fill="white")
        words = chance.choices(WORDS, k=5)
        if number % 4 == 2 and line == 4:
            words[2] = "tomorrow"
        draw.text((left + 20, 135 + 115 * line), " ".join(words), fill=(20, 20, 20), font=font(26))
    image.save(folder / f"{kind}-{number:05d}.png", compress_level=1)


def code(folder: Path, kind: str, number: int) -> None:
    """A QR code: random modules and three finder patterns."""
    modules = np.random.default_rng(number).integers(0, 2, (29, 29), np.uint8)
    for top, left in ((0, 0), (0, 22), (22, 0)):
        modules[top : top + 7, left : left + 7] = 0
        modules[top + 1 : top + 6, left + 1 : left + 6] = 1
        modules[top + 2 : top + 5, left + 2 : left + 5] = 0
    image = Image.fromarray(np.pad(modules * 255, 4, constant_values=255))
    image.resize((370, 370), Image.Resampling.NEAREST).save(folder / f"{kind}-{number:05d}.png")


def film(folder: Path, number: int) -> None:
    """Frames of a pan by 1 to 3 pixels per frame, or of a moving ball."""
    ground = scene(number)
    for frame in range(FILM):
        step = 1 + number % 3
        image = ground.crop((frame * step, 0, 640 + frame * step, 480))
        if number % 2:
            image = ground.crop((0, 0, 640, 480))
            x = 100 + 6 * frame
            ImageDraw.Draw(image).ellipse((x, 200, x + 40, 240), fill=(200, 60, 40))
        image.save(folder / f"film-{number:03d}-{frame:02d}.jpg", quality=88)


def burst(folder: Path, number: int) -> None:
    """Shots from a tripod, which differ only in noise, or handheld, shifted by up to 3 pixels."""
    ground, rng = scene(1000 + number), np.random.default_rng(number)
    for shot in range(FILM):
        x, y = rng.uniform(0, 3, 2) if number % 2 else (0.0, 0.0)
        shaken = ground.transform(ground.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BICUBIC)
        image = shaken.crop((8, 8, 648, 488))
        pixels = np.asarray(image) + rng.normal(0, 3, (480, 640, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            folder / f"burst-{number:03d}-{shot:02d}.jpg", quality=92
        )


def scene(seed: int) -> Picture:
    """A drawn picture with a photo-like texture."""
    image = scenes.draw(scenes.UNSEEN + 500_000 + seed, 720)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (90, 90), np.uint8)).resize((720, 720), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.image) * 0.8 + 0.2 * np.asarray(coarse, np.float32)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------ files and the program


def read(photos: Path, count: int, *, last: bool = False) -> Iterator[bytes]:
    """The first `count` images of the tar files; with `last`, starting with the last tar file."""
    for tar in sorted(photos.glob("*.tar"), reverse=last):
        with tarfile.open(tar) as shard:
            for member in shard:
                if member.name.endswith((".jpg", ".webp", ".png")):
                    if count == 0:
                        return
                    count -= 1
                    file = shard.extractfile(member)
                    assert file is not None
                    yield file.read()


def groups_in(folder: Path) -> list[list[Path]]:
    """Index a folder and return the groups that the program reports."""
    index = folder.with_name(f"{folder.name}-index")
    program: list[str | Path] = [sys.executable, "-m", "clipsearch"]
    subprocess.run([*program, "index", folder, "--model", "mini", "--index", index, "--quiet"], check=True)
    command = [*program, "duplicates", "--format", "jsonl", "--index", index]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode not in (0, 1) or done.stderr:  # 1: no groups
        raise SystemExit(done.stderr.decode())
    return [[Path(photo["path"]) for photo in json.loads(line)["photos"]] for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
