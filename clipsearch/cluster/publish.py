"""Publish an index to a collection of Milvus, and keep it in step.

The catalogue numbers its changes, and the collection says up to which number it has them: what is done is in
proportion to what changed. A run that is killed goes on where the collection says, and what it does twice is the same.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipsearch.arrays import parts
from clipsearch.cluster import collection_filter, milvus
from clipsearch.cluster.collection_rows import entity_of, record_of
from clipsearch.cluster.milvus import Address, Record, explained
from clipsearch.errors import BadRequest, ModelMismatch
from clipsearch.models.model import Model
from clipsearch.paths import Collection
from clipsearch.store.catalogue import Store
from clipsearch.store.change_log import Row

if TYPE_CHECKING:
    from clipsearch.cluster.milvus import MilvusClient

_AT_ONCE = 2_000  # rows in a message, some megabytes
_SECONDS = 5.0  # between two records of how far it is

Progress = Callable[[int, int], None]  # of how many photos, how many are done


class Published(NamedTuple):
    """What a run did: photos written, photos deleted; and how many photos the collection has now."""

    written: int
    deleted: int
    photos: int


def publish(folder: Path, place: Collection, *, replace: bool = False, progress: Progress | None = None) -> Published:
    """Bring a collection up to date with the index in `folder`; make it if it is not there.

    `replace`: also if it was published from another index. Raises `BadRequest`, `ModelMismatch`, `IndexUnusable`,
    `IndexLocked` when it is first published while another process writes.
    """
    address = milvus.parse(place)
    _write_changes_down(folder)
    with Store.open(folder) as store:
        client = milvus.connect(address)
        try:
            with explained(address):
                return _Publisher(store, client, address, progress or (lambda done, of: None)).run(replace)
        finally:
            milvus.disconnect(client, address)


def _write_changes_down(folder: Path) -> None:
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
        self._identity = store.change_log.identity() or ""
        self._written = self._deleted = self._done = 0
        self._saved = time.monotonic()

    def run(self, replace: bool) -> Published:
        self._record = self._begin(milvus.load(self._client, self._address), replace)
        self._save()
        total = self._store.change_log.count_changed(self._record.counter)
        if self._record.filled is not None:
            total += self._store.change_log.count_after(self._record.filled)
            self._fill(self._record.filled, total)
        self._catch_up(total)
        if self._record.has_others:
            self._drop_others()
        self._save()
        self._client.flush(self._address.name)
        photos = self._client.query(self._address.name, collection_filter.EVERYTHING, output_fields=["count(*)"])
        return Published(self._written, self._deleted, photos[0]["count(*)"])

    def _begin(self, record: Record | None, replace: bool) -> Record:
        """The record to go on from. Raises `ModelMismatch`, and `BadRequest` for a collection of another index."""
        fresh = Record(
            self._store.model,
            self._store.dim,
            self._identity,
            f"{socket.gethostname()}:{self._store.folder.absolute()}",
            [record_of(root) for root in self._store.roots()],
            self._store.change_log.last(),
            filled=0,
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
        if record.identity == self._identity:
            return record._replace(roots=fresh.roots, origin=fresh.origin)
        if not replace and record.origin != fresh.origin:  # the same index made anew has another identity
            raise BadRequest(f"the collection {self._address.text} was published from another index, {record.origin}")
        return fresh._replace(has_others=True)

    def _fill(self, after: int, total: int) -> None:
        while rows := self._store.change_log.rows_after(after, _AT_ONCE):
            self._upsert(rows)
            after = rows[-1].id
            self._went_on(self._record._replace(filled=after), len(rows), total)
        self._record = self._record._replace(filled=None)

    def _catch_up(self, total: int) -> None:
        while True:
            number, ids = self._store.change_log.changed_after(self._record.counter, _AT_ONCE)
            if not len(ids):
                return
            rows = self._store.change_log.rows_of(ids)
            self._upsert(rows)
            self._delete(np.setdiff1d(ids, [row.id for row in rows]).tolist())
            self._went_on(self._record._replace(counter=number), len(ids), total)

    def _drop_others(self) -> None:
        """Delete what the catalogue does not have."""
        found = self._client.query_iterator(
            self._address.name, batch_size=milvus.MOST, filter=collection_filter.EVERYTHING, output_fields=["id"]
        )
        others: list[int] = []
        while part := found.next():
            ids = np.array([row["id"] for row in part], np.int64)
            others += np.setdiff1d(ids, [row.id for row in self._store.change_log.rows_of(ids)]).tolist()
        found.close()
        self._delete(others)
        self._record = self._record._replace(has_others=False)

    def _upsert(self, rows: list[Row]) -> None:
        if rows:
            self._client.upsert(self._address.name, [entity_of(row) for row in rows])
            self._written += len(rows)

    def _delete(self, ids: list[int]) -> None:
        for part in parts(ids, _AT_ONCE):
            there = self._client.query(self._address.name, collection_filter.ids_in(part), output_fields=["id"])
            if there:
                self._client.delete(self._address.name, ids=[row["id"] for row in there])
                self._deleted += len(there)

    def _went_on(self, record: Record, count: int, total: int) -> None:
        self._record = record
        self._done += count
        self._progress(self._done, total)
        if time.monotonic() - self._saved > _SECONDS:
            self._save()

    def _save(self) -> None:
        milvus.save(self._client, self._address, self._record)
        self._saved = time.monotonic()
