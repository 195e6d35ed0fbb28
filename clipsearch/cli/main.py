"""The program. The command that is asked for is imported, and no other: `--help` and a query start at once."""

import gc
import logging
import os
import sys
import threading
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipsearch.cli.app import FAILED, FOUND, USAGE_ERROR, let_go, new_app, own_the_streams, report, say

# Each command, and the module that has it as `app`.
COMMANDS = {
    "index": "index",
    "watch": "watch",
    "query": "query",
    "label": "label",
    "where": "where",
    "duplicates": "duplicates",
    "concept": "concept",
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


class Lazy(TyperGroup):
    """Finds a command by its name when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"clipsearch.cli.{COMMANDS[cmd_name]}").app)
        command.name = cmd_name
        if "-h" in sys.argv:
            for one in (command, *getattr(command, "commands", {}).values()):
                one.help = (one.help or "").partition("\n\n")[0]
                one.epilog = "For details and examples use --help."
        gc.freeze()  # what was imported stays: neither now nor at the end is it looked through for garbage
        gc.enable()
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in every group; for an unknown command, the error names the nearest one."""
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except USAGE_ERROR as error:
            for near in difflib.get_close_matches(args[0], COMMANDS, 1):
                error.message = f"No such command {args[0]!r}; did you mean {near!r}?"
            raise


app = new_app(
    cls=Lazy,
    add_completion=True,
    no_args_is_help=True,
    epilog="Start with: clipsearch index ~/Pictures",
)


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
    """Search local photo folders by content. Nothing leaves this machine."""


def main() -> None:
    """The program `clipsearch`."""
    try:
        _prepare()
        status = _run()
    except BaseException as error:
        status = report(error)
    let_go()
    sys.exit(status)


def _run() -> int:
    """Run the command line; returns the exit status."""
    try:
        return app(prog_name="clipsearch", standalone_mode=False) or FOUND
    except SystemExit as stop:
        return _status_of(stop)
    except USAGE_ERROR as error:
        _explain(error)
        return FAILED
    except typer.Abort as error:  # which is what Typer makes of an EOFError
        return report(error.__cause__ or error)


def _prepare() -> None:
    """Set up the process before anything large is imported."""
    gc.disable()  # until the command is imported; with that and `freeze`, a query takes 0.02 s less
    own_the_streams()
    threading.excepthook = _report_from_thread
    # torch, open_clip and Pillow talk to stderr; what matters of it comes as an exception.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if sys.argv[1:2] in (["index"], ["query"], ["serve"], ["watch"]):
        # They multiply too little to wait for threads, which on a busy machine takes seconds.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["serve"]:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # a scan of one question gains nothing by them


def _report_from_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        report(failure.exc_value)


def _status_of(stop: SystemExit) -> int:
    """What a library, or Typer, wanted to exit with."""
    if isinstance(stop.__context__, BrokenPipeError):  # nobody reads the help any more
        return FOUND
    if isinstance(stop.code, str):  # Python would print it and exit with 1, which means that nothing was found
        say(f"clipsearch: {stop.code}")
        return FAILED
    return stop.code or FOUND


def _explain(error: Any) -> None:
    """Say in one sentence what is wrong with an option or a command; Typer would draw a box."""
    message = error.format_message().strip().replace(". Did you mean", "; did you mean")
    if not message or "\n" in message:  # for want of a command, the help
        error.show()
        return
    command = error.ctx.command_path if error.ctx else "clipsearch"
    hint = "" if message.endswith("?") else f"; see {command} --help"
    say(f"clipsearch: {message[:1].lower()}{message[1:].rstrip('.')}{hint}")
