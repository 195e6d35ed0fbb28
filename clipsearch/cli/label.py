"""`clipsearch label`: say which of some labels fits each photo best."""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
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
    explained,
    image_bytes,
    new_app,
    say,
    sentence,
    text_lines,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadRequest
from clipsearch.output import records, text
from clipsearch.paths import index_place
from clipsearch.search.embed import Embedder
from clipsearch.search.label import Classifier, Labelled, templates_of
from clipsearch.store.filters import EVERYTHING
from clipsearch.store.opening import open_index

app = new_app()
WHAT = "Labels"


@app.command()
@explained
def label(
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="What a photo may show.")] = None,
    labels_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="More labels, one a line (- is stdin).", rich_help_panel=WHAT)
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A prompt, {} for the label; repeatable; imagenet and simple are sets.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="These photos, indexed or not, and no others.", rich_help_panel=filters.WHICH
        ),
    ] = None,
    under: filters.Under = None,
    after: filters.After = None,
    before: filters.Before = None,
    camera: filters.Camera = None,
    near: filters.Near = None,
    size: filters.Size = None,
    orientation: filters.Orientation = None,
    type: filters.Type = None,
    name: filters.Name = None,
    reads: filters.Reads = None,
    keyword: filters.Keyword = None,
    files_from: filters.FilesFrom = None,
    from0: filters.From0 = False,
    every: Annotated[
        bool, typer.Option("--all", help="All labels of a photo, not just the most likely.", rich_help_panel=OUTPUT)
    ] = False,
    counts: Annotated[
        bool, typer.Option("--counts", help="How many photos have each label.", rich_help_panel=OUTPUT)
    ] = False,
    format: RecordFormatOption = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    r"""Say which of some labels fits each photo best: zero-shot classification.

    Probabilities are over the labels that were given and add up to 1: a photo of something else gets one of them too.
    One label alone is compared with a background of common subjects. The usual template is "a photo of a {}".

    Examples:
      clipsearch label cat dog "a person"
      clipsearch label receipt photo screenshot --counts
      clipsearch label indoors outdoors --under ~/Pictures/2023 -f jsonl | jq -r .label
      clipsearch label cat dog --template "a photo of a {}" --template "a drawing of a {}."
      clipsearch label --labels-from labels.txt --template imagenet -f tsv | awk -F'\t' '$2 > .9'
      clipsearch label cat dog --image beach.jpg --all

    Exit status: 0 when there was a photo, 1 when there was none, 2 for an error.
    """
    form = chosen_format(format, records.LABEL_FORMATS, "table" if sys.stdout.isatty() else "tsv")
    if counts and every:
        raise BadRequest("--counts counts the likeliest labels; leave out --all")
    where = filters.photo_filter(
        under, after, before, camera, near, size, orientation, type, name, reads, keyword, files_from, from0
    )
    if image and where != EVERYTHING:
        raise BadRequest("--image names the photos; leave out what chooses among those of the index")
    words = [*(labels or ()), *(name for _, name in (text_lines(labels_from) if labels_from is not None else ()))]
    failed: list[str] = []
    with open_index(index_place(index)) as store:
        searcher = None if image else filters.searcher_of(store, where)
        embedder = searcher.embedder if searcher else Embedder(store)
        classifier = Classifier(embedder, words, templates_of(template or ()))
        most = len(classifier.labels) if every else 1
        if searcher:
            found = classifier.classify_indexed(store, searcher.selection, most, searcher.present)
        else:
            found = _classified(image or [], classifier, embedder, most, failed)
        first = next(found, None)
        everything = itertools.chain([] if first is None else [first], found)
        if counts:
            rows = _counted(everything, classifier.labels)
            if form == "table":
                write(text.label_counts(rows, width(), colour=colour()))
            else:
                write_records(records.label_counts(rows, form))
        elif form == "table":
            write(text.labelled(everything, width(), colour=colour()))
        else:
            write_records(records.labelled(everything, form))
        if searcher:
            filters.say_left_out(searcher)
    if failed:
        raise typer.Exit(FAILED)
    if first is None:
        raise typer.Exit(NOTHING_FOUND)


def _classified(
    places: Iterable[str], classifier: Classifier, embedder: Embedder, most: int, failed: list[str]
) -> Iterator[Labelled]:
    """The labels of files that need not be indexed. One that cannot be used is named on stderr, and put in `failed`."""
    for place in places:
        path = os.fsencode(os.path.abspath(place) if os.path.exists(place) else place)
        try:
            row = embedder.image(image_bytes(place), place)
        except BadRequest as error:
            say(f"clipsearch: {sentence(error)}")
            failed.append(place)
        else:
            yield from classifier.classify([path], row[None], most)


def _counted(found: Iterable[Labelled], labels: list[str]) -> list[tuple[str, int]]:
    counted = Counter(one.labels[0][0] for one in found)
    return sorted(((name, counted[name]) for name in labels), key=lambda row: -row[1])
