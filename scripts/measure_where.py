"""Measure `clipsearch where` by the pointing game: is the maximum of the heat map inside the right thing?

    python scripts/measure_where.py [MODEL]

Uses 200 held-out drawn scenes and every thing in them that has a position. Chance is the fraction of the picture that
the thing's boxes cover. IoU is the overlap of the reported box with the best true one (intersection over union).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import scenes

from clipsearch.images.preprocess import preprocess
from clipsearch.models.hub import resolve
from clipsearch.search.embed import Embedder
from clipsearch.search.where import View
from clipsearch.store.catalogue import Store

SCENES, SIZE = 200, 160
FIRST = scenes.UNSEEN + 100_000  # not the scenes from `UNSEEN` on: the method was tuned on them


def main() -> None:
    """Print the pointing game's hit rate, chance, and IoU, by kind of thing."""
    model = resolve(sys.argv[1] if len(sys.argv) > 1 else "mini")
    drawn = [scene for scene in scenes.draw_distinct(2 * SCENES, FIRST, size=SIZE) if scene.things][:SCENES]
    with tempfile.TemporaryDirectory() as folder, Store.create(Path(folder), model.to_json(), model.dim) as store:
        embedder = Embedder(store)
        found: dict[str, list[tuple[bool, float, float]]] = defaultdict(list)
        for scene in drawn:
            view = View(embedder, preprocess(scene.image, embedder.for_parts), SIZE, SIZE)
            for thing in scene.things:
                there = view.where(thing.text)
                area = sum((right - left) * (bottom - top) for left, top, right, bottom in thing.boxes)
                hit = any(_inside(there.point, box) for box in thing.boxes)
                for kind in ("all", _kind(scene, thing)):
                    found[kind].append((hit, max(_overlap(there.box, box) for box in thing.boxes), area))
    print(f"{len(drawn)} scenes, {model.name}: hits in percent, chance in percent, IoU")
    for kind, rows in sorted(found.items()):
        hits, overlaps, areas = (statistics.mean(column) for column in zip(*rows, strict=True))
        print(f"  {kind}, {len(rows)} things: {100 * hits:.1f}, {100 * areas:.1f}, {overlaps:.2f}")


def _kind(scene: scenes.Scene, thing: scenes.Thing) -> str:
    if len(thing.boxes) > 1:
        return "several equal shapes"
    if scene.things[-1].text in ("the sun", "the moon"):
        return "sun or moon" if thing is scene.things[-1] else "thing in a landscape"
    return "single shape" if len(scene.things) == 1 else "one of two shapes"


def _inside(point: tuple[float, float], box: scenes.Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _overlap(one: scenes.Box, other: scenes.Box) -> float:
    both = np.prod([max(0.0, min(one[n + 2], other[n + 2]) - max(one[n], other[n])) for n in (0, 1)])
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return float(both / (areas - both))


if __name__ == "__main__":
    main()
