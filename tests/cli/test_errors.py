"""Every failure has the right exit status: a bug must not look like 1, "found nothing"."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import every_command, posix

# Runs the program after some lines that break it. An import hook breaks modules that are imported later.
BROKEN = """
import builtins, importlib, sys
sys.argv = ["clipsearch", *sys.argv[2:]]
def breaks(module, name, error):
    found = importlib.import_module(module)
    def broken(*_, **__):
        raise error
    owner, _, name = name.rpartition(".")
    setattr(getattr(found, owner) if owner else found, name, broken)
class Odd(Exception):
    def __str__(self):
        raise KeyError("of itself")
{breaking}
from clipsearch.__main__ import main
main()
"""


def run(breaking: str, *arguments: object, stderr: int = subprocess.PIPE) -> tuple[int, str, str]:
    command = [sys.executable, "-c", BROKEN.replace("{breaking}", breaking), "", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout, done.stderr or ""


STATUS = ("status", "--index")


@pytest.mark.parametrize(
    "error",
    [
        "KeyError('a key')",
        "AttributeError()",
        "RecursionError('too deep')",
        "EOFError()",
        "__import__('sqlite3').OperationalError('it is odd')",
        "UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')",
        "ExceptionGroup('several', [KeyError(), OSError()])",
        "ExceptionGroup('one', [KeyError()])",
        "Odd()",
    ],
)
def test_what_nobody_expected_is_an_internal_error(error: str, drawn_index: Path) -> None:
    breaking = f"breaks('clipsearch.store.catalogue', 'Store.open', {error})"
    status, out, err = run(breaking, *STATUS, drawn_index)
    assert (status, out) == (4, "")
    assert err.startswith("clipsearch: internal error: ")
    assert err.endswith("; rerun with --debug for the traceback, and please report it\n")
    assert err.count("\n") == 1
    status, _, err = run(breaking, *STATUS, drawn_index, "--debug")
    assert status == 4
    assert "Odd" in error or "Traceback" in err
    assert err.splitlines()[-1].startswith("clipsearch: internal error: ")


@pytest.mark.parametrize(
    ("breaking", "arguments"),
    [
        ("sys.modules['clipsearch.cli.status'] = None", STATUS),
        ("sys.modules['typer'] = None", STATUS),
        ("sys.modules['clipsearch.output.text'] = None", STATUS),
        ("breaks('clipsearch.cli.main', '_set_up_process', KeyError())", STATUS),
        ("breaks('clipsearch.cli.main', 'LazyGroup.get_command', KeyError())", STATUS),
        ("breaks('typer.main', 'get_command', KeyError())", STATUS),
        ("breaks('clipsearch.paths', 'index_place', KeyError())", ("serve", "--port", "0")),
        ("breaks('clipsearch.web.server', 'run', KeyError())", ("serve", "--port", "0")),
        ("breaks('clipsearch.web.assistant', 'assistant', KeyError())", ("mcp",)),
        ("breaks('clipsearch.indexing.watch', 'Watch.__init__', KeyError())", ("watch",)),
        ("breaks('importlib.metadata', 'version', KeyError())", ("--version",)),
    ],
)
def test_wherever_it_happens(breaking: str, arguments: tuple[object, ...], drawn_index: Path) -> None:
    options = {STATUS: (drawn_index,), ("--version",): ()}.get(arguments, ("--index", drawn_index))
    status, _, err = run(breaking, *arguments, *options)
    assert status == 4
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("clipsearch: internal error: ")


def test_a_thread_that_fails_is_an_internal_error(drawn_index: Path) -> None:
    breaking = """
import threading
from clipsearch.cli import main as module
prepare = module._set_up_process
def prepare_and_fail():
    prepare()
    thread = threading.Thread(target=lambda: {}["a key"])
    thread.start()
    thread.join()
module._set_up_process = prepare_and_fail
"""
    status, _, err = run(breaking, *STATUS, drawn_index)
    assert (status, err.count("\n"), "Traceback" in err) == (4, 1, False)


def test_an_expected_error_keeps_its_status_with_debug(drawn_index: Path, tmp_path: Path) -> None:
    for debug in ((), ("--debug",)):
        status, _, err = run("", *STATUS, tmp_path / "none", *debug)
        assert status == 2
        assert ("Traceback" in err) == bool(debug)
        assert "there is no index" in err.splitlines()[-1]
    status, _, err = run(
        "breaks('clipsearch.store.catalogue', 'Store.open', OSError(5, 'bad', 7))", *STATUS, drawn_index
    )
    assert (status, err) == (2, "clipsearch: bad\n")


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("SystemExit(7)", 7, ""),
        ("SystemExit(None)", 0, ""),
        ("SystemExit('it says this')", 2, "clipsearch: it says this\n"),
        ("KeyboardInterrupt()", 130, "clipsearch: interrupted\n"),
        ("BrokenPipeError()", 0, ""),
        ("ExceptionGroup('one', [BrokenPipeError()])", 0, ""),
    ],
)
def test_what_has_a_meaning_keeps_it(raised: str, status: int, said: str, drawn_index: Path) -> None:
    for breaking in (
        f"breaks('clipsearch.store.catalogue', 'Store.open', {raised})",
        f"breaks('clipsearch.cli.main', 'LazyGroup.get_command', {raised})",
    ):
        assert run(breaking, *STATUS, drawn_index) == (status, "", said)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_status_is_right_where_nothing_can_be_said(drawn_index: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        broken = "breaks('clipsearch.store.catalogue', 'Store.open', KeyError())"
        assert run(broken, *STATUS, drawn_index, stderr=full.fileno())[0] == 4
        assert run(broken, *STATUS, drawn_index, "--debug", stderr=full.fileno())[0] == 4
        assert run("", *STATUS, tmp_path, stderr=full.fileno())[0] == 2
        assert run("", "status", "--no-such-option", stderr=full.fileno())[0] == 2
        assert run("", "concept", stderr=full.fileno())[0] == 2


@posix
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "terminated")],
)
def test_an_interrupted_start_is_an_interruption(name: str, status: int, said: str, drawn_index: Path) -> None:
    breaking = f"""
import os, signal
for name in ("SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)  # nohup ignores them
class Interrupts:
    def find_spec(self, name, *_):
        if name == "clipsearch.cli.status":
            os.kill(os.getpid(), {int(getattr(signal, name))})
sys.meta_path.insert(0, Interrupts())
"""
    assert run(breaking, *STATUS, drawn_index) == (status, "", f"clipsearch: {said}\n")


def test_every_help_that_lists_statuses_lists_this_one() -> None:
    listed = [command.help for command in every_command().values() if "Exit status:" in (command.help or "")]
    assert len(listed) > 5
    assert all("4 for an internal error" in help for help in listed)
