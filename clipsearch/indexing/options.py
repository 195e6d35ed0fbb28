"""What a caller may choose about an index run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from clipsearch.images.patterns import anchored
from clipsearch.images.rules import Rules
from clipsearch.models.encoders import Encoder, give_memory_back
from clipsearch.models.model import Model


class EncoderCache:
    """Keeps the encoder loaded from one run to the next."""

    def __init__(self) -> None:
        self._cached: tuple[str, bool, Encoder] | None = None  # fingerprint of its model, whether it is for batches

    def get(self, model: Model, batches: bool, load: Callable[[], Encoder]) -> Encoder:
        """The cached encoder, or what `load` returns if it is of another model or not the one for `batches`."""
        if self._cached is None or self._cached[0] != model.fingerprint or batches > self._cached[1]:
            self._cached = model.fingerprint, batches, load()
        return self._cached[2]

    def release(self) -> None:
        """Free the encoder's memory."""
        if self._cached is not None:
            self._cached = None
            give_memory_back()


@dataclass(frozen=True, slots=True)
class Options:
    """How to index. None keeps the index's own setting, or the default for a new index.

    The scan rules are remembered for each folder, `ocr` and `faces` for the whole index.
    """

    model: str | None = None
    weights: Path | None = None  # a local file
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None  # images
    workers: int | None = None  # threads that decode and, on a CPU, embed; with `ray`, processes of the cluster
    hidden: bool | None = None  # this and the next five: see `scan.Rules`
    follow_links: bool | None = None
    exclude: tuple[str, ...] | None = None
    any_name: bool | None = None
    raw: bool | None = None
    video: bool | None = None
    retry: bool = False  # files that could not be read before
    look_again: bool = False  # read every file, also those whose size and times are unchanged
    prune: bool = False  # forget the photos of folders and drives that are empty or not mounted
    rebuild: bool = False  # embed everything again
    ray: str | None = None  # the address of a Ray cluster, or "local"
    ocr: bool | None = None  # read the text in photos
    faces: bool | None = None  # find the faces in photos; false deletes those that were found
    encoders: EncoderCache | None = None  # shared by runs in one process

    def rules(self, before: Rules, root: bytes, roots: Collection[bytes]) -> Rules:
        """The rules for scans of `root`, one of the `roots`, which had the rules `before`."""
        chosen = {name: getattr(self, name) for name in Rules._fields}
        rules = before._replace(**{name: value for name, value in chosen.items() if value is not None})
        if self.exclude is None:
            return rules
        patterns = (anchored(given, root, roots, before.exclude) for given in self.exclude)
        return rules._replace(exclude=tuple(pattern for pattern in patterns if pattern is not None))
