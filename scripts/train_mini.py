"""Train `mini`, the CLIP model bundled with clipsearch, from photo shards and drawn scenes.

    python scripts/train_mini.py --data ../shared/data --work /tmp/mini --minutes 100

Four stages. The first is skipped when its result is already in the work folder, and an interrupted training resumes
from its last checkpoint:

1. `prepare`: every training photo becomes a few fixed crops, and an ImageNet classifier (the teacher, MobileNetV2
   as TensorFlow Lite) is run once over each crop.
2. `align`: the text tower and a linear bridge learn, with CLIP's contrastive loss, to meet the teacher's features.
3. `train`: the image tower learns to make those features itself, from the cosine distance to the teacher's for the same
   crop (a consistent teacher, Beyer et al. 2022) and from the contrastive loss, over photos and drawn scenes.
   Pictures of one class have equal captions: they are no negatives of each other and are masked.
4. `export`: the moving average of the weights in fp16, as a folder that open_clip opens with `local-dir:`.

Besides what clipsearch installs it needs `ai-edge-litert` for the teacher. Nothing of the data reaches the model
folder.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scenes
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

SIZE = 128  # pixels, of the model's input
VIEWS = 4  # crops of each photo; the first is the one that a user's photo gets
TEACHER_DIM = 1280
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {
        "timm_model_name": "mobilenetv4_conv_small",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "",
        "image_size": SIZE,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
}
BATCH, SCENES_A_BATCH = 208, 48
TEACHER_WEIGHT = 4.0
DEV_SCENES = (200, 10_000_000)  # count and first seed of the scenes that are never trained on


@dataclass(frozen=True, slots=True)
class Picture:
    """One photo of the shards: where it is, what is said of it, and the class it belongs to, if any."""

    shard: str
    member: str
    captions: tuple[str, ...]
    label: str | None


# ---------------------------------------------------------------------------------------------- data


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
    """The pooled 1280 features that the teacher computes for an RGB image."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.net = Interpreter(str(path), experimental_preserve_all_tensors=True, num_threads=threads)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        pooled = [d for d in self.net.get_tensor_details() if list(d["shape"]) == [1, 1, 1, TEACHER_DIM]]
        named = [d for d in pooled if "mean" in d["name"].lower() or "pool" in d["name"].lower()]
        self.pooled = (named or pooled)[-1]

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), np.uint8)
        self.net.set_tensor(self.input, pixels[None])
        self.net.invoke()
        scale, zero = self.pooled["quantization"]
        raw = self.net.get_tensor(self.pooled["index"]).reshape(-1).astype(np.float32)
        return np.asarray((raw - zero) * scale, np.float32)


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
    """Write the crops of `pictures` and the teacher's features for them to `out`, once."""
    if (out / "done").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    total = len(pictures)
    np.memmap(out / "pixels.u8", np.uint8, "w+", shape=(total, views, SIZE, SIZE, 3)).flush()
    np.memmap(out / "teacher.f16", np.float16, "w+", shape=(total, views, TEACHER_DIM)).flush()
    workers = os.cpu_count() or 1
    bounds = [total * k // workers for k in range(workers + 1)]
    jobs = [(shards, teacher, pictures[a:b], a, total, views, out) for a, b in itertools.pairwise(bounds)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.starmap(_prepare_part, jobs, chunksize=1)
    (out / "done").touch()


class Prepared:
    """Pictures with their crops (uint8) and teacher features (float16), mapped from disk."""

    def __init__(self, pictures: list[Picture], views: int, folder: Path) -> None:
        self.pictures = pictures
        shape = (len(pictures), views)
        self.pixels = np.memmap(folder / "pixels.u8", np.uint8, "r", shape=(*shape, SIZE, SIZE, 3))
        self.teacher = np.memmap(folder / "teacher.f16", np.float16, "r", shape=(*shape, TEACHER_DIM))


# ---------------------------------------------------------------------------------------------- model


class Student(nn.Module):
    """The CLIP that is trained. Its image tower ends in two linear maps: `imitate` to the teacher's features, and
    `bridge` from those to the embedding, so that whatever the tower learns of the teacher helps retrieval at once.
    """

    def __init__(self) -> None:
        super().__init__()
        config = copy.deepcopy(MODEL_CONFIG)
        self.clip = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        self.clip.visual.to(memory_format=torch.channels_last)
        self.imitate = nn.Linear(self.clip.visual.trunk.head_hidden_size, TEACHER_DIM)
        self.bridge = nn.Linear(TEACHER_DIM, config["embed_dim"], bias=False)

    def images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (n, embed_dim), not normalised, and what the tower takes for the teacher's features (n, 1280)."""
        trunk = self.clip.visual.trunk
        imitation = self.imitate(trunk.forward_head(trunk.forward_features(pixels), pre_logits=True))
        return self.bridge(imitation), imitation

    def texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """`CLIP.encode_text` without the padding: under the causal mask, cutting it off changes nothing."""
        clip = self.clip
        length = int((tokens != 0).sum(1).max())
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
        return x[torch.arange(len(x)), tokens.argmax(1)] @ clip.text_projection

    @torch.no_grad()
    def merged(self) -> CLIP:
        """The CLIP alone, the two maps multiplied into its classifier."""
        clip = copy.deepcopy(self.clip).eval()
        clip.visual.trunk.classifier.weight.copy_(self.bridge.weight @ self.imitate.weight)
        clip.visual.trunk.classifier.bias.copy_(self.bridge.weight @ self.imitate.bias)
        return clip


def to_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, size, size, 3) uint8 to the normalised (n, 3, size, size) that the tower takes."""
    batch = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def jitter(batch: torch.Tensor, strength: float = 0.25) -> torch.Tensor:
    """Vary brightness and contrast of each picture, not its hue: the captions name colours."""
    gain = 1 + strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    shift = strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    return batch * gain + shift


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, groups: list[str]) -> torch.Tensor:
    """CLIP's symmetric cross entropy, without the pairs whose members are of one group."""
    images, texts = functional.normalize(images.float(), dim=-1), functional.normalize(texts.float(), dim=-1)
    logits, _ = ClipLoss().get_logits(images, texts, scale.exp())
    _, ids = np.unique(groups, return_inverse=True)
    same = torch.from_numpy(ids[:, None] == ids[None, :])
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


# ---------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def embed_images(model: CLIP, pixels: NDArray[np.uint8]) -> torch.Tensor:
    parts = [model.encode_image(to_input(pixels[i : i + 100]), normalize=True) for i in range(0, len(pixels), 100)]
    return torch.cat(parts)


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: SimpleTokenizer, texts: list[str]) -> torch.Tensor:
    parts = [model.encode_text(tokenizer(texts[i : i + 250]), normalize=True) for i in range(0, len(texts), 250)]
    return torch.cat(parts)


def ranks(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 + how many columns score above the target's, for each row."""
    return 1 + (scores > scores.gather(1, target[:, None])).sum(1)


def recall(position: torch.Tensor) -> dict[str, float]:
    out = {f"R@{k}": round(100 * (position <= k).float().mean().item(), 1) for k in (1, 5, 10)}
    return out | {"median rank": float(position.float().median())}


@torch.no_grad()
def evaluate(student: Student, tokenizer: SimpleTokenizer, dev: Prepared, labels: Prepared) -> Any:
    """Dev figures in percent: retrieval over photos and over drawn scenes, labels; and the cosine to the teacher."""
    model = student.merged()
    pixels = dev.pixels[:, 0]
    images = embed_images(model, pixels)
    owner = torch.tensor([i for i, p in enumerate(dev.pictures) for _ in p.captions])
    texts = embed_texts(model, tokenizer, [c for p in dev.pictures for c in p.captions])
    scores = texts @ images.T
    best_caption = torch.stack([scores.T[:, owner == i].amax(1) for i in range(len(images))], 1)
    student.eval()
    imitation = torch.cat([student.images(to_input(pixels[i : i + 100]))[1] for i in range(0, len(pixels), 100)])
    cosine = functional.cosine_similarity(imitation, torch.from_numpy(dev.teacher[:, 0].astype(np.float32)))

    drawn = scenes.draw_distinct(*DEV_SCENES, size=SIZE)
    drawn_images = embed_images(model, np.stack([np.asarray(s.image) for s in drawn]))
    drawn_texts = embed_texts(model, tokenizer, [s.captions[0] for s in drawn])

    label_images = embed_images(model, labels.pixels[:, 0])
    right = 0
    sources = np.array([p.member.rsplit("-", 1)[0] for p in labels.pictures])
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        names = sorted({labels.pictures[i].label or "" for i in rows})
        words = embed_texts(model, tokenizer, [f"a photo of a {name}" for name in names])
        guess = (label_images[rows] @ words.T).argmax(1)
        right += sum(names[int(g)] == labels.pictures[i].label for g, i in zip(guess, rows, strict=True))
    every = torch.arange(len(drawn))
    return {
        "text-to-image": recall(ranks(scores, owner)),
        "image-to-text": recall(ranks(best_caption, torch.arange(len(images)))),
        "scenes": recall(ranks(drawn_texts @ drawn_images.T, every)),
        "scenes of 100": recall(ranks(drawn_texts[:100] @ drawn_images[:100].T, every[:100])),
        "labels top-1": round(100 * right / len(labels.pictures), 1),
        "teacher cosine": round(cosine.mean().item(), 4),
    }


# ---------------------------------------------------------------------------------------------- training


@dataclass(slots=True)
class Batch:
    """Captions, the group of each, and the rows of `pixels` that they belong to; teacher features of the first rows."""

    pixels: torch.Tensor | None
    captions: list[str]
    groups: list[str]
    captioned: torch.Tensor
    teacher: torch.Tensor


def make_batch(
    data: Prepared, rows: NDArray[np.int64], rng: random.Random, drawn: int, *, pixels: bool = True
) -> Batch:
    """The photos of `rows` and, after them, `drawn` scenes; without `pixels` only what is said of them."""
    images, teacher, captions, groups, captioned = [], [], [], [], []
    for position, row in enumerate(rows):
        picture = data.pictures[row]
        view = rng.randrange(data.teacher.shape[1])
        teacher.append(data.teacher[row, view])
        caption = rng.choice(picture.captions) if picture.captions else ""
        if caption:
            captions.append(caption)
            groups.append(picture.label or f"#{row}")
            captioned.append(position)
        if pixels:
            mirrored = rng.random() < 0.5 and not re.search(r"\b(left|right)\b", caption)
            images.append(data.pixels[row, view][:, ::-1] if mirrored else data.pixels[row, view])
    for _ in range(drawn):
        scene = scenes.draw(rng.randrange(DEV_SCENES[1]), SIZE)
        caption = rng.choice((scene.captions[0], *scene.captions))
        captioned.append(len(images))
        images.append(np.asarray(scene.image))
        captions.append(caption)
        groups.append(f"scene {caption}")
    return Batch(
        jitter(to_input(np.stack(images))) if pixels else None,
        captions,
        groups,
        torch.tensor(captioned),
        torch.from_numpy(np.stack(teacher).astype(np.float32)),
    )


class Schedule:
    """Batches of rows, epoch after epoch, and a learning rate over a budget of seconds: a short rise, then a cosine."""

    def __init__(self, count: int, batch: int, minutes: float, peak: float, seed: int, spent: float = 0.0) -> None:
        self.count, self.batch, self.budget, self.peak, self.spent = count, batch, minutes * 60, peak, spent
        self.order = np.random.default_rng(seed)
        self.epoch: NDArray[np.int64] = np.array([], np.int64)
        self.began = time.monotonic()

    def next(self, optimizer: torch.optim.Optimizer) -> NDArray[np.int64] | None:
        """The rows of the next batch, with the learning rate set for it; None when the budget is spent."""
        now = time.monotonic()
        self.spent, self.began = self.spent + now - self.began, now
        share = self.spent / self.budget
        if share >= 1:
            return None
        rate = self.peak * min(1.0, share / 0.05 + 1e-3) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(self.epoch) < self.batch:
            self.epoch = self.order.permutation(self.count)
        rows, self.epoch = self.epoch[: self.batch], self.epoch[self.batch :]
        return rows

    def pause(self) -> None:
        """Time since the last batch does not count: it went into an evaluation."""
        self.began = time.monotonic()


def make_optimizer(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.05},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=rate,
    )


def align(student: Student, data: Prepared, tokenizer: SimpleTokenizer, args: argparse.Namespace) -> None:
    """Teach the text tower and the bridge on the teacher's own features, which cost nothing to compute any more."""
    texts = [p for n, p in student.clip.named_parameters() if not n.startswith("visual.")]
    parameters = [*texts, *student.bridge.parameters()]
    optimizer = make_optimizer(parameters, args.lr)
    captioned = np.array([i for i, p in enumerate(data.pictures) if p.captions])
    schedule = Schedule(len(captioned), 2 * BATCH, args.align_minutes, args.lr, args.seed)
    rng = random.Random(args.seed)
    step = 0
    while (rows := schedule.next(optimizer)) is not None:
        batch = make_batch(data, captioned[rows], rng, 0, pixels=False)
        noise = 1 + 0.1 * torch.randn_like(batch.teacher)
        images = student.bridge(functional.dropout(batch.teacher, 0.2) * noise)
        embeddings = student.texts(tokenizer(batch.captions))
        loss = contrastive_loss(images, embeddings, student.clip.logit_scale, batch.groups)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            student.clip.logit_scale.clamp_(0, math.log(100))
        step += 1
        if step % 20 == 0:
            print(f"align: step {step}, {schedule.spent / 60:.1f} minutes, loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def ceiling(student: Student, tokenizer: SimpleTokenizer, dev: Prepared) -> dict[str, float]:
    """Text-to-image recall with the teacher's features in place of the student's: what imitation could reach."""
    images = functional.normalize(student.bridge(torch.from_numpy(dev.teacher[:, 0].astype(np.float32))), dim=-1)
    owner = torch.tensor([i for i, p in enumerate(dev.pictures) for _ in p.captions])
    texts = embed_texts(student.clip.eval(), tokenizer, [c for p in dev.pictures for c in p.captions])
    return recall(ranks(texts @ images.T, owner))


def train(args: argparse.Namespace, data: Prepared, dev: Prepared, labels: Prepared) -> tuple[Student, Any]:
    """Train until `args.minutes` of computing are spent, over as many interruptions as it takes."""
    torch.manual_seed(args.seed)
    tokenizer = SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    student = Student()
    checkpoint = args.work / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    if state is None:
        if args.init is not None:
            student.clip.load_state_dict(load_file(args.init))
        align(student, data, tokenizer, args)
        print(f"teacher with this text tower: {json.dumps(ceiling(student, tokenizer, dev))}", flush=True)
    average = copy.deepcopy(student)
    optimizer = make_optimizer(list(student.parameters()), args.lr)
    spent, step = 0.0, 0
    if state is not None:
        student.load_state_dict(state["student"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]

    def save() -> None:
        state = {"student": student.state_dict(), "average": average.state_dict()}
        state |= {"optimizer": optimizer.state_dict(), "spent": schedule.spent, "step": step}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
        export(average.merged(), args.work / "model")

    bf16 = torch.cpu._is_amx_tile_supported()  # without a matrix unit for it, bf16 is slower than fp32
    schedule = Schedule(len(data.pictures), BATCH, args.minutes, args.lr, args.seed + step, spent)
    rng = random.Random(args.seed + step)
    logged = evaluated = spent
    while (rows := schedule.next(optimizer)) is not None:
        batch = make_batch(data, rows, rng, SCENES_A_BATCH)
        student.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embeddings, imitation = student.images(batch.pixels)
            texts = student.texts(tokenizer(batch.captions))
        scale = student.clip.logit_scale
        loss = contrastive_loss(embeddings[batch.captioned], texts, scale, batch.groups)
        # The texts are there already; meeting the teacher's own features keeps their tower ahead of the images'.
        photos = int((batch.captioned < len(rows)).sum())
        ideal = student.bridge(batch.teacher[batch.captioned[:photos]])
        loss = loss + contrastive_loss(ideal, texts[:photos], scale, batch.groups[:photos])
        distance = 1 - functional.cosine_similarity(imitation[: len(rows)].float(), batch.teacher).mean()
        optimizer.zero_grad()
        (loss + TEACHER_WEIGHT * distance).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            student.clip.logit_scale.clamp_(0, math.log(100))
            decay = min(0.998, (1 + step) / (10 + step))
            current = student.state_dict()
            for name, value in average.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(current[name], 1 - decay)
                else:
                    value.copy_(current[name])
        step += 1
        if schedule.spent - logged > 60:
            logged = schedule.spent
            done = f"step {step}, {schedule.spent / 60:.0f} minutes"
            print(f"{done}: loss {loss.item():.3f}, teacher distance {distance.item():.4f}", flush=True)
        if schedule.spent - evaluated > args.eval_minutes * 60:
            evaluated = schedule.spent
            print(f"step {step}: {json.dumps(evaluate(average, tokenizer, dev, labels))}", flush=True)
            save()
            schedule.pause()
    save()
    return average, evaluate(average, tokenizer, dev, labels)


def export(model: CLIP, folder: Path) -> None:
    """Write the folder that `local-dir:` opens: fp16 weights and open_clip's configuration of them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, value in model.state_dict().items():
        weights[name] = (value.half() if value.dtype.is_floating_point else value).contiguous().clone()
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    preprocess = {
        "mean": OPENAI_DATASET_MEAN,
        "std": OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--data", type=Path, required=True, help="folder with photos/ and teacher/")
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared data, checkpoints, the model")
    parser.add_argument("--minutes", type=float, default=100, help="computing time to spend on training")
    parser.add_argument("--align-minutes", type=float, default=10, help="before that, on the text tower alone")
    parser.add_argument("--init", type=Path, help="weights to start from, such as the bundled ones")
    parser.add_argument("--eval-minutes", type=float, default=10, help="between two evaluations and checkpoints")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    photos, teacher = args.data / "photos", args.data / "teacher" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    captioned = read_shards(photos, "train-*.tar")
    extra = caption_the_extra(read_shards(photos, "extra-*.tar"), captioned)
    sets = {}
    for name, pictures, views in (
        ("train", captioned + extra, VIEWS),
        ("dev", read_shards(photos, "dev-flickr8k.tar"), 1),
        ("labels", read_shards(photos, "dev-labels.tar"), 1),
    ):
        began = time.monotonic()
        prepare(photos, teacher, pictures, views, args.work / name)
        print(f"{name}: {len(pictures)} pictures, {time.monotonic() - began:.0f} s", flush=True)
        sets[name] = Prepared(pictures, views, args.work / name)
    mean = sets["train"].teacher[:, 0].astype(np.float32).mean(0)
    for prepared in sets.values():  # what all pictures have in common tells nothing
        prepared.teacher = np.asarray(prepared.teacher, np.float32) - mean
    _, figures = train(args, sets["train"], sets["dev"], sets["labels"])
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
