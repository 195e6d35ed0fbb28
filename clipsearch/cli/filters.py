"""The filter options of commands, generated from the table of filters."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any

from clipsearch.cli.app import flag, lines, option, split
from clipsearch.errors import BadRequest
from clipsearch.search.question import FILTERS, Filter

PANEL = "Filters"
_FILES_FROM, _FROM0 = "files_from", "from0"


def takes_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `filter` of a command by one option per filter, --files-from and --from0."""
    signature = inspect.signature(command)
    options = _options()
    parameters = [
        option for one in signature.parameters.values() for option in (options if one.name == "filter" else [one])
    ]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        filter = _filter({option.name: arguments.pop(option.name) for option in options})
        command(filter=filter, **arguments)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _options() -> list[inspect.Parameter]:
    texts = [(entry.option, entry.flag, entry.metavar, entry.help) for entry in FILTERS]
    texts.append((_FILES_FROM, "--files-from", "FILE", "Listed in FILE, one path per line."))
    options = [
        _parameter(name, list[str] | None, None, option(metavar, about, PANEL, name_of))
        for name, name_of, metavar, about in texts
    ]
    null = flag("--from0", "Paths in --files-from end with NUL.", PANEL)
    return [*options, _parameter(_FROM0, bool, False, null)]


def _parameter(name: str, kind: Any, default: object, about: Any) -> inspect.Parameter:
    annotation = Annotated[kind, about]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _filter(values: dict[str, Any]) -> Filter:
    sources, null = values.pop(_FILES_FROM), values.pop(_FROM0)
    if null and not sources:
        raise BadRequest("--from0 needs --files-from FILE")
    filter = Filter.parse((option, text) for option, texts in values.items() for text in texts or ())
    if not sources:
        return filter
    return replace(filter, files=[path for source in sources for path in _paths_in(source, null)])


def _paths_in(source: str, null: bool) -> Iterable[bytes]:
    if null:
        return (path for path in split(source, b"\0") if path)
    return (line for _, line in lines(source))
