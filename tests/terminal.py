"""Running the program on a pseudo-terminal, or in a process that reports its imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

posix = pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals, pipes with names and raw bytes in file names")


COLD = """
import runpy, sys
sys.argv = ["clipsearch", *sys.argv[1:]]
try:
    runpy.run_module("clipsearch", run_name="__main__")
except SystemExit as stop:
    status = stop.code
print("MODULES", *sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""


def cold(*arguments: object, index: Path, stdin: bytes = b"") -> tuple[int, set[str]]:
    """Exit status and imported modules of a run."""
    command = [sys.executable, "-c", COLD, *map(str, arguments)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=os.environ | {"CLIPSEARCH_INDEX": str(index)}, check=False
    )
    return done.returncode, set(done.stderr.decode().rpartition("MODULES")[2].split())


def in_terminal(*arguments: object, index: Path, columns: int = 60) -> str:
    """What a run of the program shows on a terminal of this width."""
    command = [sys.executable, "-m", "clipsearch", *map(str, arguments)]
    return shown_by(command, os.environ | {"CLIPSEARCH_INDEX": str(index)}, columns)


def shown_by(command: list[str], environment: dict[str, str], columns: int = 60, folder: Path | None = None) -> str:
    """What a command shows on a terminal of this width."""
    import fcntl
    import pty
    import struct
    import termios

    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 10 * columns, 480))
    variables = environment | {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=variables, cwd=folder)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.wait()
    return shown.decode()


def every_command() -> dict[str, Any]:
    """Every command by its name, those of `concept` as "concept add"."""
    from typer.main import get_command

    from clipsearch.cli.main import app

    group: Any = get_command(app)
    found: dict[str, Any] = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        subcommands = getattr(command, "commands", {})
        if not subcommands or command.invoke_without_command:
            found[name] = command
        for inner, one in subcommands.items():
            found[f"{name} {inner}"] = one
    return found


def help_examples() -> list[tuple[str, str]]:
    """The examples of every `--help`, each after the name of its command."""
    found = []
    for name, command in every_command().items():
        for block in re.findall(r"Examples?:\n((?:  .*\n?)+)", command.help or ""):
            found += [(name, line.strip()) for line in block.splitlines()]
    return found
