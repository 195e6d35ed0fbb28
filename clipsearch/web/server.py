"""The server: runs the page on a socket until the process is told to end."""

from __future__ import annotations

import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn

from clipsearch.paths import Collection
from clipsearch.web.app import create_app


def run(place: Path | Collection, listening: socket.socket, token: str, host: str, opened: str | None = None) -> None:
    """Answer requests on a listening socket; a browser is shown the address `opened`, if there is one."""
    config = uvicorn.Config(
        create_app(place, token, host),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=256,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=1 << 16,
    )
    if opened is not None:
        threading.Timer(0.3, webbrowser.open, [opened]).start()
    uvicorn.Server(config).run(sockets=[listening])
