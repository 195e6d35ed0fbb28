"""Bring an index up to date with its folders.

First all folders are scanned and compared with the catalogue, which costs a `stat` a file. Then what is new is read,
decoded and embedded (`pipeline`); contents that are known are neither decoded nor embedded again. The catalogue is
committed every few seconds, so an interruption costs no more.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from clipsearch.arrays import Array
from clipsearch.errors import BadRequest, ClipsearchError, DownloadFailed, ModelMismatch, NoIndex
from clipsearch.images.sandbox import Contents, Decoders, usable_cores
from clipsearch.images.scan import FoundFile, Rules, Unreadable, leaves_out, scan
from clipsearch.indexing.pipeline import Pipeline, Stages
from clipsearch.models import model as models
from clipsearch.models.encoders import Encoder, TorchEncoder, check_names, in_numpy
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model
from clipsearch.paths import absolute, join, relative_to
from clipsearch.store import vectors
from clipsearch.store.catalogue import CATALOGUE, Known, Offline, Root, Store

COMMIT_SECONDS = 2.0
FEW = 16  # new photos, which are embedded in NumPy before torch would be there


@dataclass(frozen=True, slots=True)
class Options:
    """How to index. None leaves a choice to the index, or to clipsearch where there is none yet.

    `hidden`, `follow_links` and `exclude` change what the scans of the folders leave out, from now on (`scan.Rules`).
    `prune` forgets the photos of a folder that has nothing in it any more. `batch_size` is in images, `workers` in
    threads that decode and, on a CPU, embed.
    """

    model: str | None = None
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    hidden: bool | None = None
    follow_links: bool | None = None
    exclude: tuple[str, ...] | None = None
    retry: bool = False
    prune: bool = False
    rebuild: bool = False

    def rules(self, before: Rules) -> Rules:
        """What a scan leaves out, where it was `before`."""
        return Rules(
            before.hidden if self.hidden is None else self.hidden,
            before.follow_links if self.follow_links is None else self.follow_links,
            before.exclude if self.exclude is None else self.exclude,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files looked at (`stage` "scan", total unknown) or new files done (`stage` "index")."""

    stage: str
    done: int
    total: int | None


@dataclass(slots=True)
class Report:
    """What a run did, in files. `added` includes `duplicates`: new paths whose contents were there already."""

    model: str = ""
    added: int = 0
    duplicates: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    embedded: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)  # absolute path, reason
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)  # folders
    offline: list[bytes] = field(default_factory=list)  # folders that are not there now
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of each; threads add up

    @property
    def images_per_second(self) -> float:
        """Embedded images over the whole run's time."""
        return self.embedded / self.seconds if self.seconds else 0.0


OnProgress = Callable[[Progress], None]
OnNote = Callable[[str], None]


def update_index(
    folder: Path,
    directories: Sequence[str | os.PathLike[str]] = (),
    options: Options | None = None,
    on_progress: OnProgress | None = None,
    on_note: OnNote = lambda note: None,
) -> Report:
    """Index directories, or bring every known one up to date; makes the index if there is none.

    Raises a `ClipsearchError`: `BadRequest` for a directory that is not there, `ModelMismatch`, `IndexLocked`, and
    what resolving and loading a model raise. A photo that cannot be read is not an error: it is in `Report.skipped`.
    """
    options = options or Options()
    check_names(options.device, options.precision)
    began = time.monotonic()
    for directory in directories:
        if not os.path.isdir(os.path.expanduser(directory)):
            raise BadRequest(f"there is no folder {os.fspath(directory)}")
    fresh = not (folder / CATALOGUE).is_file()
    if fresh:
        if not directories:
            raise NoIndex(f"there is no index at {folder} yet")
        model = _choose_model(options, on_note)
        store = Store.create(folder, model.to_json(), model.dim)
    else:
        store = Store.open(folder, write=True)
    with store:
        try:
            if options.rebuild and not fresh:
                report = _rebuild(store, directories, options, on_progress, on_note)
            else:
                model = _model_of(store, options)
                targets = _targets(store, directories, options)
                store.commit()  # whatever happens next, the folders are known
                report = _Run(store, model, options, on_progress).update(targets)
        except ClipsearchError:
            if fresh and store.is_empty():
                store.discard()  # a model that does not load leaves no index behind
            raise
        vectors.refresh(store)
    report.seconds = time.monotonic() - began
    return report


def _rebuild(
    store: Store,
    directories: Sequence[str | os.PathLike[str]],
    options: Options,
    on_progress: OnProgress | None,
    on_note: OnNote,
) -> Report:
    """Embed everything anew beside the index, which is replaced at the end, and only if nothing of it would be lost."""
    model = _model_for_rebuild(store, options, on_note)
    _targets(store, directories, options)
    for root in store.roots():
        if store.offline(root):
            raise BadRequest(
                f"{os.fsdecode(root.path)} is not there, and a rebuild would lose its photos;"
                " bring it back, or let it go with: clipsearch forget DIR"
            )
    store.commit()
    with store.rebuilding(model.to_json(), model.dim) as rebuilt:
        report = _Run(rebuilt, model, options, on_progress).update([(root, b"") for root in rebuilt.roots()])
        for root in store.roots():
            if store.offline(root):
                raise BadRequest(f"{os.fsdecode(root.path)} went away during the rebuild; the index stays as it was")
        if report.unreadable:
            path, reason = report.unreadable[0]
            raise BadRequest(
                f"{os.fsdecode(path)} cannot be read ({reason}), and a rebuild would lose what is in it;"
                " the index stays as it was"
            )
    return report


# ------------------------------------------------------------------------------------------ model and folders


def _choose_model(options: Options, on_note: OnNote) -> Model:
    if options.model is not None or options.weights is not None:
        return resolve(options.model or models.split_name(models.DEFAULT)[0], options.weights)
    try:
        return resolve(models.DEFAULT)
    except DownloadFailed:
        upgrade = f"clipsearch index --rebuild --model {models.split_name(models.DEFAULT)[0]}"
        on_note(f"{models.DEFAULT} could not be downloaded, so the bundled model mini is used; later: {upgrade}")
        return models.mini()


def _model_of(store: Store, options: Options) -> Model:
    """The model of an index; it must be the one that was asked for, if one was."""
    model = Model.from_json(store.model)
    if options.model is not None or options.weights is not None:
        same = options.weights is None and models.means(options.model or "", model)
        if not same:
            wanted = options.model or ""
            if options.weights is not None:
                chosen = resolve(wanted or models.split_name(models.DEFAULT)[0], options.weights)
                same, wanted = chosen.fingerprint == model.fingerprint, chosen.name
            if not same:
                raise ModelMismatch(
                    f"the index at {store.folder} is of {model.name}, not of {wanted};"
                    " add --rebuild to embed its photos anew, or use another --index"
                )
    return model


def _model_for_rebuild(store: Store, options: Options, on_note: OnNote) -> Model:
    if options.model is not None or options.weights is not None:
        return _choose_model(options, on_note)
    return models.as_it_is_now(store.model)


def _targets(store: Store, directories: Iterable[str | os.PathLike[str]], options: Options) -> list[tuple[Root, bytes]]:
    """What to scan, as roots and folders in them. Directories that are in no root become roots."""
    paths = [absolute(directory) for directory in directories]
    if not paths:
        return [(store.set_rules(root, options.rules(root.rules)), b"") for root in store.roots()]
    for path in paths:
        around = _root_around(store, path)
        if around is None:
            for inner in store.roots():
                if relative_to(inner.path, path) is not None:
                    _check_absorbable(store, inner, path, options.rules(Rules()))
            store.add_root(path, options.rules(Rules()))
        elif around.path == path:
            store.set_rules(around, options.rules(around.rules))
        else:
            _check_inside(around, path, options)
    targets = []
    for path in paths:
        root = _root_around(store, path)
        assert root is not None
        below = relative_to(path, root.path)
        targets.append((root, below or b""))
    # A folder that lies in another of them is scanned with that.
    return [
        (root, below)
        for root, below in dict.fromkeys(targets)
        if not any(r == root and b != below and (not b or below.startswith(b + b"/")) for r, b in targets)
    ]


def _check_absorbable(store: Store, inner: Root, path: bytes, rules: Rules) -> None:
    """A folder may only take in a root when that loses none of the root's photos."""
    name = os.fsdecode(inner.path)
    offline = store.offline(inner)
    if offline:
        raise BadRequest(
            f"{name} {offline}, and {os.fsdecode(path)} would take it in without its photos;"
            " bring it back, or let it go with: clipsearch forget DIR"
        )
    if inner.rules != rules:
        raise BadRequest(
            f"{name} was indexed with other --hidden, --follow-links or --exclude than {os.fsdecode(path)} would be;"
            " give the same, or let it go with: clipsearch forget DIR"
        )


def _check_inside(root: Root, path: bytes, options: Options) -> None:
    """A folder in a root is scanned as the root is, or the next scan of the root would undo it."""
    if options.rules(root.rules) != root.rules:
        raise BadRequest(
            "--hidden, --follow-links and --exclude are kept for a whole indexed folder;"
            f" give them with {os.fsdecode(root.path)}"
        )
    if leaves_out(root.rules, relative_to(path, root.path) or b""):
        raise BadRequest(
            f"{os.fsdecode(path)} is left out of {os.fsdecode(root.path)}, which is indexed as a whole;"
            " use --hidden, or another --exclude, with that"
        )


def _root_around(store: Store, path: bytes) -> Root | None:
    return next((root for root in store.roots() if relative_to(path, root.path) is not None), None)


def relocate_root(store: Store, root: Root, folder: str | os.PathLike[str]) -> tuple[int, int]:
    """Record that a root which is not there any more is at `folder` now.

    Returns how many of its photos are there, and how many it has. Raises `BadRequest` where that cannot be meant.
    """
    path, old = absolute(folder), os.fsdecode(root.path)
    if not os.path.isdir(path):
        raise BadRequest(f"there is no folder {os.fspath(folder)}")
    if not store.offline(root):
        raise BadRequest(f"{old} is still there; to add another folder: clipsearch index {os.fspath(folder)}")
    for other in store.roots():
        inside = relative_to(path, other.path) is not None or relative_to(other.path, path) is not None
        if inside and other != root:
            raise BadRequest(f"{os.fspath(folder)} and {os.fsdecode(other.path)} would lie in each other")
    known = [photo.path for photo in store.known(root) if photo.error is None]
    there = sum(os.path.exists(join(path, photo)) for photo in known)
    if known and not there:
        raise BadRequest(f"none of the photos of {old} are in {os.fspath(folder)}")
    store.move_root(root, path)
    store.commit()
    return there, len(known)


# ------------------------------------------------------------------------------------------ one run


@dataclass(frozen=True, slots=True)
class _Pending:
    root: Root
    photo: FoundFile
    known: bool


class _Run:
    """One pass over some folders of one index."""

    def __init__(self, store: Store, model: Model, options: Options, on_progress: OnProgress | None) -> None:
        self.store = store
        self.model = model
        self.options = options
        self.on_progress = on_progress or (lambda progress: None)
        self.stages = Stages()
        self.report = Report(model=model.name, stages=self.stages.seconds)
        self.pending: list[_Pending] = []
        self.gone: list[tuple[Root, bytes]] = []
        self.gone_images: Counter[int | None] = Counter()  # those of the gone that no new path has taken over
        self.looked_at = 0

    def update(self, targets: list[tuple[Root, bytes]]) -> Report:
        for root, below in targets:
            offline = self.store.offline(root)
            if offline and not (self.options.prune and offline is Offline.EMPTY):
                self.report.offline.append(root.path)
            else:
                with self.stages("scan"):
                    self._compare(root, below)
        self.gone_images = Counter(self.store.image_of(root, path) for root, path in self.gone)
        if self.pending:
            self._index_pending()
        by_root: dict[Root, list[bytes]] = {}
        for root, path in self.gone:
            by_root.setdefault(root, []).append(path)
        with self.stages("store"):
            for root, paths in by_root.items():
                self.store.remove_photos(root, paths)
            self.store.prune()
            self.store.commit()
        self.report.removed = len(self.gone) - self.report.moved
        return self.report

    # -------------------------------------------------------------------------------- scan and compare

    def _compare(self, root: Root, below: bytes) -> None:
        """Sort the files of a root into unchanged, pending and gone, by merging two sorted sequences."""
        unreadable: list[bytes] = []
        for found, known in _merge(self._scan(root, below, unreadable), self.store.known(root, below)):
            if found is None:
                assert known is not None
                if not any(relative_to(known.path, folder) is not None or not folder for folder in unreadable):
                    self.gone.append((root, known.path))
            elif known is None or (found.size, found.mtime_ns) != (known.size, known.mtime_ns):
                self.pending.append(_Pending(root, found, known is not None))
            elif known.error is None:
                self.report.unchanged += 1
            elif self.options.retry:
                self.pending.append(_Pending(root, found, True))
            else:
                self.report.skipped.append((join(root.path, found.path), known.error))

    def _scan(self, root: Root, below: bytes, unreadable: list[bytes]) -> Iterator[FoundFile]:
        for item in scan(root.path, root.rules, below):
            if isinstance(item, Unreadable):
                unreadable.append(item.path)
                self.report.unreadable.append((join(root.path, item.path), item.reason))
                continue
            self.looked_at += 1
            if self.looked_at % 256 == 0:
                self.on_progress(Progress("scan", self.looked_at, None))
            yield item

    # -------------------------------------------------------------------------------- embed and store

    def _index_pending(self) -> None:
        options, total = self.options, len(self.pending)
        committed = time.monotonic()
        workers = options.workers or usable_cores()
        decoders = Decoders(self.model.preprocess, workers)
        read = functools.partial(self._read, decoders)
        pipeline = Pipeline(self._encoder, read, self._is_known, self.stages, workers, options.batch_size)
        with pipeline, decoders:  # when all ends early, the decoders end first and nothing waits for them
            for done, (item, contents, row) in enumerate(pipeline.run(self.pending), 1):
                with self.stages("store"):
                    self._keep(item, contents, row)
                    if time.monotonic() - committed > COMMIT_SECONDS:
                        self.store.commit()
                        committed = time.monotonic()
                self.on_progress(Progress("index", done, total))

    def _encoder(self) -> Encoder:
        options = self.options
        if len(self.pending) <= FEW and options.device in ("auto", "cpu") and options.precision in ("auto", "fp32"):
            cold = in_numpy(self.model, texts=False, images=True)
            if cold is not None:
                return cold
        return TorchEncoder(self.model, options.device, options.precision, threads=1)

    def _is_known(self, content: bytes) -> bool:
        return self.store.find_image(content) is not None

    def _read(self, decoders: Decoders, item: _Pending) -> Contents:
        if item.photo.error is not None:
            return Contents(error=item.photo.error)
        return decoders.read(join(item.root.path, item.photo.path), self.store.has_image)

    def _keep(self, item: _Pending, contents: Contents, row: Array | None) -> None:
        if contents.error is not None:
            # What was not even read, as on a drive that went away, is looked at again by the next run.
            photo = item.photo._replace(mtime_ns=-1) if contents.unread else item.photo
            self._skip(replace(item, photo=photo), contents.error)
            return
        image_id = self.store.find_image(contents.content)
        fresh = image_id is None
        if image_id is None:
            if contents.metadata is None or row is None or not np.isfinite(row).all():
                self._skip(item, "the model gives no embedding for it")
                return
            image_id = self.store.add_image(contents.content, contents.metadata, row)
            self.report.embedded += 1
        self._record(item, image_id, fresh=fresh)

    def _record(self, item: _Pending, image_id: int, *, fresh: bool) -> None:
        if item.known:
            self.report.updated += 1
        elif self.gone_images[image_id] > 0:
            self.gone_images[image_id] -= 1
            self.report.moved += 1
        else:
            self.report.added += 1
            self.report.duplicates += not fresh
        self.store.put_photo(item.root, item.photo, image_id, None)

    def _skip(self, item: _Pending, reason: str) -> None:
        self.report.skipped.append((join(item.root.path, item.photo.path), reason))
        self.store.put_photo(item.root, item.photo, None, reason)


def _merge(left: Iterable[FoundFile], right: Iterable[Known]) -> Iterator[tuple[FoundFile | None, Known | None]]:
    """Pair two sequences that are sorted by path; None stands for what only one of them has."""
    found, known = iter(left), iter(right)
    a, b = next(found, None), next(known, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.path < b.path):
            yield a, None
            a = next(found, None)
        elif a is None or b.path < a.path:
            yield None, b
            b = next(known, None)
        else:
            yield a, b
            a, b = next(found, None), next(known, None)
