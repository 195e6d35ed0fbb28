"""The server: runs the page on a socket until the process is told to end."""

from __future__ import annotations

import socket
import threading
import webbrowser
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from clipsearch.paths import Collection
from clipsearch.web.app import create_app
from clipsearch.web.connections import BACKLOG_SHARE, connections, most_waiting

_QUEUE = 1024  # connections that the system holds until they are accepted


def run(place: Path | Collection, listening: socket.socket, token: str, host: str, opened: str | None = None) -> None:
    """Answer requests on a listening socket; a browser is shown the address `opened`, if there is one."""
    if opened is not None:
        threading.Timer(0.3, webbrowser.open, [opened]).start()
    Server(create_app(place, token, host), most_waiting()).run(sockets=[listening])


class Server(uvicorn.Server):
    """Serves an application; at most so many connections wait, as `connections` says."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=connections(most),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=1 << 16,
            backlog=most // BACKLOG_SHARE,  # asyncio accepts as many before it reads from any
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn has it, and with a queue that is not as short as the number accepted at once."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_QUEUE)
