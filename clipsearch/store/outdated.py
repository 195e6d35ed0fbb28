"""What an index of an older format passes on to the one that replaces it: its folders and settings."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

from clipsearch.errors import IndexUnusable
from clipsearch.images.rules import Rules
from clipsearch.paths import CATALOGUE
from clipsearch.store.database import SQLITE_ERRORS, Database, explained
from clipsearch.store.drives import Away, Drives
from clipsearch.store.folders import Folders
from clipsearch.store.photo import Root

# Counters go on: no segment or group has two meanings.
SETTINGS = ("generation", "groups", "reads", "captions")
_ANY_MODEL = "{}"  # the record of the face model of no version: the next update looks for faces again


class Outdated(NamedTuple):
    """An index of an older format. `away` are its offline drives; `model` is None if its settings cannot be read."""

    roots: list[Root]
    model: str | None
    settings: dict[str, Any]
    away: list[Away]

    def copy_to(self, database: Database) -> None:
        """Record the folders and settings in an empty catalogue."""
        for key, value in self.settings.items():
            database.set_meta(key, value)
        folders = Folders(database, Drives(database))
        for root in self.roots:
            folders.add(root.path, root.rules)


def read_outdated(folder: Path) -> Outdated:
    """Raises `IndexUnusable`. What this version cannot read is logged, and replaced by the defaults."""
    with explained(folder), contextlib.closing(Database(folder, folder / CATALOGUE, "ro")) as database:
        database.begin_snapshot()
        drives = Drives(database)
        try:
            roots = Folders(database, drives).all()
            model = str(database.meta("model"))
            found = {key: database.meta(key) for key in (*SETTINGS, "faces")}
        except (*SQLITE_ERRORS, IndexUnusable):
            logging.getLogger("clipsearch").info("the settings of the older index cannot be read; using the defaults")
            return Outdated([Root(0, path, Rules()) for path in database.folders()], None, {}, [])
        settings = {key: value for key, value in found.items() if value is not None}
        if "faces" in settings:
            settings["faces"] = _ANY_MODEL
        away: list[Away] = []
        with contextlib.suppress(*SQLITE_ERRORS, IndexUnusable):
            away = [one for root in roots for one in drives.presence(root, certain=True).away]
        return Outdated(roots, model, settings, away)
