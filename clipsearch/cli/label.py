"""`clipsearch label`: classify photos, and optionally write the labels to XMP sidecars."""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import filters
from clipsearch.cli.app import (
    FAILED,
    NOTHING_FOUND,
    OUTPUT,
    DebugOption,
    IndexOption,
    RecordFormatOption,
    chosen_format,
    colour,
    image_source,
    message_of,
    new_app,
    open_index,
    say,
    text_lines,
    warn_left_out,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadRequest, ClipsearchError, counted
from clipsearch.output import records, terminal
from clipsearch.search.label import Labelled, distinct
from clipsearch.search.question import EVERYTHING, Filter

app = new_app()
LABELS, SIDECARS = "Labels", "XMP sidecars"
DEFAULT_MINIMUM = 0.5  # probability of the labels that --write-xmp writes


@app.command()
@filters.takes_filters
def label(
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="Labels to choose from.")] = None,
    labels_from: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Read labels, one per line; - is stdin.", rich_help_panel=LABELS),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} for the label, imagenet or simple.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Only these files, indexed or not.", rich_help_panel=filters.PANEL),
    ] = None,
    filter: Filter = EVERYTHING,
    every: Annotated[
        bool, typer.Option("--all", help="Print all labels, not only the most likely.", rich_help_panel=OUTPUT)
    ] = False,
    counts: Annotated[
        bool, typer.Option("--counts", help="Count the photos of each label.", rich_help_panel=OUTPUT)
    ] = False,
    write_xmp: Annotated[
        bool,
        typer.Option("--write-xmp", help="Add the label to the photo's sidecar.", rich_help_panel=SIDECARS),
    ] = False,
    min_probability: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, max=1, help=f"Minimum to write (default {DEFAULT_MINIMUM}).", rich_help_panel=SIDECARS
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what --write-xmp added.", rich_help_panel=SIDECARS)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print changes; write nothing.", rich_help_panel=SIDECARS)
    ] = False,
    format: RecordFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    r"""Classify photos by labels that you choose.

    The probabilities of a photo add up to 1, so every photo gets one of the labels: add a catch-all such as "something
    else". A single label gets the confidence of a query. The default template is "a photo of a {}";
    imagenet is a set of 80 templates, simple a set of 7.

    --write-xmp adds the label as a keyword to the photo's sidecar: IMG_1.jpg.xmp, or IMG_1.xmp if no other photo shares
    it. "animal|dog" classifies as dog and adds both keywords, with their hierarchy. Nothing else in the sidecar
    changes, the photo itself is never modified, and --remove removes only what --write-xmp added.

    Examples:
      clipsearch label cat dog "a person"
      clipsearch label receipt photo screenshot --counts
      clipsearch label indoors outdoors --under ~/Pictures -f jsonl | jq .label
      clipsearch label cat --template "a photo of a {}" --template "a {} toy"
      clipsearch label --labels-from labels.txt -f tsv | awk -F'\t' '$2 > .9'
      clipsearch label cat dog --image beach.jpg --all
      clipsearch label "animal|cat" "animal|dog" people --write-xmp --dry-run
      clipsearch label --remove --under ~/Pictures/2023

    Exit status: 0 labelled a photo, 1 no photo, 2 error.
    """
    form = chosen_format(format, records.LABEL_FORMATS, "table" if sys.stdout.isatty() else "tsv")
    if counts and every:
        raise BadRequest("--counts uses only the most likely label of each photo; leave out --all")
    about_labels = bool(labels or labels_from or template or every or counts or format)
    _check_tags(write_xmp, min_probability, remove, dry_run, about_labels)
    if image and filter != EVERYTHING:
        raise BadRequest("--image cannot be combined with filters")
    if remove:
        _untag(image, index, filter, dry_run)
        return
    words = [*(labels or ()), *(name for source in labels_from or () for _, name in text_lines(source))]
    names = distinct(words)
    failed: list[str] = []

    def report_image(name: str, error: BadRequest) -> None:
        say(f"clipsearch: {message_of(error)}")
        failed.append(name)

    with open_index(index) as opened:
        found = opened.label_each(
            words,
            images=[image_source(file) for file in image or ()],
            filter=filter,
            templates=template or (),
            top=None if every else 1,
            on_error=report_image,
        )
        if write_xmp:
            found = iter(_tagged(found, names, min_probability, dry_run, failed))
        first = next(found, None)
        everything = itertools.chain([] if first is None else [first], found)
        _print(everything, form, names if counts else None)
        warn_left_out(opened.left_out)
    if failed:
        raise typer.Exit(FAILED)
    if first is None:
        raise typer.Exit(NOTHING_FOUND)


def _print(found: Iterable[Labelled], form: str, to_count: list[str] | None) -> None:
    """Print photos with their labels; with `to_count`, how many photos have each of these labels."""
    if to_count is None and form == "table":
        write(terminal.labels(found, width(), colour=colour()))
    elif to_count is None:
        write_records(records.labels(found, form))
    elif form == "table":
        write([terminal.label_counts(_counted(found, to_count), width(), colour=colour())])
    else:
        write_records(records.label_counts(_counted(found, to_count), form))


def _counted(found: Iterable[Labelled], labels: list[str]) -> list[tuple[str, int]]:
    counted = Counter(one.labels[0][0] for one in found)
    return sorted(((name, counted[name]) for name in labels), key=lambda row: -row[1])


# ------------------------------------------------------------------------------------------ XMP sidecars


def _check_tags(
    write_xmp: bool, min_probability: float | None, remove: bool, dry_run: bool, about_labels: bool
) -> None:
    """Raise `BadRequest` for contradictory options."""
    if remove and (write_xmp or about_labels):
        raise BadRequest(
            "--remove deletes every keyword that clipsearch added; it goes with neither labels nor their options"
        )
    if min_probability is not None and not write_xmp:
        raise BadRequest("--min-probability needs --write-xmp")
    if dry_run and not (write_xmp or remove):
        raise BadRequest("--dry-run needs --write-xmp or --remove")


def _tagged(
    found: Iterable[Labelled], labels: Iterable[str], minimum: float | None, dry_run: bool, failed: list[str]
) -> list[Labelled]:
    """Write likely labels to sidecars: all of them before a result is printed, so that `| head` does not stop it."""
    from clipsearch.output.tags import Tagger, check_keyword

    for name in labels:
        check_keyword(name)
    photos, tagger = list(found), Tagger()
    written = unchanged = 0
    for photo in photos:
        least = DEFAULT_MINIMUM if minimum is None else minimum
        likely = [name for name, probability in photo.labels if probability >= least]
        if not likely:
            continue
        try:
            change = tagger.plan_addition(photo.file, likely)
            if change.after == change.before:
                unchanged += 1
                continue
            if dry_run:
                say(f"would write {change.path}: {', '.join(change.keywords)}")
            else:
                tagger.apply(change)
            written += 1
        except ClipsearchError as error:
            say(f"clipsearch: {error}")
            failed.append(os.fsdecode(photo.file))
    verb, have = ("would write", "have") if dry_run else ("wrote", "had")
    say(f"{verb} {counted(written, 'sidecar')}; {unchanged:,} already {have} these keywords")
    return photos


def _untag(image: list[str] | None, index: str | None, filter: Filter, dry_run: bool) -> None:
    """Remove our keywords from the sidecars of the given files, or else of the indexed photos that pass the filter."""
    if image:
        photos = [os.fsencode(os.path.abspath(file)) for file in image]
    else:
        with open_index(index) as opened:
            photos = [photo.file for photo in opened.photos(filter)]
            warn_left_out(opened.left_out)
    if _without_tags(photos, dry_run):
        raise typer.Exit(FAILED)
    if not photos:
        raise typer.Exit(NOTHING_FOUND)


def _without_tags(photos: Iterable[bytes], dry_run: bool) -> bool:
    """Remove our keywords from the sidecars of photos. Returns whether any failed."""
    from clipsearch.output.tags import Tagger

    tagger = Tagger()
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
            change = tagger.plan_removal(path)
            if change.after == change.before:
                continue
            if dry_run:
                verb = "delete" if change.after is None else "remove from"
                say(f"would {verb} {change.path}: {', '.join(change.keywords)}")
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
