"""A server that speaks OpenAI's chat completions API, for tests: it answers as it is told, or badly."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Reply = tuple[int, bytes]  # status and body


def completion(content: object) -> Reply:
    """A well-formed answer of the API."""
    message = {"role": "assistant", "content": content}
    return 200, json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]}).encode()


class ChatServer:
    """Answers each request with `reply(request)`, and keeps the requests, without their images, and the images."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reply: Callable[[dict[str, Any]], Reply] = lambda _: completion("a dog on a beach")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.images: list[Image.Image] = []

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path != "/v1/chat/completions":
            return 404, b'{"error": {"message": "no such path"}}'
        request = json.loads(body)
        text, picture = request["messages"][0]["content"]
        data = picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
        self.images.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
        request["prompt"] = text["text"]
        self.requests.append(request)
        self.headers.append(headers)
        return self.reply(request)


@contextlib.contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = chat.answer(self.path, dict(self.headers), body)
            with contextlib.suppress(OSError):  # the client has given up
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", chat.url + "/elsewhere")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    chat = ChatServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve each connection with a function that may do anything but speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        listening.shutdown(socket.SHUT_RDWR)
