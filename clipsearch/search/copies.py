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
from numpy.typing import NDArray

from clipsearch.arrays import Ids
from clipsearch.errors import DecoderFailed, ImageUnusable
from clipsearch.images.compare import Sketch, may_be_copies
from clipsearch.images.kinds import is_raw_name, kind_of
from clipsearch.images.likeness import OUTLINE, outline
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
MOST = 16  # pictures that one is compared with in vain


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
    sets = _read_again(identical_sets(store, selection, files), files)
    groups = [group for of_content in sets.values() for group in of_content]
    if not identical:
        groups = _joined(store, selection, files, sets)
    return by_path(group for group in _without_risk(groups) if len(group) > 1)


def by_path(groups: Iterable[Group]) -> list[Group]:
    """Groups in the order of the path of their best file."""
    return sorted(groups, key=lambda group: group[0].photo.file)


# ------------------------------------------------------------------------------------------ the same bytes


def identical_sets(store: Searchable, selection: Selection, files: FilesOnDisk) -> IdenticalSets:
    """Photos that share their content hash, by that hash: a list of one list, the best first."""
    of_content: dict[bytes, list[Copy]] = {}
    found = files.unmodified(store.by_path(selection, copied=True))
    for file in sorted(found, key=lambda file: preference(file.photo)):
        of_content.setdefault(file.photo.content, []).append(Copy(file.photo, same_file=file.other_names))
    return {content: [_ranked(group)] for content, group in of_content.items()}


def _read_again(sets: IdenticalSets, files: FilesOnDisk) -> IdenticalSets:
    """Compare identical files as they are now, whole: lists of those with the same bytes, the best first in each.

    A disk may have lost what was indexed, and the hash of a video covers only parts of it.
    """
    several = {content: group for content, (group,) in sets.items() if len(group) > 1}
    with ThreadPoolExecutor(usable_cores()) as pool:
        every = [file.photo for group in several.values() for file in group]
        digests = dict(zip((photo.file for photo in every), pool.map(files.read_again, every), strict=True))
    verified: IdenticalSets = {}
    for content, group in several.items():
        same: dict[bytes, list[Copy]] = {}
        for file in group:
            digest = digests[file.photo.file]
            if digest is not None:
                same.setdefault(digest, []).append(file._replace(kind=Kind.BEST))
        verified[content] = [_ranked(files) for files in same.values()]
    return sets | verified


def _ranked(files: list[Copy]) -> list[Copy]:
    first, *others = files
    return [first, *(file._replace(kind=Kind.IDENTICAL) for file in others)]


# ------------------------------------------------------------------------------------------ the same pixels


def representatives(photos: Iterable[Photo], files: FilesOnDisk, sets: IdenticalSets) -> Iterator[Photo]:
    """One unmodified file for each content: the best, where there are several."""
    for photo in photos:
        if (groups := sets.get(photo.content)) is not None:
            if groups and groups[0][0].photo.file == photo.file:
                yield photo
        elif any(files.unmodified([photo])):
            yield photo


def groups_of(
    images: Iterable[int], sets: IdenticalSets, store: Searchable, selection: Selection
) -> dict[int, list[Copy]]:
    """The identical files of each image, by its id; of `images` also those with a single file."""
    of_image = {first[0].photo.image_id: first for groups in sets.values() for first in groups[:1]}
    single = store.photos_of(set(images) - of_image.keys(), selection)
    return of_image | {photo.image_id: [Copy(photo)] for photo in single}


def _joined(store: Searchable, selection: Selection, files: FilesOnDisk, sets: IdenticalSets) -> list[list[Copy]]:
    """The groups of identical files and the other files, joined where their pictures are the same."""
    comparable = (photo for photo in store.by_path(selection) if photo.hash is not None and not is_raw_name(photo.file))
    table = [(photo.image_id, photo.hash) for photo in representatives(comparable, files, sets)]
    images, hashes = np.array(table, np.int64).reshape(-1, 2).T
    near = [images[numbers].tolist() for numbers in components(hashes.astype(np.uint64))]
    of_image = groups_of((image for part in near for image in part), sets, store, selection)
    with Comparer(files) as comparer, ThreadPoolExecutor(usable_cores()) as pool:
        candidates = [[of_image.pop(image) for image in part] for part in near]
        found = [group for joined in pool.map(comparer.join, candidates) for group in joined]
    others = [group for groups in sets.values() for group in groups[1:]]
    return [*found, *of_image.values(), *others]


def is_copy(comparer: Comparer, best: Photo, other: Photo) -> bool:
    """Whether two files show the same picture, and `other` adds nothing to the best."""
    if best.content == other.content:
        return _is_identical(best, other)  # a disk may have damaged one
    return comparer.similarity(best, other) is not None


def _is_identical(a: Photo, b: Photo) -> bool:
    try:
        return filecmp.cmp(a.file, b.file, shallow=False)
    except OSError:
        return False


def _most_alike_first(outlines: NDArray[np.int8], number: int, others: Ids) -> Ids:
    difference = np.abs(outlines[others] - outlines[number].astype(np.int16)).max(1)
    return others[np.argsort(difference, kind="stable")]


class Comparer:
    """Compares pictures in decoding processes; may be used from several threads."""

    def __init__(self, files: FilesOnDisk) -> None:
        self._files = files
        self._decoders = Decoders(usable_cores())
        self._sketch = functools.lru_cache(_SKETCHES)(self._new_sketch)

    def __enter__(self) -> Comparer:
        self._decoders.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._decoders.__exit__(*error)

    def join(self, groups: list[list[Copy]]) -> list[list[Copy]]:
        """Join groups whose first files show the same picture; the best file comes first.

        Of many pictures that look alike, such as those of a camera that watches a room, only the most alike are
        compared.
        """
        groups = sorted(groups, key=lambda files: preference(files[0].photo))
        hashes = np.array([files[0].photo.hash for files in groups], np.uint64)
        outlines = self._outlines(groups) if len(groups) > MOST else None
        free = np.ones(len(groups), np.bool_)
        found = []
        for number, files in enumerate(groups):
            if not free[number]:
                continue
            free[number] = False
            others = np.flatnonzero(free & within(int(hashes[number]), hashes))
            if outlines is not None:
                others = _most_alike_first(outlines, number, others)
            copies = self._copies_of(files[0].photo, [(other, groups[other]) for other in others.tolist()])
            free[list(copies)] = False
            found.append([*files, *(file for other in sorted(copies) for file in copies[other])])
        return found

    def _copies_of(self, head: Photo, others: Iterable[tuple[int, list[Copy]]]) -> dict[int, list[Copy]]:
        """Those of some numbered groups that show the same picture as a photo. Gives up after `MOST` that do not."""
        found: dict[int, list[Copy]] = {}
        misses = 0
        for number, files in others:
            similarity = self.similarity(head, files[0].photo)
            if similarity is not None:
                found[number] = [file._replace(kind=Kind.COPY, similarity=similarity) for file in files]
            elif (misses := misses + 1) == MOST:
                break
        return found

    def _outlines(self, groups: list[list[Copy]]) -> NDArray[np.int8]:
        """The outline of the first file of each group; that of a video is blank."""
        sketches = (
            self._sketch(files[0].photo.file) if kind_of(files[0].photo.file) == "still" else None for files in groups
        )
        blank = np.zeros(OUTLINE, np.int8)
        return np.array([blank if sketch is None else outline(sketch.grey) for sketch in sketches])

    def similarity(self, best: Photo, other: Photo) -> float | None:
        """The similarity of two copies that are not identical; None unless `other` is certain to add nothing."""
        kinds = {kind_of(best.file), kind_of(other.file)}
        try:
            if kinds == {"video"}:
                return self._of_videos(best, other)
            return self._of_pictures(best, other) if kinds == {"still"} else None
        except DecoderFailed:
            self._files.add_unreadable(other.file)
        except ImageUnusable:
            pass
        return None

    def _of_videos(self, a: Photo, b: Photo) -> float | None:
        first, second = a.metadata.duration, b.metadata.duration
        if first is None or second is None or abs(first - second) > _SAME_DURATION:
            return None
        return self._decoders.video_similarity(a.file, b.file)

    def _of_pictures(self, best: Photo, other: Photo) -> float | None:
        first, second = self._sketch(best.file), self._sketch(other.file)
        if first is None or second is None or not may_be_copies(first, second):
            return None
        data = read(best.file), read(other.file)
        for photo, now in zip((best, other), data, strict=True):
            if content_hash(now) != photo.content:
                self._files.damaged[photo.file] = None
                return None
        return self._decoders.copy_similarity(*data)

    def _new_sketch(self, path: bytes) -> Sketch | None:
        try:
            return self._decoders.sketch(read(path))
        except DecoderFailed:
            self._files.add_unreadable(path)
        except ImageUnusable:
            pass
        return None


# ------------------------------------------------------------------------------------------ what must not be lost


def _without_risk(groups: Iterable[list[Copy]]) -> Iterator[Group]:
    """The best file of each group, and those of the others that can be deleted without losing anything.

    A file with partners (RAW + JPEG, Live Photo) counts only if the best has partners with the same bytes, and these
    stay: of two folders with the same pairs, one keeps whole pairs.
    """
    partners_in = functools.cache(Partners.in_folder)
    twins = functools.partial(_twins_of_partners, partners_in)
    checked = [
        (best, [(other, twins(best, other)) for other in others if has_all_of(best.photo, other.photo)])
        for best, *others in groups
    ]
    offered = {other.photo.file for _, others in checked for other, found in others if found is not None}
    for best, others in checked:
        yield best, *(other for other, found in others if found is not None and offered.isdisjoint(found))


def _twins_of_partners(partners_in: Callable[[bytes], Partners], best: Copy, other: Copy) -> list[bytes] | None:
    """The identical files beside the best for each partner of another file; None if one is missing."""
    path, stem = other.photo.file, os.path.splitext(best.photo.file)[0]
    found = [_twin(partner, stem) for partner in partners_in(os.path.dirname(path)).of(path)]
    twins = [twin for twin in found if twin is not None]
    return twins if len(twins) == len(found) else None


def _twin(partner: bytes, stem: bytes) -> bytes | None:
    suffix = os.path.splitext(partner)[1]
    for twin in (stem + spelled for spelled in (suffix, suffix.lower(), suffix.upper())):
        with contextlib.suppress(OSError):
            if not os.path.samefile(twin, partner) and filecmp.cmp(twin, partner, shallow=False):
                return twin
    return None
