"""The program: the command that is asked for is imported, and no other; `--help` and a query start at once."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from importlib import import_module

from clipsearch.cli.program import app, explained, own_the_streams

_UNIQUE = "--unique"
_HOMES = {
    "clipsearch.cli.cli_index": ("index", "status", "verify", "forget", "relocate", "models", "eval"),
    "clipsearch.cli.cli_query": ("query", "label", "duplicates", "concept"),
}


def main() -> None:
    """The program `clipsearch`."""
    own_the_streams()
    # torch, open_clip and Pillow talk to stderr; what matters of it comes as an exception.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    load(sys.argv[1] if len(sys.argv) > 1 else "")
    sys.argv[1:] = _with_values(sys.argv[1:])
    app(prog_name="clipsearch")


def load(name: str = "") -> None:
    """Import the commands: all of them, unless `name` is one."""
    homes = [home for home, names in _HOMES.items() if name in names] or list(_HOMES)
    for home in homes:
        import_module(home)
    if len(homes) == 1:  # Typer would build them all, which takes 10 ms
        app.registered_commands = [command for command in app.registered_commands if command.name == name]
        app.registered_groups = [group for group in app.registered_groups if group.name == name]
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance]
    for command in (command for group in (app, *groups) for command in group.registered_commands):
        if command.callback and not hasattr(command.callback, "__signature__"):
            command.callback = explained(command.callback)


def _with_values(arguments: list[str]) -> list[str]:
    """Write `--unique` and `--unique 0.9` as `--unique=` and `--unique=0.9`: in Typer no value can be left out."""
    out: list[str] = []
    while arguments:
        word, *arguments = arguments
        if word == "--":
            return [*out, word, *arguments]
        if word == _UNIQUE:
            word = f"{_UNIQUE}="
            if arguments and re.fullmatch(r"[\d.][\d.,%]*(e-?\d+)?", arguments[0]):
                word += arguments.pop(0)
        out.append(word)
    return out
