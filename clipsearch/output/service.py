"""Service files that run a command whenever the user logs in: a systemd unit, a launchd job."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.errors import BadRequest

NAME = "clipsearch-watch"


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
        "Label": NAME,
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
