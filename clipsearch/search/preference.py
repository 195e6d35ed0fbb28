"""Which of several copies is the best. Everything that chooses one file for others uses this order."""

from __future__ import annotations

import os
import re
import unicodedata

from clipsearch.images.discarded import is_discarded
from clipsearch.images.facts import SOURCES
from clipsearch.store.photo import Photo

_BACKUP = re.compile(r"(.*[ ._-])?(backups?|bak|old|archives?|copy|copies|sicherung(en)?)([ ._-].*|\d*)?")
_COPY_WORD = r"(copy|kopie|kopia|kopio|copie|copia|cópia|копия|コピー|副本|사본)"
_COPY_NAME = re.compile(
    rf"{_COPY_WORD} ?((of|von|van|av|de|di|\(\d+\)) .*)"  # Copy of IMG_1
    rf"|.*[ _-]{_COPY_WORD}([ _-]?\(?\d+\)?)?"  # IMG_1 copy, IMG_1-copy-2, IMG_1 - Copy (3)
    r"|.* ?\(\d{1,3}\)"  # IMG_1 (1)
    r"|.*[-~]\d"  # IMG_1-2, IMG_1~2
    r"|.*[ _-](edited|conflict|conflicted copy.*)"
)

_KNOWN, _WRITTEN = ("taken", "camera", "latitude", "rating", "color_label"), ("title", "caption", "location")
_RECORDED = SOURCES[: SOURCES.index("name")]  # what says when a photo was taken, rather than guesses it
_LOSSLESS = (b".png", b".tif", b".tiff", b".bmp", b".psd")

Preference = tuple[bool, int, bool, int, int, bool, bool, int, int, bytes]


def _names(path: bytes) -> list[str]:
    """The folders and the name of a path, in lower case and NFC."""
    spelt = unicodedata.normalize("NFC", path.decode("utf-8", "surrogateescape")).lower()
    return (spelt.replace("\\", "/") if os.name == "nt" else spelt).split("/")


def preference(photo: Photo) -> Preference:
    """A sort key, smallest for the best file.

    In order: not discarded; most pixels; lossless, then the larger file; most metadata; not in a backup folder; not
    named like a copy; the oldest; the shortest path; the path.
    """
    *folders, name = _names(photo.file)
    return (
        is_discarded(photo.file),
        -photo.metadata.width * photo.metadata.height,
        os.path.splitext(photo.file)[1].lower() not in _LOSSLESS,
        -photo.size,
        -len(_facts(photo)),
        any(_BACKUP.fullmatch(folder) for folder in folders),
        _COPY_NAME.fullmatch(os.path.splitext(name)[0]) is not None,
        photo.mtime_ns,
        len(photo.file),
        photo.file,
    )


def has_all_of(best: Photo, other: Photo) -> bool:
    """Whether `best` has the pixels, the quality and the metadata of a copy, so that the copy can be deleted."""
    return preference(best)[1:4] <= preference(other)[1:4] and _facts(best) >= _facts(other)


def _facts(photo: Photo) -> set[str | tuple[str, str]]:
    """Which metadata a photo has, and every text that a person wrote about it."""
    of = photo.metadata
    known = {name for name in _KNOWN if getattr(of, name) is not None}
    written = {(name, text) for name in _WRITTEN if (text := getattr(of, name)) is not None}
    if of.taken_from in _RECORDED:
        known.add("taken, as recorded")
    lists = (("keyword", photo.keywords), ("person", photo.people))
    return known | written | {(kind, item) for kind, every in lists for item in every}
