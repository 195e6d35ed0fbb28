"""Bring an index up to date with its folders."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from clipsearch.errors import BadRequest, ClipsearchError, IndexOutdated, NoIndex
from clipsearch.images.patterns import check_patterns
from clipsearch.indexing import model_choice, roots
from clipsearch.indexing.options import Options
from clipsearch.indexing.rebuild import rebuild
from clipsearch.indexing.report import OnNote, OnProgress, Progress, Report
from clipsearch.indexing.run import Run
from clipsearch.models.encoders import check_names
from clipsearch.store.catalogue import CATALOGUE, Store
from clipsearch.threads import usable_cores

__all__ = ["OnNote", "OnProgress", "Options", "Progress", "Report", "update_index"]


def update_index(
    folder: Path,
    directories: Sequence[roots.Directory] = (),
    options: Options | None = None,
    on_progress: OnProgress | None = None,
    on_note: OnNote = lambda note: None,
) -> Report:
    """Index directories, or bring every known one up to date; makes the index if there is none.

    Raises a `ClipsearchError`: `BadRequest` for a directory that is not there, `ModelMismatch`, `IndexLocked`, and
    what resolving and loading a model raise. A photo that cannot be read is not an error: it is in `Report.skipped`.
    """
    options = options or Options()
    began = time.monotonic()
    check_names(options.device, options.precision)
    check_patterns(options.exclude or ())
    roots.check_folders(directories)
    is_new = not (folder / CATALOGUE).is_file()
    if is_new:
        store = _create(folder, directories, options, on_note)
        report = _fill(store, directories, options, on_progress, discard=True)
    else:
        report = _open_and_update(folder, directories, options, on_progress, on_note)
    report.seconds = time.monotonic() - began
    return report


def _create(
    folder: Path, directories: Sequence[roots.Directory], options: Options, on_note: OnNote, *, anew: bool = False
) -> Store:
    if not directories:
        raise NoIndex(f"there is no index at {folder} yet")
    model = model_choice.for_new_index(options, on_note)
    return Store.create(folder, model.to_json(), model.dim, anew=anew)


def _open_and_update(
    folder: Path,
    directories: Sequence[roots.Directory],
    options: Options,
    on_progress: OnProgress | None,
    on_note: OnNote,
) -> Report:
    try:
        store = Store.open(folder, write=True)
    except IndexOutdated as error:
        before = directories or [os.fsdecode(path) for path in error.folders]
        if not options.rebuild or not before:
            raise
        roots.check_folders(before)
        return _fill(_create(folder, before, options, on_note, anew=True), before, options, on_progress)
    if not options.rebuild:
        return _fill(store, directories, options, on_progress)
    with store:
        _check_reader(options, reads=store.ocr_text.enabled())
        report = rebuild(store, directories, options, on_progress, on_note)
        store.vectors.update()
        _read(store, options, report, on_progress)
    return report


def _fill(
    store: Store,
    directories: Sequence[roots.Directory],
    options: Options,
    on_progress: OnProgress | None,
    *,
    discard: bool = False,
) -> Report:
    """One run. With `discard`, a model that does not load leaves no index behind."""
    with store:
        try:
            _check_reader(options, reads=store.ocr_text.enabled())
            model = model_choice.of_index(store, options)
            targets = roots.targets(store, directories, options)
            store.commit()  # whatever happens next, the folders are known
            report = Run(store, model, options, on_progress).update(targets)
        except ClipsearchError:
            if discard and store.is_empty():
                store.discard()
            raise
        store.vectors.update()
        _read(store, options, report, on_progress)
    return report


def _check_reader(options: Options, *, reads: bool) -> None:
    """Raise `BadRequest` where photos are to be read and cannot be."""
    if reads if options.ocr is None else options.ocr:
        from clipsearch.models import ocr

        try:
            ocr.check()
        except BadRequest as error:
            if options.ocr:
                raise
            raise BadRequest(f"{error}, or give --no-ocr") from None


def _read(store: Store, options: Options, report: Report, on_progress: OnProgress | None) -> None:
    """Look through the photos for writing, if that is asked for now or was before."""
    if options.ocr is not None:
        store.ocr_text.enable(options.ocr)
        store.commit()
    if store.ocr_text.enabled():
        from clipsearch.indexing.ocr import read_photos

        read_photos(store, options.workers or usable_cores(), report, on_progress or (lambda progress: None))
