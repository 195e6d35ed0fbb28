"""Photos of an index that are copies of each other: the same contents, or embeddings that are near."""

from __future__ import annotations

import os

from clipsearch.search.duplicates import near_groups
from clipsearch.store.catalogue import Photo, Selection, Store

# The usual cosines from which on photos are copies: for lists that somebody may delete by, and for results, in which
# nothing is lost. Measured with mini by `scripts/measure_mini.py`: both find all re-saved and smaller versions of large
# photos; of 1,945 different ones, 0.99 takes 4 for copies, and 0.98, which finds more crops, 28.
NEAR = 0.99
NEAR_IN_RESULTS = 0.98

Copies = list[tuple[Photo, float]]  # the best first, each with the cosine between it and the best


def find_copies(store: Store, selection: Selection, threshold: float | None) -> list[Copies]:
    """The groups of copies in a selection, by their best photo's path; None: only of the same contents.

    Better is what has more pixels, then the larger file, then the older, then the first by path. Files that are gone
    since they were indexed are left out.
    """
    of_image: dict[int, list[Photo]] = {}
    for photo in sorted((p for p in store.by_path(selection) if os.path.exists(p.path)), key=_preference):
        of_image.setdefault(photo.image_id, []).append(photo)
    images = list(of_image)  # in order of preference too
    groups: list[Copies] = []
    alone = dict(of_image)
    if threshold is not None and images:
        for group in near_groups(store.unit_rows_of(images), threshold):
            copies: Copies = [(photo, 1.0) for photo in alone.pop(images[group.head])]
            for member, cosine in zip(group.members, group.cosines, strict=True):
                copies += [(photo, min(cosine, 1.0)) for photo in alone.pop(images[member])]
            groups.append(copies)
    groups += [[(photo, 1.0) for photo in photos] for photos in alone.values() if len(photos) > 1]
    return sorted(groups, key=lambda copies: copies[0][0].path)


def _preference(photo: Photo) -> tuple[int, int, int, bytes]:
    return (-photo.metadata.width * photo.metadata.height, -photo.size, photo.mtime_ns, photo.path)
