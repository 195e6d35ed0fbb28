"""Train `mini`, the CLIP model bundled with clipsearch, from photo shards and drawn scenes.

    python scripts/train_mini.py --data ../shared/data --work /tmp/mini

Five stages, each resumed from its last checkpoint when it was interrupted and skipped when it is complete:

1. `prepare`: every training photo becomes a few fixed crops, and an ImageNet classifier (the teacher) is run once over
   each crop.
2. `align`: the text tower and a bridge learn, with CLIP's contrastive loss, to meet on the teacher's features.
   No image is encoded, so this is cheap.
3. `imitate`: the image tower learns to make those features itself, at a reduced size and with no text at all, from
   the cosine distance to the teacher's for the same crop (a consistent teacher, Beyer et al. 2022), from the teacher's
   class probabilities (Hinton et al. 2015), and from the distance after the bridge, where it matters.
4. `train`: everything together at full size, over photos and drawn scenes.
5. `polish`: the same with more scenes, and with the batch norms as they will be used: by then photos and scenes, which
   have other statistics, have met in each batch, and the model has one norm for both.

With every look at the figures, and at the end, the moving average of the weights is written in fp16 to WORK/model, a
folder that open_clip opens with `local-dir:`; `measure_mini.py` measures it with the program itself.

Besides what clipsearch installs it needs `ai-edge-litert` for the teacher. Nothing of the data reaches the model
folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scenes
import torch
from mini_data import SIZE, TEACHER_DIM, VIEWS, Prepared, Teacher, caption_the_extra, prepare, read_shards
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from clipsearch.search.evaluate import Recall, ranks

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
ALIGN_BATCH, IMITATE_BATCH = 512, 128
TRAIN_BATCH, TRAIN_SCENES = 192, 64
POLISH_BATCH, POLISH_SCENES = 160, 96
CHUNK = 128  # images that go through the trunk at once: on a CPU 256 take half as long again for each
IMITATE_SIZE = 96  # pixels; a step takes two thirds of the time that it takes at full size
DEV_SCENES = 200
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a photo of {}", "a picture of a {}", "this is a {}")

T = TypeVar("T")


# ---------------------------------------------------------------------------------------------- model


class Student(nn.Module):
    """The CLIP that is trained. Where its image tower has a head there are two maps while it learns: `imitate` from
    the pooled maps of the trunk to the teacher's features, `bridge` from those to the embedding, so that whatever the
    tower learns of the teacher helps retrieval at once.
    """

    def __init__(self) -> None:
        super().__init__()
        config = copy.deepcopy(MODEL_CONFIG)
        self.clip = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        self.clip.visual.to(memory_format=torch.channels_last)
        trunk = self.clip.visual.trunk
        self.imitate = nn.Linear(trunk.num_features, TEACHER_DIM)
        hidden = nn.Linear(TEACHER_DIM, trunk.head_hidden_size)
        self.bridge = nn.Sequential(
            nn.Dropout(0.1), hidden, nn.ReLU(), nn.Dropout(0.2), nn.Linear(trunk.head_hidden_size, config["embed_dim"])
        )

    def images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (n, embed_dim), not normalised, and what the tower takes for the teacher's features (n, 1280)."""
        trunk = self.clip.visual.trunk
        parts = [trunk.global_pool(trunk.forward_features(part)).flatten(1) for part in torch.split(pixels, CHUNK)]
        imitation = self.imitate(torch.cat(parts))
        return self.bridge(imitation), imitation

    def texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """`CLIP.encode_text` of texts of similar length together: under the causal mask, padding changes nothing."""
        clip = self.clip
        tokens = tokens.to(self.device)
        lengths = (tokens != 0).sum(1)
        order = lengths.argsort()
        parts = []
        for rows in torch.split(order, 64):
            part = tokens[rows, : int(lengths[rows].max())]
            x = clip.token_embedding(part) + clip.positional_embedding[: part.shape[1]]
            x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[: part.shape[1], : part.shape[1]]))
            parts.append(x[torch.arange(len(x), device=x.device), part.argmax(1)])
        out: torch.Tensor = torch.cat(parts)[order.argsort()] @ clip.text_projection
        return out

    @property
    def device(self) -> torch.device:
        scale: torch.Tensor = self.clip.logit_scale
        return scale.device

    def image_parameters(self) -> list[nn.Parameter]:
        return [p for n, p in self.named_parameters() if n.startswith("clip.visual.") or n.startswith("imitate.")]

    def text_parameters(self) -> list[nn.Parameter]:
        """Those of the text tower and of the bridge that it meets the teacher's features on."""
        known = {id(p) for p in self.image_parameters()}
        return [p for p in self.parameters() if id(p) not in known]

    @torch.no_grad()
    def merged(self) -> CLIP:
        """The CLIP alone, the two maps multiplied into the head of its image tower: linear, norm, ReLU, linear."""
        clip = copy.deepcopy(self.clip).eval()
        trunk: Any = clip.visual.trunk
        hidden: Any = self.bridge[1]
        trunk.conv_head.weight.copy_((hidden.weight @ self.imitate.weight)[:, :, None, None])
        norm = trunk.norm_head
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        norm.weight.fill_(math.sqrt(1 + norm.eps))
        norm.bias.copy_(hidden.weight @ self.imitate.bias + hidden.bias)
        trunk.classifier.load_state_dict(self.bridge[4].state_dict())
        return clip


def to_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, size, size, 3) uint8 to the normalised (n, 3, size, size) that the tower takes."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def jitter(batch: torch.Tensor, strength: float = 0.25) -> torch.Tensor:
    """Vary brightness and contrast of each picture, not its hue: the captions name colours."""
    gain = 1 + strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    shift = strength * (2 * torch.rand(len(batch), 1, 1, 1) - 1)
    return batch * gain + shift


class Lesson:
    """What the teacher's features are compared by: as they are, less their mean, and as class probabilities."""

    def __init__(self, teacher: Teacher, mean: NDArray[np.float32], device: torch.device) -> None:
        self.weight = torch.from_numpy(teacher.weight).to(device)
        self.bias = torch.from_numpy(teacher.weight @ mean + teacher.bias).to(device)

    def loss(self, imitation: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cosine distance of (n, 1280) to the teacher's, and the divergence of the class probabilities."""
        distance = 1 - functional.cosine_similarity(imitation, features).mean()
        guess = functional.log_softmax(imitation @ self.weight.T + self.bias, dim=-1)
        truth = functional.log_softmax(features @ self.weight.T + self.bias, dim=-1)
        return distance, functional.kl_div(guess, truth, log_target=True, reduction="batchmean")


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, groups: list[str]) -> torch.Tensor:
    """CLIP's symmetric cross entropy, without the pairs whose members are of one group."""
    images, texts = functional.normalize(images.float(), dim=-1), functional.normalize(texts.float(), dim=-1)
    logits, _ = ClipLoss().get_logits(images, texts, scale.exp())
    _, ids = np.unique(groups, return_inverse=True)
    same = torch.from_numpy(ids[:, None] == ids[None, :]).to(logits.device)
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


# ---------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def embed_images(model: CLIP, pixels: NDArray[np.uint8]) -> torch.Tensor:
    device = model.logit_scale.device
    parts = (to_input(pixels[i : i + 100]).to(device) for i in range(0, len(pixels), 100))
    return torch.cat([model.encode_image(part, normalize=True) for part in parts]).cpu()


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: SimpleTokenizer, texts: list[str]) -> torch.Tensor:
    device = model.logit_scale.device
    parts = (tokenizer(texts[i : i + 250]).to(device) for i in range(0, len(texts), 250))
    return torch.cat([model.encode_text(part, normalize=True) for part in parts]).cpu()


def recall(queries: torch.Tensor, gallery: torch.Tensor, right: list[tuple[int, int]]) -> dict[str, float]:
    """As `clipsearch eval` counts it, in percent; `right` are the pairs (query, row of the gallery) that fit."""
    asked, answer = np.array(right, np.int64).T
    rows, answers = queries.numpy(), gallery.numpy()
    cosines = np.einsum("nd,nd->n", rows[asked], answers[answer])
    found = Recall.of(ranks(rows, [(np.arange(len(answers)), answers)], asked, answer, cosines))
    shares = {"R@1": found.at_1, "R@5": found.at_5, "R@10": found.at_10}
    return {name: round(100 * share, 1) for name, share in shares.items()} | {"median rank": found.median_rank}


@torch.no_grad()
def judge(model: CLIP, tokenizer: SimpleTokenizer, dev: Prepared, labels: Prepared, images: list[torch.Tensor]) -> Any:
    """Retrieval on dev and zero-shot labels of a text tower with the embedded `images` of the two sets.

    Each photo of `labels` is compared with the labels of its own set, as "a photo of a ...".
    """
    numbers: dict[str, int] = {}  # equal captions are one, and each of their photos is right
    pairs = []
    for row, picture in enumerate(dev.pictures):
        pairs += [(numbers.setdefault(caption, len(numbers)), row) for caption in dict.fromkeys(picture.captions)]
    texts = embed_texts(model, tokenizer, list(numbers))
    right = 0.0
    sources = np.array([picture.member.rsplit("-", 1)[0] for picture in labels.pictures])
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        names = sorted({labels.pictures[row].label or "" for row in rows})
        words = embed_texts(model, tokenizer, [f"a photo of a {name}" for name in names])
        truth = [(number, names.index(labels.pictures[row].label or "")) for number, row in enumerate(rows)]
        right += len(rows) * recall(images[1][rows], words, truth)["R@1"]
    return {
        "text-to-image": recall(texts, images[0], pairs),
        "image-to-text": recall(images[0], texts, [(row, number) for number, row in pairs]),
        "labels top-1": round(right / len(labels.pictures), 1),
    }


@torch.no_grad()
def ceiling(student: Student, tokenizer: SimpleTokenizer, dev: Prepared, labels: Prepared) -> Any:
    """The figures with the teacher's features in place of the student's: what imitation could reach."""
    student.eval()
    features = (torch.from_numpy(part.teacher[:, 0]).to(student.device) for part in (dev, labels))
    images = [functional.normalize(student.bridge(part), dim=-1).cpu() for part in features]
    return judge(student.clip, tokenizer, dev, labels, images)


@torch.no_grad()
def evaluate(student: Student, tokenizer: SimpleTokenizer, dev: Prepared, labels: Prepared) -> Any:
    """The figures of the model as it would be exported, those over drawn scenes, and the cosine to the teacher."""
    student.eval()
    model = student.merged()
    images = [embed_images(model, part.pixels[:, 0]) for part in (dev, labels)]
    pixels = (to_input(dev.pixels[i : i + 100, 0]).to(student.device) for i in range(0, len(dev.pictures), 100))
    imitation = torch.cat([student.images(part)[1] for part in pixels]).cpu()
    cosine = functional.cosine_similarity(imitation, torch.from_numpy(dev.teacher[:, 0]))
    drawn = scenes.draw_distinct(DEV_SCENES, scenes.UNSEEN, size=SIZE)
    drawn_images = embed_images(model, np.stack([np.asarray(s.image) for s in drawn]))
    drawn_texts = embed_texts(model, tokenizer, [s.captions[0] for s in drawn])
    return judge(model, tokenizer, dev, labels, images) | {
        "scenes": recall(drawn_texts, drawn_images, [(n, n) for n in range(len(drawn))]),
        "teacher cosine": round(cosine.mean().item(), 4),
    }


# ---------------------------------------------------------------------------------------------- batches


def view_of(
    data: Prepared, row: int, rng: random.Random, mirror: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One crop of a photo, possibly mirrored, and the teacher's features of the crop."""
    view = rng.randrange(data.teacher.shape[1])
    pixels = data.pixels[row, view]
    return pixels[:, ::-1] if mirror and rng.random() < 0.5 else pixels, data.teacher[row, view]


def say(data: Prepared, row: int, rng: random.Random) -> tuple[str, str]:
    """Something that is said of a photo, or "", and the group of that: equals are no negatives."""
    picture = data.pictures[row]
    named = data.named[row]
    if named and (not picture.captions or rng.random() < 0.15):
        return rng.choice(TEMPLATES).format(named), named
    if picture.label and rng.random() < 0.4:
        return rng.choice(TEMPLATES).format(picture.label), picture.label
    if picture.captions:
        return rng.choice(picture.captions), picture.label or f"#{row}"
    return "", ""


def thin(caption: str, rng: random.Random) -> str:
    """The caption less a tenth of its words, so that no single word decides."""
    return " ".join(word for word in caption.split() if rng.random() > 0.1) or caption


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before it is used."""
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, source, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, source, None)
            yield item


@dataclass(frozen=True, slots=True)
class Batch:
    """`pixels` of photos and after them of scenes, the teacher's `features` of the photos, and `captions` of the rows
    that `said` names, each with its group.
    """

    pixels: torch.Tensor
    features: torch.Tensor
    said: torch.Tensor
    captions: list[str]
    groups: list[str]

    def to(self, device: torch.device) -> Batch:
        pixels, features, said = (tensor.to(device) for tensor in (self.pixels, self.features, self.said))
        return Batch(pixels, features, said, self.captions, self.groups)


def align_batch(data: Prepared, rows: NDArray[np.int64], rng: random.Random) -> Batch:
    features = np.stack([data.teacher[row, rng.randrange(data.teacher.shape[1])] for row in rows])
    said = [say(data, row, rng) for row in rows]
    captions = [thin(caption, rng) for caption, _ in said]
    return Batch(
        torch.empty(0), torch.from_numpy(features), torch.arange(len(rows)), captions, [group for _, group in said]
    )


def imitate_batch(data: Prepared, rows: NDArray[np.int64], rng: random.Random) -> Batch:
    pixels, features = zip(*(view_of(data, row, rng, mirror=True) for row in rows), strict=True)
    side = rng.randint(round(0.8 * SIZE), SIZE)
    left, top = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
    window = to_input(np.stack(pixels))[:, :, top : top + side, left : left + side]
    size = (IMITATE_SIZE, IMITATE_SIZE)
    small = functional.interpolate(window, size, mode="bilinear", antialias=True, align_corners=False)
    small = jitter(small).contiguous(memory_format=torch.channels_last)
    return Batch(small, torch.from_numpy(np.stack(features)), torch.arange(0), [], [])


def similar_scenes(count: int, rng: random.Random) -> list[scenes.Scene]:
    """Out of twice as many, the scenes that share most words with one of them: they differ in what is hard."""
    drawn = [scenes.draw(rng.randrange(scenes.UNSEEN), SIZE) for _ in range(2 * count)]
    words = set(drawn[0].captions[0].split())
    return sorted(drawn, key=lambda scene: -len(words.intersection(scene.captions[0].split())))[:count]


def train_batch(drawn: int, data: Prepared, rows: NDArray[np.int64], rng: random.Random) -> Batch:
    """The photos of `rows`, most with a caption, then so many scenes, each with one."""
    pixels, features, said, captions, groups = [], [], [], [], []
    for position, row in enumerate(rows):
        caption, group = say(data, row, rng)
        mirror = not re.search(r"\b(left|right)\b", caption)
        view, truth = view_of(data, row, rng, mirror)
        pixels.append(view)
        features.append(truth)
        if caption:
            said.append(position)
            captions.append(thin(caption, rng))
            groups.append(group)
    for scene in similar_scenes(drawn, rng):
        caption = scene.captions[0] if rng.random() < 0.7 else rng.choice(scene.captions)
        said.append(len(pixels))
        pixels.append(np.asarray(scene.image))
        captions.append(caption)
        groups.append(f"scene {caption}")
    inputs = jitter(to_input(np.stack(pixels))).contiguous(memory_format=torch.channels_last)
    return Batch(inputs, torch.from_numpy(np.stack(features)), torch.tensor(said), captions, groups)


# ---------------------------------------------------------------------------------------------- training


class Stage:
    """A part of the training with a budget of computing time, over as many interruptions as it takes.

    It `learns` parameters, each list with its highest learning rate, which is reached after a twentieth of the budget
    and falls to zero as a cosine. What the stage leaves in `student` is the moving average of its weights. `watch`
    gives the figures that are logged now and then.
    """

    def __init__(
        self,
        name: str,
        student: Student,
        learns: list[tuple[list[nn.Parameter], float]],
        minutes: float,
        args: argparse.Namespace,
        watch: Callable[[Student], Any],
    ) -> None:
        self.name, self.student, self.budget, self.args, self.watch = name, student, minutes * 60, args, watch
        self.average = copy.deepcopy(student)
        self.parameters = [parameter for parameters, _ in learns for parameter in parameters]
        groups = []
        for parameters, rate in learns:
            decayed = [p for p in parameters if p.ndim >= 2]
            plain = [p for p in parameters if p.ndim < 2]
            groups.append({"params": decayed, "weight_decay": 0.05, "peak": rate})
            groups.append({"params": plain, "weight_decay": 0.0, "peak": rate})
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.spent, self.step = 0.0, 0
        self.file = args.work / f"{name}.pt"
        if self.file.exists():
            state = torch.load(self.file, weights_only=True, map_location=student.device)
            student.load_state_dict(state["student"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.spent, self.step = state["spent"], state["step"]

    def run(
        self,
        rows: NDArray[np.int64],
        size: int,
        make: Callable[[NDArray[np.int64], random.Random], Batch],
        loss: Callable[[Batch], tuple[torch.Tensor, dict[str, float]]],
    ) -> None:
        """Train on batches of `size` out of `rows`, epoch after epoch, until the budget is spent."""
        rng = random.Random(self.args.seed + self.step)
        order = np.random.default_rng(self.args.seed + self.step)

        def batches() -> Iterator[Batch]:
            while True:
                epoch = order.permutation(rows)
                for start in range(0, len(epoch) - size + 1, size):
                    yield make(epoch[start : start + size], rng)

        first, began = self.step, time.monotonic()
        logged = watched = self.spent
        self.student.train()
        source = prefetch(batches())
        while self.spent < self.budget:
            value, figures = loss(next(source).to(self.student.device))
            self._update(value)
            now = time.monotonic()
            self.spent, began = self.spent + now - began, now
            if self.spent - logged > 60:
                logged = self.spent
                parts = ", ".join(f"{key} {figure:.3f}" for key, figure in figures.items())
                print(f"{self.name}: step {self.step}, {self.spent / 60:.1f} minutes, {parts}", flush=True)
            if self.spent - watched > self.args.watch_minutes * 60:
                watched = self.spent
                self._watch()
                began = time.monotonic()
        source.close()  # type: ignore[attr-defined]
        if self.step > first:
            self._watch()
        self.student.load_state_dict(self.average.state_dict())

    def _update(self, loss: torch.Tensor) -> None:
        share = min(1.0, self.spent / self.budget)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, share / 0.05 + 1e-3) * (0.5 + 0.5 * math.cos(math.pi * share))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            self.student.clip.logit_scale.clamp_(0, math.log(100))
            if self.step % 4 == 0:  # each time costs a pass over all weights
                decay = min(0.992, (1 + self.step) / (10 + self.step))
                pairs = zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True)
                for mean, value in pairs:
                    if value.dtype.is_floating_point:
                        mean.lerp_(value, 1 - decay)
                    else:
                        mean.copy_(value)

    def _watch(self) -> None:
        """Log the figures of the average so far, and save everything."""
        print(f"{self.name}: step {self.step}: {json.dumps(self.watch(self.average))}", flush=True)
        state: dict[str, Any] = {"student": self.student.state_dict(), "average": self.average.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "spent": self.spent, "step": self.step}
        torch.save(state, self.file.with_suffix(".tmp"))
        os.replace(self.file.with_suffix(".tmp"), self.file)


def train(
    args: argparse.Namespace, data: Prepared, dev: Prepared, labels: Prepared, lesson: Lesson, device: torch.device
) -> None:
    """All stages after `prepare`; they leave the model in the work folder and its figures in the log."""
    torch.manual_seed(args.seed)
    tokenizer = SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    student = Student()
    if args.init is not None:
        # Not the text tower: one that has met these captions before has learned them by heart, and reaches less.
        trunk = {name: value for name, value in load_file(args.init).items() if name.startswith("visual.")}
        student.clip.load_state_dict(trunk, strict=False)
    student.to(device)
    scale = student.clip.logit_scale
    # Photos that people described count more: there are five captions to learn, not one class.
    every = list(range(len(data.pictures)))
    captioned = [row for row in every if data.pictures[row].captions or data.named[row]]
    described = [row for row in captioned if data.pictures[row].captions and not data.pictures[row].label]

    def align_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        noise = 1 + 0.1 * torch.randn_like(batch.features)
        images = student.bridge(batch.features * noise)
        loss = contrastive_loss(images, student.texts(tokenizer(batch.captions)), scale, batch.groups)
        return loss, {"loss": loss.item()}

    def imitate_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        student.bridge.eval()
        with autocast():
            embeddings, imitation = student.images(batch.pixels)
        distance, divergence = lesson.loss(imitation.float(), batch.features)
        with torch.no_grad():
            ideal = student.bridge(batch.features)
        apart = 1 - functional.cosine_similarity(embeddings.float(), ideal).mean()
        figures = {"distance": distance.item(), "divergence": divergence.item(), "apart": apart.item()}
        return 4 * distance + divergence + 4 * apart, figures

    def train_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        student.bridge.train()
        photos = len(batch.features)
        said = int((batch.said < photos).sum())
        with autocast():
            embeddings, imitation = student.images(batch.pixels)
            texts = student.texts(tokenizer(batch.captions))
            ideal = student.bridge(batch.features)
        contrast = contrastive_loss(embeddings[batch.said], texts, scale, batch.groups)
        # The texts are there already; meeting the teacher's own features keeps their tower ahead of the images'.
        ahead = contrastive_loss(ideal[batch.said[:said]], texts[:said], scale, batch.groups[:said])
        distance, divergence = lesson.loss(imitation[:photos].float(), batch.features)
        apart = 1 - functional.cosine_similarity(embeddings[:photos].float(), ideal.detach().float()).mean()
        figures = {"contrast": contrast.item(), "ahead": ahead.item(), "distance": distance.item()}
        return contrast + ahead + 4 * distance + divergence + 2 * apart, figures

    def polish_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        for module in student.clip.visual.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return train_loss(batch)

    def align_watch(average: Student) -> Any:
        return ceiling(average, tokenizer, dev, labels)

    def watch(average: Student) -> Any:
        export(average.merged(), args.work / "model")
        return evaluate(average, tokenizer, dev, labels)

    # Without a matrix unit for it, bf16 is slower than fp32.
    bf16 = device.type == "cuda" or torch.cpu._is_amx_tile_supported()

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    texts, images = student.text_parameters(), student.image_parameters()
    for name, learns, minutes, rows, size, make, loss, look in (
        ("align", [(texts, 1e-3)], args.align_minutes,
         captioned + 4 * described, ALIGN_BATCH, align_batch, align_loss, align_watch),
        ("imitate", [(images, 2e-3)], args.imitate_minutes,
         every, IMITATE_BATCH, imitate_batch, imitate_loss, watch),
        ("train", [(images, 1e-3), (texts, 5e-4)], args.minutes,
         every + described, TRAIN_BATCH, partial(train_batch, TRAIN_SCENES), train_loss, watch),
        ("polish", [(images, 3e-4), (texts, 1e-4)], args.polish_minutes,
         every + described, POLISH_BATCH, partial(train_batch, POLISH_SCENES), polish_loss, watch),
    ):  # fmt: skip
        Stage(name, student, learns, minutes, args, look).run(np.array(rows), size, partial(make, data), loss)


def export(model: CLIP, folder: Path) -> None:
    """Write the folder that `local-dir:` opens: fp16 weights and open_clip's configuration of them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, value in model.state_dict().items():
        weights[name] = (value.half() if value.dtype.is_floating_point else value).cpu().contiguous().clone()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos/ and teacher/")
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared data, checkpoints, the model")
    parser.add_argument("--align-minutes", type=float, default=8, help="computing time for the text tower alone")
    parser.add_argument("--imitate-minutes", type=float, default=27, help="then for the image tower alone")
    parser.add_argument("--minutes", type=float, default=55, help="then for both")
    parser.add_argument(
        "--polish-minutes", type=float, default=8, help="then for both with fixed norms and more scenes"
    )
    parser.add_argument("--init", type=Path, help="weights whose image trunk to start from, such as mini's")
    parser.add_argument("--watch-minutes", type=float, default=10, help="between two evaluations and checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    photos, teacher = args.data / "photos", args.data / "teacher"
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
    classifier = Teacher(teacher)
    sets["train"].named = classifier.name(sets["train"].teacher[:, 0])
    mean = sets["train"].teacher[:, 0].mean(0)
    for prepared in sets.values():  # what all pictures have in common tells nothing
        prepared.teacher -= mean
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(args, sets["train"], sets["dev"], sets["labels"], Lesson(classifier, mean, device), device)


if __name__ == "__main__":
    main()
