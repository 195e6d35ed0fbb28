"""Refit the projections of `mini`: the last stage of its training, minutes on one core.

    python scripts/refit_mini.py --data DIR --work /tmp/mini TUNE.safetensors AGAIN.safetensors

`train_mini.py` trains both towers with a few hundred texts per step. With the towers fixed, everything before the
projections is computed once, so a step can compare thousands of photos and captions. The towers are the average of two
checkpoints: `tune` is better at captions, `again` at labels and scenes.

Trained are the image head and the linear text projection. Besides captions, the loss has the labels of the datasets,
generated scenes, synthetic features of the ImageNet classes, and the classifier's predictions for photos, which a
softmax over the names of the classes must repeat. Unlabelled photos must keep their embeddings roughly. The result is
written to WORK/model; evaluate it with `measure_mini.py --model local-dir:WORK/model`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mini_data import SIZE, Picture, folded, image_classifier, open_cached, read_shard, scenes_of, shards, view_of
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from train_mini import SIMILAR, Classes, Student, both_towers, export, fetch

TEMPLATES = ("{}", "a {}", "a photo of a {}")
CAPTIONED, LABELLED, DRAWN, SYNTHETIC, OTHERS = 2048, 512, 256, 128, 512  # images of a step
RATE, DROPOUT, NOISE = 5e-4, 0.4, 0.1
SCENES = 640


@dataclass(slots=True)
class Texts:
    """Texts by number, and their vectors before the projection: tuned, and of the original MiniLM."""

    numbers: dict[str, int] = field(default_factory=dict)
    tuned: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    original: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    @torch.no_grad()
    def embed(self, student: Student, tokenizer: Tokenizer) -> None:
        tokens = [one.ids for one in tokenizer.encode_batch(list(self.numbers))]
        projection, student.clip.text.proj = student.clip.text.proj, nn.Identity()
        with student.autocast():
            self.tuned, self.original = (
                torch.cat([student.texts(tokens[at : at + 4096], original) for at in range(0, len(tokens), 4096)])
                for original in (False, True)
            )
        student.clip.text.proj = projection


@torch.no_grad()
def pooled(trunk: Any, images: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
    """Features (n, 1280) of RGB arrays (SIZE, SIZE, 3)."""
    parts = []
    for start in range(0, len(images), 32):
        x = torch.from_numpy(np.stack(images[start : start + 32])).permute(0, 3, 1, 2).bfloat16() / 127.5 - 1
        x = trunk.blocks(trunk.bn1(trunk.conv_stem(x.contiguous(memory_format=torch.channels_last))))
        parts.append(trunk.bn2(trunk.conv_head(x)).float().mean((2, 3)))
    return torch.cat(parts)


class Refit:
    """The trained projections, and the features and texts that they are trained on."""

    def __init__(self, student: Student, photos: Path, work: Path, classifier: nn.Module, seed: int) -> None:
        self.student, self.rng, self.texts = student, random.Random(seed), Texts()
        trunk = folded(student.clip.visual.trunk).to(torch.bfloat16).to(memory_format=torch.channels_last)
        pictures: list[Picture] = []
        features = []
        for name in (name for name in shards(photos) if not name.startswith("extra")):
            pictures += open_cached(photos, work, [name]).rows
            files = read_shard(photos / f"{name}.tar", {})[1]
            views = [view_of(data, 0, self.rng) for data in files]
            features.append(pooled(trunk, views))
        self.features = torch.cat(features)
        self.classes = Classes(classifier, self.features)
        self.captioned = [row for row, one in enumerate(pictures) if one.captions and not one.label]
        self.captions = {row: [self.texts.add(text) for text in pictures[row].captions] for row in self.captioned}
        self.labelled = torch.tensor([row for row, one in enumerate(pictures) if one.label])
        labelled = [pictures[row] for row in self.labelled.tolist()]
        labels, sources = (
            sorted(set(some)) for some in zip(*((one.label, one.source) for one in labelled), strict=True)
        )
        self.label = torch.tensor([labels.index(one.label) for one in labelled])
        self.source = torch.tensor([sources.index(one.source) for one in labelled])
        self.labels_of = torch.zeros(len(sources), len(labels), dtype=torch.bool)
        self.labels_of[self.source, self.label] = True
        self.label_texts = [[self.texts.add(form.format(label)) for label in labels] for form in TEMPLATES]
        self.class_texts = [[self.texts.add(form.format(name)) for name in self.classes.short] for form in TEMPLATES]
        drawn = scenes_of("scenes", 0)[:SCENES]
        resized = [np.asarray(one.image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for one in drawn]
        self.drawn, self.drawn_texts = pooled(trunk, resized), [self.texts.add(one.captions[0]) for one in drawn]

    def train(self, steps: int) -> None:
        """Train, and leave the moving average of the weights in the model."""
        clip = self.student.eval().requires_grad_(False).clip
        before = deepcopy(clip.visual.head)
        trained = [*clip.visual.head.parameters(), clip.text.proj.weight, clip.logit_scale]
        groups = [{"params": [one.requires_grad_()], "weight_decay": 0.1 if one.ndim > 1 else 0.0} for one in trained]
        optimizer = torch.optim.AdamW(groups, lr=RATE)
        average = [one.detach().clone() for one in trained]
        clip.visual.head.train().mlp.drop1.p = DROPOUT
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 10) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            with self.student.autocast():
                loss = self._captions() + self._labels() / 2 + 0.3 * self._scenes() + self._others(before)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for mean, value in zip(average, trained, strict=True):
                    mean.lerp_(value, max(0.03, 10 / (10 + step)))
            if (step + 1) % 20 == 0:
                print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
        with torch.no_grad():
            for mean, value in zip(average, trained, strict=True):
                value.copy_(mean)

    def _captions(self) -> torch.Tensor:
        """CLIP's loss over photos with a caption each, and synthetic classes with their names."""
        rows = self.rng.sample(self.captioned, min(CAPTIONED, len(self.captioned)))
        numbers = self.rng.sample(range(len(self.classes.short)), SYNTHETIC)
        synthetic = self.classes.synthetic(self.features[self._random(SYNTHETIC)], numbers)
        texts = [self.rng.choice(self.captions[row]) for row in rows]
        texts += [self.rng.choice(self.class_texts)[number] for number in numbers]
        original = self.texts.original[texts].float()
        return self._contrast(torch.cat([self.features[rows], synthetic]), texts, original @ original.T > SIMILAR)

    def _scenes(self) -> torch.Tensor:
        rows = self.rng.sample(range(SCENES), DRAWN)
        texts = torch.tensor([self.drawn_texts[row] for row in rows])
        return self._contrast(self.drawn[rows], texts.tolist(), texts[:, None] == texts)

    def _contrast(self, features: torch.Tensor, texts: list[int], ignored: torch.Tensor) -> torch.Tensor:
        """CLIP's loss; pairs of different images in `ignored` are not negatives of each other."""
        logits = self._logits(self._project(texts), self._images(features))
        logits = logits.masked_fill(ignored & ~torch.eye(len(texts), dtype=torch.bool), -1e4)
        own = torch.arange(len(texts))
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    def _labels(self) -> torch.Tensor:
        """Classification of labelled photos, among the labels of their own dataset and among all."""
        some = torch.randint(len(self.labelled), (LABELLED,))
        images = self._images(self.features[self.labelled[some]])
        logits = self._logits(images, self._project(self.rng.choice(self.label_texts)))
        among_own = logits.masked_fill(~self.labels_of[self.source[some]], -1e4)
        truth = self.label[some]
        return (functional.cross_entropy(among_own, truth) + functional.cross_entropy(logits, truth)) / 2

    def _others(self, before: nn.Module) -> torch.Tensor:
        """Random photos: they keep their embeddings, and the classifier's predictions hold for the class names."""
        features = self.features[self._random(OTHERS)]
        images = functional.normalize(self.student.clip.visual.head(functional.dropout(features, 0.1)), dim=-1)
        names = self._project(self.class_texts[2])
        with torch.no_grad():
            kept = functional.normalize(before(features), dim=-1)
            truth = self.classes.log_probs(features)
        guess = (30 * images @ names.T).float().log_softmax(1)
        classes = functional.kl_div(guess, truth.float(), log_target=True, reduction="batchmean")
        return 5 * (1 - (images * kept).sum(1)).mean() + 0.3 * classes

    def _images(self, features: torch.Tensor) -> torch.Tensor:
        noisy = functional.dropout(features * (1 + NOISE * torch.randn_like(features)), DROPOUT)
        return self.student.images(noisy)

    def _project(self, texts: list[int]) -> torch.Tensor:
        return functional.normalize(self.student.clip.text.proj(self.texts.tuned[texts]).float(), dim=-1)

    def _logits(self, some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        scale: torch.Tensor = self.student.clip.logit_scale
        return scale.exp() * (some @ others.T).float()

    def _random(self, count: int) -> torch.Tensor:
        return torch.randint(len(self.features), (count,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains photos/")
    parser.add_argument("--work", type=Path, required=True, help="the folder of train_mini.py")
    parser.add_argument("--steps", type=int, default=120, help="training steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("weights", type=Path, nargs="+", help="checkpoints to average")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    weights, minilm = fetch(args.work)
    classifier = image_classifier(weights)
    student = Student(both_towers(minilm, classifier))
    states = [load_file(file) for file in args.weights]
    mean = {name: sum(state[name].float() for state in states) / len(states) for name in states[0]}
    student.clip.load_state_dict(mean, strict=False)  # batch norms' counters are not exported
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(64)
    refit = Refit(student, args.data / "photos", args.work, classifier, args.seed)
    refit.texts.embed(student, tokenizer)
    refit.train(args.steps)
    export(student.clip, args.work)


if __name__ == "__main__":
    main()
