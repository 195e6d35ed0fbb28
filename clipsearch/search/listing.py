"""List all photos that pass a filter: any part of a long list costs no more than its first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from clipsearch.arrays import Ids
from clipsearch.search.files_on_disk import FilesOnDisk
from clipsearch.search.hit import Hit, Photo
from clipsearch.store.filters import Filter
from clipsearch.store.order import Order
from clipsearch.store.photo import Listing
from clipsearch.store.searchable import Searchable


class PhotoList:
    """The photos that pass a filter, in an order, at one version of the index.

    With `fold`, identical files are one entry: the first of them, with the others in `Hit.similar`. Files that turn out
    to be deleted leave the list when a part with them is read, so `len` may fall.
    """

    def __init__(self, store: Searchable, filter: Filter, order: Order, *, fold: bool = False) -> None:
        """Raises `IndexEmpty` and `NotIndexed`."""
        store.require_photos()
        self._all, self._fold = store.listing(store.select(filter), order), fold
        self._deleted: set[int] = set()  # keys
        self._arrange()

    def __len__(self) -> int:
        return len(self._heads.keys)

    @property
    def copies(self) -> int:
        """The number of files that are folded into others."""
        return len(self._present.keys) - len(self)

    @property
    def shapes(self) -> list[int]:
        """The aspect ratio (width / height) of each entry, in hundredths."""
        shapes: list[int] = self._heads.shapes.tolist()
        return shapes

    def days(self) -> Iterator[tuple[str, int]]:
        """Each run of entries with the same date, such as "2023-07-05" or "" for none, and its length."""
        days = self._heads.days
        starts = np.flatnonzero(np.diff(days, prepend=-1))
        for day, length in zip(days[starts].tolist(), np.diff(starts, append=len(days)).tolist(), strict=True):
            yield f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}" if day else "", length

    def part(self, store: Searchable, first: int, count: int) -> list[Hit]:
        """`count` entries from number `first` on (0 is the first), or those that are left."""
        reach = count
        while True:
            keys = self._heads.keys[first : first + reach].tolist()
            copies = self._copies_of(keys)
            wanted = [*keys, *(key for others in copies.values() for key in others)]
            existing = _existing(store, wanted)
            if len(existing) == len(wanted):
                break
            self._deleted.update(key for key in wanted if key not in existing)
            self._arrange()
            reach *= 4  # where one file was deleted, its neighbours may be, too
        return [
            Hit(number, None, existing[key], similar=tuple(existing[copy] for copy in copies.get(key, ())))
            for number, key in enumerate(keys[:count], first + 1)
        ]

    def recheck(self, store: Searchable) -> None:
        """Take back files that were deleted and exist again, as after an undo."""
        if restored := _existing(store, self._deleted):
            self._deleted -= restored.keys()
            self._arrange()

    def position(self, store: Searchable, name: str) -> int | None:
        """The number of a photo's entry, by its `Photo.url_name`, or of the entry that it is folded into.

        None if it is not listed.
        """
        try:
            image = store.find_image(bytes.fromhex(name.partition(".")[0]))
        except ValueError:
            return None
        if image is None:
            return None
        candidates = self._present.keys[self._present.images == image]
        photos = store.photos_by_key(candidates.tolist())
        key = next((key for key, photo in photos.items() if photo.url_name == name), None)
        if key is None:
            return None
        is_entry = self._heads.images == image if self._fold else self._heads.keys == key
        return int(np.argmax(is_entry))

    def _arrange(self) -> None:
        """Leave out deleted files, and fold identical ones."""
        deleted = np.fromiter(self._deleted, np.int64)
        self._present = self._all.part(~np.isin(self._all.keys, deleted)) if len(deleted) else self._all
        self._heads, self._copies = _folded(self._present) if self._fold else (self._present, {})

    def _copies_of(self, keys: Iterable[int]) -> dict[int, list[int]]:
        return {key: self._copies[key] for key in keys if key in self._copies}


def _folded(photos: Listing) -> tuple[Listing, dict[int, list[int]]]:
    """The first photo of each image, and by its key the keys of the others."""
    _, firsts, image_of = np.unique(photos.images, return_index=True, return_inverse=True)
    heads: Ids = firsts[image_of]  # of each photo, the position of the first with its image
    others = np.flatnonzero(heads != np.arange(len(heads)))
    copies: dict[int, list[int]] = {}
    for head, other in zip(photos.keys[heads[others]].tolist(), photos.keys[others].tolist(), strict=True):
        copies.setdefault(head, []).append(other)
    return photos.part(np.sort(firsts)), copies


def _existing(store: Searchable, keys: Iterable[int]) -> dict[int, Photo]:
    """The photos with these keys whose files exist."""
    photos = store.photos_by_key(keys)
    files = {photo.file for photo in FilesOnDisk().existing(photos.values())}
    return {key: photo for key, photo in photos.items() if photo.file in files}
