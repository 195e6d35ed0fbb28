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


Under = Annotated[str | None, _which("DIR", "Only photos in this folder.")]
After = Annotated[str | None, _which("DATE", "Taken then or later: 2023, 2023-06-14, '3 months ago'.")]
Before = Annotated[str | None, _which("DATE", "Taken earlier than that.")]
Camera = Annotated[str | None, _which("TEXT", "Its maker or model has this in it.")]
Near = Annotated[str | None, _which("LAT,LON[,KM]", "Taken around there; 10 km unless it says.")]
Size = Annotated[list[str] | None, _which("[+-]SIZE", "+2M: at least; -500k: at most; repeatable.")]
Orientation = Annotated[str | None, _which("|".join(filters.ORIENTATIONS), "By width and height, upright.")]
Type = Annotated[list[str] | None, _which("TYPE", "Kind of file, such as jpeg or png; repeatable.")]
Name = Annotated[str | None, _which("TEXT", "Its name, or a folder's, has these words in it.")]
Reads = Annotated[str | None, _which("TEXT", "These words are written in it; index --ocr has read them.")]
Keyword = Annotated[list[str] | None, _which("TEXT", "Another program tagged it so; repeatable.")]
FilesFrom = Annotated[str | None, _which("FILE", "Only photos that it lists, a path a line; - is stdin.")]
From0 = Annotated[bool, typer.Option("--from0", help="Paths in --files-from end in NUL.", rich_help_panel=WHICH)]


def photo_filter(
    under: str | None,
    after: str | None,
    before: str | None,
    camera: str | None,
    near: str | None,
    size: list[str] | None,
    orientation: str | None,
    type: list[str] | None,
    name: str | None,
    reads: str | None,
    keyword: list[str] | None,
    files_from: str | None,
    from0: bool,
) -> Filter:
    """What the options say. Raises `BadRequest`."""
    if from0 and files_from is None:
        raise BadRequest("--from0 says how --files-from is to be read; give it a file, or - for stdin")
    where = filters.written(
        under=under,
        after=after,
        before=before,
        camera=camera,
        near=near,
        size=size or (),
        orientation=orientation,
        type=type or (),
        name=name,
        reads=reads,
        keyword=keyword or (),
    )
    return where if files_from is None else where._replace(files=tuple(_listed(files_from, from0)))


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
        say(f"left out, changed since it was indexed: {some(list(changed))}; first run: clipsearch index")
