"""The secret behind the page's cookies, kept so that bookmarks survive a restart of the server."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

import platformdirs

from clipsearch.paths import Collection, private_folder, replacing

_BYTES = 32


def cookie_secret(place: Path | Collection, *, revoke: bool = False) -> str:
    """The cookie of the page of one index, the same in every run: a cookie for one index does not open another.

    `revoke`: a new one for every index, so that all cookies given out before are invalid.
    """
    name = place if isinstance(place, Collection) else os.path.abspath(place)
    return hmac.new(_key(revoke), os.fsencode(name), hashlib.sha256).hexdigest()


def secret_file() -> Path:
    """Where the key is kept: `~/.config/clipsearch/page.key` on Linux."""
    return platformdirs.user_config_path("clipsearch", appauthor=False) / "page.key"


def _key(revoke: bool) -> bytes:
    path, key = secret_file(), secrets.token_bytes(_BYTES)
    with contextlib.suppress(OSError):  # without a place to keep it, it lasts as long as the server
        kept = None if revoke else _kept(path)
        if kept is not None:
            return kept
        private_folder(path.parent)
        with replacing(path, private=True) as temporary:
            temporary.write_bytes(key)
        return _kept(path) or key  # another server that starts at the same time may have replaced it
    return key


def _kept(path: Path) -> bytes | None:
    """The key; None if there is none, or one that others could have read or written."""
    try:
        with open(path, "rb") as file:
            status, key = os.fstat(file.fileno()), file.read(_BYTES + 1)
    except FileNotFoundError:
        return None
    is_ours = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
    return key if is_ours and stat.S_ISREG(status.st_mode) and len(key) == _BYTES else None
