"""An encoder that outlives the run that has loaded it."""

from __future__ import annotations

from collections.abc import Callable

from clipsearch.models.encoders import Encoder, give_memory_back
from clipsearch.models.model import Model


class KeptEncoder:
    """The encoder that a run has loaded, for the runs after it."""

    def __init__(self) -> None:
        # With its model's fingerprint, and whether it is one for many photos.
        self._kept: tuple[str, bool, Encoder] | None = None

    def get(self, model: Model, many: bool, load: Callable[[], Encoder]) -> Encoder:
        """The one that is kept, if it is of this model and good enough for `many` photos; else what `load` gives."""
        if self._kept is None or self._kept[0] != model.fingerprint or many > self._kept[1]:
            self._kept = model.fingerprint, many, load()
        return self._kept[2]

    def release(self) -> None:
        """Give its memory back."""
        if self._kept is not None:
            self._kept = None
            give_memory_back()
