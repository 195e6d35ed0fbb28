"""What has the system run a command from the start of a session on: a unit of systemd, a job of launchd."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.errors import BadRequest

NAME = "clipsearch-watch"


def systemd_unit(command: Sequence[str]) -> bytes:
    """A unit for a user's systemd that runs a command, and again after a minute if it fails."""
    line = b" ".join(_quoted(os.fsencode(argument)) for argument in command)
    # What is not UTF-8 is written as systemd reads it: \xff.
    return _UNIT.replace("COMMAND", line.decode("utf-8", "backslashreplace")).encode()


_UNIT = """\
[Unit]
Description=Keeps the index of clipsearch up to date

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
    """A property list for launchd that runs a command, and again if it fails; what it says goes to a file.

    Raises `BadRequest` for names that XML cannot have.
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
        raise BadRequest("launchd takes no names with control characters or bytes that are not UTF-8") from None
