"""Results without repetitions: copies of one picture are folded into the best file."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.arrays import Ids
from clipsearch.images.siblings import Partners, shot_of
from clipsearch.search.copies import Comparer, is_copy, unchanged
from clipsearch.search.hamming import Hashes, within
from clipsearch.search.hit import Hit
from clipsearch.search.preference import preference
from clipsearch.search.present import Present
from clipsearch.search.similar import near_groups
from clipsearch.store.photo import Photo
from clipsearch.store.searchable import Searchable
from clipsearch.store.selection import Selection


class Fold:
    """Folds the hits of one query, and remembers the best file of each picture between calls."""

    def __init__(self, store: Searchable, selection: Selection, present: Present) -> None:
        self._store, self._selection, self._present = store, selection, present
        self._best: dict[tuple[bytes, float | None], Photo] = {}
        self._hashes: tuple[Ids, Hashes] | None = None

    def __call__(self, hits: Sequence[Hit], similarity: float | None = None) -> list[Hit]:
        """The hits in their order, with each picture only once, as its best file in the selection.

        The best file takes the rank and the score of the first of its copies. With `similarity`, a hit whose cosine
        with a better one is at least that is folded too, copy or not. Other paths of one file become its `same_file`.
        Files that changed since they were indexed are not folded.
        """
        whole, changed = self._one_name_a_file(_one_of_a_pair(hits))
        with Comparer() as comparer:
            best = [
                hit.photo if is_changed else self._best_of(hit.photo, comparer)
                for hit, is_changed in zip(whole, changed, strict=True)
            ]
        out: dict[tuple[bytes, float | None], Hit] = {}
        for hit, photo in zip(whole, best, strict=True):
            others = (*((hit.photo,) if photo.path != hit.photo.path else ()), *hit.similar)
            first = out.get((photo.path, photo.time))
            if first is None:
                out[photo.path, photo.time] = self._replaced(
                    hit, photo, tuple(one for one in others if one.path != photo.path)
                )
            else:
                known = {first.photo.path, *(one.path for one in first.similar)}
                new = tuple(one for one in others if one.path not in known)
                out[photo.path, photo.time] = first._replace(similar=(*first.similar, *new))
        folded = list(out.values())
        return folded if similarity is None else self._near(folded, similarity)

    def _replaced(self, hit: Hit, photo: Photo, similar: tuple[Photo, ...]) -> Hit:
        """The hit with another file of the same picture in its place."""
        if photo.path == hit.photo.path:
            return hit._replace(similar=similar)
        names = next((file.other_names for file in self._present.files([photo])), ())
        return hit._replace(photo=photo, similar=similar, same_file=names)

    def _best_of(self, photo: Photo, comparer: Comparer) -> Photo:
        """The best file of the selection that shows the same picture."""
        key = photo.path, photo.time
        if key not in self._best:
            self._best[key] = next(
                other
                for other in sorted([photo, *self._like(photo)], key=preference)
                if other.path == photo.path or is_copy(comparer, other, photo)
            )
        return self._best[key]

    def _like(self, photo: Photo) -> list[Photo]:
        """Other files that are there, unchanged, and may be copies by their hashes."""
        found = self._store.with_content(photo.content, self._selection)
        if photo.hash is not None and not photo.is_video:
            if self._hashes is None:
                self._hashes = self._store.hashes()
            images, hashes = self._hashes
            near = self._store.photos_of(images[within(photo.hash, hashes)].tolist(), self._selection)
            found += [other for other in near if other.content != photo.content]
        return [file.photo for file in unchanged(Present(), found) if file.photo.path != photo.path]

    def _one_name_a_file(self, hits: Sequence[Hit]) -> tuple[list[Hit], list[bool]]:
        """Each file once, at its best rank, and whether it was changed. Of a video, each frame is a hit of its own."""
        photos = {hit.photo.path: hit.photo for hit in hits}
        file_of = {
            name: file for file in self._present.files(photos.values()) for name in (file.photo.path, *file.other_names)
        }
        hit_of = {(hit.photo.path, hit.photo.time): hit for hit in hits}
        out: dict[tuple[bytes, float | None], Hit] = {}
        changed: list[bool] = []
        for hit in hits:
            file = file_of.get(hit.photo.path)
            if file is None:  # it went away since it was ranked
                continue
            key = file.photo.path, hit.photo.time
            if key not in out:
                out[key] = hit_of.get(key, hit)._replace(similar=(), same_file=file.other_names)
                changed.append(file.changed)
            first = out[key]
            names = dict.fromkeys((*first.same_file, *hit.same_file))
            out[key] = first._replace(similar=(*first.similar, *hit.similar), same_file=tuple(names))
        return list(out.values()), changed

    def _near(self, hits: list[Hit], similarity: float) -> list[Hit]:
        out: dict[int, Hit] = dict(enumerate(hits))
        rows = self._store.unit_rows_of([hit.photo.image_id for hit in hits])
        for group in near_groups(rows, similarity):
            others = [out.pop(number) for number in group.members]
            folded = tuple(photo for other in others for photo in (other.photo, *other.similar))
            out[group.head] = hits[group.head]._replace(similar=(*hits[group.head].similar, *folded))
        return list(out.values())


def _one_of_a_pair(hits: Sequence[Hit]) -> list[Hit]:
    """Merge the hits of one shot (RAW + JPEG, Live Photo) into the best of them."""
    partners = Partners({hit.photo.path for hit in hits})
    heads: dict[tuple[bytes, float | None], Hit] = {}
    for hit in hits:
        path = hit.photo.path
        key = (shot_of(path), None) if partners.of(path) else (path, hit.photo.time)
        head = heads.get(key)
        heads[key] = hit if head is None else head._replace(similar=(*head.similar, hit.photo, *hit.similar))
    return list(heads.values())
