"""Images by URL: only on request, limited in size and time, and failing with one sentence."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCENES, Run

from clipsearch.errors import BadRequest
from clipsearch.images.fetch import fetch

PHOTO = Path(__file__).parent


LEADS_TO = {
    "/file": "file:///etc/passwd",
    "/ftp": "ftp://127.0.0.1/photo.png",
    "/data": "data:image/png;base64,AAAA",
    "/round": "/round",
}


class Handler(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.path = self.path.replace("%20", " ")
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/photo.png")
            self.end_headers()
        elif self.path in ("/file", "/ftp", "/data", "/round"):
            self.send_response(302)
            self.send_header("Location", LEADS_TO[self.path])
            self.end_headers()
        elif self.path in ("/moved slowly", "/moved endlessly"):
            self.send_response(302)
            self.send_header("Location", "/photo.png")
            self.end_headers()
            self.drip(100_000 if self.path == "/moved endlessly" else 1)
        elif self.path == "/header":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
            self.drip(1)
        elif self.path == "/photo.png":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
        elif self.path == "/nonsense":
            self.send_response(200)
            self.send_header("Content-Length", "abc")
            self.end_headers()
            self.wfile.write(self.body)
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"zz")
        elif self.path == "/other":
            self.wfile.write(b"\x1b[31m\xff another protocol\n")
        elif self.path in ("/endless", "/slow"):
            self.send_response(200)
            self.end_headers()
            self.drip(100_000 if self.path == "/endless" else 1)
        else:
            self.send_error(404)

    def drip(self, size: int) -> None:
        try:
            while True:
                self.wfile.write(b"x" * size)
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_what_is_behind_a_url_is_a_query(clipsearch: Run, drawn: Path, drawn_index: Path, server: str) -> None:
    Handler.body = (drawn / "07.png").read_bytes()
    for path in ("/photo.png", "/moved"):
        found = clipsearch("query", "--image", f"{server}{path}", "-k", "1", index=drawn_index)
        assert found.lines == [str(drawn / "07.png")]
    assert fetch(f"{server}/photo.png") == fetch(f"{server}/nonsense") == Handler.body
    terms = ("--like", f"5:{server}/photo.png", SCENES[3].captions[0])
    weighted = clipsearch("query", *terms, "-k", "1", index=drawn_index)
    assert weighted.lines == [str(drawn / "07.png")]


def test_every_failure_is_a_sentence(clipsearch: Run, drawn_index: Path, server: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        for url, reason in (
            (f"{server}/none", "could not be fetched: 404 Not Found"),
            (f"{server}/cut", "could not be fetched: the connection ended too soon"),
            (f"{server}/chunks", "could not be fetched: the connection ended too soon"),
            (f"{server}/other", "could not be fetched: the server does not speak HTTP"),
            (f"{server}/\udcff", "could not be fetched: it is not a valid URL"),
            (
                f"{server}/file",
                "could not be fetched: 302 Found - Redirection to url 'file:.*' is not allowed",
            ),
            (f"{server}/ftp", "could not be fetched: unknown url type: ftp"),
            (f"{server}/data", "could not be fetched: 302 Found"),
            (f"{server}/round", "could not be fetched: 302 .*infinite loop"),
            (closed, "could not be fetched: connection refused"),
            ("http://", "could not be fetched: "),
            ("http://127.0.0.1:99999/", "could not be fetched: "),
            ("http://a b/", "could not be fetched: "),
        ):
            with pytest.raises(BadRequest, match=reason):
                fetch(url)
            refused = clipsearch("query", "--image", url, index=drawn_index)
            assert (refused.status, refused.out, refused.err.count("\n")) == (2, b"", 1)


def test_size_and_time_are_limited(server: str) -> None:
    with pytest.raises(BadRequest, match="larger than 1 MB"):
        fetch(f"{server}/endless", max_bytes=1_000_000)
    for path in ("/slow", "/header"):
        with pytest.raises(BadRequest, match="took longer than 1 s"):
            fetch(f"{server}{path}", seconds=1)


def test_a_redirect_is_followed_before_its_body_ends(server: str, drawn: Path) -> None:
    Handler.body = (drawn / "07.png").read_bytes()
    for path in ("/moved%20slowly", "/moved%20endlessly"):
        assert fetch(f"{server}{path}", seconds=60) == Handler.body


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BadRequest, match="took longer than 1 s"):
        fetch(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x", seconds=1)


def test_a_name_that_is_never_found_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(60) and [])
    with pytest.raises(BadRequest, match="took longer than 1 s"):
        fetch("http://photos.example/x", seconds=1)
    found.set()
