"""Bring an index up to date with its folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipsearch.errors import BadArgument, BadRequest, ClipsearchError, IndexOutdated, NoIndex
from clipsearch.images.patterns import check_patterns
from clipsearch.indexing import model_choice, roots
from clipsearch.indexing.options import Options
from clipsearch.indexing.rebuild import rebuild, replace_outdated
from clipsearch.indexing.report import OnNote, OnProgress, Progress, Report
from clipsearch.indexing.run import Run
from clipsearch.models.describe import Vlm
from clipsearch.models.encoders import check_names
from clipsearch.store.captions import Captioning
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
    """Index directories, or bring all indexed folders up to date. Creates the index if there is none.

    A photo that cannot be read is not an error; it is in `Report.skipped`. Raises a `ClipsearchError`: `BadRequest` for
    a directory that does not exist, `ModelMismatch`, `IndexLocked`, and what loading the model raises.
    """
    options, on_progress = options or Options(), on_progress or (lambda progress: None)
    began = time.monotonic()
    check_names(options.device, options.precision)
    check_patterns(options.exclude or ())
    roots.check_folders(directories)
    is_new = not (folder / CATALOGUE).is_file()
    is_outdated = False
    try:
        store = _create(folder, directories, options, on_note) if is_new else Store.open(folder, write=True)
        rebuilds = options.rebuild and not is_new
    except IndexOutdated as error:
        if not options.rebuild or not (directories or error.folders):
            raise
        store, rebuilds = replace_outdated(folder, directories, options, on_note), False
        is_outdated = True

    def show(progress: Progress) -> None:
        store.show_progress(progress.done, progress.total or 0)
        on_progress(progress)

    with store:
        try:
            _check_ocr(options, store.ocr_text.enabled())
            captioner = _captioner(options, store.captions.setting())
            if rebuilds:
                report = rebuild(store, directories, options, show, on_note)
            else:
                model = model_choice.of_index(store, options)
                targets = roots.targets(store, directories, options)
                if is_outdated:
                    targets = [(root, b"") for root in store.roots()]
                store.commit()  # remember the folders even if the run fails
                report = Run(store, model, options, show).update(targets)
        except ClipsearchError:
            if is_new and store.is_empty():  # the model did not load
                store.discard()
            raise
        store.vectors.update()
        _read_text(store, options, report, show)
        _find_faces(store, options, report, show)
        _caption(store, captioner, options, report, show)
    report.is_first = is_new
    report.seconds = time.monotonic() - began
    return report


def _create(folder: Path, directories: Sequence[roots.Directory], options: Options, on_note: OnNote) -> Store:
    if not directories:
        raise NoIndex(f"there is no index at {folder} yet")
    model = model_choice.for_new_index(options, on_note)
    return Store.create(folder, model.to_json(), model.dim)


def _check_ocr(options: Options, was_read: bool) -> None:
    """Raise `BadRequest` if photos are to be read and the package is missing."""
    if was_read if options.ocr is None else options.ocr:
        from clipsearch.models import ocr

        try:
            ocr.check()
        except BadRequest as error:
            if options.ocr:
                raise
            raise BadRequest(f"{error}, or give --no-ocr") from None


def _captioner(options: Options, before: Captioning | None) -> Vlm | None:
    """The model that captions photos in this run, or None. Raises a `ClipsearchError` if a named one cannot caption.

    One that an earlier run named is checked when there is something to caption, and then `Report.captions_stopped`.
    """
    vlm = options.vlm or Vlm()
    is_named = vlm.model is not None or vlm.endpoint is not None
    captions = options.captions if options.captions is not None else before is not None
    if is_named and not captions:
        raise BadArgument("vlm_model" if vlm.model else "endpoint", "has no effect without captions")
    if not captions:
        return None
    if before and not is_named:
        vlm = replace(vlm, model=before.model, endpoint=before.endpoint)
    vlm = replace(vlm, device=options.device)
    if options.captions or is_named:
        vlm.check_captioner()
    return vlm


def _caption(store: Store, captioner: Vlm | None, options: Options, report: Report, on_progress: OnProgress) -> None:
    setting = None if captioner is None else Captioning(captioner.captioner_name, captioner.endpoint)
    if setting != store.captions.setting():
        store.captions.set_setting(setting)
        store.commit()
    if captioner is not None:
        from clipsearch.indexing.captions import caption_photos

        caption_photos(store, captioner, report, on_progress)


def _read_text(store: Store, options: Options, report: Report, on_progress: OnProgress) -> None:
    if options.ocr is not None:
        store.ocr_text.enable(options.ocr)
        store.commit()
    if store.ocr_text.enabled():
        from clipsearch.indexing.passes import read_photos

        read_photos(store, options.workers or usable_cores(), report, on_progress)


def _find_faces(store: Store, options: Options, report: Report, on_progress: OnProgress) -> None:
    if options.faces is False:
        store.delete_faces()
    elif options.faces or store.faces.model() is not None:
        from clipsearch.indexing.passes import find_faces
        from clipsearch.indexing.people import group_faces
        from clipsearch.models.faces import record

        store.faces.enable(record())
        store.commit()
        find_faces(store, options.workers or usable_cores(), report, on_progress)
        group_faces(store)
