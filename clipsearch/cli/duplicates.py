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
from clipsearch.store.opening import open_index

app = new_app()


@app.command()
@explained
def duplicates(
    identical: Annotated[bool, typer.Option("--identical", help="Only files with the same bytes.")] = False,
    similar: Annotated[
        bool, typer.Option("--similar", help="Photos that look alike instead: edits, crops, bursts. Not copies.")
    ] = False,
    similarity: Annotated[
        float | None, typer.Option(metavar="X", help="With --similar, the least cosine, 0 to 1 (default 0.98).")
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
    format: FormatOption = None,
    null: NullOption = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page to look before deleting.", rich_help_panel=OUTPUT)
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """List groups of files that show the same picture.

    Copies are identical files, or the same pixels after resizing, recompression or a slight correction. Pixels decide,
    not embeddings: two pages with different text are never copies. The file to keep comes first: the most pixels, then
    the least compressed, not in a trash or backup folder. With --similar, list photos that only look alike; they are
    labelled so, and are not printed as bare paths. Nothing is deleted.

    Examples:
      clipsearch duplicates
      clipsearch duplicates --identical --under ~/Pictures/2023
      clipsearch duplicates --html copies.html
      clipsearch duplicates --similar --similarity 0.95

    Exit status: 0 when there are any, 1 when there are none, 2 for an error.
    """
    if identical and similar:
        raise BadRequest("--identical and --similar ask for different things; choose one")
    if similarity is not None and not similar:
        raise BadRequest("--similarity needs --similar: copies are decided on pixels")
    if similarity is not None and not 0 <= similarity <= 1:
        raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity}")
    if similar and (null or format == "paths"):
        raise BadRequest("similar photos are not copies and are not printed as bare paths; use --format tsv or jsonl")
    piped = "tsv" if similar else "paths"
    form = chosen_format(format, records.FORMATS, piped if null or not sys.stdout.isatty() else "table")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; it does not go with --format {form}")
    if html in ("", "-"):
        raise BadArgument("html", f"needs a name, not {html!r}")
    where = filters.photo_filter(
        under, after, before, camera, near, size, orientation, type, name, reads, keyword, files_from, from0
    )
    from clipsearch.search.copies import find_copies
    from clipsearch.search.similar import NEAR, find_similar

    with open_index(index_place(index)) as store:
        searcher = filters.searcher_of(store, where)
        if similar:
            threshold = NEAR if similarity is None else similarity
            groups = find_similar(store, searcher.selection, threshold, searcher.present)
        else:
            groups = find_copies(store, searcher.selection, searcher.present, identical=identical)
        filters.say_left_out(searcher)
    if html:
        from clipsearch.output.sheet import write_duplicates

        title = "Similar photos" if similar else "Duplicates"
        write_duplicates(Path(html).expanduser().absolute(), groups, title, text.filter_title(where))
    if form == "table":
        write(text.duplicates(groups, width(), colour=colour()))
    else:
        write_records(records.duplicates(groups, form, b"\0" if null else b"\n"), null=null)
    if not groups:
        raise typer.Exit(NOTHING_FOUND)
