"""What a run says of itself, while it goes on and when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clipsearch.store.catalogue import Offline


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files looked at (`stage` "scan", total unknown), new files done ("index") or read ("read")."""

    stage: str
    done: int
    total: int | None


@dataclass(slots=True)
class Report:
    """What a run did, in files. `added` includes `duplicates`: new paths whose contents were there already.

    Files that were looked at again and have the contents that they had count as `unchanged`. `read` are the photos that
    were looked through for writing, `with_text` those that have some. Paths are absolute.
    """

    model: str = ""
    added: int = 0
    duplicates: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    embedded: int = 0
    read: int = 0
    with_text: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)  # path, reason; new, changed, or tried again
    skipped_before: list[tuple[bytes, str]] = field(default_factory=list)  # path, reason; unchanged since then
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)  # path, reason; what was there is kept
    sidecars_ignored: list[tuple[bytes, str]] = field(default_factory=list)  # path, reason; of photos looked at now
    offline: list[tuple[bytes, Offline]] = field(default_factory=list)  # roots and drives in them; photos are kept
    unmatched: list[str] = field(default_factory=list)  # patterns given for this run that matched nothing
    precision: str | None = None  # of the model that embedded; None if nothing was embedded
    disagreed: list[tuple[str, float]] = field(default_factory=list)  # faster precisions, each with its cosine to fp32
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of each; threads add up

    @property
    def images_per_second(self) -> float:
        """Embedded images over the whole run's time."""
        return self.embedded / self.seconds if self.seconds else 0.0


OnProgress = Callable[[Progress], None]
OnNote = Callable[[str], None]
