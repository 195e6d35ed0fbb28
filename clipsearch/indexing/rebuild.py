"""Embed everything anew beside the index, which is replaced at the end, and only if nothing of it would be lost."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.errors import BadRequest, FolderOffline
from clipsearch.indexing import model_choice, roots
from clipsearch.indexing.options import Options
from clipsearch.indexing.report import OnNote, OnProgress, Report
from clipsearch.indexing.run import Run
from clipsearch.store import texts
from clipsearch.store.catalogue import Store


def rebuild(
    store: Store,
    directories: Sequence[roots.Directory],
    options: Options,
    on_progress: OnProgress | None,
    on_note: OnNote,
) -> Report:
    """Embed the photos of all roots, with those of `directories`, again.

    Raises `FolderOffline` or `BadRequest`, and leaves the index as it was, when photos would be lost.
    """
    model = model_choice.for_rebuild(store, options, on_note)
    roots.targets(store, directories, options)
    _check_online(store, "{} {}, and a rebuild would lose its photos")
    store.commit()
    with store.rebuilding(model.to_json(), model.dim) as rebuilt:
        report = Run(rebuilt, model, options, on_progress).update([(root, b"") for root in rebuilt.roots()])
        _check_online(store, "{} {}: it went away during the rebuild; the index stays as it was")
        if report.unreadable:
            path, reason = report.unreadable[0]
            raise BadRequest(
                f"{os.fsdecode(path)} cannot be read ({reason}), and a rebuild would lose what is in it;"
                " the index stays as it was"
            )
        texts.copy(store, rebuilt)
    return report


def _check_online(store: Store, sentence: str) -> None:
    for root in store.roots():
        offline = store.offline(root)
        if offline:
            raise FolderOffline(sentence.format(os.fsdecode(root.path), offline))
