"""The filter options, made from the table of filters for every command that takes them."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any

import typer

from clipsearch.cli.app import WHICH, lines, split
from clipsearch.errors import BadRequest
from clipsearch.search.question import FILTERS, Filter

_FILES_FROM, _FROM0 = "files_from", "from0"


def takes_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `filter` with one option for each filter, and two that list files."""
    signature = inspect.signature(command)
    options = _options()
    parameters = [
        option for one in signature.parameters.values() for option in (options if one.name == "filter" else [one])
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        chosen = {option.name: given.pop(option.name) for option in options}
        command(filter=_filter(chosen), **given)

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
    filter = Filter.parse((option, text) for option, texts in chosen.items() for text in texts or ())
    if not sources:
        return filter
    return replace(filter, files=[path for source in sources for path in _listed(source, null)])


def _listed(source: str, null: bool) -> Iterable[bytes]:
    if null:
        return (path for path in split(source, b"\0") if path)
    return (line for _, line in lines(source))
