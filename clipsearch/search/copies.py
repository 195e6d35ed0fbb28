"""Groups of files that show the same picture: the same bytes, or the same pixels but for size and compression.

Perceptual hashes propose pairs and their pixels decide (`images.compare`); embeddings play no part in it. Scripts
delete by these groups, so when in doubt two files are not copies.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Ids
from clipsearch.errors import ImageUnusable
from clipsearch.images.compare import Sketch, may_be_copies
from clipsearch.images.kinds import is_raw_name, kind_of
from clipsearch.images.read import content_hash, read
from clipsearch.images.sandbox import Decoders
from clipsearch.images.siblings import Partners
from clipsearch.search.hamming import Hashes, components, within
from clipsearch.search.preference import has_all_of, preference
from clipsearch.search.present import Present
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection
from clipsearch.threads import usable_cores

_SAME_DURATION = 0.1  # seconds
_SKETCHES = 4096  # of 64 KB at most, kept while one set of similar hashes is compared


class Kind(StrEnum):
    """What a file is to the best of its group."""

    BEST = "best"
    IDENTICAL = "identical"  # the same bytes
    COPY = "copy"  # the same picture, resized or compressed again
    SIMILAR = "similar"  # near it by embedding, and maybe another picture


class Copy(NamedTuple):
    """A file of a group.

    `similarity` to the best: 1 for identical files, the lowest structural similarity of any window for copies, the
    cosine for similar photos. `same_file` are other paths of the same file: deleting one frees no space.
    """

    photo: Photo
    kind: Kind
    similarity: float
    same_file: tuple[bytes, ...] = ()


Group = tuple[Copy, ...]  # the best first


def find_copies(
    store: Searchable, selection: Selection, present: Present | None = None, *, identical: bool = False
) -> list[Group]:
    """The groups of copies in a selection, by the path of their best file; `identical`: only of the same bytes.

    Each file is in one group at most. Every file has been compared with the best of its group, which is as large and as
    little compressed, and is in no trash folder unless all are. RAW files are copies of the same bytes only, videos
    also of a video that agrees in duration, sound and every frame. Files that are gone or changed are left out, and
    so is one half of a pair (RAW and JPEG, photo and video of one name) whose other half has no copy.
    """
    present = present or Present()
    sets = identical_sets(store, selection, present)
    groups = [files for of_content in sets.values() for files in of_content]
    if not identical:
        groups = _joined(store, selection, present, sets)
    partners_in = functools.cache(Partners.in_folder)
    found = [tuple(_without_risk(files, partners_in)) for files in groups]
    return sorted((group for group in found if len(group) > 1), key=lambda group: group[0].photo.path)


def unchanged(present: Present, photos: Iterable[Photo]) -> Iterator[Copy]:
    """The files that are there as they were indexed, each once; those that changed are listed in `present.changed`."""
    for file in present.files(photos):
        if file.changed:  # calling it the best would let a script delete the only good ones
            present.changed[file.photo.path] = None
        else:
            yield Copy(file.photo, Kind.BEST, 1.0, file.other_names)


# ------------------------------------------------------------------------------------------ the same bytes


def identical_sets(store: Searchable, selection: Selection, present: Present) -> dict[bytes, list[list[Copy]]]:
    """Files that share their content hash, by that hash, in sets with the same bytes; the best file first in each."""
    of_content: dict[bytes, list[Copy]] = {}
    copied = list(store.by_path(selection, copied=True))
    for file in sorted(unchanged(present, copied), key=lambda file: preference(file.photo)):
        of_content.setdefault(file.photo.content, []).append(file)
    return {content: [_ranked(files) for files in _same_bytes(found)] for content, found in of_content.items()}


def _same_bytes(files: list[Copy]) -> list[list[Copy]]:
    """Files with one content hash, in sets of the same bytes: of a video, the hash covers only some parts."""
    if len(files) == 1 or not files[0].photo.is_video:
        return [files]
    sets: list[list[Copy]] = []
    for file in files:
        mine = next((one for one in sets if is_identical(one[0].photo, file.photo)), None)
        if mine is None:
            sets.append([file])
        else:
            mine.append(file)
    return sets


def is_identical(a: Photo, b: Photo) -> bool:
    """Whether two files have the same bytes, all of them."""
    try:
        return filecmp.cmp(a.path, b.path, shallow=False)
    except OSError:
        return False


def _ranked(files: list[Copy]) -> list[Copy]:
    first, *others = files
    return [first, *(file._replace(kind=Kind.IDENTICAL) for file in others)]


# ------------------------------------------------------------------------------------------ the same pixels


def _joined(
    store: Searchable, selection: Selection, present: Present, sets: Mapping[bytes, list[list[Copy]]]
) -> list[list[Copy]]:
    """The sets of identical files and the single files, put together where their pictures are the same."""
    images, hashes = _comparable(store, selection, present, sets)
    of_image = {files[0].photo.image_id: files for first, *_ in sets.values() for files in [first]}
    near = components(hashes)
    alone = {int(image) for numbers in near for image in images[numbers]} - of_image.keys()
    of_image |= {photo.image_id: [Copy(photo, Kind.BEST, 1.0)] for photo in store.photos_of(alone, selection)}
    with Comparer() as comparer, ThreadPoolExecutor(usable_cores()) as pool:
        near_sets = [[of_image.pop(int(image)) for image in images[numbers]] for numbers in near]
        found = [files for joined in pool.map(comparer.groups, near_sets) for files in joined]
    others = [files for _, *rest in sets.values() for files in rest]
    return [*found, *of_image.values(), *others]


def _comparable(
    store: Searchable, selection: Selection, present: Present, sets: Mapping[bytes, list[list[Copy]]]
) -> tuple[Ids, Hashes]:
    """Images (n,) whose pixels may be compared, each with a file that is there unchanged, and their hashes (n,)."""
    rows = []
    for photo in store.by_path(selection):
        if photo.hash is None or is_raw_name(photo.path):
            continue
        if photo.content in sets:
            is_first = sets[photo.content][0][0].photo.path == photo.path
        else:
            is_first = any(unchanged(present, [photo]))
        if is_first:
            rows.append((photo.image_id, photo.hash))
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1].astype(np.uint64)


def is_copy(comparer: Comparer, a: Photo, b: Photo) -> bool:
    """Whether two files show the same picture; those with one content hash are compared byte by byte if need be."""
    if a.content == b.content:
        return not a.is_video or is_identical(a, b)
    return comparer.similarity(a, b) is not None


class Comparer:
    """Compares the files of photos in processes of their own, several at a time; may be used in many threads."""

    def __init__(self) -> None:
        self._decoders = Decoders(usable_cores())
        self._sketches: OrderedDict[bytes, Sketch | None] = OrderedDict()
        self._guard = threading.Lock()

    def __enter__(self) -> Comparer:
        self._decoders.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._decoders.__exit__(*error)

    def groups(self, sets: list[list[Copy]]) -> list[list[Copy]]:
        """Sets of identical files, joined where the first files show the same picture; the best file comes first."""
        sets = sorted(sets, key=lambda files: preference(files[0].photo))
        hashes = np.array([files[0].photo.hash for files in sets], np.uint64)
        free = np.ones(len(sets), np.bool_)
        found = []
        for number, files in enumerate(sets):
            if not free[number]:
                continue
            free[number] = False
            joined, head = list(files), files[0].photo
            for other in np.flatnonzero(free & within(int(hashes[number]), hashes)).tolist():
                similarity = self.similarity(head, sets[other][0].photo)
                if similarity is not None:
                    free[other] = False
                    joined += [file._replace(kind=Kind.COPY, similarity=similarity) for file in sets[other]]
            found.append(joined)
        return found

    def similarity(self, a: Photo, b: Photo) -> float | None:
        """How alike two files with other bytes are if they show the same picture; None if that is not certain."""
        kinds = {kind_of(a.path), kind_of(b.path)}
        try:
            if kinds == {"video"}:
                return self._of_videos(a, b)
            return self._of_pictures(a, b) if kinds == {"still"} else None
        except ImageUnusable:
            return None

    def _of_videos(self, a: Photo, b: Photo) -> float | None:
        ours, theirs = a.metadata.duration, b.metadata.duration
        if ours is None or theirs is None or abs(ours - theirs) > _SAME_DURATION:
            return None
        return self._decoders.video_similarity(a.path, b.path)

    def _of_pictures(self, a: Photo, b: Photo) -> float | None:
        one, other = self._sketch(a), self._sketch(b)
        if one is None or other is None or not may_be_copies(one, other):
            return None
        data = read(a.path), read(b.path)
        if [content_hash(of) for of in data] != [a.content, b.content]:  # changed, whatever their times say
            return None
        return self._decoders.copy_similarity(*data)

    def _sketch(self, photo: Photo) -> Sketch | None:
        with self._guard:
            if photo.content in self._sketches:
                self._sketches.move_to_end(photo.content)
                return self._sketches[photo.content]
        try:
            sketch = self._decoders.sketch(read(photo.path))
        except ImageUnusable:
            sketch = None
        with self._guard:
            self._sketches[photo.content] = sketch
            while len(self._sketches) > _SKETCHES:
                self._sketches.popitem(last=False)
        return sketch


# ------------------------------------------------------------------------------------------ what must not be lost


def _without_risk(files: list[Copy], partners_in: Callable[[bytes], Partners]) -> Iterator[Copy]:
    """The best file, and those of the others that can be deleted without losing anything.

    A file with partners (RAW + JPEG, Live Photo) counts only if the best has partners with the same bytes.
    """
    best, *others = files
    yield best
    stem = os.path.splitext(best.photo.path)[0]
    for other in others:
        if has_all_of(best.photo, other.photo):
            path = other.photo.path
            if all(_has_twin(partner, stem) for partner in partners_in(os.path.dirname(path)).of(path)):
                yield other


def _has_twin(partner: bytes, stem: bytes) -> bool:
    suffix = os.path.splitext(partner)[1]
    for twin in (stem + spelled for spelled in (suffix, suffix.lower(), suffix.upper())):
        with contextlib.suppress(OSError):
            if not os.path.samefile(twin, partner) and filecmp.cmp(twin, partner, shallow=False):
                return True
    return False
