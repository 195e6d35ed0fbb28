"""Measure what text in photos, tags and names do to the results of text queries.

    python scripts/measure_evidence.py PHOTOS.tar [--pictures N] [--keep DIR]

PHOTOS.tar has photos with captions (`1.jpg`, `1.txt` with a caption per line). They are indexed with mini three times:
in folders with neutral names, in folders named after two words of a caption of the photo, and of another photo. With
the first are N drawn pictures with writing (default 100, as in measure_ocr.py), which OCR reads; the photos count as
read and without text. Prints

  R@10     how often the first caption of a photo finds it among the first ten, by look alone and with all evidence
  P@10     of the first ten photos for single words, how many have the word in a caption (words of 20 photos or more)
  writing  how often a word, or two words that follow each other, find a picture with that writing first, and in ten
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import tarfile
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path

import measure_ocr

import clipsearch
from clipsearch.store.catalogue import Store
from clipsearch.store.words import words_of

EVERYDAY = tuple(
    """dog cat man woman child boy girl beach snow grass water street car bicycle ball mountain field tree sand river
    horse player shirt rock crowd bench wall pool""".split()  # noqa: SIM905
)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="keep photos and indexes in this folder, and use those it has")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.keep or Path(scratch)
        captions = _captions(args.photos)
        numbers = itertools.islice((n for n in itertools.count() if n // 5 % 3 < 2), args.pictures)  # no Chinese
        drawn = {f"{number:04d}.jpg": measure_ocr.draw(number) for number in numbers}
        for names in ("neutral", "truthful", "misleading"):
            folder, index = work / names, work / f"{names}.index"
            if not index.exists():
                _save(args.photos, folder, captions, names)
                for name, picture in drawn.items() if names == "neutral" else ():
                    picture.image.save(folder / name, quality=90)
                with clipsearch.open_index(index) as opened:
                    opened.update([folder], clipsearch.Options(model="mini"))
                _read(index, drawn)
            with clipsearch.open_index(index) as opened:
                print(f"{names} folders")
                _print_recall(opened, captions)
                _print_precision(opened, captions)
                if names == "neutral":
                    _print_writing(opened, drawn)


def _captions(source: Path) -> dict[str, list[str]]:
    with tarfile.open(source) as archive:
        texts = {one.name: _contents(archive, one).decode() for one in archive if one.name.endswith(".txt")}
    return {name.replace(".txt", ".jpg"): text.splitlines() for name, text in texts.items()}


def _contents(archive: tarfile.TarFile, one: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(one)
    return b"" if file is None else file.read()


def _save(source: Path, folder: Path, captions: dict[str, list[str]], names: str) -> None:
    rng, everything = random.Random(0), list(captions.values())
    with tarfile.open(source) as archive:
        for one in archive:
            if one.name.endswith(".jpg"):
                own = captions[one.name] if names == "truthful" else rng.choice(everything)
                words = [word.spelling for word in words_of(own[0])]
                name = " ".join(rng.sample(words, min(2, len(words)))) if names != "neutral" else "DCIM"
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / one.name).write_bytes(_contents(archive, one))


def _read(index: Path, drawn: Container[str]) -> None:
    """OCR of the drawn pictures alone: that of a thousand photos takes many minutes."""
    with Store.open(index, write=True) as store:
        for photo in store.by_path(store.select()):
            if photo.path.name not in drawn:
                store.ocr_text.put(photo.image_id, ())
        store.commit()
    with clipsearch.open_index(index) as opened:
        opened.update(options=clipsearch.Options(ocr=True))


def _print_recall(index: clipsearch.Index, captions: dict[str, list[str]]) -> None:
    for only in ("look", None):
        found = sum(
            name in {hit.path.name for hit in index.query(texts[0], k=10, only=only)}
            for name, texts in captions.items()
        )
        print(f"  R@10     {only or 'all':5} {100 * found / len(captions):5.1f}%")


def _print_precision(index: clipsearch.Index, captions: dict[str, list[str]]) -> None:
    having = {word: {name for name, texts in captions.items() if _has(texts, word)} for word in EVERYDAY}
    words = [word for word, names in having.items() if len(names) >= 20]
    for only in ("look", None):
        found = [
            sum(hit.path.name in having[word] for hit in index.query(word, k=10, only=only)) / 10 for word in words
        ]
        print(f"  P@10     {only or 'all':5} {100 * sum(found) / len(words):5.1f}%  ({len(words)} words)")


def _has(texts: Iterable[str], word: str) -> bool:
    return any(re.search(rf"\b{word}", text.lower()) for text in texts)


def _print_writing(index: clipsearch.Index, drawn: dict[str, measure_ocr.Picture]) -> None:
    rng = random.Random(1)
    for count in (1, 2):
        first = ten = 0
        for picture in drawn.values():
            at = rng.randrange(len(picture.words) - count + 1)
            query = " ".join(picture.words[at : at + count])
            names = [hit.path.name for hit in index.query(query, k=10)]
            right = [name in drawn and set(query.split()) <= set(drawn[name].words) for name in names]
            first, ten = first + right[0], ten + any(right)
        shares = f"first {100 * first / len(drawn):.0f}%, in ten {100 * ten / len(drawn):.0f}%"
        print(f"  writing  {count} word{'s' * (count > 1)}: {shares}")


if __name__ == "__main__":
    main()
