"""A server of a vision-language model: what is sent to it, and that nothing it answers does harm."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from endpoints import ChatServer, chat_server, completion, raw_server

from clipsearch.errors import BadArgument, BadRequest, EndpointFailed
from clipsearch.models import endpoint
from clipsearch.models.endpoint import Endpoint
from clipsearch.models.generated_text import Answer, clean

PHOTO = np.full((900, 1500, 3), (200, 30, 30), np.uint8)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


def test_a_photo_and_the_question_are_sent(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_API_KEY", "secret\n")
    chat.reply = lambda _: completion("Two.")
    served = Endpoint(chat.url, "llava")
    assert served.answer(PHOTO, "how many dogs?") == Answer("how many dogs?", "Two.")
    assert served.captions([PHOTO, PHOTO]) == ["Two.", "Two."]
    (asked, captioned, _) = chat.requests
    assert asked["prompt"].endswith("Question: how many dogs?")
    assert (asked["model"], asked["stream"]) == ("llava", False)
    assert "Describe this photo" in captioned["prompt"]
    assert chat.headers[0]["Authorization"] == "Bearer secret"
    assert chat.images[0].size == (1024, 614)
    assert np.abs(np.asarray(chat.images[0])[300, 500].astype(int) - PHOTO[0, 0]).max() < 8


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        ("  a dog\n on  a beach \n", "a dog on a beach"),
        ("\x1b]0;owned\x07\x1b[31mred\u202ecod\x00", "]0;owned [31mred cod"),
        ("<think>The user wants\na caption</think>\na dog", "a dog"),
        ("<think>and so on", ""),
        ("<b onclick='x'>$(reboot); DROP TABLE photos", "<b onclick='x'>$(reboot); DROP TABLE photos"),  # only text
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("word " * 1000, "word " * 99 + "word…"),
        (None, ""),
    ],
)
def test_an_answer_is_a_line_of_text(chat: ChatServer, content: object, caption: str) -> None:
    chat.reply = lambda _: completion(content)
    assert Endpoint(chat.url, "llava").captions([PHOTO]) == [caption]
    assert len(clean("x" * 10_000, 500)) == 500


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, b"<html>Welcome to nginx!</html>"), "did not answer as OpenAI's"),
        ((200, b"[" * 100_000), "did not answer as OpenAI's"),
        ((200, b'{"choices": []}'), "did not answer as OpenAI's"),
        ((200, b'{"choices": [{"message": {"content": {"a": 1}}}]}'), "did not answer as OpenAI's"),
        (completion("x" * 2_000_000), "sent more than 1,048,576 bytes"),
        ((302, b""), "redirects to another address"),
        (
            (404, b'{"error": {"message": "model \\"llava\\" not found\\u001b[2J"}}'),
            'status 404: model "llava" not found',
        ),
        ((401, b'{"error": "no key"}'), "status 401: no key"),
        ((500, b"Traceback"), "answered with status 500$"),
    ],
)
def test_a_server_that_answers_badly_fails_in_one_sentence(
    chat: ChatServer, reply: tuple[int, bytes], message: str
) -> None:
    chat.reply = lambda _: reply
    with pytest.raises(EndpointFailed, match=message) as failed:
        Endpoint(chat.url, "llava").captions([PHOTO])
    assert "\n" not in str(failed.value)
    assert "\x1b" not in str(failed.value)
    assert len(chat.requests) == (3 if reply[0] == 500 else 1)  # only what may be over soon is tried again


def test_a_busy_server_is_asked_again(chat: ChatServer) -> None:
    chat.reply = lambda _: (429, b"") if len(chat.requests) == 1 else completion("a dog")
    assert Endpoint(chat.url, "llava").captions([PHOTO]) == ["a dog"]


def test_a_server_that_never_finishes_is_given_up() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.02)

    with raw_server(drip) as url:
        began = time.monotonic()
        with pytest.raises(EndpointFailed, match="did not answer in time"):
            Endpoint(url, "llava", answer_seconds=0.3).captions([PHOTO])
        assert time.monotonic() - began < 30


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_chunk_of_negative_size_is_not_read_to_its_end() -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(_CHUNKED + b"-1\r\n")
        while sent < 1 << 26:
            sent += connection.send(bytes(1 << 16))

    with raw_server(flood) as url, pytest.raises(EndpointFailed, match="sent more than 1,048,576 bytes"):
        Endpoint(url, "llava").captions([PHOTO])
    assert sent < 1 << 25


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        _CHUNKED + b"-5\r\n{}",
        _CHUNKED + b"0x2\r\n{}",
    ],
)
def test_a_server_that_speaks_something_else_fails(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

    with raw_server(serve) as url, pytest.raises(EndpointFailed):
        Endpoint(url, "llava").captions([PHOTO])


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(EndpointFailed, match=f"no server is running at http://localhost:{port}/v1"):
        Endpoint(f"http://localhost:{port}/v1", "llava").captions([PHOTO])


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.7/v1", "https://192.0.2.7:8080", "http://[2001:db8::1]/v1", "http://0.0.0.0:1", "http://photos/"],
)
def test_photos_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **b: resolve({"photos": "192.0.2.7"}.get(host, host), *a, **b)
    )
    with pytest.raises(BadArgument, match="allow_remote is required to send photos to another machine"):
        Endpoint(url, "llava")
    Endpoint(url, "llava", allow_remote=True)


def test_a_name_that_leads_elsewhere_later_gets_no_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the connection is checked, not only what the name resolved to at first."""
    received: list[bytes] = []
    with raw_server(lambda connection: received.append(connection.recv(1))) as url:
        served = Endpoint(url, "llava")
        monkeypatch.setattr(endpoint, "_is_loopback", lambda _: False)
        with pytest.raises(BadArgument, match="allow_remote"):
            served.captions([PHOTO])
        monkeypatch.undo()
    assert not any(received)


_NO_URLS = [
    "localhost:11434",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "http://",
    "http://127.0.0.1:x/",
    "http://127.0.0.1/v1?a=b",
    "http://[::1",
    "http://ä/",
]


@pytest.mark.parametrize("url", ["", "http://127.0.0.1/a b", *_NO_URLS])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadArgument, match="endpoint must be a URL such as"):
        Endpoint(url, "llava")


def test_secrets_do_not_belong_in_urls(monkeypatch: pytest.MonkeyPatch, chat: ChatServer) -> None:
    with pytest.raises(BadArgument, match="must not contain a password"):
        Endpoint("http://me:secret@127.0.0.1/v1", "llava")
    monkeypatch.setenv("CLIPSEARCH_API_KEY", "a\nb")
    with pytest.raises(BadRequest, match="CLIPSEARCH_API_KEY"):
        Endpoint(chat.url, "llava").captions([PHOTO])


def test_several_threads_may_ask_at_once(chat: ChatServer) -> None:
    served, answers = Endpoint(chat.url, "llava"), []
    threads = [threading.Thread(target=lambda: answers.append(served.captions([PHOTO]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.dumps(answers) == json.dumps([["a dog on a beach"]] * 4)


def test_yes_is_the_first_word() -> None:
    assert all(Answer("", text).is_yes for text in ("yes", "Yes, two.", "**Yes**"))
    assert not any(Answer("", text).is_yes for text in ("no", "yesterday", "No, yes", ""))
