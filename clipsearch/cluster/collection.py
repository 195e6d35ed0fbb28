"""An index in a Milvus collection, with the same answers as the index that was published.

Milvus finds candidates; their fp16 rows are compared again, so that scores are those of the folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids, Rows, parts, unit_rows
from clipsearch.cluster import milvus
from clipsearch.cluster.collection_filter import PHOTOS, all_of, expression, in_box, is_in, lies_in, mentions
from clipsearch.cluster.collection_rows import OF_PHOTO, escaped, lines_of, photo_of, root_of, unescaped
from clipsearch.cluster.milvus import MOST, Address, Record, explained, quoted
from clipsearch.errors import IndexUnusable, NoCollection
from clipsearch.images.left_out import LeftOut
from clipsearch.paths import Collection, join, relative_to, spellings
from clipsearch.store.conditions import Circle, box_of, kilometres
from clipsearch.store.drives import Away, Offline, Presence, why_unreachable
from clipsearch.store.filters import EVERYTHING as ALL_PHOTOS
from clipsearch.store.filters import Filter
from clipsearch.store.order import Order
from clipsearch.store.photo import Line, Listing, Months, Photo, Positions, Root, RootCounts, local_time
from clipsearch.store.searchable import Part, Searchable, Summary
from clipsearch.store.searched import SearchedFolder, searched_folders
from clipsearch.store.segments import products
from clipsearch.store.selection import Clause, Selection
from clipsearch.store.words import Word, are_in_text

if TYPE_CHECKING:
    from clipsearch.cluster.milvus import MilvusClient

_MARGIN = 16  # more rows than are wanted, whose scores may be equal
_EQUAL = 1e-5  # a difference of scores that Milvus may see the other way round
_AT_ONCE = 2_000  # rows with all of their fields


def open_collection(place: Collection) -> PublishedIndex:
    """Open a published index.

    Raises `NoCollection`, `IndexUnusable` and its kinds, and `BadRequest` if the packages are missing.
    """
    address = milvus.parse(place)
    if address.is_lite and not milvus.exists(address):
        raise NoCollection(f"there is no collection at {place} yet")
    client = milvus.connect(address)
    try:
        with explained(address):
            record = milvus.load(client, address)
        if record is None:
            raise NoCollection(f"there is no collection at {place} yet")
        return PublishedIndex(client, address, record)
    except BaseException:
        milvus.disconnect(client, address)
        raise


class PublishedIndex(Searchable):
    """An open collection."""

    folder = None

    def __init__(self, client: MilvusClient, address: Address, record: Record) -> None:
        self._client, self._address = client, address
        self.place = address.text
        self._take(record)

    def _take(self, record: Record) -> None:
        self.model, self.dim, self._record = record.model, record.dim, record
        self._roots = {root.id: root for root in map(root_of, record.roots)}

    # -------------------------------------------------------------------------------- the index

    def close(self) -> None:
        milvus.disconnect(self._client, self._address)

    def refresh(self) -> None:
        with explained(self._address):
            record = milvus.load(self._client, self._address)
        if record is None:
            raise NoCollection(f"there is no collection at {self.place} any more")
        self._take(record)

    def version(self) -> object:
        return repr(self._record)

    def summary(self) -> Summary:
        with explained(self._address):
            kind = self._client.describe_index(self._address.name, "row")["index_type"]
        method = "FLAT, exact" if kind == "FLAT" else f"{kind}, not exact"
        embeddings, distinct, read, with_text, captioned = self._record.counts
        left_out = LeftOut.of(self._record.left_out or {})
        size = milvus.size(self._address)
        return Summary(embeddings, distinct, size, method, [], [], read, with_text, captioned, left_out)

    # -------------------------------------------------------------------------------- folders and files

    def roots(self) -> list[Root]:
        return sorted(self._roots.values(), key=lambda root: root.path)

    def counts(self) -> list[RootCounts]:
        return [RootCounts(root, self._count(all_of([f"root == {root.id}", PHOTOS])), 0) for root in self.roots()]

    def presence(self, root: Root, folder: bytes = b"") -> Presence:
        why = why_unreachable(root.path)
        if why is None and not os.listdir(root.path) and self.has_photos(root):
            why = Offline.EMPTY
        away = [] if why is None else [Away(root.path, why, frozenset())]
        return Presence({}, away, why, online=why is None)

    def files_of(self, root: Root, folder: bytes = b"") -> Iterator[bytes]:
        for row in self._all(all_of([lies_in([SearchedFolder(root, folder)]), PHOTOS]), ["path"]):
            yield unescaped(row["path"])

    def has_photos(self, root: Root, folder: bytes = b"") -> bool:
        return self._first(lies_in([SearchedFolder(root, folder)])) is not None

    def image_of(self, root: Root, path: bytes) -> int | None:
        return self._first(all_of([f"root == {root.id}", f"path == {quoted(escaped(path))}", PHOTOS]))

    def find_image(self, content: bytes) -> int | None:
        return self._first(f"content == {quoted(content.hex())} and ({PHOTOS} or time is not null)")

    # -------------------------------------------------------------------------------- selections

    def select(self, where: Filter = ALL_PHOTOS) -> Selection:
        self._check_text(where)
        roots = self.roots()
        searched, offline = searched_folders(self, roots, where.under, where.not_under)
        chosen = [expression(one, self._near) for one in where.conditions()]
        everywhere = searched == [SearchedFolder(root) for root in roots]
        if not everywhere:
            chosen.append(lies_in(searched))
        missing: list[bytes] = []
        if where.files is not None:
            photos, missing = self._listed(where.files, roots)
            chosen.append(is_in("photo", photos))
        holds = Clause(all_of(chosen))
        return Selection(
            {one.root.id: one.root for one in searched}, offline, missing, holds, holds, everywhere and not chosen
        )

    def _near(self, circle: Circle) -> str:
        """The photos in a circle: of those in its box, the ones inside, or all but the ones outside if fewer."""
        box = in_box(box_of(circle))
        inside: list[int] = []
        outside: list[int] = []
        for row in self._all(all_of([box, PHOTOS]), ["photo", "latitude", "longitude"]):
            away = kilometres(row["latitude"], row["longitude"], circle.latitude, circle.longitude)
            (inside if away is not None and away <= circle.km else outside).append(row["photo"])
        if len(inside) <= len(outside):
            return is_in("photo", inside)
        return f"({box}) and not ({is_in('photo', outside)})"

    def _listed(self, files: Iterable[bytes], roots: list[Root]) -> tuple[list[int], list[bytes]]:
        """The photos at some paths, and the paths that have none, each in order."""
        photos: list[int] = []
        missing: list[bytes] = []
        listed = iter(files)
        while part := list(islice(listed, _AT_ONCE)):
            found = self._at({place for file in part for place in _places(file, roots)})
            for file in part:
                photo = next((found[place] for place in _places(file, roots) if place in found), None)
                if photo is None:
                    missing.append(file)
                else:
                    photos.append(photo)
        return photos, missing

    def _at(self, places: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """The photos at some places, each a root and a path below it."""
        of_root: dict[int, list[str]] = {}
        for root, path in places:
            of_root.setdefault(root, []).append(path)
        return {
            (root, row["path"]): row["photo"]
            for root, paths in of_root.items()
            for row in self._all(all_of([f"root == {root}", is_in("path", paths), PHOTOS]), ["photo", "path"])
        }

    def images_in(self, chosen: Selection, *, frames: bool = True) -> Ids:
        holds = chosen.holds.sql if frames else all_of([chosen.holds.sql, PHOTOS])
        return np.unique(np.fromiter((row["image"] for row in self._all(holds, ["image"])), np.int64))

    # -------------------------------------------------------------------------------- photos

    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        holds = [] if chosen is None else [chosen.holds.sql]
        return [
            self._photo(row)
            for part in parts(ids)
            for row in self._all(all_of([is_in("image", part), *holds]), OF_PHOTO)
        ]

    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        found = list(self._all(all_of([chosen.holds.sql, PHOTOS]), ["id", "root", "path", "image"]))
        if copied:
            count = self._count_photos({row["image"] for row in found})
            found = [row for row in found if count[row["image"]] > 1]
        order = sorted((join(self._folder(row), unescaped(row["path"])), row["id"]) for row in found)
        for part in parts(number for _, number in order):
            photos = {row["id"]: self._photo(row) for row in self._query(is_in("id", part), ["id", *OF_PHOTO])}
            yield from (photos[number] for number in part if number in photos)

    def _count_photos(self, images: Iterable[int]) -> Counter[int]:
        return Counter(
            row["image"]
            for part in parts(images)
            for row in self._all(all_of([is_in("image", part), PHOTOS]), ["image"])
        )

    def first(self, chosen: Selection, order: Order, count: int) -> list[Photo]:
        best: list[Photo] = []
        for row in self._all(all_of([chosen.holds.sql, PHOTOS]), OF_PHOTO):
            best.append(self._photo(row))
            if len(best) >= 4 * count + _AT_ONCE:
                best = order.sorted(best, lambda photo: photo)[:count]
        return order.sorted(best, lambda photo: photo)[:count]

    def listing(self, chosen: Selection, order: Order) -> Listing:
        rows = self._all(all_of([chosen.holds.sql, PHOTOS]), ["photo", *OF_PHOTO])
        found = order.sorted(((row["photo"], self._photo(row)) for row in rows), lambda one: one[1])
        return Listing.of((key, photo.image_id, *photo.metadata[:3]) for key, photo in found)

    def photos_by_key(self, keys: Iterable[int]) -> dict[int, Photo]:
        return {
            row["photo"]: self._photo(row)
            for part in parts(keys)
            for row in self._all(all_of([is_in("photo", part), PHOTOS]), ["photo", *OF_PHOTO])
        }

    def months(self, chosen: Selection) -> Months:
        taken, changed = Counter[str](), Counter[str]()
        for row in self._all(all_of([chosen.holds.sql, PHOTOS]), ["taken", "mtime_ns"]):
            if row["taken"]:
                taken[row["taken"][:7]] += 1
            else:
                changed[local_time(row["mtime_ns"])[:7]] += 1
        return Months(dict(sorted(taken.items())), dict(sorted(changed.items())))

    def columns(self, chosen: Selection, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        for row in self._all(all_of([chosen.holds.sql, PHOTOS]), list(names)):
            yield tuple(unescaped(row[name]) if name == "path" else row[name] for name in names)

    def positions(self, chosen: Selection) -> Positions:
        rows = self._all(all_of([chosen.holds.sql, PHOTOS, "latitude is not null"]), ["image", "latitude", "longitude"])
        return Positions.of_rows((row["image"], row["latitude"], row["longitude"]) for row in rows)

    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        rows = self._all(all_of(["hash is not null", PHOTOS]), ["image", "hash"])
        found = sorted({row["image"]: row["hash"] for row in rows}.items())
        both = np.array(found, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1].astype(np.uint64)

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        rows = (
            row
            for part in parts(ids)
            for row in self._all(all_of([is_in("image", part), "lines is not null"]), ["image", "lines"])
        )
        return {row["image"]: lines for row in rows if (lines := lines_of(row))}

    def has_ocr(self) -> bool:
        return self._record.reads

    def mentioning(self, words: tuple[Word, ...], chosen: Selection, most: int, part: Part) -> list[int]:
        field = f"{part}_folded"
        images: dict[int, None] = {}
        for row in self._all(all_of([chosen.holds.sql, mentions(words, field)]), ["image", field]):
            if len(images) >= most:
                break
            if part != "text" or are_in_text(words, row[field]):
                images[row["image"]] = None
        return list(images)

    def _photo(self, row: dict[str, Any]) -> Photo:
        photo = photo_of(row)
        return photo._replace(file=join(self._folder(row), photo.file))

    def _folder(self, row: dict[str, Any]) -> bytes:
        root = self._roots.get(row["root"])
        if root is None:
            raise self._changing()
        return root.path

    def _changing(self) -> IndexUnusable:
        return IndexUnusable(f"{self.place} is being published to; try again")

    # -------------------------------------------------------------------------------- embeddings

    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        return unit_rows(self._rows("image", list(ids)))

    def scores_of(self, ids: Iterable[int], query: Array) -> dict[int, float]:
        images = list(ids)
        return dict(zip(images, products(self._rows("image", images), query).tolist(), strict=True))

    def sample(self, count: int) -> Ids:
        # Milvus cannot sort. Hashes are uniform: twice as many as needed lie below this bound.
        share = 2 * count / max(1, self._record.counts[1])
        below = [] if share >= 1 else [f"content < {quoted(f'{int(share * 2**64):016x}')}"]
        rows = sorted(
            {(row["content"], row["image"]) for row in self._all(all_of([PHOTOS, *below]), ["content", "image"])}
        )
        return np.array([image for _, image in rows[:count]], np.int64)

    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        wanted = k + _MARGIN
        while True:
            is_all = wanted > MOST
            found = self._all_ids(chosen) if is_all else self._search(query, wanted, chosen)
            images, scores = self._ranked(dict(found), query)
            # Copies share an image, so the rows found may be fewer images than are wanted.
            is_enough = len(images) >= k and scores[k - 1] > scores[-1] + _EQUAL
            if is_all or is_enough or len(found) < wanted:
                return images[:k], scores[:k]
            wanted *= 4

    def _search(self, query: Array, count: int, chosen: Selection) -> list[tuple[int, int]]:
        """The images and ids of the rows that Milvus finds."""
        with explained(self._address):
            found = self._client.search(
                self._address.name,
                [query.astype(np.float32)],
                filter=chosen.holds.sql,
                limit=count,
                output_fields=["image"],
                search_params={"metric_type": "IP"},
            )[0]
        return [(hit["entity"]["image"], hit["id"]) for hit in found]

    def _all_ids(self, chosen: Selection) -> list[tuple[int, int]]:
        return [(row["image"], row["id"]) for row in self._all(chosen.holds.sql, ["image", "id"])]

    def _ranked(self, found: dict[int, int], query: Array) -> tuple[Ids, Array]:
        """Images, each given with one of its rows, and their scores, best first."""
        images = np.array(list(found), np.int64)
        scored = [products(self._rows("id", part), query) for part in parts(found.values(), _AT_ONCE)]
        scores = np.concatenate([np.empty(0, np.float32), *scored])
        order = np.lexsort((images, -scores))
        return images[order], scores[order]

    def _rows(self, field: str, values: list[int]) -> Rows:
        """The rows (n, dim) float16 of images or ids, in their order."""
        out, done = np.empty((len(values), self.dim), np.float16), 0
        for part in parts(values):
            found = {row[field]: row["row"] for row in self._all(is_in(field, part), [field, "row"])}
            if not found.keys() >= set(part):
                raise self._changing()
            out[done : done + len(part)] = [found[value] for value in part]
            done += len(part)
        return out

    # -------------------------------------------------------------------------------- asking Milvus

    def _query(self, expression: str, fields: list[str], **options: int) -> list[dict[str, Any]]:
        with explained(self._address):
            return list(self._client.query(self._address.name, expression, output_fields=fields, **options))

    def _first(self, expression: str) -> int | None:
        found = self._query(expression, ["image"], limit=1)
        return int(found[0]["image"]) if found else None

    def _count(self, expression: str) -> int:
        return int(self._query(expression, ["count(*)"])[0]["count(*)"])

    def _all(self, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        return milvus.every(self._client, self._address, expression, fields)


def _places(file: bytes, roots: list[Root]) -> Iterator[tuple[int, str]]:
    """Where a listed file may be: a root's id, and a path below it."""
    if b"\0" in file:
        return
    for path in spellings(file):
        for root in roots:
            below = relative_to(path, root.path)
            if below is not None:
                yield root.id, escaped(below)
