"""The rules of a scan."""

from __future__ import annotations

from typing import NamedTuple


class Rules(NamedTuple):
    """What a scan includes.

    `exclude` has patterns as in a .gitignore file in the root (`images.patterns`). `any_name` includes files without a
    suffix that begin like a photo.
    """

    hidden: bool = False
    follow_links: bool = False
    exclude: tuple[str, ...] = ()
    any_name: bool = False
    raw: bool = True
    video: bool = True
