"""Find files that show the same picture: identical files, and copies that were resized or compressed again.

Perceptual hashes propose pairs, and their pixels decide (`images.compare`). Embeddings play no part: scripts delete
files by these groups, so two files are copies only if it is certain.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from clipsearch.errors import ImageUnusable
from clipsearch.images.compare import Sketch, may_be_copies
from clipsearch.images.kinds import is_raw_name, kind_of
from clipsearch.images.read import content_hash, read
from clipsearch.images.sandbox import Decoders
from clipsearch.images.siblings import Partners
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.hamming import components, within
from clipsearch.search.preference import has_all_of, preference
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection
from clipsearch.threads import usable_cores

_SAME_DURATION = 0.1  # seconds
_SKETCHES = 4096  # in the cache, 64 KB each


class Kind(StrEnum):
    """How a file relates to the best of its group."""

    BEST = "best"
    IDENTICAL = "identical"  # the same bytes
    COPY = "copy"  # the same picture, resized or compressed again
    SIMILAR = "similar"  # a similar embedding, but perhaps another picture


class Copy(NamedTuple):
    """A file of a group.

    `similarity` to the best file: 1 if identical, the lowest structural similarity of any window for a copy, the cosine
    for a similar photo. `same_file` has other paths of this very file; deleting one of them frees no space.
    """

    photo: Photo
    kind: Kind = Kind.BEST
    similarity: float = 1.0
    same_file: tuple[bytes, ...] = ()


Group = tuple[Copy, ...]  # the best first
IdenticalSets = dict[bytes, list[list[Copy]]]


def find_copies(store: Searchable, selection: Selection, files: FilesOnDisk, *, identical: bool = False) -> list[Group]:
    """The groups of copies in a selection, ordered by the path of the best file; `identical`: of identical files only.

    A file is in one group at most. It was compared with the best file of that group, which has the most pixels and the
    least compression, and lies in a trash folder only if all do. RAW files have identical copies only; videos are
    copies if duration, sound and all frames agree. Deleted and modified files are left out, and so is a file whose
    partner (RAW + JPEG, Live Photo) has no copy.
    """
    sets = identical_sets(store, selection, files)
    groups = [group for of_content in sets.values() for group in of_content]
    if not identical:
        groups = _joined(store, selection, files, sets)
    partners_in = functools.cache(Partners.in_folder)
    found = [tuple(_without_risk(group, partners_in)) for group in groups]
    return by_path(group for group in found if len(group) > 1)


def by_path(groups: Iterable[Group]) -> list[Group]:
    """Groups in the order of the path of their best file."""
    return sorted(groups, key=lambda group: group[0].photo.file)


# ------------------------------------------------------------------------------------------ the same bytes


def identical_sets(store: Searchable, selection: Selection, files: FilesOnDisk) -> IdenticalSets:
    """Photos that share their content hash, by that hash: lists of identical files, the best first in each."""
    of_content: dict[bytes, list[Copy]] = {}
    found = files.unmodified(store.by_path(selection, copied=True))
    for file in sorted(found, key=lambda file: preference(file.photo)):
        of_content.setdefault(file.photo.content, []).append(Copy(file.photo, same_file=file.other_names))
    return {content: [_ranked(group) for group in _same_bytes(found)] for content, found in of_content.items()}


def _same_bytes(files: list[Copy]) -> list[list[Copy]]:
    """Split the files of a content hash into identical ones: a video's hash covers only parts of it."""
    if len(files) == 1 or not files[0].photo.is_video:
        return [files]
    groups: list[list[Copy]] = []
    for file in files:
        group = next((group for group in groups if _is_identical(group[0].photo, file.photo)), None)
        if group is None:
            groups.append([file])
        else:
            group.append(file)
    return groups


def _is_identical(a: Photo, b: Photo) -> bool:
    try:
        return filecmp.cmp(a.file, b.file, shallow=False)
    except OSError:
        return False


def _ranked(files: list[Copy]) -> list[Copy]:
    first, *others = files
    return [first, *(file._replace(kind=Kind.IDENTICAL) for file in others)]


# ------------------------------------------------------------------------------------------ the same pixels


def representatives(photos: Iterable[Photo], files: FilesOnDisk, sets: IdenticalSets) -> Iterator[Photo]:
    """One unmodified file for each content: the best, where there are several."""
    for photo in photos:
        if photo.content in sets:
            if sets[photo.content][0][0].photo.file == photo.file:
                yield photo
        elif any(files.unmodified([photo])):
            yield photo


def groups_of(
    images: Iterable[int], sets: IdenticalSets, store: Searchable, selection: Selection
) -> dict[int, list[Copy]]:
    """The identical files of each image, by its id; of `images` also those with a single file."""
    of_image = {group[0].photo.image_id: group for group, *_ in sets.values()}
    single = store.photos_of(set(images) - of_image.keys(), selection)
    return of_image | {photo.image_id: [Copy(photo)] for photo in single}


def _joined(store: Searchable, selection: Selection, files: FilesOnDisk, sets: IdenticalSets) -> list[list[Copy]]:
    """The groups of identical files and the other files, joined where their pictures are the same."""
    comparable = (photo for photo in store.by_path(selection) if photo.hash is not None and not is_raw_name(photo.file))
    table = [(photo.image_id, photo.hash) for photo in representatives(comparable, files, sets)]
    images, hashes = np.array(table, np.int64).reshape(-1, 2).T
    near = [images[numbers].tolist() for numbers in components(hashes.astype(np.uint64))]
    of_image = groups_of((image for part in near for image in part), sets, store, selection)
    with Comparer() as comparer, ThreadPoolExecutor(usable_cores()) as pool:
        candidates = [[of_image.pop(image) for image in part] for part in near]
        found = [group for joined in pool.map(comparer.join, candidates) for group in joined]
    others = [group for _, *rest in sets.values() for group in rest]
    return [*found, *of_image.values(), *others]


def is_copy(comparer: Comparer, a: Photo, b: Photo) -> bool:
    """Whether two files show the same picture."""
    if a.content == b.content:
        return not a.is_video or _is_identical(a, b)
    return comparer.similarity(a, b) is not None


class Comparer:
    """Compares pictures in decoding processes; may be used from several threads."""

    def __init__(self) -> None:
        self._decoders = Decoders(usable_cores())
        self._sketch = functools.lru_cache(_SKETCHES)(self._new_sketch)

    def __enter__(self) -> Comparer:
        self._decoders.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._decoders.__exit__(*error)

    def join(self, groups: list[list[Copy]]) -> list[list[Copy]]:
        """Join groups whose first files show the same picture; the best file comes first."""
        groups = sorted(groups, key=lambda files: preference(files[0].photo))
        hashes = np.array([files[0].photo.hash for files in groups], np.uint64)
        free = np.ones(len(groups), np.bool_)
        found = []
        for number, files in enumerate(groups):
            if not free[number]:
                continue
            free[number] = False
            joined, head = list(files), files[0].photo
            for other in np.flatnonzero(free & within(int(hashes[number]), hashes)).tolist():
                similarity = self.similarity(head, groups[other][0].photo)
                if similarity is not None:
                    free[other] = False
                    joined += [file._replace(kind=Kind.COPY, similarity=similarity) for file in groups[other]]
            found.append(joined)
        return found

    def similarity(self, a: Photo, b: Photo) -> float | None:
        """The similarity of two copies that are not identical; None unless they are certain to be copies."""
        kinds = {kind_of(a.file), kind_of(b.file)}
        try:
            if kinds == {"video"}:
                return self._of_videos(a, b)
            return self._of_pictures(a, b) if kinds == {"still"} else None
        except ImageUnusable:
            return None

    def _of_videos(self, a: Photo, b: Photo) -> float | None:
        first, second = a.metadata.duration, b.metadata.duration
        if first is None or second is None or abs(first - second) > _SAME_DURATION:
            return None
        return self._decoders.video_similarity(a.file, b.file)

    def _of_pictures(self, a: Photo, b: Photo) -> float | None:
        first, second = self._sketch(a.file), self._sketch(b.file)
        if first is None or second is None or not may_be_copies(first, second):
            return None
        data = read(a.file), read(b.file)
        if [content_hash(file) for file in data] != [a.content, b.content]:  # modified without a trace in its times
            return None
        return self._decoders.copy_similarity(*data)

    def _new_sketch(self, path: bytes) -> Sketch | None:
        try:
            return self._decoders.sketch(read(path))
        except ImageUnusable:
            return None


# ------------------------------------------------------------------------------------------ what must not be lost


def _without_risk(files: Iterable[Copy], partners_in: Callable[[bytes], Partners]) -> Iterator[Copy]:
    """The best file, and those of the others that can be deleted without losing anything.

    A file with partners (RAW + JPEG, Live Photo) counts only if the best has partners with the same bytes.
    """
    best, *others = files
    yield best
    stem = os.path.splitext(best.photo.file)[0]
    for other in others:
        if has_all_of(best.photo, other.photo):
            path = other.photo.file
            if all(_has_twin(partner, stem) for partner in partners_in(os.path.dirname(path)).of(path)):
                yield other


def _has_twin(partner: bytes, stem: bytes) -> bool:
    suffix = os.path.splitext(partner)[1]
    for twin in (stem + spelled for spelled in (suffix, suffix.lower(), suffix.upper())):
        with contextlib.suppress(OSError):
            if not os.path.samefile(twin, partner) and filecmp.cmp(twin, partner, shallow=False):
                return True
    return False
