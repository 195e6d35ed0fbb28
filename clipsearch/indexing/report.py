"""What an index run reports: its progress, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clipsearch.images.left_out import LeftOut
from clipsearch.store.catalogue import Offline

if TYPE_CHECKING:
    from clipsearch.models.encoders import Engine
    from clipsearch.models.engines import Comparison


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is.

    `stage` is "scan" (files; total unknown), "index" (new files), "read" (photos, by OCR), "faces" (images) or
    "caption" (photos), the last with an estimate of the seconds left.
    """

    stage: str
    done: int
    total: int | None
    seconds_left: float | None = None


@dataclass(slots=True)
class Report:
    """The result of a run, in files. Paths are absolute, and come with a reason."""

    model: str = ""
    is_first: bool = False  # the run created the index
    added: int = 0  # includes `duplicates`
    duplicates: int = 0  # new paths whose contents were indexed already
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0  # also files with new times but the same contents
    embedded: int = 0
    read: int = 0  # photos that OCR went through
    with_text: int = 0  # of those, the ones that have text
    face_scans: int = 0  # photos, and frames of videos, that were searched for faces
    faces: int = 0  # found in those
    captioned: int = 0  # photos that got a generated caption
    uncaptioned: int = 0  # photos that should have got one
    captioning_seconds: float = 0.0
    captions_stopped: str = ""  # why that ended early
    skipped: list[tuple[bytes, str]] = field(default_factory=list)  # new, changed or retried
    skipped_before: list[tuple[bytes, str]] = field(default_factory=list)  # by an earlier run, and unchanged since
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)  # their photos stay in the index
    partial: list[bytes] = field(default_factory=list)  # cut short or damaged, indexed as far as they can be decoded
    sidecars_ignored: list[tuple[bytes, str]] = field(default_factory=list)  # of new and changed photos
    offline: list[tuple[bytes, Offline]] = field(default_factory=list)  # folders and drives; photos stay in the index
    unmatched: list[str] = field(default_factory=list)  # exclude patterns that matched nothing
    left_out: LeftOut = field(default_factory=LeftOut)
    empty: list[bytes] = field(default_factory=list)  # folders without a single photo
    engine: Engine | None = None  # None if nothing was embedded
    disagreed: list[tuple[Engine, float]] = field(default_factory=list)  # rejected engines, with their cosine to fp32
    comparison: Comparison | None = None  # the one that the choice of the engine is based on
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of each, summed over threads

    @property
    def images_per_second(self) -> float:
        """Embedded images divided by the time of the run without captions."""
        seconds = self.seconds - self.captioning_seconds
        return self.embedded / seconds if seconds > 0 else 0.0


OnProgress = Callable[[Progress], None]
OnNote = Callable[[str], None]
