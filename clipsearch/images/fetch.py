"""One file from the network, and only when a URL was asked for: limited in size and time."""

from __future__ import annotations

import http.client
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

from clipsearch.errors import BadRequest, ImageUnusable, reason
from clipsearch.images.read import MOST_BYTES, SECONDS, collect


def fetch(url: str, most: int = MOST_BYTES, seconds: float = SECONDS) -> bytes:
    """The bytes behind an http or https URL, at most `most`, all within `seconds`. Raises `BadRequest`."""
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put(_fetched(url, most, seconds))
        except Exception as error:
            answers.put(error)

    # The timeout of a socket is that of one read: a server that sends a byte a second would never reach it, and looking
    # up a name has none at all. So the deadline is here, and a thread that is late is left to end with the process.
    threading.Thread(target=answer, name="fetch", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        found = TimeoutError()
    if isinstance(found, bytes):
        return found
    raise BadRequest(f"{url} could not be fetched: {_problem(found, seconds)}") from None


def _fetched(url: str, most: int, seconds: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "clipsearch"})  # noqa: S310
    with _opener().open(request, timeout=seconds) as answer:
        data = collect(iter(lambda: answer.read1(1 << 16), b""), most, seconds)
        if len(data) < int(answer.headers.get("Content-Length") or 0):
            raise ValueError("the connection ended too soon")
        return data


def _problem(error: Exception, seconds: float) -> str:
    if isinstance(error, urllib.error.HTTPError):
        said, _, _ = str(error.reason).partition("\n")  # of endless redirects urllib says three lines
        return f"{error.code} {said}"
    cause = getattr(error, "reason", error)  # URLError wraps what went wrong
    if isinstance(cause, TimeoutError):
        return f"took longer than {seconds:.0f} s"
    if isinstance(error, ImageUnusable | OSError | ValueError | http.client.HTTPException):
        return reason(cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
    raise error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows at most ten redirects, whose bodies are not read: they may have no end."""

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        fp.read = lambda: b""
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https alone: redirects may lead to any scheme, and urllib knows ftp, file and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
