"""Shared by the commands: options, the error boundary, standard streams, output."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from clipsearch import errors
from clipsearch.errors import BadArgument, BadRequest, ClipsearchError
from clipsearch.index import Index
from clipsearch.output import text
from clipsearch.output.records import FORMATS, LABEL_FORMATS, TEXT_FORMATS, as_json
from clipsearch.paths import index_folder, index_place

if TYPE_CHECKING:
    from clipsearch.search.find import LeftOut

Rendering = Callable[..., Iterable[bytes]]  # of results, for stdout

FOUND, NOTHING_FOUND, FAILED, SKIPPED, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
INTERRUPTIONS = (INTERRUPTED, 128 + 15, 128 + 1)  # Ctrl-C, SIGTERM, SIGHUP
MAX_LIST = 1 << 30  # bytes of a list of files, labels or queries
_MAX_LINE, _CHUNK = 1 << 24, 1 << 20  # bytes

# What the user can do about an error, by its class or nearest base class.
HINTS: dict[type[ClipsearchError], str] = {
    errors.NoIndex: "create one with: clipsearch index DIR",
    errors.NoCollection: "create one with: clipsearch publish URI",
    errors.CollectionOutdated: "replace it with: clipsearch publish URI --replace",
    errors.IndexEmpty: "fill it with: clipsearch index DIR",
    errors.IndexDamaged: "repair it with: clipsearch verify",
    errors.CatalogueDamaged: "delete catalogue.sqlite there and index your folders again",
    errors.IndexTooNew: "upgrade clipsearch",
    errors.ModelMismatch: "add --rebuild to re-embed everything, or use another --index",
    errors.ModelUnknown: "for a list, run: clipsearch models --all",
    errors.WeightsChanged: "restore them, or rebuild the index with: clipsearch index --rebuild",
    errors.DownloadFailed: "use --weights FILE, or --model mini, which needs no download",
    errors.VlmUnusable: "name another with --vlm-model, or use a server with --endpoint",
    errors.DetectorUnusable: "owlv2 is a detector, clipseg a segmenter",
    errors.EncodingFailed: "try a smaller --batch-size",
    errors.FolderOffline: "reconnect it, or remove it from the index with: clipsearch forget DIR",
    errors.NotIndexed: "for the indexed folders, run: clipsearch status",
    errors.ConceptsDamaged: "restore the backup with: clipsearch verify",
    errors.PeopleDamaged: "restore the backup with: clipsearch verify",
    errors.SavedDamaged: "restore the backup with: clipsearch verify",
}
# Library arguments whose option has another name.
OPTIONS = {
    "uri": "URI",
    "k": "-k",
    "directories": "DIR",
    "labels": "LABEL",
    "question": "QUESTION",
    "templates": "--template",
}


# ------------------------------------------------------------------------------------------ options


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


OUTPUT, OTHER = "Output", "Other"  # panels of the help


def argument(metavar: str, help: str) -> Any:
    """A positional argument."""
    return typer.Argument(metavar=metavar, help=help)


def option(metavar: str, help: str, panel: str | None = None, *names: str, **settings: Any) -> Any:
    """An option with a value. Without `names`, it is called like its parameter."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **settings)


def flag(name: str, help: str, panel: str | None = None, *more: str, **settings: Any) -> Any:
    """An option without a value."""
    return typer.Option(name, *more, help=help, rich_help_panel=panel, **settings)


def toggle(name: str, help: str, panel: str) -> Any:
    """An option that can be turned on and off: --raw and --no-raw."""
    return flag(f"{name}/--no-{name.removeprefix('--')}", help, panel, show_default=False)


# Not Path, which turns an empty name into ".".
IndexOption = Annotated[str | None, option("PATH", "Use this index (default: $CLIPSEARCH_INDEX).", OTHER, "--index")]
JsonOption = Annotated[bool, flag("--json", "Print a JSON object.", OUTPUT)]
DebugOption = Annotated[bool, flag("--debug", "Show tracebacks.", OTHER)]
FormatOption = Annotated[str | None, option("FORMAT", f"{_either(FORMATS)}.", OUTPUT, "--format", "-f")]
RecordFormatOption = Annotated[str | None, option("FORMAT", f"{_either(LABEL_FORMATS)}.", OUTPUT, "--format", "-f")]
TextFormatOption = Annotated[str | None, option("FORMAT", f"{_either(TEXT_FORMATS)}.", OUTPUT, "--format", "-f")]
NullOption = Annotated[bool, flag("-0", "End paths with NUL, for xargs -0.", OUTPUT, "--print0")]
AnyPhotos = Annotated[list[str], argument("PHOTO...", "Files, URLs or - (stdin), indexed or not.")]


def open_index(option: str | None) -> Index:
    """The index that --index names, a folder or a collection."""
    return Index(index_place(option))


def open_folder(option: str | None) -> Index:
    """The index folder that --index names. Raises `BadArgument` for a collection."""
    return Index(index_folder(option))


_PRESET = ("k", "format", "index")  # parameters that aliases set; the command line overrides them


_signals: list[int] = []  # not an exception of its own: C libraries replace it by a KeyboardInterrupt


def handle_signals() -> None:
    """Raise `KeyboardInterrupt` for SIGTERM and SIGHUP, too, unless the caller ignores them, as nohup does.

    A second one ends the process at once.
    """
    for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    _signals.append(number)
    raise KeyboardInterrupt


def was_terminated() -> bool:
    """Whether SIGTERM or SIGHUP was what interrupted the program."""
    return bool(_signals)


class _Once:
    """Refuses most options when given twice, because all values but the last would be dropped."""

    def make_parser(self, ctx: Any) -> Any:
        """A parser that raises `BadRequest` for it."""
        parser = super().make_parser(ctx)  # type: ignore[misc]
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args)
            for option, count in () if ctx.resilient_parsing else Counter(order).items():  # to complete a word
                is_choice = not getattr(option, "is_flag", False) or option.secondary_opts  # --faces/--no-faces
                if count > 1 and is_choice and not option.multiple and option.name not in _PRESET:
                    raise BadRequest(f"{option.opts[0]} can be given only once")
            return values, rest, order

        parser.parse_args = parse_once
        return parser


class Command(_Once, typer.core.TyperCommand):
    """A command."""


class Group(_Once, typer.core.TyperGroup):
    """A command with subcommands."""


class _App(typer.Typer):
    def command(self, name: str | None = None, *, cls: Any = Command, **settings: Any) -> Any:
        """As Typer's, for commands that are a `Command`."""
        return super().command(name, cls=cls, **settings)


def new_app(**settings: Any) -> typer.Typer:
    """A Typer app with the settings that all commands share."""
    usual: dict[str, Any] = {"add_completion": False, "cls": Group}
    return _App(
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        **(usual | settings),
    )


def with_default(option: str, value: str) -> type[Command]:
    """Commands where `option` may stand alone for a value; in Typer, an option always takes one or never does."""

    class WithDefault(Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, [f"{option}={value}" if arg == option else arg for arg in args])

    return WithDefault


# ------------------------------------------------------------------------------------------ error boundary


def report(error: BaseException) -> int:
    """Print what ended the program as one line on stderr, with --debug after a traceback. Returns the exit status."""
    original = error
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:  # anyio wraps single exceptions
        error = error.exceptions[0]
    if isinstance(error, SystemExit):
        return _report_exit(error)
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has all it wants
        flush_streams()
        return FOUND
    if isinstance(error, KeyboardInterrupt) or _signals:  # errors on the way out are no news
        say(f"clipsearch: {'terminated' if _signals else 'interrupted'}")
        return 128 + _signals[0] if _signals else INTERRUPTED
    if isinstance(error, typer.TyperException):
        return _report_usage(error)
    if isinstance(error, typer.Abort):  # Typer's substitute for an EOFError
        error = error.__cause__ or error
    status, message = INTERNAL, type(error).__name__
    with contextlib.suppress(Exception):  # the error's own __str__ may fail
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exception(original)
        if isinstance(error, ClipsearchError | MemoryError | OSError):
            status, message = getattr(error, "exit_code", FAILED), message_of(error)
        else:
            message = f"{message}: {errors.first_line(error)}" if str(error) else message
    if status == INTERNAL:
        message = f"internal error: {message}; rerun with --debug for the traceback, and please report it"
    say(f"clipsearch: {message}")
    return status


def _report_exit(stop: SystemExit) -> int:
    if isinstance(stop.__context__, BrokenPipeError):  # Typer exits with 1 when the reader of --help is gone
        return FOUND
    if isinstance(stop.code, str):  # Python would print it and exit with 1, which means "found nothing"
        say(f"clipsearch: {stop.code}")
        return FAILED
    return stop.code or FOUND


def _report_usage(error: Any) -> int:
    """An unknown command, a bad option or a missing argument, in one line instead of Typer's box."""
    message = error.format_message().strip().replace(". Did you mean", "; did you mean")
    if not message or "\n" in message:  # no command was given: print the help
        error.show()
        return FAILED
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "clipsearch"
    hint = "" if message.endswith("?") else f"; see {command} --help"
    say(f"clipsearch: {message[:1].lower()}{message[1:].rstrip('.')}{hint}")
    return FAILED


def message_of(error: Exception) -> str:
    """What happened, with options for argument names, and what to do about it."""
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


class Failures:
    """The arguments that could not be used. Each is reported on stderr; together they fail the command."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, name: str, error: Exception) -> None:
        """Report an argument, and go on without it."""
        say(f"clipsearch: {message_of(error)}")
        self.names.append(name)

    def exit(self) -> None:
        """End the command if there are any."""
        if self.names:
            raise typer.Exit(FAILED)


# ------------------------------------------------------------------------------------------ streams


def set_up_streams() -> None:
    """Replace streams that the caller closed, and keep C libraries off stderr.

    libtiff and libjpeg write to file descriptor 2 directly: it is redirected to /dev/null, and `sys.stderr` to a copy.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    # A read-only descriptor: writing results to a closed stdout must fail.
    sys.stdout = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    else:
        sys.stderr.flush()
        copy = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        sys.stderr = open(copy, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")


def flush_streams() -> None:
    """Flush stdout and stderr. One that fails is redirected to /dev/null, or Python would complain when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_stdin_is_read = False


def open_or_stdin(source: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Open a file, or stdin for "-". Raises OSError, or `BadRequest` if stdin is read a second time."""
    global _stdin_is_read  # noqa: PLW0603  # there is one stdin per process
    if source != "-":
        return open(source, "rb")
    if _stdin_is_read:
        raise BadRequest("only one option can read stdin; give the others a file")
    _stdin_is_read = True
    return contextlib.nullcontext(sys.stdin.buffer)


def lines(source: str) -> Iterator[tuple[str, bytes]]:
    """The non-blank lines of a file or stdin (-), each with its position for messages: "a.txt, line 3"."""
    for number, raw in enumerate(split(source, b"\n"), 1):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if line.strip():
            yield f"{source}, line {number}", line.rstrip(b"\r")


def split(source: str, end: bytes) -> Iterator[bytes]:
    """Split a file or stdin (-) at each `end`, a single byte, as data arrives. Raises `BadRequest`.

    Endless input, such as /dev/zero, is refused before it fills the memory.
    """
    try:
        with open_or_stdin(source) as file:
            read, rest = 0, b""
            # readline returns a line from a pipe as soon as it arrives; read would wait for a full chunk.
            while part := file.readline(_CHUNK) if end == b"\n" else file.read(_CHUNK):
                read += len(part)
                if end == b"\0" and not part.strip(end):  # skip empty items in bulk: /dev/zero has a million per chunk
                    part, rest = rest, b""
                *complete, rest = (rest + part).split(end)
                yield from complete
                if read > MAX_LIST or len(rest) > _MAX_LINE:
                    limits = f"{MAX_LIST >> 30} GiB, {_MAX_LINE >> 20} MiB per line"
                    raise BadRequest(f"{source} is too long for a list: the limits are {limits}")
            yield from [rest] if rest else []
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {errors.reason(error)}") from None


def text_lines(source: str) -> Iterator[tuple[str, str]]:
    """As `lines`, decoded and stripped. Raises `BadRequest` if a line is not UTF-8."""
    for position, raw in lines(source):
        try:
            yield position, raw.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest(f"{position}: not UTF-8") from None


def image_source(argument: str) -> Any:
    """What the library takes for an image argument: its path or URL, or the open stdin for "-". Raises `BadRequest`."""
    return open_or_stdin(argument).__enter__() if argument == "-" else argument  # stdin stays open


# ------------------------------------------------------------------------------------------ output


def say(message: str) -> None:
    """Print a line to stderr, with control characters escaped."""
    with contextlib.suppress(OSError, ValueError):  # stderr is closed or its disk full; the exit status still tells
        print(text.printable(message), file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """Print an indented JSON object."""
    write_records([as_json(value, indent=2)])


def write(chunks: Iterable[bytes]) -> None:
    """Write bytes to stdout as they are."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)


def write_records(chunks: Iterable[bytes]) -> None:
    """Write bytes to stdout; on a terminal, with control characters escaped."""
    write(map(text.harmless, chunks) if sys.stdout.isatty() else chunks)


def print_line(line: str) -> None:
    """Print a line to stdout; on a terminal, with control characters escaped."""
    write_records([f"{line}\n".encode("utf-8", "replace")])


def first_of(paths: Sequence[bytes]) -> str:
    """The first path and the number of others: "a.jpg and 3 more"."""
    return os.fsdecode(paths[0]) + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")


def write_found(found: Iterable[Any], form: str, table: Rendering, rows: Rendering) -> None:
    """Write results to stdout: as a `table` that fits the terminal or, in other formats, as `rows`."""
    if form == "table":
        write(table(found, width(), colour=colour()))
    else:
        write_records(rows(found, form))


@contextlib.contextmanager
def progress_of(about: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if that is a terminal. Yields a callback for what is done and the total."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not (shown and sys.stderr.isatty())) as bar:
        task = bar.add_task(about, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def warn_left_out(left_out: LeftOut) -> None:
    """Warn on stderr about what was not searched."""
    if left_out.unknown:
        say(f"not in the index, ignored: {first_of(left_out.unknown)}")
    for root, why in left_out.offline.items():
        say(f"not searched: {text.printable(root)} {why}")
    if left_out.unreadable:
        count = text.photos(sum(left_out.unreadable.values()))
        say(f"not shown: {count} in {first_of(sorted(left_out.unreadable))}, which cannot be read")
    if left_out.changed:
        say(f"not shown, changed since indexed: {first_of(left_out.changed)}. Run: clipsearch index")
    if left_out.damaged:
        say(f"not shown, damaged since indexed: {first_of(left_out.damaged)}. Run: clipsearch index --look-again")


def advise(index: Index, texts: Sequence[str], where: str = "") -> None:
    """Say on stderr why the model cannot read texts well; `where` says where they come from."""
    for sentence in index.advice(texts):
        say(f"{where}{sentence}")


def width() -> int:
    """The columns of the terminal, or 100."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def colour() -> bool:
    """Whether to print colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def destination(option: str, name: str | None, what: str = "a name") -> str | None:
    """The value of an output option. Raises `BadArgument` for "" and "-", as nothing is written to stdout."""
    if name in ("", "-"):
        raise BadArgument(option, f"needs {what}, not {name!r}")
    return name


def record_format(wanted: str | None) -> str:
    """The format of records: by default a table on a terminal and TSV in a pipe. Raises `BadRequest`."""
    return chosen_format(wanted, LABEL_FORMATS, "table" if sys.stdout.isatty() else "tsv")


def chosen_format(wanted: str | None, formats: Sequence[str], default: str) -> str:
    """The wanted format, or the default. Raises `BadRequest` if it is not one of `formats`."""
    if wanted is not None and wanted not in formats:
        raise BadRequest(f"unknown format {wanted!r}; choose from {', '.join(formats)}")
    return wanted or default
