"""Publish an index to a Milvus collection, and keep the two in step.

The catalogue numbers its changes, and the collection records up to which number it has them, so a run takes time in
proportion to the changes. A run that was killed is continued by the next; writing a row twice changes nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.arrays import parts
from clipsearch.cluster import milvus
from clipsearch.cluster.collection_filter import EVERYTHING, PHOTOS, is_in
from clipsearch.cluster.collection_rows import entity_of, photo_and_number, record_of
from clipsearch.cluster.milvus import Address, Record, explained
from clipsearch.errors import BadRequest, CollectionOutdated, ModelMismatch
from clipsearch.models.model import Model
from clipsearch.paths import Collection
from clipsearch.store.catalogue import Store
from clipsearch.store.change_log import Row

if TYPE_CHECKING:
    from clipsearch.cluster.milvus import MilvusClient

_AT_ONCE = 2_000  # photos between two records of progress; rows in a message, some megabytes
_SECONDS = 5.0  # between two records of progress

Progress = Callable[[int, int], None]  # the photos done, and all of them


class Published(NamedTuple):
    """What a run did: photos written, photos deleted, and the photos that the collection has now."""

    written: int
    deleted: int
    photos: int


def publish(folder: Path, place: Collection, *, replace: bool = False, progress: Progress | None = None) -> Published:
    """Bring a collection up to date with the index in `folder`; create it if necessary.

    `replace` a collection of another index or of an older format. Raises `BadRequest`, `ModelMismatch`,
    `IndexUnusable`, `CollectionOutdated`, and `IndexLocked` if another process writes when it is first published.
    """
    address = milvus.parse(place)
    _start_change_log(folder)
    with Store.open(folder) as store:
        client = milvus.connect(address)
        try:
            with explained(address):
                return _Publisher(store, client, address, progress or (lambda done, of: None)).run(replace)
        finally:
            milvus.disconnect(client, address)


def _start_change_log(folder: Path) -> None:
    with Store.open(folder) as store:
        if store.change_log.identity() is not None:
            return
    with Store.open(folder, write=True) as store:
        if store.change_log.identity() is None:
            store.change_log.start()


class _Publisher:
    """One run."""

    def __init__(self, store: Store, client: MilvusClient, address: Address, progress: Progress) -> None:
        self._store, self._client, self._address, self._progress = store, client, address, progress
        self._log = store.change_log
        self._written = self._deleted = self._done = 0
        self._saved = time.monotonic()

    def run(self, replace: bool) -> Published:
        self._record = self._begin(self._load(replace), replace)
        self._save()
        total = self._log.count_changed(self._record.counter)
        if self._record.filled is not None:
            total += self._log.count_after(self._record.filled)
            self._fill(self._record.filled, total)
        self._catch_up(total)
        if self._record.has_others:
            self._delete_gone(EVERYTHING)
            self._record = self._record._replace(has_others=False)
        self._save()
        self._client.flush(self._address.name)
        photos = self._client.query(self._address.name, PHOTOS, output_fields=["count(*)"])
        return Published(self._written, self._deleted, photos[0]["count(*)"])

    def _load(self, replace: bool) -> Record | None:
        try:
            return milvus.load(self._client, self._address)
        except CollectionOutdated:
            if not replace:
                raise
            self._client.drop_collection(self._address.name)
            return None

    def _begin(self, record: Record | None, replace: bool) -> Record:
        """The record to continue from. Raises `ModelMismatch`, and `BadRequest` for a collection of another index."""
        fresh = Record(
            self._store.model,
            self._store.dim,
            self._log.identity() or "",
            f"{socket.gethostname()}:{self._store.folder.absolute()}",
            [record_of(root) for root in self._store.roots()],
            [
                *(self._store.images.count(), self._store.images.count_distinct()),
                *(*self._store.ocr_text.counts(), self._store.captions.count()),
            ],
            self._store.ocr_text.enabled(),
            self._log.last(),
            filled=0,
            left_out=self._store.folders.left_out().as_dict(),
        )
        if record is None:
            self._store.require_photos()
            milvus.create(self._client, self._address, fresh)
            milvus.load(self._client, self._address)
            return fresh
        theirs, ours = Model.from_json(record.model), Model.from_json(self._store.model)
        if theirs.fingerprint != ours.fingerprint:
            raise ModelMismatch(
                f"the collection {self._address.text} has embeddings of {theirs.name}, the index of {ours.name}"
            )
        if record.identity == fresh.identity:
            return fresh._replace(counter=record.counter, filled=record.filled, has_others=record.has_others)
        if not replace and record.origin != fresh.origin:  # the same index has another identity after a rebuild
            raise BadRequest(f"the collection {self._address.text} was published from another index, {record.origin}")
        return fresh._replace(has_others=True)

    def _fill(self, after: int, total: int) -> None:
        while len(photos := self._log.photos_after(after, _AT_ONCE)):
            self._upsert(self._log.rows_of(photos))
            after = int(photos[-1])
            self._advance(self._record._replace(filled=after), len(photos), total)
        self._record = self._record._replace(filled=None)

    def _catch_up(self, total: int) -> None:
        while True:
            number, photos = self._log.changed_after(self._record.counter, _AT_ONCE)
            if not len(photos):
                return
            self._upsert(self._log.rows_of(photos))
            for part in parts(photos):
                self._delete_gone(is_in("photo", part))
            self._advance(self._record._replace(counter=number), len(photos), total)

    def _upsert(self, rows: Iterable[Row]) -> None:
        left = iter(rows)
        while part := [entity_of(row) for row in islice(left, _AT_ONCE)]:
            self._client.upsert(self._address.name, part)
            self._written += sum(entity["stands"] for entity in part)

    def _delete_gone(self, expression: str) -> None:
        """Delete those rows for which an expression is true that the catalogue does not have."""
        gone: dict[int, bool] = {}
        rows = milvus.every(self._client, self._address, expression, ["id", "stands"])
        while part := {row["id"]: row["stands"] for row in islice(rows, milvus.MOST)}:
            places = {row: photo_and_number(row) for row in part}
            counts = self._log.row_counts({photo for photo, _ in places.values()})
            gone |= {row: part[row] for row, (photo, number) in places.items() if number >= counts.get(photo, 0)}
        for rows_gone in parts(gone, _AT_ONCE):
            self._client.delete(self._address.name, ids=rows_gone)
            self._deleted += sum(gone[row] for row in rows_gone)

    def _advance(self, record: Record, count: int, total: int) -> None:
        self._record = record
        self._done += count
        self._progress(self._done, total)
        if time.monotonic() - self._saved > _SECONDS:
            self._save()

    def _save(self) -> None:
        milvus.save(self._client, self._address, self._record)
        self._saved = time.monotonic()
