"""Photos and videos with odd names, all kinds of metadata, keywords, text and synthetic embeddings."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from clipsearch.images.facts import Facts
from clipsearch.images.found_file import FoundFile
from clipsearch.images.kinds import is_video_name
from clipsearch.images.left_out import LeftOut
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash, frame_hash
from clipsearch.images.rules import Rules
from clipsearch.models.model import mini
from clipsearch.paths import Collection
from clipsearch.store.catalogue import Root, Store
from clipsearch.store.photo import Line

DIM = mini().dim
DAY = datetime(2023, 6, 14, 12)
CAMERAS = ["Canon EOS 80D", "NIKON D70", "100% Ümlaut_cam", "back\\slash", "un der", None]
PLACES = [(48.85, 2.35), (48.86, 2.36), (-36.8, 179.99), (-36.8, -179.99), (89.95, 100.0), (0.0, 0.0), (None, None)]
NAMES = [
    b"plain.jpg",
    b"UPPER.JPG",
    b"two words.png",
    b'quote".jpg',
    b"it's.webp",
    b"back\\slash.png",
    b"line\nfeed.jpg",
    b"not\xffutf8.jpg",
    b"\\xff.jpg",
    b"tab\t.jpg",
    b"100%_.jpeg",
    "ümläut 😀.JPEG".encode(),
    b"noending",
    b".jpg",
    b"clip.mp4",
    b"FILM.MOV",
]
KEYWORDS = ["beach", "Été à la mer", 'quote"d', "100%_", "back\\slash"]
PEOPLE = ["Anna", "Großmutter", 'O\'Neil \\ "Bo" 100%_']
RATINGS = [5, None, -1, 3, 1]
LABELS = ["Red", None, "100%_", "Grün"]
TEXTS = [[], ["Coffee 3.50", "Total 4"], ["日本の夏"], ['100% "sure"', "über_alles \\ 😀"], ["gate B 3"]]
CAPTIONS = ["", "Two women on a Café's terrace", "beaches at 100% _ 夏の海", 'a sign says "Gate B"']
FOLDERS = [b"a", b"a/b", b"a0", b"a.b", b"A", b"\xff", b"\\"]


def new_collection(folder: Path) -> Collection:
    """A collection that is not there yet: of Milvus Lite or, where the environment names one, of a server."""
    server = os.environ.get("CLIPSEARCH_TEST_MILVUS")
    return Collection(f"{server}/photos_{uuid.uuid4().hex}" if server else folder / "photos.db")


def fill(index: Path, photos: Path, count: int) -> np.ndarray:
    """Make an index of so many photos, some of them near or copies; the files are there, and are no images."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, DIM)).astype(np.float32)
    rows[::7] = rows[0] + 0.02 * rows[::7]  # near each other
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with Store.create(index, mini().to_json(), DIM) as store:
        root = store.folders.add(os.fsencode(photos), Rules())
        for number in range(count):
            put(store, root, number, rows[number])
        store.photos.put(root, FoundFile(b"a/broken.jpg", 1, 1, 1), None, "no image")
        images = [image for ids, _ in store.images.embeddings() for image in ids.tolist()]
        store.photos.set_names(dict.fromkeys(images[::5], f"{PEOPLE[1]}\nZoë"))  # by their faces
        store.ocr_text.enable(True)
        store.folders.set_left_out(root, LeftOut(Counter({".psb": 2}), Counter({"@eaDir": 1})))
        store.commit()
    return rows


def put(store: Store, root: Root, number: int, row: np.ndarray) -> None:
    """The photo or video of a number, and its file; every ninth is a copy of the one before."""
    source = number - number % 9 // 8
    folder, name = FOLDERS[number % len(FOLDERS)], NAMES[source % len(NAMES)]
    path = b"%s/%d %s" % (folder, number, name) if number >= len(NAMES) else b"%s/%s" % (folder, name)
    file = root.path + b"/" + path
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "wb") as out:
        out.write(b"x" * (number % 5))
    os.utime(file, ns=(0, int((DAY + timedelta(hours=number % 50)).timestamp()) * 10**9 + number % 3))
    status = os.stat(file)
    content = content_hash(b"%d" % source)
    image = store.find_image(content)
    if image is None:
        phash = int(np.random.default_rng(number // 2).integers(2**63)) if number % 4 else None
        image = store.images.add(content, metadata(number), row, phash)
        if is_video_name(path):
            others = np.random.default_rng(number).normal(size=(number % 3, DIM)).astype(np.float32)
            rows = [row, *(others / np.linalg.norm(others, axis=1, keepdims=True))]
            frames = [(0.5 + n, frame_hash(content, 0.5 + n), one) for n, one in enumerate(rows)]
            store.images.add_frames(image, metadata(number), frames)
        elif number % 5 == 3:
            parts = np.random.default_rng(number).normal(size=(1 + number % 3, DIM)).astype(np.float32)
            store.images.add_parts(
                image, content, metadata(number), parts / np.linalg.norm(parts, axis=1, keepdims=True)
            )
        if number % 3 and not is_video_name(path):
            lines = TEXTS[number % len(TEXTS)]
            store.ocr_text.put(image, [Line(text, 0, n / 9, 1, (n + 1) / 9) for n, text in enumerate(lines)])
        if number % 2:
            store.captions.put(image, CAPTIONS[number % len(CAPTIONS)], "a model")
    sidecar = (
        Facts(keywords=KEYWORDS[number % len(KEYWORDS)], rating=RATINGS[number % 3]) if number % 4 == 1 else Facts()
    )
    file_on_disk = FoundFile(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    store.photos.put(root, file_on_disk, image, None, sidecar)


def metadata(number: int) -> Metadata:
    taken = None if number % 3 == 0 else (DAY + timedelta(hours=number % 50)).isoformat()
    latitude, longitude = PLACES[number % len(PLACES)]
    width, height = [(40, 30), (30, 40), (30, 30)][number % 3]
    keywords = "\n".join({KEYWORDS[number % 5]: 0, KEYWORDS[0]: 0}) if number % 5 < 2 else None  # in the file
    duration = 2.5 if is_video_name(NAMES[number % len(NAMES)]) else None
    about = Metadata(width, height, taken, CAMERAS[number % len(CAMERAS)], latitude, longitude, keywords, duration)
    title, caption = (KEYWORDS[number % 4], KEYWORDS[number % 5]) if number % 3 else (None, None)
    return about._replace(
        taken_from="exif" if taken else None,
        people="\n".join(PEOPLE[: number % 4]) or None,
        rating=RATINGS[number % len(RATINGS)],
        color_label=LABELS[number % 4],
        title=title,
        caption=caption,
        location="Aix-en-Provence, 100%_" if number % 7 == 0 else None,
    )
