"""One run over some folders: compare them with the index, then embed and store what is new.

Comparing costs one `stat` per file. New and changed files are then read; those whose contents are indexed already are
neither decoded nor embedded.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.images.dates import name_time
from clipsearch.images.facts import Facts, combined, dated
from clipsearch.images.found_file import FoundFile, has_changed, same_times
from clipsearch.images.kinds import is_unsupported, is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.patterns import anchored
from clipsearch.images.read import frame_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.images.scan import BROKEN_LINK, Exclusions, Unreadable, scan
from clipsearch.images.siblings import STALE_TOKEN, sidecar_facts
from clipsearch.indexing.drives import DeletionCheck, DriveRecorder, Mount, prunable_drives
from clipsearch.indexing.options import EncoderCache, Options
from clipsearch.indexing.pipeline import Pipeline, Stages, commit_regularly
from clipsearch.indexing.read_file import Contents, read_file
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.indexing.roots import Target
from clipsearch.models.encoders import Encoder, numpy_encoder
from clipsearch.models.engines import ChoosingEncoder, encoder_for
from clipsearch.models.model import Model
from clipsearch.paths import join, relative_to
from clipsearch.store.catalogue import Known, Root, Store
from clipsearch.threads import usable_cores

FEW = 4  # new photos that NumPy embeds before a session of ONNX Runtime has been created


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file to read, and its record in the index."""

    root: Root
    found: FoundFile
    known: Known | None
    mount: Mount

    @property
    def path(self) -> bytes:
        return join(self.root.path, self.found.path)

    @property
    def size(self) -> int:
        return self.found.size

    @property
    def is_unchanged(self) -> bool:
        """Whether it has the recorded size and modification time."""
        return self.known is not None and same_times(self.found, self.known)


class _Missing(NamedTuple):
    """An indexed file that the scan did not find, or found as a broken `link`."""

    known: Known
    image: int | None
    link: _Pending | None = None


class Run:
    """One run over some folders of an index."""

    def __init__(self, store: Store, model: Model, options: Options, on_progress: OnProgress) -> None:
        self._store, self._model, self._options, self._on_progress = store, model, options, on_progress
        self._encoders = options.encoders or EncoderCache()
        self._used: Encoder | None = None
        self._stages = Stages()
        self._report = Report(model=model.name, stages=self._stages.seconds)
        self._pending: list[_Pending] = []
        self._missing: dict[Root, list[_Missing]] = {}
        self._missing_images: Counter[int | None] = Counter()  # images of missing files, less those found elsewhere
        self._moved_images: Counter[int | None] = Counter()
        self._drives: dict[Root, DriveRecorder] = {}
        self._pruned: dict[Root, frozenset[int]] = {}
        self._scanned = 0
        self._workers = options.workers or usable_cores()

    def update(self, targets: list[Target]) -> Report:
        """Bring the targets up to date. Raises what loading and running the model raise."""
        self._scan_all(targets)
        if self._pending:
            self._index_pending()
        self._remove_deleted()
        self._report.skipped.sort()
        self._report.partial.sort()
        self._report.skipped_before.sort()
        return self._report

    # -------------------------------------------------------------------------------- scan and compare

    def _scan_all(self, targets: list[Target]) -> None:
        matched: dict[bytes, set[str]] = {}
        is_complete = bool(targets)
        for root, below in targets:
            presence = self._store.presence(root, certain=True)
            if self._options.prune:
                self._pruned.setdefault(root, prunable_drives(presence))
            if presence.whole is not None and not presence.whole.can_be_pruned:
                self._report.offline.append((root.path, presence.whole))
                is_complete = False
                continue
            exclusions = Exclusions(root.rules, root.path)
            drives = self._drives.setdefault(root, DriveRecorder(self._store, root))
            before = self._scanned
            with self._stages("scan"):
                self._compare(root, below, exclusions, drives)
            with self._stages("store"):
                drives.save()
                if not below:
                    self._store.folders.set_left_out(root, exclusions.left_out)
            self._report.left_out.add(exclusions.left_out)
            if self._scanned == before and not below and not self._report.unreadable:
                self._report.empty.append(root.path)
            matched.setdefault(root.path, set()).update(exclusions.matched)
            is_complete = is_complete and not below and not self._store.presence(root).away
        for root, missing in self._missing.items():
            deletions = self._deletions(root)
            self._missing_images.update(one.image for one in missing if deletions.may_be_deleted(one.known.drive))
        self._report_unmatched(matched, is_complete and not self._report.unreadable)

    def _report_unmatched(self, matched: Mapping[bytes, set[str]], is_complete: bool) -> None:
        """Report exclude patterns for paths outside all roots and, after a complete scan, those without a match."""
        roots = {root.path: root.rules.exclude for root in self._store.roots()}
        for given in self._options.exclude or ():
            patterns = {root: anchored(given, root, roots, exclude) for root, exclude in roots.items()}
            is_outside = all(pattern is None for pattern in patterns.values())
            if is_outside or (is_complete and not any(patterns[root] in found for root, found in matched.items())):
                self._report.unmatched.append(given)

    def _compare(self, root: Root, below: bytes, exclusions: Exclusions, drives: DriveRecorder) -> None:
        """Sort the files of a root into unchanged, pending and missing."""
        unreadable: list[bytes] = []
        missing = self._missing.setdefault(root, [])
        found_files = self._scan(root, below, exclusions, unreadable)
        for found, known in _merge(found_files, self._store.photos.known(root, below)):
            if found is None:
                assert known is not None
                if is_unsupported(known.path) and exclusions.rule_for(known.path) is None:
                    self._report.unchanged += known.error is None  # not checked: scans leave videos out
                elif not any(relative_to(known.path, folder) is not None or not folder for folder in unreadable):
                    missing.append(_Missing(known, self._store.image_of(root, known.path)))
            elif (mount := drives.mount_of(found)) is None:
                self._report.unreadable.append((join(root.path, found.path), "its drive was unmounted"))
            elif known is not None and known.error is None and found.error == BROKEN_LINK:
                link = _Pending(root, found, known, mount)
                missing.append(_Missing(known, self._store.image_of(root, known.path), link))
            elif known is None or self._may_have_changed(found, known):
                self._pending.append(_Pending(root, found, known, mount))
            else:
                drives.confirm(known, mount)
                if known.error is None:
                    self._report.unchanged += 1
                else:
                    self._report.skipped_before.append((join(root.path, found.path), known.error))

    def _may_have_changed(self, found: FoundFile, known: Known) -> bool:
        return (
            has_changed(found, known)
            or found.sidecar_token != known.sidecar_token
            or self._options.look_again
            or (self._options.retry and known.error is not None)
        )

    def _scan(self, root: Root, below: bytes, exclusions: Exclusions, unreadable: list[bytes]) -> Iterator[FoundFile]:
        for item in scan(root.path, root.rules, below, exclusions):
            if isinstance(item, Unreadable):
                unreadable.append(item.path)
                self._report.unreadable.append((join(root.path, item.path), item.reason))
                continue
            self._scanned += 1
            if self._scanned % 256 == 0:
                self._on_progress(Progress("scan", self._scanned, None))
            yield item

    # -------------------------------------------------------------------------------- embed and store

    def _index_pending(self) -> None:
        if self._options.ray is not None:
            self._index_remotely(self._options)
            return
        decoders = Decoders(self._workers, self._model.preprocess)
        pipeline = Pipeline(
            self._encoder,
            functools.partial(self._read, decoders),
            lambda content: self._store.find_image(content) is not None,
            self._stages,
            self._workers,
            self._options.batch_size,
        )
        with pipeline, decoders:  # on an error, end the decoders first so that no thread waits for them
            self._store_all(pipeline.run(self._pending))
        if self._used is not None:
            self._report.engine = self._used.engine  # chosen on the first photos
            self._report.comparison = self._used.comparison if isinstance(self._used, ChoosingEncoder) else None

    def _index_remotely(self, options: Options) -> None:
        from clipsearch.indexing.remote import Remote

        broken = [item for item in self._pending if item.found.error is not None]
        sound = [item for item in self._pending if item.found.error is None]
        with Remote[_Pending](self._model, options, self._stages, self._store.images.contents()) as remote:
            skipped = ((item, Contents(error=item.found.error), None) for item in broken)
            self._store_all(itertools.chain(skipped, remote.run(sound)))
            self._report.engine, self._report.disagreed = remote.engine, remote.disagreed

    def _read(self, decoders: Decoders, item: _Pending) -> Contents:
        if item.found.error is not None:
            return Contents(error=item.found.error)
        return read_file(item.path, self._store.images.is_known, decoders)

    def _encoder(self) -> Encoder:
        many = len(self._pending) > FEW or any(is_video_name(item.found.path) for item in self._pending)
        self._used = self._encoders.get(self._model, many, functools.partial(self._load, many))
        return self._used

    def _load(self, many: bool) -> Encoder:
        """The encoder that finishes soonest: NumPy for a few photos."""
        device, precision = self._options.device, self._options.precision
        if not many and device in ("auto", "cpu") and precision in ("auto", "fp32"):
            encoder = numpy_encoder(self._model, texts=False, images=True)
            if encoder is not None:
                return encoder
        disagreed = self._report.disagreed  # bound here: a cached encoder must not keep the run in memory
        return encoder_for(
            self._model, device, precision, self._workers, lambda engine, cosine: disagreed.append((engine, cosine))
        )

    def _store_all(self, results: Iterable[tuple[_Pending, Contents, Array | None] | None]) -> None:
        for done, result in enumerate(commit_regularly(results, self._commit), 1):
            with self._stages("store"):
                self._store_file(*result)
            self._on_progress(Progress("index", done, len(self._pending)))

    def _commit(self) -> None:
        with self._stages("store"):
            self._store.commit()

    def _store_file(self, item: _Pending, contents: Contents, rows: Array | None) -> None:
        if contents.error is not None:
            self._store_failure(item, contents.error, contents.unread)
            return
        image_id = self._store.find_image(contents.content)
        is_new = image_id is None
        if image_id is None:
            if contents.metadata is None or rows is None or not np.isfinite(rows).all():
                self._skip(item, "the model returned no valid embedding")
                return
            image_id = self._add(contents, contents.metadata, rows)
            self._report.embedded += len(rows)
        self._count(item, image_id, is_new)
        if contents.is_partial:
            self._report.partial.append(item.path)
        sidecars = sidecar_facts(item.path, item.found.sidecars)
        self._report.sidecars_ignored += sidecars.ignored
        if sidecars.unread:
            item = replace(item, found=item.found._replace(sidecar_token=STALE_TOKEN))
        others = combined([sidecars.takeout, dated(name_time(item.path), "name")])
        self._put(item, image_id, None, sidecars.facts, others)

    def _add(self, contents: Contents, metadata: Metadata, rows: Array) -> int:
        """Add a photo and its parts, or the frames of a video; the frame closest to their mean represents the video."""
        best = int((rows @ rows.mean(0)).argmax()) if contents.times else 0
        image_id = self._store.images.add(contents.content, metadata, rows[best], contents.hash)
        if contents.times:
            order = [best, *(n for n in range(len(rows)) if n != best)]
            frames = ((contents.times[n], frame_hash(contents.content, contents.times[n]), rows[n]) for n in order)
            self._store.images.add_frames(image_id, metadata, frames)
        elif len(rows) > 1:
            self._store.images.add_parts(image_id, contents.content, metadata, rows[1:])
        return image_id

    def _store_failure(self, item: _Pending, error: str, unread: bool) -> None:
        if not unread:
            self._skip(item, error)
        elif item.known is not None and item.known.error is None:
            self._report.unreadable.append((item.path, error))  # keep what the index has
        else:
            # An impossible time makes the next run try again: the drive may only have been away.
            self._skip(replace(item, found=item.found._replace(mtime_ns=-1)), error)

    def _count(self, item: _Pending, image_id: int, is_new: bool) -> None:
        if item.known is not None:
            same = item.is_unchanged and self._store.image_of(item.root, item.found.path) == image_id
            self._report.unchanged += same
            self._report.updated += not same
        elif self._missing_images[image_id] > 0:
            self._missing_images[image_id] -= 1
            self._moved_images[image_id] += 1
            self._report.moved += 1
        else:
            self._report.added += 1
            self._report.duplicates += not is_new

    def _skip(self, item: _Pending, reason: str) -> None:
        is_old = item.is_unchanged and item.known is not None and item.known.error == reason
        skipped = self._report.skipped_before if is_old and not self._options.retry else self._report.skipped
        skipped.append((item.path, reason))
        self._put(item, None, reason)

    def _put(
        self,
        item: _Pending,
        image_id: int | None,
        error: str | None,
        sidecar: Facts = Facts(),  # noqa: B008  # immutable
        others: Facts = Facts(),  # noqa: B008
    ) -> None:
        drive = self._drives[item.root].drive_at(item.mount)
        self._store.photos.put(item.root, item.found, image_id, error, sidecar, drive.id, others)

    # -------------------------------------------------------------------------------- remove

    def _remove_deleted(self) -> None:
        removed, elsewhere = 0, Counter[int | None]()
        with self._stages("store"):
            for root, missing in self._missing.items():
                deletions = self._deletions(root)
                deleted = [
                    one
                    for one in missing
                    if deletions.is_deleted(one.known.path, one.known.drive, moved=one.image in self._moved_images)
                ]
                files = {one.known.path: one.image for one in deleted if one.link is None}
                self._store.photos.remove(root, files)
                removed += len(files)
                others = {path: other for path in files if (other := deletions.elsewhere(path)) is not None}
                elsewhere.update(files[path] for path, other in others.items() if other not in files)
                for one in deleted:
                    if one.link is not None:
                        self._skip(one.link, BROKEN_LINK)
                self._report.offline += [(one.place, one.why) for one in deletions.offline]
            self._store.prune()
            self._store.commit()
        self._report.moved += (elsewhere - self._moved_images).total()  # to paths that were indexed already
        self._report.removed = max(0, removed - self._report.moved)
        offline = [place for place, _ in self._report.offline]
        self._report.unreadable = [  # the folders of an offline drive are not named one by one
            (path, why)
            for path, why in self._report.unreadable
            if not any(relative_to(path, place) is not None for place in offline)
        ]

    def _deletions(self, root: Root) -> DeletionCheck:
        return DeletionCheck(self._store, root, self._pruned.get(root, frozenset()))


def _merge(left: Iterable[FoundFile], right: Iterable[Known]) -> Iterator[tuple[FoundFile | None, Known | None]]:
    """Pair two sequences that are sorted by path; None if only one has the path."""
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
