"""Train `mini`, the CLIP model bundled with clipsearch, from photo shards and drawn scenes.

    python scripts/train_mini.py --data ../shared/data --work /tmp/mini --minutes 100

Three stages, each skipped when its result is already in the work folder; an interrupted training resumes from
its last checkpoint:

1. `prepare`: every training photo becomes a few fixed crops, and an ImageNet classifier (the teacher, MobileNetV2
   as TensorFlow Lite) is run once over each crop.
2. `train`: open_clip's CLIP and contrastive loss over photos with captions and drawn scenes, plus the cosine distance
   between the image tower's features and the teacher's for the same crop (a consistent teacher, Beyer et al. 2022).
   Pictures of one class have equal captions: they are no negatives of each other and are masked.
3. `export`: the moving average of the weights in fp16, as a folder that open_clip opens with `local-dir:`.

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
from safetensors.torch import save_file
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


def make_model() -> tuple[CLIP, nn.Module]:
    """The student, and the linear head that its image features are compared with the teacher's through."""
    config = copy.deepcopy(MODEL_CONFIG)
    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    return model, nn.Linear(model.visual.trunk.head_hidden_size, TEACHER_DIM)


def to_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, size, size, 3) uint8 to the normalised (n, 3, size, size) that the tower takes."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def jitter(batch: torch.Tensor, strength: float = 0.25) -> torch.Tensor:
    """Vary brightness and contrast of each picture, not its hue: the captions name colours."""
    gain = 1 + strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    shift = strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    return batch * gain + shift


def image_features(model: CLIP, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (n, embed_dim), not normalised, and the features they are projected from (n, 1280)."""
    trunk = model.visual.trunk
    features = trunk.forward_head(trunk.forward_features(pixels), pre_logits=True)
    return trunk.classifier(features), features


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, groups: list[str]) -> torch.Tensor:
    """CLIP's symmetric cross entropy, without the pairs whose members are of one group."""
    logits, _ = ClipLoss().get_logits(images, texts, scale)
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
def evaluate(model: CLIP, head: nn.Module, tokenizer: SimpleTokenizer, dev: Prepared, labels: Prepared) -> Any:
    """Dev figures, in percent: retrieval over captioned photos and over drawn scenes, labels, and the teacher's cosine."""
    model.eval()
    pixels = dev.pixels[:, 0]
    images = embed_images(model, pixels)
    owner = torch.tensor([i for i, p in enumerate(dev.pictures) for _ in p.captions])
    texts = embed_texts(model, tokenizer, [c for p in dev.pictures for c in p.captions])
    scores = texts @ images.T
    best_caption = torch.stack([scores.T[:, owner == i].amax(1) for i in range(len(images))], 1)
    student = [head(image_features(model, to_input(pixels[i : i + 100]))[1]) for i in range(0, len(pixels), 100)]
    cosine = functional.cosine_similarity(torch.cat(student), torch.from_numpy(dev.teacher[:, 0].astype(np.float32)))

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
    pixels: torch.Tensor
    captions: list[str]
    groups: list[str]
    teacher: torch.Tensor  # of the photos, which come first
    captioned: torch.Tensor  # rows that have a caption


def make_batch(data: Prepared, rows: NDArray[np.int64], rng: random.Random) -> Batch:
    pixels, teacher, captions, groups, captioned = [], [], [], [], []
    for position, row in enumerate(rows):
        picture = data.pictures[row]
        view = rng.randrange(data.pixels.shape[1])
        image = data.pixels[row, view]
        teacher.append(data.teacher[row, view])
        if picture.captions:
            caption = rng.choice(picture.captions)
            captions.append(caption)
            groups.append(picture.label or f"#{row}")
            captioned.append(position)
        if rng.random() < 0.5 and not (picture.captions and re.search(r"\b(left|right)\b", caption)):
            image = image[:, ::-1]
        pixels.append(image)
    for _ in range(SCENES_A_BATCH):
        scene = scenes.draw(rng.randrange(DEV_SCENES[1]), SIZE)
        caption = rng.choice((scene.captions[0], *scene.captions))
        captioned.append(len(pixels))
        pixels.append(np.asarray(scene.image))
        captions.append(caption)
        groups.append(f"scene {caption}")
    return Batch(
        jitter(to_input(np.stack(pixels))),
        captions,
        groups,
        torch.from_numpy(np.stack(teacher).astype(np.float32)),
        torch.tensor(captioned),
    )


def train(args: argparse.Namespace, data: Prepared, dev: Prepared, labels: Prepared) -> tuple[CLIP, Any]:
    """Train until `args.minutes` of computing are spent, over as many interruptions as it takes."""
    torch.manual_seed(args.seed)
    tokenizer = SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    model, head = make_model()
    model.visual.to(memory_format=torch.channels_last)
    parameters = [*model.named_parameters(), *head.named_parameters()]
    decayed = [p for _, p in parameters if p.ndim >= 2]
    plain = [p for _, p in parameters if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=args.lr
    )
    average = copy.deepcopy(nn.ModuleList([model, head])).eval()
    spent, step = 0.0, 0
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        spent, step = state["spent"], state["step"]

    # bf16 is only worth it where the processor has a matrix unit for it.
    bf16 = torch.cpu._is_amx_tile_supported()
    budget = args.minutes * 60
    rng = random.Random(args.seed + step)
    order = np.random.default_rng(args.seed + step)
    epoch: NDArray[np.int64] = np.array([], np.int64)
    last_log = last_eval = time.monotonic()
    figures: Any = None
    while spent < budget:
        began = time.monotonic()
        if len(epoch) < BATCH:
            epoch = order.permutation(len(data.pictures))
        rows, epoch = epoch[:BATCH], epoch[BATCH:]
        # One cycle over the time budget: warm up over the first 8%, then a cosine to zero.
        progress = spent / budget
        rate = args.lr * min(1.0, progress / 0.08 + 1e-3) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = make_batch(data, rows, rng)
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embeddings, features = image_features(model, batch.pixels)
            texts = model.encode_text(tokenizer(batch.captions))
            imitation = head(features[: len(rows)])
        loss = contrastive_loss(
            functional.normalize(embeddings[batch.captioned].float(), dim=-1),
            functional.normalize(texts.float(), dim=-1),
            model.logit_scale.exp(),
            batch.groups,
        )
        distance = 1 - functional.cosine_similarity(imitation.float(), batch.teacher).mean()
        optimizer.zero_grad()
        (loss + TEACHER_WEIGHT * distance).backward()
        nn.utils.clip_grad_norm_([p for _, p in parameters], 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
            decay = min(0.998, (1 + step) / (10 + step))
            current = nn.ModuleList([model, head]).state_dict()
            for name, value in average.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(current[name], 1 - decay)
                else:
                    value.copy_(current[name])
        step += 1
        now = time.monotonic()
        spent += now - began
        if now - last_log > 60:
            last_log = now
            done = f"step {step} {100 * spent / budget:.1f}%"
            print(f"{done} loss {loss.item():.3f} teacher distance {distance.item():.4f} lr {rate:.2e}", flush=True)
        if now - last_eval > args.eval_minutes * 60 or spent >= budget:
            figures = evaluate(average[0], average[1], tokenizer, dev, labels)
            print(f"step {step}, {spent / 60:.0f} minutes: {json.dumps(figures)}", flush=True)
            state = {"model": model.state_dict(), "head": head.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "spent": spent, "step": step}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
            export(average[0], args.work / "model")
            last_eval = time.monotonic()
    if figures is None:
        figures = evaluate(average[0], average[1], tokenizer, dev, labels)
    return average[0], figures


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
    model, figures = train(args, sets["train"], sets["dev"], sets["labels"])
    export(model, args.work / "model")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
