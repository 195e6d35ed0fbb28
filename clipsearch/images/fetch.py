"""Downloads an image from a URL that the user has given, limited in size and time."""

from __future__ import annotations

import http.client
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

from clipsearch.errors import BadRequest, ImageUnusable, reason
from clipsearch.images.read import STREAM_BYTES, STREAM_SECONDS, join_chunks


def fetch(url: str, max_bytes: int = STREAM_BYTES, seconds: float = STREAM_SECONDS) -> bytes:
    """The bytes at an http or https URL. Raises `BadRequest`, also beyond the limits."""
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put(_fetched(url, max_bytes, seconds))
        except Exception as error:
            answers.put(error)

    # A socket's timeout limits a single read, so a server that sends a byte per second would never reach it, and a DNS
    # lookup has no timeout at all. Hence the deadline here; a thread that misses it ends with the process.
    threading.Thread(target=answer, name="fetch", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        found = TimeoutError()
    if isinstance(found, bytes):
        return found
    raise BadRequest(f"{url} could not be fetched: {_problem(found, seconds)}") from None


def _fetched(url: str, max_bytes: int, seconds: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "clipsearch"})  # noqa: S310
    with _opener().open(request, timeout=seconds) as answer:
        length = answer.length or 0  # None if the header is missing or makes no sense
        data = join_chunks(iter(lambda: answer.read1(1 << 16), b""), max_bytes, seconds)
        if len(data) < length:
            raise http.client.IncompleteRead(data, length - len(data))
        return data


def _problem(error: Exception, seconds: float) -> str:
    if isinstance(error, urllib.error.HTTPError):
        said, _, _ = str(error.reason).partition("\n")  # urllib has three lines for a redirect loop
        return f"{error.code} {said}"
    cause = getattr(error, "reason", error)  # URLError wraps the cause
    if isinstance(cause, TimeoutError):
        return f"took longer than {seconds:.0f} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended too soon"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.InvalidURL | OSError):
        return "the server does not speak HTTP"
    if isinstance(error, UnicodeError):
        return "it is not a valid URL"
    if isinstance(error, ImageUnusable | OSError | ValueError | http.client.HTTPException):
        return reason(cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
    raise error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows at most ten redirects without reading their bodies, which may be endless."""

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        fp.read = lambda: b""
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """Opens only http and https. urllib's default opener also follows redirects to ftp, file and data."""
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
