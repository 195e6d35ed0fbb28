"""One file from the network, and only when a URL was asked for: limited in size and time."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from clipsearch.errors import BadRequest, ImageUnusable
from clipsearch.images.read import MOST_BYTES, SECONDS, collect


def fetch(url: str, most: int = MOST_BYTES, seconds: float = SECONDS) -> bytes:
    """The bytes behind an http or https URL. Raises `BadRequest`.

    `seconds` is how long the connection may take, and then how long its bytes may take.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "clipsearch"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  # the caller has seen its scheme
            data = collect(iter(lambda: answer.read1(1 << 16), b""), most, seconds)
            if len(data) < int(answer.headers.get("Content-Length") or 0):
                raise ValueError("the connection ended too soon")
            return data
    except urllib.error.HTTPError as error:
        problem = f"{error.code} {error.reason}"
    except (ImageUnusable, OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # URLError wraps what went wrong
        timed_out = isinstance(cause, TimeoutError)
        problem = f"took longer than {seconds:.0f} s" if timed_out else getattr(cause, "strerror", None) or str(cause)
    raise BadRequest(f"{url} could not be fetched: {problem}")
