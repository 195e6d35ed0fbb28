"""`clipsearch duplicates`: list groups of copies."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import filters
from clipsearch.cli.app import (
    NOTHING_FOUND,
    OUTPUT,
    DebugOption,
    FormatOption,
    IndexOption,
    NullOption,
    chosen_format,
    colour,
    explained,
    new_app,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.output import records, text
from clipsearch.paths import index_place
from clipsearch.search.duplicates import NEAR, find_duplicates
from clipsearch.store.opening import open_index

app = new_app()


@app.command()
@explained
def duplicates(
    similarity: Annotated[
        float | None,
        typer.Option(metavar="X", help="How near photos must be to the best of their group: a cosine, 0 to 1; 0.99."),
    ] = None,
    identical: Annotated[bool, typer.Option("--identical", help="Only files with the same contents.")] = False,
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
    format: FormatOption = None,
    null: NullOption = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page to look before deleting.", rich_help_panel=OUTPUT)
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """List groups of identical and near-identical photos: copies, edits, bursts.

    Of each group the best comes first: the one with the most pixels, then the largest file, then the oldest. The
    others are near to it by the cosine of their embeddings, 1 for the same contents. Links to a file are no copies of
    it: they are said to be the same file. An empty line, or with -0 a second NUL, ends a group. Nothing is deleted.

    Examples:
      clipsearch duplicates
      clipsearch duplicates --identical --under ~/Pictures/2023
      clipsearch duplicates --similarity 0.98 --format tsv
      clipsearch duplicates --html copies.html
      clipsearch duplicates --format jsonl | jq -r '.photos[1:][].path'

    Exit status: 0 when there are any, 1 when there are none, 2 for an error.
    """
    if identical and similarity is not None:
        raise BadRequest("--identical asks for the same contents, --similarity for near ones; take one")
    if similarity is not None and not 0 <= similarity <= 1:
        raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity}")
    form = chosen_format(format, records.FORMATS, "paths" if null or not sys.stdout.isatty() else "table")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; it does not go with --format {form}")
    if html in ("", "-"):
        raise BadArgument("html", f"needs a name, not {html!r}")
    where = filters.photo_filter(
        under, after, before, camera, near, size, orientation, type, name, reads, keyword, files_from, from0
    )
    with open_index(index_place(index)) as store:
        searcher = filters.searcher_of(store, where)
        threshold = None if identical else NEAR if similarity is None else similarity
        groups = find_duplicates(store, searcher.selection, threshold, searcher.present)
        filters.say_left_out(searcher)
    if html:
        from clipsearch.output.sheet import write_duplicates

        write_duplicates(Path(html).expanduser().absolute(), groups, text.filter_title(where))
    if form == "table":
        write(text.duplicates(groups, width(), colour=colour()))
    else:
        write_records(records.duplicates(groups, form, b"\0" if null else b"\n"))
    if not groups:
        raise typer.Exit(NOTHING_FOUND)
