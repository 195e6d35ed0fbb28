"""Measure the page with many photos, in Chromium, against the real server.

    python scripts/measure_page.py [--photos 100000] [--index DIR]

The index is made up: distinct rows, dates over 15 years, one in 50 without a date, one in 100 an identical copy. The
files are hard links to 40 small JPEGs, so that every thumbnail is decoded. `--index` keeps it for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.rules import Rules
from clipsearch.models.model import mini
from clipsearch.store.catalogue import Store

SHAPES = ((300, 200), (200, 300), (300, 300), (320, 180))
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
        for what, values in measure(browser, address):
            print(f"{what:48} {statistics.median(values):8.1f}   ({min(values):.1f} to {max(values):.1f})", flush=True)
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


# Resolves to the milliseconds from an action until `isDone()` holds and the frame that shows it was painted.
UNTIL = """async ([action, isDone]) => {
  const start = performance.now();
  (0, eval)(action);
  while (!(0, eval)(isDone)) await new Promise(requestAnimationFrame);
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  return performance.now() - start;
}"""
IN_WINDOW = """[...document.querySelectorAll(".tile")].filter((tile) => {
  const { top, bottom } = tile.getBoundingClientRect();
  return bottom > document.querySelector("header").offsetHeight && top < innerHeight;
})"""
HAS_PHOTOS = f"({IN_WINDOW}).length && ({IN_WINDOW}).every((tile) => !tile.matches('.pending'))"
HAS_THUMBNAIL = f"({IN_WINDOW}).some((tile) => tile.querySelector('img.loaded'))"
ANSWERED = "document.querySelector('#command').textContent.includes({!r}) && !document.body.matches('.searching')"
SCRUB = """(() => {{
  const box = document.querySelector("#scrubber"), {{ left, top, height }} = box.getBoundingClientRect();
  const at = {{ clientX: left + 9, clientY: top + {share} * height, pointerId: 1, bubbles: true }};
  box.setPointerCapture = () => {{}};
  box.dispatchEvent(new PointerEvent("pointerdown", at)); box.dispatchEvent(new PointerEvent("pointerup", at)); }})()"""
TYPE = """(() => {{ const text = document.querySelector("#text"); text.value = {!r};
  text.dispatchEvent(new Event("input", {{ bubbles: true }})); }})()"""
# Scrolls through everything in `steps`, a frame each. Returns the JavaScript heap before and after in MB, and the most
# tiles that were in the document.
SCROLL = """async ([steps, collects]) => {
  const heap = () => { if (collects) gc(); return performance.memory.usedJSHeapSize / 1e6; };
  const before = heap(), height = document.documentElement.scrollHeight;
  let tiles = 0;
  for (let step = 0; step <= steps; step += 1) {
    scrollTo({ top: height * step / steps, behavior: "instant" });
    await new Promise(requestAnimationFrame);
    tiles = Math.max(tiles, document.querySelectorAll(".tile").length);
  }
  await new Promise((later) => setTimeout(later, 1000));
  return { before, after: heap(), tiles };
}"""
TASK = "RunTask"  # the end of its name in a trace


def tasks(browser: Browser, page: Page, action: Callable[[], object]) -> list[tuple[float, float]]:
    """The tasks of the page's main thread during an action: milliseconds of CPU time and elapsed."""
    browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
    action()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    return [
        (one["tdur"] / 1000, one["dur"] / 1000)
        for one in events
        if one["name"].endswith(TASK) and "tdur" in one and names.get((one["pid"], one["tid"])) == "CrRendererMain"
    ]


def measure(browser: Browser, address: str) -> Iterator[tuple[str, list[float]]]:
    """What was measured: its name with the unit, and each value."""
    timeline, thumbnail = [], []
    for _ in range(3):
        page = browser.new_page(viewport={"width": 1440, "height": 900}, bypass_csp=True)
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_function(HAS_PHOTOS, polling="raf")
        timeline.append(1000 * (time.perf_counter() - start))
        page.wait_for_function(HAS_THUMBNAIL, polling="raf")
        thumbnail.append(1000 * (time.perf_counter() - start))
        page.wait_for_selector("body[data-ready]")
    yield "opening to the timeline, ms", timeline
    yield "opening to the first thumbnail, ms", thumbnail
    shares = [0.37, 0.81, 0.12, 0.55, 0.93, 0.28, 0.66, 0.04, 0.74]
    yield "scrubbing to a month, ms", [page.evaluate(UNTIL, [SCRUB.format(share=one), HAS_PHOTOS]) for one in shares]
    page.evaluate("scrollTo(0, 0)")
    scrolled = page.evaluate(SCROLL, [300, True])
    yield "heap before, MB", [scrolled["before"]]
    yield "heap after, MB", [scrolled["after"]]
    yield "most tiles in the document", [scrolled["tiles"]]
    for what, action in (
        ("scrolling", lambda: page.evaluate(SCROLL, [60, False])),
        ("scrubbing", lambda: [page.evaluate(UNTIL, [SCRUB.format(share=one), HAS_PHOTOS]) for one in shares]),
    ):
        found = tasks(browser, page, action)
        yield f"longest task while {what}, ms of CPU", [max(cpu for cpu, _ in found)]
        yield f"longest task while {what}, ms elapsed", [max(elapsed for _, elapsed in found)]
        yield f"all tasks while {what}, ms of CPU", [sum(cpu for cpu, _ in found)]
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(UNTIL, [TYPE.format("a warm-up"), ANSWERED.format("a warm-up")])  # loads the model
    typed = [page.evaluate(UNTIL, [TYPE.format(query), ANSWERED.format(query)]) for query in QUERIES]
    yield "key press to results, ms", typed


if __name__ == "__main__":
    main()
