"""How to index: what a caller may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipsearch.images.scan import NO_RAW, NO_VIDEO, Rules
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

    def rules(self, before: Rules) -> Rules:
        """What a scan leaves out, where it was `before`."""
        chosen = {name: getattr(self, name) for name in Rules._fields}
        rules = before._replace(**{name: value for name, value in chosen.items() if value is not None})
        for wanted, patterns in ((self.raw, NO_RAW), (self.video, NO_VIDEO)):
            if wanted is not None:
                others = tuple(pattern for pattern in rules.exclude if pattern not in patterns)
                rules = rules._replace(exclude=others if wanted else (*others, *patterns))
        return rules
