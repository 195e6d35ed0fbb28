"""`clipsearch watch`: keep the index up to date while folders change."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from clipsearch.cli.app import (
    DebugOption,
    IndexOption,
    argument,
    flag,
    new_app,
    open_folder,
    option,
    say,
    was_terminated,
    with_default,
    write_records,
)
from clipsearch.cli.index import progress_bar
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.extras import IS_STANDALONE
from clipsearch.indexing.options import Options
from clipsearch.indexing.watch import POLL_SECONDS, Watch
from clipsearch.output import text
from clipsearch.paths import absolute, index_folder

app = new_app()
SERVICE = "clipsearch-watch"


@app.command(cls=with_default("--poll", f"{POLL_SECONDS:g}"))
def watch(
    directories: Annotated[list[str] | None, argument("DIR...", "Folders (default: all indexed folders).")] = None,
    settle: Annotated[float, option("N", "Wait N seconds after the last change (2).", min=0, show_default=False)] = 2.0,
    poll: Annotated[
        float | None, option("[=N]", f"Scan all folders every N seconds (default {POLL_SECONDS:g}).")
    ] = None,
    model: Annotated[str | None, option("NAME", "Model for a new index.")] = None,
    as_service: Annotated[bool, flag("--service", "Print a service file and exit.")] = False,
    quiet: Annotated[bool, flag("--quiet", "Print only errors.", None, "-q")] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Keep the index up to date while folders change, until Ctrl-C.

    Runs index once, then updates the index --settle seconds after the last change. Photos on an unplugged drive stay in
    the index, and the drive is watched again when it returns. Where the system cannot report changes (network drives,
    unreadable folders), folders are scanned every 30 seconds; --poll scans all of them. --service prints a systemd or
    launchd file that runs the same command.

    Examples:
      clipsearch watch
      clipsearch watch ~/Pictures --settle 10
      clipsearch watch /media/old-drive --poll=60
      clipsearch watch --service > watch.service

    Exit status: 0 ended by SIGTERM or SIGHUP, 2 error, 130 interrupted.
    """
    if poll is not None and not poll > 0:
        raise BadArgument("poll", f"must be more than 0 seconds, not {poll:g}")
    if as_service:
        _print_service(directories or [], index, settle=settle, poll=poll, model=model, quiet=quiet)
        return
    watched = open_folder(index).watch(directories or (), Options(model=model), settle=settle, poll=poll)
    try:
        _follow(watched, quiet=quiet)
    except BaseException:
        if not was_terminated():
            raise


def _follow(watched: Watch, *, quiet: bool) -> None:
    """Print the summary of each update, until interrupted."""

    def log(message: str) -> None:
        if not quiet:
            say(f"{time.strftime('%H:%M:%S')} {message}")

    watched.on_note = log
    reports = watched.reports()
    with progress_bar(not quiet and sys.stderr.isatty(), log) as watched.on_progress:
        first = next(reports)
    for line in text.summary(first):
        log(line)
    log("watching; press Ctrl-C to stop")
    for report in reports:
        for line in text.summary(replace(report, skipped_before=[])):
            log(line)


def _print_service(
    directories: list[str], index: str | None, *, settle: float, poll: float | None, model: str | None, quiet: bool
) -> None:
    """Print a service file to stdout and how to install it to stderr."""
    options = [f"--settle={settle:g}", f"--index={index_folder(index).absolute()}"]
    options += [f"--poll={poll:g}"] if poll is not None else []
    options += [f"--model={model}"] if model is not None else []
    options += ["--quiet"] if quiet else []
    places = [os.fsdecode(absolute(directory)) for directory in directories]
    command = [*_program(), "watch", *options, *(["--", *places] if places else [])]
    if sys.platform == "darwin":
        place = f"~/Library/LaunchAgents/{SERVICE}.plist"
        write_records([launchd_job(command, os.path.expanduser(f"~/Library/Logs/{SERVICE}.log"))])
        say(f"save it as {place}, then run: launchctl bootstrap gui/$UID {place}")
    elif sys.platform == "linux":
        write_records([systemd_unit(command)])
        place = f"~/.config/systemd/user/{SERVICE}.service"
        say(f"save it as {place}, then run: systemctl --user enable --now {SERVICE}")
    else:
        raise BadRequest("--service needs systemd or launchd, which this system does not have")


def _program() -> list[str]:
    """The command that starts this program: its absolute path, or `python -m clipsearch`."""
    if IS_STANDALONE:
        return [sys.executable]
    started = os.path.abspath(sys.argv[0])
    return [sys.executable, "-m", "clipsearch"] if started.endswith("__main__.py") else [started]


def systemd_unit(command: Sequence[str]) -> bytes:
    """A systemd user unit; restarts the command a minute after it fails."""
    line = b" ".join(_quoted(os.fsencode(argument)) for argument in command)
    # systemd reads bytes that are not UTF-8 as \xff.
    return _UNIT.replace("COMMAND", line.decode("utf-8", "backslashreplace")).encode()


_UNIT = """\
[Unit]
Description=Keep the clipsearch index up to date

[Service]
ExecStart=COMMAND
Nice=10
Restart=on-failure
RestartSec=60

[Install]
WantedBy=default.target
"""


def _quoted(argument: bytes) -> bytes:
    for character, written in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"%", b"%%"), (b"$", b"$$"), (b"\n", b"\\n")):
        argument = argument.replace(character, written)
    return b'"' + argument + b'"'


def launchd_job(command: Sequence[str], log: str) -> bytes:
    """A launchd property list; restarts the command if it fails, and appends its messages to the log file.

    Raises `BadRequest` for names that XML cannot represent.
    """
    import plistlib

    job = {
        "Label": SERVICE,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ProcessType": "Background",
        "StandardErrorPath": log,
    }
    try:
        return plistlib.dumps(job, sort_keys=False)
    except ValueError:  # also UnicodeEncodeError
        raise BadRequest("launchd cannot use names with control characters or bytes that are not UTF-8") from None
