"""Embed everything again into a second catalogue, which replaces the index only if no photo would be lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipsearch.errors import BadRequest, FolderOffline, ImageUnusable, counted
from clipsearch.extras import missing
from clipsearch.images.kinds import extra_for, is_video_name
from clipsearch.images.read import content_hash, read, video_hash
from clipsearch.indexing import model_choice, roots
from clipsearch.indexing.drives import DeletionCheck, prunable_drives
from clipsearch.indexing.options import Options
from clipsearch.indexing.report import OnNote, OnProgress, Report
from clipsearch.indexing.run import Run
from clipsearch.paths import join, relative_to
from clipsearch.store.catalogue import Known, Root, Store
from clipsearch.store.outdated import read_outdated


def rebuild(
    store: Store,
    directories: Sequence[roots.Directory],
    options: Options,
    on_progress: OnProgress,
    on_note: OnNote,
) -> Report:
    """Embed the photos of all roots again, and index `directories`.

    Raises `FolderOffline` or `BadRequest` if photos would be lost; the index is then unchanged.
    """
    model = model_choice.for_rebuild(store.model, options, on_note)
    roots.targets(store, directories, options)
    pruned = {
        root: prunable_drives(store.presence(root, certain=True)) if options.prune else frozenset[int]()
        for root in store.roots()
    }
    for root, drives in pruned.items():
        _check_online(DeletionCheck(store, root, drives), "{} {}; a rebuild now would lose its photos")
    store.commit()
    with store.rebuilding(model.to_json(), model.dim) as rebuilt:
        report = Run(rebuilt, model, options, on_progress).update([(root, b"") for root in rebuilt.roots()])
        _check_nothing_is_lost(store, rebuilt, pruned, report)
        store.ocr_text.copy_to(rebuilt.database)
        store.faces.copy_to(rebuilt.database)
        store.captions.copy_to(rebuilt.database)
    return report


def replace_outdated(folder: Path, directories: Sequence[roots.Directory], options: Options, on_note: OnNote) -> Store:
    """Replace an index of an older format by an empty one with its folders and settings, which updates then fill.

    Raises `BadRequest` if photos would be lost; the index is then unchanged. Indexed folders that are missing stay
    recorded if `directories` names the others.
    """
    old = read_outdated(folder)
    if not directories:
        roots.check_folders(os.fsdecode(root.path) for root in old.roots)
    missing = {root.path for root in old.roots if directories and not os.path.isdir(root.path)}
    for away in old.away:
        if away.place not in missing and not options.prune:
            raise BadRequest(
                f"{os.fsdecode(away.place)} {away.why}; reconnect it, or add --prune to rebuild without its photos"
            )
    model = model_choice.for_rebuild(old.model, options, on_note)
    return Store.create(folder, model.to_json(), model.dim, replace=old)


def _check_online(deletions: DeletionCheck, message: str) -> None:
    for away in deletions.offline:
        raise FolderOffline(message.format(os.fsdecode(away.place), away.why))


def _check_nothing_is_lost(old: Store, new: Store, pruned: dict[Root, frozenset[int]], report: Report) -> None:
    """Raise unless each photo that only the old index has was deleted, excluded, or overwritten by something else."""
    lost: list[bytes] = []
    for root, drives in pruned.items():
        deletions = DeletionCheck(old, root, drives)
        lost += [
            join(root.path, known.path)
            for known in old.photos.known(root)
            if known.error is None
            and new.image_of(root, known.path) is None
            and not deletions.is_deleted(known.path, known.drive)
            and not _is_overwritten(old, root, known)
        ]
        _check_online(deletions, "{} {}: it went away during the rebuild; the index is unchanged")
    if lost:
        raise BadRequest(
            f"{os.fsdecode(lost[0])} {_problem(lost[0], report)}; the rebuild would lose {counted(len(lost), 'photo')},"
            " so the index is unchanged"
        )


def _problem(path: bytes, report: Report) -> str:
    for place, why in [*report.skipped, *report.unreadable]:
        if relative_to(path, place) is not None:
            return f"cannot be read ({why})"
    if extra := extra_for(path):
        return f"cannot be read ({missing(extra)})"
    return "was missing during the rebuild"


def _is_overwritten(store: Store, root: Root, known: Known) -> bool:
    """Whether a file has new contents, which are not a photo.

    If the contents are the same, decoding failed for lack of time, memory or a package.
    """
    path = join(root.path, known.path)
    try:
        now = video_hash(path) if is_video_name(path) else content_hash(read(path))
    except ImageUnusable:
        return False
    return store.find_image(now) is None
