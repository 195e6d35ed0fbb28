"""Runs the app on a socket. Idle connections are limited, so that holding them open cannot lock anyone out."""

from __future__ import annotations

import asyncio
import socket
import threading
import webbrowser

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # for a request's head, from the connection or from the end of the previous response
MAX_IDLE = 512
BACKLOG_SHARE = 4  # asyncio accepts 1 in this many idle connections at once, so it reads a prompt request in time
_QUEUE = 1024  # connections that the system queues until they are accepted
_BROWSER_DELAY = 0.3  # seconds


def run(app: ASGIApp, listening: socket.socket, browse: str | None = None) -> None:
    """Serve the page on a listening socket. `browse` is an address to open in a browser."""
    if browse is not None:
        threading.Timer(_BROWSER_DELAY, webbrowser.open, [browse]).start()
    Server(app, _max_idle()).run(sockets=[listening])


class Server(uvicorn.Server):
    """An HTTP server with at most `max_idle` idle connections."""

    def __init__(self, app: ASGIApp, max_idle: int) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=_connection_class(max_idle),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=1 << 16,
            backlog=max_idle // BACKLOG_SHARE,  # also the number of connections that asyncio accepts at once
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen again with a longer queue: `backlog` set both the queue and the number accepted at once."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_QUEUE)


def _max_idle() -> int:
    """A quarter of the open-file limit, at most `MAX_IDLE`."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return MAX_IDLE
    return max(BACKLOG_SHARE, min(MAX_IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


def _connection_class(max_idle: int) -> type[H11Protocol]:
    """A protocol class that keeps track of the idle connections of one server.

    A connection is idle until it has sent the head of a request, and again after the response. It is closed after
    `HEAD_SECONDS` of that, even if it keeps sending, or when `max_idle` newer ones are idle. Requests without a token
    get a short response at once, so only authorised clients can hold a connection by not reading a response.
    """
    idle: dict[Connection, asyncio.TimerHandle] = {}  # oldest first

    class Connection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._update()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._end_idle()

        def handle_events(self) -> None:
            super().handle_events()
            self._update()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._update()

        def _update(self) -> None:
            if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
                self._end_idle()
            elif self not in idle:
                idle[self] = self.loop.call_later(HEAD_SECONDS, self._drop)
                if len(idle) > max_idle:
                    next(iter(idle))._drop()

        def _end_idle(self) -> None:
            timer = idle.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _drop(self) -> None:
            self._end_idle()
            self.transport.abort()  # without waiting for unsent data

    return Connection
