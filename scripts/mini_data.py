"""Training images for `train_mini.py`, and their features from the pretrained image tower, cached on disk.

Each view (augmentation) of a shard has two fp16 files: the feature maps after the frozen lower half of the tower, and
the pooled features after the whole tower. Existing files are not recomputed.
"""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import random
import re
import tarfile
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scenes
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIZE = 224
LOWER = 4  # groups of blocks in the frozen lower half of the image tower, of seven
VIEWS = 3  # per photo; view 0 is preprocessed as in clipsearch, the others are augmented
SCENES = 2000  # generated scenes per file, with one file per view
EXTRA = re.compile(r"(.+)__(.+)__\d+")  # names of images without a caption file: dataset, label, number

View = tuple[Any, Any]  # feature maps and pooled features of one view of a shard


@dataclass(slots=True)
class Picture:
    """The captions and label of an image. `named` is its ImageNet class if the classifier is confident of one."""

    key: str
    captions: tuple[str, ...]
    label: str | None = None
    named: int | None = None

    @property
    def source(self) -> str:
        """The name of its dataset."""
        return re.split("__|-[0-9]", self.key)[0]


def image_classifier(weights: Path) -> nn.Module:
    """Load EfficientNet-Lite2 from a file whose tensors have timm's order but not timm's names."""
    state = torch.load(weights, weights_only=True)
    model: nn.Module = timm.create_model("tf_efficientnet_lite2")
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model.eval()


def folded(model: nn.Module) -> nn.Module:
    """A copy with the batch norms folded into the convolutions, which is twice as fast."""
    model = deepcopy(model).eval()
    convolution: Any = None
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            convolution = module
        elif isinstance(module, nn.BatchNorm2d):
            merged = fuse_conv_bn_eval(convolution, module)
            convolution.weight, convolution.bias = merged.weight, merged.bias
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module.act)
    return model


def shards(photos: Path) -> list[str]:
    """The shards for training: all but the dev sets."""
    return [path.stem for kind in ("train", "caps", "extra") for path in sorted(photos.glob(f"{kind}-*.tar"))]


def read_shard(path: Path, labels: dict[str, str | None]) -> tuple[list[Picture], list[bytes]]:
    """Read the images of a tar file: their metadata, and their encoded bytes in the same order."""
    texts: dict[str, tuple[str, ...]] = {}
    files: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stem, _, suffix = member.name.rpartition(".")
            handle = tar.extractfile(member)
            assert handle is not None
            if suffix == "txt":
                texts[stem] = tuple(line for line in handle.read().decode().splitlines() if line)
            elif suffix == "json":
                labels[stem] = json.load(handle)["label"]
            else:
                files[stem] = handle.read()
    pictures = [Picture(key, texts.get(key, ()), labels.get(key)) for key in files]
    for picture in pictures:
        if (extra := EXTRA.fullmatch(picture.key)) and extra[2] != "none":
            picture.label = extra[2].replace("-", " ")
    return pictures, list(files.values())


# ---------------------------------------------------------------------------------------------- prepare


def view_of(data: bytes, view: int, rng: random.Random) -> NDArray[np.uint8]:
    """Decode one view, (SIZE, SIZE, 3). View 0 is the whole image, squashed to a square.

    The others are random crops with jittered brightness and contrast; odd views are also mirrored.
    """
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if view:
        area, ratio = rng.uniform(0.45, 1), math.exp(rng.uniform(-0.2, 0.2))
        w, h = width * min(1, math.sqrt(area * ratio)), height * min(1, math.sqrt(area / ratio))
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = (left, top, left + w, top + h)
        if view % 2:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.8, 1.2))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box))


def scenes_of(name: str, view: int) -> list[scenes.Scene]:
    """The scenes of a file. "dev-scenes" are those that `measure_mini.py` evaluates on."""
    if name == "dev-scenes":
        return scenes.draw_distinct(200, scenes.UNSEEN, size=160)
    seeds = range(view * SCENES, (view + 1) * SCENES)
    return [scenes.draw(seed, size=random.Random(seed).randrange(128, 257, 32)) for seed in seeds]


def prepare_all(photos: Path, cache: Path, weights: Path, workers: int) -> None:
    """Run `prepare` for every view whose files are missing, in `workers` processes."""
    jobs = [(photos, cache, weights, name, 0) for name in ("dev-flickr8k", "dev-labels", "dev-scenes")]
    jobs += [(photos, cache, weights, name, view) for view in range(VIEWS) for name in (*shards(photos), "scenes")]
    jobs = [job for job in jobs if not (cache / f"{job[3]}-{job[4]}.features.npy").exists()]
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        pool.map(prepare, jobs, chunksize=1)


@torch.no_grad()
def prepare(job: tuple[Path, Path, Path, str, int]) -> None:
    """Compute and write the maps and features of one view of a shard or of generated scenes."""
    photos, cache, weights, name, view = job
    began, device = time.monotonic(), "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)  # there is one process per core
    trunk: Any = folded(image_classifier(weights)).to(device, torch.bfloat16).to(memory_format=torch.channels_last)
    if name.endswith("scenes"):
        drawn = scenes_of(name, view)
        (cache / f"{name}-{view}.json").write_text(json.dumps([scene.captions for scene in drawn]))
        pixels = [np.asarray(scene.image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for scene in drawn]
    else:
        rng = random.Random(f"{name} {view}")
        pixels = [view_of(data, view, rng) for data in read_shard(photos / f"{name}.tar", {})[1]]
    maps, features = [], []
    for start in range(0, len(pixels), 32):
        batch = torch.from_numpy(np.stack(pixels[start : start + 32])).to(device).permute(0, 3, 1, 2)
        x = (batch.bfloat16() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        x = trunk.blocks[:LOWER](trunk.bn1(trunk.conv_stem(x)))
        maps.append(x.permute(0, 2, 3, 1).half().cpu().numpy())
        x = trunk.bn2(trunk.conv_head(trunk.blocks[LOWER:](x)))
        features.append(x.float().mean((2, 3)).half().cpu().numpy())
    for kind, parts in (("maps", maps), ("features", features)):
        part = cache / f"{name}-{view}.{kind}.tmp.npy"
        np.save(part, np.concatenate(parts))
        os.replace(part, cache / f"{name}-{view}.{kind}.npy")
    print(f"{name}, view {view}: {len(pixels)} pictures, {time.monotonic() - began:.0f} s", flush=True)


# ---------------------------------------------------------------------------------------------- cached features


class CachedImages:
    """Images from several files with their cached views. Maps are memory-mapped, pooled features are in memory."""

    def __init__(self, folder: Path, files: Sequence[tuple[str, list[Picture], Sequence[int]]]) -> None:
        self.rows: list[Picture] = []
        self.views: list[tuple[list[View], int]] = []  # per image: its file's views, its row in them
        for name, pictures, views in files:
            paths = [[folder / f"{name}-{view}.{kind}.npy" for kind in ("maps", "features")] for view in views]
            arrays: list[View] = [(np.load(a, mmap_mode="r"), np.load(b)) for a, b in paths if b.exists()]
            self.rows += pictures
            self.views += [(arrays, row) for row in range(len(pictures))]

    def features(self, rows: Sequence[int]) -> torch.Tensor:
        """Pooled features (n, 1280) of view 0."""
        return self._stack([(views[0], at) for views, at in (self.views[row] for row in rows)], 1).float()

    def maps(self, rows: Sequence[int]) -> torch.Tensor:
        """Feature maps (n, height, width, channels) of view 0."""
        return self._stack([(views[0], at) for views, at in (self.views[row] for row in rows)], 0)

    def views_of(
        self, rows: Sequence[int], sided: Sequence[bool], rng: random.Random, maps: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Feature maps, if `maps`, and pooled features of a random view per row; no mirrored view where `sided`."""
        chosen = []
        for row, fixed in zip(rows, sided, strict=True):
            views, at = self.views[row]
            chosen.append((rng.choice(views[::2] if fixed else views), at))
        return self._stack(chosen, 0) if maps else None, self._stack(chosen, 1).float()

    def _stack(self, chosen: list[tuple[View, int]], kind: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([view[kind][at] for view, at in chosen]))


def open_cached(photos: Path, folder: Path, names: Sequence[str]) -> CachedImages:
    """Open shards with their cached features. Images without captions share those of their dataset and label."""
    lines = (json.loads(line) for line in (photos / "train-labels.jsonl").read_text().splitlines())
    labels: dict[str, str | None] = {line["key"]: line["label"] for line in lines}
    files = [(name, read_shard(photos / f"{name}.tar", labels)[0], range(VIEWS)) for name in names]
    first_of: dict[tuple[str, str], Picture] = {}
    for picture in (picture for _, pictures, _ in files for picture in pictures):
        if picture.label:
            slug = re.sub(r"[^a-z0-9]+", " ", picture.label.lower()).strip()
            known = first_of.setdefault((picture.source, slug), picture)
            picture.label, picture.captions = known.label, picture.captions or known.captions
    return CachedImages(folder, files)


def open_scenes(folder: Path, name: str) -> CachedImages:
    files = []
    for path in sorted(folder.glob(f"{name}-*.json")):
        pictures = [Picture(path.stem, tuple(captions)) for captions in json.loads(path.read_text())]
        files.append((name, pictures, [int(path.stem.rpartition("-")[2])]))
    return CachedImages(folder, files)
