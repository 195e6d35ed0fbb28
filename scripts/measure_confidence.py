"""Measure confidence, `--cut` and `--strict` on captioned photos, and fit the weights of `search/confidence.py`.

    python scripts/measure_confidence.py --data DIR [--model mini] [--work FOLDER] [--fit]

A photo shows a word if at least two of its five captions mention it, and does not if none does. It shows its own label,
and no label that shares no word with that one. Calibration counts a single mention as well. Every word is measured with
weights that were fitted without it (ten folds). `--fit` prints the weights fitted on all words. `--work` keeps the
indexes for the next run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array
from clipsearch.search.confidence import FITTED, Calibration, Weights
from clipsearch.search.embed import Embedder
from clipsearch.search.question import CUT, STRICT
from clipsearch.store.catalogue import Store

FORMS = ("{}", "a {}", "a photo of a {}")  # of a word, as people type it
FOLDS = 10
LEAST = 8  # photos that show a word, for its F1 to count
FIVE = ("dog", "snow", "beach", "woman", "child")

# Captions leave out what a photo also shows. Of 98 photos that captions give a probability of 0.2 to 0.35 and that no
# caption mentions the word in, 22 show it, judged by eye: the logit of the truth is 0.7 to 0.8 higher, 1.1 at most.
# The rest is a choice: a missed photo costs more than a wrong one, up to 4 photos of 1,000 for a thing that none shows.
OMITTED = 1.4

# Things and activities, each with the words in captions that mention it.
FORMS_OF_WORDS = """
dog dogs puppy puppies, man men, woman women lady, child children kid kids toddler, boy boys, girl girls,
baby babies infant, crowd, horse horses, bird birds, cat cats kitten, snow snowy, beach, grass grassy, water, ocean sea,
lake, mountain mountains, tree trees, forest woods, rock rocks, sand sandy, dirt, hill, field, street, road, sidewalk,
city, playground, pool, fountain, bench, flowers flower, car cars, bike bicycle bikes bicycles bicyclist biker,
motorcycle motorbike motorcycles motorcyclist dirtbike, boat boats, canoe kayak raft kayaking rafting kayaker,
skateboard skateboarder skateboarding skateboards, surfboard surfboards, surfer surfing surf surfers,
skiing skier ski skis skiers, sled sledding, swing swinging swings, slide sliding, trampoline, ball balls, soccer,
football, basketball, baseball, tennis, hockey, wave waves, stairs steps staircase, cliff, window, flag flags, bed,
couch sofa, helmet helmets, hat hats, dress dresses, uniform uniforms, sunglasses, glasses, swimsuit bikini bathing,
book books, swimming swim swims swimmer, running runs run runner, jumping jumps jump, climbing climbs climb climber,
riding rides ride, walking walks walk, eating eats, dancing dance dancer dancers, smiling smile smiles,
fishing fisherman fish, hiking hiker hikers hike, race racing racer
"""
WORDS = {forms.split()[0]: set(forms.split()) for forms in FORMS_OF_WORDS.split(",")}
# None of the photos shows one, and no caption mentions one.
ABSENT = """
elephant, giraffe, zebra, penguin, piano, pizza, castle, lighthouse, laptop, microscope, dentist, snake, dolphin, whale,
shark, parrot, owl, kangaroo, panda, polar bear, tiger, lion, crocodile, butterfly, receipt, screenshot, rocket,
volcano, windmill, cactus, pineapple, banana, sandwich, wine bottle, hospital bed, chessboard, helicopter, submarine,
cruise ship, harp, trumpet, turtle, frog, octopus, jellyfish, bookshelf, lightning
"""

Counts = NDArray[np.int64]


class Asked(NamedTuple):
    """A text asked of an index: the z-scores of its photos (n,), those of the text, and how many captions mention it.

    `mentions` (n,) is 2 or more if the photo shows it, 0 if it does not, and 1 if that is unknown.
    """

    word: str
    scores: Array
    typical: float
    general: float
    mentions: Counts

    def confidence(self, weights: Weights) -> Array:
        return weights.confidence(self.scores, self.typical, self.general)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure confidence, and fit its weights.")
    parser.add_argument("--data", type=Path, required=True, help="folder with photos/")
    parser.add_argument("--model", default="mini", help="as for clipsearch index --model (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="keep the indexes in this folder for the next run")
    parser.add_argument("--fit", action="store_true", help="print the weights fitted on all words")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args.data / "photos", args.model, args.work or Path(folder), only_fit=args.fit)


def measure(photos: Path, model: str, work: Path, *, only_fit: bool) -> None:
    captioned, labelled = unpack(photos, work, "dev-flickr8k"), unpack(photos, work, "dev-labels")
    mentions = _mentions(captioned)
    with Store.open(index(work / "captioned.index", model, work / "dev-flickr8k")) as store:
        words = [list(ask(store, form, WORDS, lambda word, path: mentions[path][word])) for form in FORMS]
        if only_fit:
            print(f"FITTED = {fit([one for form in words for one in form])}")
            return
        things = [" ".join(thing.split()) for thing in ABSENT.split(",")]
        absent = [list(ask(store, form, things, lambda _word, _path: 0)) for form in FORMS]
    with Store.open(index(work / "all.index", model, work / "dev-flickr8k", work / "dev-labels")) as store:
        labels = list(ask(store, "{}", *_labels(captioned, labelled)))
    report(words, absent, labels)


# ------------------------------------------------------------------------------------------ asking


def unpack(photos: Path, work: Path, shard: str) -> dict[Path, tuple[list[str], str | None]]:
    """The captions and label of each photo of a shard."""
    folder = work / shard
    if not folder.is_dir():
        with tarfile.open(photos / f"{shard}.tar") as file:
            file.extractall(folder, filter="data")
    return {
        path: (
            path.with_suffix(".txt").read_text().splitlines(),
            json.loads(path.with_suffix(".json").read_text())["label"],
        )
        for path in sorted(folder.resolve().glob("*.jpg"))
    }


def index(place: Path, model: str, *folders: Path) -> Path:
    if not place.is_dir():
        command = [sys.executable, "-m", "clipsearch", "index", *folders, "--model", model, "--quiet", "--index", place]
        subprocess.run(list(map(str, command)), check=True)
    return place


def ask(store: Store, form: str, words: Iterable[str], mentions: Callable[[str, Path], int]) -> Iterator[Asked]:
    """Ask each word of all photos of an index, in a form such as "a photo of a {}"."""
    words = list(words)
    photos = list(store.by_path(store.select()))
    rows = store.unit_rows_of([photo.image_id for photo in photos])
    embedder = Embedder(store)
    calibration = Calibration(embedder)
    for word, text in zip(words, embedder.texts([form.format(word) for word in words]), strict=True):
        counted = np.array([mentions(word, photo.path) for photo in photos])
        yield Asked(word, *calibration.z_scores(text, rows @ text), counted)


def _mentions(captioned: dict[Path, tuple[list[str], str | None]]) -> dict[Path, dict[str, int]]:
    """For each photo, how many of its captions mention each word."""
    out = {}
    for path, (captions, _) in captioned.items():
        spoken = [set(re.findall("[a-z]+", caption.lower())) for caption in captions]
        out[path] = {word: sum(bool(forms & said) for said in spoken) for word, forms in WORDS.items()}
    return out


def _labels(
    captioned: dict[Path, tuple[list[str], str | None]], labelled: dict[Path, tuple[list[str], str | None]]
) -> tuple[list[str], Callable[[str, Path], int]]:
    """The labels of at least `LEAST` photos, and what a photo of either shard tells about one."""
    label_of = {path: label or "" for path, (_, label) in labelled.items()}
    every = list(label_of.values())
    stems = {path: _stems(label) for path, label in label_of.items()}
    spoken = {path: [_stems(caption) for caption in captions] for path, (captions, _) in captioned.items()}

    def mentions(label: str, path: Path) -> int:
        if path in label_of:
            return 2 if label_of[path] == label else int(bool(stems[path] & _stems(label)))
        return sum(_stems(label) <= said for said in spoken[path])

    return [label for label in sorted(set(every)) if every.count(label) >= LEAST], mentions


def _stems(text: str) -> set[str]:
    return {re.sub("(es|s|ing)$", "", word) for word in re.findall("[a-z]{3,}", text.lower())} - {"the"}


# ------------------------------------------------------------------------------------------ fitting


def fit(asked: list[Asked]) -> Weights:
    """Logistic regression (Newton's method) of "somebody mentions it" on the z-scores, plus `OMITTED`."""
    x = np.concatenate([_features(one) for one in asked]).astype(np.float64)
    y = np.concatenate([one.mentions >= 1 for one in asked])
    weights = np.zeros(4)
    for _ in range(20):
        p = 1 / (1 + np.exp(-(x @ weights).clip(-30, 30)))
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (p - y))
    weights[3] += OMITTED
    return Weights(*(round(float(weight), 2) for weight in weights))


def _features(one: Asked) -> Array:
    return np.column_stack([one.scores, np.tile([one.typical, one.general, 1], (len(one.scores), 1))])


# ------------------------------------------------------------------------------------------ reporting


def report(words: list[list[Asked]], absent: list[list[Asked]], labels: list[Asked]) -> None:
    names = list(WORDS)
    folds = [fit([one for form in words for one in form if names.index(one.word) % FOLDS != k]) for k in range(FOLDS)]
    print("weights, fold by fold, and shipped:", *folds, FITTED, sep="\n  ")

    def of_word(one: Asked) -> Array:
        return one.confidence(folds[names.index(one.word) % FOLDS])

    def shipped(one: Asked) -> Array:  # no label and no absent thing takes part in a fit
        return one.confidence(FITTED)

    bare = [(one, of_word(one)) for one in words[0]]
    named = [(one, shipped(one)) for one in labels]
    _reliability("words (mentioned by anyone)", bare)
    counted = [[pair for pair in pairs if (pair[0].mentions >= 2).sum() >= LEAST] for pairs in (bare, named)]
    for name, pairs in zip(("words", "labels"), counted, strict=True):
        print(f"\n{name} (photos that show it, F1 at {CUT:g}):")
        print(", ".join(f"{one.word} {(one.mentions >= 2).sum()} {_f1(one, p, CUT):.2f}" for one, p in pairs))
    for form, asked in zip(FORMS, words, strict=True):
        pairs = [(one, of_word(one)) for one in asked]
        recalls = {one.word: (p[one.mentions >= 2] >= CUT).mean() for one, p in pairs}
        large = [_f1(one, p, CUT) for one, p in pairs if (one.mentions >= 2).sum() >= LEAST]
        print(f"\n{form!r}: macro F1 {np.mean(large):.3f} over {len(large)} words; recall at --cut:", end=" ")
        print(", ".join(f"{word} {recalls[word]:.2f}" for word in FIVE))
    every = [_f1(one, p, CUT) for pairs in counted for one, p in pairs]
    print(f"\nmacro F1 over {len(every)} words and labels: {np.mean(every):.3f}")
    for name, least in (("--cut", CUT), ("--strict", STRICT)):
        print(f"\n{name} (confidence >= {least:g}):")
        for what, pairs in (("words", bare), ("labels", named)):
            precision, anyone, recall = _precision(pairs, least)
            print(f"  {what}: precision {precision:.0%} ({anyone:.0%} mentioned by anyone), recall {recall:.0%}")
        for form, things in zip(FORMS, absent, strict=True):
            kept = np.array([(shipped(one) >= least).sum() for one in things])
            print(f"  {len(things)} absent things as {form!r}: {kept.mean():.1f} of 1,000 photos kept, ", end="")
            print(f"median {np.median(kept):g}, nothing kept for {(kept == 0).sum()}")


Pairs = list[tuple[Asked, Array]]


def _reliability(name: str, pairs: Pairs) -> None:
    p = np.concatenate([values for _, values in pairs])
    y = np.concatenate([one.mentions >= 1 for one, _ in pairs])
    bins = np.minimum((10 * p).astype(int), 9)
    errors = []
    print(f"\nreliability, {name}: confidence, photos, share that captions mention")
    for k in range(10):
        chosen = bins == k
        if chosen.any():
            errors.append(chosen.mean() * abs(p[chosen].mean() - y[chosen].mean()))
            bar = "#" * round(40 * y[chosen].mean())
            print(f"  {p[chosen].mean():.2f} {chosen.sum():7,} {y[chosen].mean():5.2f} {bar}")
    print(f"expected calibration error {sum(errors):.3f}")


def _f1(one: Asked, p: Array, least: float) -> float:
    kept = p >= least
    right, wrong = (kept & (one.mentions >= 2)).sum(), (kept & (one.mentions == 0)).sum()
    return float(2 * right / (right + wrong + (one.mentions >= 2).sum()))


def _precision(pairs: Pairs, least: float) -> tuple[float, float, float]:
    """Precision by the rule, precision if a single mention counts, and recall, over all pairs of a photo and a text."""
    p = np.concatenate([values for _, values in pairs])
    mentions = np.concatenate([one.mentions for one, _ in pairs])
    kept = p >= least
    right = (kept & (mentions >= 2)).sum()
    return (
        right / (kept & (mentions != 1)).sum(),
        (mentions[kept] >= 1).mean(),
        right / (mentions >= 2).sum(),
    )


if __name__ == "__main__":
    main()
