"""Connections that ask nothing: whoever only holds them open, without a token too, must not keep others out."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # from a connection, or the end of an answer, to the end of a request's head
MOST_WAITING = 512
BACKLOG_SHARE = 4  # of the waiting connections, accepted at once: a prompt request is read before its turn to go comes


def most_waiting() -> int:
    """How many connections may wait: a quarter of the files that this process may have open, at most 512."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return MOST_WAITING
    return max(BACKLOG_SHARE, min(MOST_WAITING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


def connections(most: int) -> type[H11Protocol]:
    """The class of the connections of one server.

    A connection waits until it has sent the head of a request, and again once that is answered. It is closed when it
    waits for `HEAD_SECONDS`, whatever it sends meanwhile, and when `most` others that wait are newer. Requests without
    a token are answered at once and in few bytes, so an answer that is not read is that of somebody who was let in.
    """
    waiting: dict[Connection, asyncio.TimerHandle] = {}  # the oldest first

    class Connection(H11Protocol):
        """One connection; uvicorn calls the methods."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_waiting()

        def handle_events(self) -> None:
            super().handle_events()
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def _look(self) -> None:
            if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
                self._stop_waiting()
            elif self not in waiting:
                waiting[self] = self.loop.call_later(HEAD_SECONDS, self._give_up)
                if len(waiting) > most:
                    next(iter(waiting))._give_up()

        def _stop_waiting(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _give_up(self) -> None:
            self._stop_waiting()
            self.transport.abort()  # what was sent is not waited for

    return Connection
