"""The program. Only the requested command is imported, which keeps startup fast."""

import gc
import logging
import os
import re
import sys
import threading
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipsearch.cli.app import (
    FOUND,
    INTERNAL,
    INTERRUPTIONS,
    flush_streams,
    handle_signals,
    new_app,
    report,
    say,
    set_up_streams,
)

# Each command, and the module that defines it as `app`.
COMMANDS = {
    "index": "index",
    "watch": "watch",
    "query": "query",
    "label": "label",
    "where": "where",
    "text": "text",
    "caption": "caption",
    "ask": "ask",
    "duplicates": "duplicates",
    "concept": "concept",
    "people": "people",
    "status": "status",
    "serve": "serve",
    "mcp": "mcp",
    "why": "why",
    "forget": "forget",
    "relocate": "relocate",
    "verify": "verify",
    "publish": "publish",
    "models": "models",
    "eval": "evaluate",
}


class LazyGroup(TyperGroup):
    """Imports a command when it is looked up, and is the error boundary of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"clipsearch.cli.{COMMANDS[cmd_name]}").app)
        command.name = cmd_name
        for one in (command, *getattr(command, "commands", {}).values()):
            one.help = _help_text(one.help or "")
            if "-h" in sys.argv:
                one.help = one.help.partition("\n\n")[0]
                one.epilog = "For details and examples use --help."
        gc.freeze()  # imported modules are never garbage: exempt them from collection, also at exit
        gc.enable()
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer does, but suggest the most similar command in our own wording."""
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            for similar in difflib.get_close_matches(args[0], COMMANDS, 1):
                error.message = f"No such command {args[0]!r}; did you mean {similar!r}?"
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Errors end here: Typer would handle interrupts and closed pipes in its own way."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except typer.Exit:
            raise
        except BaseException as error:
            raise typer.Exit(report(error)) from None


def _help_text(docstring: str) -> str:
    """The help in a docstring: one line per paragraph for Rich to wrap, examples as they are, [brackets] escaped."""
    return re.sub(r"\[(?=[a-z#/@])", r"\[", "\n\n".join(map(_paragraph, docstring.split("\n\n"))))


def _paragraph(text: str) -> str:
    if text.startswith("Exit status:"):
        text = f"{text.rstrip('.')}; {INTERNAL} for an internal error."
    return f"\b\n{text}" if text.startswith("Example") else text.replace("\n", " ")


app = new_app(
    cls=LazyGroup, add_completion=True, no_args_is_help=True, epilog="Start with: clipsearch index ~/Pictures"
)


def version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from importlib.metadata import version

        print(f"clipsearch {version('clipsearch')}")
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search local photo folders by content. Nothing leaves this machine."""


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        _set_up_process()
        status = app(prog_name="clipsearch", standalone_mode=False) or FOUND
    except BaseException as error:
        status = report(error)
    flush_streams()
    if status in INTERRUPTIONS:
        os._exit(status)  # a thread that waits for stdin or for a server would delay the exit
    sys.exit(max(status, *_thread_statuses))


_thread_statuses = [FOUND]  # of exceptions that ended a thread: its work may be missing


def _set_up_process() -> None:
    """Settings that must be made before large packages are imported."""
    gc.disable()  # until the command is imported; together with `freeze`, this saves 0.02 s per query
    set_up_streams()
    handle_signals()
    threading.excepthook = _report_from_thread
    # torch, open_clip and Pillow write to stderr. Anything that matters is raised.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    notes = logging.getLogger("clipsearch")
    notes.setLevel(logging.INFO)
    notes.addHandler(_Notes())
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if sys.argv[1:2] in (["index"], ["query"], ["serve"], ["watch"]):
        # Their matrix products are too small for threads, which on a busy machine can take seconds to synchronise.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["serve"]:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # a scan for one query is not faster with threads


class _Notes(logging.Handler):
    """Prints what the library logs, such as the start of slow work that is done once."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _report_from_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        _thread_statuses.append(report(failure.exc_value))
