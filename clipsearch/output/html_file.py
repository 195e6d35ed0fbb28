"""HTML files that load nothing: pictures, style and script are inside. They replace only files written here before."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from clipsearch.errors import BadRequest, reason
from clipsearch.images.decode import jpeg_of
from clipsearch.images.sandbox import Decoders
from clipsearch.paths import replacing
from clipsearch.threads import ordered_map, usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORKERS = min(8, usable_cores())  # each may hold a photo of 200 megapixels
# The start of these files, and of no others: only such a file is replaced.
_FIRST = b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta name="generator" content="clipsearch contact sheet">\n'
_HERE = Path(__file__).parent

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class EmbeddedPicture(NamedTuple):
    """A JPEG in base64 and its size in pixels."""

    data: str
    width: int
    height: int

    @staticmethod
    def of(image: Image.Image) -> EmbeddedPicture:
        """Encode without metadata."""
        return EmbeddedPicture(base64.b64encode(jpeg_of(image)).decode("ascii"), image.width, image.height)


def asset(name: str) -> str:
    """A style or script beside this module."""
    return (_HERE / name).read_text(encoding="utf-8")


def render(template: str, style: str, script: str, **values: object) -> Iterator[str]:
    """The page in pieces, as its iterables yield. Its policy allows this style, this script and embedded images."""
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    return _ENVIRONMENT.get_template(template).generate(
        policy=policy,
        style=Markup(style),  # noqa: S704  # ours
        script=Markup(script),  # noqa: S704
        **values,
    )


def _hash(inline: str) -> str:
    """An inline style or script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode('ascii')}'"


# ------------------------------------------------------------------------------------------ pictures


@contextlib.contextmanager
def decoding(function: Callable[[Decoders, Item], Result]) -> Iterator[Callable[[Iterable[Item]], Iterator[Result]]]:
    """Maps `function` over items in order, in threads and decoding processes. Leaving the block cancels the rest."""
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        with Decoders(_WORKERS) as decoders:
            yield lambda items: ordered_map(pool, partial(function, decoders), items, 2 * _WORKERS)
    finally:
        pool.shutdown(cancel_futures=True)


# ------------------------------------------------------------------------------------------ writing


@contextlib.contextmanager
def writing(path: Path, *, private: bool = False) -> Iterator[IO[str]]:
    """Write a page completely or not at all, over nothing but an earlier page.

    With `private`, only the owner can read it. Raises `BadRequest`.
    """
    try:
        if _is_stream(path):
            with open(path, "w", encoding="utf-8", opener=lambda name, _: os.open(name, os.O_WRONLY)) as file:
                yield file
            return
        before = _earlier_page(path)
        with replacing(path, private=private, new=before is None) as temporary:
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                yield file
            if _earlier_page(path) != before:
                raise BadRequest(f"{path} was changed by another program meanwhile; choose another name")
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {reason(error)}") from None


def _is_stream(path: Path) -> bool:
    """Whether this is a pipe, terminal or device, into which the page is written."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _earlier_page(path: Path) -> tuple[int, ...] | None:
    """The identity and time of an earlier page or an empty file; None if there is no file.

    Raises `BadRequest` for any other file, and for links, which may lead to anything.
    """
    if path.is_symlink():
        raise BadRequest(f"{path} is a link; name the file itself")
    try:
        with open(path, "rb") as file:
            if file.read(len(_FIRST)) not in (b"", _FIRST):
                raise BadRequest(f"{path} exists and is not a contact sheet of clipsearch; choose another name")
            status = os.fstat(file.fileno())
            return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    except FileNotFoundError:
        return None
