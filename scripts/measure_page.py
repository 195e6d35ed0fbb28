"""Measure the page with many photos, in Chromium, against the real server.

    python scripts/measure_page.py [--photos 100000] [--index DIR]

The index is made up: distinct rows, dates over 15 years, one in 50 without a date, one in 100 an identical copy. The
files are hard links to 40 small JPEGs, so that every thumbnail is decoded. `--index` keeps it for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

SHAPES = ((300, 200), (200, 300), (300, 300), (320, 180))
TIMES = 9  # of which the median is printed
QUERIES = ("a dog", "a red car", "sunset", "a birthday cake", "snow", "a boat", "two people", "a cat", "a street")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the page with many photos in Chromium.")
    parser.add_argument("--photos", type=int, default=100_000, help="number of photos (default 100000)")
    parser.add_argument("--index", type=Path, help="folder to keep the index in")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.index or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "index").exists():
            make_index(folder.resolve(), args.photos)
        address = stack.enter_context(served(folder / "index"))
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
        )
        print(f"load average {os.getloadavg()[0]:.1f}")
        for what, values in measure(browser, address).items():
            print(f"{what:44} {statistics.median(values):8.1f}   ({min(values):.1f} to {max(values):.1f})")
        browser.close()


def make_index(folder: Path, count: int) -> None:
    """Fill an index with made-up photos, without decoding any."""
    rng, random_ = np.random.default_rng(0), random.Random(0)
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for number in range(40):
        pixels = rng.integers(0, 255, (6, 9, 3), np.uint8)
        size = SHAPES[number % len(SHAPES)]
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    model = mini()
    with Store.create(folder / "index", model.to_json(), model.dim) as store:
        root = store.folders.add(os.fsencode(photos), Rules())
        for number in range(count):
            source, content = folder / f"{number % 40}.jpg", (number - (number % 100 == 1)).to_bytes(16, "big")
            path = photos / f"{number // 1000:03d}" / f"{number:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            os.link(source, path)
            moment = datetime(2009, 1, 1) + timedelta(days=random_.random() ** 0.7 * 15 * 365)
            taken = None if number % 50 == 0 else moment.isoformat(timespec="seconds")
            about = Metadata(*SHAPES[number % 40 % len(SHAPES)], taken, f"Camera {number % 7}")
            image = store.find_image(content)
            if image is None:
                row = rng.normal(size=model.dim).astype(np.float32)
                image = store.images.add(content, about, row / np.linalg.norm(row))
            status = path.stat()
            found = FoundFile(
                os.fsencode(path.relative_to(photos)), status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )
            store.photos.put(root, found, image, None)
        store.commit()
        store.vectors.update()


@contextlib.contextmanager
def served(index: Path) -> Iterator[str]:
    """The address of the page."""
    command = [sys.executable, "-m", "clipsearch", "serve", "--port", "0", "--index", str(index)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
