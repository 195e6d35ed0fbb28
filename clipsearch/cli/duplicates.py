"""`clipsearch duplicates`: list groups of copies, move the redundant ones away, and put them back."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import filters
from clipsearch.cli.app import (
    NOTHING_FOUND,
    OUTPUT,
    SKIPPED,
    DebugOption,
    FormatOption,
    IndexOption,
    NullOption,
    chosen_format,
    colour,
    explained,
    new_app,
    say,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.output import quarantine, records, text
from clipsearch.output.quarantine import Move
from clipsearch.paths import index_place
from clipsearch.search.duplicates import NEAR, find_duplicates
from clipsearch.store.filters import EVERYTHING
from clipsearch.store.opening import open_index

app = new_app()
ACTION = "Moving copies away"


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
    move_to: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Move all but the best of each group into DIR.", rich_help_panel=ACTION),
    ] = None,
    undo: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Put everything in DIR back where it was.", rich_help_panel=ACTION),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be moved; change nothing.", rich_help_panel=ACTION)
    ] = False,
    format: FormatOption = None,
    null: NullOption = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page to review copies.", rich_help_panel=OUTPUT)
    ] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """List groups of identical and near-identical photos: copies, edits, bursts.

    Of each group the best comes first: the one with the most pixels, then the largest file, then the oldest. The
    others are near to it by the cosine of their embeddings, 1 for the same contents. Links to a file are no copies of
    it: they are said to be the same file. An empty line, or with -0 a second NUL, ends a group. Nothing is deleted.

    --move-to moves identical copies and their sidecars into DIR, keeping the folder structure. Before each move, both
    the copy and the best are read again: they must be what was indexed. --undo puts everything back.

    Examples:
      clipsearch duplicates
      clipsearch duplicates --identical --under ~/Pictures/2023
      clipsearch duplicates --similarity 0.98 --format tsv
      clipsearch duplicates --html copies.html
      clipsearch duplicates --move-to ~/duplicates --dry-run
      clipsearch duplicates --move-to ~/duplicates
      clipsearch duplicates --undo ~/duplicates

    Exit status: 0 when there are any, 1 when there are none, 2 for an error, 3 when a file could not be moved.
    """
    if identical and similarity is not None:
        raise BadRequest("--identical asks for the same contents, --similarity for near ones; take one")
    if similarity is not None and not 0 <= similarity <= 1:
        raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity}")
    if _is_about_moves(move_to, undo, dry_run, lists=null or html is not None or similarity is not None):
        form = chosen_format(format, records.MOVE_FORMATS, "table")
    else:
        form = chosen_format(format, records.FORMATS, "paths" if null or not sys.stdout.isatty() else "table")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; it does not go with --format {form}")
    if html in ("", "-"):
        raise BadArgument("html", f"needs a name, not {html!r}")
    where = filters.photo_filter(
        under, after, before, camera, near, size, orientation, type, name, reads, keyword, files_from, from0
    )
    if undo is not None:
        _undo(undo, form, dry_run, chooses=identical or where != EVERYTHING)
        return
    with open_index(index_place(index)) as store:
        searcher = filters.searcher_of(store, where)
        roots = [root.path for root in store.roots()]
        folder = None if move_to is None else quarantine.destination(move_to, roots)
        # An embedding is no proof that two photos are copies.
        threshold = None if identical or folder else NEAR if similarity is None else similarity
        groups = find_duplicates(store, searcher.selection, threshold, searcher.present)
        filters.say_left_out(searcher)
    if html:
        from clipsearch.output.sheet import write_duplicates

        write_duplicates(Path(html).expanduser().absolute(), groups, text.filter_title(where))
    if move_to is not None and folder is not None:
        moves = quarantine.move(groups, folder, dry_run=dry_run)
        _report(moves, form, dry_run, lambda done: text.moved(done, move_to, dry_run=dry_run))
    elif form == "table":
        write(text.duplicates(groups, width(), colour=colour()))
    else:
        write_records(records.duplicates(groups, form, b"\0" if null else b"\n"), null=null)
    if not groups:
        raise typer.Exit(NOTHING_FOUND)


# ------------------------------------------------------------------------------------------ moving copies away


def _is_about_moves(move_to: str | None, undo: str | None, dry_run: bool, *, lists: bool) -> bool:
    """Whether files are moved. Raises `BadRequest` for a contradiction; `lists`: some options are about the list."""
    if move_to is not None and undo is not None:
        raise BadRequest("--move-to and --undo are opposites; take one")
    if move_to is None and undo is None and dry_run:
        raise BadRequest("--dry-run is for --move-to and --undo")
    if (move_to is not None or undo is not None) and lists:
        raise BadRequest("--move-to and --undo list no groups; leave out --similarity, --html and -0")
    return move_to is not None or undo is not None


def _undo(folder: str, form: str, dry_run: bool, *, chooses: bool) -> None:
    if chooses:
        raise BadRequest("--undo puts everything back; leave out what chooses among photos")
    moves = quarantine.undo(folder, dry_run=dry_run)
    if not _report(moves, form, dry_run, lambda done: text.put_back(done, folder, dry_run=dry_run)):
        raise typer.Exit(NOTHING_FOUND)


def _report(moves: Iterable[Move], form: str, dry_run: bool, summary: Callable[[list[Move]], str]) -> bool:
    """Print moves as they happen, and a summary; whether there were any. Exits with a status when some have failed."""
    done: list[Move] = []

    def noted() -> Iterator[Move]:
        for one in moves:
            done.append(one)
            if form == "table" and not one.moved:
                sys.stdout.flush()
                say(text.stays(one))
            yield one

    try:
        if form == "table":
            write(text.moves(noted(), dry_run=dry_run))
        else:
            write_records(records.moves(noted(), form))
        sys.stdout.flush()
    except BaseException:
        if any(one.moved for one in done):  # whatever ended it, these can be undone
            say(summary(done))
        raise
    say(summary(done))
    if any(one.failed for one in done):
        raise typer.Exit(SKIPPED)
    return bool(done)
