"""Albums: an HTML page of larger pictures to send to others, which says nothing about where the photos lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipsearch.extras import is_installed, missing
from clipsearch.output import text
from clipsearch.output.html_file import EmbeddedPicture, asset, decoding, render, writing
from clipsearch.output.text import printable

if TYPE_CHECKING:
    from clipsearch.images.sandbox import Decoders
    from clipsearch.search.hit import Hit
    from clipsearch.store.photo import Photo

LONG_SIDE = 1600  # pixels
MAX_SIZE = 100 * 10**6  # bytes of pictures in base64; messengers and browsers take that much

_STEPS = 20  # per unit of an aspect ratio: the policy forbids style attributes, so each step is a class
_RATIOS = range(_STEPS // 2, 2 * _STEPS + 1)  # 1:2 to 2:1; the overview crops what is narrower or wider
_STYLE = asset("look.css") + "".join(f".r{n}{{--ratio:{n / _STEPS:g}}}\n" for n in _RATIOS) + asset("album.css")
_SCRIPT = asset("album.js")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)  # `strftime` would depend on the locale


class Album(NamedTuple):
    """What was written: `photos` pictures of `size` bytes in all. `unreadable` and `over` were left out."""

    photos: int
    size: int
    unreadable: int
    over: int


class Entry(NamedTuple):
    """A photo in an album."""

    picture: EmbeddedPicture
    caption: str | None
    generated_caption: str | None
    day: date | None
    place: str | None
    is_video: bool

    @property
    def long_date(self) -> str | None:
        """The day in words."""
        return f"{self.day.day} {_MONTHS[self.day.month - 1]} {self.day.year}" if self.day else None

    @property
    def label(self) -> str:
        """What it is, for screen readers."""
        known = (self.caption or self.generated_caption, self.long_date, self.place)
        return ", ".join(["Video frame" if self.is_video else "Photo", *filter(None, known)])

    @property
    def shape(self) -> str:
        """The class of its aspect ratio."""
        ratio = round(_STEPS * self.picture.width / self.picture.height)
        return f"r{min(max(ratio, _RATIOS[0]), _RATIOS[-1])}"


def write_album(
    path: Path,
    hits: Sequence[Hit],
    title: str,
    *,
    place_names: bool = False,
    private: bool = False,
    on_photo: Callable[[], None] = lambda: None,
) -> Album:
    """Write a page of large pictures with dates and captions, but without paths, file names, scores or metadata.

    `place_names` adds the nearest towns. Calls `on_photo` after each photo. Replaces nothing but an earlier page; with
    `private`, only the owner can read it. Raises `BadRequest`.
    """
    if place_names and not is_installed("places"):
        raise missing("places")
    with writing(path, private=private) as file:
        with decoding(partial(_entry, place_names=place_names)) as decoded:
            entries, unreadable, size = [], 0, 0
            for entry in decoded(hits):
                on_photo()
                if entry is None:
                    unreadable += 1
                    continue
                if size + len(entry.picture.data) > MAX_SIZE:
                    break
                size += len(entry.picture.data)
                entries.append(entry)
        count = text.photos(len(entries))
        file.writelines(render("album.html", _STYLE, _SCRIPT, title=printable(title), count=count, entries=entries))
    return Album(len(entries), size, unreadable, len(hits) - len(entries) - unreadable)


def summary(made: Album, name: str) -> Iterator[str]:
    """What is in an album, and what was left out."""
    yield f"{name}: {text.photos(made.photos)}, {text.amount(made.size)}"
    if made.unreadable:
        yield f"left out: {text.photos(made.unreadable)} that cannot be read"
    if made.over:
        yield (
            f"left out: the last {text.photos(made.over)}, as an album is limited to {text.amount(MAX_SIZE)};"
            " split the query by --after and --before"
        )


def _entry(decoders: Decoders, hit: Hit, *, place_names: bool) -> Entry | None:
    """None if the file cannot be read."""
    photo = hit.photo
    image = decoders.thumbnail(photo.file, photo.time, LONG_SIDE)
    if image is None:
        return None
    return Entry(
        EmbeddedPicture.of(image),
        _caption(photo),
        printable(photo.generated_caption or "") or None,
        _day(photo),
        photo.place.title if place_names and photo.place else None,
        photo.is_video,
    )


def _caption(photo: Photo) -> str | None:
    """The caption that a person wrote. Some programs write the file's name instead."""
    caption = printable((photo.metadata.caption or "").strip(), keep="\n")
    name = printable(os.path.basename(photo.file)).casefold()
    is_name = name in caption.casefold() or caption.casefold() == os.path.splitext(name)[0]
    return None if is_name else caption or None


def _day(photo: Photo) -> date | None:
    """When it was taken. Not the time, which recipients need less and which says more."""
    try:
        return date.fromisoformat((photo.metadata.taken or "")[:10])
    except ValueError:  # unknown, or a damaged record
        return None
