"""`clipsearch label`: classify photos, and optionally write the labels to XMP sidecars."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli import filters
from clipsearch.cli.app import (
    FAILED,
    NOTHING_FOUND,
    OUTPUT,
    DebugOption,
    Failures,
    IndexOption,
    RecordFormatOption,
    advise,
    argument,
    destination,
    flag,
    image_source,
    new_app,
    open_index,
    option,
    record_format,
    say,
    text_lines,
    warn_left_out,
    with_default,
    write_found,
)
from clipsearch.cli.sidecars import SIDECARS, DryRunOption, RemoveOption, clean_sidecars, write_sidecars
from clipsearch.errors import BadArgument, BadRequest, counted
from clipsearch.output import records, terminal, text
from clipsearch.search.label import Labelled, distinct
from clipsearch.search.question import EVERYTHING, Filter

if TYPE_CHECKING:
    from clipsearch.output.tags import Change

app = new_app()
OTHER = "other"  # the label of --other without a name
LABELS = "Labels"
DEFAULT_MINIMUM = 0.5  # probability of the labels that --write-xmp writes


@app.command(cls=with_default("--other", ""))
@filters.takes_filters
def label(
    labels: Annotated[list[str] | None, argument("LABEL...", "Labels to choose from.")] = None,
    labels_from: Annotated[list[str] | None, option("FILE", "Read labels, one per line; - is stdin.", LABELS)] = None,
    other: Annotated[str | None, option("[NAME]", "A label for photos that no label fits.", LABELS)] = None,
    template: Annotated[
        list[str] | None, option("TEXT", "Prompt with {} for the label; imagenet, simple.", LABELS)
    ] = None,
    image: Annotated[list[str] | None, option("FILE", "Only these files, indexed or not.", filters.PANEL)] = None,
    filter: Filter = EVERYTHING,
    every: Annotated[bool, flag("--all", "Print all labels of each photo.", OUTPUT)] = False,
    counts: Annotated[bool, flag("--counts", "Count the photos of each label.", OUTPUT)] = False,
    min_probability: Annotated[float | None, option("X", "Minimum probability, 0 to 1.", OUTPUT)] = None,
    copy_to: Annotated[str | None, option("DIR", "Copy photos into a folder per label.", OUTPUT)] = None,
    write_xmp: Annotated[bool, flag("--write-xmp", "Add the label to the photo's sidecar.", SIDECARS)] = False,
    remove: RemoveOption = False,
    dry_run: DryRunOption = False,
    format: RecordFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    r"""Classify photos by labels that you choose.

    The probabilities of a photo add up to 1, so every photo gets one of the labels, even if none fits. --other, or
    --other=NAME, adds a label for photos that none fits. The probability of a single label is the confidence of a
    query. The default template is "a photo of a {}"; imagenet is a set of 80 templates, simple a set of 7. In a file of
    labels, lines that start with # are comments.

    Photos are listed by label, the most likely first. --copy-to copies each into the folder of its most likely label:
    "animal|dog" is animal/dog. --other without a name is only printed, neither copied nor written.

    --write-xmp adds the label as a keyword to the photo's sidecar: IMG_1.jpg.xmp, or IMG_1.xmp if no other photo shares
    it. "animal|dog" classifies as dog and adds both keywords, with their hierarchy. Nothing else in the sidecar
    changes, the photo itself is never modified, and --remove removes only what --write-xmp added.

    Examples:
      clipsearch label cat dog "a person"
      clipsearch label receipt photo screenshot --counts
      clipsearch label cat dog --other --min-probability 0.7
      clipsearch label receipt screenshot --other=rest --copy-to ~/sorted
      clipsearch label indoors outdoors --under ~/Pictures -f jsonl | jq .label
      clipsearch label cat --template "a photo of a {}" --template "a {} toy"
      clipsearch label --labels-from labels.txt -f tsv | awk -F'\t' '$2 > .9'
      clipsearch label cat dog --image beach.jpg --all
      clipsearch label "animal|cat" "animal|dog" people --write-xmp --dry-run
      clipsearch label --remove --under ~/Pictures/2023

    Exit status: 0 labelled a photo, 1 no photo, 2 error.
    """
    form = record_format(format)
    folder = destination("copy_to", copy_to)
    if min_probability is not None and not 0 <= min_probability <= 1:
        raise BadArgument("min_probability", f"must be a probability, 0 to 1, not {min_probability:g}")
    for name, is_given in (("--counts", counts), ("--copy-to", folder)):
        if is_given and every:
            raise BadRequest(f"{name} uses only the most likely label of each photo; leave out --all")
    about_labels = bool(labels or labels_from or template or every or counts or format or folder)
    about_labels = about_labels or other is not None or min_probability is not None
    _check_tags(write_xmp, remove, dry_run, about_labels)
    if dry_run and folder:
        raise BadRequest("--dry-run cannot be used with --copy-to")
    if image and filter != EVERYTHING:
        raise BadRequest("--image cannot be combined with filters")
    if remove:
        _untag(image, index, filter, dry_run)
        return
    words = [*(labels or ()), *(name for source in labels_from or () for name in _labels_in(source))]
    names = distinct(words)
    other = None if other is None else other.strip()
    named = [*names, other] if other else names  # these are copied and written
    rest = OTHER if other == "" else other
    failures = Failures()
    with open_index(index) as opened:
        each = opened.label_each(
            words,
            images=[image_source(file) for file in image or ()],
            filter=filter,
            templates=template or (),
            other=rest,
            top=None if every else 1,
            on_error=failures.add,
        )
        found: Iterable[Labelled] = _likely(each, min_probability or 0)
        if write_xmp or folder:  # before a result is printed, so that `| head` does not stop it
            found = list(found)
        if write_xmp:
            least = DEFAULT_MINIMUM if min_probability is None else min_probability
            _tag(_likely(_fitting(found, named), least), named, dry_run, failures)
        if folder:
            _copy(list(_fitting(found, named)), named, Path(folder).expanduser())
        order = [*names, *([] if rest is None else [rest])]
        is_any = _print_counts(found, order, form) if counts else _print(found, order, form, every=every)
        warn_left_out(opened.left_out)
        advise(opened, names)
    failures.exit()
    if not is_any:
        raise typer.Exit(NOTHING_FOUND)


def _labels_in(source: str) -> Iterator[str]:
    """The labels in a file, without comments."""
    return (name for _, name in text_lines(source) if not name.startswith("#"))


def _likely(found: Iterable[Labelled], least: float) -> Iterator[Labelled]:
    """Photos whose first label has at least this probability, with the labels that do."""
    for one in found:
        if one.labels[0][1] >= least:
            yield one._replace(labels=tuple((name, share) for name, share in one.labels if share >= least))


def _fitting(found: Iterable[Labelled], named: Sequence[str]) -> Iterator[Labelled]:
    """Photos whose first label is one of these, with those of their labels that are."""
    for one in found:
        if one.labels[0][0] in named:
            yield one._replace(labels=tuple((name, share) for name, share in one.labels if name in named))


def _print(found: Iterable[Labelled], labels: Sequence[str], form: str, *, every: bool) -> bool:
    """Print photos, sorted by label and probability. Returns whether there are any."""
    place = {name: number for number, name in enumerate(labels)}
    ordered = sorted(found, key=lambda one: (place[one.labels[0][0]], -one.labels[0][1]))
    write_found(ordered, form, terminal.labels if every else terminal.label_groups, records.labels)
    return bool(ordered)


def _print_counts(found: Iterable[Labelled], labels: Sequence[str], form: str) -> bool:
    """Print how many photos have each label. Returns whether there are any."""
    counted = Counter(one.labels[0][0] for one in found)
    rows = sorted(((name, counted[name]) for name in labels), key=lambda row: -row[1])
    write_found(rows, form, terminal.label_counts, records.label_counts)
    return bool(counted)


def _copy(found: Sequence[Labelled], labels: Sequence[str], destination: Path) -> None:
    """Copy photos into a folder per label."""
    from clipsearch.output.collect import collect, label_folders

    copied = folders = 0
    for label, folder in label_folders(labels).items():
        photos = [one for one in found if one.labels[0][0] == label]
        if photos:
            copied += len(collect(photos, destination / folder, link=False, numbered=False))
            folders += 1
    say(f"copied {text.photos(copied)} to {counted(folders, 'folder')} in {destination}")


# ------------------------------------------------------------------------------------------ XMP sidecars


def _check_tags(write_xmp: bool, remove: bool, dry_run: bool, about_labels: bool) -> None:
    """Raise `BadRequest` for contradictory options."""
    if remove and (write_xmp or about_labels):
        raise BadRequest("--remove deletes every keyword that clipsearch added; leave out labels and their options")
    if dry_run and not (write_xmp or remove):
        raise BadRequest("--dry-run needs --write-xmp or --remove")


def _tag(found: Iterable[Labelled], labels: Iterable[str], dry_run: bool, failures: Failures) -> None:
    """Write labels to sidecars."""
    from clipsearch.output.tags import Tagger, check_keyword

    for name in labels:
        check_keyword(name)
    tagger = Tagger()

    def plan(photo: Labelled) -> list["Change"]:
        return [tagger.plan_addition(photo.file, [name for name, _ in photo.labels])]

    written = write_sidecars(tagger, found, plan, dry_run)
    failures.names += [os.fsdecode(photo.file) for photo in written.failed]
    verb, have = ("would write", "have") if dry_run else ("wrote", "had")
    say(f"{verb} {counted(written.sidecars, 'sidecar')}; {written.unchanged:,} already {have} these keywords")


def _untag(image: list[str] | None, index: str | None, filter: Filter, dry_run: bool) -> None:
    """Remove our keywords from the sidecars of the given files, or else of the indexed photos that pass the filter."""
    if image:
        photos = [os.fsencode(os.path.abspath(file)) for file in image]
    else:
        with open_index(index) as opened:
            photos = [photo.file for photo in opened.photos(filter)]
            warn_left_out(opened.left_out)
    from clipsearch.output.tags import Tagger

    tagger = Tagger()
    if clean_sidecars(tagger, tagger.plan_removal, photos, dry_run):
        raise typer.Exit(FAILED)
    if not photos:
        raise typer.Exit(NOTHING_FOUND)
