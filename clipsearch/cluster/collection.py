"""An index in a collection of Milvus, to be asked as one in a folder is, with the same answers.

It has one row for each photo, so that here each photo has an image of its own. Scores are products with the rows in
fp16, as in a folder: the engine says which rows are near, and these are compared again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.arrays import Array, Ids, Rows, parts, unit_rows
from clipsearch.cluster import collection_filter, milvus
from clipsearch.cluster.collection_filter import among
from clipsearch.cluster.collection_rows import METADATA, OF_PHOTO, escaped, root_of, unescaped
from clipsearch.cluster.milvus import MOST, Address, Record, explained, quoted
from clipsearch.errors import IndexUnusable, NoCollection
from clipsearch.images.metadata import Metadata
from clipsearch.paths import Collection, join, relative_to, spellings
from clipsearch.store.conditions import Circle, kilometres
from clipsearch.store.drives import Away, Offline, Presence, why_unreachable
from clipsearch.store.filters import EVERYTHING, Filter
from clipsearch.store.photo import Line, Photo, Root, RootCounts, local_time
from clipsearch.store.searchable import Searchable, Summary
from clipsearch.store.searched import SearchedFolder, searched_folders
from clipsearch.store.segments import products
from clipsearch.store.selection import Clause, Selection

if TYPE_CHECKING:
    from clipsearch.cluster.milvus import MilvusClient

_MARGIN = 16  # rows more than are wanted, whose scores may be the same
_EQUAL = 1e-5  # scores that the engine may put in another order
_AT_ONCE = 2_000  # rows with all their fields


def open_collection(place: Collection) -> PublishedIndex:
    """Open a published index. Raises `NoCollection`, `IndexUnusable`, and `BadRequest` without the packages."""
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

    # -------------------------------------------------------------------------------- the whole

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

    def roots(self) -> list[Root]:
        return sorted(self._roots.values(), key=lambda root: root.path)

    def counts(self) -> list[RootCounts]:
        return [RootCounts(root, self._count(f"root == {root.id}"), 0) for root in self.roots()]

    def summary(self) -> Summary:
        with explained(self._address):
            kind = self._client.describe_index(self._address.name, "row")["index_type"]
        count = self._count(collection_filter.EVERYTHING)
        method = "FLAT, exact" if kind == "FLAT" else f"{kind}, not exact"
        return Summary(count, count, milvus.size(self._address), method, [], [], 0, 0)

    # -------------------------------------------------------------------------------- files

    def presence(self, root: Root, folder: bytes = b"") -> Presence:
        why = why_unreachable(root.path)
        if why is None and not os.listdir(root.path) and self.has_photos(root):
            why = Offline.EMPTY
        away = [] if why is None else [Away(root.path, why, frozenset())]
        return Presence({}, away, why, online=why is None)

    def files_of(self, root: Root, folder: bytes = b"") -> Iterator[bytes]:
        for row in self._all(collection_filter.lies_in([SearchedFolder(root, folder)]), ["path"]):
            yield unescaped(row["path"])

    def image_of(self, root: Root, path: bytes) -> int | None:
        return self._first(f"root == {root.id} and path == {quoted(escaped(path))}")

    def find_image(self, content: bytes) -> int | None:
        return self._first(f"content == {quoted(content.hex())}")

    # -------------------------------------------------------------------------------- photos

    def select(self, where: Filter = EVERYTHING) -> Selection:
        roots = self.roots()
        searched, offline = searched_folders(self, roots, where.under)
        chosen = [collection_filter.expression(one) for one in where.conditions()]
        everywhere = searched == [SearchedFolder(root) for root in roots]
        if not everywhere:
            chosen.append(collection_filter.lies_in(searched))
        if where.near:
            chosen = [self._around(where.near, collection_filter.all_of(chosen))]
        missing: list[bytes] = []
        if where.files is not None:
            ids, missing = self._listed(where.files, roots)
            chosen.append(collection_filter.ids_in(ids))
        holds = Clause(collection_filter.all_of(chosen))
        return Selection(
            {place.root.id: place.root for place in searched}, offline, missing, holds, holds, everywhere and not chosen
        )

    def _around(self, circles: Sequence[Circle], in_box: str) -> str:
        """Milvus has no sines: of what is in the boxes, what lies in a circle, or all but what does not."""
        inside: list[int] = []
        outside: list[int] = []
        for row in self._all(in_box, ["id", "latitude", "longitude"]):
            is_near = any(_is_in(circle, row["latitude"], row["longitude"]) for circle in circles)
            (inside if is_near else outside).append(row["id"])
        if len(inside) <= len(outside):
            return collection_filter.ids_in(inside)
        return f"({in_box}) and not ({collection_filter.ids_in(outside)})"

    def _listed(self, files: Iterable[bytes], roots: list[Root]) -> tuple[list[int], list[bytes]]:
        """The ids of listed files, and the files that are not there, each in order."""
        ids: list[int] = []
        missing: list[bytes] = []
        listed = iter(files)
        while part := list(islice(listed, _AT_ONCE)):
            found = self._at({place for file in part for place in _places(file, roots)})
            for file in part:
                image = next((found[place] for place in _places(file, roots) if place in found), None)
                if image is None:
                    missing.append(file)
                else:
                    ids.append(image)
        return ids, missing

    def _at(self, places: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """The ids of the photos at some places, each a root and a path."""
        of_root: dict[int, list[str]] = {}
        for root, path in places:
            of_root.setdefault(root, []).append(path)
        return {
            (root, row["path"]): row["id"]
            for root, paths in of_root.items()
            for row in self._all(f"root == {root} and path in {among(paths)}", ["id", "path"])
        }

    def images_in(self, chosen: Selection) -> Ids:
        return np.sort(np.fromiter((row["id"] for row in self._all(chosen.holds.sql, ["id"])), np.int64))

    def photos_of(self, ids: Iterable[int], chosen: Selection | None = None) -> list[Photo]:
        holds = [] if chosen is None else [chosen.holds.sql]
        asked = [collection_filter.all_of([collection_filter.ids_in(part), *holds]) for part in parts(ids)]
        wanted = [row for expression in asked for row in self._query(expression, OF_PHOTO)]
        if chosen is None:  # and all that have the same contents
            contents = parts(sorted({row["content"] for row in wanted}))
            wanted = [row for part in contents for row in self._all(f"content in {among(part)}", OF_PHOTO)]
        return [self._photo(row) for row in wanted]

    def with_content(self, content: bytes, chosen: Selection) -> list[Photo]:
        """As `Searchable` says: here photos with one content have an id each."""
        same = collection_filter.all_of([f"content == {quoted(content.hex())}", chosen.holds.sql])
        return [self._photo(row) for row in self._all(same, OF_PHOTO)]

    def by_path(self, chosen: Selection, *, copied: bool = False) -> Iterator[Photo]:
        counted = Counter(row["content"] for row in self._all(chosen.holds.sql, ["content"])) if copied else {}
        order = sorted(
            (self._path(row), row["id"])
            for row in self._all(chosen.holds.sql, ["id", "root", "path", "content"])
            if not copied or counted[row["content"]] > 1
        )
        for part in parts(number for _, number in order):
            photos = {row["id"]: self._photo(row) for row in self._query(collection_filter.ids_in(part), OF_PHOTO)}
            yield from (photos[number] for number in part if number in photos)

    def hashes(self) -> tuple[Ids, NDArray[np.uint64]]:
        found = [(row["id"], row["hash"]) for row in self._all("hash is not null", ["id", "hash"])]
        both = np.array(found, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1].astype(np.uint64)

    def newest(self, chosen: Selection, count: int) -> list[Photo]:
        best: list[tuple[Photo, tuple[Any, ...]]] = []
        for row in self._all(chosen.holds.sql, OF_PHOTO):
            photo = self._photo(row)
            later = (0, 0) if photo.metadata.taken else (1, -photo.mtime_ns)
            best.append((photo, (*later, row["root"], unescaped(row["path"]))))
            if len(best) >= 4 * count + _AT_ONCE:
                best = _newest(best)[:count]
        return [photo for photo, _ in _newest(best)[:count]]

    def months(self, chosen: Selection) -> dict[str, int]:
        counted = Counter(
            (row["taken"] or local_time(row["mtime_ns"]))[:7]
            for row in self._all(chosen.holds.sql, ["taken", "mtime_ns"])
        )
        return dict(sorted(counted.items()))

    def lines_of(self, ids: Iterable[int]) -> dict[int, list[Line]]:
        return {}

    def cameras(self) -> list[str]:
        counted = Counter(row["camera"] for row in self._all("camera is not null", ["camera"]))
        return sorted(counted, key=lambda camera: (-counted[camera], camera))

    def _photo(self, row: dict[str, Any]) -> Photo:
        metadata, content = Metadata(**{name: row[name] for name in METADATA}), bytes.fromhex(row["content"])
        of_file = (self._path(row), row["size"], row["mtime_ns"], content, metadata, row["ctime_ns"])
        return Photo(row["id"], *of_file, hash=row["hash"])

    def _path(self, row: dict[str, Any]) -> bytes:
        root = self._roots.get(row["root"])
        if root is None:
            raise IndexUnusable(f"{self.place} is being published to; ask again")
        return join(root.path, unescaped(row["path"]))

    # -------------------------------------------------------------------------------- embeddings

    def unit_rows_of(self, ids: Iterable[int]) -> Array:
        return unit_rows(self._rows(list(ids)))

    def nearest(self, query: Array, k: int, chosen: Selection, *, exact: bool = False) -> tuple[Ids, Array]:
        """All rows of the k nearest contents, as in a folder all photos of the k nearest images."""
        wanted = k + _MARGIN
        while True:
            is_all = wanted > MOST
            found = self._all_ids(chosen) if is_all else self._search(query, wanted, chosen)
            ids, contents, scores = self._ranked(found, query)
            _, firsts = np.unique(contents, return_index=True)
            least = scores[np.sort(firsts)[:k][-1:]]  # of what is wanted
            if is_all or len(ids) < wanted or (len(firsts) >= k and least > scores[-1] + _EQUAL):
                count = int((scores >= least).sum()) if len(ids) else 0
                return ids[:count], scores[:count]
            wanted *= 4

    def _search(self, query: Array, count: int, chosen: Selection) -> list[tuple[int, str]]:
        """Ids and contents of so many rows that the engine finds."""
        with explained(self._address):
            found = self._client.search(
                self._address.name,
                [query.astype(np.float32)],
                filter=chosen.holds.sql,
                limit=count,
                output_fields=["content"],
                search_params={"metric_type": "IP"},
            )[0]
        return [(hit["id"], hit["entity"]["content"]) for hit in found]

    def _all_ids(self, chosen: Selection) -> list[tuple[int, str]]:
        return [(row["id"], row["content"]) for row in self._all(chosen.holds.sql, ["id", "content"])]

    def _ranked(self, rows: list[tuple[int, str]], query: Array) -> tuple[Ids, NDArray[np.bytes_], Array]:
        """The ids, contents and scores of rows, best first."""
        ids = np.array([number for number, _ in rows], np.int64)
        contents = np.array([content for _, content in rows], np.bytes_)
        scored = [products(self._rows(part), query) for part in parts(ids, _AT_ONCE)]
        scores = np.concatenate([np.empty(0, np.float32), *scored])
        order = np.lexsort((ids, -scores))
        return ids[order], contents[order], scores[order]

    def _rows(self, ids: Sequence[int]) -> Rows:
        """The rows (n, dim) float16 of ids, in their order."""
        out, done = np.empty((len(ids), self.dim), np.float16), 0
        for part in parts(ids):
            found = {row["id"]: row["row"] for row in self._query(collection_filter.ids_in(part), ["id", "row"])}
            if not found.keys() >= set(part):
                raise IndexUnusable(f"{self.place} is being published to; ask again")
            out[done : done + len(part)] = [found[number] for number in part]
            done += len(part)
        return out

    # -------------------------------------------------------------------------------- asking the engine

    def _query(self, expression: str, fields: list[str], limit: int | None = None) -> list[dict[str, Any]]:
        with explained(self._address):
            options = {} if limit is None else {"limit": limit}
            return list(self._client.query(self._address.name, expression, output_fields=fields, **options))

    def _first(self, expression: str) -> int | None:
        found = self._query(expression, ["id"], limit=1)
        return int(found[0]["id"]) if found else None

    def _count(self, expression: str) -> int:
        return int(self._query(expression, ["count(*)"])[0]["count(*)"])

    def _all(self, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """All rows, however many, in parts."""
        with explained(self._address):
            found = self._client.query_iterator(
                self._address.name, batch_size=MOST, filter=expression, output_fields=fields
            )
            try:
                while part := found.next():
                    yield from part
            finally:
                found.close()


def _is_in(circle: Circle, latitude: float, longitude: float) -> bool:
    away = kilometres(latitude, longitude, circle.latitude, circle.longitude)
    return away is not None and away <= circle.km


def _places(file: bytes, roots: list[Root]) -> Iterator[tuple[int, str]]:
    """Where a listed file may be: the id of a root, and a path below it."""
    if b"\0" in file:
        return
    for path in spellings(file):
        for root in roots:
            below = relative_to(path, root.path)
            if below is not None:
                yield root.id, escaped(below)


def _newest(photos: list[tuple[Photo, tuple[Any, ...]]]) -> list[tuple[Photo, tuple[Any, ...]]]:
    in_order = sorted(photos, key=lambda one: one[1])
    return sorted(in_order, key=lambda one: one[0].date, reverse=True)
