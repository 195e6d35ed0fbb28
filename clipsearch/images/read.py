"""The bytes of a file, and the hash that contents are known by."""

from __future__ import annotations

import hashlib
import os

from clipsearch.errors import ImageUnusable, reason

MAX_BYTES = 2**31


def read(path: bytes | str | os.PathLike[str]) -> bytes:
    """The bytes of a file. Raises `ImageUnusable` when it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageUnusable(f"too large: {size / 1e9:.0f} GB")
            return file.read()
    except OSError as error:
        raise ImageUnusable(reason(error)) from None
    except MemoryError:
        raise ImageUnusable("too large for the memory") from None


def content_hash(data: bytes) -> bytes:
    """What contents are known by: half of their SHA-256."""
    return hashlib.sha256(data).digest()[:16]
