"""Idle and slow connections cannot lock other clients out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bound import bound_command, limit
from starlette.types import Receive, Scope, Send

from clipsearch.web import server as server_module
from clipsearch.web.guard import Guard
from clipsearch.web.server import Server

MOST = 16
GO = asyncio.Event()  # a new one for each server
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a request and answers, at /slow when somebody else has asked for /go."""
    if scope["path"] == "/upload":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await GO.wait()
    if scope["path"] == "/go":
        GO.set()
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Starts a server of the app; gives its port."""
    global GO  # noqa: PLW0603  # made in the thread that uses it
    GO = asyncio.Event()
    with contextlib.ExitStack() as stack:

        def start(seconds: float, guarded: bool = False) -> int:
            monkeypatch.setattr(server_module, "HEAD_SECONDS", seconds)
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            served = Guard(app, "the token", "127.0.0.1", secret="the secret") if guarded else app
            server = Server(served, MOST)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            return listening.getsockname()[1]

        yield start


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def ask(one: socket.socket, path: str = "/") -> bytes:
    one.sendall(HEAD.replace(b"/", path.encode(), 1) + b"\r\n")
    return answer_of(one)


def answer_of(one: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"ok") and (part := one.recv(1000)):
        answer += part
    return answer


def is_closed(one: socket.socket) -> bool:
    """Waits until the other side closes."""
    try:
        while one.recv(1000):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("begun", [b"", b"GET / HT", HEAD], ids=["nothing", "half a line", "half a head"])
def test_the_oldest_that_wait_are_closed_when_there_are_many(serve: object, begun: bytes) -> None:
    port = serve(seconds=1000)
    held = []
    for _ in range(5 * MOST):
        held.append(connect(port))
        with contextlib.suppress(ConnectionError):
            held[-1].sendall(begun)
    with connect(port) as mine:
        assert ask(mine).endswith(b"ok")
        assert all(is_closed(one) for one in held[: 3 * MOST])
        assert ask(mine).endswith(b"ok")  # kept alive, as one of the newest
    for one in held:
        one.close()


def test_a_head_that_does_not_end_is_not_waited_for_however_it_drips(serve: object) -> None:
    port = serve(seconds=0.3)
    with connect(port) as dripping, connect(port) as silent, connect(port) as later:
        assert ask(later).endswith(b"ok")
        later.sendall(HEAD)  # of a second request
        dripping.sendall(HEAD)
        with contextlib.suppress(ConnectionError):
            while True:
                dripping.sendall(b"X-A: b\r\n")
                time.sleep(0.01)
        assert is_closed(silent)
        assert is_closed(later)


def test_an_answer_that_takes_long_is_not_cut_off(serve: object) -> None:
    port = serve(seconds=0.2)
    with connect(port) as slow:
        slow.sendall(HEAD.replace(b"/", b"/slow", 1) + b"\r\n")
        for _ in range(3 * MOST):  # others come, and wait longer than they may
            with connect(port) as other:
                other.sendall(b"GET")
        with connect(port) as silent:
            assert is_closed(silent)
        with connect(port) as other:
            assert ask(other, "/go").endswith(b"ok")
        assert answer_of(slow).endswith(b"ok")


@pytest.mark.parametrize("request_", [HEAD + b"\r\n", UPLOAD + b"xxx", (HEAD + b"\r\n") * 100])
def test_whoever_is_not_let_in_holds_nothing(serve: object, request_: bytes) -> None:
    port = serve(seconds=1000, guarded=True)
    with connect(port) as one:
        one.sendall(request_)
        answered = b""
        with contextlib.suppress(ConnectionError):
            while part := one.recv(1000):
                answered += part
        assert answered.count(b"HTTP/1.1 40") == 1
        assert b"connection: close" in answered


@pytest.mark.skipif(os.name == "nt", reason="limits of open files")
def test_a_page_is_served_while_others_hold_more_connections_than_it_may_have_files(drawn_index: Path) -> None:
    command = bound_command(limit("RLIMIT_NOFILE", 128), "serve", "--port", 0, "--index", drawn_index)
    with (
        contextlib.ExitStack() as held,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server,
    ):
        try:
            port, token = re.search(r":(\d+)/\?token=(\S+)", server.stdout.readline()).groups()
            for _ in range(300):
                one = held.enter_context(connect(int(port)))
                with contextlib.suppress(ConnectionError):
                    one.sendall(HEAD)
            with connect(int(port)) as mine:
                mine.sendall(HEAD.replace(b"/", f"/?token={token}".encode(), 1) + b"\r\n")
                assert b" 303 " in mine.recv(1000)
        finally:
            server.terminate()
