"""The options that choose among photos. Several commands have them."""

from collections.abc import Iterable
from typing import Annotated

import typer

from clipsearch.cli.app import WHICH, lines, say, say_missing, some, split
from clipsearch.errors import BadRequest
from clipsearch.output import text
from clipsearch.search.query import Searcher
from clipsearch.store import filters
from clipsearch.store.filters import Filter
from clipsearch.store.searchable import Searchable


def _which(metavar: str, help: str, *names: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(*names, metavar=metavar, help=help, rich_help_panel=WHICH)
    return option


Under = Annotated[list[str] | None, _which("DIR", "Only photos in this folder; repeat for any of several.")]
After = Annotated[list[str] | None, _which("DATE", "Taken then or later: 2023, 2023-06-14, '3 months ago'.")]
Before = Annotated[list[str] | None, _which("DATE", "Taken earlier than that.")]
Camera = Annotated[list[str] | None, _which("TEXT", "Its maker or model has this in it; repeat for any.")]
Near = Annotated[list[str] | None, _which("LAT,LON[,KM]", "Taken around there, 10 km if not said; repeat for any.")]
Size = Annotated[list[str] | None, _which("[+-]SIZE", "+2M: at least; -500k: at most; repeat for all.")]
Orientation = Annotated[
    list[str] | None, _which("|".join(filters.ORIENTATIONS), "By width and height, upright; repeat for any.")
]
Type = Annotated[list[str] | None, _which("TYPE", "Kind of file, such as jpeg or png; repeat for any.")]
Name = Annotated[list[str] | None, _which("TEXT", "Its path has all these words in it; repeat for any.")]
Reads = Annotated[list[str] | None, _which("TEXT", "All these words are written in it (--ocr); repeat for any.")]
Keyword = Annotated[list[str] | None, _which("TEXT", "Tagged so by another program; repeat for all.")]
FilesFrom = Annotated[list[str] | None, _which("FILE", "Only photos it lists, a path a line (- is stdin); repeatable.")]
From0 = Annotated[bool, typer.Option("--from0", help="Paths in --files-from end in NUL.", rich_help_panel=WHICH)]


def photo_filter(
    under: list[str] | None,
    after: list[str] | None,
    before: list[str] | None,
    camera: list[str] | None,
    near: list[str] | None,
    size: list[str] | None,
    orientation: list[str] | None,
    type: list[str] | None,
    name: list[str] | None,
    reads: list[str] | None,
    keyword: list[str] | None,
    files_from: list[str] | None,
    from0: bool,
) -> Filter:
    """What the options say. Raises `BadRequest`."""
    if from0 and not files_from:
        raise BadRequest("--from0 says how --files-from is to be read; give it a file, or - for stdin")
    where = filters.written(
        under=under,
        after=after,
        before=before,
        camera=camera,
        near=near,
        size=size,
        orientation=orientation,
        type=type,
        name=name,
        reads=reads,
        keyword=keyword,
    )
    if not files_from:
        return where
    return where._replace(files=tuple(path for source in files_from for path in _listed(source, from0)))


def _listed(source: str, null: bool) -> Iterable[bytes]:
    if null:
        return (path for path in split(source, b"\0") if path)
    return (line for _, line in lines(source))


def searcher_of(store: Searchable, where: Filter) -> Searcher:
    """Asks a store about the photos that pass a filter; says what of it is not searched."""
    searcher = Searcher(store, where)
    say_missing(searcher.selection.missing)
    for root, offline in searcher.selection.offline.items():
        say(f"not searched: {text.printable(root.path)} {offline}")
    return searcher


def say_left_out(searcher: Searcher) -> None:
    """A line on stderr each for photos in folders that may not be read, and for photos that were changed."""
    hidden, changed = searcher.present.hidden, searcher.present.changed
    if hidden:
        count = text.photos(sum(hidden.values()))
        say(f"left out: {count} in {some(sorted(hidden))}, which cannot be read")
    if changed:
        say(f"left out, changed since it was indexed: {some(changed)}; first run: clipsearch index")
