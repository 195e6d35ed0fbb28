"""`clipsearch watch`: keep the index up to date while folders change."""

import os
import signal
import sys
import time
from dataclasses import replace
from typing import Annotated, Any

import typer
import typer.core

from clipsearch.cli.app import DebugOption, IndexOption, explained, new_app, say, write_records
from clipsearch.cli.index import progress_bar
from clipsearch.errors import BadArgument, BadRequest
from clipsearch.indexing.options import Options
from clipsearch.indexing.watch import POLL_SECONDS, Watch
from clipsearch.output import service, text
from clipsearch.paths import absolute, index_folder

app = new_app()


class _Watch(typer.core.TyperCommand):
    """The command, whose --poll may have a number of seconds, after an equals sign alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A bare --poll is one with the usual number."""
        return super().parse_args(ctx, [f"--poll={POLL_SECONDS:g}" if arg == "--poll" else arg for arg in args])


@app.command(cls=_Watch)
@explained
def watch(
    directories: Annotated[
        list[str] | None, typer.Argument(metavar="DIR...", help="Folders; none: all that were indexed before.")
    ] = None,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long nothing must change before it is dealt with.")
    ] = 2.0,
    poll: Annotated[
        float | None,
        typer.Option(metavar="[=SECONDS]", help=f"Look at all folders every so often; {POLL_SECONDS:g} if not said."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="For a new index, as in index.")] = None,
    as_service: Annotated[
        bool, typer.Option("--service", help="Print what has systemd or launchd run this, and end.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Keep the index up to date while folders change, until Ctrl-C.

    Begins with what index does; then each burst of changes is dealt with when nothing has changed for a moment. A
    folder that goes away, such as a drive, keeps its photos, and is watched again when it is back. Folders on network
    drives, and others of which the system does not say what changes, are looked at every 30 seconds or as --poll says.

    Examples:
      clipsearch watch
      clipsearch watch ~/Pictures --settle 10
      clipsearch watch /media/old-drive --poll=60
      clipsearch watch --service > watch.service

    Exit status: 0 when SIGTERM ends it, as systemd expects, 2 for an error, 130 when interrupted.
    """
    if poll is not None and not poll > 0:
        raise BadArgument("poll", f"must be more than 0 seconds, not {poll:g}")
    if as_service:
        _print_service(directories or [], index, settle=settle, poll=poll, model=model, quiet=quiet)
        return
    told: list[int] = []

    def terminate(number: int, _: object) -> None:
        told.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    watched = Watch(index_folder(index), directories or (), Options(model=model), settle=settle, poll=poll)
    try:
        _follow(watched, quiet=quiet)
    except KeyboardInterrupt:
        if not told:
            raise


def _follow(watched: Watch, *, quiet: bool) -> None:
    """Say what happens, a line each, for ever."""

    def tell(fact: str) -> None:
        if not quiet:
            say(f"{time.strftime('%H:%M:%S')} {fact}")

    watched.on_note = tell
    reports = watched.reports()
    with progress_bar(not quiet and sys.stderr.isatty()) as watched.on_progress:
        first = next(reports)
    for line in text.summary(first):
        tell(line)
    tell("watching; Ctrl-C ends it")
    for report in reports:
        for line in text.summary(replace(report, skipped_before=[])):
            tell(line)


def _print_service(
    directories: list[str], index: str | None, *, settle: float, poll: float | None, model: str | None, quiet: bool
) -> None:
    """The same command for the system to run, on stdout; what to do with it, on stderr."""
    options = [f"--settle={settle:g}", f"--index={index_folder(index).absolute()}"]
    options += [f"--poll={poll:g}"] if poll is not None else []
    options += [f"--model={model}"] if model is not None else []
    options += ["--quiet"] if quiet else []
    places = [os.fsdecode(absolute(directory)) for directory in directories]
    command = [*_program(), "watch", *options, *(["--", *places] if places else [])]
    if sys.platform == "darwin":
        place = f"~/Library/LaunchAgents/{service.NAME}.plist"
        write_records([service.launchd_job(command, os.path.expanduser(f"~/Library/Logs/{service.NAME}.log"))])
        say(f"write this to {place}, then: launchctl bootstrap gui/$UID {place}")
    elif sys.platform == "linux":
        write_records([service.systemd_unit(command)])
        place = f"~/.config/systemd/user/{service.NAME}.service"
        say(f"write this to {place}, then: systemctl --user enable --now {service.NAME}")
    else:
        raise BadRequest("--service is for systemd and launchd, of which this system has none")


def _program() -> list[str]:
    """The command that this program was started with, by its absolute path."""
    started = os.path.abspath(sys.argv[0])
    return [sys.executable, "-m", "clipsearch"] if started.endswith("__main__.py") else [started]
