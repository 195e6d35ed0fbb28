"""What became of a file that `quarantine` was to move."""

from __future__ import annotations

from typing import NamedTuple


class Move(NamedTuple):
    """What became of one file, or in a dry run would become of it. Without a `reason` it was moved.

    `target` is None where it stays for a reason that comes before a place for it. `failed`: it should have been moved;
    otherwise it stays as it is meant to.
    """

    source: bytes
    target: bytes | None
    best: bytes | None
    size: int
    reason: str = ""
    failed: bool = False
    is_sidecar: bool = False

    @property
    def moved(self) -> bool:
        """Whether it was moved."""
        return not self.reason
