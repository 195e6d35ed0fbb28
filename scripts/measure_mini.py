"""Measure a model as its card reports it, with the program itself: `clipsearch index` and `clipsearch eval`.

    python scripts/measure_mini.py --data ../shared/data [--model mini]

Prints, in percent: retrieval over 1,000 Flickr8k photos and over 200 drawn scenes that no training has seen, and
zero-shot labels, each photo against the labels of its own set as "a photo of a ...". The last is recall at 1 of image
to text where the captions are the labels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import scenes

SCENES = 200
FIRST_SEED = 10_000_000  # training draws seeds below it
SIZE = 160  # pixels of a drawn scene

Caption = tuple[Path, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a model on photos and scenes that were not trained on.")
    parser.add_argument("--data", type=Path, required=True, help="folder with photos/")
    parser.add_argument("--model", default="mini", help="as clipsearch index --model takes it")
    args = parser.parse_args()
    photos = args.data / "photos"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        captions = _unpack(photos / "dev-flickr8k.tar", work / "flickr8k")
        lines = [(path, caption) for path, (said, _) in captions.items() for caption in said]
        print("1,000 Flickr8k photos:")
        _report(_evaluate(_index(work / "flickr8k", args.model), lines))
        print(f"{SCENES} drawn scenes:")
        drawn = _draw(work / "scenes")
        _report(_evaluate(_index(work / "scenes", args.model), drawn))
        sets = defaultdict(list)
        for path, (_, label) in _unpack(photos / "dev-labels.tar", work / "labels").items():
            sets[path.name.rsplit("-", 1)[0]].append((path, f"a photo of a {label}"))
        index = _index(work / "labels", args.model)
        right = total = 0.0
        for source, labelled in sorted(sets.items()):
            measured = _evaluate(index, labelled)
            right += measured["photos"] * measured["image_to_text"]["recall_at_1"]
            total += measured["photos"]
            print(f"  {100 * measured['image_to_text']['recall_at_1']:5.1f}  {source}: {measured['captions']} labels")
        print(f"labels, all {total:.0f} photos: {100 * right / total:.1f}")


def _unpack(tar: Path, folder: Path) -> dict[Path, tuple[list[str], str | None]]:
    """The photos of a shard, with the captions and the label of each."""
    with tarfile.open(tar) as file:
        file.extractall(folder, filter="data")
    out = {}
    for path in sorted(folder.glob("*.jpg")):
        captions = path.with_suffix(".txt").read_text().splitlines()
        out[path] = captions, json.loads(path.with_suffix(".json").read_text())["label"]
    return out


def _draw(folder: Path) -> list[Caption]:
    folder.mkdir()
    out = []
    for number, scene in enumerate(scenes.draw_distinct(SCENES, FIRST_SEED, size=SIZE)):
        path = folder / f"{number:03d}.png"
        scene.image.save(path)
        out.append((path, scene.captions[0]))
    return out


def _index(photos: Path, model: str) -> Path:
    index = photos.with_name(f"{photos.name}.index")
    _clipsearch("index", photos, "--model", model, "--quiet", "--index", index)
    return index


def _evaluate(index: Path, captions: list[Caption]) -> Any:
    lines = "".join(f"{path}\t{caption}\n" for path, caption in captions)
    return json.loads(_clipsearch("eval", "-", "--json", "--index", index, stdin=lines))


def _report(measured: Any) -> None:
    for direction in ("text_to_image", "image_to_text"):
        recall = measured[direction]
        shares = "".join(f"{100 * recall[f'recall_at_{k}']:7.1f}" for k in (1, 5, 10))
        print(f"  {direction.replace('_', ' ')}: R@1, 5, 10{shares}, median rank {recall['median_rank']:g}")


def _clipsearch(*arguments: object, stdin: str = "") -> str:
    command = [sys.executable, "-m", "clipsearch", *map(str, arguments)]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
