"""What the commands share: options, streams, and how an error becomes one sentence and an exit status."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from clipsearch import errors
from clipsearch.errors import BadArgument, BadRequest, ClipsearchError
from clipsearch.index import Index
from clipsearch.output import text
from clipsearch.output.records import FORMATS, LABEL_FORMATS, as_json
from clipsearch.paths import index_folder, index_place

if TYPE_CHECKING:
    from clipsearch.search.find import LeftOut

FOUND, NOTHING_FOUND, FAILED, SKIPPED, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
USAGE_ERROR: Any = typer.BadParameter.__base__  # of all errors of usage; Typer gives it no name of its own
MOST_LISTED = 1 << 30  # bytes of a list of files, labels or queries
_LONGEST_LINE, _AT_ONCE = 1 << 24, 1 << 20  # bytes

# What to do about an error, by its class or the nearest base class.
HINTS: dict[type[ClipsearchError], str] = {
    errors.NoIndex: "create one with: clipsearch index DIR",
    errors.NoCollection: "create one with: clipsearch publish URI",
    errors.CollectionOutdated: "replace it with: clipsearch publish URI --replace",
    errors.IndexEmpty: "fill it with: clipsearch index DIR",
    errors.IndexDamaged: "repair it with: clipsearch verify",
    errors.CatalogueDamaged: "delete catalogue.sqlite there and index your folders again",
    errors.IndexTooNew: "use a newer clipsearch",
    errors.ModelMismatch: "add --rebuild to re-embed everything, or use another --index",
    errors.ModelUnknown: "clipsearch models --all lists them",
    errors.WeightsChanged: "restore them, or rebuild the index: clipsearch index --rebuild",
    errors.DownloadFailed: "use --weights FILE, or --model mini, which needs no download",
    errors.EncodingFailed: "try a smaller --batch-size",
    errors.FolderOffline: "reconnect it, or remove it from the index: clipsearch forget DIR",
    errors.NotIndexed: "clipsearch status lists the indexed folders",
    errors.ConceptsDamaged: "restore the backup with: clipsearch verify",
}
# Arguments whose option has another name.
OPTIONS = {
    "uri": "URI",
    "k": "-k",
    "directories": "DIR",
    "labels": "LABEL",
    "templates": "--template",
}

Parameters = ParamSpec("Parameters")


# ------------------------------------------------------------------------------------------ options


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


WHICH, HOW_MANY, OUTPUT, OTHER = "Which photos", "How many", "Output", "Other"  # panels of the help

IndexOption = Annotated[
    str | None,  # a Path would make "." of an empty name
    typer.Option("--index", metavar="PATH", help="Use this index (default: $CLIPSEARCH_INDEX).", rich_help_panel=OTHER),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object.", rich_help_panel=OUTPUT)]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=OTHER)]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", "-f", metavar="FORMAT", help=f"{_either(FORMATS)}.", rich_help_panel=OUTPUT),
]
RecordFormatOption = Annotated[
    str | None,
    typer.Option("--format", "-f", metavar="FORMAT", help=f"{_either(LABEL_FORMATS)}.", rich_help_panel=OUTPUT),
]
NullOption = Annotated[
    bool, typer.Option("-0", "--print0", help="End paths with NUL, for xargs -0.", rich_help_panel=OUTPUT)
]


def open_index(option: str | None) -> Index:
    """The index of --index."""
    return Index(index_place(option))


def open_folder(option: str | None) -> Index:
    """The same, for commands that need a folder. Raises `BadArgument` for a collection."""
    return Index(index_folder(option))


def new_app(**settings: Any) -> typer.Typer:
    """A Typer app with the settings that all commands share."""
    return typer.Typer(
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        **({"add_completion": False} | settings),
    )


def explained(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """The error boundary of a command: whatever it raises becomes a sentence on stderr and an exit status."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            function(*args, **options)
            sys.stdout.flush()
        except (typer.Exit, USAGE_ERROR, SystemExit):
            raise
        except BaseException as error:
            raise typer.Exit(report(error)) from None

    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    run.__doc__ = literal("\n\n".join(map(_as_one, paragraphs)))
    return run


def literal(help: str) -> str:
    """Text for the help, whose [brackets] Rich would otherwise take for markup and drop."""
    return re.sub(r"\[(?=[a-z#/@])", r"\[", help)


def _as_one(paragraph: str) -> str:
    """A paragraph of help on one line, which the terminal breaks where it must; examples keep their lines."""
    if paragraph.startswith("Exit status:"):
        paragraph = f"{paragraph.rstrip('.')}; {INTERNAL} for an internal error."
    return f"\b\n{paragraph}" if paragraph.startswith("Example") else paragraph.replace("\n", " ")


def report(error: BaseException) -> int:
    """Say in one sentence what ended the program, after the traceback with --debug; returns the exit status."""
    whole = error
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:  # as anyio wraps what it passes on
        error = error.exceptions[0]
    if isinstance(error, BrokenPipeError):  # whoever read the results has seen enough
        let_go()
        return FOUND
    if isinstance(error, KeyboardInterrupt):
        say("clipsearch: interrupted")
        return INTERRUPTED
    status, said = INTERNAL, type(error).__name__
    with contextlib.suppress(Exception):  # an error that cannot even be described has been caught all the same
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exception(whole)
        if isinstance(error, ClipsearchError | MemoryError | OSError):
            status, said = getattr(error, "exit_code", FAILED), sentence(error)
        else:
            said = f"{said}: {errors.first_line(error)}" if str(error) else said
    if status == INTERNAL:
        said = f"internal error: {said}; rerun with --debug for the traceback, and please report it"
    say(f"clipsearch: {said}")
    return status


def sentence(error: Exception) -> str:
    """What an error says, in the words of the command line, and what can be done about it."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError):
        where = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        return f"{errors.reason(error)}{where}"
    if isinstance(error, BadArgument):
        return f"{OPTIONS.get(error.argument, '--' + error.argument.replace('_', '-'))} {error.problem}"
    if isinstance(error, errors.IndexOutdated):
        folders = " ".join(text.quoted(folder) for folder in error.folders)
        return f"{error}; rebuild it with: clipsearch index --rebuild {folders}".rstrip()
    hint = next((HINTS[kind] for kind in type(error).__mro__ if kind in HINTS), None)
    return f"{error}; {hint}" if hint else str(error)


# ------------------------------------------------------------------------------------------ streams


def own_the_streams() -> None:
    """Keep stderr to ourselves, and have streams where the caller closed them.

    libtiff and libjpeg write to file descriptor 2, past Python: from here on that leads nowhere, and `sys.stderr` to
    a copy of it.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    # Results that nobody can take are an error, as the system has it: what is written to this cannot be.
    sys.stdout = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
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


def let_go() -> None:
    """Write what is left. What nobody reads goes nowhere, so that Python has nothing to say of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the latter of one that was closed
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    for number, raw in enumerate(split(source, b"\n"), 1):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if line.strip():
            yield f"{source}, line {number}", line.rstrip(b"\r")


def split(source: str, end: bytes) -> Iterator[bytes]:
    """The parts of a file or of stdin (-) before each `end`, one byte, as they come in. Raises `BadRequest`.

    What has no end, such as /dev/zero, is refused before it fills the memory.
    """
    try:
        with open_or_stdin(source) as file:
            read, rest = 0, b""
            # A line from a pipe is passed on before the next one is there.
            while part := file.readline(_AT_ONCE) if end == b"\n" else file.read(_AT_ONCE):
                read += len(part)
                if end == b"\0" and not part.strip(end):  # as /dev/zero has it
                    part, rest = rest, b""
                *whole, rest = (rest + part).split(end)
                yield from whole
                if read > MOST_LISTED or len(rest) > _LONGEST_LINE:
                    raise BadRequest(f"{source} is too long to be a list")
            yield from [rest] if rest else []
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {errors.reason(error)}") from None


def text_lines(source: str) -> Iterator[tuple[str, str]]:
    """The lines of a file or of stdin as text, without the blanks around them. Raises `BadRequest` if not UTF-8."""
    for place, raw in lines(source):
        try:
            yield place, raw.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{place}: not UTF-8") from None


def picture(place: str) -> Any:
    """An image argument for the library: its path or URL, or the open stdin for -. Raises `BadRequest`."""
    return open_or_stdin(place).__enter__() if place == "-" else place  # stdin stays open


# ------------------------------------------------------------------------------------------ what is said


def say(message: str) -> None:
    """One line on stderr, in which nothing can act on a terminal."""
    with contextlib.suppress(OSError, ValueError):  # nobody listens, or the log is full: the exit status is left
        print(text.printable(message), file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout."""
    write_records([as_json(value, indent=2)])


def write(chunks: Iterable[bytes]) -> None:
    """Bytes on stdout."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)


def write_records(chunks: Iterable[bytes]) -> None:
    """Records on stdout: as they are for a program, harmless on a terminal."""
    write(map(text.harmless, chunks) if sys.stdout.isatty() else chunks)


def print_line(line: str) -> None:
    """A line on stdout, harmless on a terminal."""
    write_records([f"{line}\n".encode("utf-8", "replace")])


def some(paths: Sequence[bytes]) -> str:
    """The first of paths, and how many more."""
    return os.fsdecode(paths[0]) + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")


def say_left_out(left_out: LeftOut) -> None:
    """Warn on stderr about everything that was not searched."""
    if left_out.unknown:
        say(f"not in the index, ignored: {some(left_out.unknown)}")
    for root, why in left_out.offline.items():
        say(f"not searched: {text.printable(root)} {why}")
    if left_out.unreadable:
        count = text.photos(sum(left_out.unreadable.values()))
        say(f"not shown: {count} in {some(sorted(left_out.unreadable))}, which cannot be read")
    if left_out.changed:
        say(f"not shown, changed since indexed: {some(left_out.changed)}. Run: clipsearch index")


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def colour() -> bool:
    """Whether stdout shows colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def destination(option: str, given: Sequence[str] | None, what: str = "a name") -> str | None:
    """Where to write. Raises `BadArgument` for an empty name, and for two: one of them would get nothing."""
    if given and len(given) > 1:
        raise BadArgument(option, "was given twice")
    for name in given or ():
        if name in ("", "-"):
            raise BadArgument(option, f"needs {what}, not {name!r}")
        return name
    return None


def chosen_format(wanted: str | None, formats: Sequence[str], usual: str) -> str:
    """The wanted format, or the usual one. Raises `BadRequest` if it is unknown."""
    if wanted is not None and wanted not in formats:
        raise BadRequest(f"unknown format {wanted!r}; choose from {', '.join(formats)}")
    return wanted or usual
