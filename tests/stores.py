"""A store of photos with tiny contents, for tests that need no real images."""

from __future__ import annotations

import numpy as np

from clipsearch.images.found_file import FoundFile
from clipsearch.images.metadata import Metadata
from clipsearch.images.read import content_hash
from clipsearch.store.catalogue import Root, Store

DIM = 4
METADATA = Metadata(30, 20, "2024-05-06T07:08:09", "A camera", 1.5, -2.5, taken_from="exif")


def row(seed: int, dim: int = DIM) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def put(store: Store, root: Root, path: bytes, content: bytes | None = None) -> int:
    """A photo whose contents are its path, unless told otherwise."""
    content = path if content is None else content
    image_id = store.find_image(content_hash(content))
    if image_id is None:
        image_id = store.images.add(content_hash(content), METADATA, row(sum(content)))
    store.photos.put(root, FoundFile(path, len(content), 1), image_id, None)
    return image_id


def image_ids(store: Store) -> list[int]:
    return [int(i) for ids, _ in store.images.embeddings() for i in ids]


def paths(store: Store) -> list[bytes]:
    return sorted(photo.file for photo in store.photos_of(image_ids(store)))
