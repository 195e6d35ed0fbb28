"""The frame of the command line: commands, what several of them take, streams, errors to a sentence and a status."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Annotated, Any, TypeVar

import typer

from clipsearch.errors import BadRequest, ClipsearchError
from clipsearch.output import render
from clipsearch.store import filters
from clipsearch.store.filters import Filter

FOUND, NOTHING_FOUND, FAILED, SKIPPED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    help="Find photos in local folders by what is in them.",
    epilog="clipsearch index ~/Pictures, then: clipsearch query 'a dog on a beach'",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

IndexOption = Annotated[
    str | None,  # a Path would make "." of an empty name
    typer.Option("--index", metavar="PATH", help="Folder of the index; also CLIPSEARCH_INDEX.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

Command = TypeVar("Command", bound=Callable[..., None])


def photo_filter(
    under: Annotated[str | None, typer.Option(metavar="DIR", help="Only photos in this folder.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Taken then or later: 2023, 2023-06-14, '3 months ago'.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="DATE", help="Taken earlier than that.")] = None,
    camera: Annotated[str | None, typer.Option(metavar="TEXT", help="Its maker or model has this in it.")] = None,
    near: Annotated[
        str | None, typer.Option(metavar="LAT,LON[,KM]", help="Taken around there; 10 km unless it says.")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="[+-]SIZE", help="+2M: at least; -500k: at most; repeatable.")
    ] = None,
    orientation: Annotated[
        str | None, typer.Option(metavar="|".join(filters.ORIENTATIONS), help="By width and height, upright.")
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="Kind of file, such as jpeg or png; repeatable.")
    ] = None,
    files_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="Only photos that it lists, a path a line; - is stdin.")
    ] = None,
    from0: Annotated[bool, typer.Option("--from0", help="Paths in --files-from end in NUL.")] = False,
) -> Filter:
    """The options of every command that chooses among photos. Raises `BadRequest`."""
    for name, text in (("--under", under), ("--camera", camera)):
        if text == "":
            raise BadRequest(f"{name} was given an empty name")
    bounds = [filters.parse_size(text) for text in size or ()]
    if from0 and files_from is None:
        raise BadRequest("--from0 says how --files-from is to be read; give it a file, or - for stdin")
    return Filter(
        under=under,
        after=filters.parse_date(after) if after is not None else None,
        before=filters.parse_date(before) if before is not None else None,
        camera=camera,
        near=filters.parse_circle(near) if near is not None else None,
        at_least=max((least for least, _ in bounds if least is not None), default=None),
        at_most=min((most for _, most in bounds if most is not None), default=None),
        orientation=filters.parse_orientation(orientation) if orientation is not None else None,
        types=tuple(suffix for text in type or () for suffix in filters.parse_type(text)),
        files=None if files_from is None else tuple(_listed(files_from, from0)),
    )


def _listed(source: str, null: bool) -> Iterator[bytes]:
    if not null:
        yield from (line for _, line in lines(source))
        return
    try:
        with open_or_stdin(source) as file:
            yield from (path for path in file.read().split(b"\0") if path)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror}") from None


def command(function: Command) -> Command:
    """Make a function a command of its name, once `explained` has made it ready for Typer."""
    app.command(function.__name__.rstrip("_"))(function)
    return function


def explained(function: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer is to call it: errors become sentences on stderr and exit statuses, `where` the options of
    `photo_filter`.
    """
    parameters = dict(inspect.signature(function, eval_str=True).parameters)
    chosen = dict(inspect.signature(photo_filter, eval_str=True).parameters) if "where" in parameters else {}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        try:
            if chosen:
                values["where"] = photo_filter(**{name: values.pop(name) for name in chosen})
            function(**values)
            sys.stdout.flush()
        except ClipsearchError as error:
            if values.get("debug"):
                raise
            say(f"clipsearch: {error}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:  # whoever read the results has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            say("clipsearch: interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if values.get("debug"):
                raise
            where = f" {os.fsdecode(error.filename)}" if error.filename else ""
            say(f"clipsearch: {error.strerror or error}{where}")
            raise typer.Exit(FAILED) from None

    # Typer joins the lines of a paragraph unless it begins with a backspace.
    run.__doc__ = re.sub(r"\n( *)(Examples?:\n)", r"\n\1\b\n\1\2", function.__doc__ or "")
    shown: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        shown += chosen.values() if name == "where" else [parameter]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shown]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]  # where Typer looks for options
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return run


def own_the_streams() -> None:
    """Keep stderr to ourselves, and have streams where the caller closed them.

    libtiff and libjpeg write to file descriptor 2, past Python: from here on that leads nowhere, and `sys.stderr` to
    a copy of it.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    else:
        sys.stderr.flush()
        copy = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        sys.stderr = open(copy, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from importlib.metadata import version

        print(f"clipsearch {version('clipsearch')}")
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Find photos in local folders by what is in them. Nothing leaves this machine."""


# ------------------------------------------------------------------------------------------ input and output


_stdin_is_read = False


def open_or_stdin(source: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """A file to read, or stdin for -, which can be read once. Raises OSError or `BadRequest`."""
    global _stdin_is_read  # noqa: PLW0603  # as the process has one stdin
    if source != "-":
        return open(source, "rb")
    if _stdin_is_read:
        raise BadRequest("only one option can read stdin; give the others a file")
    _stdin_is_read = True
    return contextlib.nullcontext(sys.stdin.buffer)


def lines(source: str) -> Iterator[tuple[str, bytes]]:
    """The lines of a file or of stdin (-) that are not blank, each after its place for messages."""
    try:
        with open_or_stdin(source) as file:
            for number, raw in enumerate(file, 1):
                line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if line.strip():
                    yield f"{source}, line {number}", line.rstrip(b"\r\n")
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror}") from None


def text_lines(source: str) -> Iterator[tuple[str, str]]:
    """The same as text, without the blanks around them. Raises `BadRequest` for what is not UTF-8."""
    for place, raw in lines(source):
        try:
            yield place, raw.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{place}: not UTF-8") from None


def say(text: str) -> None:
    """One line on stderr, in which nothing can act on a terminal."""
    print(render.printable(text), file=sys.stderr, flush=True)


def some(paths: Sequence[bytes]) -> str:
    """The first of paths, and how many more."""
    return os.fsdecode(paths[0]) + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")


def say_missing(paths: Sequence[bytes]) -> None:
    """One line on stderr, if there were paths that the index does not have."""
    if paths:
        say(f"left out, not in the index: {some(paths)}")


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout."""
    write([render.as_json(value, indent=2)])


def write(chunks: Iterable[bytes]) -> None:
    """Bytes on stdout."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
