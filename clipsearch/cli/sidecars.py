"""Shared by the commands that write to XMP sidecars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, NamedTuple, TypeVar

from clipsearch.cli.app import flag, say
from clipsearch.errors import ClipsearchError, counted

if TYPE_CHECKING:
    from clipsearch.output.tags import Change, Tagger

SIDECARS = "XMP sidecars"  # the panel of the options

RemoveOption = Annotated[bool, flag("--remove", "Remove what --write-xmp added.", SIDECARS)]
DryRunOption = Annotated[bool, flag("--dry-run", "Print changes; write nothing.", SIDECARS)]

Found = TypeVar("Found")


class Written(NamedTuple, Generic[Found]):
    """How many sidecars were written, for how many results none needed to be, and the results that failed."""

    sidecars: int
    unchanged: int
    failed: list[Found]


def write_sidecars(
    tagger: Tagger, found: Iterable[Found], plan: Callable[[Found], Iterable[Change]], dry_run: bool
) -> Written[Found]:
    """Apply what is planned for each result."""
    sidecars = unchanged = 0
    failed: list[Found] = []
    for one in found:
        try:
            changes = [change for change in plan(one) if change.after != change.before]
            unchanged += not changes
            for change in changes:
                if dry_run:
                    say(f"would write {change.path}: {', '.join(change.texts) or 'no names'}")
                else:
                    tagger.apply(change)
                sidecars += 1
        except ClipsearchError as error:
            say(f"clipsearch: {error}")
            failed.append(one)
    return Written(sidecars, unchanged, failed)


def clean_sidecars(tagger: Tagger, plan: Callable[[Path], Change], photos: Iterable[bytes], dry_run: bool) -> bool:
    """Apply a planned removal to each sidecar of some photos. Returns whether any failed."""
    paths: dict[Path, None] = {}  # an ordered set, as two photos may share a sidecar
    cleaned = deleted = 0
    failed = False
    for photo in photos:
        try:
            paths.update(dict.fromkeys(tagger.sidecars_of(photo)))
        except ClipsearchError as error:
            say(f"clipsearch: {error}")
            failed = True
    for path in paths:
        try:
            change = plan(path)
            if change.after == change.before:
                continue
            if dry_run:
                verb = "delete" if change.after is None else "remove from"
                say(f"would {verb} {change.path}{': ' * bool(change.texts)}{', '.join(change.texts)}")
            else:
                tagger.apply(change)
            cleaned += change.after is not None
            deleted += change.after is None
        except ClipsearchError as error:
            say(f"clipsearch: {error}")
            failed = True
    verbs = ("would clean", "delete") if dry_run else ("cleaned", "deleted")
    say(f"{verbs[0]} {counted(cleaned, 'sidecar')}, {verbs[1]} {deleted:,} that became empty")
    return failed
