"""The filter options, made from the table of filters for every command that takes them."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any

import typer

from clipsearch.cli.app import WHICH, lines, say, say_missing, some, split
from clipsearch.errors import BadRequest
from clipsearch.output import text
from clipsearch.search.query import Searcher
from clipsearch.store.filters import FILTERS, Filter
from clipsearch.store.searchable import Searchable

_FILES_FROM, _FROM0 = "files_from", "from0"


def takes_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `where` with one option for each filter, and two that list files."""
    signature = inspect.signature(command)
    options = _options()
    parameters = [
        option for one in signature.parameters.values() for option in (options if one.name == "where" else [one])
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        chosen = {option.name: given.pop(option.name) for option in options}
        command(where=_filter(chosen), **given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _options() -> list[inspect.Parameter]:
    texts = [(entry.option, f"--{entry.option}", entry.metavar, entry.help) for entry in FILTERS]
    texts.append((_FILES_FROM, "--files-from", "FILE", "Listed in FILE, one path per line."))
    options = [
        _parameter(name, list[str] | None, None, typer.Option(flag, metavar=metavar, help=about, rich_help_panel=WHICH))
        for name, flag, metavar, about in texts
    ]
    null = typer.Option("--from0", help="Paths in --files-from end with NUL.", rich_help_panel=WHICH)
    return [*options, _parameter(_FROM0, bool, False, null)]


def _parameter(name: str, kind: Any, default: object, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _filter(chosen: dict[str, Any]) -> Filter:
    """The filter that the options describe. Raises `BadRequest`."""
    sources, null = chosen.pop(_FILES_FROM), chosen.pop(_FROM0)
    if null and not sources:
        raise BadRequest("--from0 needs --files-from FILE")
    where = Filter.parse((option, text) for option, texts in chosen.items() for text in texts or ())
    if not sources:
        return where
    return replace(where, files=[path for source in sources for path in _listed(source, null)])


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
