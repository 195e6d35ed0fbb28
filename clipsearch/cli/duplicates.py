"""`clipsearch duplicates`: list groups of copies, move the redundant ones away, or move them back."""

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
    destination,
    flag,
    new_app,
    open_index,
    option,
    say,
    warn_left_out,
    width,
    write,
    write_records,
)
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.output import records, terminal, text
from clipsearch.output.safe_move import Move
from clipsearch.search.question import DEFAULT_SIMILARITY, EVERYTHING, Filter

app = new_app()
ACTION = "Move copies"


@app.command()
@filters.takes_filters
def duplicates(
    identical: Annotated[bool, flag("--identical", "Only byte-identical files.")] = False,
    similar: Annotated[bool, flag("--similar", "List look-alikes instead: edits, crops, bursts.")] = False,
    similarity: Annotated[float | None, option("X", f"Threshold for --similar (default {DEFAULT_SIMILARITY}).")] = None,
    filter: Filter = EVERYTHING,
    move_to: Annotated[str | None, option("DIR", "Move all but the best of each group to DIR.", ACTION)] = None,
    keep: Annotated[list[str] | None, option("FILE", "Move only groups with FILE, and keep it.", ACTION)] = None,
    undo: Annotated[str | None, option("DIR", "Move everything in DIR back.", ACTION)] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Print what would move; change nothing.", ACTION)] = False,
    format: FormatOption = None,
    null: NullOption = False,
    html: Annotated[str | None, option("FILE", "Write an HTML page to review groups.", OUTPUT)] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """List groups of files that show the same picture.

    Copies are identical files, or the same pixels after resizing, recompression or a slight correction. Pixels decide,
    not embeddings: two pages with different text are never copies. The file to keep comes first: not in a trash
    folder, then with the most pixels, then the largest. In a pipe, the paths of all others are printed. --similar lists
    photos that only look alike; they are marked as similar and never printed as bare paths.

    --move-to moves the copies and their sidecars to DIR, keeping the folder structure. Before each move, the copy and
    the best file are read again and must be unchanged since they were indexed. With --keep, which can be repeated, only
    the groups of these files are moved, and all of them stay; only so can similar photos be moved. --undo moves
    everything back.

    Examples:
      clipsearch duplicates
      clipsearch duplicates --identical --under ~/Pictures/2023
      clipsearch duplicates --html copies.html
      clipsearch duplicates --similar --similarity 0.95
      clipsearch duplicates --move-to ~/duplicates --dry-run
      clipsearch duplicates --move-to ~/duplicates
      clipsearch duplicates --move-to ~/duplicates --keep Pictures/2023/again.png
      clipsearch duplicates --undo ~/duplicates

    Exit status: 0 found some, 1 found none, 2 error, 3 some files could not be moved.
    """
    page = destination("html", html)
    form = _form(format, null, page, moves=_moves_files(move_to, undo, dry_run), similar=similar)
    if keep and move_to is None:
        raise BadRequest("--keep needs --move-to")
    _check_kinds(identical, similar, similarity, moves=(move_to is not None or undo is not None) and not keep)
    if undo is not None:
        _undo(undo, form, dry_run, selects=identical or filter != EVERYTHING)
        return
    from clipsearch.output import quarantine

    with open_index(index) as opened:
        folder = None if move_to is None else quarantine.destination(move_to, [one.path for one in opened.folders()])
        if similar:
            groups = opened.similar(similarity, filter=filter)
        else:
            groups = opened.duplicates(identical=identical, filter=filter)
        if keep:
            groups = quarantine.with_kept(groups, [opened.photo_at(path).file for path in keep])
        warn_left_out(opened.left_out)
    if page:
        from clipsearch.output.sheet import write_duplicates

        title = "Similar photos" if similar else "Duplicates"
        write_duplicates(Path(page).expanduser().absolute(), groups, title, text.filter_title(filter))
    if move_to is not None and folder is not None:
        moves = quarantine.move(groups, folder, dry_run=dry_run)
        _report(moves, form, dry_run, lambda done: text.moved(done, move_to, dry_run=dry_run))
    elif form == "table":
        write(terminal.duplicates(groups, width(), colour=colour()))
    else:
        write_records(records.duplicates(groups, form, b"\0" if null else b"\n"))
    if not groups:
        raise typer.Exit(NOTHING_FOUND)


# ------------------------------------------------------------------------------------------ options


def _form(format: str | None, null: bool, html: str | None, *, moves: bool, similar: bool) -> str:
    if moves:
        if null or html is not None:
            raise BadRequest("--move-to and --undo print moves, not groups; leave out --html and -0")
        return chosen_format(format, records.MOVE_FORMATS, "table")
    if similar and (null or format == "paths"):
        raise BadRequest("similar photos are not copies and are not printed as bare paths; use --format tsv or jsonl")
    piped = "tsv" if similar else "paths"
    form = chosen_format(format, records.FORMATS, piped if null or not sys.stdout.isatty() else "table")
    if null and form != "paths":
        raise BadRequest(f"-0 prints paths; leave out --format {form}")
    return form


def _check_kinds(identical: bool, similar: bool, similarity: float | None, *, moves: bool) -> None:
    """Raise `BadRequest` for options that contradict each other."""
    if identical and similar:
        raise BadRequest("use --identical or --similar, not both")
    if similar and moves:
        raise BadRequest("similar photos are not copies; choose which ones stay with --keep, or leave out --similar")
    if similarity is not None and not similar:
        raise BadRequest("--similarity needs --similar: copies are decided on pixels")
    if similarity is not None and not 0 <= similarity <= 1:
        raise BadArgument("similarity", f"must be a cosine, 0 to 1, not {similarity}")


# ------------------------------------------------------------------------------------------ moving copies away


def _moves_files(move_to: str | None, undo: str | None, dry_run: bool) -> bool:
    """Whether --move-to or --undo is given. Raises `BadRequest` for contradictory options."""
    if move_to is not None and undo is not None:
        raise BadRequest("use --move-to or --undo, not both")
    if move_to is None and undo is None and dry_run:
        raise BadRequest("--dry-run needs --move-to or --undo")
    return move_to is not None or undo is not None


def _undo(folder: str, form: str, dry_run: bool, *, selects: bool) -> None:
    if selects:
        raise BadRequest("--undo moves everything back; leave out --identical and filters")
    from clipsearch.output.undo import undo

    moves = undo(folder, dry_run=dry_run)
    if not _report(moves, form, dry_run, lambda done: text.put_back(done, folder, dry_run=dry_run)):
        raise typer.Exit(NOTHING_FOUND)


def _report(moves: Iterable[Move], form: str, dry_run: bool, summary: Callable[[list[Move]], str]) -> bool:
    """Print moves, then a summary. Returns whether there were any; exits with `SKIPPED` after a failure."""
    done: list[Move] = []

    def recorded() -> Iterator[Move]:
        for one in moves:
            done.append(one)
            if form == "table" and not one.moved:
                sys.stdout.flush()
                say(text.stays(one))
            yield one

    try:
        if form == "table":
            write(text.moves(recorded(), dry_run=dry_run))
        else:
            write_records(records.moves(recorded(), form))
        sys.stdout.flush()
    except BaseException:
        if any(one.moved for one in done):  # the summary says how to undo them
            say(summary(done))
        raise
    say(summary(done))
    if any(one.failed for one in done):
        raise typer.Exit(SKIPPED)
    return bool(done)
