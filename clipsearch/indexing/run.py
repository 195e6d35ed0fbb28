"""One pass over some folders of one index: compare, embed, store.

First all folders are scanned and compared with the catalogue, which costs a `stat` a file. Then what is new is read,
decoded and embedded; contents that are known are neither decoded nor embedded again. The catalogue is committed every
few seconds, so an interruption costs no more.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from clipsearch.arrays import Array
from clipsearch.images.kinds import can_read_videos, is_video_name
from clipsearch.images.metadata import Metadata
from clipsearch.images.patterns import anchored
from clipsearch.images.read import frame_hash
from clipsearch.images.sandbox import Decoders
from clipsearch.images.scan import BROKEN_LINK, Exclusions, FoundFile, Unreadable, has_changed, same_times, scan
from clipsearch.images.sidecar import STALE, sidecar_keywords
from clipsearch.indexing.contents import Contents, contents_of
from clipsearch.indexing.gone import Gone, prunable
from clipsearch.indexing.kept import KeptEncoder
from clipsearch.indexing.options import Options
from clipsearch.indexing.pipeline import Pipeline, Stages
from clipsearch.indexing.places import Place, Places
from clipsearch.indexing.report import OnProgress, Progress, Report
from clipsearch.indexing.roots import Target
from clipsearch.models.encoders import Encoder, numpy_encoder
from clipsearch.models.model import Model
from clipsearch.models.precision import encoder_for
from clipsearch.paths import join, relative_to
from clipsearch.store.catalogue import Known, Root, Store
from clipsearch.threads import usable_cores

COMMIT_SECONDS = 2.0
FEW = 16  # new photos, which NumPy embeds before torch would be loaded


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file to read, with what the catalogue says of it if it is not new."""

    root: Root
    photo: FoundFile
    known: Known | None
    place: Place

    @property
    def path(self) -> bytes:
        return join(self.root.path, self.photo.path)

    @property
    def size(self) -> int:
        return self.photo.size

    @property
    def as_it_was(self) -> bool:
        """Whether its size and modification time are the recorded ones."""
        return self.known is not None and same_times(self.photo, self.known)


class _Missing(NamedTuple):
    """A known file that the scan did not find; `link` is found and leads nowhere."""

    known: Known
    image: int | None
    link: _Pending | None = None


class Run:
    """One pass over some folders of one index."""

    def __init__(self, store: Store, model: Model, options: Options, on_progress: OnProgress | None) -> None:
        self._store, self._model, self._options = store, model, options
        self._kept = options.kept or KeptEncoder()
        self._on_progress = on_progress or (lambda progress: None)
        self._stages = Stages()
        self._report = Report(model=model.name, stages=self._stages.seconds)
        self._pending: list[_Pending] = []
        self._places: dict[Root, Places] = {}
        self._missing: dict[Root, list[_Missing]] = {}
        self._missing_images: Counter[int | None] = Counter()  # of which no new path has the contents yet
        self._moved_images: set[int] = set()
        self._pruned: dict[Root, frozenset[int]] = {}
        self._looked_at = 0
        self._workers = options.workers or usable_cores()
        self._used: Encoder | None = None

    def update(self, targets: list[Target]) -> Report:
        """Bring the targets up to date. Raises what loading and running the model raise."""
        self._scan_all(targets)
        if self._pending:
            self._index_pending()
        self._remove_gone()
        self._report.skipped.sort()
        self._report.skipped_before.sort()
        return self._report

    # -------------------------------------------------------------------------------- scan and compare

    def _scan_all(self, targets: list[Target]) -> None:
        roots = {root.path: root.rules.exclude for root in self._store.roots()}
        given = {
            pattern: {root: anchored(pattern, root, roots, exclude) for root, exclude in roots.items()}
            for pattern in self._options.exclude or ()
        }
        matched: set[str] = set()
        whole = bool(targets)  # whether every pattern had its chance
        for root, below in targets:
            presence = self._store.presence(root)
            offline = presence.whole
            if self._options.prune:
                self._pruned.setdefault(root, prunable(presence))
            if offline is not None and not offline.can_be_pruned:
                self._report.offline.append((root.path, offline))
                whole = False
                continue
            exclusions = Exclusions(root.rules)
            places = self._places.setdefault(root, Places(self._store, root))
            with self._stages("scan"):
                self._compare(root, below, exclusions, places)
            with self._stages("store"):
                places.record()
            matched |= {pattern for pattern, kept in given.items() if kept[root.path] in exclusions.matched}
            whole = whole and not below and not self._store.presence(root).away
        for root, missing in self._missing.items():
            gone = self._gone(root)
            self._missing_images.update(one.image for one in missing if gone.may_be(one.known.drive))
        for pattern, kept in given.items():
            is_elsewhere = set(kept.values()) == {None}
            if is_elsewhere or (whole and not self._report.unreadable and pattern not in matched):
                self._report.unmatched.append(pattern)

    def _compare(self, root: Root, below: bytes, exclusions: Exclusions, places: Places) -> None:
        """Sort the files of a root into unchanged, pending and missing, by merging two sorted sequences."""
        unreadable: list[bytes] = []
        missing = self._missing.setdefault(root, [])
        found_files = self._scan(root, below, exclusions, unreadable)
        for found, known in _merge(found_files, self._store.known(root, below)):
            if found is None:
                assert known is not None
                unknown = is_video_name(known.path) and not can_read_videos()
                if unknown and exclusions.rule_for(known.path) is None:
                    self._report.unchanged += known.error is None  # nobody has looked whether it is there
                elif not any(relative_to(known.path, folder) is not None or not folder for folder in unreadable):
                    missing.append(_Missing(known, self._store.image_of(root, known.path)))
            elif (place := places.of(found)) is None:
                self._report.unreadable.append((join(root.path, found.path), "its drive went away"))
            elif known is not None and known.error is None and found.error == BROKEN_LINK:
                item = _Pending(root, found, known, place)
                missing.append(_Missing(known, self._store.image_of(root, known.path), item))
            elif known is None or self._may_have_changed(found, known):
                self._pending.append(_Pending(root, found, known, place))
            else:
                places.confirm(known, place)
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
            self._looked_at += 1
            if self._looked_at % 256 == 0:
                self._on_progress(Progress("scan", self._looked_at, None))
            yield item

    # -------------------------------------------------------------------------------- embed and store

    def _index_pending(self) -> None:
        if self._options.ray is not None:
            self._index_remotely(self._options)
            return
        decoders = Decoders(self._workers, self._model.preprocess)
        read = functools.partial(self._read, decoders)
        pipeline = Pipeline(self._encoder, read, self._is_known, self._stages, self._workers, self._options.batch_size)
        with pipeline, decoders:  # when all ends early, the decoders end first and nothing waits for them
            self._keep_all(pipeline.run(self._pending))
        self._report.precision = self._used.precision if self._used else None

    def _index_remotely(self, options: Options) -> None:
        from clipsearch.indexing.remote import Remote

        broken = [item for item in self._pending if item.photo.error is not None]
        sound = [item for item in self._pending if item.photo.error is None]
        with Remote[_Pending](self._model, options, self._stages, self._store.contents()) as remote:
            found = ((item, Contents(error=item.photo.error), None) for item in broken)
            self._keep_all(itertools.chain(found, remote.run(sound)))
            self._report.precision, self._report.disagreed = remote.precision, remote.disagreed

    def _keep_all(self, found: Iterable[tuple[_Pending, Contents, Array | None] | None]) -> None:
        """Store what is done. It is committed when there is nothing else to do, or after some seconds."""
        total, done, committed = len(self._pending), 0, time.monotonic()
        for one in found:
            with self._stages("store"):
                if one is not None:
                    self._keep(*one)
                if one is None or time.monotonic() - committed > COMMIT_SECONDS:
                    self._store.commit()
                    committed = time.monotonic()
            if one is not None:
                done += 1
                self._on_progress(Progress("index", done, total))

    def _encoder(self) -> Encoder:
        """The model, loaded as is best for what there is to do."""
        many = len(self._pending) > FEW or any(is_video_name(item.photo.path) for item in self._pending)
        self._used = self._kept.get(self._model, many, functools.partial(self._load, many))
        return self._used

    def _load(self, many: bool) -> Encoder:
        device, precision = self._options.device, self._options.precision
        if not many and device in ("auto", "cpu") and precision in ("auto", "fp32"):
            cold = numpy_encoder(self._model, texts=False, images=True)
            if cold is not None:
                return cold
        disagreed = self._report.disagreed  # and not the run, which an encoder that is kept would keep too
        return encoder_for(
            self._model, device, precision, self._workers, lambda name, cosine: disagreed.append((name, cosine))
        )

    def _is_known(self, content: bytes) -> bool:
        return self._store.find_image(content) is not None

    def _read(self, decoders: Decoders, item: _Pending) -> Contents:
        if item.photo.error is not None:
            return Contents(error=item.photo.error)
        return contents_of(item.path, self._store.has_image, decoders)

    def _keep(self, item: _Pending, contents: Contents, rows: Array | None) -> None:
        if contents.error is not None:
            self._keep_failed(item, contents.error, contents.unread)
            return
        image_id = self._store.find_image(contents.content)
        fresh = image_id is None
        if image_id is None:
            if contents.metadata is None or rows is None or not np.isfinite(rows).all():
                self._skip(item, "the model gives no embedding for it")
                return
            image_id = self._add(contents, contents.metadata, rows)
            self._report.embedded += len(rows)
        self._count(item, image_id, fresh=fresh)
        beside = sidecar_keywords(item.path, item.photo.sidecars)
        self._report.sidecars_ignored += beside.ignored
        if beside.unread:
            item = replace(item, photo=item.photo._replace(sidecar_token=STALE))
        self._put(item, image_id, None, beside.keywords)

    def _add(self, contents: Contents, metadata: Metadata, rows: Array) -> int:
        """An image or, of a video, its frames: first the one that is most like all of them, which stands for it."""
        first = int((rows @ rows.mean(0)).argmax())
        image_id = self._store.add_image(contents.content, metadata, rows[first], contents.hash)
        if contents.times:
            order = [first, *(n for n in range(len(rows)) if n != first)]
            frames = ((contents.times[n], frame_hash(contents.content, contents.times[n]), rows[n]) for n in order)
            self._store.add_frames(image_id, metadata, frames)
        return image_id

    def _keep_failed(self, item: _Pending, error: str, unread: bool) -> None:
        if not unread:
            self._skip(item, error)
        elif item.known is not None and item.known.error is None:
            # As it was, or changed: until it can be read, what is known of it is the best that there is.
            self._report.unreadable.append((item.path, error))
        else:
            # What was not even read, as on a drive that went away, is looked at again by the next run.
            self._skip(replace(item, photo=item.photo._replace(mtime_ns=-1)), error)

    def _count(self, item: _Pending, image_id: int, *, fresh: bool) -> None:
        if item.known is not None:
            same = item.as_it_was and self._store.image_of(item.root, item.photo.path) == image_id
            self._report.unchanged += same
            self._report.updated += not same
        elif self._missing_images[image_id] > 0:
            self._missing_images[image_id] -= 1
            self._moved_images.add(image_id)
            self._report.moved += 1
        else:
            self._report.added += 1
            self._report.duplicates += not fresh

    def _skip(self, item: _Pending, reason: str) -> None:
        known_so = item.as_it_was and item.known is not None and item.known.error == reason and not self._options.retry
        skipped = self._report.skipped_before if known_so else self._report.skipped
        skipped.append((item.path, reason))
        self._put(item, None, reason)

    def _put(self, item: _Pending, image_id: int | None, error: str | None, beside: Iterable[str] = ()) -> None:
        drive = self._places[item.root].drive_at(item.place)
        self._store.put_photo(item.root, item.photo, image_id, error, beside, drive.id)

    def _remove_gone(self) -> None:
        """Forget the files that are gone. Each is looked at again: a drive may have gone since the scan."""
        removed = 0
        with self._stages("store"):
            for root, missing in self._missing.items():
                gone = self._gone(root)
                found = [one for one in missing if gone(one.known.path, one.known.drive, moved=self._has_moved(one))]
                self._store.remove_photos(root, [one.known.path for one in found if one.link is None])
                removed += sum(one.link is None for one in found)
                for one in found:
                    if one.link is not None:
                        self._skip(one.link, BROKEN_LINK)
                self._report.offline += [(one.place, one.why) for one in gone.away]
            self._store.prune()
            self._store.commit()
        self._report.removed = max(0, removed - self._report.moved)
        self._leave_out_what_is_offline()

    def _gone(self, root: Root) -> Gone:
        return Gone(self._store, root, self._pruned.get(root, frozenset()))

    def _has_moved(self, missing: _Missing) -> bool:
        return missing.image is not None and missing.image in self._moved_images

    def _leave_out_what_is_offline(self) -> None:
        """Folders that could not be listed because their drive went away are not named one by one."""
        places = [place for place, _ in self._report.offline]
        self._report.unreadable = [
            (path, why)
            for path, why in self._report.unreadable
            if not any(relative_to(path, place) is not None for place in places)
        ]


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
