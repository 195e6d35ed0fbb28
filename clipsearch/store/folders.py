"""The indexed folders, which the catalogue calls roots: their rules, and how many photos they have."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from clipsearch.errors import CatalogueDamaged
from clipsearch.images.left_out import LeftOut
from clipsearch.images.rules import Rules
from clipsearch.paths import join, relative_to
from clipsearch.store import mounts
from clipsearch.store.database import Database
from clipsearch.store.drives import Drive, Drives
from clipsearch.store.photo import Root, RootCounts
from clipsearch.store.schema import OF_DRIVE, OF_PHOTO, OF_ROOT

_RULES = ", ".join(Rules._fields)  # columns of `roots`


class Folders:
    """The indexed folders."""

    def __init__(self, database: Database, drives: Drives) -> None:
        self._database, self._drives = database, drives

    def all(self) -> list[Root]:
        """By path. Raises `CatalogueDamaged`: nothing else says which photos a folder had."""
        query = f"SELECT mark = mark({OF_ROOT}), id, path, {_RULES} FROM roots ORDER BY path"
        roots = []
        for is_sound, root_id, path, *columns in self._database.execute(query):
            if not is_sound:
                name = os.fsdecode(path) if isinstance(path, bytes) else str(path)
                raise CatalogueDamaged(f"the record of the indexed folder {name} is damaged")
            roots.append(Root(root_id, path, _rules(columns)))
        return roots

    def counts(self) -> list[RootCounts]:
        """The photos and skipped files of each folder."""
        rows = self._database.execute("SELECT root, count(image), count(error) FROM photos GROUP BY root")
        of = {root: (photos, skipped) for root, photos, skipped in rows}
        return [RootCounts(root, *of.get(root.id, (0, 0))) for root in self.all()]

    def add(self, path: bytes, rules: Rules) -> Root:
        """Record a folder. Indexed folders inside it become part of it and keep their photos."""
        self._database.begin()
        statement = f"INSERT INTO roots (path, {_RULES}, mark) VALUES (?, {', '.join('?' * len(rules))}, 0)"
        added = self._database.execute(statement, (path, *_columns(rules)))
        root = Root(int(added.lastrowid or 0), path, rules)
        self._set_mark(root)
        for inner in self.all():
            below = relative_to(inner.path, path)
            if below:
                self._database.execute(
                    "UPDATE photos SET root = ?, path = CAST(? || path AS BLOB) WHERE root = ?",
                    (root.id, below + b"/", inner.id),
                )
                self._database.execute(f"UPDATE photos SET mark = mark({OF_PHOTO}) WHERE root = ?", (root.id,))
                self._database.execute("UPDATE drives SET root = ? WHERE root = ?", (root.id, inner.id))
                self._database.execute(f"UPDATE drives SET mark = mark({OF_DRIVE}) WHERE root = ?", (root.id,))
                self._database.execute("DELETE FROM roots WHERE id = ?", (inner.id,))
        return root

    def set_rules(self, root: Root, rules: Rules) -> Root:
        if rules == root.rules:
            return root
        self._database.begin()
        columns = ", ".join(f"{name} = ?" for name in Rules._fields)
        self._database.execute(f"UPDATE roots SET {columns} WHERE id = ?", (*_columns(rules), root.id))
        self._set_mark(root)
        return root._replace(rules=rules)

    def move(self, root: Root, path: bytes) -> None:
        """Record that a folder was moved, with everything in it."""
        self._database.begin()
        self._database.execute("UPDATE roots SET path = ? WHERE id = ?", (path, root.id))
        self._set_mark(root)
        here = mounts.device_of(path) or 0
        for drive in self._drives.of(root):
            below = relative_to(drive.mount, root.path)
            if below:  # mounted in the folder, as it may be again
                self._drives.update(root, drive._replace(mount=join(path, below)))
            elif relative_to(root.path, drive.mount) is not None:
                self._drives.update(root, Drive(drive.id, mounts.Mounts().above(path, here) or path, here))

    def remove(self, root: Root) -> int:
        """Forget a folder and its photos; returns the number of files."""
        self._database.begin()
        count = self._database.execute("DELETE FROM photos WHERE root = ?", (root.id,)).rowcount
        self._database.execute("DELETE FROM drives WHERE root = ?", (root.id,))
        self._database.execute("DELETE FROM roots WHERE id = ?", (root.id,))
        return count

    def left_out(self) -> LeftOut:
        """What the last scans of whole folders left out."""
        every, paths = LeftOut(), {os.fsdecode(root.path) for root in self.all()}
        for path, counts in self._left_out().items():
            if path in paths:
                every.add(LeftOut.of(counts))
        return every

    def set_left_out(self, root: Root, counts: LeftOut) -> None:
        """Record what a scan of a folder left out; drop the records of folders that are no longer indexed."""
        before, paths = self._left_out(), {os.fsdecode(one.path) for one in self.all()}
        now = {path: known for path, known in before.items() if path in paths}
        now.pop(os.fsdecode(root.path), None)
        if counts:
            now[os.fsdecode(root.path)] = counts.as_dict()
        if now != before:
            self._database.begin()
            self._database.set_meta("left_out", json.dumps(now))

    def _left_out(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self._database.meta("left_out") or "{}")
        return known

    def copy_to(self, other: Database) -> None:
        """Copy the records to an empty catalogue."""
        self.all()  # raises if one of them is damaged
        for row in self._database.execute("SELECT * FROM roots"):
            other.execute(f"INSERT INTO roots VALUES ({', '.join('?' * len(row))})", row)

    def _set_mark(self, root: Root) -> None:
        self._database.execute(f"UPDATE roots SET mark = mark({OF_ROOT}) WHERE id = ?", (root.id,))


def _columns(rules: Rules) -> tuple[Any, ...]:
    return tuple(json.dumps(value) if isinstance(value, tuple) else value for value in rules)


def _rules(columns: Sequence[Any]) -> Rules:
    hidden, follow_links, exclude, any_name, raw, video = columns
    flags = (bool(any_name), bool(raw), bool(video))
    return Rules(bool(hidden), bool(follow_links), tuple(json.loads(exclude)), *flags)
