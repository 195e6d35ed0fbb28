"""How to index: what a caller may choose."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from clipsearch.images.patterns import anchored
from clipsearch.images.scan import Rules
from clipsearch.indexing.kept import KeptEncoder


@dataclass(frozen=True, slots=True)
class Options:
    """How to index. None leaves a choice to the index, or to clipsearch where there is none yet.

    `hidden`, `follow_links`, `exclude`, `any_name`, `raw` and `video` change what the scans of the folders leave out,
    from now on (`scan.Rules`), `ocr` whether photos are looked through for writing. `retry` tries files again that
    could not be used; `look_again` reads every file, to find changes that neither size nor time shows. `prune` forgets
    the photos of a folder or a drive that shows none of them. `batch_size` is in images, `workers` in threads that
    decode and, on a CPU, embed; with `ray`, the address of a cluster or "local", in processes of the cluster. `kept`
    keeps the encoder for the next run.
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
    any_name: bool | None = None
    raw: bool | None = None
    video: bool | None = None
    retry: bool = False
    look_again: bool = False
    prune: bool = False
    rebuild: bool = False
    ray: str | None = None
    ocr: bool | None = None
    kept: KeptEncoder | None = None

    def rules(self, before: Rules, root: bytes, roots: Collection[bytes]) -> Rules:
        """What scans of `root`, one of the `roots`, leave out from now on, where it was `before`."""
        chosen = {name: getattr(self, name) for name in Rules._fields}
        rules = before._replace(**{name: value for name, value in chosen.items() if value is not None})
        if self.exclude is None:
            return rules
        patterns = (anchored(given, root, roots, before.exclude) for given in self.exclude)
        return rules._replace(exclude=tuple(pattern for pattern in patterns if pattern is not None))
