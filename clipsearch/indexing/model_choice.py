"""Choose the model of a run: the one asked for, or the index's own, or the default."""

from __future__ import annotations

from clipsearch.errors import DownloadFailed, ModelMismatch
from clipsearch.indexing.options import Options
from clipsearch.indexing.report import OnNote
from clipsearch.models import model as models
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model
from clipsearch.store.catalogue import Store

_DEFAULT_ARCHITECTURE = models.split_name(models.DEFAULT)[0]


def for_new_index(options: Options, on_note: OnNote) -> Model:
    """The model asked for, or the default; the bundled model if the default cannot be downloaded."""
    if _is_chosen(options):
        return resolve(options.model or _DEFAULT_ARCHITECTURE, options.weights)
    try:
        return resolve(models.DEFAULT)
    except DownloadFailed:
        about = models.about_mini()
        on_note(f"{models.DEFAULT} could not be downloaded; using the bundled model mini ({about})")
        return models.mini()


def of_index(store: Store, options: Options) -> Model:
    """The index's model. Raises `ModelMismatch` if another one was asked for."""
    model = Model.from_json(store.model)
    if not _is_chosen(options) or (options.weights is None and models.refers_to(options.model or "", model)):
        return model
    wanted = options.model or ""
    if options.weights is not None:
        chosen = resolve(wanted or _DEFAULT_ARCHITECTURE, options.weights)
        if chosen.fingerprint == model.fingerprint:
            return model
        wanted = chosen.name
    raise ModelMismatch(f"the index at {store.folder} was built with {model.name}, not {wanted}")


def for_rebuild(record: str | None, options: Options, on_note: OnNote) -> Model:
    """The model asked for, or that of the index's `record` with its current weights."""
    if record is None or _is_chosen(options):
        return for_new_index(options, on_note)
    return models.current_model(record)


def _is_chosen(options: Options) -> bool:
    return options.model is not None or options.weights is not None
