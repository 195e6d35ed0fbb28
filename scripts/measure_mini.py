"""Measure a model for its card, through the program: `clipsearch index`, `eval` and `label`.

    python scripts/measure_mini.py --data DIR [--model mini]
    python scripts/measure_mini.py --speed

The first form prints percentages: retrieval on 1,000 Flickr8k photos and on 200 held-out drawn scenes; and zero-shot
labels, each photo against the labels of its own data set. The second form measures images/s compared with ViT-B/32 with
random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scenes

from clipsearch.indexing.pipeline import BATCH_ON_CPU
from clipsearch.models.encoders import NumpyEncoder
from clipsearch.models.graph_encoders import GraphEncoder
from clipsearch.models.hub import resolve
from clipsearch.threads import usable_cores

SCENES = 200
SIZE = 160  # pixels of a drawn scene: larger than mini's input, like photos

Caption = tuple[Path, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a model on held-out photos and scenes.")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--data", type=Path, help="folder with photos/")
    choice.add_argument("--speed", action="store_true", help="measure images/s compared with ViT-B/32")
    parser.add_argument("--model", default="mini", help="as for clipsearch index --model (default: %(default)s)")
    args = parser.parse_args()
    if args.speed:
        compare_speed(args.model)
    else:
        measure(args.data / "photos", args.model)


def compare_speed(model: str, batches: int = 12) -> None:
    """Run both models as indexing does, with one batch per core and thread, alternately, in fp32."""
    import open_clip
    from safetensors.torch import save_file

    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores) as pool:
        weights = Path(folder) / "vit.safetensors"
        save_file(open_clip.create_model("ViT-B-32").state_dict(), weights)
        models = {model: resolve(model), "ViT-B/32": resolve("ViT-B-32", weights)}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        encoders = {name: GraphEncoder(NumpyEncoder(one)) for name, one in models.items()}
        rng = np.random.default_rng(0)
        pixels = {
            n: rng.integers(0, 256, (BATCH_ON_CPU, *one.preprocess.size, 3), np.uint8) for n, one in models.items()
        }
        for _ in range(batches + 2):
            for name, encoder in encoders.items():
                began = time.perf_counter()
                list(pool.map(encoder.encode_images, [pixels[name]] * cores))
                seconds[name].append(time.perf_counter() - began)
        rates = {name: cores * BATCH_ON_CPU / statistics.median(times[2:]) for name, times in seconds.items()}
        shown = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items())
        print(f"fp32: {shown}, {rates[model] / rates['ViT-B/32']:.1f} times as fast")


def measure(photos: Path, model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        captions = _unpack(photos / "dev-flickr8k.tar", work / "flickr8k")
        pairs = [(path, caption) for path, (texts, _) in captions.items() for caption in texts]
        print("1,000 Flickr8k photos:")
        _report(_evaluate(_index(work / "flickr8k", model), pairs))
        print(f"{SCENES} drawn scenes:")
        drawn = _draw(work / "scenes")
        _report(_evaluate(_index(work / "scenes", model), drawn))
        labels = {
            path: label for path, (_, label) in _unpack(photos / "dev-labels.tar", work / "labels").items() if label
        }
        index = _index(work / "labels", model)
        for name, templates in (("a photo of a {}", ()), ("simple", ("simple",)), ("imagenet", ("imagenet",))):
            right = _labelled(index, labels, templates)
            print(f"zero-shot accuracy on {len(labels):,} photos, labels of the photo's own data set, template {name}:")
            if not templates:
                for source, (found, count) in sorted(right.items()):
                    print(f"  {100 * found / count:5.1f}  {source}: {count} photos")
            print(f"  {100 * sum(found for found, _ in right.values()) / len(labels):5.1f}  all")


def _labelled(index: Path, labels: dict[Path, str], templates: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each data set, how many photos get their own label from `clipsearch label`, and how many there are."""
    options = [word for template in templates for word in ("--template", template)]
    out = {}
    for source in sorted({_set(path) for path in labels}):
        paths = {str(path.resolve()): label for path, label in labels.items() if _set(path) == source}
        words = sorted(set(paths.values()))
        command = ("label", *words, *options, "--files-from", "-", "--format", "jsonl", "--index", index)
        found = [json.loads(line) for line in _clipsearch(*command, stdin="\n".join(paths)).splitlines()]
        out[source] = (sum(one["label"] == paths[one["path"]] for one in found), len(paths))
    return out


def _set(path: Path) -> str:
    return path.name.rsplit("-", 1)[0]


def _unpack(tar: Path, folder: Path) -> dict[Path, tuple[list[str], str | None]]:
    """Extract a shard; returns the captions and the label of each photo."""
    with tarfile.open(tar) as file:
        file.extractall(folder, filter="data")
    out = {}
    for path in sorted(folder.glob("*.jpg")):
        captions = path.with_suffix(".txt").read_text().splitlines()
        out[path] = (
            [caption for caption in captions if caption],
            json.loads(path.with_suffix(".json").read_text())["label"],
        )
    return out


def _draw(folder: Path) -> list[Caption]:
    folder.mkdir()
    out = []
    for number, scene in enumerate(scenes.draw_distinct(SCENES, scenes.UNSEEN, size=SIZE)):
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
