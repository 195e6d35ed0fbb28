"""One file from the network, and only when a URL was asked for: limited in size and time."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request

from clipsearch.errors import BadRequest

MOST_BYTES = 100_000_000
SECONDS = 30.0


def fetch(url: str, most: int = MOST_BYTES, seconds: float = SECONDS) -> bytes:
    """The bytes behind an http or https URL. Raises `BadRequest`."""
    ends = time.monotonic() + seconds
    data = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "clipsearch"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  # the caller has seen its scheme
            while part := answer.read1(1 << 16):
                data += part
                if len(data) > most:
                    raise BadRequest(f"{url} is larger than {most / 1e6:.0f} MB")
                if time.monotonic() > ends:
                    raise TimeoutError
            if len(data) < int(answer.headers.get("Content-Length") or 0):
                raise ValueError("the connection ended too soon")
    except TimeoutError:
        raise BadRequest(f"{url} took longer than {seconds:.0f} s") from None
    except urllib.error.HTTPError as error:
        raise BadRequest(f"{url} could not be fetched: {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise BadRequest(f"{url} took longer than {seconds:.0f} s") from None
        raise BadRequest(f"{url} could not be fetched: {getattr(reason, 'strerror', None) or reason}") from None
    return bytes(data)
