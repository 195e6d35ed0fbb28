"""Measure `index --faces`: faces found, pairs told apart, false faces, and time, all through the program with mini.

    python scripts/measure_faces.py --faces DIR [--photos TAR ...] [--count N] [--sheet FILE] [--groups N]

DIR has photos of one person each, in `faces.tar` or as they are, and `pairs.csv` with the columns file_a, file_b and
same_person (0 or 1). Of each photo the largest face is compared. The TARs have photos with captions (`KEY.jpg` or
`KEY.webp`, `KEY.txt`); N of those whose captions name no person (default 2,000) should have no faces. As captions leave
people out, look at those that have: `--sheet` draws them. `--groups` also groups N made-up faces. Times are those of
the processors, which other work on the machine affects less than those of the clock.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from clipsearch.indexing.face_clusters import cluster
from clipsearch.models.faces import SAME_PERSON
from clipsearch.store.catalogue import Store
from clipsearch.store.faces import Face

PEOPLE = re.compile(
    r"\b(m[ae]n|wom[ae]n|persons?|people|boys?|girls?|child(ren)?|kids?|bab(y|ies)|toddlers?|infants?|teen\w*|adults?"
    r"|lad(y|ies)|guys?|someone|somebody|famil(y|ies)|couples?|crowds?|friends?|team|audience|fans?|males?|females?"
    r"|h(is|er|ers|e|im)|she|the(y|ir|m)|we|you|fa(ce|ces)|portraits?|statues?|dolls?|mannequins?|posters?|human\w*"
    r"|\w+(er|or|ist|man|men)s|[a-z]*(player|rider|skier|surfer|boarder|worker|runner|dancer|climber|swimmer|driver"
    r"|singer|musician|soldier|cyclist|athlete|bride|groom|father|mother|son|daughter|chef|police\w*|tourist|student)s?"
    r"|wearing|smil(e|es|ing)|shirt|hat|hands?)\b",
    re.IGNORECASE,
)
NOT_LISTED = ("stanford40", "sports", "uit_viic", "clothing")  # sets whose captions are labels, and that show people
SIDE = 160  # pixels of a photo on the sheet


class Run(NamedTuple):
    """What `clipsearch index` reported, and the seconds of the processors and of the clock that it took."""

    report: dict[str, Any]
    processors: float
    clock: float


def index(*arguments: object) -> Run:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "clipsearch", "index", "--json", *map(str, arguments)]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(report, processors, time.monotonic() - began)


def search(photos: Path, work: Path) -> dict[str, list[tuple[Face, np.ndarray]]]:
    """Index a folder, without faces and then with them; prints the times. The faces of each file, by name."""
    place = work / f"{photos.name}.index"
    first = index(photos, "--model", "mini", "--index", place)
    second = index("--faces", "--index", place)
    count = second.report["face_scans"]
    print(
        f"{count:,} images: {first.processors / count:.3f} processor seconds each to index (clock {first.clock:.0f} s),"
        f" {second.processors / count:.3f} to find {second.report['faces']:,} faces (clock {second.clock:.0f} s)"
    )
    found: dict[str, list[tuple[Face, np.ndarray]]] = {}
    with Store.open(place) as store:
        rows = dict(zip(*(part.tolist() for part in store.faces.embeddings()), strict=True))
        for face in store.faces.all():
            (photo,) = store.photos_of([face.image])
            found.setdefault(photo.path.name, []).append((face, np.array(rows[face.id], np.float32)))
    return found


def largest(faces: list[tuple[Face, np.ndarray]]) -> tuple[Face, np.ndarray]:
    return max(faces, key=lambda one: (one[0].box.right - one[0].box.left) * (one[0].box.bottom - one[0].box.top))


def print_f1(joined: np.ndarray, same: np.ndarray) -> None:
    right, wrong, missed = (joined & same).sum(), (joined & ~same).sum(), (~joined & same).sum()
    f1 = 2 * right / max(1, 2 * right + wrong + missed)
    print(f"pairs in one group: {right} of one person, {wrong} of two; {missed} of one person apart; F1 {f1:.3f}")


def measure_groups(count: int) -> None:
    """Group made-up faces: as far apart as dlib's, with a few people in very many photos."""
    rng = np.random.default_rng(0)
    people = count // 40
    copies = np.maximum(1, rng.pareto(1.1, people) * 12).astype(int)
    who = np.concatenate([np.repeat(np.arange(people), copies)[:count], rng.integers(0, people, count)])[:count]
    rng.shuffle(who)
    rows = 1.2 + 0.5 * rng.normal(size=(people, 128))[who] + 0.2 * rng.normal(size=(count, 128))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    began = time.process_time()
    labels = cluster(rows, np.zeros(count, np.int64), 1)
    print(f"{count:,} made-up faces: {time.process_time() - began:.0f} processor seconds to group")
    one, other = rng.integers(0, count, (2, 4_000_000))
    print_f1(labels[one] == labels[other], who[one] == who[other])
    labels[-1000:] = 0
    began = time.process_time()
    cluster(rows, labels, int(labels.max()) + 1)
    print(f"1,000 new ones: {time.process_time() - began:.1f} processor seconds")


def measure_pairs(folder: Path, work: Path) -> None:
    photos = work / "faces"
    photos.mkdir()
    if (folder / "faces.tar").is_file():
        with tarfile.open(folder / "faces.tar") as tar:
            tar.extractall(photos, filter="data")
    else:
        for path in folder.glob("*.jpg"):
            (photos / path.name).symlink_to(path.absolute())
    found = search(photos, work)
    names = sorted(path.name for path in photos.glob("*.jpg"))
    print(f"photos with a face: {len(found)} of {len(names)}; none in: {', '.join(set(names) - found.keys()) or '-'}")
    with open(folder / "pairs.csv", newline="") as file:
        pairs = [(one["file_a"], one["file_b"], one["same_person"] == "1") for one in csv.DictReader(file)]
    face = {name: largest(faces) for name, faces in found.items()}
    scores = [float(face[a][1] @ face[b][1]) if {a, b} <= face.keys() else -1.0 for a, b, _ in pairs]
    same = np.array([score for score, (_, _, is_same) in zip(scores, pairs, strict=True) if is_same])
    other = np.array([score for score, (_, _, is_same) in zip(scores, pairs, strict=True) if not is_same])
    print(f"{len(same)} pairs of one person, cosine {same.min():.3f} to {same.max():.3f}, median {np.median(same):.3f}")
    print(f"{len(other)} pairs of two, cosine {other.min():.3f} to {other.max():.3f}, median {np.median(other):.3f}")
    joined = np.array([{a, b} <= face.keys() and face[a][0].cluster == face[b][0].cluster for a, b, _ in pairs])
    print_f1(joined, np.array([is_same for _, _, is_same in pairs]))
    print(f"recall at no wrong pair: {(same > other.max()).mean():.3f}")
    for threshold in (0.90, 0.91, 0.92, SAME_PERSON, 0.94, 0.95, 0.96):
        print(f"  from {threshold:.3f}: {(same >= threshold).mean():.3f} found, {(other >= threshold).sum()} wrong")


def without_people(shards: list[Path]) -> Iterator[tuple[str, bytes]]:
    for shard in shards:
        with tarfile.open(shard) as tar:
            names = set(tar.getnames())
            for name in sorted(names):
                key, _, suffix = name.rpartition(".")
                if suffix in ("jpg", "webp") and f"{key}.txt" in names and not key.startswith(NOT_LISTED):
                    texts, picture = tar.extractfile(f"{key}.txt"), tar.extractfile(name)
                    assert texts is not None and picture is not None  # noqa: PT018
                    if not PEOPLE.search(texts.read().decode()):
                        yield f"{shard.stem}-{name}", picture.read()


def measure_false_faces(shards: list[Path], count: int, sheet: Path | None, work: Path) -> None:
    photos = work / "photos"
    photos.mkdir()
    candidates = list(without_people(shards))
    for name, data in random.Random(0).sample(candidates, min(count, len(candidates))):
        (photos / name).write_bytes(data)
    found = search(photos, work)
    total = len(list(photos.iterdir()))
    print(f"photos with a face: {len(found)} of {total:,} whose captions name no person ({len(found) / total:.2%})")
    if sheet is not None and found:
        draw(sheet, photos, found)


def draw(sheet: Path, photos: Path, found: dict[str, list[tuple[Face, np.ndarray]]]) -> None:
    columns = 8
    out = Image.new("RGB", (columns * SIDE, -(-len(found) // columns) * (SIDE + 12)), "white")
    for number, (name, faces) in enumerate(sorted(found.items())):
        picture = Image.open(photos / name).convert("RGB")
        for face, _ in faces:
            ImageDraw.Draw(picture).rectangle(face.box.pixels(*picture.size), outline="red", width=2)
        picture.thumbnail((SIDE, SIDE))
        place = number % columns * SIDE, number // columns * (SIDE + 12)
        out.paste(picture, place)
        ImageDraw.Draw(out).text((place[0], place[1] + SIDE), name[-26:], "black")
    out.save(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], metavar="TAR")
    parser.add_argument("--count", type=int, default=2000, metavar="N")
    parser.add_argument("--sheet", type=Path, metavar="FILE")
    parser.add_argument("--groups", type=int, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.groups:
            measure_groups(options.groups)
        measure_pairs(options.faces, Path(folder))
        if options.photos:
            measure_false_faces(options.photos, options.count, options.sheet, Path(folder))


if __name__ == "__main__":
    main()
