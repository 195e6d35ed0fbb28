"""Embed everything again beside the index, which is replaced at the end, and only if no photo of it would be lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from clipsearch.errors import BadRequest, FolderOffline, ImageUnusable, counted
from clipsearch.images.kinds import can_read_videos, is_video_name
from clipsearch.images.read import content_hash, read, video_hash
from clipsearch.indexing import model_choice, roots
from clipsearch.indexing.gone import Gone, prunable
from clipsearch.indexing.options import Options
from clipsearch.indexing.report import OnNote, OnProgress, Report
from clipsearch.indexing.run import Run
from clipsearch.paths import join, relative_to
from clipsearch.store.catalogue import Known, Root, Store


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
    pruned = {root: prunable(store.presence(root)) if options.prune else frozenset[int]() for root in store.roots()}
    for root, drives in pruned.items():
        _check_online(Gone(store, root, drives), "{} {}, and a rebuild would lose its photos")
    store.commit()
    with store.rebuilding(model.to_json(), model.dim) as rebuilt:
        report = Run(rebuilt, model, options, on_progress).update([(root, b"") for root in rebuilt.roots()])
        _check_nothing_is_lost(store, rebuilt, pruned, report)
        store.ocr_text.copy_to(rebuilt.database)
    return report


def _check_online(gone: Gone, sentence: str) -> None:
    for away in gone.away:
        raise FolderOffline(sentence.format(os.fsdecode(away.place), away.why))


def _check_nothing_is_lost(old: Store, new: Store, pruned: dict[Root, frozenset[int]], report: Report) -> None:
    """Raise unless each photo that only the old index has is gone, left out by now, or changed into no photo."""
    lost: list[bytes] = []
    for root, drives in pruned.items():
        gone = Gone(old, root, drives)
        lost += [
            join(root.path, known.path)
            for known in _only_in(old, new, root)
            if not gone(known.path, known.drive) and not _is_spoilt(old, root, known)
        ]
        _check_online(gone, "{} {}: it went away during the rebuild; the index stays as it was")
    if lost:
        raise BadRequest(
            f"{os.fsdecode(lost[0])} {_problem(lost[0], report)}, and a rebuild would lose"
            f" {counted(len(lost), 'photo')}; the index stays as it was"
        )


def _problem(path: bytes, report: Report) -> str:
    for place, why in [*report.skipped, *report.unreadable]:
        if relative_to(path, place) is not None:
            return f"cannot be read ({why})"
    if is_video_name(path) and not can_read_videos():
        return "cannot be read without the package for videos"
    return "was not there for a moment"


def _only_in(old: Store, new: Store, root: Root) -> Iterator[Known]:
    """The photos of a root that only the old index has."""
    for known in old.photos.known(root):
        if known.error is None and new.image_of(root, known.path) is None:
            yield known


def _is_spoilt(store: Store, root: Root, known: Known) -> bool:
    """Whether a file has other contents than it had, which are no photo.

    With the same contents it is a photo: what could not decode it was short of time, memory or a package.
    """
    path = join(root.path, known.path)
    try:
        now = video_hash(path) if is_video_name(path) else content_hash(read(path))
    except ImageUnusable:
        return False
    return store.find_image(now) is None
