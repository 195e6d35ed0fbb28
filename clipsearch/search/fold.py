"""Show each picture once: fold copies into the best file."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence

from clipsearch.arrays import Ids
from clipsearch.images.siblings import Partners, shot_of
from clipsearch.search.copies import MOST, Comparer, is_copy
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.hamming import Hashes, nearest
from clipsearch.search.hit import Hit
from clipsearch.search.preference import preference
from clipsearch.search.similar import near_groups
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection

_Key = tuple[bytes, float | None]  # a path and, for a frame of a video, its time


class Fold:
    """Folds the hits of one query; remembers the best file of each picture from one call to the next."""

    def __init__(
        self, store: Searchable, selection: Selection, files: FilesOnDisk, without: Collection[bytes] = ()
    ) -> None:
        """`without`: paths to drop, with their copies."""
        self._store, self._selection, self._files, self._without = store, selection, files, without
        self._best: dict[_Key, Photo] = {}
        self._hashes: tuple[Ids, Hashes] | None = None

    def __call__(self, hits: Sequence[Hit], similarity: float | None = None) -> list[Hit]:
        """The hits in their order, with each picture once, as its best file in the selection.

        It has the rank and score of its best-ranked copy, and lists the others in `similar`. With `similarity`, a hit
        is also folded into a better one if their cosine is at least that. Paths of the same file go to `same_file`.
        Files that were modified since they were indexed are not folded.
        """
        hits, modified = self._one_per_file(_one_per_shot(hits))
        with Comparer(FilesOnDisk()) as comparer:
            hits = _merge(
                (_key(best.photo), best)
                for hit in hits
                for best in [hit if hit.photo.file in modified else self._as_best_copy(hit, comparer)]
            )
        hits = [hit for hit in hits if hit.photo.file not in self._without]
        return hits if similarity is None else self._fold_similar(hits, similarity)

    def _one_per_file(self, hits: Sequence[Hit]) -> tuple[list[Hit], set[bytes]]:
        """One hit per file, or per frame of a video, and the paths of the files that were modified."""
        files = self._files.distinct({hit.photo.file: hit.photo for hit in hits}.values())
        file_of = {path: file for file in files for path in (file.photo.file, *file.other_names)}
        photo_of = {_key(hit.photo): hit.photo for hit in hits}
        named = []
        for hit in hits:
            file = file_of.get(hit.photo.file)
            if file is not None:  # else it was deleted since it was ranked
                key = file.photo.file, hit.photo.time
                hit = hit._replace(photo=photo_of.get(key, hit.photo), same_file=file.other_names)  # noqa: PLW2901
                named.append((key, hit))
        return _merge(named), {file.photo.file for file in files if file.is_modified}

    def _as_best_copy(self, hit: Hit, comparer: Comparer) -> Hit:
        best = self._best_copy(hit.photo, comparer)
        if best.file == hit.photo.file:
            return hit
        names = next((file.other_names for file in self._files.distinct([best])), ())
        return _absorb(hit._replace(photo=best, similar=(), same_file=names), hit)

    def _best_copy(self, photo: Photo, comparer: Comparer) -> Photo:
        """The best file of the selection that shows the same picture."""
        key = _key(photo)
        if key not in self._best:
            self._best[key] = next(
                other
                for other in sorted([photo, *self._candidates(photo)], key=preference)
                if other.file == photo.file or is_copy(comparer, other, photo)
            )
        return self._best[key]

    def _candidates(self, photo: Photo) -> list[Photo]:
        """Other unmodified files that may be copies, going by their hashes."""
        found = self._store.with_content(photo.content, self._selection)
        if photo.hash is not None and not photo.is_video:
            if self._hashes is None:
                self._hashes = self._store.hashes()
            images, hashes = self._hashes
            near = self._store.photos_of(images[nearest(photo.hash, hashes, MOST)].tolist(), self._selection)
            found += [other for other in near if other.content != photo.content]
        return [file.photo for file in FilesOnDisk().unmodified(found) if file.photo.file != photo.file]

    def _fold_similar(self, hits: list[Hit], similarity: float) -> list[Hit]:
        heads = dict(enumerate(hits))
        rows = self._store.unit_rows_of([hit.photo.image_id for hit in hits])
        for group in near_groups(rows, similarity):
            heads[group.head] = functools.reduce(_absorb, map(heads.pop, group.members), heads[group.head])
        return list(heads.values())


def _one_per_shot(hits: Sequence[Hit]) -> list[Hit]:
    """Merge the hits of one shot (RAW + JPEG, Live Photo)."""
    partners = Partners({hit.photo.file for hit in hits})
    return _merge(
        ((shot_of(hit.photo.file), None) if partners.of(hit.photo.file) else _key(hit.photo), hit) for hit in hits
    )


def _merge(hits: Iterable[tuple[_Key, Hit]]) -> list[Hit]:
    """The first hit of each key, with the others folded into it."""
    heads: dict[_Key, Hit] = {}
    for key, hit in hits:
        heads[key] = _absorb(heads[key], hit) if key in heads else hit
    return list(heads.values())


def _absorb(head: Hit, hit: Hit) -> Hit:
    """Fold a hit into a better one."""
    photos = {_key(photo): photo for photo in (hit.photo, *hit.similar)}
    known = {_key(photo) for photo in (head.photo, *head.similar)}
    return head._replace(similar=(*head.similar, *(photo for key, photo in photos.items() if key not in known)))


def _key(photo: Photo) -> _Key:
    return photo.file, photo.time
