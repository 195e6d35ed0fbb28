"""The filter options, which several commands share."""

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


Under = Annotated[list[str] | None, _which("DIR", "In this folder.")]
After = Annotated[list[str] | None, _which("DATE", "Taken on or after: 2023-06, yesterday.")]
Before = Annotated[list[str] | None, _which("DATE", "Taken before, not on, this date.")]
Camera = Annotated[list[str] | None, _which("TEXT", "Camera make or model contains TEXT.")]
Near = Annotated[list[str] | None, _which("LAT,LON[,KM]", "Taken within KM (default 10).")]
Size = Annotated[list[str] | None, _which("[+-]SIZE", "+2M: at least; -500k: at most.")]
Orientation = Annotated[list[str] | None, _which("SHAPE", "landscape, portrait or square.")]
Type = Annotated[list[str] | None, _which("TYPE", "jpeg, png, heic, video, raw, ...")]
Name = Annotated[list[str] | None, _which("TEXT", "Path contains these words.")]
Reads = Annotated[list[str] | None, _which("TEXT", "Text in the photo (needs index --ocr).")]
Keyword = Annotated[list[str] | None, _which("TEXT", "Has this keyword.")]
FilesFrom = Annotated[list[str] | None, _which("FILE", "Listed in FILE, one path per line.")]
From0 = Annotated[bool, typer.Option("--from0", help="Paths in --files-from end with NUL.", rich_help_panel=WHICH)]


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
    """The filter that the options describe. Raises `BadRequest`."""
    if from0 and not files_from:
        raise BadRequest("--from0 needs --files-from FILE")
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
    """A searcher over the photos that pass a filter. Prints a line for each folder that is offline."""
    searcher = Searcher(store, where)
    say_missing(searcher.selection.missing)
    for root, offline in searcher.selection.offline.items():
        say(f"not searched: {text.printable(root.path)} {offline}")
    return searcher


def say_left_out(searcher: Searcher) -> None:
    """Warn on stderr about photos in unreadable folders and photos changed since they were indexed."""
    hidden, changed = searcher.present.hidden, searcher.present.changed
    if hidden:
        count = text.photos(sum(hidden.values()))
        say(f"not shown: {count} in {some(sorted(hidden))}, which cannot be read")
    if changed:
        say(f"not shown, changed since indexed: {some(list(changed))}. Run: clipsearch index")
