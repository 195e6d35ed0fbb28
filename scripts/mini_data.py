"""The pictures that `train_mini.py` learns from: photo shards, cropped once, with what a teacher sees in each crop.

The teacher is MobileNetV2 as TensorFlow Lite, an ImageNet classifier (Sandler et al. 2018). Its pooled features are
what the image tower imitates, the weights of its last layer say which of them tell classes apart, and the names of the
classes that it is sure of are captions besides those that people wrote.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 128  # pixels, of the model's input
VIEWS = 4  # crops of each photo; the first is the one that a user's photo gets
TEACHER = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
TEACHER_DIM = 1280
SURE = 0.6  # probability from which the teacher's class is taken for a caption


@dataclass(frozen=True, slots=True)
class Picture:
    """One photo of the shards: where it is, what is said of it, and the class it belongs to, if any."""

    shard: str
    member: str
    captions: tuple[str, ...]
    label: str | None


def read_shards(folder: Path, pattern: str) -> list[Picture]:
    """The pictures of the shards that match `pattern`, with the captions and labels that lie beside them."""
    labels = {}
    for line in (folder / "train-labels.jsonl").read_text().splitlines():
        row = json.loads(line)
        labels[row["key"]] = row["label"]
    pictures = []
    for path in sorted(folder.glob(pattern)):
        with tarfile.open(path) as tar:
            texts: dict[str, tuple[str, ...]] = {}
            images = []
            for member in tar:
                stem, _, suffix = member.name.rpartition(".")
                if suffix in ("txt", "json"):
                    handle = tar.extractfile(member)
                    assert handle is not None
                    content = handle.read().decode()
                    if suffix == "txt":
                        texts[stem] = tuple(line for line in content.splitlines() if line)
                    else:
                        labels[stem] = json.loads(content)["label"]
                else:
                    images.append((stem, member.name))
            pictures += [Picture(path.name, name, texts.get(stem, ()), labels.get(stem)) for stem, name in images]
    return pictures


def caption_the_extra(pictures: list[Picture], captioned: list[Picture]) -> list[Picture]:
    """Give pictures named `<set>__<label>__<number>` the captions of their class, where it has any."""
    by_class: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
    for picture in captioned:
        if picture.label:
            slug = re.sub(r"[^a-z0-9]+", "-", picture.label.lower()).strip("-")
            by_class[picture.member.rsplit("-", 1)[0], slug] = (picture.label, picture.captions)
    out = []
    for picture in pictures:
        source, slug, _ = picture.member.split("__")
        if slug == "none":
            out.append(picture)
            continue
        words = slug.replace("-", " ")
        label, captions = by_class.get((source, slug), (words, (f"a photo of {words}", words)))
        out.append(replace(picture, label=label, captions=captions))
    return out


def crop(image: Image.Image, view: int, rng: random.Random) -> Image.Image:
    """View 0 is the centre square; the others are random resized crops."""
    width, height = image.size
    if view == 0:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side))
    area = width * height * rng.uniform(0.4, 1.0)
    ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    w, h = min(width, round(math.sqrt(area * ratio))), min(height, round(math.sqrt(area / ratio)))
    left, top = rng.randint(0, width - w), rng.randint(0, height - h)
    return image.crop((left, top, left + w, top + h))


class Teacher:
    """The classifier, for its pooled features: calling it with an RGB image gives 1280 of them.

    `weight` (1000, 1280) and `bias` (1000) map the features to the logits of ImageNet's classes, called `names`.
    """

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.net = Interpreter(str(folder / TEACHER), experimental_preserve_all_tensors=True, num_threads=1)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        by_shape = {tuple(d["shape"]): d for d in self.net.get_tensor_details()}
        self.pooled = by_shape[1, 1, 1, TEACHER_DIM]
        weight, bias = by_shape[1001, 1, 1, TEACHER_DIM], by_shape[(1001,)]
        scales = (d["quantization_parameters"]["scales"] for d in (weight, bias))
        raw = [
            self.net.get_tensor(d["index"]).squeeze().T * scale for d, scale in zip((weight, bias), scales, strict=True)
        ]
        self.weight, self.bias = (np.asarray(value.T[1:], np.float32) for value in raw)  # the first is the background
        self.names = [line.split(",")[0] for line in (folder / "imagenet_labels.txt").read_text().splitlines()[1:]]

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), np.uint8)
        self.net.set_tensor(self.input, pixels[None])
        self.net.invoke()
        scale, zero = self.pooled["quantization"]
        raw = self.net.get_tensor(self.pooled["index"]).reshape(-1).astype(np.float32)
        return np.asarray((raw - zero) * scale, np.float32)

    def name(self, features: NDArray[np.float32]) -> list[str | None]:
        """What each row of (n, 1280) shows, where the classifier is sure of it."""
        logits = features @ self.weight.T + self.bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        sure = odds.max(1) / odds.sum(1) > SURE
        return [self.names[best] if yes else None for best, yes in zip(odds.argmax(1), sure, strict=True)]


def _prepare_part(
    shards: Path, teacher: Path, pictures: list[Picture], first: int, total: int, views: int, out: Path
) -> None:
    pixels = np.memmap(out / "pixels.u8", np.uint8, "r+", shape=(total, views, SIZE, SIZE, 3))
    features = np.memmap(out / "teacher.f16", np.float16, "r+", shape=(total, views, TEACHER_DIM))
    net = Teacher(teacher)
    tars = {name: tarfile.open(shards / name) for name in {p.shard for p in pictures}}  # noqa: SIM115
    for offset, picture in enumerate(pictures):
        tar = tars[picture.shard]
        handle = tar.extractfile(picture.member)
        assert handle is not None
        image = Image.open(io.BytesIO(handle.read())).convert("RGB")
        rng = random.Random(first + offset)
        for view in range(views):
            part = crop(image, view, rng)
            pixels[first + offset, view] = np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
            features[first + offset, view] = net(part)


def prepare(shards: Path, teacher: Path, pictures: list[Picture], views: int, out: Path) -> None:
    """Write the crops of `pictures` and the teacher's features for them to `out`, once for the same pictures."""
    key = hashlib.sha256(repr((views, SIZE, [(p.shard, p.member) for p in pictures])).encode()).hexdigest()
    done = out / "done"
    if done.exists() and done.read_text() == key:
        return
    done.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    total = len(pictures)
    np.memmap(out / "pixels.u8", np.uint8, "w+", shape=(total, views, SIZE, SIZE, 3)).flush()
    np.memmap(out / "teacher.f16", np.float16, "w+", shape=(total, views, TEACHER_DIM)).flush()
    workers = os.cpu_count() or 1
    bounds = [total * k // workers for k in range(workers + 1)]
    jobs = [(shards, teacher, pictures[a:b], a, total, views, out) for a, b in itertools.pairwise(bounds)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.starmap(_prepare_part, jobs, chunksize=1)
    done.write_text(key)


class Prepared:
    """Pictures with their crops (uint8, mapped from disk), the teacher's features of each crop, and its name for it."""

    def __init__(self, pictures: list[Picture], views: int, folder: Path) -> None:
        self.pictures = pictures
        shape = (len(pictures), views)
        self.pixels = np.memmap(folder / "pixels.u8", np.uint8, "r", shape=(*shape, SIZE, SIZE, 3))
        features = np.memmap(folder / "teacher.f16", np.float16, "r", shape=(*shape, TEACHER_DIM))
        self.teacher: NDArray[np.float32] = np.asarray(features, np.float32)
        self.named: list[str | None] = [None] * len(pictures)
